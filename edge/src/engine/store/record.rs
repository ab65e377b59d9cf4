//! The journal's records, and how they are written down.
//!
//! ```text
//! magic 4 │ meta length 4 │ body length 4 │ check 8 │ meta │ body
//! ```
//! Integers are little-endian. The check is the beginning of SHA-256(salt ‖ lengths ‖ meta): the
//! salt is the segment's, so that no body can contain what reads as a record. The body has a check
//! of its own, its digest in the meta, and is verified when it is read.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use modcdn_core::digest::{Hasher, Sha256};

use super::entry::{Blocks, Headers, Meta, Rules};
use crate::engine::purge::bans::Ban;

/// Begins every record.
pub(super) const MAGIC: [u8; 4] = *b"\xf3mR1";
/// Bytes before the meta.
pub(super) const PREFIX: usize = 20;
/// Bytes before a segment's first record: magic 8, salt 16.
pub(super) const SEGMENT_HEADER: usize = 24;
/// A meta beyond this is damage. A 1 GiB body's block digests take 128 KiB.
const MAX_META: usize = 4 << 20;
/// A body beyond this is damage.
const MAX_BODY: usize = 1 << 20;

/// Random bytes of a segment.
pub(super) type Salt = [u8; 16];

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// It got an answer, or its answer was confirmed: then this takes the old one's place.
    Put(Put),
    /// The answer whose record begins there is gone.
    Drop { segment: u32, offset: u32 },
    /// A purge.
    Ban(Ban),
}

/// A new answer. A packed body follows the record's meta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) key: Arc<str>,
    pub(super) meta: Meta,
    pub(super) digest: Sha256,
    pub(super) size: u64,
    pub(super) blocks: Blocks,
}

/// A record found in a segment.
pub(super) struct Found<'a> {
    /// Where it begins.
    pub(super) offset: usize,
    /// Its whole length.
    pub(super) len: usize,
    pub(super) record: Record,
    pub(super) body: &'a [u8],
}

/// Writes a record down.
pub(super) fn encode(record: &Record, body: &[u8], salt: &Salt) -> Vec<u8> {
    let mut out = vec![0; PREFIX];
    match record {
        Record::Put(put) => encode_put(&mut out, put),
        Record::Drop { segment, offset } => {
            out.push(3);
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        Record::Ban(Ban { epoch, purge }) => {
            out.push(4);
            put_text(&mut out, purge.selector.name().as_bytes());
            out.push(purge.selector.kind() as u8);
            out.push(purge.mode as u8);
            out.extend_from_slice(&epoch.to_le_bytes());
        }
    }
    let meta = out.len() - PREFIX;
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&u32::try_from(meta).unwrap_or(u32::MAX).to_le_bytes());
    out[8..12].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    let check = check(salt, &out[4..12], &out[PREFIX..]);
    out[12..PREFIX].copy_from_slice(&check);
    out.extend_from_slice(body);
    out
}

fn encode_put(out: &mut Vec<u8>, put: &Put) {
    out.push(1);
    put_text(out, put.key.as_bytes());
    out.extend_from_slice(&put.meta.status.as_u16().to_le_bytes());
    out.push(rules_byte(put.meta.rules));
    out.extend_from_slice(&put.meta.stored.to_le_bytes());
    out.extend_from_slice(&put.meta.validated.to_le_bytes());
    out.extend_from_slice(&put.meta.epoch.to_le_bytes());
    out.extend_from_slice(put.digest.as_bytes());
    out.extend_from_slice(&put.size.to_le_bytes());
    put_headers(out, &put.meta.headers);
    let blocks = put.blocks.as_slice();
    out.extend_from_slice(&u32::try_from(blocks.len()).unwrap_or(0).to_le_bytes());
    blocks
        .iter()
        .for_each(|digest| out.extend_from_slice(digest.as_bytes()));
}

const fn rules_byte(rules: Rules) -> u8 {
    match rules {
        Rules::Mutable => 0,
        Rules::Immutable => 1,
        Rules::Http => 2,
        Rules::Variants => 3,
    }
}

const fn rules_of(byte: u8) -> Option<Rules> {
    match byte {
        0 => Some(Rules::Mutable),
        1 => Some(Rules::Immutable),
        2 => Some(Rules::Http),
        3 => Some(Rules::Variants),
        _ => None,
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    // Keys and values are bounded far below; a longer one would be cut and never found again.
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&text[..usize::from(len)]);
}

fn put_headers(out: &mut Vec<u8>, headers: &Headers) {
    out.push(u8::try_from(headers.iter().len()).unwrap_or(0));
    for (name, value) in headers.iter() {
        put_text(out, name.as_str().as_bytes());
        put_text(out, value.as_bytes());
    }
}

fn check(salt: &Salt, lengths: &[u8], meta: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(salt);
    hasher.update(lengths);
    hasher.update(meta);
    let mut check = [0; 8];
    check.copy_from_slice(&hasher.finish().as_bytes()[..8]);
    check
}

/// Walks through the records of a segment, stepping over damage.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    salt: Salt,
    at: usize,
    damage: usize,
}

impl<'a> Records<'a> {
    /// Begins at `at`.
    pub(super) fn new(bytes: &'a [u8], salt: Salt, at: usize) -> Self {
        Self {
            bytes,
            salt,
            at,
            damage: 0,
        }
    }

    /// The records of a whole segment, whose header is stepped over.
    pub(super) fn in_segment(bytes: &'a [u8], salt: Salt) -> Self {
        Self::new(bytes, salt, SEGMENT_HEADER)
    }

    /// The one record that begins here.
    pub(super) fn one(&self) -> Option<Found<'a>> {
        self.read(self.at)
    }

    /// Bytes stepped over so far: zero if all was well.
    pub(super) fn damage(&self) -> usize {
        self.damage
    }

    fn read(&self, at: usize) -> Option<Found<'a>> {
        let prefix = self.bytes.get(at..at + PREFIX)?;
        let length = |range| Some(usize::try_from(le_u32(prefix.get(range)?)?).unwrap_or(0));
        let (meta_len, body_len) = (length(4..8)?, length(8..12)?);
        if prefix[..4] != MAGIC || meta_len > MAX_META || body_len > MAX_BODY {
            return None;
        }
        let meta_end = at + PREFIX + meta_len;
        let meta = self.bytes.get(at + PREFIX..meta_end)?;
        let body = self.bytes.get(meta_end..meta_end + body_len)?;
        if prefix[12..PREFIX] != check(&self.salt, &prefix[4..12], meta) {
            return None;
        }
        let record = decode(meta)?;
        Some(Found {
            offset: at,
            len: PREFIX + meta_len + body_len,
            record,
            body,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        while self.at < self.bytes.len() {
            if let Some(found) = self.read(self.at) {
                self.at += found.len;
                return Some(found);
            }
            let rest = &self.bytes[self.at + 1..];
            let step = rest.windows(MAGIC.len()).position(|window| window == MAGIC);
            let step = step.map_or(rest.len(), |distance| distance) + 1;
            self.damage += step;
            self.at += step;
        }
        None
    }
}

fn decode(meta: &[u8]) -> Option<Record> {
    let mut fields = Fields(meta);
    let kind = fields.byte()?;
    match kind {
        1 => Some(Record::Put(decode_put(fields)?)),
        3 => Some(Record::Drop {
            segment: fields.u32()?,
            offset: fields.u32()?,
        }),
        4 => {
            let name = std::str::from_utf8(fields.text()?).ok()?;
            let (kind, mode) = (fields.byte()?, fields.byte()?);
            Ban::restored(fields.u64()?, kind, mode, name).map(Record::Ban)
        }
        _ => None,
    }
}

fn decode_put(mut fields: Fields<'_>) -> Option<Put> {
    let key = std::str::from_utf8(fields.text()?).ok()?.into();
    let status = StatusCode::from_u16(fields.u16()?).ok()?;
    let rules = rules_of(fields.byte()?)?;
    let (stored, validated) = (fields.u64()?, fields.u64()?);
    let epoch = fields.u64()?;
    let digest = fields.digest()?;
    let size = fields.u64()?;
    let headers = fields.headers()?;
    let count = usize::try_from(fields.u32()?).ok()?;
    let digests: Option<Vec<Sha256>> = (0..count).map(|_| fields.digest()).collect();
    let meta = Meta {
        status,
        headers,
        rules,
        stored,
        validated,
        epoch,
    };
    Some(Put {
        key,
        meta,
        digest,
        size,
        blocks: Blocks::new(digests?),
    })
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        le_u32(self.take(4)?)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Option<Sha256> {
        self.take(32)?.try_into().ok().map(Sha256::from_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn headers(&mut self) -> Option<Headers> {
        let count = self.byte()?;
        let field = |fields: &mut Self| {
            let name = HeaderName::from_bytes(fields.text()?).ok()?;
            Some((name, HeaderValue::from_bytes(fields.text()?).ok()?))
        };
        let fields: Option<Vec<_>> = (0..count).map(|_| field(self)).collect();
        fields.map(Headers::restored)
    }
}

fn le_u32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use http::HeaderMap;
    use http::header::{CACHE_CONTROL, CONTENT_TYPE};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::purge::{Mode, Purge, Selector};

    const SALT: Salt = [7; 16];

    pub(in crate::engine::store) fn put(key: &str, body: &[u8]) -> Put {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=60"),
        );
        Put {
            key: key.into(),
            meta: Meta {
                status: StatusCode::OK,
                headers: Headers::keep(&headers),
                rules: Rules::Immutable,
                stored: 1,
                validated: 2,
                epoch: 3,
            },
            digest: Sha256::of(body),
            size: body.len() as u64,
            blocks: Blocks::new(vec![Sha256::of(b"a"), Sha256::of(b"b")]),
        }
    }

    fn four() -> Vec<(Record, &'static [u8])> {
        vec![
            (
                Record::Put(put("/a", b"body of a")),
                b"body of a".as_slice(),
            ),
            (Record::Put(put("/c", b"in a file")), b""),
            (
                Record::Drop {
                    segment: 1,
                    offset: 24,
                },
                b"",
            ),
            (Record::Ban(ban()), b""),
        ]
    }

    fn ban() -> Ban {
        let selector = Selector::module("example.com/Upper").unwrap();
        let mode = Mode::Soft;
        Ban {
            epoch: 5,
            purge: Purge { selector, mode },
        }
    }

    fn written() -> Vec<u8> {
        four()
            .iter()
            .flat_map(|(record, body)| encode(record, body, &SALT))
            .collect()
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let bytes = written();
        let mut records = Records::new(&bytes, SALT, 0);
        let found: Vec<(Record, &[u8])> = records
            .by_ref()
            .map(|found| (found.record, found.body))
            .collect();
        assert_eq!(found, four());
        assert_eq!(records.damage(), 0);
    }

    #[test]
    fn another_segments_record_in_a_body_is_not_read() {
        let forged = encode(&four()[2].0, b"", &[0; 16]);
        let mut bytes = encode(&Record::Put(put("/a", &forged)), &forged, &SALT);
        bytes[PREFIX] ^= 1;
        assert_eq!(Records::new(&bytes, SALT, 0).count(), 0);
    }

    proptest! {
        #[test]
        fn a_flipped_byte_costs_one_record_at_most(at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = written();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let good = four();
            let found: Vec<Record> = Records::new(&bytes, SALT, 0).map(|f| f.record).collect();
            prop_assert!(found.len() >= 3);
            prop_assert!(found.iter().all(|record| good.iter().any(|(g, _)| g == record)));
        }

        #[test]
        fn garbage_is_read_as_nothing(garbage: Vec<u8>, tail in 0usize..200) {
            let good = written();
            let mut bytes = garbage;
            bytes.extend_from_slice(&good);
            bytes.extend_from_slice(&good[..tail.min(good.len() - 1)]);
            let found = Records::new(&bytes, SALT, 0).count();
            prop_assert!((4..8).contains(&found));
        }
    }
}
