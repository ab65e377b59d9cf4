//! Whether the checksum database is worth asking just now. The clock is handed in.
//!
//! A database that doesn't answer costs whoever waits for it its whole timeout, and one of the places
//! for fetches. After [`FAILURES`] failures one after the other it rests: everybody is told so at once,
//! but for one asker a rest, who finds out whether it is back.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many failures one after the other make it rest.
const FAILURES: u32 = 3;

/// See the module.
pub(super) struct Health {
    rest: Duration,
    failed: Mutex<Option<Failed>>,
}

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Health {
    pub(super) fn new(rest: Duration) -> Self {
        Self {
            rest,
            failed: Mutex::default(),
        }
    }

    /// Whether someone who needs an answer may ask. If that was the one asker of a rest, the others
    /// wait for another one.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        let mut failed = self.failed.lock();
        match &mut *failed {
            Some(failed) if failed.times >= FAILURES => {
                let rested = now.duration_since(failed.last) >= self.rest;
                if rested {
                    failed.last = now;
                }
                rested
            }
            _ => true,
        }
    }

    /// Whether someone may ask who can do without: not right after a failure.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        let failed = *self.failed.lock();
        failed.is_none_or(|failed| now.duration_since(failed.last) >= self.rest)
    }

    /// How asking ended.
    pub(super) fn heed(&self, answered: bool, now: Instant) {
        let mut failed = self.failed.lock();
        let times = failed.map_or(0, |failed| failed.times);
        *failed = (!answered).then_some(Failed {
            times: times.saturating_add(1),
            last: now,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(10);

    #[test]
    fn one_failure_rests_only_those_who_can_do_without() {
        let (health, start) = (Health::new(REST), Instant::now());
        assert!(health.may_ask(start) && health.is_good(start));
        health.heed(false, start);
        assert!(health.may_ask(start) && !health.is_good(start));
        assert!(health.is_good(start + REST));
        health.heed(true, start);
        assert!(health.is_good(start));
    }

    #[test]
    fn after_some_failures_one_asker_a_rest_finds_out() {
        let (health, start) = (Health::new(REST), Instant::now());
        for _ in 0..FAILURES {
            assert!(health.may_ask(start));
            health.heed(false, start);
        }
        assert!(!health.may_ask(start + REST / 2));
        assert!(health.may_ask(start + REST));
        assert!(!health.may_ask(start + REST));
        health.heed(false, start + REST);
        assert!(!health.may_ask(start + REST * 3 / 2));
        assert!(health.may_ask(start + REST * 2));
        health.heed(true, start + REST * 2);
        assert!(health.may_ask(start + REST * 2) && health.may_ask(start + REST * 2));
    }
}
