//! How long to wait before the next try. Pure: chance is handed in.

use std::time::Duration;

/// Pauses that double, up to a longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Before the first try that follows a failure.
    pub(crate) first: Duration,
    /// No pause is longer.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause after `failures` failures in a row, of which the first is number 1. `chance`, from
    /// 0 to 1, takes up to half of it away, so that many who failed at once don't try at once.
    pub(crate) fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self
            .first
            .saturating_mul(1 << doublings)
            .min(self.longest.max(self.first));
        whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Chance, from 0 to 1.
pub(crate) fn chance() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_stay_in_their_bounds_and_lose_at_most_half(
            failures in 1..u32::MAX, first in 0..10_000_u64, longest in 0..100_000_u64,
            chance in 0.0..1.0,
        ) {
            let backoff = Backoff {
                first: Duration::from_millis(first),
                longest: Duration::from_millis(longest),
            };
            let (whole, pause) = (backoff.pause(failures, 0.0), backoff.pause(failures, chance));
            prop_assert!(whole >= backoff.first && whole <= backoff.longest.max(backoff.first));
            prop_assert!(backoff.pause(failures.saturating_add(1), 0.0) >= whole);
            prop_assert!(pause <= whole && pause >= whole.mul_f64(0.4999));
        }
    }
}
