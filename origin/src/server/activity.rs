//! What goes on on one connection, so that one on which nothing goes on can be closed.
//!
//! Three states: no request under way (idle), an answer being made (the origin's own limits bound
//! that), an answer ready that the client doesn't take (stalled). On HTTP/2 one moving stream
//! keeps the connection: a stalled one beside it costs a window's worth of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// Answers being made: heads, and next pieces of bodies.
    making: AtomicUsize,
    /// Bodies not yet over.
    bodies: AtomicUsize,
    /// Milliseconds from `opened` to the last thing that happened.
    last: AtomicU64,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// Nothing is under way for too long: close it in order.
    Idle,
    /// The client takes nothing for too long: drop it.
    Stalled,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            making: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        })
    }

    /// An answer's head is being made until the guard is dropped.
    pub(crate) fn making(self: &Arc<Self>) -> Making {
        self.touch();
        self.making.fetch_add(1, Ordering::Relaxed);
        Making(self.clone())
    }

    /// A body is being sent until the guard is dropped.
    pub(crate) fn sending(self: &Arc<Self>) -> Sending {
        self.touch();
        self.bodies.fetch_add(1, Ordering::Relaxed);
        Sending {
            activity: self.clone(),
            making: None,
        }
    }

    /// Judges by the two limits.
    pub(crate) fn verdict(&self, idle: Duration, stall: Duration) -> Verdict {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        let quiet = self.opened.elapsed().saturating_sub(last);
        if self.making.load(Ordering::Relaxed) > 0 {
            Verdict::Keep
        } else if self.bodies.load(Ordering::Relaxed) > 0 {
            if quiet > stall {
                Verdict::Stalled
            } else {
                Verdict::Keep
            }
        } else if quiet > idle {
            Verdict::Idle
        } else {
            Verdict::Keep
        }
    }

    fn touch(&self) {
        let since = self.opened.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }
}

/// See [`Activity::making`].
#[derive(Debug)]
pub(crate) struct Making(Arc<Activity>);

impl Drop for Making {
    fn drop(&mut self) {
        self.0.touch();
        self.0.making.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Activity::sending`].
#[derive(Debug)]
pub(crate) struct Sending {
    activity: Arc<Activity>,
    making: Option<Making>,
}

impl Sending {
    /// The connection asks for the next piece, which is being made from now on.
    pub(crate) fn asked(&mut self) {
        if self.making.is_none() {
            self.making = Some(self.activity.making());
        }
    }

    /// The piece is there; now it is the client's turn.
    pub(crate) fn given(&mut self) {
        self.making = None;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.activity.touch();
        self.activity.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(3600);

    /// An activity whose last event lies back.
    fn quiet() -> Arc<Activity> {
        let activity = Activity::new();
        Arc::new(Activity {
            opened: activity
                .opened
                .checked_sub(Duration::from_secs(60))
                .unwrap(),
            making: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        })
    }

    #[test]
    fn without_requests_a_connection_is_idle_at_last() {
        assert_eq!(quiet().verdict(NOW, NOW), Verdict::Idle);
        assert_eq!(quiet().verdict(LATER, NOW), Verdict::Keep);
    }

    #[test]
    fn an_answer_in_the_making_is_not_the_clients_fault() {
        let activity = quiet();
        let making = activity.making();
        activity.last.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(NOW, NOW), Verdict::Keep);
        drop(making);
        activity.last.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(NOW, NOW), Verdict::Idle);
    }

    #[test]
    fn a_client_that_takes_nothing_is_stalled() {
        let activity = quiet();
        let mut sending = activity.sending();
        sending.asked();
        activity.last.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(NOW, NOW), Verdict::Keep);
        sending.given();
        activity.last.store(0, Ordering::Relaxed);
        assert_eq!(activity.verdict(NOW, NOW), Verdict::Stalled);
        assert_eq!(activity.verdict(NOW, LATER), Verdict::Keep);
    }
}
