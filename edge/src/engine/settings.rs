//! What may change while the engine runs: everything but the store's sizes and the name.
//!
//! A fill reads the settings when it begins, an answer that needs them when it is made; both keep
//! what they have read, the origin's client included. That one ends with its last user.

use std::path::PathBuf;
use std::sync::Arc;

use super::Engine;
use super::config::EngineConfig;
use super::freshness::Bounds;
use crate::origin::Origin;

/// What the engine goes by at present.
pub(super) struct Settings {
    pub(super) config: EngineConfig,
    pub(super) origin: Arc<dyn Origin>,
}

impl Engine {
    /// The file with the tokens that allow a purge.
    pub(crate) fn purge_token_file(&self) -> Option<PathBuf> {
        self.settings.load().config.purge.token_file.clone()
    }

    /// Goes by `config` from now on, and asks `origin` if one is given. The sections `freshness`,
    /// `fill` and `purge` count; the others must be as they were.
    ///
    /// Stored answers are judged anew, by the new bounds.
    pub fn adopt(&self, config: EngineConfig, origin: Option<Arc<dyn Origin>>) {
        let old = self.settings.load_full();
        self.memory.set_limit(config.fill.memory.as_u64());
        let (burst, rate) = (config.fill.resume_burst, config.fill.resume_rate);
        self.resumes.lock().adjust(burst, rate);
        self.failed.lock().adjust(config.fill.failed_bounds());
        self.http.adjust(&config.fill);
        self.store.bans().set_most(config.purge.bans);
        self.store.set_purge_rate(config.purge.rate.as_u64());
        if config.freshness != old.config.freshness {
            self.store.set_bounds(Bounds::of(&config));
        }
        let origin = origin.unwrap_or_else(|| old.origin.clone());
        self.settings.store(Arc::new(Settings { config, origin }));
    }
}
