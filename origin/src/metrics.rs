//! Everything the origin counts, in one place.

use modcdn_core::telemetry::register;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Upper bounds, in seconds, of the upstream histogram's buckets.
const UPSTREAM_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds, in seconds, of the request histogram's buckets.
const REQUEST_SECONDS: &[f64] = &[0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

/// Upper bounds, in seconds, of the buckets of the histogram of checks.
const CHECK_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The origin's metrics. Labels are small fixed sets: never a module's name.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// By kind of object and status.
    pub(crate) requests: IntCounterVec,
    /// By protocol.
    pub(crate) protocol_requests: IntCounterVec,
    pub(crate) request_seconds: Histogram,
    pub(crate) sent_bytes: IntCounter,
    /// Responses cut off: the client left, or the body could not be finished.
    pub(crate) unfinished: IntCounterVec,
    pub(crate) refusals: IntCounterVec,
    pub(crate) panics: IntCounter,
    /// By protocol.
    pub(crate) connections: IntCounterVec,
    pub(crate) open_connections: IntGaugeVec,
    pub(crate) shed_connections: IntCounterVec,
    /// By kind and outcome.
    pub(crate) upstream_requests: IntCounterVec,
    pub(crate) upstream_seconds: HistogramVec,
    pub(crate) upstream_bytes: IntCounter,
    /// By git command and outcome.
    pub(crate) git_runs: IntCounterVec,
    pub(crate) git_seconds: HistogramVec,
    pub(crate) git_mirror_bytes: IntGauge,
    pub(crate) git_mirrors_dropped: IntCounterVec,
    pub(crate) joins: IntCounterVec,
    pub(crate) fetches: IntGauge,
    pub(crate) spool_bytes: IntGauge,
    pub(crate) stored: IntCounterVec,
    pub(crate) stored_bytes: IntCounter,
    pub(crate) store_errors: IntCounterVec,
    pub(crate) corrupt: IntCounterVec,
    /// By cause.
    pub(crate) removed: IntCounterVec,
    pub(crate) removed_bytes: IntCounter,
    /// By mount.
    pub(crate) kept_bytes: IntGaugeVec,
    /// By fault.
    pub(crate) bad_zips: IntCounterVec,
    pub(crate) zip_check_seconds: Histogram,
    pub(crate) stale: IntCounterVec,
    pub(crate) revalidations: IntCounterVec,
    /// By cause and outcome.
    pub(crate) refreshes: IntCounterVec,
    pub(crate) partial_lists: IntCounter,
    pub(crate) mutable_bytes: IntGauge,
    pub(crate) remembered_not_found: IntCounter,
    pub(crate) remembered_bad: IntCounter,
    /// By source and outcome.
    pub(crate) hooks: IntCounterVec,
    /// By cause.
    pub(crate) backoffs: IntCounterVec,
    pub(crate) resting: IntGauge,
    /// By outcome.
    pub(crate) sumdb_proofs: IntCounterVec,
    /// By cause.
    pub(crate) sumdb_alarms: IntCounterVec,
    /// By database.
    pub(crate) sumdb_records: IntGaugeVec,
    /// By kind.
    pub(crate) verified: IntCounterVec,
    /// By kind and cause.
    pub(crate) unverified: IntCounterVec,
    pub(crate) policy_notices: IntCounterVec,
    pub(crate) policy_unknown: IntCounterVec,
    pub(crate) reloads: IntCounterVec,
    /// By selector and mode.
    pub(crate) purges: IntCounterVec,
    pub(crate) purge_log_last: IntGauge,
    pub(crate) purge_log_failures: IntCounter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        Self {
            requests: vec(
                "modcdn_origin_requests_total",
                "Requests answered, by kind of object and status.",
                &["kind", "status"],
            ),
            protocol_requests: vec(
                "modcdn_origin_protocol_requests_total",
                "Requests answered, by HTTP version.",
                &["protocol"],
            ),
            request_seconds: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "modcdn_origin_request_seconds",
                        "From a request's header to the last byte of its answer.",
                    )
                    .buckets(REQUEST_SECONDS.to_vec()),
                ),
            ),
            sent_bytes: counter(
                "modcdn_origin_sent_bytes_total",
                "Body bytes handed to clients' connections.",
            ),
            unfinished: vec(
                "modcdn_origin_unfinished_responses_total",
                "Responses that did not end as announced: the client left, or the body broke.",
                &["cause"],
            ),
            refusals: vec(
                "modcdn_origin_refusals_total",
                "Requests refused, by reason.",
                &["reason"],
            ),
            panics: counter(
                "modcdn_origin_panics_total",
                "Requests that failed by a fault of the program.",
            ),
            connections: vec(
                "modcdn_origin_connections_total",
                "Connections accepted, by HTTP version.",
                &["protocol"],
            ),
            open_connections: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "modcdn_origin_open_connections",
                        "Connections open now, by HTTP version.",
                    ),
                    &["protocol"],
                ),
            ),
            shed_connections: vec(
                "modcdn_origin_shed_connections_total",
                "Connections closed by the origin before or without a request, by cause.",
                &["cause"],
            ),
            upstream_requests: vec(
                "modcdn_origin_upstream_requests_total",
                "Requests to upstreams, by kind of object and outcome.",
                &["kind", "outcome"],
            ),
            upstream_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "modcdn_origin_upstream_first_byte_seconds",
                        "From a request to an upstream to the head of its answer, by kind.",
                    )
                    .buckets(UPSTREAM_SECONDS.to_vec()),
                    &["kind"],
                ),
            ),
            upstream_bytes: counter(
                "modcdn_origin_upstream_bytes_total",
                "Body bytes received from upstreams.",
            ),
            git_runs: vec(
                "modcdn_origin_git_runs_total",
                "Runs of git, by command and outcome: ok, failed, cut (time, size, memory).",
                &["command", "outcome"],
            ),
            git_seconds: register(
                registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "modcdn_origin_git_seconds",
                        "How long runs of git took, waiting for a place included, by command.",
                    )
                    .buckets(REQUEST_SECONDS.to_vec()),
                    &["command"],
                ),
            ),
            git_mirror_bytes: gauge(
                "modcdn_origin_git_mirror_bytes",
                "All mirrors of Git repositories, on disk.",
            ),
            git_mirrors_dropped: vec(
                "modcdn_origin_git_mirrors_dropped_total",
                "Mirrors of Git repositories thrown away, by cause: damaged, room.",
                &["cause"],
            ),
            joins: vec(
                "modcdn_origin_joins_total",
                "Requests that joined a fetch already under way, by kind of object.",
                &["kind"],
            ),
            fetches: gauge("modcdn_origin_fetches", "Fetches under way."),
            spool_bytes: gauge(
                "modcdn_origin_spool_bytes",
                "Bytes on disk of bodies being fetched, reserved ones included.",
            ),
            stored: vec(
                "modcdn_origin_stored_objects_total",
                "Objects put into the store, by kind.",
                &["kind"],
            ),
            stored_bytes: counter(
                "modcdn_origin_stored_bytes_total",
                "Bytes put into the store.",
            ),
            store_errors: vec(
                "modcdn_origin_store_errors_total",
                "Operations of the store that failed, by operation.",
                &["operation"],
            ),
            corrupt: vec(
                "modcdn_origin_corrupt_objects_total",
                "Stored objects dropped because their bytes were not those once stored, by kind.",
                &["kind"],
            ),
            removed: vec(
                "modcdn_origin_removed_versions_total",
                "Versions removed from the store by retention, by cause.",
                &["cause"],
            ),
            removed_bytes: counter(
                "modcdn_origin_removed_bytes_total",
                "Bytes removed from the store by retention.",
            ),
            kept_bytes: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "modcdn_origin_kept_bytes",
                        "Bytes of versions in the store after retention ran last, by mount.",
                    ),
                    &["mount"],
                ),
            ),
            bad_zips: vec(
                "modcdn_origin_bad_zips_total",
                "Module zips that were refused, by what is wrong with them.",
                &["fault"],
            ),
            zip_check_seconds: register(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "modcdn_origin_zip_check_seconds",
                        "From a zip's last byte to the verdict about it.",
                    )
                    .buckets(CHECK_SECONDS.to_vec()),
                ),
            ),
            stale: vec(
                "modcdn_origin_stale_answers_total",
                "Answers used past their freshness, by cause.",
                &["cause"],
            ),
            revalidations: vec(
                "modcdn_origin_upstream_revalidations_total",
                "Answers asked for again, by outcome.",
                &["outcome"],
            ),
            refreshes: vec(
                "modcdn_origin_refreshes_total",
                "Answers refreshed in the background, by cause (ahead of being stale, or changed) and outcome.",
                &["cause", "outcome"],
            ),
            partial_lists: counter(
                "modcdn_origin_partial_lists_total",
                "Merged lists and @latest without the word of an upstream that failed.",
            ),
            mutable_bytes: gauge(
                "modcdn_origin_mutable_memory_bytes",
                "Memory taken by answers that may change.",
            ),
            remembered_not_found: counter(
                "modcdn_origin_remembered_not_found_total",
                "Requests answered by a remembered \"not found\".",
            ),
            remembered_bad: counter(
                "modcdn_origin_remembered_bad_total",
                "Requests answered by what was bad when it was last fetched.",
            ),
            hooks: vec(
                "modcdn_origin_hooks_total",
                "Calls of /-/hooks/module, by source and outcome.",
                &["source", "outcome"],
            ),
            backoffs: vec(
                "modcdn_origin_upstream_backoffs_total",
                "Pauses given to upstreams, by cause (failures in a row, or asked for).",
                &["cause"],
            ),
            resting: gauge(
                "modcdn_origin_upstreams_resting",
                "Upstreams that aren't asked now.",
            ),
            sumdb_proofs: vec(
                "modcdn_origin_sumdb_proofs_total",
                "What asking a checksum database ended in, by outcome.",
                &["outcome"],
            ),
            sumdb_alarms: vec(
                "modcdn_origin_sumdb_alarms_total",
                "Security errors around the checksum database, by cause: somebody must look.",
                &["cause"],
            ),
            sumdb_records: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "modcdn_origin_sumdb_records",
                        "Records of the largest proven tree of a checksum database.",
                    ),
                    &["database"],
                ),
            ),
            verified: vec(
                "modcdn_origin_verified_bodies_total",
                "Bodies found to be what the checksum database has, by kind.",
                &["kind"],
            ),
            unverified: vec(
                "modcdn_origin_unverified_bodies_total",
                "Bodies served though they were not verified, by kind and cause.",
                &["kind", "cause"],
            ),
            policy_notices: vec(
                "modcdn_origin_policy_notices_total",
                "Versions given out although their author took them back, or gave their module up.",
                &["notice"],
            ),
            policy_unknown: vec(
                "modcdn_origin_policy_unknown_total",
                "Facts that a decision of the policy depends on and that could not be had, by fact.",
                &["fact"],
            ),
            reloads: vec(
                "modcdn_origin_reloads_total",
                "Reloads of the configuration, by outcome.",
                &["outcome"],
            ),
            purges: vec(
                "modcdn_origin_purges_total",
                "Purges written to the purge log, by selector and mode.",
                &["selector", "mode"],
            ),
            purge_log_last: gauge(
                "modcdn_origin_purge_log_sequence",
                "Number of the purge log's newest entry.",
            ),
            purge_log_failures: counter(
                "modcdn_origin_purge_log_failures_total",
                "Purges that could not be written to the purge log: edges don't know of them.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_every_metric_has_help() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        metrics.requests.with_label_values(&["zip", "200"]).inc();
        for family in registry.gather() {
            assert!(family.name().starts_with("modcdn_origin_"));
            assert!(family.help().ends_with('.'), "{}", family.name());
        }
    }
}
