//! The life of the map: what feeds it, who makes it, and the one in use.
//!
//! Evidence comes from checks, reports and operators, and makes the state of each PoP
//! ([`crate::health`]). A change of state is published at once, on the map in use; a full compilation
//! follows on a thread where it may take its time, after each change and in every window. Readers take
//! snapshots without waiting.
//!
//! One lock ([`Steering::desk`]) guards all that makes maps and is held for the time of a judgement,
//! never over a compilation, a file or an await. Whoever holds it publishes, so versions only rise.

mod desk;
mod keeper;
pub mod known;
mod metrics;
mod notice;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use modcdn_core::digest::Sha256;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::durable::Folder;
use crate::health::{Change, Damping, Rule, State};
use crate::probe::{Observe, Outcome};
use crate::reports::{Refused, Report, Rules, Taken};
use crate::respond::Moment;
use crate::snapshot::Published;
use crate::steer::{Constants, Inputs, Map, Samples, compile, resume};

use desk::Desk;
use keeper::KeptPop;
pub use metrics::Metrics;
pub use notice::Notice;

/// Time between two looks at what grows old.
const TICK: Duration = Duration::from_secs(1);

/// What a configuration says of the map and of what feeds it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What maps are made of, but for states, loads and samples.
    pub inputs: Inputs,
    /// Numbers of the algorithm.
    pub constants: Constants,
    /// The addresses of each PoP that are checked; none: it isn't.
    pub targets: Vec<Vec<SocketAddr>>,
    /// How checks change one's mind.
    pub rule: Rule,
    /// When a PoP that comes and goes stays out.
    pub damping: Damping,
    /// How long reports count.
    pub rules: Rules,
    /// Tokens of those who may report.
    pub tokens: Option<PathBuf>,
    /// PoPs that drain by configuration.
    pub draining: BTreeSet<String>,
    /// Geo databases by name, and when their files were last changed.
    pub databases: Vec<(&'static str, SystemTime)>,
    /// Time between two writes of samples.
    pub interval: Duration,
    /// Time between two writes of where clients belong.
    pub homes_interval: Duration,
    /// From this age of the map on there is something wrong.
    pub map_age: Duration,
}

/// No PoP of that name is configured.
#[derive(Debug, thiserror::Error)]
#[error("no pop is named {0:?}")]
pub struct NoSuchPop(String);

/// What is known of a PoP, for people.
#[derive(Debug, Serialize)]
pub struct PopView {
    name: String,
    state: &'static str,
    reason: &'static str,
    check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    versions: BTreeMap<String, String>,
    peers_up: usize,
    peers_down: usize,
    /// Whether its state is what was kept of the process before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
    addresses: Vec<IpAddr>,
}

/// What was measured.
#[derive(Default)]
struct Learnt {
    samples: Arc<Samples>,
    /// Whether that is on disk.
    kept: bool,
}

/// Who makes the map in use.
pub struct Steering {
    published: Arc<Published>,
    desk: Mutex<Desk>,
    /// What was measured; the desk's lock is never asked for while this one is held.
    learnt: Mutex<Learnt>,
    /// There is something to compile.
    work: Notify,
    /// There is something to keep.
    keep: Notify,
    folder: Folder,
    /// What was last written of PoPs.
    kept: Mutex<Option<BTreeMap<String, KeptPop>>>,
    /// What was last written or read of homes.
    kept_homes: Mutex<Sha256>,
    metrics: Metrics,
}

impl Steering {
    /// Starts from what the process before left in `folder`. Blocks.
    #[must_use]
    pub fn open(setup: Setup, folder: Option<PathBuf>, metrics: Metrics) -> Self {
        let folder = Folder::new(folder);
        let now = Instant::now();
        let mut desk = Desk::open(setup, &folder, now, SystemTime::now());
        keeper::keep_ceiling(&mut desk.versions, &folder, &metrics);
        let learnt = Learnt {
            samples: Arc::new(keeper::read_samples(&folder)),
            kept: true,
        };
        let inputs = desk.inputs_with(&learnt.samples, SystemTime::now());
        let homes = keeper::read_homes(&folder);
        let (map, _) = resume(&inputs, &homes, &desk.setup.constants, now);
        metrics.compiled(now.elapsed());
        metrics.set_samples(learnt.samples.len());
        let map = map.numbered(desk.versions.take());
        metrics.published(map.version());
        for (pop, verdict) in desk.inputs.pops.iter().zip(desk.board.verdicts()) {
            metrics.set_state(&pop.name, verdict);
        }
        Self {
            published: Arc::new(Published::new(Arc::new(map))),
            desk: Mutex::new(desk),
            learnt: Mutex::new(learnt),
            work: Notify::new(),
            keep: Notify::new(),
            folder,
            kept: Mutex::new(None),
            kept_homes: Mutex::new(Sha256::of(&homes.to_bytes())),
            metrics,
        }
    }

    /// What is in use, the map among it.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// The map now, to keep.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Map> {
        self.published.load().map.clone()
    }

    /// Takes a report in.
    ///
    /// # Errors
    /// If it doesn't count as a whole.
    pub fn report(&self, report: &Report) -> Result<Taken, Refused> {
        let mut desk = self.desk.lock();
        let taken = desk.take(report, Instant::now(), SystemTime::now())?;
        self.metrics.taken(&taken);
        self.judge(&mut desk);
        Ok(taken)
    }

    /// Drains a PoP, or ends that; what the configuration drains goes on draining.
    ///
    /// # Errors
    /// If there is no such PoP.
    pub fn drain(&self, pop: &str, drain: bool) -> Result<(), NoSuchPop> {
        let mut desk = self.desk.lock();
        if !desk.drain(pop, drain) {
            return Err(NoSuchPop(pop.to_owned()));
        }
        self.judge(&mut desk);
        // Even if the state is the same (it is down): the word must outlive the process.
        self.keep.notify_one();
        Ok(())
    }

    /// Tokens of those who may report.
    pub(crate) fn token_file(&self) -> Option<PathBuf> {
        self.desk.lock().setup.tokens.clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is known of each PoP.
    #[must_use]
    pub fn pops(&self) -> Vec<PopView> {
        self.desk.lock().view(Instant::now())
    }

    /// Judges every PoP, and publishes what has changed.
    fn judge(&self, desk: &mut Desk) {
        let now = Instant::now();
        let was_distrusted = desk.board.is_distrusted();
        let (changes, readdressed) = desk.judge(now);
        let distrusted = desk.board.is_distrusted();
        self.metrics.set_distrusted(distrusted);
        if distrusted && !was_distrusted {
            tracing::error!(
                "most pops look down from here and others say that they are up: this node seems to \
                 be cut off, the map stays as it is"
            );
        }
        if changes.is_empty() && !readdressed {
            return;
        }
        let version = self.republish(desk);
        for change in &changes {
            self.tell(&desk.inputs.pops[change.pop].name, change, version);
        }
        if !desk
            .board
            .states()
            .iter()
            .any(|state| state.is_answerable())
        {
            tracing::error!(
                map = version,
                "no pop takes clients: answering what is left"
            );
        }
        self.work.notify_one();
        self.keep.notify_one();
    }

    /// Puts the map in use as it is for the states and addresses now.
    fn republish(&self, desk: &mut Desk) -> u64 {
        let map = self.published.load().map.restated(&desk.inputs);
        self.publish(desk, map)
    }

    fn tell(&self, pop: &str, change: &Change, map: u64) {
        let (to, why) = (change.to.state.name(), change.to.reason.name());
        self.metrics.changed(pop, change);
        self.metrics.set_state(pop, change.to);
        match change.to.state {
            State::Up | State::Draining => tracing::info!(pop, map, why, "pop is {to}"),
            State::Degraded | State::Down => tracing::warn!(pop, map, why, "pop is {to}"),
        }
    }

    /// Puts a map in use.
    fn publish(&self, desk: &mut Desk, map: Map) -> u64 {
        self.publish_by(desk, map, |map| self.published.set_map(map))
    }

    /// Has a map put in use. The desk's lock is held, so versions only rise.
    fn publish_by(&self, desk: &mut Desk, map: Map, publish: impl FnOnce(Arc<Map>)) -> u64 {
        let version = desk.versions.take();
        publish(Arc::new(map.numbered(version)));
        desk.published = Instant::now();
        self.metrics.published(version);
        version
    }

    /// Makes maps when something has changed, and in each window, for ever.
    pub(crate) async fn compile_for_ever(self: Arc<Self>) {
        loop {
            let window = self.desk.lock().setup.constants.window;
            // A window that is over is as good as a change.
            let _ = tokio::time::timeout(window, self.work.notified()).await;
            let steering = self.clone();
            let compiled = tokio::task::spawn_blocking(move || steering.compile()).await;
            if let Err(error) = compiled {
                tracing::error!(%error, "a map couldn't be made: the one in use stays");
            }
        }
    }

    /// Makes a map of all that is known, and puts it in use. Takes its time.
    fn compile(&self) {
        let began = Instant::now();
        let samples = self.learn();
        let (inputs, constants, epoch) = {
            let desk = self.desk.lock();
            let inputs = desk.inputs_with(&samples, SystemTime::now());
            (inputs, desk.setup.constants.clone(), desk.epoch)
        };
        // The map doesn't keep them, so whoever learns next needn't copy them.
        drop(samples);
        let before = self.snapshot();
        let (map, changes) = compile(&inputs, Some(&before), &constants, began);
        drop(inputs);
        self.metrics.compiled(began.elapsed());
        self.foresee(&map);
        let mut desk = self.desk.lock();
        if desk.epoch != epoch {
            // Reloaded in the meantime, with a map of its own.
            return;
        }
        // States may have changed while it was made.
        let map = map.restated(&desk.inputs);
        let version = self.publish(&mut desk, map);
        drop(desk);
        tracing::debug!(map = version, ?changes, "map compiled");
    }

    /// Has all that a map may answer signed before it is in use, beside what is answered until then. Who
    /// waits for a map that was compiled waits for some milliseconds more.
    fn foresee(&self, next: &Map) {
        let now = self.published.load_full();
        if let Some(signing) = &now.responder.settings().signing {
            let zones = now.responder.zones();
            signing.prepare(zones, &[&now.map, next], Moment::now().unix);
        }
    }

    /// Takes in what was measured since the last time.
    fn learn(&self) -> Arc<Samples> {
        let (pending, constants) = self.desk.lock().measured();
        let mut learnt = self.learnt.lock();
        if !pending.is_empty() {
            learnt.kept = false;
            let samples = Arc::make_mut(&mut learnt.samples);
            for sample in &pending {
                if let Err(error) = samples.add(sample, &constants) {
                    self.metrics.unlearnt(error);
                }
            }
            samples.forget(unix_seconds(SystemTime::now()), &constants);
            self.metrics.set_samples(samples.len());
        }
        learnt.samples.clone()
    }

    /// Judges what grows old, for ever.
    pub(crate) async fn tick_for_ever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.tick(Instant::now(), SystemTime::now());
        }
    }

    fn tick(&self, now: Instant, clock: SystemTime) {
        let mut desk = self.desk.lock();
        self.judge(&mut desk);
        self.metrics
            .set_map_age(now.saturating_duration_since(desk.published));
        for pop in desk.inputs.pops.iter() {
            if let Some(age) = desk.book.age(&pop.name, now) {
                self.metrics.set_report_age(&pop.name, age);
            }
        }
        for (database, changed) in &desk.setup.databases {
            self.metrics.set_database_age(database, *changed, clock);
        }
    }

    /// Makes the first map of another configuration. Blocks, and changes nothing yet.
    pub(crate) fn prepare(&self, setup: &Setup) -> Map {
        let began = Instant::now();
        let samples = self.learn();
        let inputs = self.desk.lock().inputs_for(setup);
        let inputs = Inputs {
            samples,
            clock: unix_seconds(SystemTime::now()),
            ..inputs
        };
        let (map, _) = compile(&inputs, Some(&self.snapshot()), &setup.constants, began);
        self.metrics.compiled(began.elapsed());
        map
    }

    /// Takes another configuration up, with the map that was made for it; what is known of PoPs that
    /// stay is kept. `publish` puts it in use, with all else that goes with it.
    pub(crate) fn adopt(&self, setup: Setup, map: &Map, publish: impl FnOnce(Arc<Map>)) {
        let now = Instant::now();
        let mut desk = self.desk.lock();
        desk.adopt(setup, now);
        let map = map.restated(&desk.inputs);
        self.publish_by(&mut desk, map, publish);
        self.metrics.forget();
        for (pop, verdict) in desk.inputs.pops.iter().zip(desk.board.verdicts()) {
            self.metrics.set_state(&pop.name, verdict);
        }
        self.judge(&mut desk);
        self.work.notify_one();
        self.keep.notify_one();
    }
}

impl Observe for Steering {
    fn observe(&self, pop: &str, target: SocketAddr, outcome: &Outcome) {
        self.metrics
            .checked(pop, target, outcome.result.is_ok(), outcome.expires);
        let mut desk = self.desk.lock();
        let Some(turned) = desk.observe(pop, target, outcome.result.is_ok(), Instant::now()) else {
            return;
        };
        if turned {
            match &outcome.result {
                Ok(()) => tracing::info!(pop, address = %target, "answers checks"),
                Err(error) => tracing::warn!(pop, address = %target, error, "fails checks"),
            }
        }
        self.judge(&mut desk);
    }
}

fn unix_seconds(clock: SystemTime) -> u64 {
    clock
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
