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

/// The tokens that are valid, and what each is good for.
pub struct Tokens<G = ()>(Vec<(Sha256, G)>);

/// What the text behind a token says that it is good for; else what it should have been.
pub type Grant<G> = fn(&str) -> Result<G, &'static str>;

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
    /// What stands behind a token says nothing.
    #[error("line {line}: behind the token {expected}")]
    Grant {
        /// The line.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
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
    check(path, &text, nothing)?;
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
    admit_for(file, authorization, nothing).map(|(token, ())| token)
}

/// As [`admit`], for a request with these header fields; reads the file where that may block.
///
/// # Errors
/// Why he isn't let in.
pub async fn admit_request(
    file: Option<PathBuf>,
    headers: &HeaderMap,
) -> Result<Fingerprint, Denied> {
    let admitted = admit_request_for(file, headers, nothing).await;
    admitted.map(|(token, ())| token)
}

/// As [`admit_request`], and says what the token is good for.
///
/// # Errors
/// Why he isn't let in.
pub async fn admit_request_for<G: Clone + Send + 'static>(
    file: Option<PathBuf>,
    headers: &HeaderMap,
    grant: Grant<G>,
) -> Result<(Fingerprint, G), Denied> {
    let field = headers.get(AUTHORIZATION).cloned();
    let admitting = tokio::task::spawn_blocking(move || {
        let field = field.as_ref().map(HeaderValue::as_bytes);
        admit_for(file.as_deref(), field, grant)
    });
    // An error is a panic in there, which the runtime has reported.
    admitting.await.unwrap_or(Err(Denied::Unauthorized))
}

fn admit_for<G: Clone>(
    file: Option<&Path>,
    authorization: Option<&[u8]>,
    grant: Grant<G>,
) -> Result<(Fingerprint, G), Denied> {
    let path = file.ok_or(Denied::Closed)?;
    let tokens = check(path, &read(path)?, grant)?;
    let token = authorization.and_then(|field| tokens.admit_for(field));
    let (token, grant) = token.ok_or(Denied::Unauthorized)?;
    Ok((token, grant.clone()))
}

/// Of a token that is good for whatever its file is for.
fn nothing(behind: &str) -> Result<(), &'static str> {
    match behind {
        "" => Ok(()),
        _ => Err("nothing is expected"),
    }
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

fn check<G>(path: &Path, text: &str, grant: Grant<G>) -> Result<Tokens<G>, FileError> {
    Tokens::parse_for(text, grant).map_err(|error| FileError::Wrong {
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
        check(path, &read(path)?, nothing)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// One wrong line spoils the file: it may be the token that was meant to be valid.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::parse_for(text, nothing)
    }

    /// The token of an `Authorization` field, if it is valid.
    #[must_use]
    pub fn admit(&self, authorization: &[u8]) -> Option<Fingerprint> {
        self.admit_for(authorization).map(|(token, ())| token)
    }
}

impl<G> Tokens<G> {
    /// As [`Tokens::parse`], with what each token is good for.
    ///
    /// # Errors
    /// One wrong line spoils the file.
    pub fn parse_for(text: &str, grant: Grant<G>) -> Result<Self, TokenError> {
        if text.len() > MAX_FILE {
            return Err(TokenError::TooLong);
        }
        let tokens = lines(text).map(|(line, number)| {
            let (token, behind) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            if token.len() < MIN_TOKEN || !token.bytes().all(is_token68) {
                return Err(TokenError::Line(number));
            }
            let grant = grant(behind.trim()).map_err(|expected| TokenError::Grant {
                line: number,
                expected,
            })?;
            Ok((Sha256::of(token.as_bytes()), grant))
        });
        let tokens: Vec<_> = tokens.collect::<Result<_, _>>()?;
        match tokens.is_empty() {
            true => Err(TokenError::None),
            false => Ok(Self(tokens)),
        }
    }

    /// The token of an `Authorization` field and what it is good for, if it is valid. Of a token that
    /// is there twice the first line counts.
    #[must_use]
    pub fn admit_for(&self, authorization: &[u8]) -> Option<(Fingerprint, &G)> {
        let (scheme, token) = authorization.split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return None;
        }
        let digest = Sha256::of(token.trim_ascii());
        // All are looked at: how long it takes says nothing of which it was.
        let mut valid = None;
        for (known, grant) in &self.0 {
            let same = verify_slices_are_equal(known.as_bytes(), digest.as_bytes()).is_ok();
            if same && valid.is_none() {
                valid = Some(grant);
            }
        }
        let fingerprint = Fingerprint(digest.to_string()[..8].to_owned());
        valid.map(|grant| (fingerprint, grant))
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

    #[test]
    fn a_token_may_say_what_it_is_good_for() {
        fn colour(behind: &str) -> Result<Option<String>, &'static str> {
            match behind {
                "" => Ok(None),
                "red" | "blue" => Ok(Some(behind.to_owned())),
                _ => Err("comes red, blue, or nothing"),
            }
        }
        let tokens = Tokens::parse_for(&format!("{ONE} \t red\n{TWO}\n{ONE} blue"), colour);
        let tokens = tokens.unwrap();
        let of = |token: &str| {
            let field = format!("Bearer {token}");
            let admitted = tokens.admit_for(field.as_bytes());
            admitted.map(|(_, colour)| colour.clone())
        };
        assert_eq!(of(ONE), Some(Some("red".to_owned())));
        assert_eq!(of(TWO), Some(None));
        assert_eq!(of("0000000000000000"), None);
        for field in [format!("Bearer {ONE} red"), format!("Bearer {ONE}\tred")] {
            assert!(tokens.admit_for(field.as_bytes()).is_none(), "{field}");
        }
        let wrong = Tokens::parse_for(&format!("# tokens\n{ONE} green"), colour)
            .err()
            .unwrap();
        let said = wrong.to_string();
        assert!(
            said.contains("line 2") && said.contains("red, blue"),
            "{said}"
        );
        assert!(!said.contains("green") && !said.contains(ONE), "{said}");
        let plain = Tokens::parse(&format!("{ONE} red"))
            .err()
            .unwrap()
            .to_string();
        assert!(plain.contains("nothing is expected"), "{plain}");
    }
}
