//! Bodies that come piece by piece, and what identifies them. One that can't be finished ends in an error,
//! before its last piece.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::ETAG;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Request;
use modcdn_core::headers::{MODCDN_SUM, REPR_DIGEST};

use crate::fetch::Engine;
use crate::store::shelf::{Large, Pieces};
use crate::store::spool::{Reader, Step};
use crate::store::sum::Sum;

/// A response's body; an error in it is a visible break.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn growing(reader: Reader) -> Body {
    let frames = stream::try_unfold(Some(reader), |reader| async move {
        let Some(mut reader) = reader else {
            return Ok(None);
        };
        Ok(Some(match reader.next().await? {
            Step::Piece(piece) => (Frame::data(piece), Some(reader)),
            Step::Done(sum) => (Frame::trailers(trailers(sum)), None),
        }))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn trailers(sum: Sum) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    identify(&mut trailers, sum);
    trailers
}

/// The fields that say which bytes a body is.
pub(super) fn identify(headers: &mut HeaderMap, sum: Sum) {
    headers.insert(ETAG, sum.digest.etag());
    headers.insert(REPR_DIGEST, sum.digest.repr_digest());
    if let Some(h1) = sum.h1 {
        let h1 = HeaderValue::try_from(h1.to_string());
        headers.insert(MODCDN_SUM, h1.expect("base64 is visible ASCII"));
    }
}

/// Reads a stored body, hashing it on the way if all of it is read.
pub(super) struct StoredReader {
    engine: Arc<Engine>,
    request: Request,
    body: Large,
    sum: Sum,
    pieces: Pieces,
}

impl StoredReader {
    pub(super) fn whole(engine: Arc<Engine>, request: Request, body: Large, sum: Sum) -> Self {
        Self {
            engine,
            request,
            sum,
            pieces: body.read_hashing(sum.len),
            body,
        }
    }

    pub(super) fn part(
        engine: Arc<Engine>,
        request: Request,
        body: Large,
        sum: Sum,
        start: u64,
        end: u64,
    ) -> Self {
        Self {
            engine,
            request,
            sum,
            pieces: body.read(start, end),
            body,
        }
    }

    pub(super) fn frames(self) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
        stream::try_unfold(self, |mut reader| async move {
            let piece = reader.next().await?;
            Ok(piece.map(|piece| (Frame::data(piece), reader)))
        })
    }

    /// The next piece; the last one only if the whole is right.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = self.pieces.next().await;
        let piece = piece.inspect_err(|error| self.engine.tree.note("read", error))?;
        if let Some(digest) = self.pieces.digest() {
            self.check(digest).await?;
        }
        Ok(piece)
    }

    async fn check(&mut self, digest: Sha256) -> io::Result<()> {
        if digest == self.sum.digest {
            self.engine.tree.mark_checked(&self.request, &self.body);
            return Ok(());
        }
        self.engine.tree.quarantine(&self.request, &self.body).await;
        Err(io::Error::other("stored body is corrupt"))
    }
}
