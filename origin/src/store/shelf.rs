//! Where committed bodies lie: the narrow interface behind which a folder or a bucket stands.
//!
//! A shelf knows places and bytes, nothing of modules. What it says is there has been put there
//! whole: a `put` or `commit` that ends in an error, or never ends, leaves what was there before.
//! A reader keeps the bytes it began with, whatever becomes of the place meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use modcdn_core::digest::{Hasher, Sha256};
use modcdn_core::goproxy::{ModulePath, Version};

use super::bucket::object::{Object, ObjectPieces};
use super::sum::Sum;
use super::work::Work;
use crate::archive::Source;
use crate::disk;

/// Bodies up to this size are read at once and checked each time.
pub(crate) const SMALL: u64 = 64 << 10;

/// See the module. A place is a relative path: `/` between its elements, no `..`.
#[async_trait]
pub(crate) trait Shelf: Send + Sync {
    /// Whether a failure to read means that nothing can be said of what is stored. Otherwise a
    /// body that can't be read is as good as absent.
    fn is_remote(&self) -> bool;

    /// Opens a body; `None` if there is none.
    async fn open(&self, place: &str) -> io::Result<Option<Opened>>;

    /// Puts a small body in place.
    async fn put(&self, place: &str, bytes: Bytes, sum: Sum) -> io::Result<()>;

    /// Puts a finished file of the spool in place: it is gone from the spool then. On an error it
    /// stays the caller's.
    async fn commit(&self, place: &str, temp: &Path, sum: Sum) -> io::Result<Stamp>;

    /// Writes down what a body that has no sum must be from now on; of a zip its h1 as the go
    /// command does, too. So do `put` and `commit`.
    async fn write_sum(&self, place: &str, sum: Sum) -> io::Result<()>;

    /// Since when a body has been there; `None` if it isn't.
    async fn stored_at(&self, place: &str) -> io::Result<Option<SystemTime>>;

    /// A short text that lies there, as others wrote it; `None` if there is none.
    async fn text(&self, place: &str) -> io::Result<Option<String>>;

    /// Moves a body to `.quarantine/` with the reason, unless it is another one than `stamp` by now.
    async fn quarantine(&self, place: &str, stamp: &Stamp, reason: &str) -> io::Result<()>;

    /// Removes a body, and its sum after it. One that isn't there is no error.
    async fn remove(&self, place: &str) -> io::Result<()>;

    /// Writes down which versions of a module there are, where that is done at all; `without`
    /// leaves some out.
    async fn list_versions(&self, module: &ModulePath, without: &[Version]) -> io::Result<()>;

    /// Names of what lies directly in a folder, in no order; none if there is no such folder. For
    /// folders of a few hundred.
    async fn names(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Tries whether bodies can be put.
    async fn probe(&self) -> io::Result<()>;

    /// Everything there is, sums too, in no order; what can't be listed is an error in its place.
    fn walk(&self) -> BoxStream<'static, io::Result<Entry>>;
}

/// A body at hand.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) len: u64,
    pub(crate) stamp: Stamp,
    /// What it must be; `None` where that isn't known yet.
    pub(crate) sum: Option<Sum>,
    pub(crate) bytes: OpenedBytes,
}

/// A body's bytes, not checked against anything.
#[derive(Debug)]
pub(crate) enum OpenedBytes {
    /// All of a body up to [`SMALL`].
    Small(Bytes),
    Large(Large),
}

impl OpenedBytes {
    /// All of it, in memory.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) async fn whole(self, len: u64) -> io::Result<Bytes> {
        match self {
            Self::Small(bytes) => Ok(bytes),
            Self::Large(large) => large.whole(len).await,
        }
    }
}

/// Tells one state of a body from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    File {
        len: u64,
        inode: u64,
        changed: (i64, i64),
    },
    Object {
        len: u64,
        etag: Option<String>,
    },
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::File {
            len: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// A line of a shelf's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: String,
    pub(crate) len: u64,
    pub(crate) modified: SystemTime,
}

/// A body that isn't read at once.
#[derive(Clone, Debug)]
pub(crate) enum Large {
    File(Arc<File>),
    Object(Arc<Object>),
}

impl Large {
    pub(crate) fn stamp(&self) -> io::Result<Stamp> {
        match self {
            Self::File(file) => Stamp::of(file),
            Self::Object(object) => Ok(object.stamp()),
        }
    }

    /// Reads from `start` to `end` (exclusive).
    pub(crate) fn read(&self, start: u64, end: u64) -> Pieces {
        let source = match self {
            Self::File(file) => From::File(file.clone()),
            Self::Object(object) => From::Object(Box::new(object.clone().read(start, end))),
        };
        Pieces {
            source,
            position: start,
            end,
            hasher: None,
        }
    }

    /// Reads all of it, hashing on the way.
    pub(crate) fn read_hashing(&self, len: u64) -> Pieces {
        Pieces {
            hasher: Some(Hasher::new()),
            ..self.read(0, len)
        }
    }

    /// Brings it here, if it isn't.
    ///
    /// # Errors
    /// If it can't be read, or there is no room for it.
    pub(crate) async fn local(&self, len: u64, work: &Work) -> io::Result<Local> {
        if let Self::File(file) = self {
            return Ok(Local::File(file.clone()));
        }
        let path = work.spool_name();
        let temp = disk::blocking(move || {
            let mut options = File::options();
            let temp = options
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            // Gone when nobody has it open any more.
            fs::remove_file(path)?;
            Ok(Arc::new(temp))
        })
        .await?;
        let mut pieces = self.read(0, len);
        while let Some(piece) = pieces.next().await? {
            let temp = temp.clone();
            disk::blocking(move || (&*temp).write_all(&piece)).await?;
        }
        Ok(Local::File(temp))
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// If it can't be read; also if it is shorter than `len`.
    pub(crate) async fn whole(&self, len: u64) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
        let mut pieces = self.read(0, len);
        while let Some(piece) = pieces.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// Reads it through.
    ///
    /// # Errors
    /// If it can't be read; also if it is shorter than `len`.
    pub(crate) async fn sum(&self, len: u64) -> io::Result<Sum> {
        let mut pieces = self.read_hashing(len);
        while pieces.next().await?.is_some() {}
        let digest = pieces.digest().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Sum {
            digest,
            len,
            h1: None,
        })
    }
}

/// A body that can be read anywhere at once.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    File(Arc<File>),
    Bytes(Bytes),
}

impl Source for Local {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => Source::read_at(&**file, buffer, position),
            Self::Bytes(bytes) => Source::read_at(&**bytes, buffer, position),
        }
    }
}

/// A reader of a large body, or of a part of it.
pub(crate) struct Pieces {
    source: From,
    position: u64,
    end: u64,
    hasher: Option<Hasher>,
}

enum From {
    File(Arc<File>),
    Object(Box<ObjectPieces>),
}

impl Pieces {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// If it can't be read, or ends too early.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let left = self.end - self.position;
        if left == 0 {
            return Ok(None);
        }
        let piece = match &mut self.source {
            From::File(file) => {
                let (file, position) = (file.clone(), self.position);
                let (mut hasher, buffer) = (self.hasher.take(), disk::buffer(left)?);
                let (piece, hasher) = disk::blocking(move || {
                    let piece = disk::read_into(&file, position, buffer)?;
                    if let Some(hasher) = &mut hasher {
                        hasher.update(&piece);
                    }
                    Ok((piece, hasher))
                })
                .await?;
                self.hasher = hasher;
                piece
            }
            From::Object(pieces) => {
                let piece = pieces.next().await?;
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&piece);
                }
                piece
            }
        };
        self.position += piece.len() as u64;
        Ok(Some(piece))
    }

    /// Whether the last piece was handed out.
    pub(crate) fn is_at_end(&self) -> bool {
        self.position == self.end
    }

    /// The digest of what was read, once, at the end, if it was read hashing.
    pub(crate) fn digest(&mut self) -> Option<Sha256> {
        self.is_at_end()
            .then(|| self.hasher.take())?
            .map(Hasher::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_the_sum_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        let bytes = vec![7; 600_000];
        std::fs::write(&path, &bytes).unwrap();
        let large = Large::File(Arc::new(File::open(&path).unwrap()));
        assert_eq!(large.sum(600_000).await.unwrap(), Sum::of(&bytes));
        assert!(large.sum(600_001).await.is_err());
        let mut part = large.read(10, 20);
        assert_eq!(part.next().await.unwrap().unwrap(), &bytes[10..20]);
        assert!(part.next().await.unwrap().is_none() && part.digest().is_none());
    }
}
