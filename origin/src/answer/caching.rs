//! What caches may do with an answer.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use modcdn_core::goproxy::{Request, SumDb, SumDbCall};

use crate::config::Freshness;

/// Takes the leave to keep it from all caches but the asker's.
pub(super) fn make_private(headers: &mut HeaderMap) {
    let control = headers
        .get(CACHE_CONTROL)
        .and_then(|value| value.to_str().ok());
    let rest = control.and_then(|control| control.strip_prefix("public"));
    if let Some(rest) = rest {
        let control = HeaderValue::try_from(format!("private{rest}"));
        headers.insert(CACHE_CONTROL, control.expect("it was a value before"));
    }
}

/// What caches may do with an answer.
pub(super) fn cache_control(
    request: &Request,
    freshness: &Freshness,
    settled: bool,
) -> HeaderValue {
    if request.is_immutable() && settled {
        return HeaderValue::from_static("public, max-age=31536000, immutable");
    }
    let seconds = freshness.lifetime(request).as_secs();
    if request.is_immutable() {
        let text = format!("public, max-age={seconds}");
        return HeaderValue::try_from(text).expect("digits are visible ASCII");
    }
    let is_tile = matches!(
        request,
        Request::SumDb(SumDb {
            call: SumDbCall::Tile(_),
            ..
        })
    );
    let text = if is_tile {
        // A partial tile never changes either, but its full one replaces it some day.
        format!("public, max-age={seconds}")
    } else {
        format!(
            "public, max-age={seconds}, stale-while-revalidate={}, stale-if-error={}",
            freshness.stale_while_revalidate.as_secs(),
            freshness.stale_if_error.as_secs()
        )
    };
    HeaderValue::try_from(text).expect("digits are visible ASCII")
}
