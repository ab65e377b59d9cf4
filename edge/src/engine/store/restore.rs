//! Opening the store: at once, with an empty index; then the index is read while requests come.
//!
//! After a clean stop from the snapshot, else from the journal, newest record first: so the first
//! record that turns up for a key is the true one, what is found while this goes on is never
//! something that was replaced or dropped later, and what is asked for most lately is there first.
//! What is put meanwhile lies in newer segments, and wins in the same way.
//!
//! Until the index is all there, and files that it doesn't name are gone, nothing is evicted, so only
//! little is taken in ([`ROOM_SHARE`]).

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use modcdn_core::digest::Sha256;
use parking_lot::{Condvar, Mutex, RwLock};

use super::admission::Admission;
use super::entry::Position;
use super::handles::Handles;
use super::index::{At, BodyFile, Fingerprint, Index};
use super::journal::{Extent, Journal, LEAST_SEGMENT, new_salt, position_of};
use super::live::Live;
use super::objects::Files;
use super::policy::{Keyed, Policy};
use super::purged::{Unwritten, Walk};
use super::record::{Found, Record, Records};
use super::slab::Id;
use super::warm::Warm;
use super::{Store, Writer, snapshot};
use crate::engine::clock::{Clock, millis};
use crate::engine::config::StoreConfig;
use crate::engine::freshness::Bounds;
use crate::engine::metrics::EngineMetrics;
use crate::engine::purge::bans::{Ban, Bans};

/// A segment of the journal at most, and the share of the disk tier that one may take.
const SEGMENT: u64 = 32 << 20;
const SEGMENT_SHARE: u64 = 256;
/// While the index is read, one part in so many of the disk tier is taken in.
const ROOM_SHARE: u64 = 100;
/// Records that are put into the index under one lock.
const BATCH: usize = 1024;

/// What the writer knows while the index is being read.
pub(super) struct Loading {
    /// The segments that were there.
    segments: Vec<Extent>,
    /// Keys that are in the index no more, or not on disk: older records of them don't count.
    pub(super) gone: HashSet<Fingerprint>,
    /// Of these, keys whose answer is in RAM only: their records are to be dropped.
    pub(super) displaced: HashSet<Fingerprint>,
    /// Records that were dropped, by segment and offset.
    dropped: HashSet<(u32, u32)>,
    /// Files of records that don't count: to be removed unless another key names them.
    passed_over: Vec<Sha256>,
    /// Bytes that may be taken in meanwhile.
    pub(super) room: u64,
}

/// A key and its record, as far as the index wants them.
pub(super) struct Key {
    pub(super) print: Fingerprint,
    pub(super) at: At,
    pub(super) file: Option<BodyFile>,
    /// When it was last asked for, in hours.
    pub(super) asked: u32,
}

/// A record of the journal.
enum Brief {
    Put(Key),
    Drop(u32, u32),
    Ban(Ban),
}

impl Brief {
    fn of(store: &Store, number: u32, found: &Found<'_>) -> Option<Self> {
        match &found.record {
            Record::Put(put) => {
                let position = position_of(number, found)?;
                store.bans.passed(put.meta.epoch);
                Some(Self::Put(Key {
                    print: store.print(&put.key),
                    at: position.into(),
                    file: file_of(put.digest, put.size, position),
                    // Not known any more: let it stay for a while.
                    asked: store.hours(),
                }))
            }
            Record::Drop { segment, offset } => Some(Self::Drop(*segment, *offset)),
            Record::Ban(ban) => Some(Self::Ban(ban.clone())),
        }
    }
}

/// The file that a body has, if it isn't packed into its record.
pub(super) fn file_of(digest: Sha256, size: u64, position: Position) -> Option<BodyFile> {
    (u64::from(position.body) != size).then_some(BodyFile { digest, size })
}

impl Store {
    /// Opens the store; its index is empty until [`Store::load_index`] has read it. Blocks, but
    /// not for long: nothing but the headers of the journal's segments is read.
    ///
    /// # Errors
    /// If its folders can't be made; never because of what is in them.
    pub(crate) fn open(
        config: &StoreConfig,
        bounds: Bounds,
        bans: Bans,
        clock: Arc<Clock>,
        metrics: Arc<EngineMetrics>,
    ) -> io::Result<Self> {
        let files = Files::open(&config.dir)?;
        let bytes = config.disk.as_u64();
        let segment = SEGMENT.min(bytes / SEGMENT_SHARE).max(LEAST_SEGMENT);
        let journal = Journal::open(config.dir.join("journal"), segment)?;
        // Two segments may be dead before one is given up.
        let disk = Policy::new(bytes.saturating_sub(2 * segment), config.keys);
        let pause = millis(config.pause.get());
        metrics.index_loading.set(1);
        Ok(Self {
            segments: journal.files(),
            marks: disk.marks().clone(),
            writer: Mutex::new(Writer {
                loading: Some(Loading::new(&journal, bytes / ROOM_SHARE)),
                journal,
                disk,
                unweighed: Vec::new(),
                weighing: false,
                hand: 0,
            }),
            loaded: Condvar::new(),
            secret: snapshot::secret(&config.dir).unwrap_or_else(new_salt),
            index: RwLock::new(Index::new()),
            warm: Warm::new(config.warm.as_u64()),
            live: Live::default(),
            handles: Handles::default(),
            ram: Mutex::new(Keyed::new(config.ram.as_u64(), usize::MAX)),
            loose: Mutex::new(Keyed::new(config.loose.as_u64(), config.keys)),
            bans: Arc::new(bans),
            walk: Walk::default(),
            unwritten: Unwritten::default(),
            admission: Admission::new(clock.clone(), metrics.clone(), pause),
            unread_until: AtomicU64::new(0),
            config: config.clone(),
            bounds: ArcSwap::from_pointee(bounds),
            clock,
            files,
            metrics,
        })
    }

    /// Reads the index, from the snapshot or from the journal. Requests are answered meanwhile.
    /// Blocks.
    pub(crate) fn load_index(&self) {
        let started = self.clock.now();
        let segments = match &self.writer.lock().loading {
            Some(loading) => loading.segments.clone(),
            None => return,
        };
        let clean = self.load_snapshot(&segments);
        if !clean {
            for (done, extent) in segments.iter().rev().enumerate() {
                self.replay_segment(extent);
                tracing::debug!(
                    done = done + 1,
                    of = segments.len(),
                    "journal segments read"
                );
            }
            self.sweep();
        }
        self.rank_all();
        let took_ms = self.clock.now().saturating_sub(started);
        let keys = self.index.read().len();
        tracing::info!(keys, clean, took_ms, "index read");
    }

    /// Waits until the index is all there. Blocks.
    pub(crate) fn wait_loaded(&self) {
        let mut writer = self.writer.lock();
        while writer.loading.is_some() {
            self.loaded.wait(&mut writer);
        }
    }

    fn replay_segment(&self, extent: &Extent) {
        let Some(segment) = self.segments.read().get(&extent.number).cloned() else {
            return;
        };
        let bytes = match segment.read() {
            Ok(read) => read.bytes,
            Err(error) => {
                self.metrics.read_errors.inc();
                tracing::warn!(segment = extent.number, %error, "journal segment can't be read");
                return;
            }
        };
        let mut records = Records::in_segment(&bytes, segment.salt);
        let brief = |found: Found<'_>| Brief::of(self, extent.number, &found);
        let briefs: Vec<Brief> = records.by_ref().filter_map(brief).collect();
        let damage = records.damage() as u64;
        if damage > 0 {
            self.metrics.journal_damage.inc_by(damage);
            tracing::warn!(
                segment = extent.number,
                bytes = damage,
                "damage passed over"
            );
        }
        // Before the answers that they concern, which may be asked for at once.
        for brief in &briefs {
            if let Brief::Ban(ban) = brief {
                self.bans.restore(ban);
            }
        }
        for batch in briefs.rchunks(BATCH) {
            let mut writer = self.writer.lock();
            batch
                .iter()
                .rev()
                .for_each(|brief| self.replay(&mut writer, brief));
            self.gauge(&writer);
        }
    }

    fn replay(&self, writer: &mut Writer, brief: &Brief) {
        match (brief, &mut writer.loading) {
            (Brief::Put(key), _) => self.take_in(writer, key),
            (Brief::Ban(_), _) => {}
            (Brief::Drop(segment, offset), Some(loading)) => {
                loading.dropped.insert((*segment, *offset));
            }
            (Brief::Drop(..), None) => {}
        }
    }

    /// Takes a key into the index, unless a newer record or this process has settled the matter.
    pub(super) fn take_in(&self, writer: &mut Writer, key: &Key) {
        let Some(loading) = &mut writer.loading else {
            return;
        };
        let (segment, offset) = (key.at.segment, key.at.offset);
        let displaced = loading.displaced.remove(&key.print);
        if loading.dropped.remove(&(segment, offset)) || displaced {
            loading.gone.insert(key.print);
        }
        if displaced {
            // Should it fail, an old answer comes back after the next start.
            let _ = writer
                .journal
                .append(&Record::Drop { segment, offset }, b"");
        }
        let mut index = self.index.write();
        if loading.gone.contains(&key.print) || index.find(&key.print).is_some() {
            loading.passed_over.extend(key.file.map(|file| file.digest));
            return;
        }
        if index.put(key.print, key.at, key.file, key.asked).is_some() {
            writer.journal.revive(key.at.len);
        }
    }

    /// The index is all there: now it is known what has to go.
    fn rank_all(&self) {
        let mut writer = self.writer.lock();
        let loading = writer.loading.take();
        for digest in loading.into_iter().flat_map(|loading| loading.passed_over) {
            if !self.index.read().names(&digest) {
                self.files.remove(&digest);
            }
        }
        let mut keys: Vec<(At, Id)> = {
            let index = self.index.read();
            index.slots().map(|(id, slot)| (slot.at(), id)).collect()
        };
        keys.sort_unstable();
        for (_, id) in keys {
            if self.index.read().slot(id).is_some() {
                self.weigh(&mut writer, id);
            }
        }
        self.metrics.index_loading.set(0);
        self.loaded.notify_all();
        self.tidy(writer);
        self.gauge_bans();
    }

    /// Removes files that no key names: bodies whose record did not make it to the disk, bodies of
    /// a lost index. One walk over the objects, not needed after a clean stop. Blocks.
    fn sweep(&self) {
        let mut removed = 0_u64;
        self.files.walk(|path, digest| {
            let named = || digest.is_some_and(|digest| self.index.read().names(&digest));
            if named() {
                return;
            }
            // A body is put in its place and named under this lock.
            let _writer = self.writer.lock();
            if !named() && !self.files.is_retired() && std::fs::remove_file(path).is_ok() {
                removed += 1;
            }
        });
        if removed > 0 {
            tracing::info!(files = removed, "objects without a key removed");
        }
    }
}

impl Loading {
    fn new(journal: &Journal, room: u64) -> Self {
        Self {
            segments: journal.segments(),
            gone: HashSet::new(),
            displaced: HashSet::new(),
            dropped: HashSet::new(),
            passed_over: Vec::new(),
            room,
        }
    }
}
