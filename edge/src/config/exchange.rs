//! What the sections `origin` and `http` bound alike: talking to an origin.
//!
//! Each section has these keys among its own (one flattened into the other could no longer refuse unknown
//! keys), and shows them as an [`Exchange`], which is judged and used in one way.

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use tokio::sync::Semaphore;

use super::{BreakerConfig, claims, nest};
use crate::backoff::Backoff;
use crate::origin::gate::Bounds;

/// See the module; the keys are those of `OriginConfig` and `HttpConfig`.
pub(crate) struct Exchange<'a> {
    pub(crate) connect_timeout: Period,
    pub(crate) first_byte_timeout: Period,
    pub(crate) stall_timeout: Period,
    pub(crate) total_timeout: Period,
    pub(crate) idle_timeout: Period,
    pub(crate) suspicion: Period,
    pub(crate) suspicion_max: Period,
    pub(crate) requests: usize,
    pub(crate) relays: usize,
    pub(crate) queue: usize,
    pub(crate) queue_wait: Period,
    pub(crate) breaker: &'a BreakerConfig,
}

impl Exchange<'_> {
    /// How much goes to the origin at once.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            requests: self.requests,
            relays: self.relays,
            queue: self.queue,
            queue_wait: self.queue_wait.get(),
            breaker: self.breaker.rules(),
        }
    }

    /// For how long an address is avoided.
    pub(crate) fn suspicion(&self) -> Backoff {
        Backoff {
            first: self.suspicion.get(),
            longest: self.suspicion_max.get(),
        }
    }

    /// What is wrong; keys are relative to the section.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        nest("breaker", self.breaker.problems(), &mut problems);
        let mut claim = claims(&mut problems);
        let periods = [
            ("connect_timeout", self.connect_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("stall_timeout", self.stall_timeout),
            ("total_timeout", self.total_timeout),
            ("idle_timeout", self.idle_timeout),
            ("queue_wait", self.queue_wait),
            ("suspicion", self.suspicion),
        ];
        for (key, period) in periods {
            claim(!period.is_zero(), key, "must be above zero");
        }
        for (key, places) in [("requests", self.requests), ("relays", self.relays)] {
            let possible = (1..=Semaphore::MAX_PERMITS).contains(&places);
            claim(possible, key, "must be at least 1");
        }
        claim(
            self.suspicion <= self.suspicion_max,
            "suspicion",
            "must not be above suspicion_max",
        );
        drop(claim);
        problems
    }
}
