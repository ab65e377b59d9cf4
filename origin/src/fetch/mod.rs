//! From a request to the thing that answers it: store, else flight, else a refusal.
//!
//! Bodies that never change come from the [tree](crate::store::tree); what isn't there is fetched
//! once ([`flight`]), a zip so that everyone follows it while it grows. Answers that may change
//! are used while fresh, then asked for again, and used for longer if upstream fails.

mod body;
mod changing;
pub(crate) mod flight;
mod provisional;
mod refresh;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use modcdn_core::goproxy::{Prefix, Request};
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::flight::{Flights, Joined};
pub(crate) use self::provisional::Provisional;
pub(crate) use self::refresh::Refresher;
pub(crate) use self::shared::Shared;
use crate::config::{Freshness, Mount, Timeouts};
use crate::metrics::Metrics;
use crate::store::mutable::{Known, Mutables};
use crate::store::negative::Negatives;
use crate::store::spool::Spool;
use crate::store::sum::Sum;
use crate::store::tree::{self, Look, Stored, StoredBody, Tree};
use crate::upstream::{Upstreams, asked};

/// Everything that finding below one mount needs.
pub(crate) struct Engine {
    pub(crate) mount: Prefix,
    pub(crate) tree: Arc<Tree>,
    pub(crate) mutables: Mutables,
    pub(crate) freshness: Freshness,
    pub(crate) provisional: Provisional,
    pub(crate) metrics: Metrics,
    negatives: Negatives,
    upstreams: Upstreams,
    timeouts: Timeouts,
    flights: Flights<String, News>,
    places: Arc<Semaphore>,
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
    pub(crate) fn new(mount: &Mount, tree: Arc<Tree>, shared: &Shared) -> Arc<Self> {
        let prefix = mount.prefix.clone();
        Arc::new(Self {
            mutables: Mutables::new(
                tree.clone(),
                prefix.clone(),
                shared.freshness.clone(),
                shared.memory.clone(),
                shared.marks.clone(),
            ),
            negatives: shared.negatives.of(prefix.clone()),
            mount: prefix,
            tree,
            freshness: shared.freshness.clone(),
            provisional: Provisional::default(),
            upstreams: Upstreams::new(mount, shared),
            timeouts: shared.timeouts.clone(),
            flights: Flights::default(),
            places: shared.places.clone(),
            metrics: shared.metrics.clone(),
        })
    }

    /// Finds what answers a request. `only_stored` fetches nothing (`Disable-Module-Fetch`).
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn find(self: &Arc<Self>, request: &Request, only_stored: bool) -> News {
        if tree::keeps(request) {
            self.find_body(request, only_stored).await
        } else {
            self.find_answer(request, only_stored).await
        }
    }

    async fn find_body(self: &Arc<Self>, request: &Request, only_stored: bool) -> News {
        if let Look::Found(stored) = self.tree.look(request).await {
            return Ok(Found::Stored(stored));
        }
        if only_stored {
            let stored = self.stored(request).await.map(Found::Stored);
            return stored.ok_or_else(|| not_stored(request));
        }
        let path = request.path();
        if let Some(refusal) = self.negatives.get(&path) {
            return Err(refusal);
        }
        let (engine, asked) = (self.clone(), request.clone());
        let fly = |landing| async move { engine.fly_for_body(&asked, landing).await };
        let joined = self.flights.join(&path, fly).await;
        self.news(request, joined)
    }

    /// What the tree has, taken over from the go command if need be.
    async fn stored(&self, request: &Request) -> Option<Stored> {
        match self.tree.look(request).await {
            Look::Found(stored) => Some(stored),
            Look::Unsummed => self.tree.adopt(request).await,
            Look::Absent => None,
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
            Ok(Ok(permit)) => {
                self.metrics.fetches.inc();
                Ok(Place {
                    _permit: permit,
                    fetches: self.metrics.fetches.clone(),
                })
            }
            _ => Err(Refusal::new(
                Reason::Overloaded,
                asked(request),
                "the origin is fetching as much as it may, and nothing came free in time",
            )
            .hint("try again in a moment; limits.fetches says how much that is")),
        }
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

    /// A whole body that is in memory: stored, and served even if the disk refuses.
    async fn keep(&self, request: &Request, body: Bytes) -> Stored {
        if let Err(error) = self.tree.put(request, body.clone()).await {
            self.tree.note("put", &error);
        }
        Stored {
            sum: Sum::of(&body),
            body: StoredBody::Small(body),
        }
    }
}

/// A place among the fetches; free again when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    fetches: prometheus::IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetches.dec();
    }
}

fn not_stored(request: &Request) -> Refusal {
    Refusal::new(
        Reason::NotStored,
        asked(request),
        "not stored, and Disable-Module-Fetch forbids fetching it",
    )
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
