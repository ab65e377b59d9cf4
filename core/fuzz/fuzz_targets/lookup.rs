//! No answer of a checksum database panics; what is read of one prints as it was, and its hashes
//! stand in its text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::sumdb::record::{self, Lookup};
use modcdn_core::sumdb::tree::{self, HASH_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let hashes = [0; 2 * HASH_BYTES];
    assert!(!tree::are_records(bytes, &hashes));
    if let Some(first) = tree::first_records(bytes, 2) {
        assert!(bytes.starts_with(first) && first.ends_with(b"\n\n"));
    }
    let Some(lookup) = Lookup::parse(bytes) else {
        return;
    };
    assert_eq!(lookup.with_note(lookup.note), bytes);
    let module: ModulePath = "a.b".parse().expect("a module path");
    let version: Version = "v1.0.0".parse().expect("a version");
    if let Ok((zip, go_mod)) = record::hashes(lookup.record, &module, &version) {
        assert!(lookup.record.contains(&format!("a.b v1.0.0 {zip}\n")));
        assert!(lookup.record.contains(&format!("a.b v1.0.0/go.mod {go_mod}\n")));
    }
});
