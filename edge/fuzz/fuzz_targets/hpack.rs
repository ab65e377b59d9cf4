//! No bytes of header blocks panic, none cost more memory than was announced, and what is decoded of
//! them has one reading.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_edge::invariants;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    invariants::hpack(bytes, usize::from(cut).max(1));
});
