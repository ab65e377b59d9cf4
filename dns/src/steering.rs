//! The map in use, and the health that makes the next one.
//!
//! Readers take snapshots without waiting; [`Steering::observe`] is the only writer.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::health::{Health, Rule};
use crate::metrics::Metrics;
use crate::steer::{Map, Sites};

/// A handle to the map in use.
pub struct Steering {
    map: ArcSwap<Map>,
    /// The health of each PoP; held while a new map is published, so that versions only rise.
    health: Mutex<Vec<Health>>,
    metrics: Metrics,
}

impl Steering {
    /// Starts with every PoP healthy.
    #[must_use]
    pub fn new(sites: Sites, rule: Rule, metrics: Metrics) -> Self {
        let health = vec![Health::new(rule); sites.pops().len()];
        for pop in sites.pops() {
            metrics.set_health(&pop.name, true);
        }
        let map = Map::new(Arc::new(sites));
        metrics.set_map_version(map.version());
        Self {
            map: ArcSwap::from_pointee(map),
            health: Mutex::new(health),
            metrics,
        }
    }

    /// The map now, for the length of one answer.
    #[must_use]
    pub fn current(&self) -> Guard<Arc<Map>> {
        self.map.load()
    }

    /// The map now, to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// Takes the outcome of one check of a PoP; publishes a new map if that changes its health.
    pub fn observe(&self, pop: usize, outcome: &Result<(), String>) {
        let mut health = self.health.lock();
        let Some(state) = health.get_mut(pop) else {
            return;
        };
        if !state.observe(outcome.is_ok()) {
            return;
        }
        let healthy: Vec<bool> = health.iter().map(Health::is_healthy).collect();
        let map = self.map.load().with_health(&healthy);
        self.report(&map, pop, outcome);
        self.map.store(Arc::new(map));
    }

    fn report(&self, map: &Map, pop: usize, outcome: &Result<(), String>) {
        let name = &map.all()[pop].name;
        let version = map.version();
        self.metrics.health_changed(name, outcome.is_ok());
        self.metrics.set_map_version(version);
        match outcome {
            Ok(()) => tracing::info!(pop = name, map = version, "pop is up"),
            Err(error) => tracing::warn!(pop = name, map = version, error, "pop is down"),
        }
        if !(0..map.all().len()).any(|pop| map.is_healthy(pop)) {
            tracing::error!(
                map = version,
                "no pop looks healthy from here: answering all"
            );
        }
    }
}
