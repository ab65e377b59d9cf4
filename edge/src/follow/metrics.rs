//! What following the origin's purge log counts. All names begin with `modcdn_edge_purge_log_`.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use modcdn_core::purge::log::Position;
use modcdn_core::telemetry::register;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct FollowMetrics {
    sequence: IntGauge,
    behind: IntGauge,
    confirmed: IntGauge,
    entries: IntCounter,
    resets: IntCounter,
    failures: IntCounterVec,
}

impl FollowMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        Self {
            sequence: gauge(
                "modcdn_edge_purge_log_sequence",
                "Number of the last entry of the origin's purge log that is carried out.",
            ),
            behind: gauge(
                "modcdn_edge_purge_log_behind",
                "Entries of the origin's purge log that are known of and not carried out yet.",
            ),
            confirmed: gauge(
                "modcdn_edge_purge_log_confirmed_timestamp_seconds",
                "When all entries of the origin's purge log were last known to be carried out.",
            ),
            entries: counter(
                "modcdn_edge_purge_log_entries_total",
                "Entries of the origin's purge log that were carried out.",
            ),
            resets: counter(
                "modcdn_edge_purge_log_resets_total",
                "Times that everything was purged softly, as the place in the log was unknown.",
            ),
            failures: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "modcdn_edge_purge_log_failures_total",
                        "Looks at the origin's purge log that failed, by cause.",
                    ),
                    &["cause"],
                ),
            ),
        }
    }

    pub(super) fn failed(&self, cause: &str) {
        self.failures.with_label_values(&[cause]).inc();
    }

    pub(super) fn carried_out(&self) {
        self.entries.inc();
    }

    pub(super) fn reset(&self) {
        self.resets.inc();
    }

    pub(super) fn behind(&self, last: u64, known: Option<Position>) {
        let known = known.map_or(0, |known| known.seq);
        self.sequence.set(number(known));
        self.behind.set(number(last.saturating_sub(known)));
    }

    pub(super) fn up_to_date(&self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.confirmed.set(number(since.as_secs()));
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
