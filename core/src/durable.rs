//! The one way a file is put in place.
//!
//! A file appears under its name whole or not at all: it is written beside its place, and renamed.
//! What must also survive a power cut is synced before the rename, and its folder after it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How hard a write tries to survive a power cut. Neither leaves a torn file under the final name
/// when only the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The file and its folder are synced: what returned is there after a power cut.
    Durable,
    /// Left to the kernel: after a power cut the file may be missing or torn, so its reader must
    /// check a digest.
    Relaxed,
}

/// Writes a whole file durably: beside its place, synced, renamed, folder synced.
///
/// Parent folders are made. A file of that name is replaced.
///
/// # Errors
/// Whatever the file system says; nothing is left under the final name then, or what was there
/// before.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let temp = Temp::beside(path);
    let mut file = File::create_new(&temp.0)?;
    file.write_all(bytes)?;
    drop(file);
    publish(&temp.0, path, Sync::Durable)
}

/// Renames a finished file to its place, on the same file system.
///
/// Parent folders are made. On an error the file at `temp` is the caller's to remove.
///
/// # Errors
/// Whatever the file system says.
pub fn publish(temp: &Path, path: &Path, sync: Sync) -> io::Result<()> {
    make_parent(path)?;
    if sync == Sync::Durable {
        File::open(temp)?.sync_all()?;
    }
    fs::rename(temp, path)?;
    if sync == Sync::Durable {
        File::open(parent(path))?.sync_all()?;
    }
    Ok(())
}

fn make_parent(path: &Path) -> io::Result<()> {
    fs::create_dir_all(parent(path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name beside the final one, removed unless the file was renamed away.
struct Temp(PathBuf);

impl Temp {
    fn beside(path: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".tmp-{}-{n}", std::process::id());
        Self(parent(path).join(name))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Renamed away in the good case: then there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_makes_folders_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), b"").unwrap();
        assert!(write(&path, b"one").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn publish_moves_a_finished_file() {
        let dir = tempfile::tempdir().unwrap();
        let temp = dir.path().join("spool");
        fs::write(&temp, b"body").unwrap();
        let path = dir.path().join("objects/ab/cd");
        publish(&temp, &path, Sync::Relaxed).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"body");
        assert!(!temp.exists());
    }
}
