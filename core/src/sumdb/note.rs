//! Signed notes (x/mod's `sumdb/note`).
//!
//! ```text
//! text, of whole lines
//!
//! — name base64(key hash ‖ signature)
//! — …
//! ```
//!
//! UTF-8 without control characters but newlines. The last blank line parts text from signatures;
//! the text, with its last newline, is what is signed. At most [`MAX_SIGNATURES`] lines.
//!
//! Failure rule: signatures by keys that aren't ours are passed over; a wrong one by ours is an
//! error, whatever else stands there. Of several by ours only the first is looked at, as x/mod does.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use crate::digest::Hasher;

/// A note has no more signatures than this.
pub const MAX_SIGNATURES: usize = 100;

/// What begins a signature's line: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";

/// Go's `base64.StdEncoding` doesn't look at the bits behind the last byte; nor do we, so that what
/// one accepts the other does.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The one algorithm there is.
const ED25519_ALGORITHM: u8 = 1;

/// A public key with its name: `name+hash+base64(algorithm ‖ key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: Box<str>,
    hash: [u8; 4],
    key: [u8; 32],
}

/// A text that is no verifier key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `name+hash+base64`.
    #[error(
        "a verifier key is NAME+HASH+BASE64: a name without spaces, eight hexadecimal digits, a key"
    )]
    Malformed,
    /// Not Ed25519.
    #[error("the verifier key's algorithm isn't Ed25519 (1)")]
    Algorithm,
    /// The hash isn't that of name and key.
    #[error("the verifier key's hash isn't that of its name and key: is it copied whole?")]
    Hash,
}

/// Why a note isn't what the key's owner signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not in the form of a note.
    #[error("not a signed note")]
    Malformed,
    /// The owner's signature is wrong.
    #[error("the signature is wrong")]
    WrongSignature,
    /// The owner did not sign it.
    #[error("no signature by that key")]
    Unsigned,
}

impl VerifierKey {
    /// Whose key it is, such as `sum.golang.org`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a note: its text, if the key's owner signed it.
    ///
    /// # Errors
    /// If it is malformed, or not rightly signed by that key.
    pub fn open<'a>(&self, note: &'a [u8]) -> Result<&'a str, NoteError> {
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Malformed);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let mut signed = None;
        for (number, line) in signatures.split('\n').enumerate() {
            let signature = Signature::parse(line)
                .filter(|_| number < MAX_SIGNATURES)
                .ok_or(NoteError::Malformed)?;
            if signed.is_none() && signature.claims(self) {
                signed = Some(self.verify(text, &signature.bytes));
                // A wrong one is told at once, before anything is said of the lines behind it.
                if signed == Some(false) {
                    return Err(NoteError::WrongSignature);
                }
            }
        }
        signed.map(|_| text).ok_or(NoteError::Unsigned)
    }

    fn verify(&self, text: &str, signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        key.verify(text.as_bytes(), signature).is_ok()
    }
}

/// One line below the text.
struct Signature<'a> {
    name: &'a str,
    hash: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
        let decoded = BASE64.decode(encoded).ok()?;
        let (hash, bytes) = decoded.split_first_chunk()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self {
            name,
            hash: *hash,
            bytes: bytes.to_owned(),
        })
    }

    /// Whether it says that it was made with this key.
    fn claims(&self, key: &VerifierKey) -> bool {
        self.name == &*key.name && self.hash == key.hash
    }
}

/// As the go command writes it.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(self.hash);
        let key = STANDARD.encode(encoded_key(&self.key));
        write!(f, "{}+{hash:08x}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Malformed)?;
        let (hash, key) = rest.split_once('+').ok_or(KeyError::Malformed)?;
        let is_hex = hash.len() == 8 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        let hash = u32::from_str_radix(hash, 16).ok().filter(|_| is_hex);
        let hash = hash.ok_or(KeyError::Malformed)?.to_be_bytes();
        let key = BASE64.decode(key).map_err(|_| KeyError::Malformed)?;
        if key.is_empty() || !is_name(name) {
            return Err(KeyError::Malformed);
        }
        if hash != key_hash(name, &key) {
            return Err(KeyError::Hash);
        }
        if key[0] != ED25519_ALGORITHM {
            return Err(KeyError::Algorithm);
        }
        Ok(Self {
            name: name.into(),
            hash,
            key: key[1..].try_into().map_err(|_| KeyError::Malformed)?,
        })
    }
}

/// Not empty, no white space, no plus.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// The first bytes of SHA-256(name ‖ newline ‖ algorithm ‖ key).
fn key_hash(name: &str, key: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new();
    hasher.update(name.as_bytes());
    hasher.update(b"\n");
    hasher.update(key);
    let [a, b, c, d, ..] = *hasher.finish().as_bytes();
    [a, b, c, d]
}

fn encoded_key(key: &[u8; 32]) -> Vec<u8> {
    [&[ED25519_ALGORITHM], &key[..]].concat()
}

/// Signs: for tests, which run databases of their own.
#[cfg(test)]
pub(super) mod signing {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// A private key with its name.
    pub(crate) struct Signer {
        pub(crate) key: VerifierKey,
        pair: Ed25519KeyPair,
    }

    impl Signer {
        pub(crate) fn new(name: &str, seed: u8) -> Self {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let key = pair.public_key().as_ref().try_into().unwrap();
            let key = VerifierKey {
                name: name.into(),
                hash: key_hash(name, &encoded_key(&key)),
                key,
            };
            Self { key, pair }
        }

        /// The signature's line.
        pub(crate) fn line(&self, text: &str) -> String {
            let signature = self.pair.sign(text.as_bytes());
            let bytes = [&self.key.hash[..], signature.as_ref()].concat();
            let encoded = STANDARD.encode(bytes);
            format!("{SIGNATURE_START}{} {encoded}\n", self.key.name)
        }

        /// A note with this one signature.
        pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
            format!("{text}\n{}", self.line(text)).into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::signing::Signer;
    use super::*;
    use crate::sumdb::SUM_GOLANG_ORG;

    /// The example of x/mod's documentation.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const SIGNATURE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key(text: &str) -> VerifierKey {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_of_x_mod_opens() {
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(key(KEY).open(note.as_bytes()), Ok(TEXT));
        assert_eq!(key(KEY).to_string(), KEY);
    }

    #[test]
    fn the_pinned_key_is_well_formed() {
        let key = key(SUM_GOLANG_ORG);
        assert_eq!(key.name(), "sum.golang.org");
        assert_eq!(key.to_string(), SUM_GOLANG_ORG);
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for (text, error) in [
            ("", KeyError::Malformed),
            ("name", KeyError::Malformed),
            ("name+c74f20a3", KeyError::Malformed),
            (
                &KEY.replace("PeterNeumann", "Peter Neumann"),
                KeyError::Malformed,
            ),
            (&KEY.replace("PeterNeumann", ""), KeyError::Malformed),
            (&KEY.replace("c74f20a3", "c74f20a"), KeyError::Malformed),
            (&KEY.replace("c74f20a3", "+74f20a3"), KeyError::Malformed),
            (&KEY.replace("c74f20a3", "c74f20a4"), KeyError::Hash),
            (&KEY.replace("PeterNeumann", "peter"), KeyError::Hash),
            (&KEY[..KEY.len() - 1], KeyError::Malformed),
            (&KEY[..KEY.len() - 4], KeyError::Hash),
            ("x+8f4b3c7e+", KeyError::Malformed),
        ] {
            assert_eq!(text.parse::<VerifierKey>(), Err(error), "{text}");
        }
    }

    #[test]
    fn another_algorithm_and_a_short_key_are_refused() {
        for (bytes, error) in [
            (vec![2; 33], KeyError::Algorithm),
            (vec![1; 32], KeyError::Malformed),
            (vec![1; 34], KeyError::Malformed),
        ] {
            let hash = u32::from_be_bytes(key_hash("x.example", &bytes));
            let text = format!("x.example+{hash:08x}+{}", STANDARD.encode(bytes));
            assert_eq!(text.parse::<VerifierKey>(), Err(error), "{text}");
        }
    }

    #[test]
    fn signatures_by_others_are_passed_over() {
        let (ours, other) = (Signer::new("a.example", 1), Signer::new("b.example", 2));
        // The same name with another key is another signer.
        let namesake = Signer::new("a.example", 3);
        let text = "text\n";
        let lines = [other.line(text), namesake.line("else\n"), ours.line(text)];
        let note = format!("{text}\n{}", lines.concat());
        assert_eq!(ours.key.open(note.as_bytes()), Ok(text));
        let note = format!("{text}\n{}", lines[..2].concat());
        assert_eq!(ours.key.open(note.as_bytes()), Err(NoteError::Unsigned));
    }

    #[test]
    fn a_wrong_signature_by_our_key_is_an_error_wherever_it_stands() {
        let ours = Signer::new("a.example", 1);
        let (right, wrong) = (ours.line("text\n"), ours.line("else\n"));
        let open = |lines: &str| {
            let note = format!("text\n\n{lines}");
            ours.key.open(note.as_bytes()).map(str::to_owned)
        };
        assert_eq!(open(&wrong), Err(NoteError::WrongSignature));
        assert_eq!(
            open(&format!("{wrong}{right}")),
            Err(NoteError::WrongSignature)
        );
        // x/mod drops repeated signatures of one key unread.
        assert_eq!(open(&format!("{right}{wrong}")).as_deref(), Ok("text\n"));
        let short = format!(
            "— a.example {}\n",
            STANDARD.encode([&ours.key.hash[..], b"x"].concat())
        );
        assert_eq!(open(&short), Err(NoteError::WrongSignature));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let ours = Signer::new("a.example", 1);
        let line = ours.line("text\n");
        for note in [
            "",
            "\n",
            "\n\n",
            "text\n",
            "text\n\n",
            "text\n\n\n",
            &format!("text\n{line}"),
            &format!("text\n\n{}", line.trim_end()),
            &format!("text\n\n{line}\n"),
            &format!("text\n\n{line}more\n"),
            &format!("te\rxt\n\n{line}"),
            &format!("te\0xt\n\n{line}"),
            &format!("text\n\n{}", line.replace('\u{2014}', "-")),
            &format!("text\n\n{}", line.replace("a.example ", "a.example")),
            &format!("text\n\n{}", line.replace("a.example ", "a.example  ")),
            "text\n\n— a.example \n",
            "text\n\n— a.example AAAA\n",
            "text\n\n— a.example AAAAAA==\n",
            "text\n\n— a+b AAAAAAAA\n",
        ] {
            let opened = ours.key.open(note.as_bytes());
            assert_eq!(opened, Err(NoteError::Malformed), "{note:?}");
        }
        assert_eq!(ours.key.open(b"\xff\n\n"), Err(NoteError::Malformed));
    }

    #[test]
    fn a_hundred_signatures_are_enough() {
        let (ours, other) = (Signer::new("a.example", 1), Signer::new("b.example", 2));
        let note = |others: usize| {
            let lines = other.line("text\n").repeat(others) + &ours.line("text\n");
            format!("text\n\n{lines}").into_bytes()
        };
        assert_eq!(ours.key.open(&note(99)), Ok("text\n"));
        assert_eq!(ours.key.open(&note(100)), Err(NoteError::Malformed));
    }

    proptest! {
        #[test]
        fn what_was_signed_opens_and_nothing_else(
            text in "([^\\p{Cc}]{0,20}\n){0,4}", at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let signer = Signer::new("a.example", 1);
            let note = signer.sign(&text);
            // A text that is empty, or ends in a blank line, has its blank line elsewhere.
            if !text.is_empty() {
                prop_assert_eq!(signer.key.open(&note), Ok(text.as_str()));
            }
            let mut flipped = note.clone();
            let at = at.index(note.len());
            flipped[at] ^= 1 << bit;
            // The last bits of a base64 text may mean nothing: then it is the same note.
            if let Ok(opened) = signer.key.open(&flipped) {
                prop_assert_eq!(opened, text.as_str());
                prop_assert!(at > text.len());
            }
        }

        #[test]
        fn no_bytes_panic(note: Vec<u8>, lines in "(\u{2014} a\\.example [A-Za-z0-9+/=]{0,12}\n){0,3}") {
            let key = Signer::new("a.example", 1).key;
            prop_assert!(key.open(&note).is_err());
            let note = format!("x\n\n{lines}");
            prop_assert!(key.open(note.as_bytes()).is_err());
        }
    }
}
