//! Nothing that a repository's server says panics the reader of branches and tags, and no name that it
//! lets through can be taken for anything else.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| modcdn_origin::git::invariants::refs(text));
