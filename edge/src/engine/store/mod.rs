//! The store: bodies by digest, answers by key, in RAM and on disk, each bounded in bytes.
//!
//! ```text
//! DIR/spool/      bodies that are arriving                     (objects)
//! DIR/objects/    bodies by SHA-256                            (objects)
//! DIR/journal/    an answer a record, small bodies in it       (journal, record)
//! DIR/index       what the index knew at the last clean stop   (snapshot)
//! ```
//! In memory: where each key's record lies (`index`), the records lately asked for (`warm`,
//! `entry`), copies of hot bodies, and who is to go (`policy`). A look-up is two steps: a
//! warm entry answers at once; else the index says that there is nothing, at once as well, or where
//! on the disk to read (`look`).
//!
//! Failure rules. Reading: bytes from disk are compared with their digest before anyone gets them;
//! what is damaged or missing is condemned (dropped, counted) and is a miss from then on. What the
//! disk can't read now may be whole and stays, but is fetched again for who asks for it, and what
//! comes takes its place: a sector that is lost costs one fetch, a disk that comes to itself none.
//! Writing: an error is never the reader's; it stops admission for a pause (`admission`). At start: nothing
//! on disk can keep the store from opening, and nothing there is waited for: what the index doesn't
//! know yet (`restore`) is a miss.
//!
//! Bounds: the journal with its dead records, the snapshot, and the files of bodies, in whole blocks
//! and each once, stay within `disk` whenever no change is under way; a change may take one segment
//! (1/256) more while it gives another up, and bodies that are arriving come on top. Of `disk`, two
//! segments of the journal (1/128) and a fifth of the journal's bytes may be taken up by dead
//! records. The same small body under many keys is packed for each; a body with a file is there once.
//!
//! Locks, in the order they may be taken: `writer` (journal, disk policy; every change of the
//! index), `index`, the warm entries' bound, `ram` or `loose`, a shard of the warm entries. Hits
//! take a shard and the object's own lock, both for reading. Functions that touch the disk say that
//! they block.

mod admission;
mod compact;
pub(crate) mod entry;
mod handles;
mod index;
mod journal;
mod live;
mod look;
mod objects;
pub(crate) mod policy;
mod purged;
mod put;
mod read;
pub(crate) mod record;
mod resident;
mod restore;
mod scrub;
mod slab;
mod snapshot;
mod unused;
mod verified;
mod warm;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use bytes::Bytes;
use modcdn_core::digest::Sha256;
use parking_lot::{Condvar, Mutex, RwLock};

use self::admission::Admission;
use self::entry::{Entry, Meta, Object, Place};
use self::handles::Handles;
use self::index::{Fingerprint, Index, Secret};
use self::journal::{Journal, Segments};
use self::live::Live;
use self::objects::Files;
use self::policy::{Keyed, Marks, Policy, Visits};
use self::purged::{Unwritten, Walk};
use self::restore::Loading;
use self::slab::Id;
use self::warm::Warm;
use super::clock::Clock;
use super::config::StoreConfig;
use super::freshness::{Bounds, Lifetime};
use super::metrics::{EngineMetrics, Tier};
use super::purge::bans::Bans;

pub(crate) use self::look::Look;
pub(crate) use self::objects::Spool;
pub(crate) use self::purged::{carry_out, insist};
pub(crate) use self::read::{Damage, StoredBody};
#[cfg(test)]
pub(crate) use self::scrub::Round;
pub(crate) use self::scrub::scrub;

/// What an object or an entry costs in RAM beside its body; counted with bodies in RAM.
const ENTRY_COST: u64 = 512;
/// Milliseconds in an hour: as exactly as the index knows when a key was asked for.
const HOUR: u64 = 3_600_000;

/// The store.
pub(crate) struct Store {
    config: StoreConfig,
    bounds: ArcSwap<Bounds>,
    metrics: Arc<EngineMetrics>,
    files: Files,
    segments: Segments,
    clock: Arc<Clock>,
    bans: Arc<Bans>,
    walk: Walk,
    unwritten: Unwritten,
    admission: Admission,
    /// The disk refused a read, and counts as unreadable until then.
    unread_until: AtomicU64,
    writer: Mutex<Writer>,
    /// Told when the index is all there.
    loaded: Condvar,
    /// What the index hashes keys with.
    secret: Secret,
    index: RwLock<Index>,
    marks: Marks,
    warm: Warm,
    live: Live,
    handles: Handles,
    ram: Mutex<Keyed<Sha256, Arc<Object>>>,
    /// Keys whose entries have no place: they are in RAM and nowhere else.
    loose: Mutex<Keyed<Arc<str>, Arc<Visits>>>,
}

struct Writer {
    journal: Journal,
    disk: Policy,
    /// Keys whose weight in the disk tier is to be set, and whether somebody does so now.
    unweighed: Vec<Id>,
    weighing: bool,
    /// The number of the key that was last looked at for whether it is unused.
    hand: u32,
    /// Some: the index isn't all there yet.
    loading: Option<Loading>,
}

impl Writer {
    /// Whether there is room for so many bytes: always, once it is known what has to go for them.
    fn takes(&mut self, bytes: u64) -> bool {
        let Some(loading) = &mut self.loading else {
            return true;
        };
        let left = loading.room.checked_sub(bytes);
        loading.room = left.unwrap_or(loading.room);
        left.is_some()
    }
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
    /// The body, if it is in RAM.
    pub(crate) fn in_ram(&self, entry: &Entry) -> Option<Bytes> {
        let body = entry.object.ram.read().clone()?;
        entry.object.visits.mark();
        Some(body)
    }

    /// Which tier answers for an entry whose body is in RAM: the disk's if it was read for that.
    pub(crate) fn ram_tier(&self, entry: &Entry) -> Tier {
        if entry.take_brought() {
            Tier::Disk
        } else if entry.place.is_some() {
            Tier::Ram
        } else {
            Tier::Loose
        }
    }

    /// How long an answer with these fields may be used.
    pub(crate) fn lifetime(&self, meta: &Meta) -> Lifetime {
        self.bounds.load().lifetime(meta)
    }

    /// Other bounds: warm entries are judged by them from now on, and so is what is read or arrives.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
        self.warm.replace(|entry| {
            let same = self.lifetime(&entry.meta) == entry.lifetime;
            (!same).then(|| self.renewed(entry, entry.meta.clone(), entry.place))
        });
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

    /// Leaves the disk to another process, for good: the index is written down for it, and nothing is
    /// written or removed after that. Blocks.
    ///
    /// # Errors
    /// What the disk said of the last writes.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        // If it fails, the purges are at least in the index that is written down below.
        let _ = self.write_down();
        self.admission.retire();
        // Under the lock that every change of the disk takes: one that is under way is finished.
        let mut writer = self.writer.lock();
        writer.journal.retire();
        self.files.retire();
        self.write_snapshot_locked(&writer)
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
        for (_, gone) in ram.insert(object.digest, object.clone(), object.size + ENTRY_COST) {
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

    fn entry(
        &self,
        key: Arc<str>,
        meta: Meta,
        object: Arc<Object>,
        place: Option<Place>,
        visits: Arc<Visits>,
    ) -> Entry {
        let lifetime = self.lifetime(&meta);
        Entry::new(key, meta, lifetime, object, place, visits)
    }

    /// The same answer with another meta or at another place.
    fn renewed(&self, entry: &Entry, meta: Meta, place: Option<Place>) -> Arc<Entry> {
        let (key, visits) = (entry.key.clone(), entry.visits.clone());
        Arc::new(self.entry(key, meta, entry.object.clone(), place, visits))
    }

    fn print(&self, key: &str) -> Fingerprint {
        Fingerprint::of(&self.secret, key)
    }

    /// The time in hours since the Unix epoch.
    fn hours(&self) -> u32 {
        u32::try_from(self.clock.now() / HOUR).unwrap_or(u32::MAX)
    }

    /// Notes in the index which warm entries were asked for.
    fn note_visits(&self) {
        let (index, now) = (self.index.read(), self.hours());
        self.warm.each(|entry| {
            let slot = entry.place.and_then(|place| index.slot(place.id));
            if let Some(slot) = slot.filter(|_| entry.take_touch()) {
                slot.ask(now);
            }
        });
    }

    fn gauge(&self, writer: &Writer) {
        let entries = self.index.read().len();
        self.metrics
            .entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.metrics.holds(Tier::Disk, writer.disk.used());
        self.metrics.holds(Tier::Loose, self.loose.lock().used());
        let journal = i64::try_from(writer.journal.len()).unwrap_or(i64::MAX);
        self.metrics.journal_bytes.set(journal);
    }
}

#[cfg(test)]
impl Store {
    /// Bytes of bodies that are in RAM: of answers with a place on disk, and of others. All that can be
    /// found, whatever the tiers believe.
    pub(crate) fn bytes_in_ram(&self) -> (u64, u64) {
        let mut bodies = std::collections::HashMap::new();
        let mut loose = 0;
        let len = |object: &Object| object.ram.read().as_ref().map_or(0, Bytes::len) as u64;
        self.warm.each(|entry| match entry.place {
            Some(_) => drop(bodies.insert(Arc::as_ptr(&entry.object), len(&entry.object))),
            None => loose += len(&entry.object),
        });
        for object in self.live.all() {
            bodies.insert(Arc::as_ptr(&object), len(&object));
        }
        (bodies.values().sum(), loose)
    }

    /// Whether a key is on disk, without asking for it.
    pub(crate) fn is_there(&self, key: &str) -> bool {
        self.index.read().find(&self.print(key)).is_some()
    }

    /// Compares the parts with each other and with what is on disk.
    pub(crate) fn check(&self) {
        self.wait_loaded();
        let writer = self.writer.lock();
        let index = self.index.read();
        assert_eq!(writer.disk.len(), index.len());
        let weights: u64 = index.slots().map(|(id, _)| index.weight(id)).sum();
        assert_eq!(writer.disk.used(), weights);
        let (mut files, mut file_bytes) = (0, 0);
        self.files.walk(|path, digest| {
            assert!(
                digest.is_some_and(|digest| index.names(&digest)),
                "{path:?}"
            );
            files += 1;
            file_bytes += path
                .metadata()
                .unwrap()
                .len()
                .next_multiple_of(index::FILE_BLOCK);
        });
        assert_eq!((files, file_bytes), index.files());
        let ram = self.ram.lock();
        assert!(ram.used() <= self.config.ram.as_u64());
        assert!(self.loose.lock().used() <= self.config.loose.as_u64());
        assert!(self.warm.used() <= self.config.warm.as_u64());
        let on_disk = writer.journal.len() + file_bytes;
        assert!(
            on_disk <= self.config.disk.as_u64(),
            "{on_disk} bytes on disk"
        );
    }
}
