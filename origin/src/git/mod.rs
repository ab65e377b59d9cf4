//! Modules straight from Git, as the go command fetches them with `GOPROXY=direct`.
//!
//! The modules, in the order a request meets them:
//!
//! - `discovery`: which repository a module is in ([`repositories`], [`remote`]: what configuration
//!   says of it);
//! - `mirror`: that repository, as far as it was needed so far, on our disk (`refs`: its branches and
//!   tags);
//! - `code`: what its commits are as versions of the module (`pin`: all files of one from one commit);
//! - `workshop`, `program`, `gitconfig`, `credentials`: running git, bounded and with nothing but our
//!   configuration;
//! - `diagnose`, `fault`: what its failures mean, and which of them may be a 404.
//!
//! Private modules and public ones never share a mirror: only what nobody but the origin may read
//! was fetched with credentials.

mod code;
mod credentials;
mod diagnose;
mod discovery;
mod fault;
mod gitconfig;
mod mirror;
mod pin;
mod program;
mod refs;
pub mod remote;
pub mod repositories;
mod workshop;

/// What must hold whatever comes from outside: for property tests and the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub mod invariants {
    pub use super::discovery::invariants::page;
    pub use super::refs::invariants::refs;
}

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Patterns, Request};
use reqwest::Url;

use self::code::Code;
use self::discovery::{Discovery, Pages, Place, Root, Web};
use self::fault::Fault;
use self::mirror::{Mirror, Shelf};
pub(crate) use self::pin::{Pin, must_pin};
use self::refs::Refs;
use self::workshop::{As, Workshop};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::upstream::{SetupError, Trouble, Ways};

/// See the module.
pub(crate) struct Git {
    workshop: Arc<Workshop>,
    discovery: Discovery,
    shelf: Arc<Shelf>,
}

/// What Git gave.
pub(crate) enum Answer {
    /// A whole body.
    Body(Bytes),
    /// A zip, in a file without a name, and its length.
    Zip(Arc<File>, u64),
    /// The module is at this module proxy.
    Proxy(Url),
}

impl Git {
    /// Opens the mirrors. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If their folder can't be used, or a file that the configuration names.
    pub(crate) fn open(config: &Config, metrics: Metrics) -> Result<Arc<Self>, SetupError> {
        let workshop = Workshop::open(config, metrics)?;
        let redirects = config.upstreams.redirects;
        let web = Web::new(Ways::open(config)?, redirects, workshop.clone());
        let shelf = Shelf::open(workshop.clone());
        let shelf = shelf.map_err(|error| SetupError::file(&workshop.dir, &error))?;
        Ok(Arc::new(Self::new(workshop, Arc::new(web), shelf)))
    }

    fn new(workshop: Arc<Workshop>, pages: Arc<dyn Pages>, shelf: Shelf) -> Self {
        Self {
            discovery: Discovery::new(&workshop.config, pages),
            shelf: Arc::new(shelf),
            workshop,
        }
    }

    /// Answers a request for a module. `pin` says which commit a version's files come from, where
    /// somebody looked. `private` are the patterns that make it a private one, if any does.
    ///
    /// # Errors
    /// The trouble there was; absence only where the repository was read.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        pin: Option<&Pin>,
        asked: &str,
        private: Option<&Patterns>,
    ) -> Result<Answer, Trouble> {
        let who = match private {
            Some(_) => As::Itself,
            None => As::Anybody,
        };
        let mut answer = self.answer(request, pin, who).await;
        if let (Err(Fault::NoRepository(why)), Some(patterns), Some(module)) =
            (&answer, private, request.module())
            && self.covers(module, patterns).await
        {
            answer = Err(Fault::Nothing(why.clone()));
        }
        answer.map_err(|fault| fault.trouble(asked, private.is_some()))
    }

    async fn answer(&self, request: &Request, pin: Option<&Pin>, who: As) -> Result<Answer, Fault> {
        let Some(module) = request.module() else {
            return Err(Fault::Nothing("repositories hold modules only".to_owned()));
        };
        let root = match self.discovery.place(module, who, &self.shelf).await? {
            Place::Repository(root) => root,
            Place::Proxy(url) => return Ok(Answer::Proxy(url)),
        };
        let fresh = self.workshop.config.freshness.refs.get();
        let asked = Instant::now();
        let since = asked.checked_sub(fresh).filter(|_| request.is_immutable());
        let since = since.unwrap_or(asked);
        let subject = Subject {
            request,
            module,
            pin,
            root: &root,
        };
        let read = async |since, asked| self.read(&subject, who, since, asked).await;
        let answer = match read(since, asked).await {
            Err(Fault::Damaged(why)) => {
                tracing::warn!(repository = %root.url, why, "a mirror is damaged, and made anew");
                self.workshop.dropped("damaged");
                self.shelf.discard(&root.url, who).await;
                read(since, asked).await
            }
            Err(Fault::Moved(_)) => {
                let again = Instant::now();
                read(again, again).await
            }
            other => other,
        };
        // Whoever asked doesn't wait until others' mirrors have made room.
        let shelf = self.shelf.clone();
        tokio::spawn(async move { shelf.tend().await });
        answer
    }

    /// Reads the repository, whose branches and tags were asked for no earlier than `since`; and
    /// before anything is said to be absent, no earlier than `asked`.
    async fn read(
        &self,
        subject: &Subject<'_>,
        who: As,
        since: Instant,
        asked: Instant,
    ) -> Result<Answer, Fault> {
        let mirror = self.shelf.mirror(&subject.root.url, who).await;
        let refs = mirror.refs(since).await?;
        let answer = subject.answer(&mirror, refs.clone()).await;
        if since < asked && matches!(answer, Err(Fault::Nothing(_))) {
            let newer = mirror.refs(asked).await?;
            if newer != refs {
                return subject.answer(&mirror, newer).await;
            }
        }
        answer
    }

    /// Whether a private module lies in the path of a repository that could be read: then it is sure
    /// that it doesn't exist.
    async fn covers(&self, module: &ModulePath, patterns: &Patterns) -> bool {
        let mut path = module.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            path = above;
            let Ok(above) = above.parse::<ModulePath>() else {
                continue;
            };
            if !patterns.matches(&above) {
                return false;
            }
            let place = self.discovery.place(&above, As::Itself, &self.shelf).await;
            let Ok(Place::Repository(root)) = place else {
                continue;
            };
            let mirror = self.shelf.mirror(&root.url, As::Itself).await;
            return mirror.refs(Instant::now()).await.is_ok();
        }
        false
    }
}

/// What is asked of a repository.
struct Subject<'a> {
    request: &'a Request,
    module: &'a ModulePath,
    pin: Option<&'a Pin>,
    root: &'a Root,
}

impl Subject<'_> {
    async fn answer(&self, mirror: &Mirror, refs: Arc<Refs>) -> Result<Answer, Fault> {
        let code = Code::new(mirror, refs, self.module, self.root)?;
        let commit = self.pin.and_then(Pin::commit);
        let body = match self.request {
            Request::List(_) => code.list().await?,
            Request::Latest(_) => code.latest().await?,
            Request::Query(_, query) => code.query(query.as_str()).await?,
            Request::Info(_, version) => code.version(version).await?,
            Request::Mod(_, version) => code.go_mod(version, commit).await?,
            Request::Zip(_, version) => {
                let (file, len) = code.zip(version, commit).await?;
                return Ok(Answer::Zip(file, len));
            }
            Request::SumDb(_) => {
                return Err(Fault::Nothing("repositories hold modules only".to_owned()));
            }
        };
        Ok(Answer::Body(body))
    }
}
