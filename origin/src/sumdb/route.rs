//! How the checksum database is asked.
//!
//! At its configured URL; else as the go command does it: the first upstream that says it passes the
//! database on (`supported`) is asked for everything. One that says "no such thing" is passed over; any
//! other answer counts as a failure, unless the list goes on after any error (`|`). At the list's
//! end, or at `direct`, the database is asked at its own address, if that is allowed. At `off` nobody
//! is asked.
//!
//! Whom a run has found is asked until it fails; then they are tried again in order.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::goproxy::{Request, SumDb as Asked, SumDbCall, SumDbName};
use modcdn_core::refusal::Reason;
use modcdn_core::sumdb::Remote;
use parking_lot::Mutex;

use crate::config::{DatabaseUrl, SumDb};
use crate::upstream::chain::Upstream;
use crate::upstream::{Trouble, Upstreams};

/// See the module.
pub(super) struct Route {
    name: SumDbName,
    upstreams: Arc<Upstreams>,
    url: Option<DatabaseUrl>,
    direct: Option<DatabaseUrl>,
    found: Mutex<Option<Way>>,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq)]
enum Way {
    /// The database, at this URL.
    Database(DatabaseUrl),
    /// An upstream of the list, by its place.
    Upstream(usize),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Database(url) => write!(f, "{url:?}"),
            Way::Upstream(place) => write!(f, "upstream {}", place + 1),
        }
    }
}

/// Why nobody is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NoWay {
    /// By configuration, and because no upstream passes the database on.
    Nobody(&'static str),
    /// An upstream did not say whether it does.
    Failed(Remote),
}

impl Route {
    pub(super) fn new(config: &SumDb, upstreams: Arc<Upstreams>) -> Self {
        let name = config.key.name().clone();
        let direct = DatabaseUrl::of(&name).filter(|_| config.direct);
        Self {
            name,
            upstreams,
            url: config.url.clone(),
            direct,
            found: Mutex::default(),
        }
    }

    /// Finds out whether the database can be asked.
    pub(super) async fn find(&self) -> Result<(), NoWay> {
        self.way().await.map(drop)
    }

    /// One answer, whole.
    pub(super) async fn ask(&self, call: &SumDbCall) -> Result<Bytes, Remote> {
        let way = self.way().await.map_err(Remote::from)?;
        let request = self.request(call.clone());
        let answer = match &way {
            Way::Database(url) => self.upstreams.ask_database(url.url(), &request).await,
            Way::Upstream(at) => self.upstreams.ask_one(*at, &request).await,
        };
        answer.map_err(|trouble| {
            let remote = remote(trouble, &request);
            if matches!(remote, Remote::Unreachable(_)) {
                self.found.lock().take_if(|found| *found == way);
            }
            remote
        })
    }

    async fn way(&self) -> Result<Way, NoWay> {
        if let Some(url) = &self.url {
            return Ok(Way::Database(url.clone()));
        }
        let found = self.found.lock().clone();
        if let Some(way) = found {
            return Ok(way);
        }
        let way = self.walk().await?;
        // Several may have looked at once.
        let before = self.found.lock().replace(way.clone());
        if before.as_ref() != Some(&way) {
            tracing::info!(database = %self.name, %way, "checksum database found");
        }
        Ok(way)
    }

    async fn walk(&self) -> Result<Way, NoWay> {
        let supported = self.request(SumDbCall::Supported);
        for (at, link) in self.upstreams.links(&supported).iter().enumerate() {
            match &link.upstream {
                Upstream::Off => return Err(NoWay::Nobody("the upstream list says off")),
                Upstream::Direct => break,
                // A folder passes no database on.
                Upstream::File(_) => continue,
                Upstream::Http(_) => {}
            }
            match self.upstreams.ask_one(at, &supported).await {
                Ok(_) => return Ok(Way::Upstream(at)),
                Err(Trouble::Absent(_)) => {}
                Err(_) if link.any_error_goes_on => {}
                Err(trouble) => return Err(NoWay::Failed(remote(trouble, &supported))),
            }
        }
        let direct = self.direct.clone().map(Way::Database);
        direct.ok_or(NoWay::Nobody(
            "no upstream passes it on, and sumdb.direct is false",
        ))
    }

    fn request(&self, call: SumDbCall) -> Request {
        Request::SumDb(Asked {
            name: self.name.clone(),
            call,
        })
    }
}

impl From<NoWay> for Remote {
    fn from(no_way: NoWay) -> Self {
        match no_way {
            NoWay::Nobody(why) => {
                Self::Unreachable(format!("{why}; the mount's sumdb.url can name one"))
            }
            NoWay::Failed(remote) => remote,
        }
    }
}

/// What an upstream's trouble means for the one who wants a proof.
fn remote(trouble: Trouble, request: &Request) -> Remote {
    let is_absent = matches!(trouble, Trouble::Absent(_));
    let refusal = trouble.into_refusal(&crate::upstream::asked(request));
    match refusal.reason {
        _ if is_absent => Remote::Absent(refusal.failed),
        Reason::UpstreamContent | Reason::UpstreamTooLarge => Remote::Malformed(refusal.failed),
        _ => Remote::Unreachable(refusal.failed),
    }
}
