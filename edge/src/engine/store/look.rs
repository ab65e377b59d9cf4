//! Looking a key up: among the warm entries, else by the index on the disk.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use modcdn_core::digest::Sha256;

use super::Store;
use super::entry::{Entry, Object, Place};
use super::index::At;
use super::journal::position_of;
use super::read::Damage;
use super::record::{Put, Record, Records};
use super::slab::Id;
use crate::engine::purge::Mode;

/// How often a look-up begins anew because the record was moved meanwhile.
const ATTEMPTS: usize = 8;

/// What is known of a key without asking the disk.
#[derive(Debug)]
pub(crate) enum Look {
    /// Its answer.
    Warm(Arc<Entry>),
    /// There is a record, to be read with [`Store::find`].
    Cold,
    /// There is none.
    Absent,
}

/// A record as the disk has it.
pub(super) struct Thawed {
    pub(super) put: Put,
    pub(super) place: Place,
    pub(super) body: Vec<u8>,
}

impl Store {
    /// What is known of a key without asking the disk. One shard is locked, for reading; a second
    /// lock only for what isn't warm.
    pub(crate) fn look(&self, key: &str) -> Look {
        if let Some(entry) = self.warm.get(key) {
            return self.usable(entry).map_or(Look::Absent, Look::Warm);
        }
        let print = self.print(key);
        if self.index.read().find(&print).is_some() {
            Look::Cold
        } else {
            Look::Absent
        }
    }

    /// The answer for a key, if its entry is warm and neither known to be damaged nor purged, and
    /// its body could be read the last time.
    pub(crate) fn warm(&self, key: &str) -> Option<Arc<Entry>> {
        let entry = self.usable(self.warm.get(key)?)?;
        (!entry.object.is_unreadable()).then_some(entry)
    }

    /// The answer for a key, if there is one that is neither known to be damaged nor purged. One
    /// that was purged softly is there, see [`Self::is_stale`]. Blocks unless it is warm.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Entry>> {
        for _ in 0..ATTEMPTS {
            if let Some(entry) = self.warm.get(key) {
                return self.usable(entry);
            }
            let (id, at) = self.slot_of(key)?;
            match self.thaw(id, at) {
                Ok(thawed) if *thawed.put.key != *key => return None,
                Ok(thawed) => {
                    if let Some(entry) = self.warm_up(thawed) {
                        return self.usable(entry);
                    }
                }
                Err(Damage::Moved) => {}
                Err(Damage::Unreadable(error)) => {
                    self.read_refused(key, &error);
                    return None;
                }
                Err(Damage::Corrupt) => self.condemn_record(id, at),
            }
        }
        None
    }

    fn usable(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        entry.touch();
        if let Some(place) = entry.place {
            self.marks.mark(place.id.get());
        }
        let usable = !entry.object.is_damaged() && self.purged(&entry) != Some(Mode::Hard);
        usable.then_some(entry)
    }

    /// Whether later requests will find this answer's body.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        let same = |held: Arc<Entry>| Arc::ptr_eq(&held.object, &entry.object);
        if let Some(held) = self.warm.get(&entry.key) {
            return same(held);
        }
        let index = self.index.read();
        let slot = entry
            .place
            .and_then(|place| index.slot(place.id).zip(Some(place)));
        slot.is_some_and(|(slot, place)| slot.at() == place.position.into())
    }

    fn slot_of(&self, key: &str) -> Option<(Id, At)> {
        let print = self.print(key);
        let index = self.index.read();
        let id = index.find(&print)?;
        index.slot(id).map(|slot| (id, slot.at()))
    }

    /// Reads a record. Blocks.
    ///
    /// # Errors
    /// [`Damage`].
    pub(super) fn thaw(&self, id: Id, at: At) -> Result<Thawed, Damage> {
        let segment = self.segments.read().get(&at.segment).cloned();
        let segment = segment.ok_or(Damage::Moved)?;
        let mut bytes = vec![0; usize::try_from(at.len).unwrap_or(0)];
        segment
            .file
            .read_exact_at(&mut bytes, u64::from(at.offset))?;
        let found = Records::new(&bytes, segment.salt, 0).one();
        let found = found.filter(|found| found.len == bytes.len());
        let mut found = found.ok_or(Damage::Corrupt)?;
        found.offset = usize::try_from(at.offset).unwrap_or(0);
        let position = position_of(at.segment, &found).ok_or(Damage::Corrupt)?;
        let Record::Put(put) = found.record else {
            return Err(Damage::Corrupt);
        };
        Ok(Thawed {
            put,
            place: Place { id, position },
            body: found.body.to_vec(),
        })
    }

    /// Makes a record's entry warm, with its body if that was read along and is what it should be.
    /// None: the key has another record by now.
    fn warm_up(&self, thawed: Thawed) -> Option<Arc<Entry>> {
        let Thawed { put, place, body } = thawed;
        let object = self.live.share(Arc::new(put.object()));
        let entry = Arc::new(self.entry(put.key, put.meta, object, Some(place), Arc::default()));
        {
            let index = self.index.read();
            let slot = index.slot(place.id)?;
            if slot.at() != place.position.into() {
                return None;
            }
            slot.ask(self.hours());
            self.warm.insert(entry.clone());
        }
        let object = &entry.object;
        if entry.is_packed() && object.ram.read().is_none() && Sha256::of(&body) == object.digest {
            self.promote(object, body.into());
            entry.brought.store(true, Ordering::Relaxed);
        }
        Some(entry)
    }
}

impl Put {
    /// The body that it names.
    pub(super) fn object(&self) -> Object {
        Object::new(self.digest, self.size, self.blocks.clone())
    }
}
