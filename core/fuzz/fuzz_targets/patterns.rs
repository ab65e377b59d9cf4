//! No pattern panics or takes long, and each prints as it is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_core::goproxy::{ModulePath, Pattern};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, module) = input;
    let Ok(pattern) = pattern.parse::<Pattern>() else {
        return;
    };
    assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern));
    if let Ok(module) = module.parse::<ModulePath>() {
        let _ = pattern.matches(&module);
    }
});
