//! The digest beside a stored body: `<name>.sha256`, one line, hexadecimal digest and length; of a
//! zip its h1, too.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use modcdn_core::digest::Sha256;
use modcdn_core::h1::H1;

/// What a stored body must be. Two are equal if they stand for the same bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    pub(crate) digest: Sha256,
    pub(crate) len: u64,
    /// What a zip's content hashes to; a zip has one once it was proven.
    pub(crate) h1: Option<H1>,
}

impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        (self.digest, self.len) == (other.digest, other.len)
    }
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            digest: Sha256::of(bytes),
            len: bytes.len() as u64,
            h1: None,
        }
    }

    /// The sum remembered for a body; `None` if there is none, or none that can be read: it will
    /// be computed again.
    pub(crate) fn read(body: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(beside(body)).ok()?)
    }

    /// What [`Sum::text`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let sum = Self {
            digest: words.next()?.parse().ok()?,
            len: words.next()?.parse().ok()?,
            h1: words.next().map(str::parse).transpose().ok()?,
        };
        words.next().is_none().then_some(sum)
    }

    pub(crate) fn text(&self) -> String {
        match self.h1 {
            Some(h1) => format!("{} {} {h1}\n", self.digest, self.len),
            None => format!("{} {}\n", self.digest, self.len),
        }
    }
}

/// How the names of sums end.
const SUFFIX: &str = ".sha256";

/// The file with a body's sum.
pub(crate) fn beside(body: &Path) -> PathBuf {
    let mut name = OsString::from(body);
    name.push(SUFFIX);
    name.into()
}

/// As [`beside`], of a place.
pub(crate) fn beside_place(place: &str) -> String {
    format!("{place}{SUFFIX}")
}

/// Whether a place is that of a sum.
pub(super) fn is_sum(place: &str) -> bool {
    place.ends_with(SUFFIX)
}

/// Where a zip's h1 lies, as the go command has it: `v1.0.0.ziphash` beside `v1.0.0.zip`.
pub(crate) fn ziphash_place(zip: &str) -> String {
    format!("{zip}hash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let body = dir.path().join("v1.0.0.zip");
        let sum = Sum::of(b"body");
        for h1 in [None, Some(H1::of_mod(b"module m\n"))] {
            let sum = Sum { h1, ..sum };
            fs::write(beside(&body), sum.text()).unwrap();
            let read = Sum::read(&body).unwrap();
            assert_eq!((read, read.h1), (sum, h1));
        }
        let more = format!("{} h1:x\n", sum.text().trim_end());
        for torn in ["", "junk", &sum.text()[..66], &sum.text()[..64], &more] {
            fs::write(beside(&body), torn).unwrap();
            assert_eq!(Sum::read(&body), None, "{torn}");
        }
    }
}
