//! Whoever has something to be forgotten says so here: written to the log, and counted.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use modcdn_core::purge::log::Position;
use modcdn_core::purge::{Mode, Purge, Subject};

use super::PurgeLog;
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Purger {
    log: Arc<PurgeLog>,
    metrics: Metrics,
}

impl Purger {
    pub(crate) fn new(log: Arc<PurgeLog>, metrics: Metrics) -> Self {
        let purger = Self { log, metrics };
        purger.show(purger.log.end());
        purger
    }

    /// From now on answers that may change are asked for again here, and edges hear of it. Blocks.
    ///
    /// # Errors
    /// The log can't be written: nobody knows.
    pub(crate) fn purge(&self, purge: Purge, now: SystemTime) -> io::Result<Position> {
        let labels = [purge.selector.kind().name(), purge.mode.name()];
        let written = self.log.append(purge, now);
        match &written {
            Ok(position) => {
                self.metrics.purges.with_label_values(&labels).inc();
                self.show(*position);
            }
            Err(error) => {
                self.metrics.purge_log_failures.inc();
                tracing::error!(%error, "the purge log can't be written");
            }
        }
        written
    }

    /// See [`PurgeLog::judge`].
    pub(crate) fn judge(&self, subject: &Subject<'_>, confirmed: SystemTime) -> Option<Mode> {
        self.log.judge(subject, confirmed)
    }

    fn show(&self, end: Position) {
        let last = i64::try_from(end.seq).unwrap_or(i64::MAX);
        self.metrics.purge_log_last.set(last);
    }
}
