//! No `Range` or `Content-Range` header panics, and a part always lies within the body.

#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use modcdn_core::range::{self, ContentRange, RangeOutcome};

fuzz_target!(|input: (&[u8], u64)| {
    let (bytes, len) = input;
    let Ok(header) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    if let RangeOutcome::Part { start, end } = range::resolve(Some(&header), len) {
        assert!(start < end && end <= len);
        let part = ContentRange {
            start,
            end,
            len: Some(len),
        };
        assert_eq!(ContentRange::parse(&part.to_header()), Some(part));
    }
    if let Some(range) = ContentRange::parse(&header) {
        assert!(range.start < range.end && range.len.is_none_or(|len| range.end <= len));
        assert_eq!(ContentRange::parse(&range.to_header()), Some(range));
    }
});
