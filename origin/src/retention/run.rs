//! One run over a mount's part of the store.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use modcdn_core::goproxy::{ModulePath, Prefix, Request, Version};
use serde::Serialize;

use super::group::{Group, groups};
use super::plan::{Cutoff, Judged, Kept, Rules, Tally, Verdict, Why};
use super::used::Uses;
use crate::config::{Config, Mount, Retention};
use crate::store::budget::Budget;
use crate::store::place::place;
use crate::store::quarantine::Quarantine;
use crate::store::shelf::Shelf;
use crate::store::tree;
use crate::store::work::Work;
use crate::upkeep::pace::Pace;

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mount has the section.
    #[error("no mount of this configuration has a section `retention`")]
    NotConfigured,
    /// The store can't be listed.
    #[error("can't list the store of {mount}: {error}")]
    List {
        /// Of which mount.
        mount: Prefix,
        /// What the system or the storage said.
        error: io::Error,
    },
}

/// What a run tells as it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// A version goes, or would go.
    Removed(Removal),
    /// A version can't be removed.
    Failed(Removal, String),
}

/// A version that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Of which mount.
    pub mount: Prefix,
    /// Of which module.
    pub module: ModulePath,
    /// Which version.
    pub version: Version,
    /// Why.
    pub why: Why,
    /// How long its files are.
    pub bytes: u64,
    /// When it was stored.
    pub stored: SystemTime,
    /// When it was asked for last, to the hour; when it was stored, if that isn't known.
    pub used: SystemTime,
}

/// What a run over one mount came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The mount's prefix.
    pub mount: String,
    /// Versions there were.
    pub versions: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Versions that went, or would go.
    pub removed: u64,
    /// Bytes of their files.
    pub removed_bytes: u64,
    /// Versions that stayed only by `keep.modules`.
    pub kept_by_module: u64,
    /// Versions that stayed only by `keep.newest`.
    pub kept_as_newest: u64,
    /// Versions that stayed only because nobody can fetch them again.
    pub kept_as_irreplaceable: u64,
    /// Bytes over `max_size` all the same.
    pub over: u64,
    /// Versions that could not be removed.
    pub failed: u64,
}

/// Runs over all mounts that have the section; removes nothing if it is a dry run.
///
/// # Errors
/// See [`Error`]. What can't be removed is an event.
pub async fn run(
    config: &Config,
    dry: bool,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<Vec<Summary>, Error> {
    let mut summaries = Vec::new();
    for mount in &config.mounts {
        let Some(retention) = &mount.retention else {
            continue;
        };
        let listed = |error| Error::List {
            mount: mount.prefix.clone(),
            error,
        };
        let run = open(config, mount, retention, dry).map_err(listed)?;
        summaries.push(run.go(tell).await.map_err(listed)?);
    }
    if summaries.is_empty() {
        return Err(Error::NotConfigured);
    }
    Ok(summaries)
}

/// A run of its own, beside an origin that may be running.
fn open(config: &Config, mount: &Mount, retention: &Retention, dry: bool) -> io::Result<Run> {
    let store = mount.store(&config.store);
    let work = Work::beside(&store.dir);
    let quarantine = Arc::new(Quarantine::unbounded(&store.dir));
    Ok(Run {
        shelf: tree::shelf(&store, &work, &Budget::unbounded(), &quarantine)?,
        uses: Arc::new(Uses::open(&store.dir, retention.remembered)),
        mount: mount.clone(),
        retention: retention.clone(),
        pace: Arc::new(Pace::new(Some(u64::from(retention.files_per_second)))),
        dry,
    })
}

/// A run to be.
pub(super) struct Run {
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) uses: Arc<Uses>,
    pub(super) mount: Mount,
    pub(super) retention: Retention,
    pub(super) pace: Arc<Pace>,
    pub(super) dry: bool,
}

impl Run {
    /// Learns, decides, removes.
    pub(super) async fn go(&self, tell: &mut (dyn FnMut(Event) + Send)) -> io::Result<Summary> {
        let now = SystemTime::now();
        let mut tally = Tally::default();
        let mut first = std::pin::pin!(groups(self.walk()));
        while let Some(group) = first.try_next().await? {
            tally.add(&self.judge(&group, now));
        }
        let max_size = self.retention.max_size.map(|size| size.as_u64());
        let mut cutoff = tally.cutoff(max_size);
        let mut summary = Summary {
            mount: self.mount.prefix.to_string(),
            versions: tally.versions,
            bytes: tally.bytes,
            over: cutoff.over,
            ..Summary::default()
        };
        let mut second = std::pin::pin!(groups(self.walk()));
        while let Some(group) = second.try_next().await? {
            let judged = self.judge(&group, now);
            self.settle(&group.module, &judged, &mut cutoff, &mut summary, tell)
                .await;
        }
        Ok(summary)
    }

    fn judge(&self, group: &Group, now: SystemTime) -> Vec<Judged> {
        let rules = Rules {
            retention: &self.retention,
            now,
            can_fetch: &|module| self.mount.can_fetch(module),
            last_use: &|module, version| self.uses.last(module, version),
        };
        rules.judge(group)
    }

    /// Everything there is, no faster than allowed.
    fn walk(&self) -> futures::stream::BoxStream<'static, io::Result<crate::store::shelf::Entry>> {
        let pace = self.pace.clone();
        let paced = self.shelf.walk().and_then(move |entry| {
            let pace = pace.clone();
            async move {
                pace.take(1).await;
                Ok(entry)
            }
        });
        Box::pin(paced)
    }

    async fn settle(
        &self,
        module: &ModulePath,
        judged: &[Judged],
        cutoff: &mut Cutoff,
        summary: &mut Summary,
        tell: &mut (dyn FnMut(Event) + Send),
    ) {
        let mut goes = Vec::new();
        for one in judged {
            match cutoff.decide(one) {
                Verdict::Stays => {}
                Verdict::Protected(Kept::Module) => summary.kept_by_module += 1,
                Verdict::Protected(Kept::Newest) => summary.kept_as_newest += 1,
                Verdict::Protected(Kept::Irreplaceable) => summary.kept_as_irreplaceable += 1,
                Verdict::Goes(why) => goes.push(self.removal(module, one, why)),
            }
        }
        let unlisted = self.unlist(module, &goes).await;
        for removal in goes {
            let removed = match &unlisted {
                Ok(()) => self.remove(&removal).await,
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            match removed {
                Ok(()) => {
                    summary.removed += 1;
                    summary.removed_bytes += removal.bytes;
                    tell(Event::Removed(removal));
                }
                Err(error) => {
                    summary.failed += 1;
                    tell(Event::Failed(removal, error.to_string()));
                }
            }
        }
    }

    fn removal(&self, module: &ModulePath, one: &Judged, why: Why) -> Removal {
        Removal {
            mount: self.mount.prefix.clone(),
            module: module.clone(),
            version: one.version.clone(),
            why,
            bytes: one.held.bytes,
            stored: one.held.stored,
            used: one.used,
        }
    }

    async fn unlist(&self, module: &ModulePath, goes: &[Removal]) -> io::Result<()> {
        if self.dry || goes.is_empty() {
            return Ok(());
        }
        let versions: Vec<Version> = goes.iter().map(|one| one.version.clone()).collect();
        self.shelf.list_versions(module, &versions).await
    }

    async fn remove(&self, removal: &Removal) -> io::Result<()> {
        if self.dry {
            return Ok(());
        }
        let Removal {
            module, version, ..
        } = removal;
        let bodies = [
            Request::Info(module.clone(), version.clone()),
            Request::Mod(module.clone(), version.clone()),
            Request::Zip(module.clone(), version.clone()),
        ];
        let mut places: Vec<String> = bodies.iter().filter_map(place).collect();
        if let Some(zip) = places.last().and_then(|zip| zip.strip_suffix(".zip")) {
            let hash = format!("{zip}.ziphash");
            places.push(hash);
        }
        for place in places {
            self.pace.take(1).await;
            self.shelf.remove(&place).await?;
        }
        Ok(())
    }
}
