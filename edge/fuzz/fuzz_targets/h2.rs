//! However the bytes of an HTTP/2 client are cut, a connection makes the same of them, and never
//! panics or grows without bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_edge::invariants::h2;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    h2(bytes, usize::from(cut));
});
