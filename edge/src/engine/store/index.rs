//! The index: for every key on disk, where its record lies. All of it is in RAM, so it is small.
//!
//! A key is known by a [`Fingerprint`]: 128 bits of SHA-256 over the store's secret and the key.
//! Whoever makes up keys doesn't know the secret, so can't make two of them meet; should two meet
//! all the same, the key in the record tells them apart and the one that isn't there is a miss.
//!
//! A [`Slot`] costs 44 bytes and some 11 in the table; a body that has a file 40 and 11 more,
//! however many keys name it. Their slots form a list; its first one *owns* the file: it
//! alone carries the file's weight in the disk tier, and hands it on when it goes.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

use modcdn_core::digest::{Hasher, Sha256};

use super::entry::Position;
use super::slab::{Id, Slab};

/// Tables are split so that the growth of one stops readers for a millisecond, not for fifty.
const TABLES: usize = 64;
/// Files take up whole blocks of the file system.
pub(super) const FILE_BLOCK: u64 = 4096;
/// One byte in so many of the journal's live bytes may be dead beside them.
pub(super) const DEAD_SHARE: u64 = 4;

/// What a key takes of the index's snapshot, and what its body's digest takes there.
pub(super) const SNAPSHOT_COST: u64 = 36;
pub(super) const DIGEST_COST: u64 = 32;

/// What keys are hashed with.
pub(super) type Secret = [u8; 16];

/// A key, as far as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// That of a key.
    pub(super) fn of(secret: &Secret, key: &str) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(secret);
        hasher.update(key.as_bytes());
        let mut print = [0; 16];
        print.copy_from_slice(&hasher.finish().as_bytes()[..16]);
        Self(print)
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Half of it: enough to spread by.
    pub(super) fn half(&self) -> u64 {
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(half)
    }

    fn table(&self) -> usize {
        usize::from(self.0[15]) % TABLES
    }
}

/// A key on disk.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) print: Fingerprint,
    segment: u32,
    offset: u32,
    len: NonZeroU32,
    /// The body's file; None: the body is packed into the record.
    body: Option<Id>,
    /// The keys before and after this one that name the same file.
    before: Option<Id>,
    after: Option<Id>,
    /// When the key was last asked for, in [`hours`].
    asked: AtomicU32,
}

impl Slot {
    /// Where the record lies.
    pub(super) fn at(&self) -> At {
        At {
            segment: self.segment,
            offset: self.offset,
            len: self.len.get(),
        }
    }

    /// When the key was last asked for, in hours since the Unix epoch, give or take some.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes that the key is asked for.
    pub(super) fn ask(&self, now: u32) {
        self.asked.store(now, Ordering::Relaxed);
    }
}

/// Where a record lies and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self {
            segment: position.segment,
            offset: position.offset,
            len: position.len,
        }
    }
}

/// A body that has a file.
#[derive(Debug)]
struct Body {
    digest: Sha256,
    /// [`FILE_BLOCK`]s.
    blocks: u32,
    owner: Id,
}

/// A file of that digest and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyFile {
    pub(super) digest: Sha256,
    pub(super) size: u64,
}

impl BodyFile {
    /// [`FILE_BLOCK`]s that it takes.
    pub(super) fn blocks(&self) -> u32 {
        u32::try_from(self.size.div_ceil(FILE_BLOCK)).unwrap_or(u32::MAX)
    }
}

/// What a key's going, or its new body, left behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The record that is dead now.
    pub(super) at: Option<At>,
    /// The file that nobody names any more.
    pub(super) file: Option<Sha256>,
    /// The key that owns the file now.
    pub(super) heir: Option<Id>,
}

/// The index.
pub(super) struct Index {
    tables: Vec<HashTable<Id>>,
    slots: Slab<Slot>,
    files: HashTable<Id>,
    bodies: Slab<Body>,
    spread: RandomState,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            slots: Slab::new(),
            files: HashTable::new(),
            bodies: Slab::new(),
            spread: RandomState::new(),
        }
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, print: &Fingerprint) -> Option<Id> {
        let table = &self.tables[print.table()];
        let same = |id: &Id| self.slots.get(*id).is_some_and(|slot| slot.print == *print);
        table.find(print.half(), same).copied()
    }

    pub(super) fn slot(&self, id: Id) -> Option<&Slot> {
        self.slots.get(id)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (Id, &Slot)> {
        self.slots.iter()
    }

    /// The first key whose number is above `after`.
    pub(super) fn after(&self, after: u32) -> Option<(Id, &Slot)> {
        self.slots.after(after)
    }

    /// Notes a key's record, in place of the one that it had. None: there are no more numbers.
    pub(super) fn put(
        &mut self,
        print: Fingerprint,
        at: At,
        file: Option<BodyFile>,
        asked: u32,
    ) -> Option<(Id, Left)> {
        let len = NonZeroU32::new(at.len)?;
        let found = self.find(&print);
        let id = match found {
            Some(id) => id,
            None => self.add(print, at, len, asked)?,
        };
        let mut left = Left::default();
        if found.is_some() {
            left = self.leave(id);
            left.at = self.slots.get(id).map(Slot::at);
            self.move_to(id, at);
        }
        if let Some(file) = file {
            self.join(id, file);
            // It may be the very file that it had.
            left.file = left.file.filter(|left| *left != file.digest);
        }
        Some((id, left))
    }

    fn add(&mut self, print: Fingerprint, at: At, len: NonZeroU32, asked: u32) -> Option<Id> {
        let id = self.slots.insert(Slot {
            print,
            segment: at.segment,
            offset: at.offset,
            len,
            body: None,
            before: None,
            after: None,
            asked: AtomicU32::new(asked),
        })?;
        let slots = &self.slots;
        let spread = |id: &Id| slots.get(*id).map_or(0, |slot| slot.print.half());
        self.tables[print.table()].insert_unique(print.half(), id, spread);
        Some(id)
    }

    /// Notes that a key's record lies elsewhere now.
    pub(super) fn move_to(&mut self, id: Id, at: At) {
        let Some((slot, len)) = self.slots.get_mut(id).zip(NonZeroU32::new(at.len)) else {
            return;
        };
        (slot.segment, slot.offset, slot.len) = (at.segment, at.offset, len);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, id: Id) -> Option<Left> {
        let print = self.slots.get(id)?.print;
        let mut left = self.leave(id);
        let found = self.tables[print.table()].find_entry(print.half(), |other| *other == id);
        if let Ok(bucket) = found {
            bucket.remove();
        }
        left.at = self.slots.remove(id).map(|slot| slot.at());
        Some(left)
    }

    /// Bytes that a key takes of the disk tier: its record with its share of dead ones, its place in
    /// the snapshot, and its body's file if it owns that.
    pub(super) fn weight(&self, id: Id) -> u64 {
        let Some(slot) = self.slots.get(id) else {
            return 0;
        };
        let record = u64::from(slot.len.get());
        let body = slot.body.and_then(|body| self.bodies.get(body));
        let owned = body.filter(|body| body.owner == id);
        let file = owned.map_or(0, |body| u64::from(body.blocks) * FILE_BLOCK);
        let digest = if slot.body.is_some() { DIGEST_COST } else { 0 };
        record + record / DEAD_SHARE + SNAPSHOT_COST + digest + file
    }

    /// The file that a key names; its length in whole blocks.
    pub(super) fn file_of(&self, id: Id) -> Option<BodyFile> {
        let body = self.bodies.get(self.slots.get(id)?.body?)?;
        Some(BodyFile {
            digest: body.digest,
            size: u64::from(body.blocks) * FILE_BLOCK,
        })
    }

    /// Whether a key owns the file of its body.
    pub(super) fn owns_file(&self, id: Id) -> bool {
        let body = self
            .slots
            .get(id)
            .and_then(|slot| self.bodies.get(slot.body?));
        body.is_some_and(|body| body.owner == id)
    }

    /// The keys that name a file, its owner first.
    pub(super) fn naming(&self, digest: &Sha256) -> Vec<Id> {
        let body = self.body(digest).and_then(|body| self.bodies.get(body));
        let mut next = body.map(|body| body.owner);
        let mut ids = Vec::new();
        while let Some(id) = next {
            ids.push(id);
            next = self.slots.get(id).and_then(|slot| slot.after);
        }
        ids
    }

    /// Whether any key names that file.
    pub(super) fn names(&self, digest: &Sha256) -> bool {
        self.body(digest).is_some()
    }

    #[cfg(test)]
    /// The number of bodies that have files, and bytes of whole blocks that they take.
    pub(super) fn files(&self) -> (usize, u64) {
        let blocks = |(_, body): (_, &Body)| u64::from(body.blocks) * FILE_BLOCK;
        (self.bodies.len(), self.bodies.iter().map(blocks).sum())
    }

    fn body(&self, digest: &Sha256) -> Option<Id> {
        let hash = self.spread.hash_one(digest);
        let same = |id: &Id| self.bodies.get(*id).is_some_and(|b| b.digest == *digest);
        self.files.find(hash, same).copied()
    }

    /// Lets a key name a file: as its owner if it is the first to.
    fn join(&mut self, id: Id, file: BodyFile) {
        let hash = self.spread.hash_one(file.digest);
        if let Some(body) = self.body(&file.digest) {
            return self.follow(id, body);
        }
        let body = Body {
            digest: file.digest,
            blocks: file.blocks(),
            owner: id,
        };
        let Some(body) = self.bodies.insert(body) else {
            return;
        };
        let (bodies, spread) = (&self.bodies, &self.spread);
        let rehash = |id: &Id| bodies.get(*id).map_or(0, |b| spread.hash_one(b.digest));
        self.files.insert_unique(hash, body, rehash);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.body = Some(body);
        }
    }

    /// Puts a key behind the owner of a file.
    fn follow(&mut self, id: Id, body: Id) {
        let Some(owner) = self.bodies.get(body).map(|body| body.owner) else {
            return;
        };
        let owner_slot = self.slots.get_mut(owner);
        let after = owner_slot.and_then(|slot| slot.after.replace(id));
        if let Some(next) = after.and_then(|after| self.slots.get_mut(after)) {
            next.before = Some(id);
        }
        if let Some(slot) = self.slots.get_mut(id) {
            (slot.body, slot.before, slot.after) = (Some(body), Some(owner), after);
        }
    }

    /// Takes a key out of those that name its file.
    fn leave(&mut self, id: Id) -> Left {
        let mut left = Left::default();
        let Some(slot) = self.slots.get_mut(id) else {
            return left;
        };
        let (before, after) = (slot.before.take(), slot.after.take());
        let Some(body) = slot.body.take() else {
            return left;
        };
        if let Some(next) = after.and_then(|after| self.slots.get_mut(after)) {
            next.before = before;
        }
        match (before, after) {
            (Some(before), _) => {
                if let Some(before) = self.slots.get_mut(before) {
                    before.after = after;
                }
            }
            (None, Some(heir)) => {
                if let Some(body) = self.bodies.get_mut(body) {
                    body.owner = heir;
                }
                left.heir = Some(heir);
            }
            (None, None) => left.file = self.remove_body(body),
        }
        left
    }

    fn remove_body(&mut self, id: Id) -> Option<Sha256> {
        let body = self.bodies.remove(id)?;
        let hash = self.spread.hash_one(body.digest);
        if let Ok(bucket) = self.files.find_entry(hash, |other| *other == id) {
            bucket.remove();
        }
        Some(body.digest)
    }
}
