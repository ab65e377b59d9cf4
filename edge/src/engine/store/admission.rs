//! Whether the disk takes anything at present.
//!
//! A write that the disk refused (full, read-only, failing) stops admission for a pause; the next
//! body after it tries again. Meanwhile everything stored is served, and everything else comes
//! from the origin.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::engine::clock::{Clock, Millis};
use crate::engine::metrics::EngineMetrics;

/// The state of admission.
pub(super) struct Admission {
    clock: Arc<Clock>,
    metrics: Arc<EngineMetrics>,
    pause: Millis,
    /// 0: all is well. Otherwise no write is tried before this time.
    until: AtomicU64,
    why: Mutex<String>,
    /// Another process has the store.
    retired: AtomicBool,
}

impl Admission {
    pub(super) fn new(clock: Arc<Clock>, metrics: Arc<EngineMetrics>, pause: Millis) -> Self {
        Self {
            clock,
            metrics,
            pause,
            until: AtomicU64::new(0),
            why: Mutex::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// Whether a write may be tried.
    pub(super) fn is_open(&self) -> bool {
        !self.is_retired() && self.clock.now() >= self.until.load(Ordering::Relaxed)
    }

    /// Why nothing is admitted, if so: until a write succeeds, not only during the pause.
    pub(super) fn stopped(&self) -> Option<String> {
        if self.is_retired() {
            return Some("another process has the store".to_owned());
        }
        (self.until.load(Ordering::Relaxed) != 0).then(|| self.why.lock().clone())
    }

    /// Closes it for good.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether it is closed for good.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// A write failed. (Once the store is another's, none is meant to succeed.)
    pub(super) fn failed(&self, error: &io::Error) {
        if self.is_retired() {
            return;
        }
        self.metrics.write_errors.inc();
        self.metrics.admission_stopped.set(1);
        *self.why.lock() = error.to_string();
        let before = self
            .until
            .swap(self.clock.now() + self.pause, Ordering::Relaxed);
        if before == 0 {
            tracing::error!(%error, "disk refused a write, nothing is stored until it takes one");
        }
    }

    /// A write succeeded.
    pub(super) fn succeeded(&self) {
        if self.until.load(Ordering::Relaxed) != 0 {
            self.until.store(0, Ordering::Relaxed);
            self.metrics.admission_stopped.set(0);
            tracing::info!("the disk takes writes again, storing goes on");
        }
    }
}
