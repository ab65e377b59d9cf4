//! The records of a zip archive (APPNOTE.TXT 6.3.10, section 4.3), from their bytes. Pure.
//!
//! Read as Go's archive/zip does; where other readers would read something else, there is a
//! [`Fault`] instead.

use std::ops::Range;

use super::fault::{Fault, shown};

pub(super) const LOCAL: u32 = 0x0403_4b50;
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;
pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END64: u32 = 0x0606_4b50;
pub(super) const LOCATOR64: u32 = 0x0706_4b50;

pub(super) const LOCAL_LEN: usize = 30;
pub(super) const CENTRAL_LEN: usize = 46;
pub(super) const END_LEN: usize = 22;
pub(super) const END64_LEN: usize = 56;
pub(super) const LOCATOR64_LEN: usize = 20;
/// The longest data descriptor.
pub(super) const DESCRIPTOR_LEN: usize = 24;

/// In the flags: encrypted, by the old or the new way, with a masked header; or a patch.
const ENCODED: u16 = 1 | 1 << 6 | 1 << 13 | 1 << 5;
/// In the flags: sizes and checksum stand behind the data.
pub(super) const HAS_DESCRIPTOR: u16 = 1 << 3;
/// In the flags: what a local header must say as the directory does.
const MATTERS: u16 = ENCODED | HAS_DESCRIPTOR;

/// The extra field with 64-bit sizes.
const ZIP64: u16 = 0x0001;
/// The extra field with the name in UTF-8, which some readers prefer.
const UNICODE_PATH: u16 = 0x7075;

/// "Look into the zip64 field".
pub(super) const ELSEWHERE: u64 = u32::MAX as u64;

/// Little-endian numbers, one after another.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*head))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }
}

/// How an entry's data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflate,
}

impl Method {
    pub(super) fn parse(method: u16) -> Option<Self> {
        match method {
            0 => Some(Self::Stored),
            8 => Some(Self::Deflate),
            _ => None,
        }
    }
}

/// An entry, as the directory has it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where its name lies among the directory's bytes.
    pub(super) name: Range<usize>,
    pub(super) method: Method,
    pub(super) has_descriptor: bool,
    flags: u16,
    pub(super) crc: u32,
    /// The length of its data.
    pub(super) packed: u64,
    /// The length of its content.
    pub(super) size: u64,
    /// Where its local header begins.
    pub(super) offset: u64,
}

impl Entry {
    /// Parses the entry that begins at `at` of the directory; with it comes where the next begins.
    ///
    /// # Errors
    /// If there is none, or none that all readers read alike.
    pub(super) fn parse(directory: &[u8], at: usize) -> Result<(Self, usize), Fault> {
        let raw = RawEntry::parse(directory, at).ok_or(Fault::NotAnArchive)?;
        let name = &directory[raw.name.clone()];
        let extra = &directory[raw.name.end..raw.name.end + raw.extra];
        if raw.flags & ENCODED != 0 {
            return Err(Fault::Encrypted(shown(name)));
        }
        let method =
            Method::parse(raw.method).ok_or_else(|| Fault::Method(shown(name), raw.method))?;
        if !is_plain(raw.creator, raw.attributes, name) {
            return Err(Fault::Irregular(shown(name)));
        }
        check_unicode_path(name, extra)?;
        let narrow = [raw.size, raw.packed, raw.offset];
        let wide = widen(extra, narrow).filter(|wide| {
            // Too large for anything, so what it means doesn't matter.
            wide[1] < ELSEWHERE && wide[2] < ELSEWHERE
        });
        let [size, packed, offset] = wide.ok_or_else(|| Fault::Zip64(shown(name)))?;
        let next = raw.name.end + raw.extra + raw.comment;
        let entry = Self {
            name: raw.name,
            method,
            has_descriptor: raw.flags & HAS_DESCRIPTOR != 0,
            flags: raw.flags,
            crc: raw.crc,
            packed,
            size,
            offset,
        };
        Ok((entry, next))
    }
}

/// The fields of an entry of the directory.
struct RawEntry {
    creator: u16,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    name: Range<usize>,
    extra: usize,
    comment: usize,
    attributes: u32,
    offset: u64,
}

impl RawEntry {
    fn parse(directory: &[u8], at: usize) -> Option<Self> {
        let mut fields = Fields(directory.get(at..)?);
        if fields.u32()? != CENTRAL {
            return None;
        }
        let creator = fields.u16()?;
        fields.take(2)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(4)?;
        let (crc, packed, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let lens = [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
        fields.take(4)?;
        let (attributes, offset) = (fields.u32()?, fields.u32()?);
        fields.take(lens.iter().sum())?;
        let name = at + CENTRAL_LEN;
        Some(Self {
            creator,
            flags,
            method,
            crc,
            packed: packed.into(),
            size: size.into(),
            name: name..name + lens[0],
            extra: lens[1],
            comment: lens[2],
            attributes,
            offset: offset.into(),
        })
    }
}

/// Whether the mode is that of a regular file, or of a folder where the name is one's.
fn is_plain(creator: u16, attributes: u32, name: &[u8]) -> bool {
    const UNIX: u16 = 3;
    const MACOS: u16 = 19;
    if !matches!(creator >> 8, UNIX | MACOS) {
        return true;
    }
    match attributes >> 28 {
        0 | 0o10 => true,
        0o4 => name.ends_with(b"/"),
        _ => false,
    }
}

/// What stands before an entry's data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    flags: u16,
    method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
}

/// How long a local header's name and extra fields are, from its fixed part.
pub(super) fn local_lens(fixed: &[u8]) -> Option<(usize, usize)> {
    let mut fields = Fields(fixed);
    if fields.u32()? != LOCAL {
        return None;
    }
    fields.take(22)?;
    Some((fields.u16()?.into(), fields.u16()?.into()))
}

impl Local {
    /// The header of nothing.
    pub(super) const NONE: Self = Self {
        flags: 0,
        method: 0,
        crc: 0,
        packed: 0,
        size: 0,
    };

    /// Parses a local header of which all bytes are given; its name comes with it.
    ///
    /// # Errors
    /// If it is none, or none that all readers read alike.
    pub(super) fn parse(header: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let (mut local, name, extra) = Self::split(header).ok_or(Fault::NotAnArchive)?;
        check_unicode_path(name, extra)?;
        let wide = if local.has_descriptor() && is_blank(extra) {
            Some([local.size, local.packed])
        } else {
            widen(extra, [local.size, local.packed])
        };
        [local.size, local.packed] = wide.ok_or_else(|| Fault::Zip64(shown(name)))?;
        Ok((local, name))
    }

    fn split(header: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (name, extra) = local_lens(header)?;
        let mut fields = Fields(header.get(6..)?);
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(4)?;
        let local = Self {
            flags,
            method,
            crc: fields.u32()?,
            packed: fields.u32()?.into(),
            size: fields.u32()?.into(),
        };
        fields.take(4)?;
        Some((local, fields.take(name)?, fields.take(extra)?))
    }

    pub(super) fn has_descriptor(&self) -> bool {
        self.flags & HAS_DESCRIPTOR != 0
    }

    pub(super) fn method(&self) -> Option<Method> {
        Method::parse(self.method).filter(|_| self.flags & ENCODED == 0)
    }

    /// Whether it says what the directory says; with a descriptor to come, it may be silent.
    pub(super) fn agrees(&self, entry: &Entry) -> bool {
        let may_be_silent = entry.has_descriptor;
        let same = |ours: u64, theirs: u64| {
            ours == theirs || may_be_silent && (ours == 0 || ours == ELSEWHERE)
        };
        Method::parse(self.method) == Some(entry.method)
            && self.flags & MATTERS == entry.flags & MATTERS
            && same(self.packed, entry.packed)
            && same(self.size, entry.size)
            && (self.crc == entry.crc || may_be_silent && self.crc == 0)
    }
}

/// The extra fields; what is malformed ends them, as for Go.
fn extras(extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut fields = Fields(extra);
    std::iter::from_fn(move || {
        let (tag, len) = (fields.u16()?, fields.u16()?);
        Some((tag, fields.take(len.into())?))
    })
}

/// Whether a zip64 field is a place kept free, all zeros.
fn is_blank(extra: &[u8]) -> bool {
    let mut wide = extras(extra).filter(|(tag, _)| *tag == ZIP64);
    matches!((wide.next(), wide.next()), (Some((_, data)), None) if data.iter().all(|b| *b == 0))
}

/// Takes from the zip64 field what `narrow` says is there. The field must hold just that; or, where
/// nothing is asked of it, repeat what is known. `None` if readers could see other numbers.
fn widen<const N: usize>(extra: &[u8], narrow: [u64; N]) -> Option<[u64; N]> {
    let mut all = extras(extra).filter(|(tag, _)| *tag == ZIP64);
    let (wide, second) = (all.next(), all.next());
    let asked = narrow.contains(&ELSEWHERE);
    let Some((_, data)) = wide else {
        return (!asked).then_some(narrow);
    };
    if second.is_some() {
        return None;
    }
    let mut fields = Fields(data);
    if !asked {
        let repeats = narrow
            .iter()
            .all(|known| fields.u64().is_none_or(|n| n == *known));
        return (repeats && fields.0.is_empty()).then_some(narrow);
    }
    let mut wide = narrow;
    for number in wide.iter_mut().filter(|number| **number == ELSEWHERE) {
        *number = fields.u64()?;
    }
    // Behind them may stand the number of the disk: there is one only.
    matches!(fields.0, [] | [0, 0, 0, 0]).then_some(wide)
}

/// Some readers take the name from an extra field.
fn check_unicode_path(name: &[u8], extra: &[u8]) -> Result<(), Fault> {
    let other = extras(extra).any(|(tag, data)| tag == UNICODE_PATH && data.get(5..) != Some(name));
    if other {
        return Err(Fault::HeadersDiffer(shown(name)));
    }
    Ok(())
}

/// What was found of an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
}

/// Whether these bytes are the descriptor of such content: checksum and both sizes, these in 32 or
/// 64 bits, with a signature before them or without.
pub(super) fn is_descriptor(bytes: &[u8], found: Found) -> bool {
    let mut fields = Fields(bytes);
    if matches!(bytes.len(), 16 | 24) && fields.u32() != Some(DESCRIPTOR) {
        return false;
    }
    // Without a signature, a checksum that looks like one would be taken for it.
    let crc = fields.u32();
    if crc != Some(found.crc) || matches!(bytes.len(), 12 | 20) && crc == Some(DESCRIPTOR) {
        return false;
    }
    let sizes = match fields.0.len() {
        8 => (fields.u32().map(u64::from), fields.u32().map(u64::from)),
        16 => (fields.u64(), fields.u64()),
        _ => return false,
    };
    sizes == (Some(found.packed), Some(found.size))
}

/// How long the descriptor at the beginning of these bytes is, judged by what follows it: another
/// entry, or the directory. Wants [`DESCRIPTOR_LEN`] bytes and four more.
pub(super) fn descriptor_len(bytes: &[u8], found: Found) -> Option<usize> {
    let is_record = |at: &[u8]| {
        let next = Fields(at).u32();
        next == Some(LOCAL) || next == Some(CENTRAL)
    };
    [16, 24, 12, 20].into_iter().find(|len| {
        let (descriptor, next) = bytes.split_at_checked(*len).unwrap_or_default();
        is_descriptor(descriptor, found) && is_record(next)
    })
}
