//! What the origin says about a body, and whether the body is that.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, TRAILER};
use http::{HeaderMap, HeaderValue, StatusCode};

use modcdn_core::digest::Sha256;
use modcdn_core::headers::REPR_DIGEST;
use modcdn_core::range::ContentRange;
use modcdn_core::refusal::Reason;

use super::growing::FillHead;
use super::store::entry::Meta;
use crate::origin::{OriginBody, OriginError, OriginResponse};

/// The most that is read of an error's body.
const MOST_ERROR_TEXT: usize = 64 * 1024;

/// A fill that failed: why, and in words.
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) text: String,
    pub(super) blame: Blame,
}

/// What a failure says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// About this object: asking again at once would not help.
    Object,
    /// About the origin, the line to it, or us.
    Other,
}

impl Failure {
    pub(super) fn new(reason: Reason, text: impl Into<String>) -> Self {
        let blame = match reason {
            Reason::OriginBroken | Reason::OriginContent | Reason::DigestMismatch => Blame::Object,
            _ => Blame::Other,
        };
        Self {
            reason,
            text: text.into(),
            blame,
        }
    }

    /// A body that broke off, though the origin had answered.
    pub(super) fn of_body(error: &OriginError) -> Self {
        Self {
            blame: Blame::Object,
            ..Self::new(error.reason(), error.to_string())
        }
    }
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        Self {
            blame: Blame::Other,
            ..Self::new(error.reason(), error.to_string())
        }
    }
}

/// What the origin announced of a body.
pub(super) struct Announced {
    /// What followers need to know.
    pub(super) head: Arc<FillHead>,
    /// To resume with.
    pub(super) etag: Option<HeaderValue>,
    /// A digest follows as a trailer.
    trailer: bool,
    /// The digest of the whole body, from any head so far.
    pub(super) digest: Option<Sha256>,
}

impl Announced {
    /// Reads a head.
    pub(super) fn new(meta: Meta, headers: &HeaderMap) -> Self {
        let (digest, size) = (digest_in(headers), length_in(headers));
        let is_strong = |etag: &&HeaderValue| etag.as_bytes().starts_with(b"\"");
        Self {
            head: Arc::new(FillHead { meta, digest, size }),
            etag: headers.get(ETAG).filter(is_strong).cloned(),
            trailer: promises_digest(headers),
            digest,
        }
    }

    /// The rest of the body, if the answer to a resume is that.
    pub(super) fn continued(
        &mut self,
        response: OriginResponse,
        from: u64,
    ) -> Result<Box<dyn OriginBody>, Failure> {
        let range = response
            .headers
            .get(CONTENT_RANGE)
            .and_then(ContentRange::parse);
        let size = self.head.size;
        let fits = range.is_some_and(|range| {
            let same_size = size
                .zip(range.len)
                .is_none_or(|(ours, theirs)| ours == theirs);
            range.start == from && same_size
        });
        if response.status != StatusCode::PARTIAL_CONTENT || !fits {
            let status = response.status;
            let text = format!("the origin broke off, then did not continue the body ({status})");
            return Err(Failure::new(Reason::OriginBroken, text));
        }
        self.digest = self.digest.or_else(|| digest_in(&response.headers));
        Ok(response.body)
    }

    /// Whether the digest that was promised is still missing at the body's end.
    pub(super) fn lacks_digest(&self, trailers: Option<&HeaderMap>) -> bool {
        self.trailer && self.digest.is_none() && trailers.and_then(digest_in).is_none()
    }

    /// Compares the body with everything that was said about it.
    pub(super) fn verify(
        &self,
        computed: Sha256,
        trailers: Option<&HeaderMap>,
    ) -> Result<(), Failure> {
        let trailer = trailers.and_then(digest_in);
        if self.lacks_digest(trailers) {
            let text = "the origin announced a digest and did not send it";
            return Err(Failure::new(Reason::OriginContent, text));
        }
        let mut said = self
            .head
            .digest
            .into_iter()
            .chain(self.digest)
            .chain(trailer);
        if let Some(other) = said.find(|digest| *digest != computed) {
            let text = format!("the body's sha-256 is {computed}\nthe origin announced {other}");
            return Err(Failure::new(Reason::DigestMismatch, text));
        }
        Ok(())
    }
}

/// The digest that a header or trailer section announces.
pub(super) fn digest_in(fields: &HeaderMap) -> Option<Sha256> {
    fields
        .get_all(REPR_DIGEST)
        .iter()
        .find_map(|field| field.to_str().ok().and_then(Sha256::from_repr_digest))
}

/// The length that a head announces.
pub(super) fn length_in(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
}

/// Whether a head says that the digest follows as a trailer.
pub(super) fn promises_digest(headers: &HeaderMap) -> bool {
    let fields = headers
        .get_all(TRAILER)
        .iter()
        .filter_map(|names| names.to_str().ok());
    let mut names = fields.flat_map(|names| names.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case(REPR_DIGEST.as_str()))
}

/// The text of an error, which is short.
pub(super) async fn read_text(body: &mut dyn OriginBody) -> Result<Bytes, OriginError> {
    let mut text = BytesMut::new();
    while let Some(piece) = body.next().await? {
        if text.len() + piece.len() > MOST_ERROR_TEXT {
            let why = format!("an error of more than {MOST_ERROR_TEXT} bytes");
            return Err(OriginError::Invalid { why });
        }
        text.extend_from_slice(&piece);
    }
    Ok(text.freeze())
}
