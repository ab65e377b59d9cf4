//! The outside: whom the origin asks, by which rules, and what it takes for an answer.
//!
//! [`chain`] reads a GOPROXY list, `walk` holds its fall-through rules, `http` and `file` do
//! the asking, `body` holds what comes to its length and time. `Upstreams::fetch` puts them
//! together. A connection that breaks before anything was delivered is tried once more.

mod body;
pub mod chain;
mod file;
mod http;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::http::HeaderValue;
use bytes::Bytes;
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::{Reason, Refusal};
use reqwest::Url;

pub(crate) use self::body::Body;
use self::body::{Pieces, Rules};
use self::chain::{Link, Upstream, UpstreamChain};
pub(crate) use self::http::{Client, SetupError};
use self::http::{Got, Told};
pub(crate) use self::walk::Trouble;
use self::walk::Walk;
use crate::config::{Limits, Mount, Timeouts};
use crate::content;
use crate::fetch::Shared;
use crate::metrics::Metrics;

/// The upstreams of a mount.
pub(crate) struct Upstreams {
    chain: UpstreamChain,
    /// Absent where no upstream is asked by HTTP.
    client: Option<Arc<Client>>,
    timeouts: Timeouts,
    limits: Limits,
    metrics: Metrics,
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

/// A good answer's announced length, its body and its entity tag.
type Head = (Option<u64>, Pieces, Option<HeaderValue>);

/// Who is asked.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// An upstream of the list.
    Upstream(&'a Upstream),
    /// A checksum database itself.
    Database(&'a Url),
}

impl Source<'_> {
    fn label(self) -> String {
        self.upstream().label()
    }

    /// Tells it from others that could give the same entity tag to another body.
    fn name(self) -> String {
        self.upstream().to_string()
    }

    fn upstream(self) -> Upstream {
        match self {
            Self::Upstream(upstream) => upstream.clone(),
            Self::Database(url) => Upstream::Http(url.clone()),
        }
    }
}

/// The path of a call at the database itself, which knows nothing of `/sumdb/<name>`.
fn path_at_database(request: &Request) -> String {
    let path = request.path();
    let name = match request {
        Request::SumDb(sumdb) => format!("/sumdb/{}", sumdb.name),
        _ => String::new(),
    };
    path.strip_prefix(&name).unwrap_or(&path).to_owned()
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
            chain: mount.upstream.clone(),
            client: shared.client.clone(),
            timeouts: shared.timeouts.clone(),
            limits: shared.limits.clone(),
            metrics: shared.metrics.clone(),
        }
    }

    /// Asks the upstreams in turn.
    ///
    /// # Errors
    /// The refusal to tell; only one with [`Reason::is_negative`] means that there truly is no
    /// such thing.
    pub(crate) async fn fetch(
        &self,
        request: &Request,
        validator: Option<&Validator>,
    ) -> Result<Fetched, Refusal> {
        let asked = asked(request);
        let mut walk = Walk::default();
        for link in self.chain.links() {
            let trouble = match self
                .ask(Source::Upstream(&link.upstream), request, &asked, validator)
                .await
            {
                Ok(fetched) => return Ok(fetched),
                Err(trouble) => trouble,
            };
            if let Trouble::Failed { refusal, .. } = &trouble {
                tracing::warn!(
                    upstream = %link.upstream, asked, reason = refusal.reason.name(),
                    failed = refusal.failed, "upstream failed"
                );
            }
            if walk.after(link, trouble).is_break() {
                break;
            }
        }
        Err(walk.verdict(&asked))
    }

    /// The upstreams in the order in which they are asked.
    pub(crate) fn links(&self) -> &[Link] {
        self.chain.links()
    }

    /// Asks one of the links' upstreams for something that isn't a zip.
    pub(crate) async fn ask_one(&self, at: usize, request: &Request) -> Result<Bytes, Trouble> {
        let link = self.chain.links().get(at).ok_or(Trouble::Off)?;
        self.ask_whole(Source::Upstream(&link.upstream), request)
            .await
    }

    /// Asks a checksum database at a URL of its own.
    pub(crate) async fn ask_database(
        &self,
        base: &Url,
        request: &Request,
    ) -> Result<Bytes, Trouble> {
        self.ask_whole(Source::Database(base), request).await
    }

    async fn ask_whole(&self, source: Source<'_>, request: &Request) -> Result<Bytes, Trouble> {
        match self.ask(source, request, &asked(request), None).await? {
            Fetched::Whole { body, .. } => Ok(body),
            Fetched::Opened { .. } | Fetched::NotModified => Err(Trouble::Off),
        }
    }

    /// Asks one upstream, and once more if the connection broke.
    async fn ask(
        &self,
        source: Source<'_>,
        request: &Request,
        asked: &str,
        validator: Option<&Validator>,
    ) -> Result<Fetched, Trouble> {
        let label = source.label();
        let told = Told {
            asked,
            upstream: &label,
        };
        match self.ask_once(source, request, &told, validator).await {
            Err(Trouble::Failed {
                connection_broke: true,
                ..
            }) => self.ask_once(source, request, &told, validator).await,
            other => other,
        }
    }

    async fn ask_once(
        &self,
        source: Source<'_>,
        request: &Request,
        told: &Told<'_>,
        validator: Option<&Validator>,
    ) -> Result<Fetched, Trouble> {
        let started = Instant::now();
        let kind = request.kind();
        let got = self.head(source, request, told, validator).await;
        let seconds = started.elapsed().as_secs_f64();
        let result = match got {
            Ok(Some((announced, pieces, etag))) => {
                let validator = etag.map(|etag| Validator {
                    upstream: source.name(),
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
        source: Source<'_>,
        request: &Request,
        told: &Told<'_>,
        validator: Option<&Validator>,
    ) -> Result<Option<Head>, Trouble> {
        let upstream = match source {
            Source::Database(base) => {
                return self.get(base, &path_at_database(request), told, None).await;
            }
            Source::Upstream(upstream) => upstream,
        };
        match upstream {
            Upstream::Http(base) => {
                let etag = validator
                    .filter(|validator| validator.upstream == upstream.to_string())
                    .map(|validator| &validator.etag);
                self.get(base, &request.path(), told, etag).await
            }
            // Neither a tree nor a repository passes a checksum database on; the go command
            // takes the same view of `off` and `direct`.
            _ if matches!(request, Request::SumDb(_)) => Err(no_database(told)),
            Upstream::File(folder) => self.open_file(folder, request, told).await.map(Some),
            Upstream::Direct => Err(Trouble::Direct),
            Upstream::Off => Err(Trouble::Off),
        }
    }

    async fn get(
        &self,
        base: &Url,
        path: &str,
        told: &Told<'_>,
        etag: Option<&HeaderValue>,
    ) -> Result<Option<Head>, Trouble> {
        let client = self.client.as_ref().ok_or(Trouble::Off)?;
        match client.get(base, path, told, etag).await? {
            Got::Fresh(answer) => Ok(Some((answer.announced, answer.pieces, answer.etag))),
            Got::NotModified => Ok(None),
        }
    }

    async fn open_file(
        &self,
        folder: &Path,
        request: &Request,
        told: &Told<'_>,
    ) -> Result<Head, Trouble> {
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
