//! Byte ranges (RFC 9110 §14): one range per request, of bodies whose length may not be known yet.
//!
//! A server may ignore any `Range` (§14.2), so whatever isn't exactly one well-formed range of
//! bytes — several ranges, other units, numbers beyond 64 bits — gets the whole body. `end` is
//! exclusive everywhere here; the wire's inclusive last position stays in this module.

use http::HeaderValue;

/// What a `Range` header asks for, before the body's length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `bytes=FIRST-LAST`, both inclusive; `first <= last`.
    FromTo {
        /// The first position.
        first: u64,
        /// The last position; may lie behind the body's end.
        last: u64,
    },
    /// `bytes=FIRST-`.
    From {
        /// The first position.
        first: u64,
    },
    /// `bytes=-LENGTH`: the last `length` bytes.
    Suffix {
        /// How many bytes; 0 can't be satisfied.
        length: u64,
    },
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// 200 with the whole body.
    Full,
    /// 206 with the bytes `start..end`, which are not empty.
    Part {
        /// The first byte's position.
        start: u64,
        /// The position behind the last byte.
        end: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// What a 206's `Content-Range` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte's position.
    pub start: u64,
    /// The position behind the last byte.
    pub end: u64,
    /// The whole body's length, where the sender knows it.
    pub len: Option<u64>,
}

/// What `header` asks of a body of `len` bytes.
pub fn resolve(header: Option<&HeaderValue>, len: u64) -> RangeOutcome {
    parse(header).map_or(RangeOutcome::Full, |spec| spec.resolve(len))
}

/// The one range that `header` asks for; `None` means the whole body.
pub fn parse(header: Option<&HeaderValue>) -> Option<RangeSpec> {
    let (unit, range) = header?.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    match range.split_once('-')? {
        ("", length) => Some(RangeSpec::Suffix {
            length: position(length)?,
        }),
        (first, "") => Some(RangeSpec::From {
            first: position(first)?,
        }),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(RangeSpec::FromTo { first, last })
        }
    }
}

impl RangeSpec {
    /// What to answer from a body of `len` bytes.
    pub fn resolve(self, len: u64) -> RangeOutcome {
        let (start, end) = match self {
            Self::FromTo { first, last } => (first, last.saturating_add(1).min(len)),
            Self::From { first } => (first, len),
            Self::Suffix { length: 0 } => return RangeOutcome::Unsatisfiable,
            // All of nothing: a 206 could not say so.
            Self::Suffix { .. } if len == 0 => return RangeOutcome::Full,
            Self::Suffix { length } => (len.saturating_sub(length), len),
        };
        if start >= len {
            return RangeOutcome::Unsatisfiable;
        }
        RangeOutcome::Part { start, end }
    }
}

impl ContentRange {
    /// Parses `bytes FIRST-LAST/LENGTH` or `bytes FIRST-LAST/*`. `None` if it is anything else or
    /// contradicts itself; what came with it can't be used then.
    pub fn parse(header: &HeaderValue) -> Option<Self> {
        let (unit, range) = header.to_str().ok()?.split_once(' ')?;
        let (positions, len) = range.split_once('/')?;
        let (first, last) = positions.split_once('-')?;
        let (start, end) = (position(first)?, position(last)?.checked_add(1)?);
        let len = if len == "*" {
            None
        } else {
            Some(position(len)?)
        };
        let sound =
            unit.eq_ignore_ascii_case("bytes") && start < end && len.is_none_or(|l| end <= l);
        sound.then_some(Self { start, end, len })
    }

    /// The header's value. An empty range can't be written: `start < end` must hold.
    pub fn to_header(self) -> HeaderValue {
        let (first, last) = (self.start, self.end.saturating_sub(1));
        let text = match self.len {
            Some(len) => format!("bytes {first}-{last}/{len}"),
            None => format!("bytes {first}-{last}/*"),
        };
        ascii(text)
    }
}

/// The `Content-Range` of a 416: how long the body is.
pub fn unsatisfied(len: u64) -> HeaderValue {
    ascii(format!("bytes */{len}"))
}

/// `1*DIGIT` that fits 64 bits; no sign, no space.
fn position(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

#[cfg(test)]
mod tests {
    use super::{RangeOutcome::*, *};

    fn answer(header: &str, len: u64) -> RangeOutcome {
        let header = HeaderValue::from_str(header).expect("a header value");
        resolve(Some(&header), len)
    }

    #[test]
    fn one_range_is_served() {
        let cases = [
            ("bytes=0-0", 10, Part { start: 0, end: 1 }),
            ("bytes=0-9", 10, Part { start: 0, end: 10 }),
            ("bytes=2-4", 10, Part { start: 2, end: 5 }),
            ("bytes=9-9", 10, Part { start: 9, end: 10 }),
            ("bytes=2-400", 10, Part { start: 2, end: 10 }),
            (
                "bytes=2-18446744073709551615",
                10,
                Part { start: 2, end: 10 },
            ),
            ("bytes=0-", 10, Part { start: 0, end: 10 }),
            ("bytes=9-", 10, Part { start: 9, end: 10 }),
            ("bytes=-1", 10, Part { start: 9, end: 10 }),
            ("bytes=-10", 10, Part { start: 0, end: 10 }),
            ("bytes=-11", 10, Part { start: 0, end: 10 }),
            ("bytes=007-008", 10, Part { start: 7, end: 9 }),
            ("Bytes=1-2", 10, Part { start: 1, end: 3 }),
        ];
        for (header, len, want) in cases {
            assert_eq!(answer(header, len), want, "{header}");
        }
    }

    #[test]
    fn a_range_behind_the_end_is_unsatisfiable() {
        for (header, len) in [
            ("bytes=10-", 10),
            ("bytes=10-11", 10),
            ("bytes=18446744073709551615-", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=0-0", 0),
            ("bytes=-0", 0),
        ] {
            assert_eq!(answer(header, len), Unsatisfiable, "{header} of {len}");
        }
    }

    #[test]
    fn anything_else_gets_the_whole_body() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=--1",
            "bytes=1",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "bytes=,0-1",
            "bytes= 0-1",
            "bytes =0-1",
            "bytes=0 -1",
            "bytes=0- 1",
            "bytes=0-1 ",
            "bytes=+0-1",
            "bytes=0-+1",
            "bytes=-+1",
            "bytes=0x0-1",
            "bytes=0-1-2",
            "items=0-1",
            "bytes:0-1",
            "bytes=18446744073709551616-",
            "bytes=0-18446744073709551616",
            "bytes=-18446744073709551616",
            "bytes=99999999999999999999999999999999999-",
        ] {
            assert_eq!(answer(header, 10), Full, "{header}");
        }
        assert_eq!(answer("bytes=-1", 0), Full);
        assert_eq!(resolve(None, 10), Full);
        let not_text = HeaderValue::from_bytes(b"bytes=0-\xff").expect("a header value");
        assert_eq!(resolve(Some(&not_text), 10), Full);
    }

    #[test]
    fn a_spec_waits_for_the_length() {
        let header = HeaderValue::from_static("bytes=5-");
        let spec = parse(Some(&header)).expect("a range");
        assert_eq!(spec, RangeSpec::From { first: 5 });
        assert_eq!(spec.resolve(5), Unsatisfiable);
        assert_eq!(spec.resolve(6), Part { start: 5, end: 6 });
        assert_eq!(parse(None), None);
    }

    #[test]
    fn content_ranges_print_as_they_parse() {
        for (text, start, end, len) in [
            ("bytes 0-0/1", 0, 1, Some(1)),
            ("bytes 5-9/100", 5, 10, Some(100)),
            ("bytes 5-9/*", 5, 10, None),
        ] {
            let range = ContentRange { start, end, len };
            assert_eq!(range.to_header(), text);
            assert_eq!(
                ContentRange::parse(&HeaderValue::from_static(text)),
                Some(range)
            );
        }
        assert_eq!(unsatisfied(100), "bytes */100");
    }

    #[test]
    fn contradictory_content_ranges_are_refused() {
        for text in [
            "",
            "bytes",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes */10",
            "bytes 5-/10",
            "bytes -5/10",
            "bytes 0-1",
            "bytes 0-1/",
            "bytes 0-1/x",
            "bytes=0-1/2",
            "items 0-1/2",
            "bytes  0-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes +0-1/2",
            "bytes 0-1/2/3",
        ] {
            assert_eq!(
                ContentRange::parse(&HeaderValue::from_static(text)),
                None,
                "{text}"
            );
        }
    }
}
