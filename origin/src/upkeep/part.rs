//! Which stores are worked on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use modcdn_core::goproxy::Prefix;

use crate::archive;
use crate::config::{Archive, Config, Limits, Mount, Store};
use crate::store::budget::Budget;
use crate::store::quarantine::Quarantine;
use crate::store::shelf::Shelf;
use crate::store::tree;
use crate::store::work::Work;

/// A store to work on.
#[derive(Clone, Debug)]
pub enum Target {
    /// A GOPROXY tree, as an origin or the go command keeps it.
    Folder(PathBuf),
    /// The parts of an origin's store, wherever they lie.
    Configured(Box<Config>),
}

/// One mount's part of a store.
pub(crate) struct Part {
    pub(crate) prefix: Prefix,
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) work: Work,
}

impl Part {
    fn open(prefix: Prefix, store: &Store, budget: &Budget) -> io::Result<Self> {
        let work = Work::beside(&store.dir);
        let quarantine = Arc::new(Quarantine::unbounded(&store.dir));
        Ok(Self {
            prefix,
            shelf: tree::shelf(store, &work, budget, &quarantine)?,
            work,
        })
    }
}

impl Target {
    /// All parts; a folder is one.
    ///
    /// # Errors
    /// If there is no such folder, or storage can't be set up.
    pub(crate) fn parts(&self) -> io::Result<Vec<Part>> {
        let budget = Budget::unbounded();
        match self {
            Self::Folder(dir) => {
                std::fs::read_dir(dir)?;
                let store = Store {
                    dir: dir.clone(),
                    ..Store::default()
                };
                Ok(vec![Part::open(Prefix::root(), &store, &budget)?])
            }
            Self::Configured(config) => config
                .mounts
                .iter()
                .map(|mount| {
                    let store = mount.store(&config.store);
                    Part::open(mount.prefix.clone(), &store, &budget)
                })
                .collect(),
        }
    }

    /// The mounts whose parts these are; a folder is as a mount with every default.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        match self {
            Self::Folder(_) => vec![Mount::default()],
            Self::Configured(config) => config.mounts.clone(),
        }
    }

    /// What bodies may be.
    pub(crate) fn limits(&self) -> (Limits, archive::Limits) {
        let (limits, archive) = match self {
            Self::Folder(_) => (Limits::default(), Archive::default()),
            Self::Configured(config) => (config.limits.clone(), config.archive.clone()),
        };
        let archives = archive.limits(limits.max_zip);
        (limits, archives)
    }
}
