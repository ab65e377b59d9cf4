//! How long a dead node waits before it is started again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A node that was healthy for this long starts over with [`FIRST`].
const HEALTHY: Duration = Duration::from_secs(60);

/// Waits that double: 1, 2, 4, 8, 16, 30, 30 … seconds.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Nothing has died yet.
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after a death of a node that was ready for `healthy` before.
    pub(crate) fn after(&mut self, healthy: Duration) -> Duration {
        if healthy >= HEALTHY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = Backoff::new();
        let waits = [(); 8].map(|()| backoff.after(Duration::ZERO).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_healthy_minute_starts_over() {
        let mut backoff = Backoff::new();
        for _ in 0..5 {
            backoff.after(Duration::from_secs(59));
        }
        assert_eq!(backoff.after(Duration::from_secs(60)).as_secs(), 1);
        assert_eq!(backoff.after(Duration::ZERO).as_secs(), 2);
    }
}
