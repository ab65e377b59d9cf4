//! From a request to the thing that answers it: store, else flight, else a refusal.
//!
//! Bodies that never change come from the [tree](crate::store::tree); what isn't there is fetched
//! once ([`flight`]), a zip so that everyone follows it while it grows. Answers that may change
//! are used while fresh, then asked for again, and used for longer if upstream fails.

mod ahead;
mod body;
mod changing;
pub(crate) mod flight;
mod following;
mod pin;
mod proof;
mod provisional;
mod refresh;
mod shared;
mod vouch;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use modcdn_core::goproxy::{Prefix, Request, SumDb};
use modcdn_core::purge::{Mode, Subject};
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::flight::{Flights, Joined};
pub(crate) use self::provisional::Provisional;
pub(crate) use self::refresh::Refresher;
pub(crate) use self::shared::Shared;
use crate::archive;
use crate::config::{Freshness, Mount, Timeouts};
use crate::metrics::Metrics;
use crate::policy::govern::{self, Governor, RecordSource};
use crate::purges::Purger;
use crate::retention::used::Uses;
use crate::store::mutable::{Known, Mutables, Use};
use crate::store::negative::Negatives;
use crate::store::spool::Spool;
use crate::store::tree::{self, Look, OutOfReach, Stored, Tree, Unsummed};
use crate::sumdb::Database;
use crate::upstream::{Upstreams, asked};

/// Everything that finding below one mount needs.
pub(crate) struct Engine {
    pub(crate) tree: Arc<Tree>,
    pub(crate) mutables: Mutables,
    pub(crate) freshness: Freshness,
    pub(crate) provisional: Provisional,
    pub(crate) metrics: Metrics,
    pub(crate) sumdb: Arc<Database>,
    negatives: Negatives,
    bad: Negatives,
    archives: archive::Limits,
    processors: Arc<Semaphore>,
    upstreams: Arc<Upstreams>,
    timeouts: Timeouts,
    flights: Flights<String, News>,
    places: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    purger: Arc<Purger>,
    /// What the mount's policy makes of it all.
    pub(crate) governor: Governor,
    /// Where the mount begins.
    pub(crate) prefix: Prefix,
    /// When versions are asked for, where somebody wants to know.
    uses: Option<Arc<Uses>>,
}

/// What a flight has to say.
type News = Result<Found, Refusal>;

/// What answers a request.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A body that never changes.
    Stored(Stored),
    /// One that is being fetched.
    Growing(Arc<Spool>),
    /// An answer that may change.
    Answer(Known),
}

impl Engine {
    /// The engine of one mount, over its tree.
    pub(crate) fn new(
        mount: &Mount,
        tree: Arc<Tree>,
        uses: Option<Arc<Uses>>,
        shared: &Shared,
    ) -> Arc<Self> {
        let prefix = mount.prefix.clone();
        let upstreams = Arc::new(Upstreams::new(mount, shared));
        let sumdb = Database::open(mount, tree.clone(), upstreams.clone(), shared);
        let records = sumdb
            .is_asked()
            .then(|| sumdb.clone() as Arc<dyn RecordSource>);
        Arc::new(Self {
            mutables: Mutables::new(
                tree.clone(),
                prefix.clone(),
                shared.freshness.clone(),
                shared.memory.clone(),
                shared.marks.clone(),
            ),
            negatives: shared.negatives.of(prefix.clone()),
            bad: shared.bad.of(prefix),
            archives: shared.archives,
            processors: shared.processors.clone(),
            sumdb,
            tree,
            freshness: shared.freshness.clone(),
            provisional: Provisional::default(),
            upstreams,
            timeouts: shared.timeouts.clone(),
            flights: Flights::default(),
            places: shared.places.clone(),
            ahead: shared.ahead.clone(),
            purger: shared.purger.clone(),
            governor: Governor::new(govern::Parts {
                policy: mount.policy.clone(),
                prefix: mount.prefix.clone(),
                private: mount.private.clone(),
                settings: shared.ages.clone(),
                patience: shared.timeouts.refresh.get(),
                freshness: shared.freshness.mutable.get(),
                sight: shared.sight.clone(),
                records,
                purger: shared.purger.clone(),
                metrics: shared.metrics.clone(),
            }),
            prefix: mount.prefix.clone(),
            uses,
            metrics: shared.metrics.clone(),
        })
    }

    /// Whether the request is for a private module.
    pub(crate) fn is_private(&self, request: &Request) -> bool {
        self.upstreams.is_private(request)
    }

    /// Finds what answers a request. `only_stored` fetches nothing (`Disable-Module-Fetch`).
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn find(self: &Arc<Self>, request: &Request, only_stored: bool) -> News {
        if let Request::SumDb(call) = request {
            return self.find_of_database(request, call, only_stored).await;
        }
        if tree::keeps(request) {
            let found = self.find_body(request, only_stored).await;
            if let Some(uses) = self.uses.as_ref().filter(|_| found.is_ok()) {
                uses.touch(request);
            }
            found
        } else {
            self.find_answer(request, only_stored).await
        }
    }

    /// When versions were asked for last, where somebody wants to know.
    pub(crate) fn uses(&self) -> Option<&Arc<Uses>> {
        self.uses.as_ref()
    }

    async fn find_of_database(&self, request: &Request, call: &SumDb, only_stored: bool) -> News {
        let path = request.path();
        if let Some(refusal) = self.absent(&path) {
            return Err(refusal);
        }
        let asked = Instant::now();
        let found = self.sumdb.find(call, only_stored).await;
        found.inspect_err(|refusal| self.negatives.put(&path, refusal, asked))
    }

    async fn find_body(self: &Arc<Self>, request: &Request, only_stored: bool) -> News {
        // Whose flight is under way isn't in the tree, or about to be put there.
        if !only_stored && let Some(joined) = self.flights.joined(|| request.path()).await {
            return self.news(request, joined);
        }
        match self.tree.look(request).await {
            Look::Found(stored) => {
                if let Some(stored) = self.vouched(request, stored, only_stored).await? {
                    return Ok(Found::Stored(stored));
                }
            }
            Look::Unknown => return Err(out_of_reach(request)),
            Look::Unsummed(_) | Look::Absent => {}
        }
        if only_stored {
            let stored = self.stored(request, true).await?.map(Found::Stored);
            return stored.ok_or_else(|| not_stored(request));
        }
        let path = request.path();
        if let Some(refusal) = self.refused(&path) {
            return Err(refusal);
        }
        let (engine, asked) = (self.clone(), request.clone());
        let fly = |landing| async move { engine.fly_for_body(&asked, landing).await };
        let joined = self.flights.join(&path, fly).await;
        self.news(request, joined)
    }

    /// What upstream said of this path, unless it was purged since.
    fn absent(&self, path: &str) -> Option<Refusal> {
        self.unless_purged(path, self.negatives.get(path))
    }

    /// Why a body isn't fetched now: it isn't there, or it was bad a moment ago.
    fn refused(&self, path: &str) -> Option<Refusal> {
        let absent = self.absent(path);
        absent.or_else(|| self.unless_purged(path, self.bad.get(path)))
    }

    fn unless_purged(&self, path: &str, known: Option<(Refusal, Duration)>) -> Option<Refusal> {
        let (refusal, age) = known?;
        let usage = self.after_purges(path, age, Use::Fresh);
        (usage == Use::Fresh).then_some(refusal)
    }

    /// What is left of an answer's use after the purges since it was confirmed.
    fn after_purges(&self, path: &str, age: Duration, usage: Use) -> Use {
        let key = format!("{}{path}", self.prefix.before());
        let confirmed = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        match self.purger.judge(&Subject::new(&key, b""), confirmed) {
            Some(Mode::Hard) => Use::Never,
            Some(Mode::Soft) if usage != Use::Never => Use::IfError,
            Some(Mode::Soft) | None => usage,
        }
    }

    /// What the tree has, taken over from the go command if need be.
    async fn stored(
        &self,
        request: &Request,
        only_stored: bool,
    ) -> Result<Option<Stored>, Refusal> {
        let stored = match self.tree.look(request).await {
            Look::Found(stored) => Some(stored),
            Look::Unsummed(body) => self.adopt(request, body).await?,
            Look::Absent => None,
            Look::Unknown => return Err(out_of_reach(request)),
        };
        match stored {
            Some(stored) => self.vouched(request, stored, only_stored).await,
            None => Ok(None),
        }
    }

    /// Takes over a body that nobody checked so far; one that is bad is as good as absent.
    async fn adopt(&self, request: &Request, body: Unsummed) -> Result<Option<Stored>, Refusal> {
        let reached = |OutOfReach| out_of_reach(request);
        let proven = match request {
            Request::Zip(..) => {
                let Some(local) = self.tree.local(&body).await.map_err(reached)? else {
                    return Ok(None);
                };
                self.prove(request, &local, body.len(), None).await
            }
            _ => Ok(None),
        };
        match proven {
            Ok(h1) => self.tree.adopt(request, body, h1).await.map_err(reached),
            Err(refusal) if refusal.reason.is_bad_content() => {
                self.tree.set_aside(body, &refusal).await;
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn news(&self, request: &Request, joined: Joined<News>) -> News {
        if joined.shared {
            let kind = request.kind();
            self.metrics.joins.with_label_values(&[kind]).inc();
        }
        joined.news.unwrap_or_else(|| Err(crashed(request)))
    }

    /// A place among the fetches; bounded wait.
    async fn place(&self, request: &Request) -> Result<Place, Refusal> {
        let waited = timeout(
            self.timeouts.queue.get(),
            self.places.clone().acquire_owned(),
        );
        match waited.await {
            Ok(Ok(permit)) => Ok(Place::new(permit, &self.metrics)),
            _ => Err(Refusal::new(
                Reason::Overloaded,
                asked(request),
                "the origin is fetching as much as it may, and nothing came free in time",
            )
            .hint("try again in a moment; limits.fetches says how much that is")),
        }
    }

    /// Waits until no flight is under way.
    pub(crate) async fn landed(&self) {
        self.flights.landed().await;
    }

    /// Bounds a whole fetch.
    async fn within<T>(
        &self,
        request: &Request,
        fetch: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let limit = self.timeouts.request.get();
        match timeout(limit, fetch).await {
            Ok(result) => result,
            Err(_) => Err(too_long(request, limit)),
        }
    }
}

/// A place among the fetches; free again when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    fetches: prometheus::IntGauge,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, metrics: &Metrics) -> Self {
        metrics.fetches.inc();
        Self {
            _permit: permit,
            fetches: metrics.fetches.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetches.dec();
    }
}

pub(crate) fn not_stored(request: &Request) -> Refusal {
    Refusal::new(
        Reason::NotStored,
        asked(request),
        "not stored, and Disable-Module-Fetch forbids fetching it",
    )
}

fn out_of_reach(request: &Request) -> Refusal {
    Refusal::new(
        Reason::StoreUnavailable,
        asked(request),
        "the storage that holds the origin's modules does not answer",
    )
    .hint("try again in a moment; the origin's log says what is wrong with store.s3")
}

fn crashed(request: &Request) -> Refusal {
    Refusal::new(
        Reason::Internal,
        asked(request),
        "the fetch ended by a fault of the origin's program",
    )
    .hint("look at the origin's log")
}

fn too_long(request: &Request, limit: Duration) -> Refusal {
    Refusal::new(
        Reason::UpstreamTimeout,
        asked(request),
        format!("the whole fetch took longer than {limit:?}"),
    )
    .hint("try again; timeouts.request of the origin says how long it may take")
}
