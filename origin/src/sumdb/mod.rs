//! The checksum database of a mount: what it proves about modules, and what is passed on of it.
//!
//! In the order of a proof: [`Database::begin`] starts it beside the fetch, `health` says whether the
//! database is worth asking, `route` knows whom to ask, `io` is the world of `modcdn_core::sumdb`'s
//! client, `verdict` says what proof or failure means for a body, `known` remembers it. `answers`
//! serves `/sumdb/<name>/…` from what was proven.
//!
//! ```text
//! <dir>/sumdb/<name>/lookup/<module>@<version>   a record, and the head of ours it was proven in
//! <dir>/sumdb/<name>/tile/8/…                    tiles, as the go command keeps them
//! <dir>/.sumdb/<name>/head                       our tree head; it only advances
//! ```
//!
//! Failure rule: nothing is stored before it is proven, so what is stored is passed on without asking
//! anyone. Answers that contradict what was signed or proven raise an alarm
//! (`modcdn_origin_sumdb_alarms_total`, an error in the log) and are refused; our own head and tiles are
//! as good as before then.

mod answers;
mod health;
mod io;
mod known;
mod route;
mod verdict;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{ModulePath, Patterns, Request, SumDb as Asked, SumDbCall, Version};
use modcdn_core::h1::H1;
use modcdn_core::refusal::Refusal;
use modcdn_core::sumdb::{Client, Proven, SumError};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::health::Health;
use self::io::Io;
use self::known::Known;
use self::route::Route;
pub(crate) use self::verdict::Standing;
use self::verdict::{Cause, Denied, Part};
use crate::config::{Freshness, Mount, SumDb, Timeouts, Unreachable, Verify};
use crate::fetch::Shared;
use crate::fetch::flight::{Flights, Landing};
use crate::metrics::Metrics;
use crate::policy::govern::RecordSource;
use crate::policy::sight::Sight;
use crate::store::mutable::Since;
use crate::store::tree::{Look, StoredBody, Tree};
use crate::upstream::{Upstreams, asked};

/// See the module.
pub(crate) struct Database {
    config: SumDb,
    private: Patterns,
    client: Client<Io>,
    route: Arc<Route>,
    tree: Arc<Tree>,
    metrics: Metrics,
    freshness: Freshness,
    timeouts: Timeouts,
    known: Known,
    proofs: Flights<(ModulePath, Version), Result<Proven, SumError>>,
    tiles: Flights<String, Result<Bytes, SumError>>,
    heads: Flights<(), Result<(), SumError>>,
    /// When the database was asked for its head last, and had one of our log.
    refreshed: Mutex<Option<Since>>,
    health: Health,
    /// Where the history of heads is kept.
    sight: Arc<Sight>,
}

/// Numbers of records, for ages of versions.
#[async_trait]
impl RecordSource for Database {
    fn database(&self) -> &str {
        self.config.key.name().as_str()
    }

    async fn record(
        self: Arc<Self>,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Option<u64>, String> {
        match self.proof(module, version).await {
            Ok(proven) => Ok(Some(proven.record)),
            Err(SumError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn look(self: Arc<Self>) {
        let latest = Asked {
            name: self.config.key.name().clone(),
            call: SumDbCall::Latest,
        };
        // What went wrong is counted.
        let _ = self.find(&latest, false).await;
    }
}

/// A proof that is under way.
pub(crate) struct Pending {
    database: Arc<Database>,
    proof: JoinHandle<Result<Proven, SumError>>,
}

impl Database {
    /// The database that a mount names, with the head that was kept for it.
    pub(crate) fn open(
        mount: &Mount,
        tree: Arc<Tree>,
        upstreams: Arc<Upstreams>,
        shared: &Shared,
    ) -> Arc<Self> {
        let config = mount.sumdb.clone();
        let route = Arc::new(Route::new(&config, upstreams));
        let io = || Io::new(&config, tree.clone(), route.clone());
        Arc::new(Self {
            client: open_client(&config, io, &shared.metrics),
            private: mount.private.clone(),
            known: Known::new(shared.freshness.mutable.get()),
            route,
            tree,
            metrics: shared.metrics.clone(),
            freshness: shared.freshness.clone(),
            timeouts: shared.timeouts.clone(),
            proofs: Flights::default(),
            tiles: Flights::default(),
            heads: Flights::default(),
            refreshed: Mutex::default(),
            sight: shared.sight.clone(),
            health: Health::new(config.rest.get()),
            config,
        })
    }

    /// Whether the database vouches for anything here.
    pub(crate) fn is_asked(&self) -> bool {
        self.config.verify != Verify::Off
    }

    /// Whether nobody is asked about this request's body: verification is off, the module is
    /// private, or it is nothing that has a hash in go.sum.
    pub(crate) fn exempts(&self, request: &Request) -> bool {
        match request {
            Request::Mod(module, _) | Request::Zip(module, _) => {
                self.config.verify == Verify::Off || self.private.matches(module)
            }
            _ => true,
        }
    }

    /// Whether a body that isn't verified may be served.
    pub(crate) fn tolerates(&self, request: &Request) -> bool {
        let strict = self.config.verify == Verify::Required
            && self.config.unreachable == Unreachable::Refuse;
        !strict && !self.exempts(request)
    }

    /// Starts the proof for a body that is about to be fetched; `None` if there is nothing to
    /// prove.
    pub(crate) fn begin(self: &Arc<Self>, request: &Request) -> Option<Pending> {
        let (Request::Mod(module, version) | Request::Zip(module, version)) = request else {
            return None;
        };
        if self.exempts(request) {
            return None;
        }
        let (database, module, version) = (self.clone(), module.clone(), version.clone());
        let proof = async move { database.proof(&module, &version).await };
        Some(Pending {
            database: self.clone(),
            proof: tokio::spawn(proof),
        })
    }

    /// What the database proves of a version: stored, else proven now, once for all who ask. Private
    /// modules must not come here.
    pub(crate) async fn proof(
        self: &Arc<Self>,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Proven, SumError> {
        if let Some(proven) = self.stored_proof(module, version).await {
            return Ok(proven);
        }
        let key = (module.clone(), version.clone());
        let database = self.clone();
        let fly = |landing: Landing<(ModulePath, Version), _>| async move {
            landing.say(database.prove(key.0, key.1).await);
        };
        let key = (module.clone(), version.clone());
        let news = self.proofs.join(&key, fly).await.news;
        news.unwrap_or_else(|| Err(SumError::Unreachable("the proof crashed".to_owned())))
    }

    /// What was proven and stored, proven again: with the tiles that were stored then it costs
    /// no request, and whoever brought a record into the tree by another way gains nothing by it.
    async fn stored_proof(&self, module: &ModulePath, version: &Version) -> Option<Proven> {
        let Look::Found(stored) = self.tree.look(&self.lookup(module, version)).await else {
            return None;
        };
        let StoredBody::Small(answer) = stored.body else {
            return None;
        };
        let proof = self.bounded(self.client.prove(&answer, module, version));
        let proven = proof.await.inspect_err(|error| {
            tracing::warn!(%module, %version, %error, "a stored record can't be proven");
        });
        proven.ok()
    }

    async fn prove(&self, module: ModulePath, version: Version) -> Result<Proven, SumError> {
        if !self.health.may_ask(Instant::now()) {
            let why = "it did not answer several times; it is tried again in a moment";
            return Err(SumError::Unreachable(why.to_owned()));
        }
        let lookup = self.client.lookup(&module, &version);
        let proof = self.bounded(lookup).await;
        self.heed(&proof, || format!("{module}@{version}"));
        if let Ok(proven) = &proof {
            let request = self.lookup(&module, &version);
            if let Err(error) = self.tree.put(&request, proven.answer.clone()).await {
                self.tree.note("put", &error);
            }
        }
        proof
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, SumError>>,
    ) -> Result<T, SumError> {
        let limit = self.config.timeout.get();
        let late = || SumError::Unreachable(format!("no proof within {limit:?}"));
        timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// Counts how asking the database ended, and raises an alarm if somebody must look.
    fn heed<T>(&self, ended: &Result<T, SumError>, what: impl Fn() -> String) {
        let outcome = match ended {
            Ok(_) => "proven",
            Err(error) => Cause::from(error).name(),
        };
        self.metrics
            .sumdb_proofs
            .with_label_values(&[outcome])
            .inc();
        let answered = !matches!(ended, Err(SumError::Unreachable(_)));
        self.health.heed(answered, Instant::now());
        if let Some(head) = self.client.head() {
            let name = self.config.key.name().as_str();
            self.sight.saw_head(name, head.tree.size, SystemTime::now());
            let size = i64::try_from(head.tree.size).unwrap_or(i64::MAX);
            let database = self.config.key.name().as_str();
            let records = &self.metrics.sumdb_records;
            records.with_label_values(&[database]).set(size);
        }
        let Err(error) = ended else { return };
        let (database, what) = (self.config.key.name(), what());
        if Cause::from(error).is_alarming() {
            self.alarm(Cause::from(error));
            tracing::error!(%database, what, %error, "checksum database misbehaves");
        } else if Cause::from(error) == Cause::Unknown {
            // Also where the go command only tries where a module ends.
            tracing::debug!(%database, what, %error, "no proof");
        } else {
            tracing::warn!(%database, what, %error, "no proof");
        }
    }

    fn alarm(&self, cause: Cause) {
        let alarms = &self.metrics.sumdb_alarms;
        alarms.with_label_values(&[cause.name()]).inc();
    }

    fn lookup(&self, module: &ModulePath, version: &Version) -> Request {
        self.request(SumDbCall::Lookup(module.clone(), version.clone()))
    }

    fn request(&self, call: SumDbCall) -> Request {
        Request::SumDb(Asked {
            name: self.config.key.name().clone(),
            call,
        })
    }

    /// What is known of a stored body, for the head of its answer.
    pub(crate) fn standing(&self, request: &Request, digest: Sha256) -> Standing {
        if self.exempts(request) {
            return Standing::Exempt;
        }
        // Nothing known means that nobody has looked yet; whoever serves it has, just before.
        let known = self.known.get(&request.path(), digest);
        known.unwrap_or(Standing::Unverified(Cause::Unreachable))
    }

    /// Judges a stored body, of which `hash` is the hash. Stored means trusted once: only a proof
    /// of the contrary takes it away. `only_stored`: nobody is asked.
    ///
    /// # Errors
    /// The refusal, if the database proves another hash.
    pub(crate) async fn vouch(
        self: &Arc<Self>,
        request: &Request,
        digest: Sha256,
        hash: H1,
        only_stored: bool,
    ) -> Result<(), Refusal> {
        let (Request::Mod(module, version) | Request::Zip(module, version)) = request else {
            return Ok(());
        };
        let proof = self.proof_of_stored(module, version, only_stored).await;
        let standing = match self.judge(request, hash, &proof) {
            Ok(standing) => standing,
            Err(denied) if denied.cause == Cause::Mismatch => return Err(denied.refusal),
            Err(denied) => Standing::Unverified(denied.cause),
        };
        // Where nobody was asked, nothing was found out.
        if !only_stored || standing == Standing::Verified {
            self.settle(request, digest, standing);
        }
        Ok(())
    }

    /// Whether [`vouch`](Self::vouch) has anything to find out.
    pub(crate) fn must_vouch(&self, request: &Request, digest: Sha256) -> bool {
        !self.exempts(request) && self.known.get(&request.path(), digest).is_none()
    }

    async fn proof_of_stored(
        self: &Arc<Self>,
        module: &ModulePath,
        version: &Version,
        only_stored: bool,
    ) -> Result<Proven, SumError> {
        if let Some(proven) = self.stored_proof(module, version).await {
            return Ok(proven);
        }
        if only_stored || !self.health.is_good(Instant::now()) {
            return Err(SumError::Unreachable("it isn't asked just now".to_owned()));
        }
        let limit = self.timeouts.refresh.get();
        let late = || SumError::Unreachable(format!("no proof within {limit:?}"));
        let proof = timeout(limit, self.proof(module, version));
        proof.await.unwrap_or_else(|_| Err(late()))
    }

    fn judge(
        &self,
        request: &Request,
        hash: H1,
        proof: &Result<Proven, SumError>,
    ) -> Result<Standing, Denied> {
        let part = part_of(request);
        let judged = verdict::judge(&self.config, part, hash, proof, &asked(request));
        let cause = match &judged {
            Ok(Standing::Unverified(cause)) => Some(*cause),
            Ok(_) => None,
            Err(denied) => Some(denied.cause),
        };
        if cause == Some(Cause::Mismatch) {
            self.alarm(Cause::Mismatch);
            let what = asked(request);
            let proven = proof.as_ref().ok().map(|proven| match part {
                Part::Mod => proven.go_mod,
                Part::Zip => proven.zip,
            });
            tracing::error!(what, found = %hash, ?proven, "not what the checksum database has");
        }
        judged
    }

    /// Remembers and counts what became of a body that is served.
    pub(crate) fn settle(&self, request: &Request, digest: Sha256, standing: Standing) {
        let kind = part_of(request).kind();
        match standing {
            Standing::Verified => self.metrics.verified.with_label_values(&[kind]).inc(),
            Standing::Exempt => {}
            Standing::Unverified(cause) => {
                let unverified = &self.metrics.unverified;
                unverified.with_label_values(&[kind, cause.name()]).inc();
            }
        }
        self.known.put(request.path(), digest, standing);
    }
}

fn part_of(request: &Request) -> Part {
    match request {
        Request::Mod(..) => Part::Mod,
        _ => Part::Zip,
    }
}

impl Pending {
    /// Waits for the proof, and judges a body by its hash: [`H1::of_mod`] of a `.mod`, the content's of
    /// a zip.
    ///
    /// # Errors
    /// The refusal to answer with; the body must not be served.
    pub(crate) async fn verify(self, request: &Request, hash: H1) -> Result<Standing, Refusal> {
        let crashed = || SumError::Unreachable("the proof crashed".to_owned());
        let proof = self.proof.await.unwrap_or_else(|_| Err(crashed()));
        let judged = self.database.judge(request, hash, &proof);
        judged.map_err(|denied| denied.refusal)
    }
}

/// A client with the head that was kept. One that can't be used is put aside, loudly: without it,
/// an older history could be shown to us unnoticed.
fn open_client(config: &SumDb, io: impl Fn() -> Io, metrics: &Metrics) -> Client<Io> {
    let key = config.key.key();
    let unusable = match io().kept_head() {
        Ok(None) => return Client::new(key.clone(), io()),
        Ok(Some(note)) => match Client::resume(key.clone(), note, io()) {
            Ok(client) => return client,
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let database = config.key.name();
    tracing::error!(%database, unusable, "the kept tree head can't be used; begins anew");
    metrics.sumdb_alarms.with_label_values(&["head"]).inc();
    if let Err(error) = io().put_head_aside() {
        tracing::error!(%database, %error, "and it can't be put aside");
    }
    Client::new(key.clone(), io())
}
