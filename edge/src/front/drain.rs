//! How many connections are open, and the end of them all.
//!
//! [`Drain::begin`] is called once, at shutdown, or [`Drain::hand_over`], when another process serves
//! on. Connections hear of it, finish what they have in
//! flight, take nothing new, and close; [`Drain::finished`] waits for the last one.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::metrics::{Metrics, Shed};

/// Once the end has begun, a connection that waits for a request has this long: one may be on its
/// way, and a client that sees its connection closed instead may not try again.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The shared state; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Drain {
    begun: Arc<watch::Sender<bool>>,
    /// Somebody else serves on.
    handed_over: Arc<AtomicBool>,
    open: Arc<watch::Sender<usize>>,
    most: Arc<AtomicUsize>,
    gauge: IntGauge,
    shed: IntCounter,
}

/// One open connection; dropping it is its end.
pub(crate) struct Open(Drain);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.gauge.dec();
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Drain {
    /// At most `most` connections.
    pub(crate) fn new(most: usize, metrics: &Metrics) -> Drain {
        Drain {
            begun: Arc::new(watch::Sender::new(false)),
            handed_over: Arc::default(),
            open: Arc::new(watch::Sender::new(0)),
            most: Arc::new(AtomicUsize::new(most)),
            gauge: metrics.connections_open.clone(),
            shed: metrics.shed(Shed::All),
        }
    }

    /// From now on at most `most`; those that are open stay.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Counts a connection; `None` if there are too many.
    pub(crate) fn enter(&self) -> Option<Open> {
        let most = self.most.load(Ordering::Relaxed);
        let entered = self.open.send_if_modified(|open| {
            let room = *open < most;
            *open += usize::from(room);
            room
        });
        if !entered {
            self.shed.inc();
            return None;
        }
        self.gauge.inc();
        Some(Open(self.clone()))
    }

    /// Starts the end.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Starts the end of this process: another one serves on.
    pub(crate) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Relaxed);
        self.begin();
    }

    /// Whether this node goes down, and not only this process.
    pub(crate) fn is_going_down(&self) -> bool {
        self.has_begun() && !self.handed_over.load(Ordering::Relaxed)
    }

    /// Waits until nothing new may be asked for.
    pub(crate) async fn last_call(&self) {
        self.begun().await;
        sleep(LAST_CALL).await;
    }

    /// Whether the end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits for the end to begin.
    pub(crate) async fn begun(&self) {
        wait(&self.begun, |begun| *begun).await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn finished(&self) {
        wait(&self.open, |open| *open == 0).await;
    }
}

async fn wait<T>(sender: &watch::Sender<T>, holds: impl FnMut(&T) -> bool) {
    if sender.subscribe().wait_for(holds).await.is_err() {
        // The sender lives as long as `sender` is borrowed.
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[tokio::test]
    async fn the_last_connection_ends_it() {
        let drain = Drain::new(2, &Metrics::new(&Registry::new()));
        let (first, second) = (drain.enter().unwrap(), drain.enter().unwrap());
        assert!(drain.enter().is_none(), "a third is one too many");
        drain.begin();
        drain.begun().await;
        assert!(drain.has_begun());
        drop(first);
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
