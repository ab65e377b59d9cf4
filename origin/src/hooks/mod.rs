//! `POST /-/hooks/module`: somebody says that a module has changed, as a rule that it has a new tag.
//!
//! - `proof`: whether the caller knows a secret: a token, or a forge's signature over the body;
//! - `payload`: what the body says, in our own words or a forge's;
//! - `repository`: from a repository's URL to its modules;
//! - `rate`: how often.
//!
//! What changed is doubted in all mounts, refreshed at once in the background, and edges are to ask
//! again ([`crate::changes`]). Nothing else can be done here, so a call that is sent again does no harm.
//! Only the origin's own listeners have this: edges don't pass it on.

mod payload;
mod proof;
mod rate;
mod repository;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use modcdn_core::goproxy::Prefix;
use modcdn_core::refusal::{Reason, Refusal};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::payload::Said;
use self::proof::Secrets;
use self::rate::Rate;
use crate::answer::{self, Body};
use crate::changes::Below;
use crate::config::Hooks as Config;
use crate::disk;
use crate::metrics::Metrics;
use crate::mounts::Mounts;

/// Where it is.
pub(crate) const PATH: &str = "/-/hooks/module";

/// A file with secrets is no longer than this, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Token,
    Github,
    Gitlab,
    Gitea,
}

impl Source {
    #[cfg(test)]
    const ALL: [Self; 4] = [Self::Token, Self::Github, Self::Gitlab, Self::Gitea];

    /// The name in metrics and logs.
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
        }
    }

    /// In whose words the body is, and what it calls what happened.
    fn of_body(headers: &HeaderMap) -> (Self, &str) {
        let forges = [
            (Self::Gitea, "x-gitea-event"),
            (Self::Gitea, "x-forgejo-event"),
            (Self::Gitlab, "x-gitlab-event"),
            (Self::Github, "x-github-event"),
        ];
        let named = |(source, name)| Some((source, headers.get(name)?.to_str().unwrap_or("")));
        let mut named = forges.into_iter().filter_map(named);
        named.next().unwrap_or((Self::Token, ""))
    }
}

/// The endpoint.
pub(crate) struct Hooks {
    config: Config,
    mounts: Arc<Mounts>,
    metrics: Metrics,
    rate: Rate,
    /// Bodies being read.
    places: Semaphore,
}

/// What is answered.
#[derive(Default, Serialize)]
struct Done {
    /// Paths of which everything at and below is refreshed.
    changed: Vec<String>,
    /// Answers that were known, in all mounts.
    refreshed: usize,
}

impl Hooks {
    pub(crate) fn new(config: &Config, mounts: Arc<Mounts>, metrics: Metrics) -> Self {
        Self {
            rate: Rate::new(config.per_minute),
            places: Semaphore::new(config.at_once),
            config: config.clone(),
            mounts,
            metrics,
        }
    }

    /// Answers a call.
    pub(crate) async fn answer(
        &self,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        if !self.config.are_on() {
            let refusal = refuse(Reason::NoSuchEndpoint, "nobody may call hooks here");
            return Err(refusal.hint("name a file with secrets under hooks in the configuration"));
        }
        let source = proof::claimed(&head.headers, |source| self.file(source).is_some());
        let done = self.admit_and_do(head, body, source).await;
        let outcome = match &done {
            Ok(done) if done.changed.is_empty() => "ignored",
            Ok(_) => "accepted",
            Err(refusal) => refusal.reason.name(),
        };
        let by = source.map_or("none", Source::name);
        let counter = &self.metrics.hooks;
        counter.with_label_values(&[by, outcome]).inc();
        let done = done.inspect_err(|refusal| {
            tracing::warn!(
                source = by,
                reason = outcome,
                failed = refusal.failed,
                "hook refused"
            );
        })?;
        let (changed, refreshed) = (done.changed.join(", "), done.refreshed);
        tracing::info!(source = by, changed, refreshed, "hook");
        let status = match done.changed.is_empty() {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        };
        Ok(json(status, &done))
    }

    async fn admit_and_do(
        &self,
        head: &Parts,
        body: Incoming,
        source: Option<Source>,
    ) -> Result<Done, Refusal> {
        if head.method != Method::POST {
            return Err(refuse(Reason::Method, "a hook is called by POST"));
        }
        let source = source.ok_or_else(|| unproven(Reason::Unauthorized))?;
        let body = self.admit(&head.headers, body, source).await?;
        if !self.rate.take(Instant::now()) {
            let refusal = refuse(Reason::RateLimited, "too many hooks were called lately");
            let hint = "try again in a moment; hooks.per_minute says how many may be";
            return Err(refusal.hint(hint));
        }
        let (words, event) = Source::of_body(&head.headers);
        let said = payload::read(words, event, &body, &self.config.repositories);
        match said.map_err(|why| refuse(Reason::BadRequest, &why))? {
            Said::Nothing => Ok(Done::default()),
            Said::Changed(mount, changed) => self.refresh(mount.as_ref(), &changed),
        }
    }

    /// The body of a call that is proven to be genuine; before it is read, if its header can prove it.
    async fn admit(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        source: Source,
    ) -> Result<Bytes, Refusal> {
        let wrong = || {
            unproven(match source {
                Source::Token => Reason::Unauthorized,
                _ => Reason::BadSignature,
            })
        };
        let file = self.file(source).ok_or_else(wrong)?;
        let secrets = secrets(source, file.clone()).await?;
        let proven = secrets.without_body(source, headers);
        if proven == Some(false) {
            return Err(wrong());
        }
        let body = self.read(headers, body).await?;
        if proven.is_none() && !secrets.with_body(source, headers, &body) {
            return Err(wrong());
        }
        Ok(body)
    }

    fn refresh(&self, mount: Option<&Prefix>, changed: &[Below]) -> Result<Done, Refusal> {
        let refreshed = self.mounts.changed(mount, changed);
        let refreshed =
            refreshed.ok_or_else(|| refuse(Reason::BadRequest, "there is no such mount here"))?;
        Ok(Done {
            changed: changed.iter().map(ToString::to_string).collect(),
            refreshed,
        })
    }

    fn file(&self, source: Source) -> Option<&PathBuf> {
        match source {
            Source::Token => self.config.token_file.as_ref(),
            Source::Github => self.config.github_secret_file.as_ref(),
            Source::Gitlab => self.config.gitlab_secret_file.as_ref(),
            Source::Gitea => self.config.gitea_secret_file.as_ref(),
        }
    }

    async fn read(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let most = self.config.max_body.as_u64();
        let too_large = || {
            let failed = format!("a hook's body has at most {most} bytes here");
            refuse(Reason::BodyTooLarge, &failed).hint("hooks.max_body says how many")
        };
        let announced = headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > most) {
            return Err(too_large());
        }
        let Ok(_place) = self.places.try_acquire() else {
            let refusal = refuse(Reason::Overloaded, "too many hooks are being called");
            return Err(refusal.hint("try again in a moment"));
        };
        let limited = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        match timeout(self.config.body_timeout.get(), limited.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(refuse(
                Reason::BadRequest,
                &format!("the body broke off: {error}"),
            )),
            Err(_) => Err(refuse(
                Reason::RequestTimeout,
                "the body did not come in time",
            )),
        }
    }
}

fn json(status: StatusCode, done: &Done) -> Response<Body> {
    // Texts and numbers: always JSON.
    let mut text = serde_json::to_vec(done).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(answer::full(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(reason: Reason, failed: &str) -> Refusal {
    Refusal::new(reason, PATH, failed)
}

fn unproven(reason: Reason) -> Refusal {
    let failed = match reason {
        Reason::Unauthorized => "a hook needs a valid token or a forge's signature",
        _ => "the signature or secret isn't one of ours",
    };
    refuse(reason, failed).hint("compare the forge's secret with the file named under hooks")
}

async fn secrets(source: Source, file: PathBuf) -> Result<Secrets, Refusal> {
    let read = disk::blocking(move || {
        let text = read_file(&file);
        Ok((file, text))
    });
    let (file, text) = match read.await {
        Ok((file, Ok(text))) => (file, text),
        Ok((file, Err(error))) => return Err(unreadable(&file, &error.to_string())),
        Err(error) => return Err(unreadable(Path::new(""), &error.to_string())),
    };
    Secrets::parse(source, &text).map_err(|why| unreadable(&file, &why))
}

fn read_file(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(file: &Path, why: &str) -> Refusal {
    tracing::error!(file = %file.display(), why, "secrets of hooks can't be used");
    refuse(Reason::Internal, "the origin can't read its secrets").hint("look at the origin's log")
}
