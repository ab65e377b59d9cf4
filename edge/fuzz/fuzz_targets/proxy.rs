//! No bytes in front of a connection panic; a header lies within them, and what follows it doesn't
//! change it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_edge::proxy::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(Parsed::Header { length, client }) => {
            assert!(length <= bytes.len());
            let alone = parse(&bytes[..length]);
            assert_eq!(alone, Ok(Parsed::Header { length, client }));
            // Before its last byte it was incomplete, never another header.
            let cut = parse(&bytes[..length - 1]);
            assert!(matches!(cut, Ok(Parsed::Incomplete(1))), "{cut:?}");
        }
        Ok(Parsed::Incomplete(more)) => assert!(more > 0),
        Err(_) => {}
    }
});
