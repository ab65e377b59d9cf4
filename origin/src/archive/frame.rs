//! The records of an archive of ours, as bytes: deflated entries with a descriptor, without time and
//! mode.

use super::record::{
    CENTRAL, DESCRIPTOR, END, END64, END64_LEN, Found, HAS_DESCRIPTOR, LOCAL, LOCATOR64,
};

/// In the flags: the name is UTF-8.
const UTF8: u16 = 1 << 11;
/// Which version of the format is needed for deflated entries, and for zip64.
const VERSION: u16 = 20;
const VERSION64: u16 = 45;
const DEFLATE: u16 = 8;
/// 1 January 1980, the first day there is.
const DATE: u16 = 1 << 5 | 1;
/// From so many entries on, a zip64 record says how many.
const MANY: u64 = 0xffff;

/// Where an entry lies, and what it is.
pub(super) struct Put<'n> {
    /// At most 65,535 bytes.
    pub(super) name: &'n str,
    pub(super) found: Found,
    pub(super) offset: u64,
}

/// Little-endian numbers at the end of some bytes. A number that doesn't fit was checked before.
trait Append {
    fn u16(&mut self, number: u16);
    fn u32(&mut self, number: u64);
    fn u64(&mut self, number: u64);
}

impl Append for Vec<u8> {
    fn u16(&mut self, number: u16) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u64) {
        debug_assert!(number <= u32::MAX.into());
        self.extend_from_slice(&(number as u32).to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.extend_from_slice(&number.to_le_bytes());
    }
}

/// A local header; `None` if the name is too long.
pub(super) fn local(name: &str) -> Option<Vec<u8>> {
    let len = u16::try_from(name.len()).ok()?;
    let mut out = Vec::new();
    out.u32(LOCAL.into());
    common(&mut out, name);
    // Checksum and sizes follow the data.
    out.extend_from_slice(&[0; 12]);
    out.u16(len);
    out.u16(0);
    out.extend_from_slice(name.as_bytes());
    Some(out)
}

/// From the version to the date.
fn common(out: &mut Vec<u8>, name: &str) {
    let utf8 = if name.is_ascii() { 0 } else { UTF8 };
    out.u16(VERSION);
    out.u16(HAS_DESCRIPTOR | utf8);
    out.u16(DEFLATE);
    out.u16(0);
    out.u16(DATE);
}

/// What stands behind the data.
pub(super) fn descriptor(found: Found) -> Vec<u8> {
    let mut out = Vec::new();
    out.u32(DESCRIPTOR.into());
    numbers(&mut out, found);
    out
}

fn numbers(out: &mut Vec<u8>, found: Found) {
    out.u32(found.crc.into());
    out.u32(found.packed);
    out.u32(found.size);
}

/// Adds an entry to a directory.
pub(super) fn push_entry(directory: &mut Vec<u8>, put: &Put<'_>) {
    directory.u32(CENTRAL.into());
    directory.u16(VERSION);
    common(directory, put.name);
    numbers(directory, put.found);
    directory.u16(put.name.len() as u16);
    // No extra fields, comment, disk or attributes.
    directory.extend_from_slice(&[0; 12]);
    directory.u32(put.offset);
    directory.extend_from_slice(put.name.as_bytes());
}

/// What stands behind a directory.
pub(super) fn end(entries: u64, start: u64, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if entries >= MANY {
        out.u32(END64.into());
        out.u64(END64_LEN as u64 - 12);
        out.u16(VERSION64);
        out.u16(VERSION64);
        out.u64(0);
        out.u64(entries);
        out.u64(entries);
        out.u64(size);
        out.u64(start);
        out.u32(LOCATOR64.into());
        out.u32(0);
        out.u64(start + size);
        out.u32(1);
    }
    let few = entries.min(MANY) as u16;
    out.u32(END.into());
    out.u32(0);
    out.u16(few);
    out.u16(few);
    out.u32(size);
    out.u32(start);
    out.u16(0);
    out
}
