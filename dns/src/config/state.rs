//! What outlives the process.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// Time between two writes of what has changed.
pub const DEFAULT_STATE_INTERVAL: Period = Period::secs(10);

/// What outlives the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The folder; none: a restarted server knows nothing of before, and counts maps from 1.
    pub dir: Option<PathBuf>,
    /// Time between two writes of what has changed.
    pub interval: Period,
}

impl Default for State {
    fn default() -> Self {
        Self {
            dir: None,
            interval: DEFAULT_STATE_INTERVAL,
        }
    }
}

impl State {
    /// Adds what is wrong.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if self.interval.is_zero() {
            problems.push(Problem::new("state.interval", "must be above zero"));
        }
    }
}
