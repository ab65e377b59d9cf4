//! The front door's and the origin client's metrics. The engine has its own in `engine`.
//!
//! A request looks its labelled counters up by name, which costs about 0.2 µs each.

use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use modcdn_core::refusal::Reason;
use modcdn_core::telemetry::register;

use crate::exchange::Cached;

/// Upper bounds, in seconds, of the time until the origin's head is here.
const ORIGIN_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Everything that is counted outside the engine.
#[derive(Clone)]
pub struct Metrics {
    connections: IntCounterVec,
    /// Connections that are open now.
    pub connections_open: IntGauge,
    /// Connections closed at once because of `limits.connections`.
    pub connections_shed: IntCounter,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: IntCounter,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    /// Requests being answered now.
    pub requests_in_flight: IntGauge,
    /// Bytes of bodies handed to clients' connections.
    pub body_bytes: IntCounter,
    /// Answers broken off after their head was sent.
    pub aborted: IntCounter,
    /// Handlers that panicked.
    pub panics: IntCounter,
    origin_requests: IntCounterVec,
    /// Requests sent again because their connection had died.
    pub origin_retries: IntCounter,
    /// Connections opened to the origin.
    pub origin_connections: IntCounter,
    /// Attempts to open one that failed.
    pub origin_connect_failures: IntCounter,
    /// Connections to the origin that are open now.
    pub origin_connections_open: IntGauge,
    origin_seconds: Histogram,
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
            connections_shed: counter(
                "modcdn_edge_connections_shed_total",
                "Connections closed at once because limits.connections was reached",
            ),
            handshake_failures: counter(
                "modcdn_edge_handshake_failures_total",
                "TLS handshakes that failed or took longer than timeouts.handshake",
            ),
            requests: counters(
                "modcdn_edge_requests_total",
                "Requests answered, by kind of path, status and use of the cache",
                &["kind", "status", "cache"],
            ),
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
            origin_requests: counters(
                "modcdn_edge_origin_requests_total",
                "Requests to the origin, by how they ended: a class of statuses or an error",
                &["outcome"],
            ),
            origin_retries: counter(
                "modcdn_edge_origin_retries_total",
                "Requests to the origin sent again because their connection had died",
            ),
            origin_connections: counter(
                "modcdn_edge_origin_connections_total",
                "Connections opened to the origin",
            ),
            origin_connect_failures: counter(
                "modcdn_edge_origin_connect_failures_total",
                "Connections to the origin that could not be opened",
            ),
            origin_connections_open: gauge(
                "modcdn_edge_origin_connections_open",
                "Connections to the origin open now",
            ),
            origin_seconds: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "modcdn_edge_origin_seconds",
                        "Time until the head of the origin's answer was here",
                    )
                    .buckets(ORIGIN_BUCKETS.to_vec()),
                ),
            ),
        }
    }

    /// A connection that speaks `protocol` ("h1" or "h2").
    pub fn connection(&self, protocol: &str, tls: bool) {
        let tls = if tls { "yes" } else { "no" };
        self.connections.with_label_values(&[protocol, tls]).inc();
    }

    /// An answered request. `kind` is one of the grammar's, or `health` or `none`.
    pub fn request(&self, kind: &str, status: StatusCode, cache: Cached, reason: Option<Reason>) {
        self.requests
            .with_label_values(&[kind, status.as_str(), cache.name()])
            .inc();
        if let Some(reason) = reason {
            self.refusals.with_label_values(&[reason.name()]).inc();
        }
    }

    /// A request to the origin that got a head after `took`.
    pub fn origin_answered(&self, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.origin_requests.with_label_values(&[class]).inc();
        self.origin_seconds.observe(took.as_secs_f64());
    }

    /// A request to the origin that got none; `outcome` is the error's name.
    pub fn origin_failed(&self, outcome: &str) {
        self.origin_requests.with_label_values(&[outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        metrics.origin_answered(StatusCode::OK, Duration::from_millis(3));
        metrics.origin_failed("timeout");
        let names: Vec<String> = registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        assert_eq!(names.len(), 16);
        assert!(names.iter().all(|name| name.starts_with("modcdn_edge_")));
    }
}
