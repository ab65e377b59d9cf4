//! Bodies as files: written in the spool, renamed to their digest.
//!
//! ```text
//! spool/4711-17       a body that is arriving at process 4711; what is here at start is left over
//! objects/ab/cdef…    a body whose SHA-256 is abcdef…; never changed after the rename
//! ```
//! Nothing is synced: a body that a power cut tore is found by its digest when it is read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use modcdn_core::digest::Sha256;
use modcdn_core::durable::{self, Sync};

/// The two folders.
#[derive(Debug)]
pub(super) struct Files {
    objects: PathBuf,
    spool: PathBuf,
    next: AtomicU64,
    /// Another process has them.
    retired: AtomicBool,
}

impl Files {
    /// Makes the folders and empties the spool.
    ///
    /// # Errors
    /// If a folder can't be made.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let files = Self {
            objects: dir.join("objects"),
            spool: dir.join("spool"),
            next: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        };
        fs::create_dir_all(&files.objects)?;
        fs::create_dir_all(&files.spool)?;
        for left_over in fs::read_dir(&files.spool)?.flatten() {
            let _ = fs::remove_file(left_over.path());
        }
        Ok(files)
    }

    /// Begins a body.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn spool(&self) -> io::Result<Spool> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.spool.join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Spool {
            file: Arc::new(file),
            path,
        })
    }

    /// Puts a finished body in its place. On an error the spool removes itself.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn publish(&self, spool: Spool, digest: &Sha256) -> io::Result<()> {
        if self.is_retired() {
            return Err(io::Error::other("another process has the store"));
        }
        let published = durable::publish(&spool.path, &self.path(digest), Sync::Relaxed);
        drop(spool);
        published
    }

    /// Opens a body.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn open_object(&self, digest: &Sha256) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// From now on no file is put in place or removed: another process has them.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether another process has them.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Removes a body; its present readers can finish.
    pub(super) fn remove(&self, digest: &Sha256) {
        if self.is_retired() {
            return;
        }
        if let Err(error) = fs::remove_file(self.path(digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%digest, %error, "object not removed");
        }
    }

    /// Calls `visit` for every file among the objects: with its digest, or None if it has no
    /// business there. One walk, at start.
    pub(super) fn walk(&self, mut visit: impl FnMut(&Path, Option<Sha256>)) {
        for folder in fs::read_dir(&self.objects).into_iter().flatten().flatten() {
            let prefix = folder.file_name();
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let name = file.file_name();
                let digest = prefix.to_str().zip(name.to_str());
                let digest = digest.and_then(|(a, b)| format!("{a}{b}").parse().ok());
                visit(&file.path(), digest);
            }
        }
    }

    /// Where the body of that digest is, if it has a file.
    pub(super) fn path(&self, digest: &Sha256) -> PathBuf {
        let name = digest.to_string();
        let (prefix, rest) = name.split_at(2);
        self.objects.join(prefix).join(rest)
    }
}

/// A body that is arriving. Dropped without being published, its file is removed; readers that
/// have it open can go on.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<File>,
    path: PathBuf,
}

impl Spool {
    /// The file, to be read while it grows.
    pub(crate) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Writes bytes at their place.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Renamed away in the good case: then there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_the_spool_is_removed_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        std::mem::forget(files.spool().unwrap());
        assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 1);
        Files::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn a_spool_that_is_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        drop(files.spool().unwrap());
        assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn a_published_body_is_found_by_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let spool = files.spool().unwrap();
        spool.write_at(b"abc", 0).unwrap();
        let digest = Sha256::of(b"abc");
        files.publish(spool, &digest).unwrap();
        assert!(files.path(&digest).ends_with(
            "objects/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ));
        let mut seen = Vec::new();
        files.walk(|_, digest| seen.extend(digest));
        assert_eq!(seen, [digest]);
    }
}
