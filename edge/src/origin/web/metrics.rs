//! What the clients of plain HTTP mounts count. All names begin with `modcdn_edge_mount_`, and all
//! have the label `mount`: its prefix.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use modcdn_core::telemetry::register;

use crate::origin::metrics::{DirectoryMetrics, GateMetrics};

/// Upper bounds, in seconds, of the time until an origin's head is here.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

const MOUNT: &str = "mount";

/// The counters and gauges of all mounts.
#[derive(Clone, Debug)]
pub struct WebMetrics {
    requests: IntCounterVec,
    retries: IntCounterVec,
    exchanges: IntGaugeVec,
    seconds: HistogramVec,
    rejected: IntCounterVec,
    running: IntGaugeVec,
    relays: IntGaugeVec,
    queue: IntGaugeVec,
    breaker: IntGaugeVec,
    breaker_opened: IntCounterVec,
    resolutions: IntCounterVec,
    addresses: IntGaugeVec,
}

impl WebMetrics {
    /// Makes the metrics and adds them to `registry`.
    ///
    /// # Panics
    /// If the registry has them already.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counters = |name, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name, help: &str| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), &[MOUNT]))
        };
        let seconds = HistogramOpts::new(
            "modcdn_edge_mount_seconds",
            "Time until the head of a mount's origin's answer was here",
        );
        Self {
            requests: counters(
                "modcdn_edge_mount_requests_total",
                "Requests to origins of plain HTTP mounts, by how they ended: a class of statuses or an error",
                &[MOUNT, "outcome"],
            ),
            retries: counters(
                "modcdn_edge_mount_retries_total",
                "Such requests sent again because their connection had died",
                &[MOUNT],
            ),
            exchanges: gauges(
                "modcdn_edge_mount_exchanges",
                "Exchanges with such origins that are going on, bodies included",
            ),
            seconds: register(
                registry,
                HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &[MOUNT]),
            ),
            rejected: counters(
                "modcdn_edge_mount_rejected_total",
                "Requests not let through to such an origin, by cause",
                &[MOUNT, "cause"],
            ),
            running: gauges(
                "modcdn_edge_mount_requests_running",
                "Requests with a mount's origin, bodies included, of http.requests",
            ),
            relays: gauges(
                "modcdn_edge_mount_relays_running",
                "Requests whose answers go to one client at its pace, of http.relays",
            ),
            queue: gauges(
                "modcdn_edge_mount_queue",
                "Requests that wait because http.requests, or http.relays, are under way",
            ),
            breaker: gauges(
                "modcdn_edge_mount_breaker_state",
                "The circuit breaker before a mount's origin: 0 closed, 1 half-open, 2 open",
            ),
            breaker_opened: counters(
                "modcdn_edge_mount_breaker_opened_total",
                "Times that such a circuit breaker opened",
                &[MOUNT],
            ),
            resolutions: counters(
                "modcdn_edge_mount_resolutions_total",
                "Look-ups of the name of a mount's origin, by result",
                &[MOUNT, "result"],
            ),
            addresses: gauges(
                "modcdn_edge_mount_addresses",
                "Addresses of a mount's origin",
            ),
        }
    }

    /// Those of one mount, named by its prefix.
    #[must_use]
    pub fn of(&self, mount: &str) -> MountMetrics {
        let own = [mount];
        MountMetrics {
            mount: mount.to_owned(),
            requests: self.requests.clone(),
            retries: self.retries.with_label_values(&own),
            exchanges: self.exchanges.with_label_values(&own),
            seconds: self.seconds.with_label_values(&own),
            gate: GateMetrics::new(
                |cause| self.rejected.with_label_values(&[mount, cause]),
                [&self.running, &self.relays].map(|gauge| gauge.with_label_values(&own)),
                self.queue.with_label_values(&own),
                self.breaker.with_label_values(&own),
                self.breaker_opened.with_label_values(&own),
            ),
            directory: DirectoryMetrics::new(
                |result| self.resolutions.with_label_values(&[mount, result]),
                self.addresses.with_label_values(&own),
            ),
        }
    }
}

/// The counters and gauges of one mount.
#[derive(Clone, Debug)]
pub struct MountMetrics {
    mount: String,
    requests: IntCounterVec,
    pub(super) retries: IntCounter,
    exchanges: IntGauge,
    seconds: Histogram,
    pub(super) gate: GateMetrics,
    pub(super) directory: DirectoryMetrics,
}

impl MountMetrics {
    /// An exchange goes on until what this gives is dropped.
    pub(super) fn begin(&self) -> Ongoing {
        self.exchanges.inc();
        Ongoing(self.exchanges.clone())
    }

    /// A request that got a head after `took`.
    pub(super) fn answered(&self, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.ended(class);
        self.seconds.observe(took.as_secs_f64());
    }

    /// A request that got none; `outcome` is the error's name.
    pub(super) fn failed(&self, outcome: &str) {
        self.ended(outcome);
    }

    fn ended(&self, outcome: &str) {
        let labels = [self.mount.as_str(), outcome];
        self.requests.with_label_values(&labels).inc();
    }
}

/// An exchange that goes on.
pub(super) struct Ongoing(IntGauge);

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.0.dec();
    }
}
