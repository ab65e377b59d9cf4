//! Reading an object piece by piece.
//!
//! A line that breaks or stalls is taken up again where it ended, of the same object (its entity
//! tag), as often as configured; then the reader fails. Whether the bytes are right is for the
//! reader's user to check.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::{Bucket, Stamp, lost, within};

/// An object that was there when it was opened.
pub(crate) struct Object {
    pub(super) bucket: Bucket,
    pub(super) key: Path,
    pub(super) len: u64,
    pub(super) etag: Option<String>,
    /// Its first bytes, which came with its head.
    pub(super) first: Bytes,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.key)
    }
}

impl Object {
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::Object {
            len: self.len,
            etag: self.etag.clone(),
        }
    }

    /// Reads from `start` to `end` (exclusive). Nothing is asked for before the first piece is.
    pub(crate) fn read(self: Arc<Self>, start: u64, end: u64) -> ObjectPieces {
        ObjectPieces {
            tries: self.bucket.0.settings.retries + 1,
            object: self,
            position: start,
            end,
            line: None,
        }
    }

    /// From a position on.
    async fn line(&self, position: u64, end: u64) -> io::Result<Line> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(position..end)),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        let inner = &self.bucket.0;
        let got = inner.client.get_opts(&self.key, options);
        let got = within(inner.settings.answer_timeout, got).await?;
        Ok(got.ok_or_else(lost)?.into_stream())
    }
}

type Line = BoxStream<'static, object_store::Result<Bytes>>;

/// A reader of an object, or of a part of it.
pub(crate) struct ObjectPieces {
    object: Arc<Object>,
    position: u64,
    end: u64,
    line: Option<Line>,
    tries: usize,
}

impl fmt::Debug for ObjectPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}..{}]", self.object, self.position, self.end)
    }
}

impl ObjectPieces {
    /// The next piece; not to be called at the end.
    ///
    /// # Errors
    /// If storage fails more often than is put up with, or has another object there by now.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        let piece = match self.of_first() {
            Some(piece) => piece,
            None => loop {
                match self.of_line().await {
                    Ok(piece) if piece.is_empty() => {}
                    Ok(piece) => break piece,
                    Err(error) => {
                        self.line = None;
                        self.tries = self.tries.saturating_sub(1);
                        if self.tries == 0 {
                            return Err(error);
                        }
                        tracing::info!(object = ?self, %error, "taking up the line again");
                    }
                }
            },
        };
        self.position += piece.len() as u64;
        Ok(piece)
    }

    fn of_first(&self) -> Option<Bytes> {
        let first = &self.object.first;
        let position = usize::try_from(self.position).ok()?;
        let end = usize::try_from(self.end).map_or(first.len(), |end| end.min(first.len()));
        (position < end).then(|| first.slice(position..end))
    }

    async fn of_line(&mut self) -> io::Result<Bytes> {
        if self.line.is_none() {
            self.line = Some(self.object.line(self.position, self.end).await?);
        }
        let Some(line) = &mut self.line else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        let limit = self.object.bucket.0.settings.stall_timeout;
        let piece = within(limit, line.try_next()).await?.flatten();
        let piece = piece.ok_or(ErrorKind::UnexpectedEof)?;
        // More than was asked for is nobody's.
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        Ok(piece.slice(..piece.len().min(left)))
    }
}
