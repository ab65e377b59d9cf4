//! What decisions depend on, looked for: ages and the author's notices.
//!
//! An age is that of the version's record in the checksum database, where one vouches for the mount's
//! modules: the record holds the hashes of the content, so it can't be older than what is given out. Where
//! none does, it is the time since this origin first saw the version. An age that can't be found out
//! because something fails is neither: the request is answered 503, and a list leaves the version out.
//!
//! Notices come from the go.mod of the module's latest version, as the go command takes them, and
//! are used as long as lists are. Where it can't be had, the last known count, else none: what an author
//! says of his module is no reason to stop serving it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use modcdn_core::gomod::Notices;
use modcdn_core::goproxy::{ModulePath, Request, Version};
use modcdn_core::purge::{Mode, Purge, Selector};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{Case, lists};
use crate::disk;
use crate::fetch::Found;
use crate::policy::nearest::latest;
use crate::policy::sight::Where;
use crate::policy::{Age, Facts};
use crate::store::tree::StoredBody;

/// Records and notices that are remembered, by number; beyond it all are forgotten at once.
const MOST: usize = 100_000;

/// Records that are looked up at once for one list.
const AT_ONCE: usize = 16;

/// Where records of a checksum database come from.
#[async_trait]
pub(crate) trait RecordSource: Send + Sync {
    /// The database's name.
    fn database(&self) -> &str;

    /// The number of a version's record, proven; `None` if the database knows no such version.
    ///
    /// # Errors
    /// It can't be found out now. The text says why.
    async fn record(
        self: Arc<Self>,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Option<u64>, String>;

    /// Sees how long the database's log is now.
    async fn look(self: Arc<Self>);
}

/// The records that are known: their numbers never change.
pub(super) struct Records {
    source: Option<Arc<dyn RecordSource>>,
    known: Mutex<HashMap<String, u64>>,
}

impl Records {
    pub(super) fn new(source: Option<Arc<dyn RecordSource>>) -> Self {
        let known = Mutex::default();
        Self { source, known }
    }

    pub(super) async fn look(&self) {
        if let Some(source) = &self.source {
            source.clone().look().await;
        }
    }

    async fn get(
        &self,
        source: &Arc<dyn RecordSource>,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Option<u64>, String> {
        let key = format!("{module}@{version}");
        if let Some(record) = self.known.lock().get(&key) {
            return Ok(Some(*record));
        }
        let record = source.clone().record(module, version).await?;
        if let Some(record) = record {
            let mut known = self.known.lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(key, record);
        }
        Ok(record)
    }
}

/// What authors say of their modules, as far as somebody looked.
pub(super) struct Heard {
    freshness: Duration,
    modules: Mutex<HashMap<ModulePath, Word>>,
}

#[derive(Clone)]
struct Word {
    since: Instant,
    notices: Arc<Notices>,
}

impl Heard {
    pub(super) fn new(freshness: Duration) -> Self {
        let modules = Mutex::default();
        Self { freshness, modules }
    }

    /// The last word, and whether it is fresh.
    fn last(&self, module: &ModulePath) -> Option<(Arc<Notices>, bool)> {
        let modules = self.modules.lock();
        let word = modules.get(module)?;
        let fresh = word.since.elapsed() < self.freshness;
        Some((word.notices.clone(), fresh))
    }

    /// True if it isn't what was known in this run.
    fn keep(&self, module: &ModulePath, notices: &Arc<Notices>) -> bool {
        let word = Word {
            since: Instant::now(),
            notices: notices.clone(),
        };
        let mut modules = self.modules.lock();
        if modules.len() >= MOST {
            modules.clear();
        }
        let before = modules.insert(module.clone(), word);
        before.is_none_or(|before| before.notices != *notices)
    }
}

/// What an author says of one module.
#[derive(Clone)]
pub(super) struct Said(Arc<Notices>);

impl Said {
    /// Adds what he says of a version to what is known of it.
    pub(super) fn add_to(&self, facts: &mut Facts, version: &Version) {
        let retraction = self.0.retraction(version);
        facts.retracted = retraction.map(|one| one.rationale.clone());
        facts.deprecated.clone_from(&self.0.deprecated);
    }
}

impl Case<'_> {
    /// How old a version is.
    ///
    /// # Errors
    /// It can't be found out now. The text says why.
    pub(super) async fn age(&self, module: &ModulePath, version: &Version) -> Result<Age, String> {
        let governor = self.governor;
        if let Some(source) = &governor.records.source {
            let record = governor.records.get(source, module, version).await;
            let record = record.inspect_err(|_| self.count_unknown("age"))?;
            if let Some(record) = record {
                return Ok(self.age_of_record(source.database(), record));
            }
        }
        self.look_into_store(module, version).await;
        if let Some(seen) = self.seen(module, version) {
            return Ok(Age::Seen(seen));
        }
        // What nobody may have before it was seen would never be seen.
        let info = Request::Info(module.clone(), version.clone());
        if self.find(&info).await.is_ok() {
            let sight = &governor.sight;
            sight.saw(&governor.prefix, module, [version], Where::Info, self.now);
        }
        Ok(self.seen(module, version).map_or(Age::Unknown, Age::Seen))
    }

    /// What was stored before the first sights were written down is as old as it has been stored: that is
    /// looked up once a run.
    async fn look_into_store(&self, module: &ModulePath, version: &Version) {
        let governor = self.governor;
        let key = format!("{module}@{version}");
        if governor.looked_up.lock().contains(&key) {
            return;
        }
        if let Some(since) = self.engine.tree.stored_at(module, version).await {
            let sight = &governor.sight;
            sight.stored(&governor.prefix, module, version, since, self.now);
        }
        let mut looked_up = governor.looked_up.lock();
        if looked_up.len() >= MOST {
            looked_up.clear();
        }
        looked_up.insert(key);
    }

    fn seen(&self, module: &ModulePath, version: &Version) -> Option<Duration> {
        let (sight, prefix) = (&self.governor.sight, &self.governor.prefix);
        sight.age(prefix, module, version, self.now)
    }

    fn age_of_record(&self, database: &str, record: u64) -> Age {
        let governor = self.governor;
        let a_day = governor.settings.records_a_day;
        let age = governor.sight.record_age(database, record, self.now, a_day);
        age.map_or(Age::Unknown, Age::Recorded)
    }

    /// The ages of these versions, as far as they are known within the bounds of one list; the
    /// first ones are looked for first.
    pub(super) async fn ages(
        &self,
        module: &ModulePath,
        versions: Vec<Version>,
    ) -> HashMap<Version, Age> {
        let looking = versions.into_iter().take(self.governor.settings.lookups);
        let looking = stream::iter(looking).map(|version| async move {
            let age = self.age(module, &version).await.unwrap_or(Age::Unknown);
            (version, age)
        });
        let mut looking = looking.buffer_unordered(AT_ONCE);
        let mut ages = HashMap::new();
        let all = async {
            while let Some((version, age)) = looking.next().await {
                ages.insert(version, age);
            }
        };
        // Whatever came by then counts; the others go on being found out by whoever asks for them.
        let _ = timeout(self.governor.patience, all).await;
        ages
    }

    /// An age that is known without looking anywhere.
    pub(super) fn known_age(&self, module: &ModulePath, version: &Version) -> Option<Age> {
        let governor = self.governor;
        let key = format!("{module}@{version}");
        let Some(source) = &governor.records.source else {
            let looked_up = governor.looked_up.lock().contains(&key);
            return looked_up.then(|| self.age_so_far(module, version));
        };
        let record = *governor.records.known.lock().get(&key)?;
        Some(self.age_of_record(source.database(), record))
    }

    /// What can be said of an age for which there was no time to look.
    pub(super) fn age_so_far(&self, module: &ModulePath, version: &Version) -> Age {
        let records = self.governor.records.source.is_some();
        let seen = self.seen(module, version).filter(|_| !records);
        seen.map_or(Age::Unknown, Age::Seen)
    }

    /// What the author says of a module.
    pub(super) async fn notices(&self, module: &ModulePath) -> Said {
        let heard = &self.governor.heard;
        let last = heard.last(module);
        if let Some((notices, true)) = last {
            return Said(notices);
        }
        let looking = timeout(self.governor.patience, self.look_for_notices(module));
        let Ok(Some(notices)) = looking.await else {
            self.count_unknown("notices");
            return Said(last.map(|(notices, _)| notices).unwrap_or_default());
        };
        let notices = Arc::new(notices);
        if heard.keep(module, &notices) {
            self.tell_of(module, &notices).await;
        }
        Said(notices)
    }

    async fn look_for_notices(&self, module: &ModulePath) -> Option<Notices> {
        let latest = self.latest_of(module).await?;
        let go_mod = Request::Mod(module.clone(), latest);
        let Found::Stored(stored) = self.find(&go_mod).await.ok()? else {
            return None;
        };
        // Nobody's go.mod is so long.
        let StoredBody::Small(text) = stored.body else {
            return None;
        };
        match Notices::parse(&text) {
            Ok(notices) => Some(notices),
            Err(error) => {
                tracing::debug!(%module, %error, "the latest go.mod can't be read for notices");
                Some(Notices::default())
            }
        }
    }

    /// The version whose go.mod counts: the one that the go command calls latest, were nothing
    /// retracted.
    async fn latest_of(&self, module: &ModulePath) -> Option<Version> {
        let list = Request::List(module.clone());
        if let Ok(Found::Answer(list)) = self.find(&list).await {
            let versions = lists::versions(&list.answer.body);
            let compatible = latest(&versions, |version| !version.is_incompatible());
            if let Some(version) = compatible.or_else(|| latest(&versions, |_| true)) {
                return Some(version);
            }
        }
        let latest = Request::Latest(module.clone());
        match self.find(&latest).await {
            Ok(Found::Answer(latest)) => lists::version_of(&latest.answer.body),
            _ => None,
        }
    }

    /// A notice that blocks versions is news to edges.
    async fn tell_of(&self, module: &ModulePath, notices: &Notices) {
        use crate::config::policy::OnNotice::Deny;
        let retracts = self.policy.retracted == Deny && !notices.retractions.is_empty();
        let deprecates = self.policy.deprecated == Deny && notices.deprecated.is_some();
        if !retracts && !deprecates {
            return;
        }
        let selector = Selector::Module(Some(self.governor.prefix.clone()), module.clone());
        let purge = Purge {
            selector,
            mode: Mode::Soft,
        };
        let (purger, now) = (self.governor.purger.clone(), self.now);
        // What went wrong is counted and logged there.
        let _ = disk::blocking(move || purger.purge(purge, now)).await;
    }
}
