//! Records that come and go while the server runs.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// How long resolvers may keep such a record: whoever set one is waiting for its successor.
pub const DEFAULT_DYNAMIC_TTL: Period = Period::secs(60);

/// How long a record stays unless told otherwise, and at most: a challenge takes minutes.
pub const DEFAULT_LIFETIME: Period = Period::secs(86_400);

/// Records at once: a challenge needs one or two.
pub const DEFAULT_VALUES: usize = 1000;

/// The most records that may be configured: each change writes them all.
pub const MAX_VALUES: usize = 100_000;

/// TXT records that are set and cleared while the server runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dynamic {
    /// Where they and the zones' serials are kept; none: no record can be set.
    pub file: Option<PathBuf>,
    /// A file with the tokens of those who may; none: nobody.
    pub token_file: Option<PathBuf>,
    /// Any name in the zones, or only those that begin with `_acme-challenge`.
    pub any_name: bool,
    /// How long resolvers may keep them.
    pub ttl: Period,
    /// How long a record stays unless told otherwise, and at most.
    pub lifetime: Period,
    /// Records at once.
    pub values: usize,
}

impl Default for Dynamic {
    fn default() -> Self {
        Self {
            file: None,
            token_file: None,
            any_name: false,
            ttl: DEFAULT_DYNAMIC_TTL,
            lifetime: DEFAULT_LIFETIME,
            values: DEFAULT_VALUES,
        }
    }
}

impl Dynamic {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let mut needs = |good: bool, key: &str, message: &str| {
            if !good {
                problems.push(Problem::new(key, message));
            }
        };
        needs(
            self.token_file.is_none() || self.file.is_some(),
            "dynamic.file",
            "is needed along with dynamic.token_file: a record must survive a restart",
        );
        needs(
            self.lifetime.as_secs() > 0,
            "dynamic.lifetime",
            "must be at least 1s",
        );
        needs(
            (1..=MAX_VALUES).contains(&self.values),
            "dynamic.values",
            "must be from 1 to 100000",
        );
    }
}
