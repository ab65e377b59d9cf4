//! A budget of tries: so many at once, and so many a second. Pure: the time is handed in.

use super::clock::Millis;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Budget {
    burst: u32,
    per_second: u32,
    /// Thousandths of a try.
    left: u64,
    counted: Millis,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst,
            per_second,
            left: u64::from(burst) * 1000,
            counted: 0,
        }
    }

    /// Other bounds. What is left is kept.
    pub(crate) fn adjust(&mut self, burst: u32, per_second: u32) {
        (self.burst, self.per_second) = (burst, per_second);
    }

    /// Takes a try, if there is one left.
    pub(crate) fn take(&mut self, now: Millis) -> bool {
        let passed = now.saturating_sub(self.counted);
        let grown = passed.saturating_mul(self.per_second.into());
        self.left = self
            .left
            .saturating_add(grown)
            .min(u64::from(self.burst) * 1000);
        self.counted = self.counted.max(now);
        let taken = self.left >= 1000;
        if taken {
            self.left -= 1000;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn over_any_time_no_more_are_taken_than_the_burst_and_the_rate_allow(
            burst in 0..20_u32, per_second in 0..50_u32,
            pauses in prop::collection::vec(0..500_u64, 1..200),
        ) {
            let mut budget = Budget::new(burst, per_second);
            let (begin, mut taken) = (1_800_000_000_000, 0);
            let mut now = begin;
            for pause in pauses {
                now += pause;
                taken += u64::from(budget.take(now));
                let allowed = u64::from(burst) + (now - begin) * u64::from(per_second) / 1000;
                prop_assert!(taken <= allowed);
            }
            let full = now + 1_000_000;
            let at_once = (0..100).filter(|_| budget.take(full)).count();
            let whole = if per_second == 0 { at_once } else { burst as usize };
            prop_assert_eq!(at_once, whole);
        }
    }
}
