//! How PoPs are checked.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// Time between two checks of an address.
pub const DEFAULT_CHECK_INTERVAL: Period = Period::secs(1);

/// How long a check may take.
pub const DEFAULT_CHECK_TIMEOUT: Period = Period::secs(1);

/// Checks running that change one's mind, either way.
pub const DEFAULT_CHECK_COUNT: u32 = 2;

/// The fall, of those that are remembered, with which a PoP stays out: the fifth in a minute or so.
pub const DEFAULT_FALLS: u32 = 5;

/// Time in which half of a PoP's falls is forgotten.
pub const DEFAULT_HALF_LIFE: Period = Period::secs(60);

/// How PoPs are checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {
    /// Time between two checks, give or take a tenth.
    pub interval: Period,
    /// How long a check may take, connecting included.
    pub timeout: Period,
    /// Failures running that take an address out.
    pub fall: u32,
    /// Successes running that bring it back.
    pub rise: u32,
    /// PEM certificates of the authorities that https checks trust; none: the system's.
    pub ca: Option<PathBuf>,
    /// When a PoP that comes and goes stays out.
    pub damping: Damping,
}

/// When a PoP that comes and goes stays out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Damping {
    /// The fall, of those remembered, with which it stays out; 0: it always comes back.
    pub falls: u32,
    /// Time in which half of its falls is forgotten; it comes back when half of `falls` is left.
    pub half_life: Period,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            interval: DEFAULT_CHECK_INTERVAL,
            timeout: DEFAULT_CHECK_TIMEOUT,
            fall: DEFAULT_CHECK_COUNT,
            rise: DEFAULT_CHECK_COUNT,
            ca: None,
            damping: Damping::default(),
        }
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            falls: DEFAULT_FALLS,
            half_life: DEFAULT_HALF_LIFE,
        }
    }
}

impl Checks {
    /// Adds what is wrong.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for (key, period) in [
            ("checks.interval", self.interval),
            ("checks.timeout", self.timeout),
            ("checks.damping.half_life", self.damping.half_life),
        ] {
            if period.is_zero() {
                problems.push(Problem::new(key, "must be above zero"));
            }
        }
        for (key, count) in [("checks.fall", self.fall), ("checks.rise", self.rise)] {
            if count == 0 {
                problems.push(Problem::new(key, "must be above zero"));
            }
        }
    }
}
