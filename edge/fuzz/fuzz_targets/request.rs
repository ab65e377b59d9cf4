//! No bytes of an HTTP/1.1 request panic, and what is accepted of them has one reading.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_edge::invariants;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    invariants::request(bytes, usize::from(cut).max(1));
});
