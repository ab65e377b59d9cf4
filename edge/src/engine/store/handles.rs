//! Files kept open, so that a hit on a body on disk needs no `open`, which may block.
//!
//! An object owns its handle, so an evicted body's file is closed, and its space free, as soon as
//! nobody reads it. The ring here bounds how many there are: the one opened longest ago is closed.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::entry::Object;

/// Files kept open. Well below the descriptors that clients' connections leave alone.
const MOST: usize = 128;

/// An object's file, if it is kept open.
#[derive(Debug, Default)]
pub(super) struct Handle(Mutex<Option<Arc<File>>>);

impl Handle {
    /// The file; closed instead if its name is gone: somebody removed or replaced it.
    pub(super) fn get(&self) -> Option<Arc<File>> {
        let mut handle = self.0.lock();
        let linked = |file: &Arc<File>| file.metadata().is_ok_and(|data| data.nlink() > 0);
        handle.take_if(|file| !linked(file));
        handle.clone()
    }
}

/// The objects whose files are open, in the order in which they were opened.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<VecDeque<Weak<Object>>>);

impl Handles {
    /// Keeps an object's file open.
    pub(super) fn keep(&self, object: &Arc<Object>, file: &Arc<File>) {
        let before = object.handle.0.lock().replace(file.clone());
        if before.is_some() {
            return;
        }
        let mut open = self.0.lock();
        open.push_back(Arc::downgrade(object));
        if open.len() > MOST
            && let Some(oldest) = open.pop_front().and_then(|oldest| oldest.upgrade())
        {
            *oldest.handle.0.lock() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::digest::Sha256;

    use super::super::entry::Blocks;
    use super::*;

    fn object(body: &[u8]) -> Arc<Object> {
        let digest = Sha256::of(body);
        Arc::new(Object::new(
            digest,
            body.len() as u64,
            Blocks::new(vec![digest]),
        ))
    }

    #[test]
    fn so_many_files_stay_open_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "body").unwrap();
        let handles = Handles::default();
        let objects: Vec<_> = (0..=MOST).map(|_| object(b"body")).collect();
        for object in &objects {
            handles.keep(object, &Arc::new(File::open(&path).unwrap()));
        }
        assert!(objects[0].handle.get().is_none());
        assert!(
            objects[1..]
                .iter()
                .all(|object| object.handle.get().is_some())
        );
    }

    #[test]
    fn a_file_whose_name_is_gone_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "body").unwrap();
        let object = object(b"body");
        Handles::default().keep(&object, &Arc::new(File::open(&path).unwrap()));
        assert!(object.handle.get().is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(object.handle.get().is_none());
    }
}
