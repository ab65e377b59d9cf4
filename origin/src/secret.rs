//! Secrets from files: never in a log, an error text or a `Debug`.
//!
//! A file holds one secret, on its one line. It is looked at at each use and read again when it
//! changed, so a new secret counts at once. A file that can't be read is a failure, not the secret
//! as it was: who takes a file away means it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk;

/// A secret is no longer than this, in bytes.
const MAX_SECRET: u64 = 16 << 10;

/// What nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

/// A file with a secret.
#[derive(Debug)]
pub(crate) struct SecretFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Secret)>>,
}

/// Tells one state of a file from another.
type Stamp = (u64, u64, i64, i64, i64);

impl Secret {
    /// The secret itself: for the one who is to be shown it, and nobody else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Takes a text's only line.
    fn parse(text: &str) -> io::Result<Self> {
        let secret = text.trim_matches(['\r', '\n', ' ', '\t']);
        let wrong = |what| Err(io::Error::new(ErrorKind::InvalidData, what));
        if secret.is_empty() {
            return wrong("there is nothing in it");
        }
        if secret.chars().any(char::is_control) {
            return wrong("a secret is one line of text");
        }
        Ok(Self(secret.into()))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl SecretFile {
    pub(crate) fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            last: Mutex::default(),
        })
    }

    /// Which file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The secret that is in it now.
    ///
    /// # Errors
    /// Whatever the file system says, and `InvalidData` if there is no secret in it.
    pub(crate) async fn read(self: &Arc<Self>) -> io::Result<Secret> {
        let file = self.clone();
        disk::blocking(move || file.read_now()).await
    }

    /// As [`SecretFile::read`], on this thread.
    pub(crate) fn read_now(&self) -> io::Result<Secret> {
        let stamp = stamp(&fs::metadata(&self.path)?);
        if let Some((then, secret)) = &*self.last.lock()
            && *then == stamp
        {
            return Ok(secret.clone());
        }
        let mut text = String::new();
        let file = File::open(&self.path)?;
        let stamp = self::stamp(&file.metadata()?);
        file.take(MAX_SECRET + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_SECRET {
            let what = format!("longer than {MAX_SECRET} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        let secret = Secret::parse(&text)?;
        *self.last.lock() = Some((stamp, secret.clone()));
        Ok(secret)
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (
        metadata.len(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime_nsec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_at_once_and_a_missing_one_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let file = SecretFile::new(&path);
        assert_eq!(file.read_now().unwrap_err().kind(), ErrorKind::NotFound);
        for text in ["one\n", "two", " three \r\n"] {
            // As a rename does it: another inode.
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
            assert_eq!(file.read_now().unwrap().expose(), text.trim());
        }
        fs::remove_file(&path).unwrap();
        assert!(file.read_now().is_err());
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let long = "x".repeat(20_000);
        for text in ["", " \n", "a\nb", "a\0b", &long] {
            fs::write(&path, text).unwrap();
            let error = SecretFile::new(&path).read_now().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "s3cret").unwrap();
        let file = SecretFile::new(&path);
        let secret = file.read_now().unwrap();
        assert!(!format!("{secret:?} {file:?}").contains("s3cret"));
    }
}
