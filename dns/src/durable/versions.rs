//! Versions of maps: they only rise, across restarts too.
//!
//! What is kept is a ceiling that lies above every version given out, so that publishing never waits
//! for the disk; a restarted server goes on from there. Numbers are left out, none comes twice.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Folder, Kept};

/// By how much the ceiling is raised.
const STRIDE: u64 = 1024;

/// The name of the ceiling's file.
const FILE: &str = "version";

/// Gives out versions.
#[derive(Debug)]
pub(crate) struct Versions {
    next: u64,
    ceiling: u64,
}

impl Versions {
    /// Goes on after every version that was given out before. Blocks. A damaged file is made up for by
    /// the clock: it has counted more seconds since 1970 than any server has published maps.
    pub(crate) fn open(folder: &Folder, clock: SystemTime) -> Self {
        let after = match folder.read(FILE) {
            Kept::Whole(ceiling) => ceiling,
            Kept::Nothing => 0,
            Kept::Damaged => clock
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
        };
        Self {
            next: after.saturating_add(1),
            ceiling: after,
        }
    }

    /// The next version.
    pub(crate) fn take(&mut self) -> u64 {
        let version = self.next;
        self.next = self.next.saturating_add(1);
        version
    }

    /// What the ceiling should be raised to, while less than half a stride is left.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let wanted = self.next.saturating_add(STRIDE);
        (self.ceiling < self.next.saturating_add(STRIDE / 2)).then_some(wanted)
    }

    /// Keeps a ceiling. Blocks.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn keep(folder: &Folder, ceiling: u64) -> std::io::Result<()> {
        folder.write(FILE, &ceiling)
    }

    /// The ceiling was kept.
    pub(crate) fn raised(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn raise(versions: &mut Versions, folder: &Folder) {
        if let Some(ceiling) = versions.wanted() {
            Versions::keep(folder, ceiling).unwrap();
            versions.raised(ceiling);
        }
    }

    #[test]
    fn versions_rise_across_restarts_without_a_write_for_each() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(Some(temp.path().to_owned()));
        let mut last = 0;
        for _ in 0..5 {
            let mut versions = Versions::open(&folder, UNIX_EPOCH);
            raise(&mut versions, &folder);
            for _ in 0..700 {
                let version = versions.take();
                assert!(version > last, "{version} after {last}");
                last = version;
                raise(&mut versions, &folder);
            }
        }
    }

    #[test]
    fn they_begin_at_one_and_a_damaged_file_is_made_up_for_by_the_clock() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(Some(temp.path().to_owned()));
        let clock = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        assert_eq!(Versions::open(&folder, clock).take(), 1);
        std::fs::write(temp.path().join(FILE), "garbage").unwrap();
        assert_eq!(Versions::open(&folder, clock).take(), 1_764_000_001);
    }
}
