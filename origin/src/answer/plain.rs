//! Answers of the origin's own: refusals, short texts, lines of JSON.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use modcdn_core::prefer::PREFERENCE_APPLIED;
use modcdn_core::refusal::{Reason, Refusal};

use super::Body;
use crate::config::Freshness;

/// Turns a refusal into its response.
pub(crate) fn refuse(refusal: &Refusal, freshness: &Freshness, method: &Method) -> Response<Body> {
    let text = refusal.text();
    let mut response = Response::new(empty());
    *response.status_mut() = refusal.reason.status();
    *response.headers_mut() = refusal.headers(freshness.not_found.get());
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    if refusal.reason == Reason::Unauthorized {
        let bearer = HeaderValue::from_static("Bearer realm=\"modcdn\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    if refusal.reason == Reason::Method {
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
    }
    if method != Method::HEAD {
        *response.body_mut() = full(text);
    }
    response
}

/// A short text of our own, never cached.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer isn't here yet, and its asker wanted to hear that.
pub(crate) fn at_work() -> Response<Body> {
    let text = "the origin is still at work on this: ask again\n";
    let mut response = plain(StatusCode::ACCEPTED, text);
    let applied = HeaderValue::from_static("respond-async");
    response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    response
}

/// Lines of JSON of our own, never cached.
pub(crate) fn lines(lines: String, method: &Method) -> Response<Body> {
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    let lines_of_json = HeaderValue::from_static("application/x-ndjson");
    headers.insert(CONTENT_TYPE, lines_of_json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(lines.len()));
    if method != Method::HEAD {
        *response.body_mut() = full(lines.into());
    }
    response
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
