//! The bound on what running fills hold in RAM.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;

/// Bytes that all running fills share.
#[derive(Debug)]
pub(crate) struct Memory {
    used: AtomicU64,
    limit: AtomicU64,
    gauge: IntGauge,
}

impl Memory {
    pub(crate) fn new(limit: u64, gauge: IntGauge) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            gauge,
        }
    }

    /// Takes bytes if there are any left.
    pub(crate) fn try_reserve(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let within = |used: u64| Some(used + bytes).filter(|sum| *sum <= limit);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .is_ok();
        self.show();
        taken
    }

    /// Another limit. What is taken beyond it stays taken.
    pub(crate) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes bytes in any case: for what is small and must be in RAM.
    pub(crate) fn reserve(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// Sets bytes aside for one body, if there are so many left.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        self.try_reserve(bytes).then(|| Held {
            memory: self.clone(),
            left: bytes,
        })
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

/// Bytes set aside; what was not drawn is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Arc<Memory>,
    left: u64,
}

impl Held {
    /// Takes bytes out, which are the caller's to release; false if there aren't so many.
    pub(crate) fn draw(&mut self, bytes: u64) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.release(self.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_nobody_elses_until_it_is_given_back() {
        let gauge = IntGauge::new("bytes", "bytes").unwrap();
        let memory = Arc::new(Memory::new(100, gauge.clone()));
        let mut held = memory.hold(80).unwrap();
        assert!(!memory.try_reserve(30) && memory.hold(30).is_none());
        assert!(held.draw(50) && !held.draw(40));
        drop(held);
        assert_eq!(gauge.get(), 50, "what was drawn stays taken");
        memory.release(50);
        assert!(memory.try_reserve(100));
        memory.set_limit(100);
        assert!(!memory.try_reserve(1));
        memory.set_limit(101);
        assert!(memory.try_reserve(1));
    }
}
