//! No bytes make the reader of go.mod files panic, and what it reads makes sense.

#![no_main]

use libfuzzer_sys::fuzz_target;
use modcdn_core::gomod::Notices;

fuzz_target!(|bytes: &[u8]| {
    let Ok(notices) = Notices::parse(bytes) else {
        return;
    };
    for retraction in &notices.retractions {
        let in_order = retraction.low.cmp_precedence(&retraction.high).is_le();
        assert_eq!(retraction.means(&retraction.low), in_order);
        assert_eq!(retraction.means(&retraction.high), in_order);
    }
});
