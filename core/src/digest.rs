//! SHA-256, and the ways HTTP writes it down.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// The hexadecimal digits.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A SHA-256 of a body: its name in the store, its strong validator on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Takes a digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A strong entity tag (RFC 9110 §8.8.3): the quoted hexadecimal digest.
    #[must_use]
    pub fn etag(&self) -> HeaderValue {
        ascii(format!("\"{self}\""))
    }

    /// The value of `Repr-Digest` (RFC 9530): `sha-256=:BASE64:`.
    #[must_use]
    pub fn repr_digest(&self) -> HeaderValue {
        ascii(format!("sha-256=:{}:", STANDARD.encode(self.0)))
    }

    /// The SHA-256 member of a `Repr-Digest` field, if it has a well-formed one.
    ///
    /// The field is a dictionary (RFC 8941); members for other algorithms are passed over.
    #[must_use]
    pub fn from_repr_digest(field: &str) -> Option<Self> {
        let member = field
            .split(',')
            .filter_map(|m| m.trim().strip_prefix("sha-256=:"))
            .next_back()?;
        let encoded = member.split(';').next()?.trim_end().strip_suffix(':')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hexadecimal and base64 are visible ASCII")
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sha-256: 64 lower-case hexadecimal digits expected")]
pub struct DigestError;

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(DigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError),
    }
}

/// A SHA-256 that is fed piece by piece.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        let digest = self.0.finish();
        Sha256(
            digest
                .as_ref()
                .try_into()
                .expect("sha-256 has 32 bytes by definition"),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_digest_is_sha_256() {
        assert_eq!(Sha256::of(b"abc").to_string(), ABC);
        assert_eq!(Sha256::of(b"abc").etag(), format!("\"{ABC}\""));
    }

    #[test]
    fn upper_case_and_wrong_lengths_are_refused() {
        assert!(ABC.to_uppercase().parse::<Sha256>().is_err());
        assert!(ABC[1..].parse::<Sha256>().is_err());
        assert!("".parse::<Sha256>().is_err());
    }

    #[test]
    fn repr_digest_members_of_other_algorithms_are_passed_over() {
        let digest = Sha256::of(b"abc");
        let ours = digest.repr_digest().to_str().unwrap().to_owned();
        let field = format!("sha-512=:AAAA:, {ours}");
        assert_eq!(Sha256::from_repr_digest(&field), Some(digest));
        for bad in [
            "",
            "sha-256=",
            "sha-256=:AAAA:",
            "md5=:AAAA:",
            "sha-256=:!:",
        ] {
            assert_eq!(Sha256::from_repr_digest(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn all_spellings_come_back(bytes: [u8; 32]) {
            let digest = Sha256::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
            let field = digest.repr_digest();
            prop_assert_eq!(Sha256::from_repr_digest(field.to_str().unwrap()), Some(digest));
        }

        #[test]
        fn pieces_do_not_matter(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut hasher = Hasher::new();
            hasher.update(head);
            hasher.update(tail);
            prop_assert_eq!(hasher.finish(), Sha256::of(&bytes));
        }
    }
}
