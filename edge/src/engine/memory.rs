//! The bound on what running fills hold in RAM.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;

/// Bytes that all running fills share.
#[derive(Debug)]
pub(crate) struct Memory {
    used: AtomicU64,
    limit: u64,
    gauge: IntGauge,
}

impl Memory {
    pub(crate) fn new(limit: u64, gauge: IntGauge) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit,
            gauge,
        }
    }

    /// Takes bytes if there are any left.
    pub(crate) fn try_reserve(&self, bytes: u64) -> bool {
        let within = |used: u64| Some(used + bytes).filter(|sum| *sum <= self.limit);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok();
        self.show();
        taken
    }

    /// Takes bytes in any case: for what is small and must be in RAM.
    pub(crate) fn reserve(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// Gives bytes back.
    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        let used = self.used.load(Ordering::Relaxed);
        self.gauge.set(i64::try_from(used).unwrap_or(i64::MAX));
    }
}
