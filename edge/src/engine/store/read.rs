//! Bodies back from the disk, verified before anyone gets them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Store;
use super::entry::{BLOCK, Entry, Object};

/// Why a body did not come back from the disk.
#[derive(Debug)]
pub(crate) enum Damage {
    /// It is not what was written: truncated, flipped, gone. To be condemned.
    Corrupt,
    /// Its place in the journal is another by now: look the key up again.
    Moved,
    /// It may well be whole, but can't be read now: no descriptor left, no permission.
    Unreadable(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EACCES | libc::EPERM) => {
                Self::Unreadable(error)
            }
            _ => Self::Corrupt,
        }
    }
}

/// An open body.
#[derive(Clone, Debug)]
pub(crate) struct StoredBody {
    file: Arc<File>,
    /// Where the body begins in the file.
    offset: u64,
    object: Arc<Object>,
}

impl StoredBody {
    /// One block of the body, verified. Blocks.
    ///
    /// # Errors
    /// [`Damage`]: not a byte of it may be used.
    pub(crate) fn block(&self, block: u64) -> Result<Bytes, Damage> {
        let begin = block * BLOCK;
        let len = self.object.size.saturating_sub(begin).min(BLOCK);
        let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or(0));
        self.file.read_exact_at(&mut bytes, self.offset + begin)?;
        let intact = self.object.verifies(block, &bytes);
        if intact {
            Ok(bytes.freeze())
        } else {
            Err(Damage::Corrupt)
        }
    }

    /// All of the body, verified. Blocks.
    fn whole(&self) -> Result<Bytes, Damage> {
        let size = usize::try_from(self.object.size).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::zeroed(size);
        self.file.read_exact_at(&mut bytes, self.offset)?;
        let block = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        // An empty body has one block, which is empty.
        let mut blocks = bytes
            .chunks(block)
            .chain((size == 0).then_some(&[][..]))
            .zip(0..);
        let intact = blocks.all(|(bytes, block)| self.object.verifies(block, bytes));
        if intact {
            Ok(bytes.freeze())
        } else {
            Err(Damage::Corrupt)
        }
    }
}

impl Store {
    /// Opens the body on disk. Blocks.
    ///
    /// # Errors
    /// [`Damage`]; a file of another length is damage as well.
    pub(crate) fn open_body(&self, entry: &Entry) -> Result<StoredBody, Damage> {
        let object = entry.object.clone();
        let position = entry.position.ok_or(Damage::Corrupt)?;
        if entry.is_packed() {
            let file = self.segments.read().get(&position.segment).cloned();
            let end = u64::from(position.offset) + u64::from(position.len);
            let offset = end - u64::from(position.body);
            return Ok(StoredBody {
                file: file.ok_or(Damage::Moved)?,
                offset,
                object,
            });
        }
        let file = self.files.open_object(&object.digest)?;
        if file.metadata()?.len() != object.size {
            return Err(Damage::Corrupt);
        }
        Ok(StoredBody {
            file: Arc::new(file),
            offset: 0,
            object,
        })
    }

    /// Reads a body and takes it into the RAM tier. Blocks.
    ///
    /// # Errors
    /// [`Damage`].
    pub(crate) fn load(&self, entry: &Entry) -> Result<Bytes, Damage> {
        let bytes = self.open_body(entry)?.whole()?;
        self.promote(&entry.object, bytes.clone());
        Ok(bytes)
    }

    /// Whether a body is short enough to be loaded whole.
    pub(crate) fn loads(&self, entry: &Entry) -> bool {
        entry.object.size <= self.config.ram_body.as_u64()
    }
}
