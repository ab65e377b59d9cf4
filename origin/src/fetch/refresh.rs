//! Refreshes answers in the background: those that are asked for before they are stale, and those that
//! are said to have changed at once.
//!
//! One task for all mounts, that waits for what is due next. So many refreshes run at once; what comes
//! later waits, and grows stale at worst, when whoever asks sees to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Shared;
use crate::metrics::Metrics;
use crate::mounts::Mounts;
use crate::store::mutable::Memory;
use crate::store::mutable::memory::Due;

/// See the module.
pub(crate) struct Refresher {
    mounts: Arc<Mounts>,
    memory: Arc<Memory>,
    metrics: Metrics,
    /// What was asked for within this time is worth it.
    ahead: Duration,
    places: Arc<Semaphore>,
}

impl Refresher {
    pub(crate) fn new(mounts: Arc<Mounts>, shared: &Shared) -> Self {
        Self {
            mounts,
            memory: shared.memory.clone(),
            metrics: shared.metrics.clone(),
            ahead: shared.freshness.ahead.get(),
            places: Arc::new(Semaphore::new(shared.limits.refreshes)),
        }
    }

    /// Runs until the origin is told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.run_on() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn run_on(&self) {
        // It is closed by nobody.
        while let Ok(place) = self.places.clone().acquire_owned().await {
            let due = self.memory.due().await;
            self.refresh(&due, place);
        }
    }

    fn refresh(&self, due: &Due, place: OwnedSemaphorePermit) {
        let cause = match due.changed {
            Some(_) => "changed",
            None if due.asked.elapsed() <= self.ahead => "ahead",
            None => return self.memory.rest(&due.key),
        };
        // Keys are made of requests.
        let Ok((engine, request)) = self.mounts.find(&due.key) else {
            return;
        };
        let (engine, refreshes) = (engine.clone(), self.metrics.refreshes.clone());
        tokio::spawn(async move {
            let outcome = engine.refresh(&request).await;
            let labels = [cause, outcome.name()];
            refreshes.with_label_values(&labels).inc();
            drop(place);
        });
    }
}
