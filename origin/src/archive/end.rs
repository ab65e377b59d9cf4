//! An archive's end records, and what they say of the directory. Pure.
//!
//! Read as Go's archive/zip does; where other readers would find another directory, there is a
//! [`Fault`] instead.

use std::cmp::Ordering;

use super::fault::Fault;
use super::record::{ELSEWHERE, END, END_LEN, END64, END64_LEN, Fields, LOCATOR64, LOCATOR64_LEN};

/// How much of an archive's end [`find_directory`] wants: the longest comment, and all records.
pub(super) const TAIL: u64 = (END_LEN + LOCATOR64_LEN + END64_LEN) as u64 + u16::MAX as u64;

/// Where the directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    /// How many entries it has; if `wraps`, only the low 16 bits are known.
    pub(super) entries: u64,
    pub(super) wraps: bool,
}

/// What an end record says of the directory.
#[derive(PartialEq, Eq)]
struct Said {
    entries_here: u64,
    entries: u64,
    size: u64,
    start: u64,
}

/// Finds the directory. `tail` is the end of the archive, [`TAIL`] bytes or all of it, and `len`
/// is the length of all of it.
///
/// # Errors
/// If there is none, or if readers could find different ones.
pub(super) fn find_directory(tail: &[u8], len: u64) -> Result<Place, Fault> {
    let at = find_end(tail)?;
    let said = parse_end(&tail[at..]).ok_or(Fault::NotAnArchive)?;
    let here = len - (tail.len() - at) as u64;
    let (said, end, wraps) = match parse_end64(&tail[..at], here)? {
        None => (said, here, true),
        Some((wide, end)) => (agree_on(&said, wide)?, end, false),
    };
    if said.entries_here != said.entries {
        return Err(Fault::NotAnArchive);
    }
    let stop = said
        .start
        .checked_add(said.size)
        .ok_or(Fault::NotAnArchive)?;
    match stop.cmp(&end) {
        Ordering::Less => Err(Fault::Junk(stop)),
        Ordering::Greater => Err(Fault::NotAnArchive),
        Ordering::Equal => Ok(Place {
            start: said.start,
            end,
            entries: said.entries,
            wraps,
        }),
    }
}

/// Where the end record begins: the last place that looks like one, and it must reach to the end.
fn find_end(tail: &[u8]) -> Result<usize, Fault> {
    let signature = END.to_le_bytes();
    let last = tail.len().checked_sub(END_LEN).ok_or(Fault::NotAnArchive)?;
    let found = (0..=last)
        .rev()
        .find(|at| tail[*at..].starts_with(&signature));
    let at = found.ok_or(Fault::NotAnArchive)?;
    let comment = usize::from(u16::from_le_bytes([tail[at + 20], tail[at + 21]]));
    match (at + END_LEN + comment).cmp(&tail.len()) {
        Ordering::Equal => Ok(at),
        // More than one record could be taken for the end, or something stands behind it.
        Ordering::Less => Err(Fault::Junk((at + END_LEN + comment) as u64)),
        Ordering::Greater => Err(Fault::NotAnArchive),
    }
}

fn parse_end(bytes: &[u8]) -> Option<Said> {
    let mut fields = Fields(bytes.get(8..)?);
    Some(Said {
        entries_here: fields.u16()?.into(),
        entries: fields.u16()?.into(),
        size: fields.u32()?.into(),
        start: fields.u32()?.into(),
    })
}

/// The zip64 end record, if its locator stands right before the end record, and where it begins.
fn parse_end64(before: &[u8], end: u64) -> Result<Option<(Said, u64)>, Fault> {
    let odd = || Fault::Zip64("the end of the directory".to_owned());
    let Some(at) = before.len().checked_sub(LOCATOR64_LEN) else {
        return Ok(None);
    };
    let mut locator = Fields(&before[at..]);
    if locator.u32() != Some(LOCATOR64) {
        return Ok(None);
    }
    let start = end
        .checked_sub((LOCATOR64_LEN + END64_LEN) as u64)
        .ok_or_else(odd)?;
    if (locator.u32(), locator.u64(), locator.u32()) != (Some(0), Some(start), Some(1)) {
        return Err(odd());
    }
    let said = at.checked_sub(END64_LEN).and_then(|at| {
        let mut fields = Fields(&before[at..]);
        let known = fields.u32()? == END64 && fields.u64()? == END64_LEN as u64 - 12;
        fields.take(12)?;
        known.then_some(Said {
            entries_here: fields.u64()?,
            entries: fields.u64()?,
            size: fields.u64()?,
            start: fields.u64()?,
        })
    });
    Ok(Some((said.ok_or_else(odd)?, start)))
}

/// Both end records must say the same, or the short one nothing.
fn agree_on(short: &Said, wide: Said) -> Result<Said, Fault> {
    let agrees = |short: u64, wide: u64, silent: u64| short == wide || short == silent;
    let both = agrees(short.entries, wide.entries, 0xffff)
        && agrees(short.entries_here, wide.entries_here, 0xffff)
        && agrees(short.size, wide.size, ELSEWHERE)
        && agrees(short.start, wide.start, ELSEWHERE);
    // Go looks into the wide one only if one of these says so.
    let looks = short.entries == 0xffff || short.size == 0xffff || short.start == ELSEWHERE;
    if !both || !looks && *short != wide {
        return Err(Fault::Zip64("the end of the directory".to_owned()));
    }
    Ok(wide)
}
