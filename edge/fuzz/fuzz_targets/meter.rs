//! However the bytes of an HTTP/2 client are cut, the meter finds the same, and never panics.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use modcdn_edge::config::FrameConfig;
use modcdn_edge::meter::Meter;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let bounds = FrameConfig {
        pings: 2,
        settings: 2,
        resets: 2,
        empty: 2,
        ..FrameConfig::default()
    };
    let now = Instant::now();
    let mut whole = Meter::new(bounds.clone());
    let expected = whole.received(bytes, || now);
    let mut pieces = Meter::new(bounds);
    let mut got = Ok(());
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        got = pieces.received(piece, || now);
    }
    assert_eq!(got, expected);
});
