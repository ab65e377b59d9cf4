//! Parsing a request path never panics; what parses prints to a fixed point within the grammar.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_core::goproxy::{MAX_PATH, Request};

fuzz_target!(|raw: &str| {
    let Ok(request) = Request::parse(raw) else {
        return;
    };
    let path = request.path();
    assert!(path.len() <= raw.len() && path.len() <= MAX_PATH);
    assert!(is_canonical(&path), "{path:?}");
    assert_eq!(Request::parse(&path), Ok(request.clone()), "{path:?}");
    assert!(request.tree_path().is_none_or(|tree| path[1..] == tree));
    if let Some(module) = request.module() {
        assert_eq!(module.as_str().parse().as_ref(), Ok(module));
    }
    if let Some(version) = request.version() {
        assert!(version.cmp(version).is_eq());
        assert!(!version.is_pseudo() || version.is_prerelease());
    }
});

fn is_canonical(path: &str) -> bool {
    let safe =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/!@.~_+-$&(),=".contains(&b);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        if !(safe(byte) || byte == b'%' && hex(bytes.next()) && hex(bytes.next())) {
            return false;
        }
    }
    path.starts_with('/')
        && ["//", "..", "!!", "/./"]
            .iter()
            .all(|bad| !path.contains(bad))
}
