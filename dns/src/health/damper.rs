//! How often a PoP has fallen of late, as route flap damping counts it (RFC 2439): each fall adds one
//! to a figure that halves with time.

use std::time::{Duration, Instant};

/// When a PoP counts as flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// The fall, of those that are remembered, with which it stays down; 0: none.
    pub falls: u32,
    /// Time in which half of them is forgotten. It may come back when half of `falls` is left.
    pub half_life: Duration,
}

/// The falls of one PoP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Damper {
    falls: f64,
    at: Instant,
    suppressed: bool,
}

impl Damper {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            falls: 0.0,
            at: now,
            suppressed: false,
        }
    }

    /// It fell.
    pub(super) fn fell(&mut self, damping: Damping, now: Instant) {
        self.decay(damping, now);
        self.falls += 1.0;
        self.suppressed |= damping.falls > 0 && self.falls > f64::from(damping.falls - 1);
    }

    /// Whether it must stay down for now.
    pub(super) fn suppresses(&mut self, damping: Damping, now: Instant) -> bool {
        self.decay(damping, now);
        self.suppressed &= damping.falls > 0 && self.falls > f64::from(damping.falls) / 2.0;
        self.suppressed
    }

    fn decay(&mut self, damping: Damping, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let half_life = damping.half_life.as_secs_f64().max(f64::MIN_POSITIVE);
        self.falls *= (-passed / half_life).exp2();
        self.at = self.at.max(now);
    }
}
