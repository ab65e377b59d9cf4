//! Which part of a body answers a request: conditions and ranges (RFC 9110 §13 and §14). Pure.

use http::HeaderValue;

use modcdn_core::range::{self, RangeOutcome, RangeSpec};

use crate::exchange::Asked;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// 200, all of it.
    Full,
    /// 206, these bytes (the end exclusive), which are not none.
    Part {
        /// First byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
    },
    /// 304.
    NotModified,
    /// 416.
    Unsatisfiable,
}

/// Selects from a body of `size` bytes; `etag` is None while its digest isn't known.
pub(crate) fn select(asked: &Asked, etag: Option<&HeaderValue>, size: u64) -> Selected {
    if not_modified(asked, etag) {
        return Selected::NotModified;
    }
    // Ranges are defined for GET only (RFC 9110 §14.2).
    if asked.head || !range_holds(asked, etag) {
        return Selected::Full;
    }
    match range::resolve(asked.range.as_ref(), size) {
        RangeOutcome::Full => Selected::Full,
        RangeOutcome::Part { start, end } => Selected::Part { start, end },
        RangeOutcome::Unsatisfiable => Selected::Unsatisfiable,
    }
}

/// The part that is asked for, if that can be said while neither length nor digest of the body are
/// known: a range with both its ends, and no condition. A body that turns out to be shorter has to
/// be asked anew.
pub(crate) fn select_early(asked: &Asked) -> Option<Selected> {
    if asked.head || asked.if_range.is_some() || asked.if_none_match.is_some() {
        return None;
    }
    let RangeSpec::FromTo { first, last } = range::parse(asked.range.as_ref())? else {
        return None;
    };
    let end = last.checked_add(1)?;
    Some(Selected::Part { start: first, end })
}

/// Whether the client has this body already: `If-None-Match`, compared weakly.
pub(crate) fn not_modified(asked: &Asked, etag: Option<&HeaderValue>) -> bool {
    let (Some(tags), Some(etag)) = (&asked.if_none_match, etag) else {
        return false;
    };
    let (Ok(tags), Ok(etag)) = (tags.to_str(), etag.to_str()) else {
        return false;
    };
    // Our tags have no commas, so a tag that has one can't be ours.
    tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag) == opaque(etag))
}

fn opaque(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Whether a range may be sent: `If-Range` is absent or the very body, compared strongly. A date
/// never is: we have none that is strong.
fn range_holds(asked: &Asked, etag: Option<&HeaderValue>) -> bool {
    asked.if_range.as_ref().is_none_or(|tag| Some(tag) == etag)
}

#[cfg(test)]
mod tests {
    use modcdn_core::goproxy::{Prefix, Request};

    use super::*;

    fn asked(range: &str, if_range: &str, if_none_match: &str) -> Asked {
        let field = |text: &str| (!text.is_empty()).then(|| HeaderValue::from_str(text).unwrap());
        let request = Request::parse("/example.com/m/@v/v1.0.0.zip").unwrap();
        Asked {
            range: field(range),
            if_range: field(if_range),
            if_none_match: field(if_none_match),
            ..Asked::get(&Prefix::root(), request)
        }
    }

    #[test]
    fn conditions_come_before_ranges() {
        let etag = HeaderValue::from_static("\"e\"");
        let part = Selected::Part { start: 0, end: 5 };
        let table = [
            ("", "", "", Selected::Full),
            ("", "", "\"e\"", Selected::NotModified),
            ("", "", "\"x\", W/\"e\"", Selected::NotModified),
            ("", "", "*", Selected::NotModified),
            ("", "", "\"x\"", Selected::Full),
            ("bytes=0-4", "", "", part),
            ("bytes=0-4", "", "\"e\"", Selected::NotModified),
            ("bytes=0-4", "\"e\"", "", part),
            ("bytes=0-4", "\"x\"", "", Selected::Full),
            ("bytes=0-4", "W/\"e\"", "", Selected::Full),
            (
                "bytes=0-4",
                "Sat, 01 Jan 2028 00:00:00 GMT",
                "",
                Selected::Full,
            ),
            ("bytes=10-", "", "", Selected::Unsatisfiable),
            ("bytes=0-1,3-4", "", "", Selected::Full),
        ];
        for (range, if_range, if_none_match, expected) in table {
            let asked = asked(range, if_range, if_none_match);
            let name = format!("{range:?} {if_range:?} {if_none_match:?}");
            assert_eq!(select(&asked, Some(&etag), 10), expected, "{name}");
        }
    }

    #[test]
    fn a_body_without_a_digest_matches_nothing() {
        assert_eq!(select(&asked("", "", "*"), None, 10), Selected::Full);
        assert_eq!(
            select(&asked("bytes=0-4", "\"spool-1\"", ""), None, 10),
            Selected::Full
        );
    }

    #[test]
    fn head_knows_no_ranges() {
        let asked = Asked {
            head: true,
            ..asked("bytes=0-4", "", "")
        };
        assert_eq!(select(&asked, None, 10), Selected::Full);
    }
}
