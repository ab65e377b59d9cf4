//! What the engines of all mounts share: each bound holds for the whole origin.

use std::sync::Arc;

use modcdn_core::refusal::Reason;
use tokio::sync::Semaphore;

use crate::archive;
use crate::changes::Changes;
use crate::config::{self, Archive, Config, Freshness, Limits, Mount, Timeouts};
use crate::credentials::Credentials;
use crate::git::Git;
use crate::metrics::Metrics;
use crate::policy::sight::Sight;
use crate::purges::Purger;
use crate::store::budget::Budget;
use crate::store::marks::Marks;
use crate::store::mutable::Memory;
use crate::store::negative::Absences;
use crate::upstream::chain::Upstream;
use crate::upstream::{Client, Gates, SetupError};

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
    /// What is said to have changed lately.
    pub(crate) marks: Arc<Marks>,
    /// The same, for edges.
    pub(crate) changes: Arc<Changes>,
    /// Remembered "not found".
    pub(crate) negatives: Arc<Absences>,
    /// Remembered bad bodies.
    pub(crate) bad: Arc<Absences>,
    /// Checks of zips at once.
    pub(crate) processors: Arc<Semaphore>,
    /// Fetches at once.
    pub(crate) places: Arc<Semaphore>,
    /// Of these, fetches of what nobody asked for yet.
    pub(crate) ahead: Arc<Semaphore>,
    /// Before each upstream.
    pub(crate) gates: Arc<Gates>,
    /// Absent where no upstream is asked by HTTP.
    pub(crate) client: Option<Arc<Client>>,
    /// What is to be asked for again, and is told to edges.
    pub(crate) purger: Arc<Purger>,
    /// What was seen when.
    pub(crate) sight: Arc<Sight>,
    /// How old versions are.
    pub(crate) ages: config::Sight,
    /// Absent where no upstream list says `direct`.
    pub(crate) git: Option<Arc<Git>>,
}

impl Shared {
    /// Reads the files that the configuration names. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If one of them can't be used, or the HTTP client can't be set up.
    pub(crate) fn new(
        config: &Config,
        purger: Arc<Purger>,
        sight: Arc<Sight>,
        metrics: Metrics,
    ) -> Result<Self, SetupError> {
        let (limits, freshness) = (config.limits.clone(), config.freshness.clone());
        let marks = Arc::new(Marks::new(freshness.doubt()));
        let credentials = Arc::new(Credentials::open(&config.credentials)?);
        // A repository may turn out to be a module proxy.
        let by_http =
            |upstream: &Upstream| matches!(upstream, Upstream::Http(_) | Upstream::Direct);
        let client = (asks(config, by_http) || asks_database(config))
            .then(|| Client::new(config, credentials).map(Arc::new))
            .transpose()?;
        let git = asks(config, |upstream| matches!(upstream, Upstream::Direct))
            .then(|| Git::open(config, metrics.clone()))
            .transpose()?;
        Ok(Self {
            freshness,
            timeouts: config.timeouts.clone(),
            budget: Budget::of(&limits, &metrics),
            memory: Memory::new(
                limits.mutable_memory.as_u64(),
                metrics.mutable_bytes.clone(),
            ),
            negatives: Absences::new(
                Reason::is_negative,
                config.freshness.not_found.get(),
                limits.not_found_entries,
                marks.clone(),
                metrics.remembered_not_found.clone(),
            ),
            bad: Absences::new(
                Reason::is_bad_content,
                config.archive.remember.get(),
                limits.not_found_entries,
                marks.clone(),
                metrics.remembered_bad.clone(),
            ),
            processors: Arc::new(Semaphore::new(config.archive.checks())),
            archives: config.archive.limits(limits.max_zip),
            archive: config.archive.clone(),
            marks,
            changes: Arc::default(),
            gates: Arc::new(Gates::new(&config.upstreams.backoff, &metrics)),
            places: Arc::new(Semaphore::new(limits.fetches)),
            ahead: Arc::new(Semaphore::new(limits.ahead)),
            client,
            purger,
            sight,
            ages: config.sight.clone(),
            git,
            limits,
            metrics,
        })
    }
}

/// Whether an upstream of some mount is one of these.
fn asks(config: &Config, these: impl Fn(&Upstream) -> bool) -> bool {
    config.mounts.iter().flat_map(Mount::upstreams).any(these)
}

/// Whether some mount's checksum database is asked at an address of its own.
fn asks_database(config: &Config) -> bool {
    config.mounts.iter().any(|mount| {
        let mut links = mount.upstream.links().iter();
        let is_off = links.any(|link| link.upstream == Upstream::Off);
        mount.sumdb.url.is_some() || mount.sumdb.direct && !is_off
    })
}
