//! Which blocks of a file need not be hashed again.
//!
//! Hashing costs as much as everything else that is done to send a block. A block that was verified
//! is sent again without it if its bytes have been in memory ever since, as far as can be told:
//! - they came from the page cache (`RWF_NOWAIT`), not from the disk;
//! - no block of the object had to come from the disk meanwhile: the first that has to makes all
//!   of them unverified, since others may have left the page cache and come back with it. The
//!   kernel doesn't read ahead in these files (`POSIX_FADV_RANDOM`);
//! - the file's inode, size and times are those of then, so nobody wrote to it.
//!
//! What is left: pages that leave and come back between two reads of ours because another process
//! reads the file. The scrub is for that.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use parking_lot::Mutex;

/// What changes when a file is written to or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(data: &Metadata) -> Self {
        Self {
            inode: data.ino(),
            size: data.size(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// The verified blocks of one object's file.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    blocks: Vec<u64>,
}

impl Verified {
    /// Whether a block was verified while the file was as it is now.
    pub(super) fn has(&self, block: u64, stamp: Stamp) -> bool {
        let seen = self.0.lock();
        let (word, bit) = place(block);
        seen.as_ref().is_some_and(|seen| {
            let bits = seen.blocks.get(word).copied().unwrap_or(0);
            seen.stamp == stamp && bits & bit != 0
        })
    }

    /// Notes that a block was read and verified; the stamp is from before it was read.
    pub(super) fn add(&self, block: u64, stamp: Stamp) {
        let mut seen = self.0.lock();
        let seen = match &mut *seen {
            Some(seen) if seen.stamp == stamp => seen,
            other => other.insert(Seen {
                stamp,
                blocks: Vec::new(),
            }),
        };
        let (word, bit) = place(block);
        if seen.blocks.len() <= word {
            seen.blocks.resize(word + 1, 0);
        }
        seen.blocks[word] |= bit;
    }

    /// Notes that a block had to come from the disk.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }
}

fn place(block: u64) -> (usize, u64) {
    let word = usize::try_from(block / 64).unwrap_or(usize::MAX / 64);
    (word, 1 << (block % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Stamp = Stamp {
        inode: 1,
        size: 2,
        written: (3, 4),
        changed: (5, 6),
    };

    #[test]
    fn a_file_that_was_written_to_is_not_verified() {
        let verified = Verified::default();
        verified.add(70, THEN);
        assert!(verified.has(70, THEN) && !verified.has(6, THEN));
        let now = Stamp {
            changed: (5, 7),
            ..THEN
        };
        assert!(!verified.has(70, now));
        verified.add(1, now);
        assert!(!verified.has(70, THEN) && !verified.has(70, now) && verified.has(1, now));
    }

    #[test]
    fn one_block_from_the_disk_makes_all_of_them_unverified() {
        let verified = Verified::default();
        verified.add(0, THEN);
        verified.forget();
        assert!(!verified.has(0, THEN));
    }
}
