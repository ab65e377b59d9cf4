//! Purges in the store: written to the journal, judged at each look-up, carried out at leisure.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::entry::{Entry, Meta, Object, Position};
use super::record::Record;
use super::{Store, Writer};
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

    /// Makes a purge true: for look-ups at once, also if the disk hangs.
    ///
    /// # Errors
    /// There is no room for it, not even after those that are over have been retired. Blocks then.
    pub(crate) fn ban(&self, purge: Purge) -> Result<Ban, Full> {
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
        let saved = self.append_ban(&mut writer, ban);
        let newest = writer.journal.newest();
        drop(writer);
        let saved = saved.and_then(|()| newest.map_or(Ok(()), |newest| newest.sync_data()));
        saved.inspect_err(|error| self.admission.failed(error))
    }

    /// Drops what purges took away and retires those that are over, unless that is done already.
    /// Blocks.
    pub(crate) fn carry_out_purges(&self) {
        if !self.walk.due.swap(true, Ordering::AcqRel) {
            self.walk();
        }
    }

    fn walk(&self) {
        let _alone = self.walk.walking.lock();
        self.walk.due.store(false, Ordering::Release);
        let upto = self.bans.newest();
        for key in self
            .index
            .keys(|entry| self.purged(entry) == Some(Mode::Hard))
        {
            // One at a time: commits don't wait for all of it.
            self.drop_if_purged(&mut self.writer.lock(), &key);
        }
        self.bans.retire(upto, &self.concerning_stored());
        self.gauge_bans();
    }

    /// The numbers of the purges that concern something in the index.
    fn concerning_stored(&self) -> BTreeSet<u64> {
        let keys = self.index.keys(|entry| self.purged(entry).is_some());
        let entries = keys.iter().filter_map(|key| self.index.get(key));
        let numbers = entries.flat_map(|entry| {
            let epoch = entry.meta.epoch;
            self.bans.concerning(&entry.subject(), epoch)
        });
        numbers.collect()
    }

    pub(super) fn drop_if_purged(&self, writer: &mut Writer, key: &Arc<str>) {
        let is_purged = |entry: &Arc<Entry>| self.purged(entry) == Some(Mode::Hard);
        if self.forget(writer, key, is_purged) {
            self.metrics.purged_entries.inc();
            self.gauge(writer);
        }
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

    /// An answer that is described and not kept.
    pub(super) fn unkept(&self, key: Arc<str>, meta: Meta, object: Arc<Object>) -> Arc<Entry> {
        Arc::new(self.entry(key, meta, object, None, Arc::default()))
    }

    pub(super) fn restore_bans(&self, bans: &[(Ban, Position)]) {
        let mut writer = self.writer.lock();
        for (ban, position) in bans {
            self.bans.restore(ban);
            writer.journal.revive(*position);
        }
        self.gauge_bans();
    }

    /// Appends a purge anew, if it still matters, before its segment is given up.
    pub(super) fn move_ban(
        &self,
        writer: &mut Writer,
        ban: &Ban,
        position: Option<Position>,
    ) -> io::Result<()> {
        if self.bans.holds(ban) {
            self.append_ban(writer, ban)?;
        }
        if let Some(position) = position {
            writer.journal.bury(position);
        }
        Ok(())
    }

    fn append_ban(&self, writer: &mut Writer, ban: &Ban) -> io::Result<()> {
        let position = writer.journal.append(&Record::Ban(ban.clone()), b"")?;
        writer.journal.revive(position);
        Ok(())
    }

    fn gauge_bans(&self) {
        let held = i64::try_from(self.bans.len()).unwrap_or(i64::MAX);
        self.metrics.purges_held.set(held);
    }
}
