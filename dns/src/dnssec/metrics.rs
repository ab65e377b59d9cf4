//! The signer's metrics: name, unit and help side by side.

use modcdn_core::telemetry::register;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::Unsigned;
use crate::metrics::begun;

/// The metrics of one signer.
#[derive(Clone)]
pub struct Metrics {
    made: IntCounterVec,
    unsigned: IntCounterVec,
    kept: IntGaugeVec,
    first_expiration: IntGauge,
    /// Both of `made`, looked up once.
    ahead: IntCounter,
    online: IntCounter,
}

impl Metrics {
    /// Registers them all.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, label: &str| {
            register(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let made = counters(
            "modcdn_dns_signed_total",
            "RRsets signed, ahead of time or while answering (online)",
            "when",
        );
        Self {
            ahead: made.with_label_values(&["ahead"]),
            online: made.with_label_values(&["online"]),
            made,
            unsigned: begun(
                counters(
                    "modcdn_dns_unsigned_total",
                    "RRsets that could not be signed; those asked for were answered SERVFAIL",
                    "reason",
                ),
                &[Unsigned::Rate, Unsigned::Failed].map(Unsigned::name),
            ),
            kept: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "modcdn_dns_signed_kept",
                        "RRsets whose signatures are kept, by when they were made",
                    ),
                    &["when"],
                ),
            ),
            first_expiration: register(
                registry,
                IntGauge::new(
                    "modcdn_dns_first_expiration_seconds",
                    "When the first of the signatures made ahead ends, in seconds since 1970; 0: there are none",
                ),
            ),
        }
    }

    pub(super) fn made_ahead(&self) {
        self.ahead.inc();
    }

    pub(super) fn made_online(&self) {
        self.online.inc();
    }

    pub(super) fn unsigned(&self, reason: Unsigned) {
        self.unsigned.with_label_values(&[reason.name()]).inc();
    }

    pub(super) fn kept(&self, ahead: usize, online: usize, first_expiration: Option<u32>) {
        for (when, count) in [("ahead", ahead), ("online", online)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.kept.with_label_values(&[when]).set(count);
        }
        self.first_expiration
            .set(first_expiration.map_or(0, i64::from));
    }

    /// RRsets signed ahead of time, and while answering.
    #[must_use]
    pub fn made(&self) -> (u64, u64) {
        let count = |when: &str| self.made.with_label_values(&[when]).get();
        (count("ahead"), count("online"))
    }
}
