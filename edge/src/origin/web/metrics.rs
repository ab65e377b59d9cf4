//! What the clients of plain HTTP mounts count. All names begin with `modcdn_edge_mount_`.

use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use modcdn_core::telemetry::register;

/// Upper bounds, in seconds, of the time until an origin's head is here.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The counters of all mounts together.
#[derive(Clone, Debug)]
pub struct WebMetrics {
    requests: IntCounterVec,
    pub(super) retries: IntCounter,
    pub(super) exchanges: IntGauge,
    seconds: Histogram,
}

impl WebMetrics {
    /// Makes the metrics and adds them to `registry`.
    ///
    /// # Panics
    /// If the registry has them already.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let requests = Opts::new(
            "modcdn_edge_mount_requests_total",
            "Requests to origins of plain HTTP mounts, by how they ended: a class of statuses or an error",
        );
        let seconds = HistogramOpts::new(
            "modcdn_edge_mount_seconds",
            "Time until the head of such an origin's answer was here",
        );
        let retries = IntCounter::new(
            "modcdn_edge_mount_retries_total",
            "Such requests sent again because their connection had died",
        );
        let exchanges = IntGauge::new(
            "modcdn_edge_mount_exchanges",
            "Exchanges with such origins that are going on, bodies included",
        );
        Self {
            requests: register(registry, IntCounterVec::new(requests, &["outcome"])),
            retries: register(registry, retries),
            exchanges: register(registry, exchanges),
            seconds: register(
                registry,
                Histogram::with_opts(seconds.buckets(BUCKETS.to_vec())),
            ),
        }
    }

    /// A request that got a head after `took`.
    pub(super) fn answered(&self, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A request that got none; `outcome` is the error's name.
    pub(super) fn failed(&self, outcome: &str) {
        self.requests.with_label_values(&[outcome]).inc();
    }
}
