//! Purges in the store: written to the journal, judged at each look-up, carried out at leisure.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

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
        let ban = self.bans.add(purge.clone()).or_else(|_| {
            self.walk();
            self.bans.add(purge)
        })?;
        self.gauge_bans();
        Ok(ban)
    }

    /// Writes a purge down, through to the disk. Blocks.
    ///
    /// # Errors
    /// What the disk said; admission has been stopped then.
    pub(crate) fn persist(&self, ban: &Ban) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let saved = writer.journal.append(&Record::Ban(ban.clone()), b"");
        let newest = writer.journal.newest();
        drop(writer);
        let saved = saved.and_then(|_| newest.map_or(Ok(()), |newest| newest.sync_data()));
        saved.inspect_err(|error| self.admission.failed(error))
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
    }
}
