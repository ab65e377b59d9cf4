//! Retention in a running origin.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::run::{Event, Run};
use super::used::Uses;
use crate::config::{Mount, Retention};
use crate::disk;
use crate::metrics::Metrics;
use crate::store::shelf::Shelf;
use crate::upkeep::pace::Pace;

/// How often uses are written down.
const FLUSH: Duration = Duration::from_secs(60);

/// How long a fresh origin is left alone at least.
const SETTLE: Duration = Duration::from_secs(5 * 60);

/// Runs now and then until the origin goes down; writes down uses meanwhile.
pub(crate) async fn keep_up(
    mount: Mount,
    retention: Retention,
    shelf: Arc<dyn Shelf>,
    uses: Arc<Uses>,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
) {
    let run = Run {
        shelf,
        uses: uses.clone(),
        pace: Arc::new(Pace::new(Some(u64::from(retention.files_per_second)))),
        mount,
        retention,
        dry: false,
    };
    let runs = async {
        if !run.retention.is_bounded() {
            return std::future::pending().await;
        }
        let interval = run.retention.interval.get();
        let mut next = Instant::now() + interval.min(SETTLE);
        loop {
            sleep_until(next).await;
            go(&run, &metrics).await;
            next = Instant::now() + jittered(interval);
        }
    };
    let flushes = async {
        loop {
            tokio::time::sleep(FLUSH).await;
            flush(&uses).await;
        }
    };
    tokio::select! {
        () = runs => {}
        () = flushes => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    flush(&uses).await;
}

/// Give or take a tenth: mounts and origins don't fall into step.
fn jittered(interval: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(()) % 1000;
    interval.mul_f64(0.9 + random as f64 / 5000.0)
}

async fn go(run: &Run, metrics: &Metrics) {
    let mount = run.mount.prefix.to_string();
    let mut tell = |event: Event| match event {
        Event::Removed(removal) => {
            let why = removal.why.name();
            tracing::info!(
                module = removal.module.as_str(),
                version = removal.version.as_str(),
                why,
                bytes = removal.bytes,
                "removed from the store"
            );
            metrics.removed.with_label_values(&[why]).inc();
            metrics.removed_bytes.inc_by(removal.bytes);
        }
        Event::Failed(removal, error) => {
            tracing::warn!(
                module = removal.module.as_str(),
                version = removal.version.as_str(),
                error,
                "can't be removed from the store"
            );
            metrics.store_errors.with_label_values(&["remove"]).inc();
        }
    };
    match run.go(&mut tell).await {
        Ok(summary) => {
            let left = summary.bytes.saturating_sub(summary.removed_bytes);
            let gauge = metrics.kept_bytes.with_label_values(&[&mount]);
            gauge.set(i64::try_from(left).unwrap_or(i64::MAX));
            if summary.over > 0 {
                tracing::warn!(
                    mount,
                    over = summary.over,
                    "the store is over retention.max_size, and keep rules hold the rest"
                );
            }
            tracing::info!(mount, removed = summary.removed, left, "retention ran");
        }
        Err(error) => {
            tracing::warn!(mount, %error, "retention can't list the store");
            metrics.store_errors.with_label_values(&["list"]).inc();
        }
    }
}

async fn flush(uses: &Arc<Uses>) {
    let uses = uses.clone();
    if let Err(error) = disk::blocking(move || uses.flush()).await {
        tracing::warn!(%error, "uses can't be written down");
    }
}
