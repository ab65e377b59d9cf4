//! One request: what any request must be, then its mount and the grammar, then the answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::header::{ALLOW, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use modcdn_core::goproxy::MAX_PATH;
use modcdn_core::prefer;
use modcdn_core::purge::log::PURGES_PATH;
use modcdn_core::refusal::{Reason, Refusal};
use modcdn_core::telemetry::AccessLog;
use tokio::time::timeout;

use super::activity::Activity;
use super::tracked::{Line, Record, Tracked, track};
use crate::answer::{self, Asker, Body};
use crate::config::Freshness;
use crate::hooks::{self, Hooks};
use crate::metrics::Metrics;
use crate::mounts::Mounts;
use crate::purges::endpoint::Reading;

/// What all connections share.
pub(crate) struct Handler {
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) hooks: Hooks,
    pub(crate) purges: Reading,
    pub(crate) freshness: Freshness,
    pub(crate) metrics: Metrics,
    pub(crate) log: AccessLog,
    pub(crate) name: String,
    pub(crate) max_headers: usize,
}

/// Whether we live, for whoever asks.
const HEALTH: &str = "/-/healthz";

impl Handler {
    /// Answers a request. A panic on the way costs this request only.
    pub(crate) async fn handle(
        self: Arc<Self>,
        client: SocketAddr,
        activity: Arc<Activity>,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<Tracked>, Infallible> {
        let started = Instant::now();
        let _making = activity.making();
        let (head, body) = request.into_parts();
        let answered = AssertUnwindSafe(self.respond(&head, body));
        let answered = answered.catch_unwind().await;
        let (kind, response) = answered.unwrap_or_else(|_| {
            self.metrics.panics.inc();
            let refusal = Refusal::new(
                Reason::Internal,
                head.uri.path(),
                "the request failed by a fault of the origin's program",
            );
            ("other", self.refuse(&head, &refusal))
        });
        let record = Record {
            started,
            kind,
            line: self.line(client, &head),
            log: self.log.clone(),
            metrics: self.metrics.clone(),
        };
        Ok(track(response, record, &activity))
    }

    async fn respond(&self, head: &Parts, body: Incoming) -> (&'static str, Response<Body>) {
        if let Err(refusal) = self.admit(head) {
            return ("other", self.refuse(head, &refusal));
        }
        let path = head.uri.path();
        if path == hooks::PATH {
            let answered = self.hooks.answer(head, body).await;
            return ("hook", answered.unwrap_or_else(|no| self.refuse(head, &no)));
        }
        // Nobody reads a GET's body.
        drop(body);
        if path == HEALTH {
            return ("health", answer::plain(StatusCode::OK, "ok\n"));
        }
        if path == PURGES_PATH {
            let response = match self.purges.answer(head).await {
                Ok(page) => answer::lines(page.to_lines(), &head.method),
                Err(refusal) => self.refuse(head, &refusal),
            };
            return ("purges", response);
        }
        if path.starts_with("/-/") {
            let refusal = Refusal::new(Reason::NoSuchEndpoint, path, "no such endpoint");
            return ("other", self.refuse(head, &refusal));
        }
        match self.mounts.find(path) {
            Ok((engine, request)) => {
                let asker = Asker {
                    method: &head.method,
                    version: head.version,
                    headers: &head.headers,
                };
                let answering = answer::answer(engine, &request, &asker);
                let response = in_time(prefer::wait(&head.headers), answering).await;
                (request.kind(), response)
            }
            Err(refusal) => ("other", self.refuse(head, &refusal)),
        }
    }

    /// What any request must be, whatever it asks for.
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let path = head.uri.path();
        let refused = |reason, failed: &str| Err(Refusal::new(reason, path, failed));
        // Hooks have their own rule.
        if !matches!(head.method, Method::GET | Method::HEAD) && path != hooks::PATH {
            return refused(Reason::Method, "only GET and HEAD are answered here");
        }
        if head.headers.len() > self.max_headers {
            return refused(Reason::HeadersTooLarge, "too many header fields");
        }
        let hosts = head.headers.get_all(HOST).iter().count();
        let has_host = match head.version {
            Version::HTTP_2 => hosts <= 1,
            Version::HTTP_11 => hosts == 1,
            _ => hosts <= 1,
        };
        if !has_host {
            return refused(Reason::BadRequest, "exactly one Host header is needed");
        }
        if head.uri.query().is_some() && path != PURGES_PATH {
            let failed = "a module request has no query string";
            return refused(Reason::BadRequest, failed);
        }
        Ok(())
    }

    fn refuse(&self, head: &Parts, refusal: &Refusal) -> Response<Body> {
        let mut response = answer::refuse(refusal, &self.freshness, &head.method);
        if refusal.reason == Reason::Method && head.uri.path() == hooks::PATH {
            let allowed = HeaderValue::from_static("POST");
            response.headers_mut().insert(ALLOW, allowed);
        }
        response
    }

    fn line(&self, client: SocketAddr, head: &Parts) -> Line {
        Line {
            ts: String::new(),
            role: "origin",
            name: self.name.clone(),
            client: client.ip().to_string(),
            method: head.method.to_string(),
            path: head.uri.path().chars().take(MAX_PATH).collect(),
            protocol: protocol(head.version),
            status: 0,
            bytes: 0,
            ms: 0,
            reason: None,
            cut: false,
        }
    }
}

/// The answer, or word that it is being worked on to who would rather hear that after a while (RFC 7240).
/// Fetches belong to nobody: they go on, and whoever asks again joins them.
async fn in_time(
    wait: Option<Duration>,
    answering: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    let Some(wait) = wait else {
        return answering.await;
    };
    let answered = timeout(wait, answering).await;
    answered.unwrap_or_else(|_| answer::at_work())
}

/// How logs and metrics call an HTTP version.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => super::connection::HTTP_2,
        Version::HTTP_10 => "HTTP/1.0",
        _ => super::connection::HTTP_1,
    }
}
