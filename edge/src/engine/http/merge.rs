//! What a later header does to a stored one (RFC 9111 §3.2, §4.3.4, §4.3.5). Pure.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, VIA,
};
use http::{HeaderMap, HeaderName};

use super::directives::{ResponseControl, Scope};
use super::fields::{length, single};
use crate::engine::store::entry::Headers;

/// Fields that tell how the stored bytes are to be read: those of the stored answer stay.
const OF_THE_BYTES: [HeaderName; 3] = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE];

/// The stored fields with those of a 304, or of a `HEAD`, in their place: every field that the
/// update has replaces all lines of that name.
pub(super) fn merged(stored: &Headers, update: &HeaderMap) -> HeaderMap {
    let mut merged = HeaderMap::with_capacity(stored.iter().len());
    for (name, value) in stored.iter() {
        let stays = OF_THE_BYTES.contains(name) || !update.contains_key(name);
        if stays {
            merged.append(name.clone(), value.clone());
        }
    }
    for (name, value) in update {
        if !OF_THE_BYTES.contains(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged
}

/// Parts a header in what is stored and what may be stored only without (RFC 9111 §5.2.2.4,
/// §5.2.2.7): that belongs to the one who asked. What follows from the stored answer is in neither.
pub(super) fn withhold(headers: &HeaderMap, control: &ResponseControl) -> (HeaderMap, HeaderMap) {
    let scopes = [&control.no_cache, &control.private];
    let named = scopes.into_iter().filter_map(|scope| match scope {
        Scope::Fields(names) => Some(names),
        Scope::None | Scope::All => None,
    });
    let named: Vec<&HeaderName> = named.flatten().collect();
    let (mut kept, mut withheld) = (HeaderMap::with_capacity(headers.len()), HeaderMap::new());
    for (name, value) in headers {
        if named.contains(&name) {
            withheld.append(name.clone(), value.clone());
        } else if name != CONTENT_LENGTH && name != AGE {
            kept.append(name.clone(), value.clone());
        }
    }
    (kept, withheld)
}

/// Whether the answer to a `HEAD` is about the stored answer to a `GET` (RFC 9111 §4.3.5): what it
/// says of length and validators is what is stored.
pub(super) fn is_same(stored: &Headers, size: u64, head: &HeaderMap) -> bool {
    let agrees = |name| match single(head, name) {
        Some(value) => single(stored, name) == Some(value),
        None => true,
    };
    length(head).is_none_or(|length| length == size) && agrees(&ETAG) && agrees(&LAST_MODIFIED)
}

/// Fields that a 304 carries beside those about caching (RFC 9110 §15.4.5): none that describe the
/// content.
pub(super) fn belongs_to_304(name: &HeaderName) -> bool {
    const KEPT: [&str; 10] = [
        "cache-control",
        "cdn-cache-control",
        "content-location",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
        "age",
        "cache-status",
    ];
    *name == VIA || KEPT.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::fields::testing::header;
    use super::*;

    fn stored(text: &str) -> Headers {
        Headers::all(&header(text))
    }

    /// RFC 9111 §3.2.
    #[test]
    fn an_update_replaces_every_line_of_its_fields_but_those_of_the_bytes() {
        let old = stored(
            "A: 1
             A: 2
             B: 3
             Content-Type: text/plain
             Content-Encoding: gzip
             ETag: \"a\"",
        );
        let update = header(
            "A: 9
             C: 4
             Content-Type: text/html
             Content-Encoding: br
             Content-Length: 0
             Content-Range: bytes 0-1/2",
        );
        let expected = header(
            "B: 3
             Content-Encoding: gzip
             ETag: \"a\"
             A: 9
             C: 4
             Content-Type: text/html",
        );
        assert_eq!(merged(&old, &update), expected);
    }

    /// RFC 9111 §5.2.2.4, §5.2.2.7.
    #[test]
    fn fields_that_are_not_for_others_are_taken_out() {
        let headers = header(
            "Set-Cookie: a
             Set-Cookie: b
             X-User: me
             X-Kept: 1
             Content-Length: 3
             Age: 7
             Cache-Control: no-cache=\"set-cookie\", private=\"x-user, x-none\"",
        );
        let control = ResponseControl::of(&headers);
        let (kept, withheld) = withhold(&headers, &control);
        assert_eq!(withheld, header("Set-Cookie: a\nSet-Cookie: b\nX-User: me"));
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-kept", "cache-control"]);
    }

    /// RFC 9111 §4.3.5.
    #[test]
    fn a_head_that_differs_is_of_another_answer() {
        let held = stored("ETag: \"a\"\nLast-Modified: x");
        for (head, expected) in [
            ("", true),
            ("Content-Length: 5", true),
            ("Content-Length: 6", false),
            ("ETag: \"a\"\nContent-Length: 5", true),
            ("ETag: \"b\"", false),
            ("Last-Modified: y", false),
        ] {
            assert_eq!(is_same(&held, 5, &header(head)), expected, "{head:?}");
        }
    }
}
