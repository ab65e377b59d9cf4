//! Purges in the store: written to the journal, judged at each look-up, carried out at leisure.
//!
//! One that the disk refuses is in effect all the same, held until it is written down, and tried
//! again after each pause of admission.

use std::collections::BTreeSet;
use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Store;
use super::entry::{Entry, Meta};
use super::index::At;
use super::read::Damage;
use super::record::{Put, Record};
use super::slab::Id;
use crate::engine::purge::bans::{Awaited, Ban, Bans, Full};
use crate::engine::purge::{Mode, Purge, Subject};

/// Who walks through the index, and whether anybody should.
#[derive(Default)]
pub(super) struct Walk {
    /// A purge was added since the last walk began.
    due: AtomicBool,
    /// One at a time.
    walking: Mutex<()>,
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
        let try_once = move || {
            if trying.write_down().is_ok() {
                // They were held for this.
                trying.carry_out_purges();
            }
        };
        // What went wrong is in the metrics and the log; so is a panic in there.
        let _ = blocking.spawn_blocking(try_once).await;
        if store.unwritten.end(store.admission.is_retired()) {
            return;
        }
    }
}

impl Store {
    /// Notes that an answer is asked for now.
    pub(crate) fn awaited(&self) -> Awaited {
        self.bans.awaited()
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
            self.walk();
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

    /// Drops what purges took away and retires those that are over, unless that is done already.
    /// Blocks.
    pub(crate) fn carry_out_purges(&self) {
        if !self.walk.due.swap(true, Ordering::AcqRel) {
            self.walk();
        }
    }

    /// Reads the record of every key that isn't warm.
    fn walk(&self) {
        let _alone = self.walk.walking.lock();
        self.walk.due.store(false, Ordering::Release);
        let upto = self.bans.newest();
        let mut concerning = BTreeSet::new();
        let (mut last, mut all_read) = (0, true);
        while let Some((id, at)) = self.key_after(last) {
            let put = match self.warm.by_id(id) {
                Some(entry) => {
                    self.carry_out(id, at, &entry.subject(), entry.meta.epoch, &mut concerning);
                    last = id.get();
                    continue;
                }
                None => self.thaw(id, at).map(|thawed| thawed.put),
            };
            match put {
                Ok(put) => {
                    let subject = Subject::new(&put.key, put.meta.headers.tags());
                    self.carry_out(id, at, &subject, put.meta.epoch, &mut concerning);
                }
                // Once more, where it is now.
                Err(Damage::Moved) => continue,
                Err(Damage::Corrupt) => self.condemn_record(id, at),
                Err(Damage::Unreadable(error)) => {
                    self.read_refused("record", &error);
                    all_read = false;
                }
            }
            last = id.get();
        }
        self.drop_loose(&mut concerning);
        if all_read {
            concerning.extend(self.unwritten.numbers());
            self.bans.retire(upto, &concerning);
        }
        self.gauge(&self.writer.lock());
        self.gauge_bans();
    }

    /// The first key whose number is above `last`, and where its record lies.
    pub(super) fn key_after(&self, last: u32) -> Option<(Id, At)> {
        let index = self.index.read();
        index.after(last).map(|(id, slot)| (id, slot.at()))
    }

    fn carry_out(
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
