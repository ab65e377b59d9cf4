//! Heads of answers to plain HTTP: the one place where they are put together.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use modcdn_core::headers::CACHE_STATUS;
use modcdn_core::range::{ContentRange, unsatisfied};
use modcdn_core::refusal::{Reason, Refusal};

use super::answer::Ask;
use super::merge::belongs_to_304;
use crate::engine::Engine;
use crate::engine::cache_status::CacheStatus;
use crate::engine::clock::Millis;
use crate::engine::reply::Fate;
use crate::engine::select::Selected;
use crate::engine::store::entry::Meta;
use crate::exchange::{Answer, Body};

/// Fields about the bytes of one message: not true of a part of it (RFC 9530 §2).
const OF_THE_CONTENT: [HeaderName; 2] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// What a head is made from.
pub(super) struct Told<'a> {
    pub(super) meta: &'a Meta,
    /// Fields that are this client's alone.
    pub(super) withheld: HeaderMap,
    /// None: not known yet.
    pub(super) size: Option<u64>,
    pub(super) age: Millis,
    /// It comes from the store: its age is told in any case (RFC 9111 §4).
    pub(super) stored: bool,
}

impl Engine {
    /// The answer for what was selected.
    pub(super) fn tell(
        &self,
        ask: &Ask,
        fate: Fate,
        told: &Told<'_>,
        selected: Selected,
        body: Option<Body>,
    ) -> Answer {
        let size = told.size;
        if selected == Selected::Unsatisfiable {
            return self.beyond_the_end(ask, fate, size.unwrap_or(0));
        }
        let (mut status, mut headers) = (told.meta.status, self.fields(fate, told));
        let length = match selected {
            Selected::Part { start, end } => {
                status = StatusCode::PARTIAL_CONTENT;
                OF_THE_CONTENT
                    .iter()
                    .for_each(|name| drop(headers.remove(name)));
                let range = ContentRange {
                    start,
                    end,
                    len: size,
                };
                headers.insert(CONTENT_RANGE, range.to_header());
                Some(end - start)
            }
            Selected::NotModified => {
                status = StatusCode::NOT_MODIFIED;
                headers = headers_of_304(&headers);
                None
            }
            Selected::Full | Selected::Unsatisfiable => size,
        };
        if let Some(length) = length.filter(|_| may_have_length(status)) {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let body = body.filter(|_| !ask.head()).unwrap_or(Body::Empty);
        let cache = fate.cached;
        Answer {
            status,
            headers,
            body,
            cache,
            reason: None,
        }
    }

    fn fields(&self, fate: Fate, told: &Told<'_>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(told.meta.headers.iter().len() + 4);
        for (name, value) in told.meta.headers.iter() {
            headers.append(name.clone(), value.clone());
        }
        for (name, value) in &told.withheld {
            headers.append(name.clone(), value.clone());
        }
        if told.meta.status == StatusCode::OK && !headers.contains_key(ACCEPT_RANGES) {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        if told.stored || told.age >= 1000 {
            headers.insert(AGE, (told.age / 1000).into());
        }
        self.note(&mut headers, fate);
        headers
    }

    /// Adds what this cache did to what those before it say they did (RFC 9211 §2).
    pub(super) fn note(&self, headers: &mut HeaderMap, fate: Fate) {
        headers.append(CACHE_STATUS, fate.status.value(&self.name));
    }

    fn beyond_the_end(&self, ask: &Ask, fate: Fate, size: u64) -> Answer {
        let failed = format!("the range lies behind the body's end, at {size} bytes");
        let target = ask.asked.target.as_str();
        let refusal = Refusal::new(Reason::RangeNotSatisfiable, target, failed);
        let mut answer = self.turn_down(ask, fate, &refusal);
        answer.headers.insert(CONTENT_RANGE, unsatisfied(size));
        answer
    }

    /// A "no" of our own.
    pub(super) fn turn_down(&self, ask: &Ask, fate: Fate, refusal: &Refusal) -> Answer {
        let text: Bytes = refusal.text();
        let mut headers = refusal.headers(Duration::ZERO);
        headers.insert(CONTENT_LENGTH, text.len().into());
        let detail = fate.status.detail.or(Some(refusal.reason.name()));
        let status = CacheStatus {
            detail,
            ..fate.status
        };
        self.note(&mut headers, Fate { status, ..fate });
        Answer {
            status: refusal.reason.status(),
            headers,
            body: if ask.head() {
                Body::Empty
            } else {
                Body::Whole(text)
            },
            cache: fate.cached,
            reason: Some(refusal.reason),
        }
    }
}

fn headers_of_304(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| belongs_to_304(name));
    let mut all = HeaderMap::new();
    for (name, value) in kept {
        all.append(name.clone(), value.clone());
    }
    all
}

/// RFC 9110 §8.6.
fn may_have_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}
