//! The engine's time: milliseconds since the Unix epoch that never run backwards.
//!
//! Stored times must survive a restart, so they are wall-clock times; freshness must not jump when
//! somebody sets the clock, so the wall clock is read once and monotonic time added to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = u64;

/// A duration in the clock's unit.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where the engine reads the time.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Millis,
    /// None: the time stands still but for what [`Clock::advance`] adds.
    running: Option<Instant>,
    added: AtomicU64,
}

impl Clock {
    /// A clock that goes on from the system's time.
    pub(crate) fn system() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: millis(since),
            running: Some(Instant::now()),
            added: AtomicU64::new(0),
        }
    }

    /// A clock that only its owner moves.
    #[cfg(test)]
    pub(crate) fn standing(at: Millis) -> Self {
        Self {
            started: at,
            running: None,
            added: AtomicU64::new(0),
        }
    }

    /// Moves the time on.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        self.added.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// The time.
    pub(crate) fn now(&self) -> Millis {
        let ran = self.running.map_or(0, |since| millis(since.elapsed()));
        self.started + ran + self.added.load(Ordering::Relaxed)
    }
}
