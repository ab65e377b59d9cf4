//! What the checksum database says of a body.
//!
//! Records that an origin proved lie in its store: they are believed, and nobody is asked. Only on
//! demand is the database asked for the others, from the head that the store has; what it proves is
//! kept there, the head is not: the origin that runs has its own.

use std::fs;
use std::io;
use std::sync::Arc;

use modcdn_core::goproxy::{
    ModulePath, Patterns, Request, SumDb as Asked, SumDbCall, SumDbName, Version,
};
use modcdn_core::h1::H1;
use modcdn_core::sumdb::SumError;
use modcdn_core::sumdb::record::{self, Lookup};
use prometheus::Registry;

use super::part::Part;
use crate::config::{Config, Mount, Verify};
use crate::fetch::Shared;
use crate::metrics::Metrics;
use crate::policy::sight::Sight;
use crate::purges::{PurgeLog, Purger};
use crate::store::place::place;
use crate::store::shelf::OpenedBytes;
use crate::store::sum::Sum;
use crate::store::tree::Tree;
use crate::store::work::Work;
use crate::sumdb::Database;
use crate::upstream::Upstreams;

/// Asks for one mount.
pub(super) struct Prover {
    name: SumDbName,
    private: Patterns,
    is_off: bool,
    online: Option<Online>,
}

struct Online {
    database: Arc<Database>,
    /// Where its head is, and whatever else it writes down.
    _scratch: tempfile::TempDir,
}

/// What is known of a body's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It must be this.
    Is(H1),
    /// Nothing was asked, or there is nothing to say.
    None,
    /// The database could not be asked; in words.
    Unknown(String),
}

impl Prover {
    /// Believes what is stored, and asks nobody.
    pub(super) fn offline(mount: &Mount) -> Self {
        Self {
            name: mount.sumdb.key.name().clone(),
            private: mount.private.clone(),
            is_off: mount.sumdb.verify == Verify::Off,
            online: None,
        }
    }

    /// Asks for what isn't stored.
    ///
    /// # Errors
    /// If a client can't be set up.
    pub(super) fn online(config: &Config, mount: &Mount, part: &Part) -> io::Result<Self> {
        let offline = Self::offline(mount);
        let online = Online::open(config, mount, part, &offline.name)?;
        Ok(Self {
            online: (!offline.is_off).then_some(online),
            ..offline
        })
    }

    /// What a zip or a go.mod must hash to.
    pub(super) async fn hash(&self, part: &Part, request: &Request) -> Proof {
        let (Request::Zip(module, version) | Request::Mod(module, version)) = request else {
            return Proof::None;
        };
        if self.is_off || self.private.matches(module) {
            return Proof::None;
        }
        let which = |(zip, go_mod)| match request {
            Request::Zip(..) => Proof::Is(zip),
            _ => Proof::Is(go_mod),
        };
        if let Some(hashes) = self.stored(part, module, version).await {
            return which(hashes);
        }
        let Some(online) = &self.online else {
            return Proof::None;
        };
        match online.database.proof(module, version).await {
            Ok(proven) => which((proven.zip, proven.go_mod)),
            Err(SumError::NotFound(_)) => Proof::None,
            Err(error) => Proof::Unknown(error.to_string()),
        }
    }

    /// Of a record that an origin proved before it stored it.
    async fn stored(
        &self,
        part: &Part,
        module: &ModulePath,
        version: &Version,
    ) -> Option<(H1, H1)> {
        let record = Request::SumDb(Asked {
            name: self.name.clone(),
            call: SumDbCall::Lookup(module.clone(), version.clone()),
        });
        let opened = part.shelf.open(&place(&record)?).await.ok()??;
        let OpenedBytes::Small(answer) = opened.bytes else {
            return None;
        };
        // What the go command left there was proven to somebody else.
        if opened.sum? != Sum::of(&answer) {
            return None;
        }
        let lookup = Lookup::parse(&answer)?;
        record::hashes(lookup.record, module, version).ok()
    }
}

impl Online {
    fn open(config: &Config, mount: &Mount, part: &Part, name: &SumDbName) -> io::Result<Self> {
        let scratch = tempfile::tempdir()?;
        let work = Work::beside(scratch.path());
        let metrics = Metrics::new(&Registry::new());
        let purges = PurgeLog::open(&scratch.path().join("purges"), &config.purges)?;
        let purger = Arc::new(Purger::new(Arc::new(purges), metrics.clone()));
        let sight = Sight::open(&scratch.path().join("sight"), config.sight.versions)?;
        let shared = Shared::new(config, purger, Arc::new(sight), metrics.clone());
        let shared = shared.map_err(io::Error::other)?;
        let tree = Tree::over(part.shelf.clone(), work, config, &metrics);
        let (from, to) = (head(&part.work, name), tree.head_file(name));
        if from.exists() {
            fs::create_dir_all(to.parent().unwrap_or(scratch.path()))?;
            fs::copy(from, to)?;
        }
        let upstreams = Arc::new(Upstreams::new(mount, &shared));
        Ok(Self {
            database: Database::open(mount, tree, upstreams, &shared),
            _scratch: scratch,
        })
    }
}

fn head(work: &Work, name: &SumDbName) -> std::path::PathBuf {
    work.dir().join(".sumdb").join(name.as_str()).join("head")
}
