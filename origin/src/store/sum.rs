//! The digest beside a stored body: `<name>.sha256`, one line, hexadecimal digest and length.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use modcdn_core::digest::Sha256;

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

    /// The sum remembered for a body; `None` if there is none, or none that can be read: it will
    /// be computed again.
    pub(crate) fn read(body: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(beside(body)).ok()?)
    }

    /// What [`Sum::text`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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

/// As [`beside`], of a place.
pub(crate) fn beside_place(place: &str) -> String {
    format!("{place}.sha256")
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
}
