//! The map in use, and the health that makes the next one.
//!
//! Readers take snapshots without waiting; [`Steering::observe`] is the only writer.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::health::{Health, Rule};
use crate::metrics::Metrics;
use crate::steer::{Constants, Inputs, Map, State, compile};

/// A handle to the map in use.
pub struct Steering {
    map: ArcSwap<Map>,
    /// Held while a new map is published, so that versions only rise.
    watched: Mutex<Watched>,
    constants: Constants,
    metrics: Metrics,
}

/// What makes the next map.
struct Watched {
    inputs: Inputs,
    /// The health of each PoP.
    health: Vec<Health>,
}

impl Steering {
    /// Starts with every PoP healthy.
    #[must_use]
    pub fn new(inputs: Inputs, constants: Constants, rule: Rule, metrics: Metrics) -> Self {
        let health = vec![Health::new(rule); inputs.pops.len()];
        for pop in inputs.pops.iter() {
            metrics.set_health(&pop.name, true);
        }
        let (map, _) = compile(&inputs, None, &constants, Instant::now());
        metrics.set_map_version(map.version());
        Self {
            map: ArcSwap::from_pointee(map),
            watched: Mutex::new(Watched { inputs, health }),
            constants,
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
        let mut watched = self.watched.lock();
        let Some(state) = watched.health.get_mut(pop) else {
            return;
        };
        if !state.observe(outcome.is_ok()) {
            return;
        }
        let states = watched.health.iter().map(state_of).collect();
        watched.inputs.states = states;
        let before = self.map.load();
        let (map, _) = compile(
            &watched.inputs,
            Some(&before),
            &self.constants,
            Instant::now(),
        );
        self.report(&map, pop, outcome);
        self.map.store(Arc::new(map));
    }

    fn report(&self, map: &Map, pop: usize, outcome: &Result<(), String>) {
        let name = &map.pops()[pop].name;
        let version = map.version();
        self.metrics.health_changed(name, outcome.is_ok());
        self.metrics.set_map_version(version);
        match outcome {
            Ok(()) => tracing::info!(pop = name, map = version, "pop is up"),
            Err(error) => tracing::warn!(pop = name, map = version, error, "pop is down"),
        }
        if !(0..map.pops().len()).any(|pop| map.is_healthy(pop)) {
            tracing::error!(
                map = version,
                "no pop looks healthy from here: answering all"
            );
        }
    }
}

fn state_of(health: &Health) -> State {
    if health.is_healthy() {
        State::Up
    } else {
        State::Down
    }
}
