//! Metrics of the map and of what feeds it: name, unit and help side by side.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use modcdn_core::telemetry::register;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use crate::health::{Change, State, Verdict};
use crate::metrics::begun;
use crate::reports::Taken;
use crate::steer::SampleError;

/// Seconds in a day.
const DAY: f64 = 86_400.0;

/// Metrics of the map and of what feeds it.
#[derive(Clone)]
pub struct Metrics {
    healthy: IntGaugeVec,
    state: IntGaugeVec,
    health_changes: IntCounterVec,
    checks: IntCounterVec,
    certificate_days: GaugeVec,
    distrusted: IntGauge,
    reports: IntCounterVec,
    items: IntCounterVec,
    report_age: GaugeVec,
    samples: IntGauge,
    unlearnt: IntCounterVec,
    map_version: IntGauge,
    map_age: Gauge,
    compile: Histogram,
    database_age: GaugeVec,
    reloads: IntCounterVec,
    /// Files of `state.dir` that couldn't be written.
    pub(crate) state_failures: IntCounter,
}

impl Metrics {
    /// Registers them all.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let reals = |name: &str, help: &str, labels: &[&str]| {
            register(registry, GaugeVec::new(Opts::new(name, help), labels))
        };
        let compile =
            HistogramOpts::new("modcdn_dns_compile_seconds", "Time that making a map took")
                .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]);
        Self {
            healthy: gauges(
                "modcdn_dns_pop_healthy",
                "1 if the PoP takes clients",
                &["pop"],
            ),
            state: gauges(
                "modcdn_dns_pop_state",
                "1 for the state that the PoP is in",
                &["pop", "state"],
            ),
            health_changes: counters(
                "modcdn_dns_health_changes_total",
                "Changes of a PoP's state, by the new state and what led to it",
                &["pop", "to", "reason"],
            ),
            checks: counters(
                "modcdn_dns_checks_total",
                "Checks of a PoP's addresses",
                &["pop", "outcome"],
            ),
            certificate_days: reals(
                "modcdn_dns_pop_certificate_days_left",
                "Days until the certificate ends that an address showed at its last check",
                &["pop", "address"],
            ),
            distrusted: gauge(
                "modcdn_dns_viewpoint_distrusted",
                "1 if most PoPs look down from here and others contradict",
            ),
            reports: counters(
                "modcdn_dns_reports_total",
                "Reports that came, by what became of them",
                &["from", "outcome"],
            ),
            items: counters(
                "modcdn_dns_report_items_total",
                "Heartbeats, views and samples in reports; unknown: of no PoP that is configured",
                &["item"],
            ),
            report_age: reals(
                "modcdn_dns_report_age_seconds",
                "Age of a PoP's last heartbeat",
                &["pop"],
            ),
            samples: gauge(
                "modcdn_dns_samples",
                "Prefixes and PoPs of which round trips are known",
            ),
            unlearnt: counters(
                "modcdn_dns_samples_refused_total",
                "Samples that nothing was learnt from",
                &["reason"],
            ),
            map_version: gauge("modcdn_dns_map_version", "Version of the map in use"),
            map_age: register(
                registry,
                Gauge::new("modcdn_dns_map_age_seconds", "Age of the map in use"),
            ),
            compile: register(registry, Histogram::with_opts(compile)),
            database_age: reals(
                "modcdn_dns_geo_age_seconds",
                "Age of a geo database, since its file was last changed",
                &["database"],
            ),
            reloads: begun(
                counters(
                    "modcdn_dns_reloads_total",
                    "Reloads of the configuration",
                    &["outcome"],
                ),
                &["applied", "refused"],
            ),
            state_failures: register(
                registry,
                IntCounter::new(
                    "modcdn_dns_state_failures_total",
                    "Files of state.dir that couldn't be written",
                ),
            ),
        }
    }

    /// Forgets PoPs, of whom some may be gone.
    pub(crate) fn forget(&self) {
        self.healthy.reset();
        self.state.reset();
        self.certificate_days.reset();
        self.report_age.reset();
        self.database_age.reset();
    }

    /// Notes what a PoP is.
    pub(crate) fn set_state(&self, pop: &str, verdict: Verdict) {
        let answerable = i64::from(verdict.state.is_answerable());
        self.healthy.with_label_values(&[pop]).set(answerable);
        for state in State::ALL {
            let is = i64::from(state == verdict.state);
            self.state.with_label_values(&[pop, state.name()]).set(is);
        }
    }

    /// Counts a change of a PoP's state.
    pub(crate) fn changed(&self, pop: &str, change: &Change) {
        let labels = [pop, change.to.state.name(), change.to.reason.name()];
        self.health_changes.with_label_values(&labels).inc();
    }

    /// Counts a check, and notes when the certificate ends that it saw.
    pub(crate) fn checked(
        &self,
        pop: &str,
        target: SocketAddr,
        good: bool,
        ends: Option<SystemTime>,
    ) {
        let outcome = if good { "success" } else { "failure" };
        self.checks.with_label_values(&[pop, outcome]).inc();
        if let Some(ends) = ends {
            let days = seconds_until(ends, SystemTime::now()) / DAY;
            let address = target.to_string();
            self.certificate_days
                .with_label_values(&[pop, &address])
                .set(days);
        }
    }

    /// Notes whether our viewpoint is distrusted.
    pub(crate) fn set_distrusted(&self, distrusted: bool) {
        self.distrusted.set(i64::from(distrusted));
    }

    /// Counts a report that came `from` a request or the file.
    pub(crate) fn reported(&self, from: &str, outcome: &str) {
        self.reports.with_label_values(&[from, outcome]).inc();
    }

    /// Counts what was in a report.
    pub(crate) fn taken(&self, taken: &Taken) {
        for (item, count) in [
            ("heartbeat", usize::from(taken.heartbeat)),
            ("view", taken.views),
            ("sample", taken.samples.len()),
            ("unknown", taken.unknown),
            ("old", taken.old),
            ("full", taken.full),
        ] {
            self.items.with_label_values(&[item]).inc_by(count as u64);
        }
    }

    /// Notes how much is known of round trips.
    pub(crate) fn set_samples(&self, count: usize) {
        self.samples.set(count as i64);
    }

    /// Counts a sample that nothing was learnt from.
    pub(crate) fn unlearnt(&self, why: SampleError) {
        self.unlearnt.with_label_values(&[why.name()]).inc();
    }

    /// Notes the age of a PoP's last heartbeat.
    pub(crate) fn set_report_age(&self, pop: &str, age: Duration) {
        self.report_age
            .with_label_values(&[pop])
            .set(age.as_secs_f64());
    }

    /// Notes the map in use.
    pub(crate) fn published(&self, version: u64) {
        self.map_version.set(version.cast_signed());
        self.map_age.set(0.0);
    }

    /// Notes the age of the map in use.
    pub(crate) fn set_map_age(&self, age: Duration) {
        self.map_age.set(age.as_secs_f64());
    }

    /// Notes how long a compilation took.
    pub(crate) fn compiled(&self, took: Duration) {
        self.compile.observe(took.as_secs_f64());
    }

    /// Notes the age of a database.
    pub(crate) fn set_database_age(&self, database: &str, changed: SystemTime, clock: SystemTime) {
        let age = -seconds_until(changed, clock);
        self.database_age.with_label_values(&[database]).set(age);
    }

    /// Counts a reload.
    pub(crate) fn reloaded(&self, good: bool) {
        let outcome = if good { "applied" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
    }
}

fn seconds_until(then: SystemTime, now: SystemTime) -> f64 {
    match then.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    }
}
