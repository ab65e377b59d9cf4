//! What the engines of all mounts share: each bound holds for the whole origin.

use std::sync::Arc;

use modcdn_core::refusal::Reason;
use tokio::sync::Semaphore;

use crate::archive;
use crate::config::{Archive, Config, Freshness, Limits, Timeouts};
use crate::credentials::Credentials;
use crate::metrics::Metrics;
use crate::purges::PurgeLog;
use crate::store::budget::Budget;
use crate::store::mutable::Memory;
use crate::store::negative::Absences;
use crate::upstream::chain::Upstream;
use crate::upstream::{Client, SetupError};

/// See the module.
pub(crate) struct Shared {
    pub(crate) freshness: Freshness,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) archive: Archive,
    /// What a zip may be.
    pub(crate) archives: archive::Limits,
    pub(crate) metrics: Metrics,
    /// Bodies being fetched, on disk.
    pub(crate) budget: Budget,
    /// Answers that may change, in memory.
    pub(crate) memory: Arc<Memory>,
    /// Remembered "not found".
    pub(crate) negatives: Arc<Absences>,
    /// Remembered bad bodies.
    pub(crate) bad: Arc<Absences>,
    /// Checks of zips at once.
    pub(crate) processors: Arc<Semaphore>,
    /// Fetches at once.
    pub(crate) places: Arc<Semaphore>,
    /// Absent where no upstream is asked by HTTP.
    pub(crate) client: Option<Arc<Client>>,
    /// What is to be asked for again.
    pub(crate) purges: Arc<PurgeLog>,
}

impl Shared {
    /// Reads the files that the configuration names. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If one of them can't be used, or the HTTP client can't be set up.
    pub(crate) fn new(
        config: &Config,
        purges: Arc<PurgeLog>,
        metrics: Metrics,
    ) -> Result<Self, SetupError> {
        let limits = config.limits.clone();
        let credentials = Arc::new(Credentials::open(&config.credentials)?);
        let client = asks_http(config)
            .then(|| Client::new(config, credentials).map(Arc::new))
            .transpose()?;
        Ok(Self {
            freshness: config.freshness.clone(),
            timeouts: config.timeouts.clone(),
            budget: Budget::of(&limits, &metrics),
            memory: Memory::new(limits.mutable_memory.as_u64()),
            negatives: Absences::new(
                Reason::is_negative,
                config.freshness.not_found.get(),
                limits.not_found_entries,
            ),
            bad: Absences::new(
                Reason::is_bad_content,
                config.archive.remember.get(),
                limits.not_found_entries,
            ),
            processors: Arc::new(Semaphore::new(config.archive.checks())),
            archives: config.archive.limits(limits.max_zip),
            archive: config.archive.clone(),
            places: Arc::new(Semaphore::new(limits.fetches)),
            client,
            purges,
            limits,
            metrics,
        })
    }
}

fn asks_http(config: &Config) -> bool {
    config.mounts.iter().any(|mount| {
        let mut links = mount.upstream.links().iter();
        let is_off = links.clone().any(|link| link.upstream == Upstream::Off);
        links.any(|link| matches!(link.upstream, Upstream::Http(_)))
            || mount.sumdb.url.is_some()
            || mount.sumdb.direct && !is_off
    })
}
