//! The front door's metrics. The engine has its own in `engine`, the origin client in `origin`.
//!
//! Looking a labelled counter up by its labels costs about 0.2 µs: those of the everyday answers are
//! looked up once.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use modcdn_core::refusal::Reason;
use modcdn_core::telemetry::register;

use crate::exchange::Cached;
use crate::front::h2::meter::Flood;
use crate::origin::metrics::OriginMetrics;

/// The kinds of paths whose 200s are counted without a look-up.
const EVERYDAY: [&str; 8] = [
    "info",
    "mod",
    "zip",
    "list",
    "latest",
    "sumdb-lookup",
    "sumdb-tile",
    "sumdb-latest",
];

/// One for each kind and use of the cache.
type Everyday = [[OnceLock<IntCounter>; Cached::ALL.len()]; EVERYDAY.len()];
/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// `limits.connections`.
    All,
    /// `limits.connections_per_address`.
    Address,
    /// The reserve of open files.
    Descriptors,
}

impl Shed {
    const fn name(self) -> &'static str {
        match self {
            Shed::All => "all",
            Shed::Address => "address",
            Shed::Descriptors => "descriptors",
        }
    }
}

/// Everything that is counted outside the engine.
#[derive(Clone)]
pub struct Metrics {
    connections: IntCounterVec,
    /// Connections that are open now.
    pub connections_open: IntGauge,
    connections_shed: IntCounterVec,
    /// Connections from a trusted balancer that did not begin with a PROXY protocol header.
    pub proxy_failures: IntCounter,
    /// Requests delayed by `limits.rate`.
    pub requests_delayed: IntCounter,
    floods: IntCounterVec,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: IntCounter,
    /// Days until the certificate in use expires; looked at every `tls.reload`.
    pub certificate_days_left: Gauge,
    /// New certificates taken up.
    pub certificate_reloads: IntCounter,
    /// New certificates refused.
    pub certificate_reload_failures: IntCounter,
    reloads: IntCounterVec,
    requests: IntCounterVec,
    everyday: Arc<Everyday>,
    refusals: IntCounterVec,
    /// Requests being answered now.
    pub requests_in_flight: IntGauge,
    /// Bytes of bodies handed to clients' connections.
    pub body_bytes: IntCounter,
    /// Answers broken off after their head was sent.
    pub aborted: IntCounter,
    /// Handlers that panicked.
    pub panics: IntCounter,
    /// Panics anywhere in the process: handlers, fills, the admin listener.
    pub all_panics: IntCounter,
    /// The origin client's.
    pub origin: OriginMetrics,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Panics
    /// If the registry has them already.
    #[must_use]
    pub fn new(registry: &Registry) -> Metrics {
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        let counters = |name, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        Metrics {
            connections: counters(
                "modcdn_edge_connections_total",
                "Connections accepted, by protocol and whether they are TLS",
                &["protocol", "tls"],
            ),
            connections_open: gauge("modcdn_edge_connections_open", "Connections open now"),
            connections_shed: counters(
                "modcdn_edge_connections_shed_total",
                "Connections closed at once, by cause: all (limits.connections), address \
                 (limits.connections_per_address), descriptors (the reserve of open files)",
                &["cause"],
            ),
            proxy_failures: counter(
                "modcdn_edge_proxy_protocol_failures_total",
                "Connections from a trusted balancer without a PROXY protocol header",
            ),
            requests_delayed: counter(
                "modcdn_edge_requests_delayed_total",
                "Requests that waited because of limits.rate",
            ),
            floods: counters(
                "modcdn_edge_h2_floods_total",
                "HTTP/2 connections closed because of limits.h2_frames, by kind of frame",
                &["frame"],
            ),
            handshake_failures: counter(
                "modcdn_edge_handshake_failures_total",
                "TLS handshakes that failed or took longer than timeouts.handshake",
            ),
            certificate_days_left: register(
                registry,
                Gauge::new(
                    "modcdn_edge_certificate_days_left",
                    "Days until the certificate in use expires; negative once it has",
                ),
            ),
            certificate_reloads: counter(
                "modcdn_edge_certificate_reloads_total",
                "New certificates taken up while running",
            ),
            certificate_reload_failures: counter(
                "modcdn_edge_certificate_reload_failures_total",
                "Changed certificate or key files that were refused; the old ones stay in use",
            ),
            reloads: counters(
                "modcdn_edge_reloads_total",
                "Reloads of the configuration at SIGHUP, by outcome: applied or refused",
                &["outcome"],
            ),
            requests: counters(
                "modcdn_edge_requests_total",
                "Requests answered, by kind of path, status and use of the cache",
                &["kind", "status", "cache"],
            ),
            everyday: Arc::default(),
            refusals: counters(
                "modcdn_edge_refusals_total",
                "Requests answered with a no, by reason",
                &["reason"],
            ),
            requests_in_flight: gauge(
                "modcdn_edge_requests_in_flight",
                "Requests being answered now",
            ),
            body_bytes: counter(
                "modcdn_edge_body_bytes_total",
                "Bytes of bodies handed to clients' connections",
            ),
            aborted: counter(
                "modcdn_edge_aborted_total",
                "Answers broken off after their head was sent",
            ),
            panics: counter(
                "modcdn_edge_panics_total",
                "Handlers of a request that panicked",
            ),
            all_panics: counter(
                "modcdn_edge_all_panics_total",
                "Panics anywhere in the process, those of handlers included",
            ),
            origin: OriginMetrics::new(registry),
        }
    }

    /// A connection that speaks `protocol` ("h1" or "h2").
    pub fn connection(&self, protocol: &str, tls: bool) {
        let tls = if tls { "yes" } else { "no" };
        self.connections.with_label_values(&[protocol, tls]).inc();
    }

    /// An answered request. `kind` is one of the grammar's, or `health` or `none`.
    pub fn request(&self, kind: &str, status: StatusCode, cache: Cached, reason: Option<Reason>) {
        let counter = || {
            let labels = [kind, status.as_str(), cache.name()];
            self.requests.with_label_values(&labels)
        };
        match EVERYDAY.iter().position(|everyday| *everyday == kind) {
            Some(row) if status == StatusCode::OK => self.everyday[row][cache as usize]
                .get_or_init(counter)
                .inc(),
            _ => counter().inc(),
        }
        if let Some(reason) = reason {
            self.refusals.with_label_values(&[reason.name()]).inc();
        }
    }

    /// Connections closed at once for this cause.
    #[must_use]
    pub fn shed(&self, cause: Shed) -> IntCounter {
        self.connections_shed.with_label_values(&[cause.name()])
    }

    /// A connection closed because of too many frames that serve no request.
    pub fn flood(&self, flood: Flood) {
        self.floods.with_label_values(&[flood.name()]).inc();
    }

    /// A reload at SIGHUP.
    pub fn reload(&self, applied: bool) {
        let outcome = if applied { "applied" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::origin::metrics::Rejected;

    #[test]
    fn everyday_answers_are_counted_like_the_others() {
        let metrics = Metrics::new(&Registry::new());
        for kind in ["zip", "zip", "query"] {
            metrics.request(kind, StatusCode::OK, Cached::Hit, None);
        }
        metrics.request("zip", StatusCode::NOT_FOUND, Cached::Hit, None);
        metrics.request("zip", StatusCode::OK, Cached::Miss, None);
        let count = |kind, status, cache| {
            let labels = [kind, status, cache];
            metrics.requests.with_label_values(&labels).get()
        };
        assert_eq!(count("zip", "200", "hit"), 2);
        assert_eq!(count("query", "200", "hit"), 1);
        assert_eq!(count("zip", "404", "hit"), 1);
        assert_eq!(count("zip", "200", "miss"), 1);
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_and_is_seen() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        metrics.connection("h2", true);
        metrics.request("zip", StatusCode::OK, Cached::Hit, None);
        metrics.request(
            "zip",
            StatusCode::BAD_GATEWAY,
            Cached::Miss,
            Some(Reason::OriginBroken),
        );
        metrics
            .origin
            .answered(StatusCode::OK, Duration::from_millis(3));
        metrics.origin.gate.rejected(Rejected::Breaker);
        metrics.origin.directory.resolved(true);
        metrics.reload(true);
        metrics.shed(Shed::All).inc();
        metrics.flood(Flood::Ping);
        let names: Vec<String> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        assert_eq!(names.len(), 41);
        assert!(names.iter().all(|name| name.starts_with("modcdn_edge_")));
    }
}
