//! Keeping what is known: read at the start, written by a task that is never waited for.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use modcdn_core::digest::Sha256;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::{Metrics, Steering};
use crate::durable::{Folder, Versions};
use crate::health::State;
use crate::steer::{Homes, Samples};

/// The names of the files.
pub(super) const POPS: &str = "pops";
pub(super) const SAMPLES: &str = "samples";
pub(super) const HOMES: &str = "homes";

/// Between two writes of samples it is at least so many times as long as the last one took: millions of
/// them are hundreds of megabytes.
const REST: u32 = 20;

/// What is kept of a PoP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptPop {
    /// What it was.
    pub(super) state: State,
    /// Whether it ever reported.
    pub(super) reports: bool,
    /// Whether an operator drains it by call.
    pub(super) drained: bool,
}

/// What was kept of PoPs. Blocks.
pub(super) fn read_pops(folder: &Folder) -> BTreeMap<String, KeptPop> {
    folder.read(POPS).whole().unwrap_or_default()
}

/// What was kept of samples. Blocks.
pub(super) fn read_samples(folder: &Folder) -> Samples {
    folder.read(SAMPLES).whole().unwrap_or_default()
}

/// Where units belonged. Blocks.
pub(super) fn read_homes(folder: &Folder) -> Homes {
    let kept = folder.read_as(HOMES, Homes::from_bytes);
    kept.whole().unwrap_or_default()
}

impl Steering {
    /// Writes what has changed: states at once, samples and homes in their intervals
    /// ([`Setup`](super::Setup)); for ever.
    pub(crate) async fn keep_for_ever(self: Arc<Self>) {
        if !self.folder.is_open() {
            return;
        }
        let (mut last, mut homes) = (Instant::now(), Instant::now());
        let mut rest = Duration::ZERO;
        loop {
            let (interval, homes_interval) = {
                let setup = &self.desk.lock().setup;
                (setup.interval, setup.homes_interval)
            };
            let woken = timeout_at(last + interval.max(rest), self.keep.notified())
                .await
                .is_ok();
            let homes_due = Instant::now() >= homes + homes_interval;
            let steering = self.clone();
            let began = Instant::now();
            let keeping = tokio::task::spawn_blocking(move || {
                steering.keep_ceiling();
                steering.keep_pops();
                if !woken {
                    steering.keep_samples();
                }
                if homes_due {
                    steering.keep_homes();
                }
            });
            if let Err(error) = keeping.await {
                tracing::error!(%error, "state couldn't be kept");
            }
            if !woken {
                last = Instant::now();
                rest = REST * (last - began);
            }
            if homes_due {
                homes = Instant::now();
            }
        }
    }

    /// Writes all that has changed, before the end. Blocks.
    pub(crate) fn keep_all(&self) {
        self.keep_pops();
        self.learn();
        self.keep_samples();
        self.keep_homes();
    }

    fn keep_homes(&self) {
        let homes = self.snapshot().homes();
        if homes.is_empty() {
            return;
        }
        let bytes = homes.to_bytes();
        let digest = Sha256::of(&bytes);
        let mut kept = self.kept_homes.lock();
        if *kept != digest
            && noted(
                &self.metrics,
                HOMES,
                &self.folder.write_bytes(HOMES, &bytes),
            )
        {
            *kept = digest;
        }
    }

    fn keep_samples(&self) {
        let samples = {
            let mut learnt = self.learnt.lock();
            if std::mem::replace(&mut learnt.kept, true) {
                return;
            }
            learnt.samples.clone()
        };
        let written = self.folder.write(SAMPLES, &*samples);
        if !noted(&self.metrics, SAMPLES, &written) {
            self.learnt.lock().kept = false;
        }
    }

    fn keep_ceiling(&self) {
        let Some(ceiling) = self.desk.lock().versions.wanted() else {
            return;
        };
        if noted(
            &self.metrics,
            "version",
            &Versions::keep(&self.folder, ceiling),
        ) {
            self.desk.lock().versions.raised(ceiling);
        }
    }

    fn keep_pops(&self) {
        let pops = self.desk.lock().kept_pops();
        let mut kept = self.kept.lock();
        if kept.as_ref() != Some(&pops)
            && noted(&self.metrics, POPS, &self.folder.write(POPS, &pops))
        {
            *kept = Some(pops);
        }
    }
}

/// Raises the ceiling of versions before the first one is given out. Blocks.
pub(super) fn keep_ceiling(versions: &mut Versions, folder: &Folder, metrics: &Metrics) {
    if let Some(ceiling) = versions.wanted()
        && noted(metrics, "version", &Versions::keep(folder, ceiling))
    {
        versions.raised(ceiling);
    }
}

fn noted(metrics: &Metrics, file: &str, written: &io::Result<()>) -> bool {
    if let Err(error) = written {
        metrics.state_failures.inc();
        tracing::warn!(file, %error, "state can't be kept");
    }
    written.is_ok()
}
