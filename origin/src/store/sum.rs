//! The digest beside a stored body: `<name>.sha256`, one line, hexadecimal digest and length.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use modcdn_core::digest::{Hasher, Sha256};

use crate::disk;

/// What a stored body must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) digest: Sha256,
    pub(crate) len: u64,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Sha256::of(bytes),
            len: bytes.len() as u64,
        }
    }

    /// Reads a file through. Slow: for the blocking pool.
    ///
    /// # Errors
    /// Whatever the file system says; also if the file is shorter than `len`.
    pub(crate) fn of_file(file: &File, len: u64) -> io::Result<Self> {
        let mut hasher = Hasher::new();
        let mut position = 0;
        while position < len {
            let piece = disk::read_at_now(file, position, len - position)?;
            hasher.update(&piece);
            position += piece.len() as u64;
        }
        Ok(Self {
            digest: hasher.finish(),
            len,
        })
    }

    /// The sum remembered for a body; `None` if there is none, or none that can be read: it will
    /// be computed again.
    pub(crate) fn read(body: &Path) -> Option<Self> {
        let text = fs::read_to_string(beside(body)).ok()?;
        let (digest, len) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self {
            digest: digest.parse().ok()?,
            len: len.parse().ok()?,
        })
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}\n", self.digest, self.len)
    }
}

/// The file with a body's sum.
pub(crate) fn beside(body: &Path) -> PathBuf {
    let mut name = OsString::from(body);
    name.push(".sha256");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let body = dir.path().join("v1.0.0.zip");
        let sum = Sum::of(b"body");
        fs::write(beside(&body), sum.text()).unwrap();
        assert_eq!(Sum::read(&body), Some(sum));
        for torn in ["", "junk", &sum.text()[..66], &sum.text()[..64]] {
            fs::write(beside(&body), torn).unwrap();
            assert_eq!(Sum::read(&body), None, "{torn}");
        }
    }

    #[test]
    fn a_file_has_the_sum_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        let bytes = vec![7; 600_000];
        fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(Sum::of_file(&file, 600_000).unwrap(), Sum::of(&bytes));
        assert!(Sum::of_file(&file, 600_001).is_err());
    }
}
