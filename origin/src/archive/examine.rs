//! Entries of an archive on disk, read through by where the directory says they are.

use std::io;

use modcdn_core::digest::Sha256;

use super::directory::Stretch;
use super::fault::{Fault, shown};
use super::record::{Entry, Found, LOCAL_LEN, Local, is_descriptor, local_lens};
use super::source::{Source, fill};
use super::unpack::{Broken, Unpacker};

/// How much is read at once; the longest header fits.
const BUFFER: usize = 256 << 10;

/// Reads entries, one after another.
pub(super) struct Examiner<'s> {
    window: Window<'s>,
    unpacker: Unpacker,
}

/// What an entry's content is.
pub(super) struct Examined {
    pub(super) digest: Sha256,
    pub(super) kept: Option<Vec<u8>>,
}

impl<'s> Examiner<'s> {
    pub(super) fn new(source: &'s dyn Source) -> Self {
        Self {
            window: Window {
                source,
                buffer: vec![0; BUFFER].into(),
                at: 0,
                filled: 0,
            },
            unpacker: Unpacker::new(),
        }
    }

    /// Reads an entry through: its header, its data, its descriptor, which together fill its
    /// stretch.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn examine(&mut self, stretch: &Stretch<'_>, keep: bool) -> Result<Examined, Fault> {
        let entry = stretch.entry;
        let data = self.check_local(stretch)?;
        let behind = data
            .checked_add(entry.packed)
            .filter(|behind| *behind <= stretch.end)
            .ok_or_else(|| Fault::Overlap(shown(stretch.name)))?;
        self.unpack(stretch, data, behind, keep)?;
        let unpacked = self.unpacker.finish();
        check_found(stretch, unpacked.found)?;
        self.check_behind(stretch, behind, unpacked.found)?;
        Ok(Examined {
            digest: unpacked.digest,
            kept: unpacked.kept,
        })
    }

    /// Checks the local header; returns where the data begins.
    fn check_local(&mut self, stretch: &Stretch<'_>) -> Result<u64, Fault> {
        let overlap = || Fault::Overlap(shown(stretch.name));
        let room = stretch.end - stretch.entry.offset;
        if room < LOCAL_LEN as u64 {
            return Err(overlap());
        }
        let fixed = self.window.read(stretch.entry.offset, LOCAL_LEN)?;
        let (name, extra) =
            local_lens(fixed).ok_or_else(|| Fault::HeadersDiffer(shown(stretch.name)))?;
        let len = LOCAL_LEN + name + extra;
        if room < len as u64 {
            return Err(overlap());
        }
        let header = self.window.read(stretch.entry.offset, len)?;
        let (local, name) = Local::parse(header)?;
        if name != stretch.name || !local.agrees(stretch.entry) {
            return Err(Fault::HeadersDiffer(shown(stretch.name)));
        }
        Ok(stretch.entry.offset + len as u64)
    }

    fn unpack(
        &mut self,
        stretch: &Stretch<'_>,
        data: u64,
        behind: u64,
        keep: bool,
    ) -> Result<(), Fault> {
        let entry = stretch.entry;
        self.unpacker.begin(entry.method, entry.size, keep);
        let damaged = || Fault::Data(shown(stretch.name));
        let mut at = data;
        while at < behind {
            let piece = self.window.some(at, behind - at)?;
            let used = self.unpacker.feed(piece).map_err(|broken| match broken {
                Broken::Data => damaged(),
                Broken::TooLong => Fault::Size(shown(stretch.name), entry.size),
            })?;
            // What is behind the end of a stream is nobody's.
            if used < piece.len() {
                return Err(damaged());
            }
            at += used as u64;
        }
        // A folder's entry may be without any data, whatever its method.
        let is_empty_dir = entry.packed == 0 && stretch.name.ends_with(b"/");
        if !self.unpacker.may_end() && !is_empty_dir {
            return Err(damaged());
        }
        Ok(())
    }

    /// What stands between the data and the next entry: the descriptor, if there is one.
    fn check_behind(
        &mut self,
        stretch: &Stretch<'_>,
        behind: u64,
        found: Found,
    ) -> Result<(), Fault> {
        let len = stretch.end - behind;
        if len == 0 && (!stretch.entry.has_descriptor || stretch.name.ends_with(b"/")) {
            return Ok(());
        }
        if !stretch.entry.has_descriptor || !matches!(len, 12 | 16 | 20 | 24) {
            return Err(Fault::Junk(behind));
        }
        let descriptor = self.window.read(behind, len as usize)?;
        if !is_descriptor(descriptor, found) {
            return Err(Fault::HeadersDiffer(shown(stretch.name)));
        }
        Ok(())
    }
}

/// Whether an entry's content is what the directory says. A checksum of zero without a descriptor
/// is one that was never set, as for Go.
pub(super) fn check_found(stretch: &Stretch<'_>, found: Found) -> Result<(), Fault> {
    let entry = stretch.entry;
    if found.size != entry.size || found.packed != entry.packed {
        return Err(Fault::Size(shown(stretch.name), entry.size));
    }
    if found.crc != entry.crc && !is_unset(entry) {
        return Err(Fault::Crc(shown(stretch.name)));
    }
    Ok(())
}

fn is_unset(entry: &Entry) -> bool {
    entry.crc == 0 && !entry.has_descriptor
}

/// A part of the archive in memory.
struct Window<'s> {
    source: &'s dyn Source,
    buffer: Box<[u8]>,
    at: u64,
    filled: usize,
}

impl Window<'_> {
    /// `len` bytes from `at`; at most [`BUFFER`].
    fn read(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let skip = match self.skip(at) {
            Some(skip) if skip + len <= self.filled => skip,
            _ => {
                self.fill(at, len)?;
                0
            }
        };
        Ok(&self.buffer[skip..skip + len])
    }

    /// At least one byte from `at`, at most `most`.
    fn some(&mut self, at: u64, most: u64) -> io::Result<&[u8]> {
        let skip = match self.skip(at) {
            Some(skip) if skip < self.filled => skip,
            _ => {
                self.fill(at, 1)?;
                0
            }
        };
        let here = (self.filled - skip) as u64;
        // At most what is in the buffer.
        Ok(&self.buffer[skip..skip + here.min(most) as usize])
    }

    fn skip(&self, at: u64) -> Option<usize> {
        let skip = usize::try_from(at.checked_sub(self.at)?).ok()?;
        (skip <= self.filled).then_some(skip)
    }

    /// Reads from `at`, at least `least` bytes.
    fn fill(&mut self, at: u64, least: usize) -> io::Result<()> {
        (self.at, self.filled) = (at, 0);
        self.filled = fill(self.source, &mut self.buffer, at, least)?;
        Ok(())
    }
}
