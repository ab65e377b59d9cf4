//! Purges in the store: written to the journal, judged at each look-up, carried out at leisure.
//!
//! One that the disk refuses is in effect all the same, held until it is written down, and tried
//! again after each pause of admission.

use std::collections::BTreeSet;
use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Store;
use super::entry::{Entry, Meta};
use super::index::{At, FILE_BLOCK};
use super::read::Damage;
use super::record::{Put, Record};
use super::slab::Id;
use crate::engine::purge::bans::{Awaited, Ban, Bans, Full};
use crate::engine::purge::{Mode, Purge, Subject};

/// How many bytes are read, and keys looked at, in one step.
const STEP: u64 = 64 * 1024;
const STEP_KEYS: usize = 1024;

/// Whether somebody walks through the index at leisure, and how fast.
#[derive(Default)]
pub(super) struct Walk {
    going: Mutex<Going>,
    /// Bytes a second; 0: any number.
    rate: AtomicU64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Going {
    #[default]
    Nobody,
    Once,
    /// A purge was added meanwhile.
    OnceMore,
}

impl Walk {
    /// Whether the caller is to walk; else whoever does will do so once more.
    fn begin(&self) -> bool {
        let mut going = self.going.lock();
        let begun = *going == Going::Nobody;
        *going = if begun { Going::Once } else { Going::OnceMore };
        begun
    }

    /// Whether the caller is to walk once more.
    fn again(&self) -> bool {
        let mut going = self.going.lock();
        let again = *going == Going::OnceMore;
        *going = if again { Going::Once } else { Going::Nobody };
        again
    }
}

/// How far a walk is.
struct Way {
    /// The newest purge when it began.
    upto: u64,
    /// The number of the last key that is done.
    last: u32,
    /// The purges that concern what was met and stays.
    concerning: BTreeSet<u64>,
    all_read: bool,
}

/// Drops what purges took away and retires those that are over, at `purge.rate`: nobody waits for it.
/// Ends at once where that goes on already, which is then done once more.
pub(crate) async fn carry_out(store: Weak<Store>, blocking: Handle) {
    if !store.upgrade().is_some_and(|store| store.walk.begin()) {
        return;
    }
    loop {
        let mut way = store.upgrade().map(|store| store.set_out());
        while let Some(mut now) = way {
            let Some(store) = store.upgrade() else { return };
            let rate = store.walk.rate.load(Ordering::Relaxed);
            let step = blocking.spawn_blocking(move || {
                let read = store.walk_on(&mut now);
                if read.is_none() {
                    store.arrive(&mut now);
                }
                (now, read)
            });
            // A panic in there, which the runtime has reported, is this walk's end.
            let Ok((now, Some(bytes))) = step.await else {
                break;
            };
            way = Some(now);
            let micros = (bytes * 1_000_000).checked_div(rate).unwrap_or(0);
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        if !store.upgrade().is_some_and(|store| store.walk.again()) {
            return;
        }
    }
}

/// Purges that are not on disk. From before they are in effect, so that none is retired without
/// having been written down.
#[derive(Default)]
pub(super) struct Unwritten(Mutex<State>);

#[derive(Default)]
struct State {
    /// Their numbers.
    numbers: BTreeSet<u64>,
    /// Somebody tries again and again.
    insisting: bool,
}

impl Unwritten {
    fn numbers(&self) -> BTreeSet<u64> {
        self.0.lock().numbers.clone()
    }

    fn written<'a>(&self, numbers: impl IntoIterator<Item = &'a u64>) {
        let unwritten = &mut self.0.lock().numbers;
        numbers.into_iter().for_each(|number| {
            unwritten.remove(number);
        });
    }

    /// Whether the caller is to try again and again.
    fn begin(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().insisting, true)
    }

    /// Whether there is nothing left to be tried.
    fn end(&self, retired: bool) -> bool {
        let mut state = self.0.lock();
        let over = retired || state.numbers.is_empty();
        state.insisting = !over;
        over
    }
}

/// Writes purges down that the disk refused: tries after each pause until it takes them. Ends at once
/// where that goes on already.
pub(crate) async fn insist(store: Weak<Store>, blocking: Handle) {
    let mine = store.upgrade().filter(|store| store.unwritten.begin());
    let Some(pause) = mine.map(|store| store.config.pause.get()) else {
        return;
    };
    loop {
        tokio::time::sleep(pause).await;
        let Some(store) = store.upgrade() else { return };
        let trying = store.clone();
        // What went wrong is in the metrics and the log; so is a panic in there.
        let _ = blocking.spawn_blocking(move || trying.write_down()).await;
        if store.unwritten.end(store.admission.is_retired()) {
            break;
        }
    }
    // They were held for this.
    carry_out(store, blocking).await;
}

impl Store {
    /// Notes that an answer is asked for now.
    pub(crate) fn awaited(&self) -> Awaited {
        self.bans.awaited()
    }

    /// How many purges are not on disk.
    pub(crate) fn purges_unwritten(&self) -> usize {
        self.unwritten.0.lock().numbers.len()
    }

    /// The purges that are held.
    pub(crate) fn bans(&self) -> &Bans {
        &self.bans
    }

    /// Whether an answer was purged softly: it is stale, whatever its age.
    pub(crate) fn is_stale(&self, entry: &Entry) -> bool {
        self.purged(entry) == Some(Mode::Soft)
    }

    /// Makes a purge true: for look-ups at once, also if the disk hangs. Blocks while the index is
    /// being read: before it is known which numbers were given out there is no higher one.
    ///
    /// # Errors
    /// There is no room for it, not even after those that are over have been retired. Blocks then.
    pub(crate) fn ban(&self, purge: Purge) -> Result<Ban, Full> {
        self.wait_loaded();
        let ban = self.add_ban(purge.clone()).or_else(|_| {
            self.carry_out_purges();
            self.add_ban(purge)
        })?;
        self.gauge_bans();
        Ok(ban)
    }

    fn add_ban(&self, purge: Purge) -> Result<Ban, Full> {
        let mut unwritten = self.unwritten.0.lock();
        let ban = self.bans.add(purge)?;
        unwritten.numbers.insert(ban.epoch);
        Ok(ban)
    }

    /// Writes a purge down, through to the disk. Blocks.
    ///
    /// # Errors
    /// What the disk said; admission has been stopped then, and [`insist`] tries again.
    pub(crate) fn persist(&self, ban: &Ban) -> io::Result<()> {
        self.persist_all(std::slice::from_ref(ban))
    }

    /// Writes down what the disk refused before. Blocks.
    ///
    /// # Errors
    /// As [`Store::persist`].
    pub(super) fn write_down(&self) -> io::Result<()> {
        let unwritten = self.unwritten.numbers();
        if unwritten.is_empty() {
            return Ok(());
        }
        let mut held = self.bans.all();
        held.retain(|ban| unwritten.contains(&ban.epoch));
        self.persist_all(&held)?;
        // Newer ones that say the same took the place of the others.
        self.unwritten.written(&unwritten);
        self.gauge_bans();
        tracing::info!(
            purges = held.len(),
            "purges that the disk had refused are written down"
        );
        Ok(())
    }

    /// What was refused is written anew, not only synced: after a failed sync the kernel takes its
    /// pages for written.
    fn persist_all(&self, bans: &[Ban]) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let first = writer.journal.next_segment();
        let mut append = |ban: &Ban| writer.journal.append(&Record::Ban(ban.clone()), b"");
        let appended = bans.iter().try_for_each(|ban| append(ban).map(drop));
        let files = writer.journal.since(first);
        drop(writer);
        let saved = appended.and_then(|()| files.iter().try_for_each(|file| file.sync_data()));
        saved.inspect_err(|error| self.admission.failed(error))?;
        self.admission.succeeded();
        self.tidy(self.writer.lock());
        self.unwritten.written(bans.iter().map(|ban| &ban.epoch));
        Ok(())
    }

    /// At most so many bytes a second are read to carry purges out from now on; 0: any number.
    pub(crate) fn set_purge_rate(&self, bytes: u64) {
        self.walk.rate.store(bytes, Ordering::Relaxed);
    }

    /// As [`carry_out`], but now and as fast as the disk is. Blocks.
    pub(crate) fn carry_out_purges(&self) {
        let mut way = self.set_out();
        while self.walk_on(&mut way).is_some() {}
        self.arrive(&mut way);
    }

    fn set_out(&self) -> Way {
        Way {
            upto: self.bans.newest(),
            last: 0,
            concerning: BTreeSet::new(),
            all_read: true,
        }
    }

    /// Goes on for a step: how many bytes were read, of the records of keys that aren't warm. None:
    /// there are no more keys. Blocks.
    fn walk_on(&self, way: &mut Way) -> Option<u64> {
        let mut bytes = 0;
        for _ in 0..STEP_KEYS {
            let (id, at) = self.key_after(way.last)?;
            if let Some(entry) = self.warm.by_id(id) {
                let epoch = entry.meta.epoch;
                self.settle_purge(id, at, &entry.subject(), epoch, &mut way.concerning);
                way.last = id.get();
                continue;
            }
            bytes += u64::from(at.len).max(FILE_BLOCK);
            match self.thaw(id, at).map(|thawed| thawed.put) {
                Ok(put) => {
                    let subject = Subject::new(&put.key, put.meta.headers.tags());
                    self.settle_purge(id, at, &subject, put.meta.epoch, &mut way.concerning);
                }
                // Once more, where it is now.
                Err(Damage::Moved) => continue,
                Err(Damage::Corrupt) => self.condemn_record(id, at),
                Err(Damage::Unreadable(error)) => {
                    self.read_refused("record", &error);
                    way.all_read = false;
                }
            }
            way.last = id.get();
            if bytes >= STEP {
                break;
            }
        }
        Some(bytes)
    }

    /// All keys were met.
    fn arrive(&self, way: &mut Way) {
        self.drop_loose(&mut way.concerning);
        if way.all_read {
            way.concerning.extend(self.unwritten.numbers());
            self.bans.retire(way.upto, &way.concerning);
        }
        self.gauge(&self.writer.lock());
        self.gauge_bans();
    }

    /// The first key whose number is above `last`, and where its record lies.
    pub(super) fn key_after(&self, last: u32) -> Option<(Id, At)> {
        let index = self.index.read();
        index.after(last).map(|(id, slot)| (id, slot.at()))
    }

    fn settle_purge(
        &self,
        id: Id,
        at: At,
        subject: &Subject<'_>,
        epoch: u64,
        concerning: &mut BTreeSet<u64>,
    ) {
        if self.bans.judge(subject, epoch) == Some(Mode::Hard) {
            // One at a time: commits don't wait for all of it.
            let mut writer = self.writer.lock();
            if self.stands_at(id, at) {
                self.forget(&mut writer, id);
                self.metrics.purged_entries.inc();
                self.tidy(writer);
                return;
            }
        }
        concerning.extend(self.bans.concerning(subject, epoch));
    }

    /// As for the keys on disk, for those that are in RAM only.
    fn drop_loose(&self, concerning: &mut BTreeSet<u64>) {
        let mut gone = Vec::new();
        self.warm.each(|entry| {
            if entry.place.is_some() {
                return;
            }
            if self.purged(entry) == Some(Mode::Hard) {
                gone.push(entry.key.clone());
            } else {
                concerning.extend(self.bans.concerning(&entry.subject(), entry.meta.epoch));
            }
        });
        for key in gone {
            let _writer = self.writer.lock();
            if self.warm.remove_loose(&key).is_some() {
                self.loose.lock().remove(&key);
                self.metrics.purged_entries.inc();
            }
        }
    }

    /// What a purge made of an answer whose record was just read.
    pub(super) fn purged_record(&self, put: &Put) -> Option<Mode> {
        let subject = Subject::new(&put.key, put.meta.headers.tags());
        self.bans.judge(&subject, put.meta.epoch)
    }

    /// What a purge made of an answer. Where none is newer than the last look this is one
    /// comparison.
    pub(super) fn purged(&self, entry: &Entry) -> Option<Mode> {
        let newest = self.bans.newest();
        if entry.is_clear_of(newest) {
            return None;
        }
        let mode = self.bans.judge(&entry.subject(), entry.meta.epoch);
        if mode.is_none() {
            entry.clear_of(newest);
        }
        mode
    }

    /// Whether an answer that has just come was purged since it was asked for. The caller holds
    /// the writer's lock: what is purged later is found in the index.
    pub(super) fn is_banned(&self, key: &str, meta: &Meta) -> bool {
        let subject = Subject::new(key, meta.headers.tags());
        self.bans.judge(&subject, meta.epoch).is_some()
    }

    pub(super) fn gauge_bans(&self) {
        let held = i64::try_from(self.bans.len()).unwrap_or(i64::MAX);
        self.metrics.purges_held.set(held);
        let unwritten = i64::try_from(self.unwritten.numbers().len()).unwrap_or(i64::MAX);
        self.metrics.purges_unwritten.set(unwritten);
    }
}
