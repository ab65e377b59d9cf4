//! Bearer tokens (RFC 6750) from a file: one a line, so that a new one can be put in before the old
//! one is taken out. Blank lines and lines that begin with `#` don't count.
//!
//! Only digests are kept and compared, in constant time.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::digest::Sha256;

/// A token has at least this many characters.
pub const MIN_TOKEN: usize = 16;

/// A token file is no longer than this, in bytes.
pub const MAX_FILE: usize = 64 * 1024;

/// The tokens that are valid.
pub struct Tokens(Vec<Sha256>);

/// Names a token in logs without giving it away: the first 8 hexadecimal digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a token file can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The file is too long.
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    /// There is no token in it.
    #[error("no token in it")]
    None,
    /// Not a token.
    #[error(
        "line {0}: a token has at least {MIN_TOKEN} characters, out of A-Z a-z 0-9 - . _ ~ + / ="
    )]
    Line(usize),
}

/// Why a token file can't be used, with its name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It can be read, and holds something else.
    #[error("{}: {error}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: TokenError,
    },
}

/// The token to show to somebody else: the first one of a file. Blocks.
///
/// # Errors
/// The file can't be used.
pub fn own(path: &Path) -> Result<String, FileError> {
    let text = read(path)?;
    check(path, &text)?;
    Ok(lines(&text)
        .map(|(token, _)| token)
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Why somebody isn't let in.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// There is no token file: nobody is.
    #[error("no token file is configured")]
    Closed,
    /// The token file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// He shows no valid token.
    #[error("no valid token")]
    Unauthorized,
}

/// Lets in whoever shows a token of the file, which is read anew: a changed file counts at once.
/// `authorization` is the value of that field. Blocks.
///
/// # Errors
/// Why he isn't let in.
pub fn admit(file: Option<&Path>, authorization: Option<&[u8]>) -> Result<Fingerprint, Denied> {
    let tokens = Tokens::load(file.ok_or(Denied::Closed)?)?;
    let token = authorization.and_then(|field| tokens.admit(field));
    token.ok_or(Denied::Unauthorized)
}

/// As [`admit`], for a request with these header fields; reads the file where that may block.
///
/// # Errors
/// Why he isn't let in.
pub async fn admit_request(
    file: Option<PathBuf>,
    headers: &HeaderMap,
) -> Result<Fingerprint, Denied> {
    let field = headers.get(AUTHORIZATION).cloned();
    let admitting = tokio::task::spawn_blocking(move || {
        let field = field.as_ref().map(HeaderValue::as_bytes);
        admit(file.as_deref(), field)
    });
    // An error is a panic in there, which the runtime has reported.
    admitting.await.unwrap_or(Err(Denied::Unauthorized))
}

fn read(path: &Path) -> Result<String, FileError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let most = MAX_FILE as u64 + 1;
        File::open(path)?.take(most).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| FileError::Read {
        path: path.to_owned(),
        error,
    })
}

fn check(path: &Path, text: &str) -> Result<Tokens, FileError> {
    Tokens::parse(text).map_err(|error| FileError::Wrong {
        path: path.to_owned(),
        error,
    })
}

/// The lines that count, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let lines = text.lines().map(str::trim).zip(1..);
    lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
}

impl Tokens {
    /// Reads a token file. Blocks.
    ///
    /// # Errors
    /// It can't be read, or a line of it is no token.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        check(path, &read(path)?)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// One wrong line spoils the file: it may be the token that was meant to be valid.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_FILE {
            return Err(TokenError::TooLong);
        }
        let digests = lines(text).map(|(token, number)| {
            let fits = token.len() >= MIN_TOKEN && token.bytes().all(is_token68);
            let digest = || Sha256::of(token.as_bytes());
            fits.then(digest).ok_or(TokenError::Line(number))
        });
        let digests: Vec<_> = digests.collect::<Result<_, _>>()?;
        match digests.is_empty() {
            true => Err(TokenError::None),
            false => Ok(Self(digests)),
        }
    }

    /// The token of an `Authorization` field, if it is valid.
    #[must_use]
    pub fn admit(&self, authorization: &[u8]) -> Option<Fingerprint> {
        let (scheme, token) = authorization.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let digest = Sha256::of(token.trim_ascii());
        let same =
            |known: &&Sha256| verify_slices_are_equal(known.as_bytes(), digest.as_bytes()).is_ok();
        // All are looked at: how long it takes says nothing of which it was.
        let valid = self.0.iter().filter(same).count() > 0;
        valid.then(|| Fingerprint(digest.to_string()[..8].to_owned()))
    }
}

/// RFC 9110 §11.2.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    #[test]
    fn without_a_file_nobody_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, ONE).unwrap();
        let field = format!("Bearer {ONE}");
        let field = Some(field.as_bytes());
        assert!(admit(Some(&path), field).is_ok());
        assert!(matches!(admit(None, field), Err(Denied::Closed)));
        let unauthorized = admit(Some(&path), None);
        assert!(matches!(unauthorized, Err(Denied::Unauthorized)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(admit(Some(&path), field), Err(Denied::File(_))));
    }

    #[test]
    fn a_files_first_token_is_the_one_to_show() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let missing = own(&path).unwrap_err().to_string();
        assert!(missing.starts_with(path.to_str().unwrap()), "{missing}");
        std::fs::write(&path, format!("# ours\n\n{ONE}\n{TWO}\n")).unwrap();
        assert_eq!(own(&path).unwrap(), ONE);
        assert!(Tokens::load(&path).is_ok());
        std::fs::write(&path, format!("{ONE}\nshort\n")).unwrap();
        let wrong = own(&path).unwrap_err().to_string();
        assert!(wrong.contains("line 2"), "{wrong}");
    }

    #[test]
    fn every_token_of_the_file_is_valid_and_no_other() {
        let tokens = Tokens::parse(&format!("# old\n{ONE}\n\n {TWO} \n")).unwrap();
        let admits = |field: String| tokens.admit(field.as_bytes()).is_some();
        assert!(admits(format!("Bearer {ONE}")));
        assert!(admits(format!("bearer  {TWO}")));
        for wrong in [
            format!("Basic {ONE}"),
            format!("Bearer {ONE}0"),
            "Bearer # old".to_owned(),
            "Bearer ".to_owned(),
            String::new(),
        ] {
            assert!(!admits(wrong.clone()), "{wrong}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_beginning_of_the_digest() {
        let tokens = Tokens::parse(ONE).unwrap();
        let fingerprint = tokens.admit(format!("Bearer {ONE}").as_bytes()).unwrap();
        let digest = Sha256::of(ONE.as_bytes()).to_string();
        assert_eq!(fingerprint.to_string(), digest[..8]);
    }

    #[test]
    fn a_file_without_good_tokens_is_refused() {
        let refused = |text: &str| Tokens::parse(text).err();
        assert_eq!(refused("# nothing\n"), Some(TokenError::None));
        assert_eq!(
            refused(&format!("{ONE}\nshort\n")),
            Some(TokenError::Line(2))
        );
        assert_eq!(refused("with a blank in it all"), Some(TokenError::Line(1)));
        assert_eq!(
            refused(&"x".repeat(MAX_FILE + 1)),
            Some(TokenError::TooLong)
        );
    }
}
