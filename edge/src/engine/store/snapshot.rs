//! What the index knew at the last clean stop, so that the journal need not be read.
//!
//! ```text
//! magic 8 │ secret 16 │ segments 4 │ … │ keys 4 │ …
//! newest purge 8 │ purges, as records of the journal │ sha-256 of all before, 32
//! segment: number 4 │ length 8 │ salt 16
//! key:     fingerprint 16 │ segment 4 │ offset 4 │ length 4 │ asked 4 │ blocks 4 │ digest 32
//! ```
//! A packed body has 0 blocks and no digest.
//! Integers are little-endian. A key's record lies in the segments listed, so the snapshot is true
//! as long as the journal is exactly these; any append makes it stale.
//!
//! Failure rule: a snapshot that is missing, torn, damaged, or of another journal is not used. It
//! appears under its name whole or not at all. It is counted in the disk tier, key by key
//! ([`Index::weight`]).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use modcdn_core::digest::Sha256;
use modcdn_core::durable::{self, Sync};

use super::index::{At, BodyFile, FILE_BLOCK, Fingerprint, Index, Secret, Slot};
use super::journal::Extent;
use super::record::{self, Record, Records};
use super::restore::Key;
use super::slab::Id;
use super::{Store, Writer};
use crate::engine::purge::bans::{Ban, Bans};

const MAGIC: [u8; 8] = *b"modcdnI1";
const DIGEST: usize = 32;
/// Keys that are put into the index under one lock.
const BATCH: usize = 4096;

/// The secret that the last clean stop wrote down. Any 16 bytes serve, so they are not verified.
pub(super) fn secret(dir: &Path) -> Option<Secret> {
    let mut head = [0; 24];
    let mut file = fs::File::open(path(dir)).ok()?;
    io::Read::read_exact(&mut file, &mut head).ok()?;
    head.strip_prefix(&MAGIC)?.try_into().ok()
}

fn path(dir: &Path) -> PathBuf {
    dir.join("index")
}

impl Store {
    /// Writes the index down for the next start. To be the last thing that is done. Blocks.
    ///
    /// # Errors
    /// What the disk said; the next start reads the journal then.
    pub(crate) fn write_snapshot(&self) -> io::Result<()> {
        // If it fails, the purges are at least in the snapshot.
        let _ = self.write_down();
        let writer = self.writer.lock();
        if self.admission.is_retired() {
            // It was written when the store was handed over, and is another's by now.
            return Ok(());
        }
        self.write_snapshot_locked(&writer)
    }

    pub(super) fn write_snapshot_locked(&self, writer: &Writer) -> io::Result<()> {
        if writer.loading.is_some() {
            return Ok(());
        }
        self.note_visits();
        writer.journal.sync()?;
        let mut bytes = encode(&self.secret, &writer.journal.segments(), &self.index.read());
        put_purges(&mut bytes, &self.secret, &self.bans);
        let check = Sha256::of(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        // The last one is stale by now, and the two of them together would be twice what is counted.
        let _ = fs::remove_file(path(&self.config.dir));
        let temp = self.config.dir.join("index.new");
        let mut file = fs::File::create(&temp)?;
        file.write_all(&bytes)?;
        drop(file);
        durable::publish(&temp, &path(&self.config.dir), Sync::Relaxed)
    }

    /// Takes the snapshot into the index, if there is one of these segments. Blocks.
    pub(super) fn load_snapshot(&self, segments: &[Extent]) -> bool {
        let Ok(bytes) = fs::read(path(&self.config.dir)) else {
            return false;
        };
        let Some(Decoded { keys, newest, bans }) = decode(&bytes, &self.secret, segments) else {
            tracing::info!("the index's snapshot is stale or damaged: the journal is read");
            return false;
        };
        // Before any of the answers that they concern.
        bans.iter().for_each(|ban| self.bans.restore(ban));
        self.bans.passed(newest);
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            let mut writer = self.writer.lock();
            let batch = keys.by_ref().take(BATCH);
            batch.for_each(|key| self.take_in(&mut writer, &key));
            self.gauge(&writer);
        }
        true
    }
}

fn encode(secret: &Secret, segments: &[Extent], index: &Index) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 48 * index.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(secret);
    put_number(&mut out, segments.len());
    for extent in segments {
        put_number(&mut out, extent.number);
        out.extend_from_slice(&extent.len.to_le_bytes());
        out.extend_from_slice(&extent.salt);
    }
    let mut slots: Vec<(Id, &Slot)> = index.slots().collect();
    slots.sort_unstable_by_key(|(_, slot)| slot.at());
    put_number(&mut out, slots.len());
    for (id, slot) in slots {
        out.extend_from_slice(slot.print.as_bytes());
        let at = slot.at();
        for number in [at.segment, at.offset, at.len, slot.asked()] {
            put_number(&mut out, number);
        }
        let file = index.file_of(id);
        put_number(&mut out, file.map_or(0, |file| file.blocks()));
        if let Some(file) = file {
            out.extend_from_slice(file.digest.as_bytes());
        }
    }
    out
}

fn put_purges(out: &mut Vec<u8>, secret: &Secret, bans: &Bans) {
    out.extend_from_slice(&bans.newest().to_le_bytes());
    for ban in bans.all() {
        out.extend_from_slice(&record::encode(&Record::Ban(ban), b"", secret));
    }
}

fn put_number(out: &mut Vec<u8>, number: impl TryInto<u32>) {
    // More segments or keys than that can't be: their numbers have 32 bits.
    let number: u32 = number.try_into().unwrap_or(u32::MAX);
    out.extend_from_slice(&number.to_le_bytes());
}

/// What a snapshot holds. Its keys are not copied: of a million that would be 80 MB.
struct Decoded<'a> {
    keys: Keys<'a>,
    /// The number of the newest purge.
    newest: u64,
    bans: Vec<Ban>,
}

/// What a snapshot that is whole, and of these segments, holds.
fn decode<'a>(bytes: &'a [u8], secret: &Secret, segments: &[Extent]) -> Option<Decoded<'a>> {
    let (content, check) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::of(content).as_bytes() != check {
        return None;
    }
    let mut fields = Fields(content);
    let same_secret = fields.array()? == MAGIC && fields.array()? == *secret;
    let same_number = fields.number()? == u32::try_from(segments.len()).ok()?;
    if !same_secret || !same_number {
        return None;
    }
    for extent in segments {
        let listed = Extent {
            number: fields.number()?,
            len: u64::from_le_bytes(fields.array()?),
            salt: fields.array()?,
        };
        if listed != *extent {
            return None;
        }
    }
    let left = fields.number()?;
    let keys = Keys { fields, left };
    for _ in 0..left {
        fields.key()?;
    }
    let newest = u64::from_le_bytes(fields.array()?);
    let mut records = Records::new(fields.0, *secret, 0);
    let bans = records.by_ref().filter_map(|found| match found.record {
        Record::Ban(ban) => Some(ban),
        Record::Put(_) | Record::Drop { .. } => None,
    });
    let bans = bans.collect();
    Some(Decoded { keys, newest, bans })
}

/// The keys of a snapshot, one after the other.
struct Keys<'a> {
    fields: Fields<'a>,
    left: u32,
}

impl Iterator for Keys<'_> {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        self.left = self.left.checked_sub(1)?;
        self.fields.key()
    }
}

#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn key(&mut self) -> Option<Key> {
        let print = Fingerprint::from_bytes(self.array()?);
        let at = At {
            segment: self.number()?,
            offset: self.number()?,
            len: self.number()?,
        };
        let asked = self.number()?;
        let file = match self.number()? {
            0 => None,
            blocks => Some(BodyFile {
                digest: Sha256::from_bytes(self.array()?),
                size: u64::from(blocks) * FILE_BLOCK,
            }),
        };
        Some(Key {
            print,
            at,
            file,
            asked,
        })
    }
}
