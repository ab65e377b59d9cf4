//! No page panics the reader of `go-import` tags, and what it reads is well-formed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|page: &str| modcdn_origin::git::invariants::page(page));
