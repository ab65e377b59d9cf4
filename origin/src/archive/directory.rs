//! An archive's directory: which entries there are, and that nothing else is.
//!
//! The entries must fill the archive from its first byte to the directory without a gap, and the directory
//! must reach to the end record. So a reader that goes from entry to entry and one that goes by
//! the directory see the same files, and no byte escapes the hash.

use super::Limits;
use super::end::{Place, TAIL, find_directory};
use super::fault::{Fault, shown};
use super::record::{CENTRAL_LEN, Entry};
use super::source::{Source, read_exactly};

/// See the module.
pub(super) struct Directory {
    /// The directory as it stands in the archive: names are parts of it.
    bytes: Vec<u8>,
    /// In the directory's order.
    entries: Vec<Entry>,
    /// Where it begins, and so where the last entry ends.
    start: u64,
}

/// An entry with the stretch that it fills.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) entry: &'a Entry,
    pub(super) name: &'a [u8],
    /// Its number in the directory.
    pub(super) number: usize,
    /// Where it ends, its descriptor included.
    pub(super) end: u64,
}

impl Directory {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// If there is none, if it is larger than allowed, or if readers could see different ones.
    pub(super) fn read(source: &dyn Source, len: u64, limits: &Limits) -> Result<Self, Fault> {
        let tail_at = len.saturating_sub(TAIL);
        let tail = read_exactly(source, tail_at, len - tail_at)?;
        let place = find_directory(&tail, len)?;
        let size = place.end - place.start;
        if size > limits.directory {
            return Err(Fault::DirectoryTooLarge(limits.directory));
        }
        // In most archives the directory is part of what was read already.
        let bytes = match place.start.checked_sub(tail_at) {
            Some(skip) => tail[skip as usize..(skip + size) as usize].to_vec(),
            None => read_exactly(source, place.start, size)?,
        };
        let entries = parse_all(&bytes, place, limits)?;
        Ok(Self {
            bytes,
            entries,
            start: place.start,
        })
    }

    /// The entries with their names, in the directory's order.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = (&Entry, &[u8])> {
        self.entries
            .iter()
            .map(|entry| (entry, &self.bytes[entry.name.clone()]))
    }

    /// The entries in the order in which they lie in the archive.
    ///
    /// # Errors
    /// If two lie at the same place, or something lies in front of the first.
    pub(super) fn stretches(&self) -> Result<Vec<Stretch<'_>>, Fault> {
        let mut stretches: Vec<_> = self
            .entries()
            .enumerate()
            .map(|(number, (entry, name))| Stretch {
                entry,
                name,
                number,
                end: self.start,
            })
            .collect();
        stretches.sort_by_key(|stretch| stretch.entry.offset);
        let first = stretches.first().map_or(self.start, |s| s.entry.offset);
        if first > 0 {
            return Err(Fault::Junk(0));
        }
        for at in 1..stretches.len() {
            let next = stretches[at].entry.offset;
            if stretches[at - 1].entry.offset == next {
                return Err(Fault::Overlap(shown(stretches[at].name)));
            }
            stretches[at - 1].end = next;
        }
        match stretches.last() {
            Some(last) if last.entry.offset >= self.start => Err(Fault::Overlap(shown(last.name))),
            _ => Ok(stretches),
        }
    }
}

fn parse_all(bytes: &[u8], place: Place, limits: &Limits) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::with_capacity((bytes.len() / (CENTRAL_LEN + 32)).min(limits.files));
    let mut at = 0;
    while at < bytes.len() {
        if entries.len() == limits.files {
            return Err(Fault::TooManyFiles(limits.files));
        }
        let (entry, next) = Entry::parse(bytes, at)?;
        entries.push(entry);
        at = next;
    }
    let found = entries.len() as u64;
    let found = if place.wraps { found & 0xffff } else { found };
    if found != place.entries {
        return Err(Fault::NotAnArchive);
    }
    Ok(entries)
}
