//! Bodies back from the disk, verified before anyone gets them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::Store;
use super::entry::{BLOCK, Entry, Object};
use super::resident::is_resident;
use super::verified::Stamp;
use crate::engine::clock::millis;
use crate::exchange::FileSpan;

/// Blocks that are offered as one span. More would save little, and each is looked at again after
/// every wait.
const SPAN_BLOCKS: usize = 4;

/// Why a body did not come back from the disk.
#[derive(Debug)]
pub(crate) enum Damage {
    /// It is not what was written: truncated, flipped, gone. To be condemned.
    Corrupt,
    /// Its place in the journal is another by now: look the key up again.
    Moved,
    /// It may well be whole, but can't be read now: the disk failed, no descriptor is left. It is
    /// kept; what is fetched in its stead takes its place.
    Unreadable(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Shorter than it was, not there, no file, or no such place in one.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput => Self::Corrupt,
            _ => Self::Unreadable(error),
        }
    }
}

/// Reads what is in the page cache. None: not all of it is.
fn read_now(file: &File, offset: u64, len: usize) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(len);
    let part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: len,
    };
    let offset = libc::off_t::try_from(offset).ok()?;
    // SAFETY: the descriptor is open while `file` is borrowed; `part` is one buffer of `len` bytes
    // that `bytes` has room for and nobody else uses.
    let read = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const part,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    if usize::try_from(read).ok()? < len {
        return None;
    }
    // SAFETY: the call wrote the first `len` bytes, and there is room for them.
    unsafe { bytes.set_len(len) };
    Some(bytes.freeze())
}

/// Asks the kernel to read nothing but what is asked for. An advice: it may fail.
fn no_read_ahead(file: &File) {
    // SAFETY: the descriptor is open while `file` is borrowed; no memory is passed.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
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
        let stamp = self.stamp()?;
        let begin = block * BLOCK;
        let mut bytes = BytesMut::zeroed(self.len_of(block));
        self.file.read_exact_at(&mut bytes, self.offset + begin)?;
        self.checked(block, stamp, bytes.freeze())
    }

    /// One block of the body, if it is in the page cache: hashed only if it wasn't since it came
    /// into memory (see `verified`). None: it has to be read with [`StoredBody::block`].
    ///
    /// # Errors
    /// [`Damage`].
    pub(crate) fn block_in_memory(&self, block: u64) -> Result<Option<Bytes>, Damage> {
        let stamp = self.stamp()?;
        let Some(bytes) = read_now(&self.file, self.offset + block * BLOCK, self.len_of(block))
        else {
            self.object.verified.forget();
            return Ok(None);
        };
        let verified = self.object.verified.has(block, stamp) && self.stamp()? == stamp;
        if verified {
            return Ok(Some(bytes));
        }
        self.checked(block, stamp, bytes).map(Some)
    }

    /// What of `from..to` can be sent from the file as it lies there now: verified, not written to
    /// since, in the page cache. Good for this moment only. None: read it.
    pub(crate) fn span(&self, from: u64, to: u64) -> Option<FileSpan> {
        let stamp = self.stamp().ok()?;
        let first = from / BLOCK;
        let verified = (first..to.div_ceil(BLOCK))
            .take(SPAN_BLOCKS)
            .take_while(|block| self.object.verified.has(*block, stamp))
            .last()?;
        let length = to.min((verified + 1) * BLOCK).checked_sub(from)?;
        let span = FileSpan {
            file: self.file.clone(),
            offset: self.offset + from,
            length,
        };
        let as_it_was = is_resident(&span) && self.stamp().ok()? == stamp;
        (length > 0 && as_it_was).then_some(span)
    }

    fn len_of(&self, block: u64) -> usize {
        let rest = self.object.size.saturating_sub(block * BLOCK);
        usize::try_from(rest.min(BLOCK)).unwrap_or(0)
    }

    fn checked(&self, block: u64, stamp: Stamp, bytes: Bytes) -> Result<Bytes, Damage> {
        if !self.object.verifies(block, &bytes) {
            return Err(Damage::Corrupt);
        }
        self.object.was_read();
        self.object.verified.add(block, stamp);
        Ok(bytes)
    }

    fn stamp(&self) -> Result<Stamp, Damage> {
        Ok(Stamp::from(&self.file.metadata()?))
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
            self.object.was_read();
            Ok(bytes.freeze())
        } else {
            Err(Damage::Corrupt)
        }
    }
}

impl Store {
    /// The body on disk, if its file is open already. Doesn't block.
    pub(crate) fn opened_body(&self, entry: &Entry) -> Option<StoredBody> {
        let object = &entry.object;
        let file = (!entry.is_packed()).then(|| object.handle.get())??;
        Some(StoredBody {
            file,
            offset: 0,
            object: object.clone(),
        })
    }

    /// Opens the body on disk for clients, and keeps a file open for the next one. Blocks.
    ///
    /// # Errors
    /// As [`Store::open_body`].
    pub(crate) fn open_for_many(&self, entry: &Entry) -> Result<StoredBody, Damage> {
        if let Some(body) = self.opened_body(entry) {
            return Ok(body);
        }
        let body = self.open_body(entry)?;
        if !entry.is_packed() {
            self.handles.keep(&entry.object, &body.file);
        }
        Ok(body)
    }

    /// Opens the body on disk. Blocks.
    ///
    /// # Errors
    /// [`Damage`]; a file of another length is damage as well.
    pub(crate) fn open_body(&self, entry: &Entry) -> Result<StoredBody, Damage> {
        let object = entry.object.clone();
        let position = entry.place.ok_or(Damage::Corrupt)?.position;
        if entry.is_packed() {
            let segment = self.segments.read().get(&position.segment).cloned();
            let end = u64::from(position.offset) + u64::from(position.len);
            let offset = end - u64::from(position.body);
            return Ok(StoredBody {
                file: segment.ok_or(Damage::Moved)?.file.clone(),
                offset,
                object,
            });
        }
        let file = self.files.open_object(&object.digest)?;
        no_read_ahead(&file);
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

    /// Notes that a body can't be read now. It stays; what is fetched in its stead takes its place.
    pub(crate) fn unreadable(&self, entry: &Entry, error: &io::Error) {
        entry.object.unreadable.store(true, Ordering::Relaxed);
        self.read_refused(&entry.key, error);
    }

    /// Notes that the disk refused a read, and says so where it is the first in a while.
    pub(super) fn read_refused(&self, what: &str, error: &io::Error) {
        self.metrics.read_errors.inc();
        let now = self.clock.now();
        let until = now + millis(self.config.pause.get());
        if self.unread_until.swap(until, Ordering::Relaxed) <= now {
            tracing::error!(what, %error, "disk refused a read, what was asked for is fetched again");
        } else {
            tracing::debug!(what, %error, "disk refused a read");
        }
    }

    /// Whether the disk refused no read lately.
    pub(crate) fn is_readable(&self) -> bool {
        self.unread_until.load(Ordering::Relaxed) <= self.clock.now()
    }

    /// Whether a body is short enough to be loaded whole.
    pub(crate) fn loads(&self, entry: &Entry) -> bool {
        entry.object.size <= self.config.ram_body.as_u64()
    }
}
