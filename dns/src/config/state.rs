//! What outlives the process.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// Time between two writes of samples.
pub const DEFAULT_STATE_INTERVAL: Period = Period::secs(10);

/// Time between two writes of where clients belong: some ten bytes a measured prefix.
pub const DEFAULT_HOMES_INTERVAL: Period = Period::secs(60);

/// What outlives the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The folder; none: a restarted server knows nothing of before, and counts maps from 1.
    pub dir: Option<PathBuf>,
    /// Time between two writes of samples, if there are new ones; longer where a write takes more than a
    /// twentieth of it.
    pub interval: Period,
    /// Time between two writes of where clients belong, if that has changed.
    pub homes_interval: Period,
}

impl Default for State {
    fn default() -> Self {
        Self {
            dir: None,
            interval: DEFAULT_STATE_INTERVAL,
            homes_interval: DEFAULT_HOMES_INTERVAL,
        }
    }
}

impl State {
    /// Adds what is wrong.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for (key, period) in [
            ("state.interval", self.interval),
            ("state.homes_interval", self.homes_interval),
        ] {
            if period.is_zero() {
                problems.push(Problem::new(key, "must be above zero"));
            }
        }
    }
}
