//! The section `purges`: the purge log, who may read it and who may add to it.

use std::path::PathBuf;

use modcdn_core::units::ByteSize;
use serde::{Deserialize, Serialize};

/// The purge log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purges {
    /// File with the tokens of those who may purge, on the admin listener. None: nobody may.
    pub token_file: Option<PathBuf>,
    /// File with the tokens of the edges that may follow the log. None: none may.
    pub edges: Option<PathBuf>,
    /// Entries that are kept, by number. An edge that missed older ones has everything confirmed.
    pub entries: usize,
    /// Entries that are kept, together. The file is at most twice as long.
    pub size: ByteSize,
}

impl Purges {
    /// See [`Purges::entries`].
    pub const ENTRIES: usize = 10_000;
    /// See [`Purges::size`].
    pub const SIZE: ByteSize = ByteSize::mib(4);

    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let least = 1024;
        require(self.entries > 0, "purges.entries", "must be at least 1");
        require(
            self.size.as_u64() >= least,
            "purges.size",
            "must be at least 1KiB",
        );
    }
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            token_file: None,
            edges: None,
            entries: Self::ENTRIES,
            size: Self::SIZE,
        }
    }
}
