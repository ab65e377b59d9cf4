//! The outside: whom the origin asks, by which rules, and what it takes for an answer.
//!
//! [`chain`] reads a GOPROXY list, `walk` holds its fall-through rules, `http` and `file` do
//! the asking, `body` holds what comes to its length and time, `gate` says when an upstream isn't
//! asked, `merge` puts together what several know; `direct` asks [`git`]. Private modules have a chain
//! of their own. `Upstreams::fetch` puts all of it to work. A connection that breaks before
//! anything was delivered is tried once more.

mod body;
pub mod chain;
mod file;
mod gate;
mod http;
mod merge;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ::http::HeaderValue;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use modcdn_core::goproxy::{Patterns, Request};
use modcdn_core::refusal::{Reason, Refusal};
use reqwest::Url;

pub(crate) use self::body::Body;
use self::body::{Pieces, Rules};
use self::chain::{Link, Upstream, UpstreamChain};
pub(crate) use self::gate::Gates;
pub(crate) use self::http::{Client, SetupError, Ways, redirect};
use self::http::{Conditions, Got, Told};
pub(crate) use self::walk::Trouble;
use self::walk::Walk;
use crate::config::{Limits, Lists, Mount, Timeouts};
use crate::content;
use crate::fetch::Shared;
use crate::git::{self, Git, Pin};
use crate::metrics::Metrics;

/// The upstreams of a mount.
pub(crate) struct Upstreams {
    chain: UpstreamChain,
    private: Patterns,
    private_chain: UpstreamChain,
    /// Absent where no chain says `direct`.
    git: Option<Arc<Git>>,
    lists: Lists,
    gates: Arc<Gates>,
    /// Absent where no upstream is asked by HTTP.
    client: Option<Arc<Client>>,
    timeouts: Timeouts,
    limits: Limits,
    metrics: Metrics,
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
    /// Which commit of a repository a version's files come from; `None` if nobody looked so far.
    pub(crate) pin: Option<&'a Pin>,
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
    /// It is Git's turn, and nobody looked so far which commit the version's `.info` names.
    Unpinned,
}

impl Fetched {
    /// The body of what is neither a zip nor was asked for conditionally.
    fn whole(self) -> Result<Bytes, Trouble> {
        match self {
            Self::Whole { body, .. } => Ok(body),
            Self::Opened { .. } | Self::NotModified | Self::Unpinned => Err(Trouble::Off),
        }
    }
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
            private: mount.private.clone(),
            private_chain: mount.private_upstream.clone(),
            git: shared.git.clone(),
            lists: mount.lists,
            gates: shared.gates.clone(),
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
        let links = self.links(request);
        if self.lists == Lists::Merge && links.len() > 1 && merge::can(request) {
            return self.fetch_merged(request, &asked, ask).await;
        }
        let mut walk = Walk::default();
        for link in links {
            let source = Source::Upstream(&link.upstream);
            let trouble = match self.ask(source, request, &asked, ask).await {
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
        let links = self.links(request);
        let asking = links.iter().map(|link| async {
            let source = Source::Upstream(&link.upstream);
            self.ask(source, request, asked, &each).await?.whole()
        });
        let answers = join_all(asking).await;
        let merged = merge::merge(request, links, answers, ask.known);
        let merged = merged.map_err(|walk| walk.verdict(asked))?;
        if merged.partial {
            self.metrics.partial_lists.inc();
        }
        Ok(Fetched::Whole {
            body: merged.body,
            validator: None,
        })
    }

    /// Whether the request is for a private module. (A checksum database is never asked about one.)
    pub(crate) fn is_private(&self, request: &Request) -> bool {
        let module = request
            .module()
            .filter(|_| !matches!(request, Request::SumDb(_)));
        module.is_some_and(|module| self.private.matches(module))
    }

    /// The upstreams in the order in which they are asked: of a private module only those who may know
    /// of it.
    pub(crate) fn links(&self, request: &Request) -> &[Link] {
        if self.is_private(request) {
            return self.private_chain.links();
        }
        self.chain.links()
    }

    /// Asks one of the links' upstreams for something that isn't a zip.
    pub(crate) async fn ask_one(&self, at: usize, request: &Request) -> Result<Bytes, Trouble> {
        let link = self.links(request).get(at).ok_or(Trouble::Off)?;
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
        let (asked, ask) = (asked(request), Ask::default());
        self.ask(source, request, &asked, &ask).await?.whole()
    }

    /// Asks one upstream, and once more if the connection broke.
    async fn ask(
        &self,
        source: Source<'_>,
        request: &Request,
        asked: &str,
        ask: &Ask<'_>,
    ) -> Result<Fetched, Trouble> {
        let label = source.label();
        let told = Told {
            asked,
            upstream: &label,
        };
        let answer = match self.ask_once(source, request, &told, ask).await {
            Err(Trouble::Failed {
                connection_broke: true,
                ..
            }) => self.ask_once(source, request, &told, ask).await,
            other => other,
        };
        if let Err(Trouble::Failed { refusal, .. }) = &answer
            && refusal.reason != Reason::UpstreamSuspended
        {
            tracing::warn!(
                upstream = source.name(),
                asked,
                reason = refusal.reason.name(),
                failed = refusal.failed,
                "upstream failed"
            );
        }
        answer
    }

    async fn ask_once(
        &self,
        source: Source<'_>,
        request: &Request,
        told: &Told<'_>,
        ask: &Ask<'_>,
    ) -> Result<Fetched, Trouble> {
        let is_git = matches!(source, Source::Upstream(Upstream::Direct));
        if is_git && ask.pin.is_none() && git::must_pin(request) {
            return Ok(Fetched::Unpinned);
        }
        let started = Instant::now();
        let kind = request.kind();
        let got = self.head(source, request, told, ask).await;
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
        ask: &Ask<'_>,
    ) -> Result<Option<Head>, Trouble> {
        let upstream = match source {
            Source::Database(base) => {
                let path = path_at_database(request);
                return self.get(base, &path, told, Conditions::default()).await;
            }
            Source::Upstream(upstream) => upstream,
        };
        match upstream {
            Upstream::Http(base) => {
                let etag = (ask.validator)
                    .filter(|validator| validator.upstream == upstream.to_string())
                    .map(|validator| &validator.etag);
                let conditions = Conditions {
                    etag,
                    past_caches: ask.past_caches,
                };
                self.get(base, &request.path(), told, conditions).await
            }
            // Neither a tree nor a repository passes a checksum database on; the go command
            // takes the same view of `off` and `direct`.
            _ if matches!(request, Request::SumDb(_)) => Err(no_database(told)),
            Upstream::File(folder) => self.open_file(folder, request, told).await.map(Some),
            // Its future is deep: boxed, it doesn't add to the size of everybody else's.
            Upstream::Direct => Box::pin(self.ask_git(request, told, ask.pin))
                .await
                .map(Some),
            Upstream::Off => Err(Trouble::Off),
        }
    }

    async fn get(
        &self,
        base: &Url,
        path: &str,
        told: &Told<'_>,
        conditions: Conditions<'_>,
    ) -> Result<Option<Head>, Trouble> {
        let client = self.client.as_ref().ok_or(Trouble::Off)?;
        let gate = self.gates.of(base);
        let pass = gate.enter(Instant::now());
        let pass = pass.map_err(|pause| told.resting(pause))?;
        match client.get(base, path, told, conditions, pass).await? {
            Got::Fresh(answer) => Ok(Some((answer.announced, answer.pieces, answer.etag))),
            Got::NotModified => Ok(None),
        }
    }

    async fn ask_git(
        &self,
        request: &Request,
        told: &Told<'_>,
        pin: Option<&Pin>,
    ) -> Result<Head, Trouble> {
        let Some(git) = &self.git else {
            return Err(Trouble::Off);
        };
        let private = self.is_private(request).then_some(&self.private);
        match git.ask(request, pin, told.asked, private).await? {
            git::Answer::Body(body) => {
                let announced = body.len() as u64;
                let pieces = stream::once(async move { Ok(body) }).boxed();
                Ok((Some(announced), pieces, None))
            }
            git::Answer::Zip(file, len) => Ok((Some(len), file::pieces(file, len), None)),
            git::Answer::Proxy(base) => {
                let upstream = chain::host(&base);
                let told = Told {
                    upstream: &upstream,
                    ..*told
                };
                let (path, conditions) = (request.path(), Conditions::default());
                let head = self.get(&base, &path, &told, conditions).await?;
                head.ok_or_else(|| told.content("304 to a request without a condition"))
            }
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
        Err(Trouble::Failed { refusal, .. }) if refusal.reason == Reason::UpstreamSuspended => None,
        Err(Trouble::Absent(refusal) | Trouble::Failed { refusal, .. }) => {
            Some(refusal.reason.name())
        }
        Err(Trouble::Off) => None,
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
