//! The mounts: which of them a path belongs to, and the engine that answers below it.
//!
//! The longest prefix of whole path elements counts; what is left of the path is a request of the
//! GOPROXY protocol. A path outside all mounts is a 400 that names them. Never a 404: with that word
//! the go command would carry the module's name to whoever stands next in its list, though nobody
//! has looked for the module yet.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use modcdn_core::goproxy::{GrammarError, Prefix, Request};
use modcdn_core::refusal::{Reason, Refusal};

use crate::changes::{Below, Changed, Changes};
use crate::config::{Config, Mount, Store};
use crate::disk;
use crate::fetch::{Engine, Shared};
use crate::retention::used::Uses;
use crate::store::marks::Marks;
use crate::store::mutable::Memory;
use crate::store::tree::Tree;

/// How many mounts a refusal names.
const NAMED: usize = 10;

/// See the module.
pub(crate) struct Mounts {
    memory: Arc<Memory>,
    marks: Arc<Marks>,
    changes: Arc<Changes>,
    prefixes: Vec<Prefix>,
    /// In the order of the prefixes.
    engines: Vec<Arc<Engine>>,
}

/// Why a mount's store can't be used.
pub(crate) struct Unusable {
    pub(crate) dir: PathBuf,
    pub(crate) error: io::Error,
}

impl Mounts {
    /// Opens the tree of each mount.
    ///
    /// # Errors
    /// If one of them can't be written to.
    pub(crate) async fn open(config: &Config, shared: &Shared) -> Result<Self, Unusable> {
        let mut engines = Vec::with_capacity(config.mounts.len());
        for mount in &config.mounts {
            let tree = open_tree(mount, &config.store, shared).await?;
            let uses = open_uses(mount, &config.store).await;
            engines.push(Engine::new(mount, tree, uses, shared));
        }
        let prefixes = config.mounts.iter().map(|mount| mount.prefix.clone());
        Ok(Self {
            memory: shared.memory.clone(),
            marks: shared.marks.clone(),
            changes: shared.changes.clone(),
            prefixes: prefixes.collect(),
            engines,
        })
    }

    /// Whose request a raw path is, and which.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) fn find(&self, path: &str) -> Result<(&Arc<Engine>, Request), Refusal> {
        let (at, rest) = Prefix::longest(&self.prefixes, path).ok_or_else(|| self.outside(path))?;
        let request = Request::parse(rest).map_err(|fault| self.unparsed(path, fault))?;
        Ok((&self.engines[at], request))
    }

    /// Everything at and below these paths has changed, in one mount or in all: what is known of it is
    /// doubted, refreshed at once, and edges are to ask again. How many answers were known; `None` if
    /// there is no such mount.
    pub(crate) fn changed(&self, mount: Option<&Prefix>, paths: &[Below]) -> Option<usize> {
        let meant = |prefix: &&Prefix| mount.is_none_or(|mount| mount == *prefix);
        let mounts: Vec<&Prefix> = self.prefixes.iter().filter(meant).collect();
        let mut known = 0;
        for mount in &mounts {
            for below in paths {
                let changed = Changed {
                    mount: Prefix::clone(mount),
                    below: below.clone(),
                };
                let beginning = changed.beginning();
                // First the mark: what is put into memory from now on knows of it.
                self.marks.put(&beginning, Instant::now());
                known += self.memory.change(&beginning);
                self.changes.put(changed);
            }
        }
        (!mounts.is_empty()).then_some(known)
    }

    /// What edges are to be told.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Waits until nothing is being fetched, or put into the store, any more.
    pub(crate) async fn all_landed(&self) {
        for engine in &self.engines {
            engine.landed().await;
        }
    }

    /// The engines of all mounts.
    pub(crate) fn engines(&self) -> &[Arc<Engine>] {
        &self.engines
    }

    fn outside(&self, path: &str) -> Refusal {
        Refusal::new(
            Reason::BadRequest,
            path,
            "nothing is served there: the path lies below no mount of this origin",
        )
        .hint(self.names())
    }

    fn unparsed(&self, path: &str, fault: GrammarError) -> Refusal {
        let reason = if fault.is_too_long() {
            Reason::PathTooLong
        } else {
            Reason::BadRequest
        };
        let refusal = Refusal::new(reason, path, fault.to_string());
        if self.prefixes.len() > 1 {
            return refusal.hint(self.names());
        }
        refusal
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.prefixes.iter().map(Prefix::as_str).collect();
        let more = names.len() > NAMED;
        names.truncate(NAMED);
        if more {
            names.push("…");
        }
        format!("GOPROXY may end in one of {}", names.join(" "))
    }
}

async fn open_tree(mount: &Mount, store: &Store, shared: &Shared) -> Result<Arc<Tree>, Unusable> {
    let store = mount.store(store);
    let dir = store.dir.clone();
    let (limits, archive) = (shared.limits.clone(), shared.archive.clone());
    let (budget, metrics) = (shared.budget.clone(), shared.metrics.clone());
    let opened =
        disk::blocking(move || Tree::open(&store, &limits, &archive, budget, &metrics)).await;
    opened.map_err(|error| Unusable { dir, error })
}

async fn open_uses(mount: &Mount, store: &Store) -> Option<Arc<Uses>> {
    let most = mount.retention.as_ref()?.remembered;
    let dir = mount.folder(&store.dir);
    let opened = disk::blocking(move || Ok(Uses::open(&dir, most))).await;
    opened.ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::config::Mount;
    use crate::metrics::Metrics;
    use crate::policy::sight::Sight;
    use crate::purges::{PurgeLog, Purger};

    async fn mounts(dir: &std::path::Path, prefixes: &[&str]) -> Mounts {
        let mut config = Config {
            mounts: prefixes
                .iter()
                .map(|prefix| Mount {
                    prefix: prefix.parse().unwrap(),
                    ..Mount::default()
                })
                .collect(),
            ..Config::default()
        };
        config.store.dir = dir.to_owned();
        let log = dir.join(crate::purges::FILE);
        let log = Arc::new(PurgeLog::open(&log, &config.purges).unwrap());
        let metrics = Metrics::new(&Registry::new());
        let purger = Arc::new(Purger::new(log, metrics.clone()));
        let sight = dir.join(crate::policy::sight::FILE);
        let sight = Arc::new(Sight::open(&sight, 10).unwrap());
        let shared = Shared::new(&config, purger, sight, metrics).unwrap();
        Mounts::open(&config, &shared).await.ok().unwrap()
    }

    #[tokio::test]
    async fn each_mount_has_a_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = mounts(dir.path(), &["/", "/team-a/", "/eu/b/"]).await;
        for folder in ["", "team-a", "eu/b"] {
            assert!(dir.path().join(folder).join(".spool").is_dir());
        }
        for (path, at) in [
            ("/x.example/@v/list", 0),
            ("/team-a/x.example/@v/list", 1),
            ("/eu/b/x.example/@v/list", 2),
        ] {
            let (engine, request) = mounts.find(path).ok().unwrap();
            assert!(Arc::ptr_eq(engine, &mounts.engines[at]));
            assert_eq!(request.path(), "/x.example/@v/list");
        }
    }

    #[tokio::test]
    async fn a_path_outside_all_mounts_is_a_400_that_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let only_team = mounts(dir.path(), &["/team-a/"]).await;
        for path in [
            "/x.example/@v/list",
            "/team-ab/x.example/@v/list",
            "/team-a",
        ] {
            let refusal = only_team.find(path).err().unwrap();
            assert_eq!(refusal.reason, Reason::BadRequest, "{path}");
            let text = String::from_utf8(refusal.text().to_vec()).unwrap();
            assert!(text.contains("/team-a/"), "{text}");
        }
        let two = mounts(dir.path(), &["/", "/team-a/"]).await;
        let refusal = two.find("/team-b/x.example/@v/list").err().unwrap();
        assert_eq!(refusal.reason, Reason::BadRequest);
        let text = String::from_utf8(refusal.text().to_vec()).unwrap();
        assert!(text.contains("/team-a/"), "{text}");
    }
}
