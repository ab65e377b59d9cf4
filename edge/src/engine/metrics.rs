//! What the engine counts. All names begin with `modcdn_edge_`.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use modcdn_core::telemetry::register;

use super::purge::{Kind, Mode};

/// The engine's counters and gauges.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    /// By [`Tier`], looked up once: a hit costs one addition.
    hits: [IntCounter; Tier::ALL.len()],
    pub(crate) misses: IntCounter,
    pub(crate) collapsed: IntCounter,
    pub(crate) relays: IntCounter,
    fills: IntCounterVec,
    pub(crate) fills_running: IntGauge,
    pub(crate) fill_bytes: IntCounter,
    pub(crate) fill_memory: IntGauge,
    pub(crate) resumes: IntCounter,
    pub(crate) resumes_denied: IntCounter,
    pub(crate) failed_remembered: IntCounter,
    revalidations: IntCounterVec,
    pub(crate) stale_served: IntCounter,
    stored_bytes: IntGaugeVec,
    pub(crate) entries: IntGauge,
    pub(crate) index_loading: IntGauge,
    pub(crate) scrubbed_bytes: IntCounter,
    pub(crate) scrub_rounds: IntCounter,
    pub(crate) scrub_progress: IntGauge,
    pub(crate) unused: IntCounter,
    evictions: IntCounterVec,
    pub(crate) corrupt: IntCounter,
    pub(crate) write_errors: IntCounter,
    pub(crate) read_errors: IntCounter,
    pub(crate) admission_stopped: IntGauge,
    pub(crate) journal_bytes: IntGauge,
    pub(crate) journal_damage: IntCounter,
    purges: IntCounterVec,
    pub(crate) purges_held: IntGauge,
    pub(crate) purges_unwritten: IntGauge,
    pub(crate) purged_entries: IntCounter,
    pub(crate) origin_clock: Gauge,
}

/// Where a hit's body came from, and which bound evicted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// The RAM tier.
    Ram,
    /// The disk tier.
    Disk,
    /// Answers that are in RAM only.
    Loose,
    /// Answers without a body: HEAD, 304 and 416.
    Head,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Ram, Self::Disk, Self::Loose, Self::Head];

    const fn name(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Disk => "disk",
            Self::Loose => "loose",
            Self::Head => "head",
        }
    }
}

impl EngineMetrics {
    /// Makes the metrics and adds them to `registry`.
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
        let gauges = |name, help: &str, label| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let hits = counters(
            "modcdn_edge_hits_total",
            "Answers from the store, by where",
            "tier",
        );
        Self {
            hits: Tier::ALL.map(|tier| hits.with_label_values(&[tier.name()])),
            misses: counter(
                "modcdn_edge_misses_total",
                "Requests that the store could not answer by itself",
            ),
            collapsed: counter(
                "modcdn_edge_collapsed_total",
                "Requests that joined a running fill",
            ),
            relays: counter(
                "modcdn_edge_relays_total",
                "Requests passed to the origin for one client, not cached",
            ),
            fills: counters(
                "modcdn_edge_fills_total",
                "Finished fills, by their end",
                "end",
            ),
            fills_running: gauge("modcdn_edge_fills_running", "Fills that are running"),
            fill_bytes: counter(
                "modcdn_edge_fill_bytes_total",
                "Body bytes that fills received from the origin",
            ),
            fill_memory: gauge(
                "modcdn_edge_fill_memory_bytes",
                "Bytes in RAM for running fills and their readers",
            ),
            resumes: counter(
                "modcdn_edge_fill_resumes_total",
                "Tries to continue a body that broke off",
            ),
            resumes_denied: counter(
                "modcdn_edge_fill_resumes_denied_total",
                "Tries to continue a body that the budget of all fills did not cover",
            ),
            failed_remembered: counter(
                "modcdn_edge_fill_failures_remembered_total",
                "Requests answered with the failure of a fill a moment ago, not asking again",
            ),
            revalidations: counters(
                "modcdn_edge_revalidations_total",
                "Conditional requests to the origin, by what came of them",
                "result",
            ),
            stale_served: counter(
                "modcdn_edge_stale_served_total",
                "Answers given past their freshness",
            ),
            stored_bytes: gauges("modcdn_edge_store_bytes", "Bytes held, by tier", "tier"),
            entries: gauge("modcdn_edge_index_entries", "Keys in the index"),
            index_loading: gauge(
                "modcdn_edge_index_loading",
                "1 while the index is read after a start; index_entries says how far it is",
            ),
            scrubbed_bytes: counter(
                "modcdn_edge_scrubbed_bytes_total",
                "Bytes that the scrub read and compared with their digests",
            ),
            scrub_rounds: counter(
                "modcdn_edge_scrub_rounds_total",
                "Rounds of the scrub that were finished",
            ),
            scrub_progress: gauge(
                "modcdn_edge_scrub_position",
                "Number of the key that the scrub is at, about index_entries at a round's end; 0: it rests",
            ),
            unused: counter(
                "modcdn_edge_unused_dropped_total",
                "Keys dropped because nobody asked for them in store.unused",
            ),
            evictions: counters(
                "modcdn_edge_evictions_total",
                "Keys and bodies evicted, by the tier that was full",
                "tier",
            ),
            corrupt: counter(
                "modcdn_edge_corrupt_objects_total",
                "Bodies found damaged when they were read",
            ),
            write_errors: counter(
                "modcdn_edge_store_write_errors_total",
                "Writes that the disk refused",
            ),
            read_errors: counter(
                "modcdn_edge_store_read_errors_total",
                "Reads that the disk refused; what was to be read stays, and is fetched again when asked for",
            ),
            admission_stopped: gauge(
                "modcdn_edge_admission_stopped",
                "1 while nothing is stored because the disk refused a write",
            ),
            journal_bytes: gauge("modcdn_edge_journal_bytes", "Bytes of the journal on disk"),
            journal_damage: counter(
                "modcdn_edge_journal_damaged_bytes_total",
                "Bytes of the journal that could not be read at start",
            ),
            purges: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "modcdn_edge_purges_total",
                        "Purges asked for by who may, by what they select and how",
                    ),
                    &["selector", "mode"],
                ),
            ),
            purges_held: gauge(
                "modcdn_edge_purges_held",
                "Purges that are kept because an answer that they concern may be left",
            ),
            purges_unwritten: gauge(
                "modcdn_edge_purges_unwritten",
                "Purges that the disk refused and that would not survive a restart now",
            ),
            purged_entries: counter(
                "modcdn_edge_purged_entries_total",
                "Keys dropped because of a purge",
            ),
            origin_clock: register(
                registry,
                Gauge::new(
                    "modcdn_edge_origin_clock_offset_seconds",
                    "How far our clock is ahead of the origin's, by the Date of its last answer",
                ),
            ),
        }
    }

    pub(crate) fn hit(&self, tier: Tier) {
        self.hits[tier as usize].inc();
    }

    pub(crate) fn purged(&self, kind: Kind, mode: Mode) {
        let labels = [kind.name(), mode.name()];
        self.purges.with_label_values(&labels).inc();
    }

    pub(crate) fn fill_ended(&self, end: &str) {
        self.fills.with_label_values(&[end]).inc();
    }

    pub(crate) fn revalidated(&self, result: &str) {
        self.revalidations.with_label_values(&[result]).inc();
    }

    pub(crate) fn evicted(&self, tier: Tier) {
        self.evictions.with_label_values(&[tier.name()]).inc();
    }

    pub(crate) fn holds(&self, tier: Tier, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.stored_bytes
            .with_label_values(&[tier.name()])
            .set(bytes);
    }

    #[cfg(test)]
    pub(crate) fn fills_ended(&self, end: &str) -> u64 {
        self.fills.with_label_values(&[end]).get()
    }

    #[cfg(test)]
    pub(crate) fn hits(&self, tier: Tier) -> u64 {
        self.hits[tier as usize].get()
    }

    #[cfg(test)]
    pub(crate) fn evictions(&self, tier: Tier) -> u64 {
        self.evictions.with_label_values(&[tier.name()]).get()
    }
}
