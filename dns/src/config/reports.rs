//! Who may report, and for how long what is reported counts.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

/// Time between two looks at the file of reports.
pub const DEFAULT_REPORTS_LOOK: Period = Period::secs(5);

/// How long a heartbeat and views count: three that PoPs send every five seconds.
pub const DEFAULT_REPORTS_AGE: Period = Period::secs(15);

/// How old samples may be when they come.
pub const DEFAULT_SAMPLES_AGE: Period = Period::secs(86_400);

/// By how much a sender's clock may be ahead.
pub const DEFAULT_REPORTS_SKEW: Period = Period::secs(5);

/// The largest file of reports.
pub const DEFAULT_REPORTS_FILE_SIZE: ByteSize = ByteSize::mib(256);

/// Who may report, and for how long what is reported counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reports {
    /// Tokens that may report, and drain, on the admin listener, and for whom; none: nobody may.
    pub token_file: Option<PathBuf>,
    /// A file of reports, a line of JSON each; none: no file.
    pub file: Option<PathBuf>,
    /// The largest file that is read.
    pub file_size: ByteSize,
    /// Time between two looks whether the file has changed.
    pub look: Period,
    /// How long a heartbeat and views count.
    pub age: Period,
    /// How old samples may be when they come.
    pub samples_age: Period,
    /// By how much a sender's clock may be ahead.
    pub skew: Period,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            token_file: None,
            file: None,
            file_size: DEFAULT_REPORTS_FILE_SIZE,
            look: DEFAULT_REPORTS_LOOK,
            age: DEFAULT_REPORTS_AGE,
            samples_age: DEFAULT_SAMPLES_AGE,
            skew: DEFAULT_REPORTS_SKEW,
        }
    }
}

impl Reports {
    /// Whether the same file is read in the same way.
    pub(crate) fn reads_as(&self, other: &Self) -> bool {
        let reads = |reports: &Self| {
            let path = reports.file.clone();
            (path, reports.file_size, reports.look)
        };
        reads(self) == reads(other)
    }

    /// Adds what is wrong.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for (key, period) in [("reports.look", self.look), ("reports.age", self.age)] {
            if period.is_zero() {
                problems.push(Problem::new(key, "must be above zero"));
            }
        }
    }
}
