//! Heads of answers: the one place where status and header fields are put together.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use modcdn_core::headers::{CACHE_STATUS, MODCDN_REASON, REPR_DIGEST};
use modcdn_core::range::{ContentRange, unsatisfied};
use modcdn_core::refusal::{Reason, Refusal};

use super::Engine;
use super::cache_status::CacheStatus;
use super::clock::Millis;
use super::growing::{FillHead, Passed};
use super::select::Selected;
use super::store::entry::{Entry, Meta, Validators};
use crate::exchange::{Answer, Asked, Body, Cached};

/// How an answer came about, for its head and for the access log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) cached: Cached,
    pub(super) status: CacheStatus,
}

impl Fate {
    /// The same of an answer that the origin confirmed by a 304.
    pub(super) fn confirmed(self) -> Self {
        Self {
            cached: Cached::Revalidated,
            status: CacheStatus {
                forward_status: Some(StatusCode::NOT_MODIFIED.as_u16()),
                ..self.status
            },
        }
    }
}

/// What a head is made from.
pub(super) struct Described<'a> {
    pub(super) meta: &'a Meta,
    /// None: not known yet.
    pub(super) validators: Option<&'a Validators>,
    /// None: not known yet.
    pub(super) size: Option<u64>,
    /// Milliseconds; None for an answer that comes straight from the origin.
    pub(super) age: Option<Millis>,
}

impl<'a> Described<'a> {
    /// A stored answer.
    pub(super) fn entry(entry: &'a Entry, age: Option<Millis>) -> Self {
        let has_validators = entry.meta.status == StatusCode::OK;
        Self {
            meta: &entry.meta,
            validators: has_validators.then(|| entry.object.validators()),
            size: Some(entry.object.size),
            age,
        }
    }

    /// An answer whose body is arriving.
    pub(super) fn arriving(
        head: &'a FillHead,
        validators: Option<&'a Validators>,
        size: Option<u64>,
    ) -> Self {
        Self {
            meta: &head.meta,
            validators,
            size,
            age: None,
        }
    }
}

impl Engine {
    /// The answer for what was selected; `body` is asked for only if one is due.
    pub(super) fn reply(
        &self,
        asked: &Asked,
        fate: Fate,
        described: &Described<'_>,
        selected: Selected,
        body: Option<Body>,
    ) -> Answer {
        let size = described.size;
        let (status, len) = match selected {
            Selected::Full => (described.meta.status, size),
            Selected::Part { start, end } => (StatusCode::PARTIAL_CONTENT, Some(end - start)),
            Selected::NotModified => return self.not_modified(fate, described),
            Selected::Unsatisfiable => return self.unsatisfiable(asked, fate, size),
        };
        let mut headers = self.head(fate, described);
        if let Selected::Part { start, end } = selected {
            let range = ContentRange {
                start,
                end,
                len: size,
            };
            headers.insert(CONTENT_RANGE, range.to_header());
        }
        if let Some(len) = len {
            headers.insert(CONTENT_LENGTH, len.into());
        }
        let reason = reason_in(&headers);
        let body = body.filter(|_| !asked.head).unwrap_or(Body::Empty);
        Answer {
            status,
            headers,
            body,
            cache: fate.cached,
            reason,
        }
    }

    fn head(&self, fate: Fate, described: &Described<'_>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in described.meta.headers.public() {
            headers.append(name.clone(), value.clone());
        }
        if let Some(validators) = described.validators {
            headers.insert(ETAG, validators.etag.clone());
            headers.insert(REPR_DIGEST, validators.repr_digest.clone());
        }
        if described.meta.status == StatusCode::OK {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        self.trace(&mut headers, fate, described.age);
        headers
    }

    /// The fields that say what the cache did.
    fn trace(&self, headers: &mut HeaderMap, fate: Fate, age: Option<Millis>) {
        if let Some(age) = age {
            headers.insert(AGE, (age / 1000).into());
        }
        headers.insert(CACHE_STATUS, fate.status.value(&self.name));
    }

    /// 304: the fields that RFC 9110 §15.4.5 asks for.
    fn not_modified(&self, fate: Fate, described: &Described<'_>) -> Answer {
        let mut headers = HeaderMap::with_capacity(8);
        for name in [CACHE_CONTROL, LAST_MODIFIED] {
            if let Some(value) = described.meta.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(validators) = described.validators {
            headers.insert(ETAG, validators.etag.clone());
        }
        self.trace(&mut headers, fate, described.age);
        let status = StatusCode::NOT_MODIFIED;
        Answer {
            status,
            headers,
            body: Body::Empty,
            cache: fate.cached,
            reason: None,
        }
    }

    fn unsatisfiable(&self, asked: &Asked, fate: Fate, size: Option<u64>) -> Answer {
        let size = size.unwrap_or(0);
        let failed = format!("the range lies behind the body's end, at {size} bytes");
        let refusal = Refusal::new(Reason::RangeNotSatisfiable, asked.path.as_str(), failed);
        let mut answer = self.refuse(asked, fate, &refusal);
        answer.headers.insert(CONTENT_RANGE, unsatisfied(size));
        answer
    }

    /// A "no" of our own.
    pub(super) fn refuse(&self, asked: &Asked, fate: Fate, refusal: &Refusal) -> Answer {
        let text = refusal.text();
        let negative = self.settings.load().config.freshness.negative;
        let mut headers = refusal.headers(negative.get());
        headers.insert(CONTENT_LENGTH, text.len().into());
        let detail = fate.status.detail.or(Some(refusal.reason.name()));
        let fate = Fate {
            status: CacheStatus {
                detail,
                ..fate.status
            },
            ..fate
        };
        self.trace(&mut headers, fate, None);
        let body = whole(asked, text);
        let reason = Some(refusal.reason);
        Answer {
            status: refusal.reason.status(),
            headers,
            body,
            cache: fate.cached,
            reason,
        }
    }

    /// The origin's error, as it is.
    pub(super) fn pass_on(&self, asked: &Asked, fate: Fate, passed: &Passed) -> Answer {
        let mut headers = HeaderMap::with_capacity(8);
        for (name, value) in passed.headers.public() {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(CONTENT_LENGTH, passed.body.len().into());
        let fate = Fate {
            status: CacheStatus {
                forward_status: Some(passed.status.as_u16()),
                ..fate.status
            },
            ..fate
        };
        self.trace(&mut headers, fate, None);
        let reason = reason_in(&headers);
        let body = whole(asked, passed.body.clone());
        Answer {
            status: passed.status,
            headers,
            body,
            cache: fate.cached,
            reason,
        }
    }
}

/// A body that is all there.
pub(super) fn whole(asked: &Asked, bytes: Bytes) -> Body {
    if asked.head || bytes.is_empty() {
        Body::Empty
    } else {
        Body::Whole(bytes)
    }
}

/// The reason that an error names.
pub(super) fn reason_in(headers: &HeaderMap) -> Option<Reason> {
    headers
        .get(MODCDN_REASON)
        .and_then(|name| Reason::from_name(name.to_str().ok()?))
}
