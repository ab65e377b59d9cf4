//! The section `sight`: how this origin knows how old versions are, for `min_age` of policies.

use serde::{Deserialize, Serialize};

/// How old versions are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sight {
    /// Versions whose first sight is remembered, by number: 32 bytes of memory each, 100 on disk. Beyond
    /// it the oldest are forgotten.
    pub versions: usize,
    /// Records that a checksum database takes in a day, at most: what lies so far below the first
    /// tree head that this origin saw is a day older than that.
    pub records_a_day: u64,
    /// Records of a checksum database that are looked up for one list of versions, the newest first.
    /// Versions whose age isn't known after that are left out of it.
    pub lookups: usize,
}

impl Sight {
    /// See [`Sight::versions`].
    pub const VERSIONS: usize = 1_000_000;
    /// See [`Sight::records_a_day`]. Several times what the public database took on its busiest days.
    pub const RECORDS_A_DAY: u64 = 100_000;
    /// See [`Sight::lookups`].
    pub const LOOKUPS: usize = 64;

    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        require(self.versions >= 10, "sight.versions", "must be at least 10");
        require(
            self.records_a_day > 0,
            "sight.records_a_day",
            "must be at least 1",
        );
    }
}

impl Default for Sight {
    fn default() -> Self {
        Self {
            versions: Self::VERSIONS,
            records_a_day: Self::RECORDS_A_DAY,
            lookups: Self::LOOKUPS,
        }
    }
}
