//! The cache engine: one [`Asked`] in, one [`Answer`] out. It knows nothing of connections.
//!
//! A request's way, and the modules in that order:
//!
//! - `answer`: look the key up; fresh, stale or absent decides what follows (`freshness`).
//! - `store`: bodies by digest and answers by key, in RAM and on disk.
//! - `disk_body`: a long body sent from the disk, verified block by block.
//! - `fill`: a task of its own that asks the origin, one a key; `announced` is what the origin says
//!   about a body, `receive` reads it, `intake` takes its bytes, `growing` is what its readers
//!   follow, `memory` bounds what all of them hold; `resume` continues a body that broke off, within
//!   a `budget`; `failed` remembers for a moment what went wrong.
//! - `relay`: what passes through and is not cached.
//! - [`purge`]: what is taken away on demand, everywhere at once.
//! - `select`, `reply`, `cache_status`: conditions and ranges, heads of answers.
//! - `origin_clock`: whether the origin has the same time.
//! - `settings`: what of all this may change while it runs.
//!
//! Failure rules: no response is complete unless its bytes were verified (the digest on the way in,
//! again on the way from the disk); what was cached is served whatever else is down; the disk's
//! trouble is never the client's.

mod announced;
mod answer;
mod budget;
mod cache_status;
mod clock;
pub mod config;
mod disk_body;
mod failed;
mod fill;
mod freshness;
mod growing;
pub mod http;
mod intake;
mod memory;
pub mod metrics;
mod origin_clock;
pub mod purge;
mod receive;
mod relay;
mod reply;
mod resume;
mod select;
mod settings;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io;
use std::sync::Arc;

use ::http::StatusCode;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Reason;

use self::announced::Failure;
use self::budget::Budget;
use self::clock::Clock;
use self::config::EngineConfig;
use self::failed::{Failed, FailedFills};
use self::fill::Fill;
use self::freshness::{Bounds, Judgement};
use self::growing::Growing;
use self::http::Mounts;
use self::memory::Memory;
use self::metrics::EngineMetrics;
use self::origin_clock::OriginClock;
use self::purge::bans::Bans;
pub use self::purge::bans::Full;
use self::purge::{Purge, Purged, Subject};
use self::settings::Settings;
use self::store::entry::{Entry, Rules};
use self::store::{Damage, Look, Store, carry_out, insist, scrub};
#[cfg(doc)]
use crate::exchange::{Answer, Asked};
use crate::origin::Origin;
use crate::origin::web::WebOrigin;

/// The engine. One per edge, shared by all of its threads.
pub struct Engine {
    /// As `Cache-Status` writes it.
    name: String,
    settings: ArcSwap<Settings>,
    store: Arc<Store>,
    fills: Handle,
    metrics: Arc<EngineMetrics>,
    clock: Arc<Clock>,
    origin_clock: OriginClock,
    memory: Arc<Memory>,
    http: Mounts,
    /// Fills by key, from before their first word until after their last. One whose answer was
    /// purged goes on for its readers, but not in here.
    running: Mutex<HashMap<Arc<str>, Running>>,
    /// Tries to continue bodies, of all fills.
    resumes: Mutex<Budget>,
    failed: Mutex<FailedFills>,
}

/// A fill that may be joined.
struct Running {
    growing: Arc<Growing>,
    /// The newest purge when it began.
    epoch: u64,
}

/// Whom the engine asks.
pub struct Origins {
    /// For modules.
    pub modules: Arc<dyn Origin>,
    /// For plain HTTP mounts, in the order in which [`crate::exchange::HttpAsked`] counts them.
    pub mounts: Vec<Arc<dyn WebOrigin>>,
}

impl From<Arc<dyn Origin>> for Origins {
    fn from(modules: Arc<dyn Origin>) -> Self {
        let mounts = Vec::new();
        Self { modules, mounts }
    }
}

/// Where an answer is to come from.
enum Joined {
    /// From this fill.
    Fill {
        /// What it brings.
        growing: Arc<Growing>,
        /// It was running already.
        collapsed: bool,
    },
    /// From the store, after all.
    Stored(Arc<Entry>),
    /// From the fill that failed a moment ago.
    Failed(Failed),
}

/// Why a purge has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPurged {
    /// There is no room for it.
    #[error(transparent)]
    Full(#[from] Full),
    /// A fault of ours, or the edge is going down.
    #[error("the purge was not carried out: {0}")]
    Failed(String),
}

/// How the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing is stored at present; None: all is well.
    pub admission_stopped: Option<String>,
    /// Fills that are running.
    pub fills: usize,
}

impl Engine {
    /// Opens the store and gets ready to answer. Fills, and everything that waits for the disk, run
    /// on `fills`. Returns at once: the index is read while requests are answered.
    ///
    /// # Errors
    /// If the store's folders can't be made; never because of what is in them.
    pub fn open(
        config: &EngineConfig,
        origins: impl Into<Origins>,
        fills: Handle,
        metrics: EngineMetrics,
    ) -> io::Result<Arc<Self>> {
        Self::open_at(config, origins, fills, metrics, Arc::new(Clock::system()))
    }

    fn open_at(
        config: &EngineConfig,
        origins: impl Into<Origins>,
        fills: Handle,
        metrics: EngineMetrics,
        clock: Arc<Clock>,
    ) -> io::Result<Arc<Self>> {
        let (origins, metrics) = (origins.into(), Arc::new(metrics));
        let bounds = Bounds::of(config);
        let bans = Bans::new(config.purge.bans);
        let store = Store::open(&config.store, bounds, bans, clock.clone(), metrics.clone())?;
        let memory = Memory::new(config.fill.memory.as_u64(), metrics.fill_memory.clone());
        let engine = Arc::new(Self {
            name: cache_status::cache_name(&config.name),
            settings: ArcSwap::from_pointee(Settings {
                config: config.clone(),
                origin: origins.modules,
            }),
            store: Arc::new(store),
            fills,
            origin_clock: OriginClock::new(metrics.origin_clock.clone()),
            metrics,
            clock,
            memory: Arc::new(memory),
            http: Mounts::new(origins.mounts, &config.fill),
            running: Mutex::default(),
            resumes: Mutex::new(Budget::new(
                config.fill.resume_burst,
                config.fill.resume_rate,
            )),
            failed: Mutex::new(FailedFills::new(config.fill.failed_bounds())),
        });
        engine.store.set_purge_rate(config.purge.rate.as_u64());
        let (store, fills) = (engine.store.clone(), engine.fills.clone());
        let weak = Arc::downgrade(&store);
        let loading = fills.spawn_blocking(move || store.load_index());
        engine.fills.spawn(async move {
            // An error is a panic in there, which the runtime has reported.
            let _ = loading.await;
            carry_out(weak, fills).await;
        });
        let scrubbed = Arc::downgrade(&engine.store);
        engine.fills.spawn(scrub(scrubbed, engine.fills.clone()));
        Ok(engine)
    }

    /// Leaves the store to another process: what is stored can still be read, but nothing is written
    /// or removed any more. For good. Blocks.
    ///
    /// # Errors
    /// The disk did not take the last writes; they may be lost if the machine goes down.
    pub fn retire(&self) -> io::Result<()> {
        self.store.hand_over()
    }

    /// Writes the index down, so that the next start need not read the journal. Without it nothing
    /// is lost when the process ends, only when the machine does.
    pub async fn shutdown(&self) {
        let store = self.store.clone();
        let written = self.fills.spawn_blocking(move || store.write_snapshot());
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "index not written down");
        }
    }

    /// How the engine is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            admission_stopped: self.store.stopped(),
            fills: self.running.lock().len() + self.http.running(),
        }
    }

    /// Whom the engine asks for modules at present.
    pub(crate) fn origin(&self) -> Arc<dyn Origin> {
        self.settings.load().origin.clone()
    }

    /// Purges that are not on disk.
    pub(crate) fn purges_unwritten(&self) -> usize {
        self.store.purges_unwritten()
    }

    /// The answer for a key. Waits for the disk only if there is an answer and it isn't warm.
    async fn look_up(&self, key: &str) -> Option<Arc<Entry>> {
        self.looked_up(key, self.store.look(key)).await
    }

    async fn looked_up(&self, key: &str, look: Look) -> Option<Arc<Entry>> {
        match look {
            Look::Warm(entry) => Some(entry),
            Look::Absent => None,
            Look::Cold => Box::pin(self.find(key.into())).await,
        }
    }

    async fn find(&self, key: Arc<str>) -> Option<Arc<Entry>> {
        let store = self.store.clone();
        // An error is a panic in there, which the runtime has reported.
        let found = self.fills.spawn_blocking(move || store.find(&key)).await;
        found.ok().flatten()
    }

    /// The running fill for a key, or a new one; or the answer that one has just stored.
    ///
    /// `stale` is to be confirmed, `avoid` is not to be used.
    fn join(
        self: &Arc<Self>,
        request: &Request,
        key: &Arc<str>,
        stale: Option<&Arc<Entry>>,
        avoid: Option<&Arc<Entry>>,
    ) -> Joined {
        let mut running = self.running.lock();
        let slot = match running.entry(key.clone()) {
            Slot::Occupied(running) => {
                self.metrics.collapsed.inc();
                return Joined::Fill {
                    growing: running.get().growing.clone(),
                    collapsed: true,
                };
            }
            Slot::Vacant(slot) => slot,
        };
        // A fill stores before it leaves `running`: one that ended since the look-up is seen here.
        if let Some(entry) = self.just_stored(key, avoid) {
            return Joined::Stored(entry);
        }
        if let Some(failed) = self.failed.lock().recent(key, self.clock.now()) {
            self.metrics.failed_remembered.inc();
            return Joined::Failed(failed);
        }
        let growing = Arc::new(Growing::new(self.memory.clone()));
        // Taken while `running` is locked: a purge either finds the fill there or is older.
        let awaited = self.store.awaited();
        slot.insert(Running {
            growing: growing.clone(),
            epoch: awaited.epoch(),
        });
        drop(running);
        let fill = Fill {
            engine: self.clone(),
            key: key.clone(),
            rules: if request.is_immutable() {
                Rules::Immutable
            } else {
                Rules::Mutable
            },
            stale: stale.cloned(),
            growing: growing.clone(),
            awaited,
            settings: self.settings.load_full(),
        };
        self.fills.spawn(fill.run());
        Joined::Fill {
            growing,
            collapsed: false,
        }
    }

    /// Forgets that the key's last fill failed: the next request asks the origin.
    fn forget_failure(&self, key: &str) {
        self.failed.lock().forget(key);
    }

    fn just_stored(&self, key: &str, avoid: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        // What was just stored is warm.
        let entry = self.store.warm(key)?;
        let avoided = avoid.is_some_and(|avoid| Arc::ptr_eq(&avoid.object, &entry.object));
        (!avoided && self.judge(&entry) == Judgement::Fresh).then_some(entry)
    }

    /// What may be done with a stored answer now.
    fn judge(&self, entry: &Entry) -> Judgement {
        let age = entry.age(self.clock.now());
        if !self.store.is_stale(entry) {
            return entry.lifetime.judge(age);
        }
        let confirmable = entry.meta.status == StatusCode::OK;
        if confirmable && entry.lifetime.covers_failure(age) {
            Judgement::StaleIfError
        } else {
            Judgement::Expired
        }
    }

    /// Takes answers away, or makes them stale: in RAM, on disk, and those that are still arriving.
    ///
    /// It holds for every request that begins after this returns. Responses that are under way are
    /// finished as they are.
    ///
    /// # Errors
    /// As many purges are held as may be, or the edge is going down.
    pub async fn purge(self: &Arc<Self>, purge: Purge) -> Result<Purged, NotPurged> {
        let engine = self.clone();
        let purging = self.fills.spawn_blocking(move || engine.purge_here(purge));
        match purging.await {
            Ok(purged) => purged.map_err(NotPurged::from),
            Err(error) => Err(NotPurged::Failed(error.to_string())),
        }
    }

    fn purge_here(&self, purge: Purge) -> Result<Purged, Full> {
        self.metrics.purged(purge.selector.kind(), purge.mode);
        let ban = self.store.ban(purge)?;
        let fills = self.detach_purged();
        // Of all keys: it costs each of them one request.
        self.failed.lock().clear();
        self.http.forget_failures();
        let persisted = self.store.persist(&ban);
        if let Err(error) = &persisted {
            tracing::warn!(epoch = ban.epoch, %error, "purge not written down yet");
            let store = Arc::downgrade(&self.store);
            self.fills.spawn(insist(store, self.fills.clone()));
        }
        let store = Arc::downgrade(&self.store);
        self.fills.spawn(carry_out(store, self.fills.clone()));
        Ok(Purged {
            epoch: ban.epoch,
            fills,
            durable: persisted.is_ok(),
        })
    }

    /// Takes fills whose answers were purged out of the running ones, and counts them. What a fill
    /// will be tagged with isn't known: a purge by tag concerns all of them.
    fn detach_purged(&self) -> usize {
        let mut running = self.running.lock();
        let before = running.len();
        let bans = self.store.bans();
        running.retain(|key, fill| bans.judge(&Subject::awaited(key), fill.epoch).is_none());
        let fills = before - running.len();
        drop(running);
        fills + self.http.detach_purged(bans)
    }

    /// A fill is over.
    fn fill_ended(&self, key: &Arc<str>, growing: &Arc<Growing>) {
        let mut running = self.running.lock();
        if running
            .get(key)
            .is_some_and(|current| Arc::ptr_eq(&current.growing, growing))
        {
            running.remove(key);
        }
    }

    /// Drops a damaged answer.
    async fn condemn(&self, entry: &Arc<Entry>) {
        let (store, entry) = (self.store.clone(), entry.clone());
        // An error is a panic in there, which the runtime has reported.
        let _ = self
            .fills
            .spawn_blocking(move || store.condemn(&entry))
            .await;
    }

    /// What answers in place of an entry whose body could not be had; else why nothing does. What
    /// proves to be damaged is dropped; what can't be read now stays, and what the origin sends
    /// instead takes its place.
    async fn instead(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        damage: Damage,
    ) -> Result<Arc<Entry>, &'static str> {
        match damage {
            Damage::Unreadable(error) => {
                self.store.unreadable(entry, &error);
                return Err("unreadable");
            }
            Damage::Corrupt => {}
            Damage::Moved => {
                let now_at = self.look_up(&entry.key).await;
                if let Some(now_at) = now_at.filter(|now_at| !Arc::ptr_eq(now_at, entry)) {
                    return Ok(now_at);
                }
            }
        }
        self.condemn(entry).await;
        Err("damaged")
    }

    /// Does for a fill what blocks.
    async fn storing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let done = self.fills.spawn_blocking(work).await;
        done.map_err(|error| Failure::new(Reason::Internal, format!("the store failed: {error}")))
    }

    /// Does what blocks.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Damage> + Send + 'static,
    ) -> Result<T, Damage> {
        let done = self.fills.spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(Damage::Unreadable(io::Error::other(error))))
    }
}
