//! The store: bodies by digest, answers by key, in RAM and on disk, each bounded in bytes.
//!
//! ```text
//! DIR/spool/      bodies that are arriving            (objects)
//! DIR/objects/    bodies by SHA-256                   (objects)
//! DIR/journal/    the index, and small bodies in it   (journal, record)
//! ```
//! In memory: the whole index (`index`, `entry`), copies of hot bodies, and who is to go (`policy`).
//!
//! Failure rules. Reading: bytes from disk are compared with their digest before anyone gets them;
//! what is damaged or missing is condemned (dropped, counted) and is a miss from then on. Writing:
//! an error is never the reader's; it stops admission for a pause (`admission`). At start: nothing
//! on disk can keep the store from opening.
//!
//! Locks, in the order they may be taken: `writer` (journal, disk policy; every change of the
//! index), `bodies`, `ram` or `loose`, an index shard. Hits take a shard and the object's own lock, both for
//! reading. Functions that touch the disk say that they block.

mod admission;
mod compact;
pub(crate) mod entry;
mod index;
mod journal;
mod objects;
pub(crate) mod policy;
mod purged;
mod read;
mod record;
mod restore;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use modcdn_core::digest::Sha256;
use parking_lot::Mutex;

use self::admission::Admission;
use self::entry::{Entry, Headers, Meta, Object, Position};
use self::index::Index;
use self::journal::{Journal, Segments};
use self::objects::Files;
use self::policy::{Keyed, Visits};
use self::purged::Walk;
use self::record::{Put, Record};
use super::clock::Millis;
use super::config::{FreshnessConfig, StoreConfig};
use super::freshness::{CacheControl, Lifetime};
use super::metrics::{EngineMetrics, Tier};
use super::purge::Mode;
use super::purge::bans::Bans;

pub(crate) use self::objects::Spool;
pub(crate) use self::read::{Damage, StoredBody};

/// What an entry costs in RAM beside its body; counted with bodies that are in RAM only.
const ENTRY_COST: u64 = 512;
/// Files take up whole blocks of the file system.
const FILE_BLOCK: u64 = 4096;

/// The store.
pub(crate) struct Store {
    config: StoreConfig,
    bounds: FreshnessConfig,
    metrics: Arc<EngineMetrics>,
    files: Files,
    segments: Segments,
    index: Index,
    bans: Arc<Bans>,
    walk: Walk,
    admission: Admission,
    writer: Mutex<Writer>,
    /// Every body on disk and how many keys name it.
    bodies: Mutex<HashMap<Sha256, Named>>,
    ram: Mutex<Keyed<Sha256, Arc<Object>>>,
    /// Keys whose entries have no position: they are in RAM and nowhere else.
    loose: Mutex<Keyed<Arc<str>, Arc<Visits>>>,
}

struct Writer {
    journal: Journal,
    disk: Keyed<Arc<str>, Arc<Visits>>,
}

struct Named {
    object: Arc<Object>,
    keys: usize,
    has_file: bool,
}

/// A finished, verified body and what came with it.
pub(crate) struct Arrival {
    /// The canonical path.
    pub(crate) key: Arc<str>,
    /// Everything but the body.
    pub(crate) meta: Meta,
    /// The body's digests.
    pub(crate) object: Arc<Object>,
    /// The body's bytes.
    pub(crate) body: Payload,
}

/// The bytes of an [`Arrival`].
pub(crate) enum Payload {
    /// In memory.
    Ram(Bytes),
    /// In the spool; with the bytes if they are also in memory.
    Spool(Spool, Option<Bytes>),
    /// The disk refused part of it: the answer can be described, not kept.
    Nowhere,
}

impl Payload {
    fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Ram(bytes) => Some(bytes),
            Self::Spool(_, bytes) => bytes.as_ref(),
            Self::Nowhere => None,
        }
    }
}

impl Store {
    /// The answer for a key, if there is one that is neither known to be damaged nor purged. One
    /// that was purged softly is there, see [`Self::is_stale`].
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Entry>> {
        let entry = self.index.get(key)?;
        entry.visits.mark();
        let usable = !entry.object.is_damaged() && self.purged(&entry) != Some(Mode::Hard);
        usable.then_some(entry)
    }

    /// The body, if it is in RAM.
    pub(crate) fn in_ram(&self, entry: &Entry) -> Option<Bytes> {
        let body = entry.object.ram.read().clone()?;
        entry.object.visits.mark();
        Some(body)
    }

    /// Whether later requests will find this answer's body.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        let held = self.index.get(&entry.key);
        held.is_some_and(|held| Arc::ptr_eq(&held.object, &entry.object))
    }

    /// Which tier answers for an entry whose body is in RAM.
    pub(crate) fn ram_tier(&self, entry: &Entry) -> Tier {
        if entry.position.is_some() {
            Tier::Ram
        } else {
            Tier::Loose
        }
    }

    /// How long an answer with these fields may be used.
    pub(crate) fn lifetime(&self, meta: &Meta) -> Lifetime {
        let control = CacheControl::parse(meta.headers.get_all(&http::header::CACHE_CONTROL));
        Lifetime::new(&control, meta.immutable, meta.status, &self.bounds)
    }

    /// Whether the disk takes anything at present.
    pub(crate) fn is_admitting(&self) -> bool {
        self.admission.is_open()
    }

    /// Why nothing is admitted, if so.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.admission.stopped()
    }

    /// Begins a body in a file. Blocks.
    ///
    /// # Errors
    /// What the disk said; admission has been stopped then.
    pub(crate) fn spool(&self) -> io::Result<Spool> {
        self.files
            .spool()
            .inspect_err(|error| self.admission.failed(error))
    }

    /// Notes that the disk refused a write.
    pub(crate) fn write_failed(&self, error: &io::Error) {
        self.admission.failed(error);
    }

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
        if meta.status == StatusCode::OK && has_body && self.admission.is_open() {
            match self.put_on_disk(&key, &meta, &object, body) {
                Ok(entry) => {
                    self.admission.succeeded();
                    if let Some(bytes) = bytes.filter(|_| self.holds(&entry)) {
                        self.promote(&entry.object, bytes);
                    }
                    return entry;
                }
                Err(error) => self.admission.failed(&error),
            }
        }
        self.put_loose(key, meta, object, bytes)
    }

    /// Notes that the origin confirmed an answer, having been asked when `epoch` was the newest
    /// purge. One that was purged meanwhile answers who is waiting and changes nothing here. Blocks.
    pub(crate) fn refresh(
        &self,
        entry: &Arc<Entry>,
        update: &Headers,
        now: Millis,
        epoch: u64,
    ) -> Arc<Entry> {
        let mut writer = self.writer.lock();
        let headers = entry.meta.headers.merged(update);
        let meta = Meta {
            headers: headers.clone(),
            validated: now,
            epoch,
            ..entry.meta.clone()
        };
        if self.is_banned(&entry.key, &meta) {
            return self.renewed(entry, meta, entry.position);
        }
        let current = match self.index.get(&entry.key) {
            Some(current) if !Arc::ptr_eq(&current.object, &entry.object) => return current,
            // The journal may have moved it meanwhile.
            Some(current) => current,
            // Evicted meanwhile: the answer is confirmed all the same.
            None => return self.renewed(entry, meta, entry.position),
        };
        let renewed = self.renewed(entry, meta, current.position);
        self.index.insert(renewed.clone());
        if entry.position.is_some() && self.admission.is_open() {
            let record = Record::Refresh {
                key: entry.key.clone(),
                validated: now,
                epoch,
                headers,
            };
            match writer.journal.append(&record, b"") {
                Ok(_) => self.admission.succeeded(),
                Err(error) => self.admission.failed(&error),
            }
        }
        self.compact(&mut writer);
        renewed
    }

    /// Drops an answer and its body for good: it is damaged. Blocks.
    pub(crate) fn condemn(&self, entry: &Entry) {
        let mut writer = self.writer.lock();
        self.condemn_locked(&mut writer, entry);
    }

    /// Writes everything through to the disk. Blocks.
    ///
    /// # Errors
    /// What the disk said.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.writer.lock().journal.sync()
    }

    fn put_on_disk(
        &self,
        key: &Arc<str>,
        meta: &Meta,
        object: &Arc<Object>,
        body: Payload,
    ) -> io::Result<Arc<Entry>> {
        let packed = object.size <= self.config.packed_body.as_u64();
        let (inline, spool) = match body {
            Payload::Ram(bytes) | Payload::Spool(_, Some(bytes)) if packed => (bytes, None),
            Payload::Ram(bytes) => (Bytes::new(), Some(self.spooled(&bytes)?)),
            Payload::Spool(spool, _) => (Bytes::new(), Some(spool)),
            Payload::Nowhere => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let has_file = spool.is_some();
        let mut writer = self.writer.lock();
        if self.is_banned(key, meta) {
            return Ok(self.unkept(key.clone(), meta.clone(), object.clone()));
        }
        let object = self.name(object, spool)?;
        let record = put_record(key, meta, &object);
        let appended = writer.journal.append(&record, &inline);
        let position = appended.inspect_err(|_| self.unname(&object))?;
        let (key, meta) = (key.clone(), meta.clone());
        let entry = Arc::new(self.entry(key, meta, object, Some(position), Arc::default()));
        self.enlist(&mut writer, &entry, position, has_file);
        self.compact(&mut writer);
        self.gauge(&writer);
        Ok(entry)
    }

    /// Makes an entry known, evicts what has to go for it.
    fn enlist(&self, writer: &mut Writer, entry: &Arc<Entry>, position: Position, has_file: bool) {
        writer.journal.revive(position);
        if let Some(old) = self.index.insert(entry.clone()) {
            self.retire(writer, &old);
        }
        let weight = weight(entry, position, has_file);
        let evicted = writer
            .disk
            .insert(entry.key.clone(), entry.visits.clone(), weight);
        for (key, _) in evicted {
            self.metrics.evicted(Tier::Disk);
            self.forget(writer, &key, |_| true);
        }
    }

    /// Removes a key's entry from the index and the journal.
    /// Whether there was one.
    fn forget(
        &self,
        writer: &mut Writer,
        key: &Arc<str>,
        doomed: impl Fn(&Arc<Entry>) -> bool,
    ) -> bool {
        let Some(entry) = self.index.remove(key, doomed) else {
            return false;
        };
        if entry.position.is_some() {
            // Lost, it brings back an answer that is old but true, or whose body is found missing.
            let record = Record::Drop { key: key.clone() };
            if let Err(error) = writer.journal.append(&record, b"") {
                self.admission.failed(&error);
            }
        }
        writer.disk.remove(key);
        self.retire(writer, &entry);
        true
    }

    /// Gives back what an entry that is no longer in the index held.
    fn retire(&self, writer: &mut Writer, entry: &Entry) {
        match entry.position {
            Some(position) => {
                writer.journal.bury(position);
                self.unname(&entry.object);
            }
            None => drop(self.loose.lock().remove(&entry.key)),
        }
    }

    fn condemn_locked(&self, writer: &mut Writer, entry: &Entry) {
        let object = &entry.object;
        let mut bodies = self.bodies.lock();
        let Some(named) = bodies.get(&object.digest) else {
            return;
        };
        if !Arc::ptr_eq(&named.object, object) {
            // Evicted or replaced while it was read: that it is gone is no damage.
            return;
        }
        let keys = named.keys;
        bodies.remove(&object.digest);
        object.damaged.store(true, Ordering::Relaxed);
        self.demote(object);
        self.files.remove(&object.digest);
        drop(bodies);
        self.metrics.corrupt.inc();
        tracing::warn!(key = %entry.key, digest = %object.digest, keys, "damaged object dropped");
        self.forget(writer, &entry.key, |current| {
            Arc::ptr_eq(&current.object, object)
        });
        if keys > 1 {
            for key in self.index.keys(|other| Arc::ptr_eq(&other.object, object)) {
                self.forget(writer, &key, |_| true);
            }
        }
    }

    /// Counts one more key for a body, and puts its file in place if it is the first.
    fn name(&self, object: &Arc<Object>, spool: Option<Spool>) -> io::Result<Arc<Object>> {
        let mut bodies = self.bodies.lock();
        if let Some(named) = bodies.get_mut(&object.digest) {
            if let Some(spool) = spool.filter(|_| !named.has_file) {
                self.files.publish(spool, &object.digest)?;
                named.has_file = true;
            }
            named.keys += 1;
            return Ok(named.object.clone());
        }
        let has_file = spool.is_some();
        if let Some(spool) = spool {
            self.files.publish(spool, &object.digest)?;
        }
        bodies.insert(
            object.digest,
            Named {
                object: object.clone(),
                keys: 1,
                has_file,
            },
        );
        Ok(object.clone())
    }

    /// Counts one key less for a body; the last one takes it along.
    fn unname(&self, object: &Arc<Object>) {
        let mut bodies = self.bodies.lock();
        let Some(named) = bodies.get_mut(&object.digest) else {
            return;
        };
        if !Arc::ptr_eq(&named.object, object) {
            return;
        }
        named.keys -= 1;
        if named.keys == 0 {
            let has_file = named.has_file;
            bodies.remove(&object.digest);
            self.demote(object);
            if has_file {
                self.files.remove(&object.digest);
            }
        }
    }

    /// Takes a body into the RAM tier, if it isn't too long for it.
    fn promote(&self, object: &Arc<Object>, bytes: Bytes) {
        if object.size > self.config.ram_body.as_u64() {
            return;
        }
        let mut ram = self.ram.lock();
        if let Some(old) = ram.remove(&object.digest) {
            *old.ram.write() = None;
        }
        *object.ram.write() = Some(bytes);
        for (_, gone) in ram.insert(object.digest, object.clone(), object.size) {
            *gone.ram.write() = None;
            self.metrics.evicted(Tier::Ram);
        }
        self.metrics.holds(Tier::Ram, ram.used());
    }

    fn demote(&self, object: &Object) {
        let mut ram = self.ram.lock();
        if let Some(old) = ram.remove(&object.digest) {
            *old.ram.write() = None;
            self.metrics.holds(Tier::Ram, ram.used());
        }
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
        // The old answer's journal entry must go: it would come back after a restart.
        self.forget(&mut writer, &entry.key, |_| true);
        self.index.insert(entry.clone());
        let visits = entry.visits.clone();
        let evicted = self.loose.lock().insert(entry.key.clone(), visits, weight);
        for (key, _) in evicted {
            self.metrics.evicted(Tier::Loose);
            self.index.remove(&key, |entry| entry.position.is_none());
        }
        self.gauge(&writer);
        entry
    }

    fn spooled(&self, bytes: &Bytes) -> io::Result<Spool> {
        let spool = self.files.spool()?;
        spool.write_at(bytes, 0)?;
        Ok(spool)
    }

    fn entry(
        &self,
        key: Arc<str>,
        meta: Meta,
        object: Arc<Object>,
        position: Option<Position>,
        visits: Arc<Visits>,
    ) -> Entry {
        let lifetime = self.lifetime(&meta);
        Entry::new(key, meta, lifetime, object, position, visits)
    }

    /// The same answer with another meta or at another place.
    fn renewed(&self, entry: &Entry, meta: Meta, position: Option<Position>) -> Arc<Entry> {
        let (key, visits) = (entry.key.clone(), entry.visits.clone());
        Arc::new(self.entry(key, meta, entry.object.clone(), position, visits))
    }

    fn gauge(&self, writer: &Writer) {
        let entries = i64::try_from(self.index.len()).unwrap_or(i64::MAX);
        self.metrics.entries.set(entries);
        self.metrics.holds(Tier::Disk, writer.disk.used());
        self.metrics.holds(Tier::Loose, self.loose.lock().used());
        let journal = i64::try_from(writer.journal.len()).unwrap_or(i64::MAX);
        self.metrics.journal_bytes.set(journal);
    }
}

/// The journal's record of an answer.
fn put_record(key: &Arc<str>, meta: &Meta, object: &Object) -> Record {
    Record::Put(Put {
        key: key.clone(),
        meta: meta.clone(),
        digest: object.digest,
        size: object.size,
        blocks: object.blocks().clone(),
    })
}

/// What an entry takes of the disk tier's bound. Records count twice, for the journal may be half
/// dead; a body that two keys name is counted for both, which errs on the safe side.
fn weight(entry: &Entry, position: Position, has_file: bool) -> u64 {
    let file = if has_file {
        entry.object.size.next_multiple_of(FILE_BLOCK)
    } else {
        0
    };
    2 * u64::from(position.len) + file
}

#[cfg(test)]
impl Store {
    /// Compares the parts with each other and with what is on disk.
    pub(crate) fn check(&self) {
        let writer = self.writer.lock();
        assert_eq!(
            writer.disk.len() + self.loose.lock().len(),
            self.index.len()
        );
        let bodies = self.bodies.lock();
        for (digest, named) in bodies.iter() {
            assert!(named.keys > 0 && !named.object.is_damaged());
            assert_eq!(self.files.path(digest).exists(), named.has_file, "{digest}");
        }
        let ram = self.ram.lock();
        let in_ram = bodies
            .values()
            .filter_map(|named| named.object.ram.read().clone());
        let in_ram: u64 = in_ram.map(|bytes| bytes.len() as u64).sum();
        assert_eq!(in_ram, ram.used());
        assert!(ram.used() <= self.config.ram.as_u64());
        assert!(self.loose.lock().used() <= self.config.loose.as_u64());
        let mut on_disk = writer.journal.len();
        self.files
            .walk(|path, _| on_disk += path.metadata().map_or(0, |data| data.len()));
        // The journal's segments are no shorter than they are here.
        let slack = 2 * 64 * 1024;
        assert!(
            on_disk <= self.config.disk.as_u64() + slack,
            "{on_disk} bytes on disk"
        );
    }
}
