//! What the origin client counts. All names begin with `modcdn_edge_origin_`.

use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use modcdn_core::telemetry::register;

/// Upper bounds, in seconds, of the time until the origin's head, or a connection, is here.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Why a request was not let through to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// As many as may wait were waiting.
    QueueFull,
    /// It waited for too long.
    QueueWait,
    /// The breaker was open.
    Breaker,
    /// It turned out to be a relay, and there were as many as may be.
    Relays,
}

impl Rejected {
    const ALL: [Self; 4] = [
        Self::QueueFull,
        Self::QueueWait,
        Self::Breaker,
        Self::Relays,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::QueueWait => "queue-wait",
            Self::Breaker => "breaker",
            Self::Relays => "relays",
        }
    }
}

/// What a gate counts: one origin's share of the families.
#[derive(Clone, Debug)]
pub(crate) struct GateMetrics {
    /// By [`Rejected`].
    rejected: [IntCounter; Rejected::ALL.len()],
    /// Places taken among the requests.
    pub(crate) requests: IntGauge,
    /// And among the relays.
    pub(crate) relays: IntGauge,
    /// Requests that wait for a place.
    pub(crate) queue: IntGauge,
    /// The breaker's position.
    pub(crate) breaker: IntGauge,
    /// Times that it opened.
    pub(crate) breaker_opened: IntCounter,
}

impl GateMetrics {
    /// `rejected` gives the counter of a cause.
    pub(crate) fn new(
        rejected: impl Fn(&'static str) -> IntCounter,
        [requests, relays]: [IntGauge; 2],
        queue: IntGauge,
        breaker: IntGauge,
        breaker_opened: IntCounter,
    ) -> Self {
        Self {
            rejected: Rejected::ALL.map(|cause| rejected(cause.name())),
            requests,
            relays,
            queue,
            breaker,
            breaker_opened,
        }
    }

    pub(crate) fn rejected(&self, cause: Rejected) {
        self.rejected[cause as usize].inc();
    }
}

/// What a directory counts: one origin's share of the two families.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryMetrics {
    worked: IntCounter,
    failed: IntCounter,
    /// Addresses known.
    pub(crate) addresses: IntGauge,
}

impl DirectoryMetrics {
    /// `resolutions` gives the counter of a result.
    pub(crate) fn new(
        resolutions: impl Fn(&'static str) -> IntCounter,
        addresses: IntGauge,
    ) -> Self {
        Self {
            worked: resolutions("ok"),
            failed: resolutions("failed"),
            addresses,
        }
    }

    pub(crate) fn resolved(&self, worked: bool) {
        let counter = if worked { &self.worked } else { &self.failed };
        counter.inc();
    }

    #[cfg(test)]
    pub(crate) fn failed_resolutions(&self) -> u64 {
        self.failed.get()
    }
}

/// The origin client's counters and gauges.
#[derive(Clone)]
pub struct OriginMetrics {
    requests: IntCounterVec,
    seconds: Histogram,
    pub(crate) retries: IntCounter,
    pub(crate) at_work: IntCounter,
    pub(crate) gate: GateMetrics,
    pub(crate) connections: IntCounter,
    pub(crate) connect_failures: IntCounter,
    pub(crate) connect_seconds: Histogram,
    pub(crate) connections_open: IntGauge,
    pub(crate) connections_idle: IntGauge,
    relay_connections: [IntGauge; 2],
    pub(crate) streams: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) pings_lost: IntCounter,
    pub(crate) directory: DirectoryMetrics,
    pub(crate) addresses_suspect: IntGauge,
}

impl OriginMetrics {
    /// Registers all of them.
    ///
    /// # Panics
    /// If the registry has them already.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        let gauge = |name, help| register(registry, IntGauge::new(name, help));
        let counters = |name, help: &str, label| {
            register(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let histogram = |name, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
            register(registry, Histogram::with_opts(opts))
        };
        let rejected = counters(
            "modcdn_edge_origin_rejected_total",
            "Requests not let through to the origin, by cause",
            "cause",
        );
        let gate = GateMetrics::new(
            |cause| rejected.with_label_values(&[cause]),
            [
                gauge(
                    "modcdn_edge_origin_requests_running",
                    "Requests with the origin, bodies included, of origin.requests",
                ),
                gauge(
                    "modcdn_edge_origin_relays_running",
                    "Requests whose answers go to one client at its pace, of origin.relays",
                ),
            ],
            gauge(
                "modcdn_edge_origin_queue",
                "Requests that wait because origin.requests, or origin.relays, are under way",
            ),
            gauge(
                "modcdn_edge_origin_breaker_state",
                "The circuit breaker: 0 closed, 1 half-open, 2 open",
            ),
            counter(
                "modcdn_edge_origin_breaker_opened_total",
                "Times that the circuit breaker opened",
            ),
        );
        let resolutions = counters(
            "modcdn_edge_origin_resolutions_total",
            "Look-ups of the origin's name, by result",
            "result",
        );
        let directory = DirectoryMetrics::new(
            |result| resolutions.with_label_values(&[result]),
            gauge("modcdn_edge_origin_addresses", "Addresses of the origin"),
        );
        Self {
            requests: counters(
                "modcdn_edge_origin_requests_total",
                "Requests to the origin, by how they ended: a class of statuses or an error",
                "outcome",
            ),
            seconds: histogram(
                "modcdn_edge_origin_seconds",
                "Time until the head of the origin's answer was here",
            ),
            retries: counter(
                "modcdn_edge_origin_retries_total",
                "Requests to the origin sent again on another connection or to another address",
            ),
            at_work: counter(
                "modcdn_edge_origin_at_work_total",
                "Times that the origin said it was still at work on an answer, and was asked again",
            ),
            gate,
            connections: counter(
                "modcdn_edge_origin_connections_total",
                "Connections opened to the origin",
            ),
            connect_failures: counter(
                "modcdn_edge_origin_connect_failures_total",
                "Connections to the origin that could not be opened",
            ),
            connect_seconds: histogram(
                "modcdn_edge_origin_connect_seconds",
                "Time until a connection to the origin was open",
            ),
            connections_open: gauge(
                "modcdn_edge_origin_connections_open",
                "Connections to the origin open now",
            ),
            connections_idle: gauge(
                "modcdn_edge_origin_connections_idle",
                "Connections to the origin without a request",
            ),
            relay_connections: [
                gauge(
                    "modcdn_edge_origin_relay_connections_open",
                    "Connections to the origin for relays open now",
                ),
                gauge(
                    "modcdn_edge_origin_relay_connections_idle",
                    "Connections to the origin for relays without a request",
                ),
            ],
            streams: gauge(
                "modcdn_edge_origin_streams",
                "HTTP/2 streams in use on connections to the origin",
            ),
            waiting: gauge(
                "modcdn_edge_origin_stream_waiters",
                "Requests that wait for a stream or a new connection",
            ),
            pings_lost: counter(
                "modcdn_edge_origin_pings_lost_total",
                "Connections to the origin given up because a PING was not answered",
            ),
            directory,
            addresses_suspect: gauge(
                "modcdn_edge_origin_addresses_suspect",
                "Addresses of the origin that are used only where there is no other",
            ),
        }
    }

    /// For the connections of relays, which have gauges of their own.
    pub(crate) fn of_relays(&self) -> Self {
        let [connections_open, connections_idle] = self.relay_connections.clone();
        Self {
            connections_open,
            connections_idle,
            ..self.clone()
        }
    }

    /// A request that got a head after `took`.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// A request that got none; `outcome` is the error's name.
    pub(crate) fn failed(&self, outcome: &str) {
        self.requests.with_label_values(&[outcome]).inc();
    }
}

/// A gauge that follows a count.
pub(crate) fn show(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
