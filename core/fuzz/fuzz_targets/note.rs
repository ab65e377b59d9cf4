//! No bytes make a note, a key or a tree head panic; a note opens only if the pinned key's owner
//! signed it, which no fuzzer can.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_core::sumdb::tree::TreeHead;
use modcdn_core::sumdb::{SUM_GOLANG_ORG, VerifierKey};

fuzz_target!(|bytes: &[u8]| {
    let pinned: VerifierKey = SUM_GOLANG_ORG.parse().expect("the pinned key");
    assert!(pinned.open(bytes).is_err());
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(head) = TreeHead::parse(text) {
        assert_eq!(TreeHead::parse(&head.to_string()), Some(head));
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse::<VerifierKey>(), Ok(key));
    }
});
