//! No bytes on a disk panic the store's decoder, and damage never makes a record that wasn't written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_edge::invariants;

fuzz_target!(|input: (&[u8], Vec<(u16, u8)>)| {
    let (bytes, flips) = input;
    invariants::journal(bytes, &flips);
});
