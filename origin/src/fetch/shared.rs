//! What the engines of all mounts share: each bound holds for the whole origin.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::{Config, Freshness, Limits, Timeouts};
use crate::metrics::Metrics;
use crate::store::budget::Budget;
use crate::store::mutable::Memory;
use crate::store::negative::Absences;
use crate::upstream::Client;
use crate::upstream::chain::Upstream;

/// See the module.
pub(crate) struct Shared {
    pub(crate) freshness: Freshness,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Bodies being fetched, on disk.
    pub(crate) budget: Budget,
    /// Answers that may change, in memory.
    pub(crate) memory: Arc<Memory>,
    /// Remembered "not found".
    pub(crate) negatives: Arc<Absences>,
    /// Fetches at once.
    pub(crate) places: Arc<Semaphore>,
    /// Absent where no upstream is asked by HTTP.
    pub(crate) client: Option<Arc<Client>>,
}

impl Shared {
    /// # Errors
    /// If the HTTP client for upstreams can't be set up: no usable certificate store, as a rule.
    pub(crate) fn new(config: &Config, metrics: Metrics) -> reqwest::Result<Self> {
        let limits = config.limits.clone();
        let client = asks_http(config)
            .then(|| Client::new(&config.timeouts, &limits).map(Arc::new))
            .transpose()?;
        Ok(Self {
            freshness: config.freshness.clone(),
            timeouts: config.timeouts.clone(),
            budget: Budget::of(&limits, &metrics),
            memory: Memory::new(limits.mutable_memory.as_u64()),
            negatives: Absences::new(config.freshness.not_found.get(), limits.not_found_entries),
            places: Arc::new(Semaphore::new(limits.fetches)),
            client,
            limits,
            metrics,
        })
    }
}

fn asks_http(config: &Config) -> bool {
    let mut links = config
        .mounts
        .iter()
        .flat_map(|mount| mount.upstream.links());
    links.any(|link| matches!(link.upstream, Upstream::Http(_)))
}
