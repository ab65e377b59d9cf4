//! One line in the access log and one count in the metrics for every request.
//!
//! An [`Entry`] is made when a request is read and speaks when it is dropped, so a client that
//! leaves, a deadline or a panic in the middle of an answer is logged like any other end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::StatusCode;
use serde::Serialize;

use modcdn_core::refusal::Reason;
use modcdn_core::telemetry::{AccessLog, timestamp};

use crate::exchange::{Answer, Cached};
use crate::metrics::Metrics;

/// Where entries go.
#[derive(Clone)]
pub(crate) struct Access {
    log: Arc<ArcSwap<AccessLog>>,
    pub(crate) metrics: Metrics,
    /// The node's name.
    name: Arc<str>,
}

/// One request, on its way to being answered.
pub(crate) struct Entry<'a> {
    access: &'a Access,
    started: Instant,
    client: Option<SocketAddr>,
    protocol: &'static str,
    method: String,
    path: String,
    /// The kind of path, for the metrics.
    pub(crate) kind: &'static str,
    /// The status, once a head was written; 499 before.
    pub(crate) status: StatusCode,
    /// Bytes of the body handed on.
    pub(crate) bytes: u64,
    /// How the cache was used.
    pub(crate) cache: Cached,
    /// Why the answer is a "no", or was broken off.
    pub(crate) reason: Option<Reason>,
}

/// The access log's line. Its fields are stable.
#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    role: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    method: &'a str,
    path: Cow<'a, str>,
    protocol: &'static str,
    status: u16,
    bytes: u64,
    ms: f64,
    cache: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// What [`Entry::kind`] calls a health check.
pub(crate) const HEALTH_KIND: &str = "health";

/// What [`Entry::kind`] calls a request to a plain HTTP mount.
pub(crate) const HTTP_KIND: &str = "http";

/// The longest path that is logged; the grammar allows less.
const LOGGED_PATH: usize = 2048;

impl Access {
    /// Lines of the node `name` go to `log`.
    pub(crate) fn new(log: AccessLog, metrics: Metrics, name: &str) -> Access {
        Access {
            log: Arc::new(ArcSwap::from_pointee(log)),
            metrics,
            name: name.into(),
        }
    }

    /// Later lines go to `log`. The one before ends when its last line is written.
    pub(crate) fn redirect(&self, log: AccessLog) {
        self.log.store(Arc::new(log));
    }

    /// A request has been read. Method and path are kept only if there is a log to write them to.
    pub(crate) fn enter(
        &self,
        client: Option<SocketAddr>,
        protocol: &'static str,
        method: &str,
        path: &str,
    ) -> Entry<'_> {
        self.metrics.requests_in_flight.inc();
        let on = self.log.load().is_on();
        let kept = |text: &str| {
            if on { text.to_owned() } else { String::new() }
        };
        Entry {
            access: self,
            started: Instant::now(),
            client,
            protocol,
            method: kept(method),
            path: kept(clip(path)),
            kind: "none",
            status: client_closed(),
            bytes: 0,
            cache: Cached::Bypass,
            reason: None,
        }
    }
}

/// What the log says of a request whose client left before there was an answer.
fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

fn clip(path: &str) -> &str {
    let mut end = path.len().min(LOGGED_PATH);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

impl Entry<'_> {
    /// This is what the client is answered.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.status = answer.status;
        (self.cache, self.reason) = (answer.cache, answer.reason);
    }

    /// A good answer to a health check: several a second, all alike. The metrics count them.
    fn is_routine(&self) -> bool {
        self.kind == HEALTH_KIND && self.status == StatusCode::OK
    }

    fn line(&self) -> Line<'_> {
        Line {
            ts: timestamp(),
            role: "edge",
            name: &self.access.name,
            client: self.client.map(|client| client.ip().to_string()),
            method: &self.method,
            path: Cow::Borrowed(&self.path),
            protocol: self.protocol,
            status: self.status.as_u16(),
            bytes: self.bytes,
            ms: (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            cache: self.cache.name(),
            reason: self.reason.map(Reason::name),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let metrics = &self.access.metrics;
        metrics.requests_in_flight.dec();
        metrics.body_bytes.inc_by(self.bytes);
        metrics.request(self.kind, self.status, self.cache, self.reason);
        let log = self.access.log.load();
        if log.is_on() && !self.is_routine() {
            log.write(&self.line());
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn access() -> Access {
        let metrics = Metrics::new(&Registry::new());
        Access::new(AccessLog::off(), metrics, "eu")
    }

    #[test]
    fn health_checks_are_logged_only_when_they_fail() {
        let access = access();
        let mut entry = access.enter(None, "HTTP/1.1", "GET", "/-/healthz");
        entry.kind = HEALTH_KIND;
        entry.status = StatusCode::OK;
        assert!(entry.is_routine());
        entry.status = StatusCode::SERVICE_UNAVAILABLE;
        assert!(!entry.is_routine());
        (entry.kind, entry.status) = ("zip", StatusCode::OK);
        assert!(!entry.is_routine());
    }

    #[test]
    fn a_line_has_the_agreed_fields() {
        let access = access();
        let client = "192.0.2.1:5".parse().ok();
        let mut entry = access.enter(client, "HTTP/2", "GET", "/m/@v/list");
        (entry.status, entry.bytes, entry.cache) = (StatusCode::OK, 7, Cached::Hit);
        let line = serde_json::to_value(entry.line()).unwrap();
        let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
        for key in [
            "ts", "role", "name", "client", "method", "path", "protocol", "status", "bytes", "ms",
            "cache",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} in {keys:?}");
        }
        assert!(!keys.contains(&"reason".to_owned()), "no reason, no field");
        assert_eq!(
            (&line["client"], &line["cache"]),
            (&"192.0.2.1".into(), &"hit".into())
        );
    }

    #[test]
    fn a_dropped_entry_is_counted() {
        let access = access();
        drop(access.enter(None, "HTTP/1.1", "GET", "/"));
        assert_eq!(access.metrics.requests_in_flight.get(), 0);
    }

    #[test]
    fn long_paths_are_cut_at_a_character() {
        let path = "é".repeat(3000);
        assert_eq!(clip(&path).len(), 2048);
    }
}
