//! The `h1:` hash of `go.sum` (dirhash.Hash1 of x/mod): of a module's *content*, whatever its
//! archive looks like.
//!
//! Files are sorted by name; each gives the line `hex(sha256)␠␠name\n`; the SHA-256 of all lines is
//! written in base64 behind `h1:`. A `/go.mod` line of `go.sum` hashes the one name `go.mod`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::digest::{Hasher, Sha256};

/// What stands before the base64.
const PREFIX: &str = "h1:";

/// A hash as `go.sum` writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct H1(Sha256);

impl H1 {
    /// The hash of a module: its files' names as its zip has them (`module@version/…`, no line
    /// ends in them), with the digests of their contents, in any order.
    #[must_use]
    pub fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, Sha256)>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable_by_key(|(name, _)| *name);
        let mut hasher = Hasher::new();
        let mut line = String::new();
        for (name, digest) in files {
            line.clear();
            // A string takes everything.
            let _ = writeln!(line, "{digest}  {name}");
            hasher.update(line.as_bytes());
        }
        Self(hasher.finish())
    }

    /// The hash of a go.mod: what a `/go.mod` line of `go.sum` holds.
    #[must_use]
    pub fn of_mod(go_mod: &[u8]) -> Self {
        Self::of_files([("go.mod", Sha256::of(go_mod))])
    }
}

impl fmt::Display for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no `h1:` hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an h1 hash: \"h1:\" and the base64 of 32 bytes expected")]
pub struct H1Error;

impl FromStr for H1 {
    type Err = H1Error;

    fn from_str(text: &str) -> Result<Self, H1Error> {
        let encoded = text.strip_prefix(PREFIX).ok_or(H1Error)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| H1Error)?;
        let bytes = bytes.try_into().map_err(|_| H1Error)?;
        Ok(Self(Sha256::from_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_mod_hashes_as_the_go_command_does() {
        // rsc.io/quote v1.5.2/go.mod, as its go.sum line has it.
        let go_mod = b"module \"rsc.io/quote\"\n\nrequire \"rsc.io/sampler\" v1.3.0\n";
        let line = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=";
        assert_eq!(H1::of_mod(go_mod).to_string(), line);
        assert_eq!(line.parse(), Ok(H1::of_mod(go_mod)));
    }

    #[test]
    fn the_order_of_files_makes_no_difference() {
        let (a, b) = (("m@v1/a", Sha256::of(b"a")), ("m@v1/b", Sha256::of(b"b")));
        assert_eq!(H1::of_files([a, b]), H1::of_files([b, a]));
        assert_ne!(H1::of_files([a, b]), H1::of_files([a]));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "h1:",
            "h2:AAAA",
            "h1:AAAA",
            "LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=",
        ] {
            assert_eq!(text.parse::<H1>(), Err(H1Error), "{text:?}");
        }
    }
}
