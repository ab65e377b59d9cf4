//! A node's log file: opened for appending, set aside when it has grown large, quoted from when
//! the node fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A log larger than this is set aside as `NAME.log.1` when the network starts, in place of the
/// one before.
const SET_ASIDE_BYTES: u64 = 64 << 20;

/// How much of a log's end is quoted.
const TAIL_LINES: usize = 10;
const TAIL_BYTES: u64 = 16 << 10;

/// Sets a log aside if it has grown large.
///
/// # Errors
/// Whatever the file system says; no such file is no error.
pub(crate) fn rotate(path: &Path) -> io::Result<()> {
    rotate_above(path, SET_ASIDE_BYTES)
}

fn rotate_above(path: &Path, bytes: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(log) if log.len() > bytes => {
            let mut old = path.as_os_str().to_owned();
            old.push(".1");
            fs::rename(path, old)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a log for appending, and says how long it is already.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The last lines that were written after `from`, indented for a message; empty if there are none.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let Ok(bytes) = read_end(path, from) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines[first..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

fn read_end(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_what_this_run_wrote_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eu.log");
        fs::write(&path, "of an older run\n").unwrap();
        let (mut file, from) = open(&path).unwrap();
        assert_eq!(tail(&path, from), "");
        for n in 1..=12 {
            writeln!(file, "line {n}").unwrap();
        }
        let tail = tail(&path, from);
        assert!(
            tail.starts_with("\n    line 3\n") && tail.ends_with("\n    line 12"),
            "{tail}"
        );
    }

    #[test]
    fn a_missing_log_has_no_tail() {
        assert_eq!(tail(Path::new("/nowhere/eu.log"), 0), "");
    }

    #[test]
    fn only_a_large_log_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eu.log");
        rotate_above(&path, 4).unwrap();
        fs::write(&path, "1234").unwrap();
        rotate_above(&path, 4).unwrap();
        assert!(path.exists());
        fs::write(&path, "12345").unwrap();
        rotate_above(&path, 4).unwrap();
        assert!(!path.exists() && dir.path().join("eu.log.1").exists());
    }
}
