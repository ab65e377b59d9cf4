//! So many calls a minute, with as many saved up as come in six seconds. Pure.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// See the module.
#[derive(Debug)]
pub(super) struct Rate {
    per_call: Duration,
    most: Duration,
    /// Up to when everything is used up.
    used: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(per_minute: u32) -> Self {
        let per_call = Duration::from_secs(60) / per_minute.max(1);
        Self {
            per_call,
            most: per_call * (per_minute / 10).max(1),
            used: Mutex::default(),
        }
    }

    /// Whether there may be one more call now.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut used = self.used.lock();
        let next = used.map_or(now, |used| used.max(now)) + self.per_call;
        if next > now + self.most {
            return false;
        }
        *used = Some(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_one_at_a_time() {
        let rate = Rate::new(60);
        let start = Instant::now();
        assert_eq!((0..20).filter(|_| rate.take(start)).count(), 6);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..20).filter(|_| rate.take(later)).count(), 2);
        let rare = Rate::new(1);
        assert_eq!((0..9).filter(|_| rare.take(start)).count(), 1);
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_so_many_in_a_minute(
            per_minute in 1u32..500,
            pauses in prop::collection::vec(0u64..2000, 0..300),
        ) {
            let rate = Rate::new(per_minute);
            let start = Instant::now();
            let (mut now, mut taken) = (start, Vec::new());
            for pause in pauses {
                now += Duration::from_millis(pause);
                if rate.take(now) {
                    taken.push(now);
                }
            }
            let burst = (per_minute / 10).max(1) as usize;
            for (at, first) in taken.iter().enumerate() {
                let minute = taken[at..].iter().take_while(|t| **t < *first + Duration::from_secs(60));
                prop_assert!(minute.count() <= per_minute as usize + burst);
            }
        }
    }
}
