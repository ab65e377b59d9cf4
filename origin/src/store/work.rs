//! The folder of a tree that holds what isn't a committed body: the spool, answers that may change.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    dir: PathBuf,
}

impl Work {
    /// Opens the folder, makes it if need be, and empties its spool. A folder that can only be
    /// read will do: what is stored is served from it.
    ///
    /// # Errors
    /// If the folder can be neither made nor read.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let work = Self {
            dir: dir.to_owned(),
        };
        match work.empty_spool() {
            Err(error) if is_read_only(&error) && fs::read_dir(dir).is_ok() => {
                tracing::warn!(dir = %dir.display(), %error, "the store can only be read");
            }
            other => other?,
        }
        Ok(work)
    }

    /// The folder without a look at it, for those who work beside a running origin. What they
    /// write goes through its spool, too.
    pub(crate) fn beside(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn empty_spool(&self) -> io::Result<()> {
        let spool = self.dir.join(".spool");
        fs::create_dir_all(&spool)?;
        for entry in fs::read_dir(&spool)? {
            fs::remove_file(entry?.path())?;
        }
        self.probe()
    }

    /// Tries to write. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If that can't be done now.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let probe = self.spool_name();
        fs::create_dir_all(self.dir.join(".spool"))?;
        fs::write(&probe, b"probe")?;
        fs::remove_file(probe)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new name in the spool.
    pub(crate) fn spool_name(&self) -> PathBuf {
        self.dir.join(".spool").join(unique())
    }
}

/// A name that nobody else in this folder uses.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{n}", std::process::id())
}

/// Whether a disk takes reads but no writes of ours.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
    )
}
