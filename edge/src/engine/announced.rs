//! What the origin says about a body, and whether the body is that.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

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
    /// The length, from any head so far.
    pub(super) size: Option<u64>,
    /// To resume with.
    pub(super) validator: Option<Validator>,
    /// A digest follows as a trailer.
    trailer: bool,
    /// The digest of the whole body, from any head so far.
    pub(super) digest: Option<Sha256>,
}

/// What a body is continued with: a strong validator (RFC 9110 §8.8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validator {
    /// For `If-Range`.
    pub(super) value: HeaderValue,
    /// The field that must say the same of the rest (RFC 9110 §15.3.7.3). None where a digest vouches
    /// for the whole: its origin may have renamed the body meanwhile.
    pub(super) again: Option<HeaderName>,
}

impl Announced {
    /// Reads a head.
    pub(super) fn new(meta: Meta, headers: &HeaderMap) -> Self {
        let (digest, size) = (digest_in(headers), length_in(headers));
        let is_strong = |etag: &&HeaderValue| etag.as_bytes().starts_with(b"\"");
        let validator = headers.get(ETAG).filter(is_strong).map(|etag| Validator {
            value: etag.clone(),
            again: None,
        });
        Self {
            head: Arc::new(FillHead { meta, digest, size }),
            size,
            validator,
            trailer: promises_digest(headers),
            digest,
        }
    }

    /// The rest of the body, if the answer to a resume is that: a part from the right byte on, of the
    /// same body, as far as can be told.
    pub(super) fn continued(
        &mut self,
        response: OriginResponse,
        from: u64,
    ) -> Result<Box<dyn OriginBody>, Failure> {
        let (status, headers) = (response.status, &response.headers);
        let range = headers.get(CONTENT_RANGE).and_then(ContentRange::parse);
        let fits = |range: &ContentRange| range.start == from && self.fits(*range, headers);
        let Some(range) =
            range.filter(|range| status == StatusCode::PARTIAL_CONTENT && fits(range))
        else {
            let text = format!("the origin broke off, then did not continue the body ({status})");
            return Err(Failure::new(Reason::OriginBroken, text));
        };
        self.size = self.size.or(range.len);
        self.digest = self.digest.or_else(|| digest_in(headers));
        if self.size.is_none() && self.digest.is_none() && !self.trailer {
            let text = "the origin broke off, and doesn't say how long the body is";
            return Err(Failure::new(Reason::OriginBroken, text));
        }
        Ok(response.body)
    }

    /// Whether a part is one of this body, and as long as it says.
    fn fits(&self, range: ContentRange, headers: &HeaderMap) -> bool {
        let agrees = |ours: Option<u64>, theirs: Option<u64>| {
            ours.zip(theirs).is_none_or(|(ours, theirs)| ours == theirs)
        };
        let is_same = |ours: &Validator| {
            let again = ours.again.as_ref().map(|name| headers.get(name));
            again.is_none_or(|theirs| theirs == Some(&ours.value))
        };
        self.validator.as_ref().is_none_or(is_same)
            && agrees(self.size, range.len)
            && agrees(Some(range.end - range.start), length_in(headers))
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
