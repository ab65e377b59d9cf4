//! The outside: whom the origin asks, by which rules, and what it takes for an answer.
//!
//! [`chain`] reads a GOPROXY list, `walk` holds its fall-through rules, `http` and `file` do
//! the asking, `body` holds what comes to its length and time, `gate` says when an upstream isn't
//! asked, `merge` puts together what several know. `Upstreams::fetch` puts all of it to work. A
//! connection that breaks before anything was delivered is tried once more.

mod body;
pub mod chain;
mod file;
mod gate;
mod http;
mod merge;
mod walk;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::http::HeaderValue;
use bytes::Bytes;
use futures::future::join_all;
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::{Reason, Refusal};
use parking_lot::Mutex;

pub(crate) use self::body::Body;
use self::body::{Pieces, Rules};
use self::chain::{Upstream, UpstreamChain};
use self::gate::Gate;
pub(crate) use self::http::{Client, SetupError};
use self::http::{Conditions, Got, Told};
use self::walk::{Trouble, Walk};
use crate::config::{Backoff, Limits, Lists, Mount, Timeouts};
use crate::content;
use crate::fetch::Shared;
use crate::metrics::Metrics;

/// The upstreams of a mount.
pub(crate) struct Upstreams {
    chain: UpstreamChain,
    lists: Lists,
    /// Before each link's upstream; a folder has none.
    gates: Vec<Option<Arc<Gate>>>,
    /// Absent where no upstream is asked by HTTP.
    client: Option<Arc<Client>>,
    timeouts: Timeouts,
    limits: Limits,
    metrics: Metrics,
}

/// The gates of all upstreams: mounts that ask the same one share its gate.
pub(crate) struct Gates {
    config: Backoff,
    metrics: Metrics,
    known: Mutex<HashMap<String, Arc<Gate>>>,
}

impl Gates {
    pub(crate) fn new(config: &Backoff, metrics: &Metrics) -> Self {
        Self {
            config: config.clone(),
            metrics: metrics.clone(),
            known: Mutex::default(),
        }
    }

    fn of(&self, upstream: &Upstream) -> Option<Arc<Gate>> {
        let Upstream::Http(_) = upstream else {
            return None;
        };
        let mut known = self.known.lock();
        let gate = known.entry(upstream.to_string()).or_insert_with(|| {
            let (backoffs, resting) = (self.metrics.backoffs.clone(), self.metrics.resting.clone());
            Arc::new(Gate::new(self.config.clone(), backoffs, resting))
        });
        Some(gate.clone())
    }
}

/// How upstreams are asked for something.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Of what is known already.
    pub(crate) validator: Option<&'a Validator>,
    /// What is known already.
    pub(crate) known: Option<&'a Bytes>,
    /// It is said to have changed: caches on the way aren't to answer (`Cache-Control: no-cache`).
    pub(crate) past_caches: bool,
}

/// What upstreams gave.
pub(crate) enum Fetched {
    /// A whole, checked body.
    Whole {
        body: Bytes,
        validator: Option<Validator>,
    },
    /// A zip: its first piece, and the rest as it comes.
    Opened { first: Bytes, rest: Body },
    /// What the validator stands for is still right.
    NotModified,
}

/// An entity tag, good only for the upstream that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    /// Its URL, without name and password.
    pub(crate) upstream: String,
    pub(crate) etag: HeaderValue,
}

/// How a person calls what was asked: `example.com/m@v1.0.0.zip`.
pub(crate) fn asked(request: &Request) -> String {
    match request {
        Request::List(module) => format!("{module}: list of versions"),
        Request::Latest(module) => format!("{module}@latest"),
        Request::Query(module, query) => format!("{module}@{query}"),
        Request::Info(module, version) => format!("{module}@{version}.info"),
        Request::Mod(module, version) => format!("{module}@{version}.mod"),
        Request::Zip(module, version) => format!("{module}@{version}.zip"),
        Request::SumDb(_) => request.path().trim_start_matches('/').to_owned(),
    }
}

impl Upstreams {
    pub(crate) fn new(mount: &Mount, shared: &Shared) -> Self {
        Self {
            gates: (mount.upstream.links().iter())
                .map(|link| shared.gates.of(&link.upstream))
                .collect(),
            chain: mount.upstream.clone(),
            lists: mount.lists,
            client: shared.client.clone(),
            timeouts: shared.timeouts.clone(),
            limits: shared.limits.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Asks the upstreams: in turn, or all of them where their answers are put together.
    ///
    /// # Errors
    /// The refusal to tell; only one with [`Reason::is_negative`] means that there truly is no
    /// such thing.
    pub(crate) async fn fetch(&self, request: &Request, ask: &Ask<'_>) -> Result<Fetched, Refusal> {
        let asked = asked(request);
        if self.lists == Lists::Merge && self.chain.links().len() > 1 && merge::can(request) {
            return self.fetch_merged(request, &asked, ask).await;
        }
        let mut walk = Walk::default();
        for (at, link) in self.chain.links().iter().enumerate() {
            let trouble = match self.ask(at, request, &asked, ask).await {
                Ok(fetched) => return Ok(fetched),
                Err(trouble) => trouble,
            };
            if walk.after(link, trouble).is_break() {
                break;
            }
        }
        Err(walk.verdict(&asked))
    }

    async fn fetch_merged(
        &self,
        request: &Request,
        asked: &str,
        ask: &Ask<'_>,
    ) -> Result<Fetched, Refusal> {
        // A validator stands for what one of them knows.
        let each = Ask {
            validator: None,
            ..*ask
        };
        let links = self.chain.links();
        let asking = (0..links.len()).map(|at| self.ask(at, request, asked, &each));
        let answers = join_all(asking)
            .await
            .into_iter()
            .map(|answer| match answer? {
                Fetched::Whole { body, .. } => Ok(body),
                // Neither is a zip asked for here, nor anything conditionally.
                Fetched::Opened { .. } | Fetched::NotModified => Err(Trouble::Off),
            });
        let merged = merge::merge(request, links, answers.collect(), ask.known);
        let merged = merged.map_err(|walk| walk.verdict(asked))?;
        if merged.partial {
            self.metrics.partial_lists.inc();
        }
        Ok(Fetched::Whole {
            body: merged.body,
            validator: None,
        })
    }

    /// Asks the upstream in that place of the chain, and once more if the connection broke.
    async fn ask(
        &self,
        at: usize,
        request: &Request,
        asked: &str,
        ask: &Ask<'_>,
    ) -> Result<Fetched, Trouble> {
        let upstream = &self.chain.links()[at].upstream;
        let label = upstream.label();
        let told = Told {
            asked,
            upstream: &label,
        };
        let answer = match self.ask_once(at, request, &told, ask).await {
            Err(Trouble::Failed {
                connection_broke: true,
                ..
            }) => self.ask_once(at, request, &told, ask).await,
            other => other,
        };
        if let Err(Trouble::Failed { refusal, .. }) = &answer
            && refusal.reason != Reason::UpstreamSuspended
        {
            tracing::warn!(
                %upstream, asked, reason = refusal.reason.name(), failed = refusal.failed,
                "upstream failed"
            );
        }
        answer
    }

    async fn ask_once(
        &self,
        at: usize,
        request: &Request,
        told: &Told<'_>,
        ask: &Ask<'_>,
    ) -> Result<Fetched, Trouble> {
        let upstream = &self.chain.links()[at].upstream;
        let started = Instant::now();
        let kind = request.kind();
        let got = self.head(at, request, told, ask).await;
        let seconds = started.elapsed().as_secs_f64();
        let result = match got {
            Ok(Some((announced, pieces, etag))) => {
                let validator = etag.map(|etag| Validator {
                    upstream: upstream.to_string(),
                    etag,
                });
                self.take(request, told, announced, pieces, validator).await
            }
            Ok(None) => Ok(Fetched::NotModified),
            Err(trouble) => Err(trouble),
        };
        if let Some(outcome) = outcome(&result) {
            let counter = &self.metrics.upstream_requests;
            counter.with_label_values(&[kind, outcome]).inc();
            let histogram = &self.metrics.upstream_seconds;
            histogram.with_label_values(&[kind]).observe(seconds);
        }
        result
    }

    /// The head of an upstream's good answer; `None` if nothing changed.
    async fn head(
        &self,
        at: usize,
        request: &Request,
        told: &Told<'_>,
        ask: &Ask<'_>,
    ) -> Result<Option<(Option<u64>, Pieces, Option<HeaderValue>)>, Trouble> {
        let upstream = &self.chain.links()[at].upstream;
        match upstream {
            Upstream::Http(base) => {
                let (Some(client), Some(gate)) = (&self.client, &self.gates[at]) else {
                    return Err(Trouble::Off);
                };
                let pass = gate.enter(Instant::now());
                let pass = pass.map_err(|pause| told.resting(pause))?;
                let etag = (ask.validator)
                    .filter(|validator| validator.upstream == upstream.to_string())
                    .map(|validator| &validator.etag);
                let conditions = Conditions {
                    etag,
                    past_caches: ask.past_caches,
                };
                match client.get(base, request, told, conditions, pass).await? {
                    Got::Fresh(answer) => Ok(Some((answer.announced, answer.pieces, answer.etag))),
                    Got::NotModified => Ok(None),
                }
            }
            // Neither a tree nor a repository passes a checksum database on; the go command
            // takes the same view of `off` and `direct`.
            _ if matches!(request, Request::SumDb(_)) => Err(no_database(told)),
            Upstream::File(folder) => self.open_file(folder, request, told).await.map(Some),
            Upstream::Direct => Err(Trouble::Direct),
            Upstream::Off => Err(Trouble::Off),
        }
    }

    async fn open_file(
        &self,
        folder: &Path,
        request: &Request,
        told: &Told<'_>,
    ) -> Result<(Option<u64>, Pieces, Option<HeaderValue>), Trouble> {
        match file::open(folder, request, self.limits.max_list.as_u64()).await {
            Ok(Some(opened)) => Ok((Some(opened.announced), opened.pieces, None)),
            Ok(None) => Err(Trouble::Absent(Refusal::new(
                Reason::NotFound,
                told.asked,
                format!("not found in {}", told.upstream),
            ))),
            Err(error) => Err(Trouble::failed(
                Refusal::new(
                    Reason::UpstreamUnreachable,
                    told.asked,
                    format!("can't read {}: {error}", told.upstream),
                )
                .hint("check the folder named in the origin's upstream list"),
            )),
        }
    }

    /// Takes a body: whole and checked, or, of a zip, its beginning.
    async fn take(
        &self,
        request: &Request,
        told: &Told<'_>,
        announced: Option<u64>,
        pieces: Pieces,
        validator: Option<Validator>,
    ) -> Result<Fetched, Trouble> {
        let rules = Rules {
            limit: self.limits.of(request),
            stall: self.timeouts.stall.get(),
            asked: told.asked.to_owned(),
            sender: told.upstream.to_owned(),
            received: self.metrics.upstream_bytes.clone(),
        };
        let mut body = Body::new(pieces, announced, rules)?;
        if matches!(request, Request::Zip(..)) {
            return match body.next().await? {
                Some(first) => Ok(Fetched::Opened { first, rest: body }),
                None => Err(told.content("an empty body")),
            };
        }
        let body = body.whole().await?;
        let body = content::check(request, body).map_err(|fault| told.content(&fault))?;
        Ok(Fetched::Whole { body, validator })
    }
}

fn no_database(told: &Told<'_>) -> Trouble {
    Trouble::Absent(Refusal::new(
        Reason::NotFound,
        told.asked,
        format!("{} passes no checksum database on", told.upstream),
    ))
}

/// The label under which a request to an upstream is counted; `None` if nobody was asked.
fn outcome(result: &Result<Fetched, Trouble>) -> Option<&'static str> {
    match result {
        Ok(Fetched::NotModified) => Some("not-modified"),
        Ok(_) => Some("ok"),
        Err(Trouble::Failed { refusal, .. }) if refusal.reason == Reason::UpstreamSuspended => None,
        Err(Trouble::Absent(refusal) | Trouble::Failed { refusal, .. }) => {
            Some(refusal.reason.name())
        }
        Err(Trouble::Off | Trouble::Direct) => None,
    }
}

impl Limits {
    /// The longest body of this kind, in bytes.
    pub(crate) fn of(&self, request: &Request) -> u64 {
        let limit = match request {
            Request::List(_) => self.max_list,
            Request::Latest(_) | Request::Info(..) | Request::Query(..) => self.max_info,
            Request::Mod(..) => self.max_mod,
            Request::Zip(..) => self.max_zip,
            Request::SumDb(_) => self.max_sumdb,
        };
        limit.as_u64()
    }
}
