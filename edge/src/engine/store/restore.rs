//! Opening the store: the journal is read into the index, the rest of the folder is tidied.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::admission::Admission;
use super::entry::{Headers, Object, Position};
use super::index::Index;
use super::journal::Journal;
use super::objects::Files;
use super::policy::Keyed;
use super::purged::Walk;
use super::record::{Found, Put, Record};
use super::{Named, Store, Writer};
use crate::engine::clock::{Clock, Millis, millis};
use crate::engine::config::{FreshnessConfig, StoreConfig};
use crate::engine::metrics::EngineMetrics;
use crate::engine::purge::bans::{Ban, Bans};

/// A segment of the journal, but never more than a sixteenth of the disk tier.
const SEGMENT: u64 = 32 << 20;

/// What is true after all records.
#[derive(Default)]
struct Replay {
    /// The last true answer of each key.
    answers: HashMap<Arc<str>, (Put, Position)>,
    bans: Vec<(Ban, Position)>,
}

impl Replay {
    fn take(&mut self, found: Found<'_>, position: Position) {
        match found.record {
            Record::Put(put) => {
                self.answers.insert(put.key.clone(), (put, position));
            }
            Record::Refresh {
                key,
                validated,
                epoch,
                headers,
            } => self.refresh(&key, validated, epoch, &headers),
            Record::Drop { key } => drop(self.answers.remove(&key)),
            Record::Ban(ban) => self.bans.push((ban, position)),
        }
    }

    fn refresh(&mut self, key: &str, validated: Millis, epoch: u64, headers: &Headers) {
        if let Some((put, _)) = self.answers.get_mut(key) {
            put.meta.validated = validated;
            put.meta.epoch = epoch;
            put.meta.headers = headers.clone();
        }
    }

    /// The answers, oldest first.
    fn into_answers(self) -> Vec<(Put, Position)> {
        let mut answers: Vec<_> = self.answers.into_values().collect();
        answers.sort_unstable_by_key(|(_, position)| (position.segment, position.offset));
        answers
    }
}

impl Store {
    /// Opens the store. Blocks.
    ///
    /// # Errors
    /// If its folders can't be made; never because of what is in them.
    pub(crate) fn open(
        config: &StoreConfig,
        bounds: &FreshnessConfig,
        bans: Bans,
        clock: Arc<Clock>,
        metrics: Arc<EngineMetrics>,
    ) -> io::Result<Self> {
        let files = Files::open(&config.dir)?;
        let disk = config.disk.as_u64();
        let segment = SEGMENT.min(disk / 16);
        let mut replay = Replay::default();
        let (journal, replayed) =
            Journal::open(config.dir.join("journal"), segment, |found, at| {
                replay.take(found, at);
            })?;
        if replayed.damage > 0 {
            tracing::warn!(
                bytes = replayed.damage,
                "damaged parts of the journal passed over"
            );
            metrics.journal_damage.inc_by(replayed.damage);
        }
        let pause = millis(config.pause.get());
        let store = Self {
            segments: journal.files(),
            // Two segments may be dead before one is given up.
            writer: Mutex::new(Writer {
                journal,
                disk: Keyed::new(disk - 2 * segment, config.keys),
            }),
            ram: Mutex::new(Keyed::new(config.ram.as_u64(), usize::MAX)),
            loose: Mutex::new(Keyed::new(config.loose.as_u64(), config.keys)),
            bodies: Mutex::default(),
            index: Index::new(),
            bans: Arc::new(bans),
            walk: Walk::default(),
            admission: Admission::new(clock, metrics.clone(), pause),
            config: config.clone(),
            bounds: bounds.clone(),
            files,
            metrics,
        };
        store.restore_bans(&replay.bans);
        store.restore(replay.into_answers());
        Ok(store)
    }

    fn restore(&self, answers: Vec<(Put, Position)>) {
        let mut writer = self.writer.lock();
        for (put, position) in answers {
            let has_file = u64::from(position.body) != put.size;
            let object = self.restore_object(&put, has_file);
            let Put { key, meta, .. } = put;
            self.bans.passed(meta.epoch);
            let entry = Arc::new(self.entry(key, meta, object, Some(position), Arc::default()));
            self.enlist(&mut writer, &entry, position, has_file);
        }
        self.compact(&mut writer);
        self.gauge(&writer);
        tracing::info!(keys = self.index.len(), "store opened");
    }

    fn restore_object(&self, put: &Put, has_file: bool) -> Arc<Object> {
        let mut bodies = self.bodies.lock();
        let named = bodies.entry(put.digest).or_insert_with(|| Named {
            object: Arc::new(Object::new(put.digest, put.size, put.blocks.clone())),
            keys: 0,
            has_file: false,
        });
        named.keys += 1;
        named.has_file |= has_file;
        named.object.clone()
    }

    /// Removes files that no key names: bodies whose record did not make it to the disk, bodies of
    /// a lost index. One walk over the objects, for the background. Blocks.
    pub(crate) fn sweep(&self) {
        let mut removed = 0_u64;
        self.files.walk(|path, digest| {
            let bodies = self.bodies.lock();
            let wanted = digest.is_some_and(|d| bodies.get(&d).is_some_and(|named| named.has_file));
            if !wanted && std::fs::remove_file(path).is_ok() {
                removed += 1;
            }
        });
        if removed > 0 {
            tracing::info!(files = removed, "objects without a key removed");
        }
    }
}
