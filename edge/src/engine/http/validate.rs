//! Conditions: those of clients, answered from what is stored, and our own towards the origin
//! (RFC 9110 §13, RFC 9111 §4.3). Pure.

use http::header::{
    ACCEPT_RANGES, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use modcdn_core::range::{self, RangeOutcome};

use super::fields::{Fields, all_members, date, single};
use crate::engine::announced::Validator;
use crate::engine::select::Selected;

/// Conditions that only the origin can evaluate (RFC 9111 §4.3.2): such a request is passed on.
const FOR_THE_ORIGIN: [HeaderName; 2] = [IF_MATCH, IF_UNMODIFIED_SINCE];

/// Conditions that we evaluate, and replace by our own when we ask.
const OURS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE];

/// Whether a request makes its answer depend on what only the origin knows.
pub(super) fn is_for_the_origin(request: &HeaderMap) -> bool {
    FOR_THE_ORIGIN.iter().any(|name| request.contains_key(name))
}

/// Whether a request asks for something else than the whole answer.
pub(super) fn is_plain(request: &HeaderMap) -> bool {
    !OURS.iter().any(|name| request.contains_key(name))
}

/// What a request asks when its answer is to be stored: all of it, if it isn't what `stale` is.
pub(super) fn ours(request: &HeaderMap, stale: Option<&impl Fields>) -> HeaderMap {
    let mut asks = request.clone();
    for name in &OURS {
        asks.remove(name);
    }
    let Some(stale) = stale else { return asks };
    for (stored, condition) in [(&ETAG, IF_NONE_MATCH), (&LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = single(stale, stored) {
            asks.insert(condition, value.clone());
        }
    }
    asks
}

/// Whether a stored answer can be confirmed at all.
pub(super) fn has_validator(stored: &impl Fields) -> bool {
    single(stored, &ETAG).is_some() || single(stored, &LAST_MODIFIED).is_some()
}

/// Whether a 304 is about this stored answer: what validators it has must be the stored ones
/// (RFC 9111 §4.3.4).
pub(super) fn confirms(stored: &impl Fields, update: &HeaderMap) -> bool {
    if let Some(tag) = update.get(ETAG) {
        let held = single(stored, &ETAG);
        return held.is_some_and(|held| match is_strong(tag) {
            true => held == tag,
            false => opaque(held) == opaque(tag),
        });
    }
    let modified = update.get(LAST_MODIFIED);
    modified.is_none_or(|modified| single(stored, &LAST_MODIFIED) == Some(modified))
}

/// What of a stored answer goes to the client (RFC 9110 §13.2.2, RFC 9111 §4.3.2). `size`: None
/// while it isn't known, then ranges are ignored, as any server may do (RFC 9110 §14.2).
pub(super) fn select(
    head: bool,
    request: &HeaderMap,
    status: StatusCode,
    stored: &impl Fields,
    size: Option<u64>,
) -> Selected {
    if !status.is_success() {
        return Selected::Full;
    }
    if is_unchanged(request, stored) {
        return Selected::NotModified;
    }
    let rangeable = !head && status == StatusCode::OK;
    let Some(size) = size.filter(|_| rangeable && range_holds(request, stored)) else {
        return Selected::Full;
    };
    match range::resolve(single(request, &RANGE), size) {
        RangeOutcome::Full => Selected::Full,
        RangeOutcome::Part { start, end } => Selected::Part { start, end },
        RangeOutcome::Unsatisfiable => Selected::Unsatisfiable,
    }
}

/// Whether the client has the stored answer already.
fn is_unchanged(request: &HeaderMap, stored: &impl Fields) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return none_match_fails(request, stored);
    }
    let Some(since) = single(request, &IF_MODIFIED_SINCE).and_then(date) else {
        return false;
    };
    // Without a Last-Modified the time of the answer itself counts (RFC 9111 §4.3.2).
    let modified = single(stored, &LAST_MODIFIED).or_else(|| single(stored, &DATE));
    modified
        .and_then(date)
        .is_some_and(|modified| modified <= since)
}

/// `If-None-Match` holds the stored entity tag, compared weakly (RFC 9110 §13.1.2).
fn none_match_fails(request: &HeaderMap, stored: &impl Fields) -> bool {
    let Some(tags) = all_members(request, &IF_NONE_MATCH) else {
        return false;
    };
    if tags == ["*"] {
        return true;
    }
    let held = single(stored, &ETAG).and_then(|held| opaque(held));
    held.is_some_and(|held| tags.iter().any(|tag| strip(tag) == held))
}

/// Whether a range may be sent (RFC 9110 §13.1.5): `If-Range` is absent, or the very answer by a
/// strong comparison; a date is strong if the answer was made at least a second after it.
fn range_holds(request: &HeaderMap, stored: &impl Fields) -> bool {
    if !request.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = single(request, &IF_RANGE) else {
        return false;
    };
    if condition.as_bytes().contains(&b'"') {
        return is_strong(condition) && single(stored, &ETAG) == Some(condition);
    }
    strong_date(stored).is_some_and(|modified| date(condition) == Some(modified))
}

/// `Last-Modified` in seconds, if it is a strong validator (RFC 9110 §8.8.2.2): the answer was made at
/// least a second after it.
fn strong_date(response: &impl Fields) -> Option<u64> {
    let at = |name| single(response, name).and_then(date);
    let (dated, modified) = at(&DATE).zip(at(&LAST_MODIFIED))?;
    (modified < dated).then_some(modified)
}

/// What a stored body is continued with if it breaks off: a strong entity tag, or where there is none
/// at all, a date that is strong (RFC 9110 §13.1.5). None also if the origin knows no ranges.
pub(super) fn to_continue(status: StatusCode, response: &HeaderMap) -> Option<Validator> {
    let units = all_members(response, &ACCEPT_RANGES).unwrap_or_default();
    let rangeable = units.is_empty() || units.iter().any(|unit| unit.eq_ignore_ascii_case("bytes"));
    if status != StatusCode::OK || !rangeable {
        return None;
    }
    let name = match single(response, &ETAG) {
        Some(tag) if is_strong(tag) => ETAG,
        None if !response.contains_key(ETAG) && strong_date(response).is_some() => LAST_MODIFIED,
        _ => return None,
    };
    let value = response.get(&name)?.clone();
    Some(Validator {
        value,
        again: Some(name),
    })
}

fn is_strong(tag: &HeaderValue) -> bool {
    tag.as_bytes().starts_with(b"\"")
}

fn opaque(tag: &HeaderValue) -> Option<&str> {
    tag.to_str().ok().map(strip)
}

fn strip(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::super::fields::testing::header;
    use super::*;

    const STORED: &str = "ETag: \"a\"
        Last-Modified: Fri, 15 Jan 2027 08:00:00 GMT
        Date: Fri, 15 Jan 2027 09:00:00 GMT";

    fn selected(asked: &str, stored: &str) -> Selected {
        select(
            false,
            &header(asked),
            StatusCode::OK,
            &header(stored),
            Some(10),
        )
    }

    /// RFC 9110 §13.2.2: the order; §13.1.2: the weak comparison.
    #[test]
    fn a_client_that_has_it_is_told_so() {
        use Selected::{Full, NotModified};
        let table = [
            ("If-None-Match: \"a\"", NotModified),
            ("If-None-Match: W/\"a\"", NotModified),
            ("If-None-Match: \"x\", \"a\"", NotModified),
            ("If-None-Match: \"x\"\nIf-None-Match: \"a\"", NotModified),
            ("If-None-Match: *", NotModified),
            ("If-None-Match: \"x\"", Full),
            ("If-None-Match: a", Full),
            (
                "If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",
                NotModified,
            ),
            (
                "If-Modified-Since: Fri, 15 Jan 2027 08:00:01 GMT",
                NotModified,
            ),
            ("If-Modified-Since: Fri, 15 Jan 2027 07:59:59 GMT", Full),
            ("If-Modified-Since: soon", Full),
            (
                "If-None-Match: \"x\"\nIf-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",
                Full,
            ),
            ("If-None-Match: \"a\"\nRange: bytes=0-1", NotModified),
        ];
        for (asked, expected) in table {
            assert_eq!(selected(asked, STORED), expected, "{asked:?}");
        }
    }

    /// RFC 9111 §4.3.2.
    #[test]
    fn without_a_last_modified_the_date_counts() {
        let stored = "Date: Fri, 15 Jan 2027 08:00:00 GMT";
        let at = |time| {
            selected(
                &format!("If-Modified-Since: Fri, 15 Jan 2027 {time} GMT"),
                stored,
            )
        };
        assert_eq!(at("08:00:00"), Selected::NotModified);
        assert_eq!(at("07:59:59"), Selected::Full);
        assert_eq!(selected("If-None-Match: *", stored), Selected::NotModified);
    }

    /// RFC 9110 §13.2.1: conditions are for answers that would be good.
    #[test]
    fn conditions_of_an_error_are_ignored() {
        let of = |status| {
            let request = header("If-None-Match: *\nRange: bytes=0-1");
            select(false, &request, status, &header(STORED), Some(10))
        };
        assert_eq!(of(StatusCode::NOT_FOUND), Selected::Full);
        assert_eq!(of(StatusCode::FOUND), Selected::Full);
    }

    /// RFC 9110 §13.1.5 and §14.
    #[test]
    fn ranges_are_cut_if_they_are_of_the_stored_answer() {
        let part = |start, end| Selected::Part { start, end };
        let table = [
            ("Range: bytes=2-4", part(2, 5)),
            ("Range: bytes=8-", part(8, 10)),
            ("Range: bytes=-3", part(7, 10)),
            ("Range: bytes=5-99", part(5, 10)),
            ("Range: bytes=10-", Selected::Unsatisfiable),
            ("Range: bytes=0-1,4-5", Selected::Full),
            ("Range: bytes=4-2", Selected::Full),
            ("Range: lines=0-1", Selected::Full),
            ("Range: bytes=0-1\nRange: bytes=4-5", Selected::Full),
            ("Range: bytes=0-1\nIf-Range: \"a\"", part(0, 2)),
            ("Range: bytes=0-1\nIf-Range: \"x\"", Selected::Full),
            ("Range: bytes=0-1\nIf-Range: W/\"a\"", Selected::Full),
            (
                "Range: bytes=0-1\nIf-Range: Fri, 15 Jan 2027 08:00:00 GMT",
                part(0, 2),
            ),
            (
                "Range: bytes=0-1\nIf-Range: Fri, 15 Jan 2027 08:00:01 GMT",
                Selected::Full,
            ),
            ("Range: bytes=10-\nIf-Range: \"x\"", Selected::Full),
        ];
        for (asked, expected) in table {
            assert_eq!(selected(asked, STORED), expected, "{asked:?}");
        }
        let weak = "ETag: W/\"a\"\nDate: Fri, 15 Jan 2027 08:00:00 GMT
            Last-Modified: Fri, 15 Jan 2027 08:00:00 GMT";
        let date = "Range: bytes=0-1\nIf-Range: Fri, 15 Jan 2027 08:00:00 GMT";
        assert_eq!(selected(date, weak), Selected::Full, "a weak date");
        assert_eq!(
            selected("Range: bytes=0-1\nIf-Range: W/\"a\"", weak),
            Selected::Full
        );
        let request = header("Range: bytes=0-1");
        let head = select(true, &request, StatusCode::OK, &header(STORED), Some(10));
        assert_eq!(head, Selected::Full, "ranges are of GET only");
        let unknown = select(false, &request, StatusCode::OK, &header(STORED), None);
        assert_eq!(unknown, Selected::Full, "the length is not known yet");
    }

    /// RFC 9111 §4.3.1.
    #[test]
    fn we_ask_with_what_is_stored_not_with_what_the_client_has() {
        let request = header("If-None-Match: \"x\"\nRange: bytes=0-1\nIf-Range: \"x\"\nAccept: a");
        assert_eq!(ours(&request, None::<&HeaderMap>), header("Accept: a"));
        let expected = header(
            "Accept: a
             If-None-Match: \"a\"
             If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",
        );
        assert_eq!(ours(&request, Some(&header(STORED))), expected);
        assert!(!is_plain(&request) && is_plain(&header("Accept: a")));
        assert!(is_for_the_origin(&header("If-Match: \"a\"")));
        assert!(!is_for_the_origin(&request));
    }

    /// RFC 9110 §8.8.2.2, §13.1.5.
    #[test]
    fn only_a_strong_validator_continues_a_body() {
        let early = "Last-Modified: Fri, 15 Jan 2027 08:00:00 GMT";
        let later = "Date: Fri, 15 Jan 2027 08:00:01 GMT";
        let same = "Date: Fri, 15 Jan 2027 08:00:00 GMT";
        let with = |status, fields: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            to_continue(status, &header(fields)).and_then(|found| found.again)
        };
        let table = [
            ("ETag: \"a\"".to_owned(), Some(ETAG)),
            ("ETag: \"a\"\nAccept-Ranges: Bytes".to_owned(), Some(ETAG)),
            ("ETag: \"a\"\nAccept-Ranges: none".to_owned(), None),
            ("ETag: W/\"a\"".to_owned(), None),
            (format!("ETag: W/\"a\"\n{early}\n{later}"), None),
            ("ETag: \"a\"\nETag: \"b\"".to_owned(), None),
            (format!("{early}\n{later}"), Some(LAST_MODIFIED)),
            (format!("{early}\n{same}"), None),
            (early.to_owned(), None),
            (String::new(), None),
        ];
        for (fields, expected) in table {
            assert_eq!(with(200, &fields), expected, "{fields:?}");
        }
        assert_eq!(with(404, "ETag: \"a\""), None);
    }

    /// RFC 9111 §4.3.4.
    #[test]
    fn a_304_confirms_only_what_has_its_validators() {
        let table = [
            ("", true),
            ("ETag: \"a\"", true),
            ("ETag: W/\"a\"", true),
            ("ETag: \"b\"", false),
            ("ETag: W/\"b\"", false),
            ("Last-Modified: Fri, 15 Jan 2027 08:00:00 GMT", true),
            ("Last-Modified: Fri, 15 Jan 2027 08:00:01 GMT", false),
        ];
        for (update, expected) in table {
            assert_eq!(
                confirms(&header(STORED), &header(update)),
                expected,
                "{update:?}"
            );
        }
        let weak = header("ETag: W/\"a\"");
        assert!(
            !confirms(&weak, &header("ETag: \"a\"")),
            "a strong one is not the weak one"
        );
        assert!(confirms(&weak, &weak));
        assert!(!confirms(&header("X: 1"), &weak));
    }
}
