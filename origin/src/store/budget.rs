//! How many bytes the bodies being fetched may take on disk, together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::IntGauge;
use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::metrics::Metrics;

/// A bound shared by the spools of all trees.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
    gauge: IntGauge,
    /// A permit a part of a body that is uploaded, in memory.
    parts: Arc<OnceLock<Arc<Semaphore>>>,
}

/// Bytes taken from a budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    taken: u64,
}

impl Budget {
    fn new(limit: u64, gauge: IntGauge) -> Self {
        Self {
            used: Arc::default(),
            limit,
            gauge,
            parts: Arc::default(),
        }
    }

    /// The places in memory for parts that are uploaded; so many, if nobody asked before.
    pub(crate) fn parts(&self, places: usize) -> Arc<Semaphore> {
        let made = || Arc::new(Semaphore::new(places));
        self.parts.get_or_init(made).clone()
    }

    /// The origin's one budget for spools.
    pub(crate) fn of(limits: &Limits, metrics: &Metrics) -> Self {
        Self::new(limits.spool.as_u64(), metrics.spool_bytes.clone())
    }

    /// For work that fetches nothing.
    pub(crate) fn unbounded() -> Self {
        let gauge = IntGauge::new("spool", "spool").expect("a metric's name");
        Self::new(u64::MAX, gauge)
    }

    /// A share of that many bytes; `None` if they aren't left.
    pub(crate) fn take(&self, bytes: u64) -> Option<Share> {
        let mut share = Share {
            budget: self.clone(),
            taken: 0,
        };
        share.grow_to(bytes).then_some(share)
    }
}

impl Share {
    /// Takes more, if the share is smaller than that; false if it isn't left.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.taken);
        let limit = self.budget.limit;
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= limit);
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok();
        if taken {
            self.taken += more;
            self.budget.gauge.add(more.cast_signed());
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
        self.budget.gauge.sub(self.taken.cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_given_back() {
        let budget = Budget::new(10, IntGauge::new("x", "x").unwrap());
        let mut a = budget.take(4).unwrap();
        assert!(budget.take(7).is_none());
        let b = budget.take(6).unwrap();
        assert!(!a.grow_to(5));
        drop(b);
        assert!(a.grow_to(10));
        drop(a);
        assert!(budget.take(10).is_some());
    }
}
