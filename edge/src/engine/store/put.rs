//! Every change of the index: answers come, are confirmed, are evicted, are condemned.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::entry::{Entry, Headers, Meta, Object, Place, Position};
use super::index::{At, FILE_BLOCK, Left};
use super::objects::Spool;
use super::record::{Put, Record};
use super::restore::file_of;
use super::slab::Id;
use super::{Arrival, ENTRY_COST, Payload, Store, Writer};
use crate::engine::clock::Millis;
use crate::engine::metrics::Tier;

/// What a record takes beside its key, fields, block digests and body, at most.
const RECORD_COST: u64 = 4096;

impl Store {
    /// Takes an answer in. Blocks.
    ///
    /// The entry that comes back answers this request in any case. Whether later ones find it:
    /// "not found"s and, while the disk takes nothing, bodies that fit are kept in RAM only; what
    /// fits nowhere is not kept.
    pub(crate) fn put(&self, arrival: Arrival) -> Arc<Entry> {
        let Arrival {
            key,
            meta,
            object,
            body,
        } = arrival;
        let bytes = body.bytes().cloned();
        let has_body = !matches!(body, Payload::Nowhere);
        if meta.is_durable() && has_body && self.admission.is_open() {
            match self.put_on_disk(&key, &meta, &object, body) {
                Ok(Some(entry)) => {
                    if let Some(bytes) = bytes.filter(|_| self.holds(&entry)) {
                        self.promote(&entry.object, bytes);
                    }
                    return entry;
                }
                Ok(None) => {}
                Err(error) => self.admission.failed(&error),
            }
        }
        self.put_loose(key, meta, object, bytes)
    }

    /// Notes that the origin confirmed an answer, having been asked when `epoch` was the newest
    /// purge; the answer has these fields now. One that was purged meanwhile answers who is waiting
    /// and changes nothing here. Blocks.
    ///
    /// The whole record is written anew, packed body and all: a key never has two records that
    /// both count.
    pub(crate) fn refresh(
        &self,
        entry: &Arc<Entry>,
        headers: Headers,
        now: Millis,
        epoch: u64,
    ) -> Arc<Entry> {
        let meta = Meta {
            headers,
            validated: now,
            epoch,
            ..entry.meta.clone()
        };
        let Some((mut writer, current)) = self.find_and_lock(&entry.key) else {
            // Evicted meanwhile: the answer is confirmed all the same.
            return self.renewed(entry, meta, entry.place);
        };
        if self.is_banned(&entry.key, &meta) {
            return self.renewed(entry, meta, entry.place);
        }
        if current.object.digest != entry.object.digest {
            return current;
        }
        if current.place.is_some() && self.admission.is_open() {
            match self.rewrite(&mut writer, &current, &meta) {
                Ok(Some(renewed)) => {
                    self.admission.succeeded();
                    self.tidy(writer);
                    return renewed;
                }
                Ok(None) => {}
                Err(error) => self.admission.failed(&error),
            }
        }
        let renewed = self.renewed(&current, meta, current.place);
        self.warm.insert(renewed.clone());
        renewed
    }

    /// Forgets what is stored under a key, if anything is. Blocks.
    pub(crate) fn remove(&self, key: &Arc<str>) {
        let mut writer = self.writer.lock();
        let print = self.print(key);
        let id = self.index.read().find(&print);
        if let Some(id) = id {
            self.forget(&mut writer, id);
        } else if let Some(loading) = &mut writer.loading {
            loading.displaced.insert(print);
        }
        self.loose.lock().remove(key);
        self.warm.remove_loose(key);
        self.tidy(writer);
    }

    /// Drops an answer and its body for good: it is damaged. Blocks.
    pub(crate) fn condemn(&self, entry: &Entry) {
        let mut writer = self.writer.lock();
        self.condemn_locked(&mut writer, entry);
        self.tidy(writer);
    }

    /// Drops a key whose record is damaged. Blocks.
    pub(super) fn condemn_record(&self, id: Id, at: At) {
        let mut writer = self.writer.lock();
        if self.stands_at(id, at) {
            self.metrics.corrupt.inc();
            tracing::warn!(
                segment = at.segment,
                offset = at.offset,
                "damaged record dropped"
            );
            self.forget(&mut writer, id);
            self.tidy(writer);
        }
    }

    /// A key's entry, and the lock that keeps it from being moved.
    fn find_and_lock(&self, key: &str) -> Option<(MutexGuard<'_, Writer>, Arc<Entry>)> {
        loop {
            // Not under the lock: what it finds damaged it has to drop.
            let entry = self.find(key)?;
            let writer = self.writer.lock();
            let stands = |place: Place| self.stands_at(place.id, place.position.into());
            if entry.place.is_none_or(stands) {
                return Some((writer, entry));
            }
        }
    }

    /// None: there is no room for it while the index is being read.
    fn put_on_disk(
        &self,
        key: &Arc<str>,
        meta: &Meta,
        object: &Arc<Object>,
        body: Payload,
    ) -> io::Result<Option<Arc<Entry>>> {
        let packed = object.size <= self.config.packed_body.as_u64();
        let (inline, spool) = match body {
            Payload::Ram(bytes) | Payload::Spool(_, Some(bytes)) if packed => (bytes, None),
            Payload::Ram(bytes) => (Bytes::new(), Some(self.spooled(&bytes)?)),
            Payload::Spool(spool, _) => (Bytes::new(), Some(spool)),
            Payload::Nowhere => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut writer = self.writer.lock();
        if self.is_banned(key, meta) {
            let (key, meta) = (key.clone(), meta.clone());
            return Ok(Some(Arc::new(self.entry(
                key,
                meta,
                object.clone(),
                None,
                Arc::default(),
            ))));
        }
        if !writer.takes(object.size.next_multiple_of(FILE_BLOCK) + RECORD_COST) {
            return Ok(None);
        }
        let (object, is_new) = self.place(spool, object)?;
        let record = put_record(key, meta, &object);
        let position = match writer.journal.append(&record, &inline) {
            Ok(position) => position,
            Err(error) => {
                if is_new {
                    self.files.remove(&object.digest);
                }
                return Err(error);
            }
        };
        let entry = self.enlist(&mut writer, (key.clone(), meta.clone(), object), position);
        self.admission.succeeded();
        self.tidy(writer);
        Ok(entry)
    }

    /// Puts a body's file in its place, unless one is there that can be read. The object that is
    /// known by its digest from then on, and whether no key names the file yet.
    fn place(&self, spool: Option<Spool>, object: &Arc<Object>) -> io::Result<(Arc<Object>, bool)> {
        let digest = &object.digest;
        let named = self.index.read().names(digest);
        let unreadable = self.live.get(digest).is_some_and(|it| it.is_unreadable());
        let published = match spool.filter(|_| !named || unreadable) {
            Some(spool) => self.files.publish(spool, digest).map(|()| true)?,
            None => false,
        };
        // What could not be read is another from now on: who avoids it takes this.
        let object = match unreadable {
            true => self.live.renew(object.clone()),
            false => self.live.share(object.clone()),
        };
        Ok((object, published && !named))
    }

    /// Makes a record known, evicts what has to go for it.
    fn enlist(
        &self,
        writer: &mut Writer,
        (key, meta, object): (Arc<str>, Meta, Arc<Object>),
        position: Position,
    ) -> Option<Arc<Entry>> {
        let file = file_of(object.digest, object.size, position);
        let print = self.print(&key);
        let mut index = self.index.write();
        let (id, left) = index.put(print, position.into(), file, self.hours())?;
        let place = Some(Place { id, position });
        let entry = Arc::new(self.entry(key, meta, object, place, Arc::default()));
        self.warm.insert(entry.clone());
        drop(index);
        self.loose.lock().remove(&entry.key);
        writer.journal.revive(position.len);
        self.settle(writer, &left);
        self.weigh(writer, id);
        Some(entry)
    }

    /// Appends an answer's record with another meta. None: its body can't be read, or there is no room
    /// for it while the index is being read.
    fn rewrite(
        &self,
        writer: &mut Writer,
        entry: &Arc<Entry>,
        meta: &Meta,
    ) -> io::Result<Option<Arc<Entry>>> {
        let body = match entry.is_packed() {
            true => self.in_ram(entry).or_else(|| self.load(entry).ok()),
            false => Some(Bytes::new()),
        };
        let Some(body) = body else {
            return Ok(None);
        };
        if !writer.takes(body.len() as u64 + RECORD_COST) {
            return Ok(None);
        }
        let record = put_record(&entry.key, meta, &entry.object);
        let position = writer.journal.append(&record, &body)?;
        let parts = (entry.key.clone(), meta.clone(), entry.object.clone());
        Ok(self.enlist(writer, parts, position))
    }

    /// Gives a key its weight in the disk tier, evicts what has to go for it. A file that an evicted
    /// key owned is another key's from then on, which weighs more for it: in turn, not in depth.
    pub(super) fn weigh(&self, writer: &mut Writer, id: Id) {
        if writer.loading.is_some() {
            return;
        }
        writer.unweighed.push(id);
        if writer.weighing {
            return;
        }
        writer.weighing = true;
        let mut evicted = Vec::new();
        while let Some(id) = writer.unweighed.pop() {
            let weight = self.index.read().weight(id);
            self.drop_unused_for(writer, id, weight);
            self.set_weight(writer, id, &mut evicted);
            for number in evicted.drain(..) {
                self.metrics.evicted(Tier::Disk);
                if let Some(id) = Id::of(number) {
                    self.forget(writer, id);
                }
            }
        }
        writer.weighing = false;
    }

    fn set_weight(&self, writer: &mut Writer, id: Id, evicted: &mut Vec<u32>) {
        let index = self.index.read();
        let Some(slot) = index.slot(id) else { return };
        let weight = index.weight(id);
        let disk = &mut writer.disk;
        if disk.contains(id.get()) {
            disk.reweigh(id.get(), weight, evicted);
        } else {
            disk.insert(id.get(), slot.print.half(), weight, evicted);
        }
    }

    /// Removes a key from the index and the journal. Each of them frees what it alone held; a file
    /// that other keys name is theirs from then on.
    pub(super) fn forget(&self, writer: &mut Writer, id: Id) {
        let mut index = self.index.write();
        let print = index.slot(id).map(|slot| slot.print);
        let Some((left, print)) = index.remove(id).zip(print) else {
            return;
        };
        self.warm.remove(id);
        drop(index);
        writer.disk.remove(id.get());
        if let Some(loading) = &mut writer.loading {
            loading.gone.insert(print);
        }
        if let Some(At {
            segment, offset, ..
        }) = left.at
        {
            // Lost, it brings back an answer that is old but true, or whose body is found missing.
            let record = Record::Drop { segment, offset };
            if let Err(error) = writer.journal.append(&record, b"") {
                self.admission.failed(&error);
            }
        }
        self.settle(writer, &left);
    }

    /// Gives back what a key held before.
    pub(super) fn settle(&self, writer: &mut Writer, left: &Left) {
        if let Some(at) = left.at {
            writer.journal.bury(at.len);
        }
        if let Some(digest) = &left.file {
            self.files.remove(digest);
            if let Some(object) = self.live.get(digest) {
                self.demote(&object);
            }
        }
        if let Some(heir) = left.heir {
            self.weigh(writer, heir);
        }
    }

    pub(super) fn condemn_locked(&self, writer: &mut Writer, entry: &Entry) {
        let Some(place) = entry.place else { return };
        let object = &entry.object;
        let keys = if entry.is_packed() {
            let stands = self.stands_at(place.id, place.position.into());
            stands.then_some(place.id).into_iter().collect()
        } else if object.damaged.swap(true, Ordering::Relaxed) {
            // By another reader of it.
            return;
        } else {
            self.demote(object);
            self.index.read().naming(&object.digest)
        };
        if keys.is_empty() {
            // Evicted or replaced while it was read: that it is gone is no damage.
            return;
        }
        self.metrics.corrupt.inc();
        let (digest, keys_dropped) = (&object.digest, keys.len());
        tracing::warn!(key = %entry.key, %digest, keys_dropped, "damaged object dropped");
        for id in keys {
            self.forget(writer, id);
        }
    }

    pub(super) fn stands_at(&self, id: Id, at: At) -> bool {
        self.index
            .read()
            .slot(id)
            .is_some_and(|slot| slot.at() == at)
    }

    /// Takes an answer into RAM only, or, if it fits nowhere, describes it.
    fn put_loose(
        &self,
        key: Arc<str>,
        meta: Meta,
        object: Arc<Object>,
        bytes: Option<Bytes>,
    ) -> Arc<Entry> {
        let fits = object.size <= self.config.ram_body.as_u64() && bytes.is_some();
        let weight = object.size + ENTRY_COST;
        *object.ram.write() = bytes;
        let entry = Arc::new(self.entry(key, meta, object, None, Arc::default()));
        if !fits {
            return entry;
        }
        let mut writer = self.writer.lock();
        if self.is_banned(&entry.key, &entry.meta) {
            return entry;
        }
        // The old answer's record must go: it would come back after a restart.
        let print = self.print(&entry.key);
        let old = self.index.read().find(&print);
        if let Some(old) = old {
            self.forget(&mut writer, old);
        } else if let Some(loading) = &mut writer.loading {
            loading.displaced.insert(print);
        }
        self.warm.insert(entry.clone());
        let visits = entry.visits.clone();
        let evicted = self.loose.lock().insert(entry.key.clone(), visits, weight);
        for (key, _) in evicted {
            self.metrics.evicted(Tier::Loose);
            self.warm.remove_loose(&key);
        }
        self.tidy(writer);
        entry
    }

    fn spooled(&self, bytes: &Bytes) -> io::Result<Spool> {
        let spool = self.files.spool()?;
        spool.write_at(bytes, 0)?;
        Ok(spool)
    }
}

/// The journal's record of an answer.
pub(super) fn put_record(key: &Arc<str>, meta: &Meta, object: &Object) -> Record {
    Record::Put(Put {
        key: key.clone(),
        meta: meta.clone(),
        digest: object.digest,
        size: object.size,
        blocks: object.blocks().clone(),
    })
}
