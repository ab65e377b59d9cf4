//! Which body a provisional entity tag named.
//!
//! Someone who got part of a growing body comes back for the rest with its provisional tag, maybe
//! after the commit. The tags of the last commits of this run are remembered; an older one is
//! merely unknown, and its holder gets the whole body.

use std::collections::{HashMap, VecDeque};

use modcdn_core::digest::Sha256;
use parking_lot::Mutex;

use crate::store::sum::Sum;

/// How many are remembered, about 150 bytes each.
const MAX_REMEMBERED: usize = 50_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Provisional(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    digests: HashMap<String, Sha256>,
    order: VecDeque<String>,
}

impl Provisional {
    /// A body that grew under this name was committed.
    pub(crate) fn put(&self, id: &str, sum: Sum) {
        let mut remembered = self.0.lock();
        remembered.digests.insert(id.to_owned(), sum.digest);
        remembered.order.push_back(id.to_owned());
        if remembered.order.len() > MAX_REMEMBERED
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.digests.remove(&oldest);
        }
    }

    /// Whether the tag's content is a name under which this body grew.
    pub(crate) fn names(&self, id: &str, digest: Sha256) -> bool {
        self.0.lock().digests.get(id) == Some(&digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let provisional = Provisional::default();
        let sum = Sum::of(b"x");
        for n in 0..=MAX_REMEMBERED {
            provisional.put(&n.to_string(), sum);
        }
        assert!(!provisional.names("0", sum.digest));
        assert!(provisional.names("1", sum.digest));
        assert!(!provisional.names("1", Sha256::of(b"y")));
    }
}
