//! The slowest that a client may take an answer.
//!
//! Only the time counts in which the client keeps us waiting: an origin that is slow costs him
//! nothing. He has a grace period, which is used up by taking less than `limits.send_rate` and
//! earned back, never beyond its length, by taking more. So a stall of less than the grace is
//! forgiven again and again, and a trickle is not, for HTTP/1 and HTTP/2 alike.
//!
//! Pure: times are handed in.

use std::time::Duration;

/// How one answer is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Bytes a second; never 0.
    rate: u64,
    grace: Duration,
    /// What is left of the grace.
    left: Duration,
}

impl Pace {
    /// At least `rate` bytes a second, after `grace`.
    pub(crate) fn new(rate: u64, grace: Duration) -> Pace {
        Pace {
            rate: rate.max(1),
            grace,
            left: grace,
        }
    }

    /// How long the client may take for the next `bytes`.
    pub(crate) fn limit(&self, bytes: usize) -> Duration {
        self.left.saturating_add(self.fair(bytes))
    }

    /// He has taken them within `took`.
    pub(crate) fn took(&mut self, bytes: usize, took: Duration) {
        let limit = self.limit(bytes);
        self.left = limit.saturating_sub(took).min(self.grace);
    }

    /// What `bytes` take at the lowest rate.
    fn fair(&self, bytes: usize) -> Duration {
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stall_is_forgiven_and_a_trickle_is_not() {
        let mut pace = Pace::new(1000, 10 * SECOND);
        for _ in 0..100 {
            assert!(pace.limit(10) > 9 * SECOND, "a stall of nine seconds");
            pace.took(10, 9 * SECOND);
            pace.took(100_000, SECOND);
        }
        let mut seconds = 0;
        while pace.limit(100) >= SECOND {
            pace.took(100, SECOND);
            seconds += 1;
        }
        assert!((10..13).contains(&seconds), "{seconds}");
    }

    #[test]
    fn what_was_taken_fast_is_no_credit_for_later() {
        let mut pace = Pace::new(1000, 10 * SECOND);
        pace.took(1 << 30, SECOND);
        assert_eq!(pace.limit(1000), 11 * SECOND);
    }

    proptest! {
        /// Whoever keeps the rate is never too slow; whoever stays below it by half is, soon.
        #[test]
        fn the_rate_decides(
            rate in 1_u64..1_000_000,
            grace in 1_u64..100,
            pieces in prop::collection::vec(1_usize..200_000, 1..100),
        ) {
            let grace = Duration::from_secs(grace);
            let mut pace = Pace::new(rate, grace);
            let mut slow = Pace::new(rate, grace);
            let (mut late, mut lost) = (false, Duration::ZERO);
            for bytes in pieces {
                let fair = pace.fair(bytes);
                prop_assert!(fair <= pace.limit(bytes));
                pace.took(bytes, fair);
                lost += fair;
                late |= 2 * fair > slow.limit(bytes);
                slow.took(bytes, 2 * fair);
            }
            prop_assert_eq!(late, lost > grace);
        }
    }
}
