//! The section `archive`.

use std::num::NonZero;
use std::thread;

use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use crate::archive;

/// What module zips may be, and what becomes of bad ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// All files of a zip, unpacked.
    pub max_unpacked: ByteSize,
    /// The go.mod of a zip.
    pub max_go_mod: ByteSize,
    /// The LICENSE of a zip.
    pub max_license: ByteSize,
    /// Files and folders of a zip, by number.
    pub max_files: usize,
    /// The directory of a zip; it is held in memory while the zip is checked.
    pub max_directory: ByteSize,
    /// How many zips are checked at once; as many as there are processors if absent.
    pub checks: Option<NonZero<usize>>,
    /// For so long a bad zip isn't fetched again.
    pub remember: Period,
    /// How many bad bodies are kept in a store's `.quarantine`.
    pub quarantine_files: usize,
    /// How much of them is kept there.
    pub quarantine: ByteSize,
}

impl Archive {
    /// See [`Archive::max_unpacked`]. The go command's own limit.
    pub const MAX_UNPACKED: ByteSize = ByteSize::b(archive::Limits::UNPACKED);
    /// See [`Archive::max_go_mod`]. The go command's own limit.
    pub const MAX_GO_MOD: ByteSize = ByteSize::b(archive::Limits::GO_MOD);
    /// See [`Archive::max_license`]. The go command's own limit.
    pub const MAX_LICENSE: ByteSize = ByteSize::b(archive::Limits::LICENSE);
    /// See [`Archive::max_files`].
    pub const MAX_FILES: usize = archive::Limits::FILES;
    /// See [`Archive::max_directory`].
    pub const MAX_DIRECTORY: ByteSize = ByteSize::b(archive::Limits::DIRECTORY);
    /// See [`Archive::remember`].
    pub const REMEMBER: Period = Period::secs(60);
    /// See [`Archive::quarantine_files`].
    pub const QUARANTINE_FILES: usize = 100;
    /// See [`Archive::quarantine`].
    pub const QUARANTINE: ByteSize = ByteSize::gib(1);

    /// How many zips are checked at once.
    pub(crate) fn checks(&self) -> usize {
        let processors = || thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        self.checks.unwrap_or_else(processors).get()
    }

    /// What a zip may be that is at most `packed` bytes long.
    pub(crate) fn limits(&self, packed: ByteSize) -> archive::Limits {
        archive::Limits {
            packed: packed.as_u64(),
            unpacked: self.max_unpacked.as_u64(),
            go_mod: self.max_go_mod.as_u64(),
            license: self.max_license.as_u64(),
            files: self.max_files,
            directory: self.max_directory.as_u64(),
        }
    }

    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, size) in [
            ("max_unpacked", self.max_unpacked),
            ("max_go_mod", self.max_go_mod),
            ("max_license", self.max_license),
            ("max_directory", self.max_directory),
        ] {
            let key = format!("archive.{key}");
            require(size.as_u64() > 0, &key, "must be above zero");
        }
        require(
            (1..=u32::MAX as usize).contains(&self.max_files),
            "archive.max_files",
            "must be above zero, and below 4294967296",
        );
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            max_unpacked: Self::MAX_UNPACKED,
            max_go_mod: Self::MAX_GO_MOD,
            max_license: Self::MAX_LICENSE,
            max_files: Self::MAX_FILES,
            max_directory: Self::MAX_DIRECTORY,
            checks: None,
            remember: Self::REMEMBER,
            quarantine_files: Self::QUARANTINE_FILES,
            quarantine: Self::QUARANTINE,
        }
    }
}
