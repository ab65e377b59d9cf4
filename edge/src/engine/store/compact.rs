//! Giving up the journal's oldest segment: what is still true in it is appended anew.
//!
//! An answer that was purged softly moves with the purge: that is written down before it in the
//! segment that it goes to, so that whoever reads the journal, newest segment first, knows of the
//! purge when he meets the answer. Costs a purge's record a segment, not one an answer.

use std::collections::{BTreeMap, HashMap};
use std::io;

use modcdn_core::digest::Sha256;
use parking_lot::MutexGuard;

use super::entry::Place;
use super::index::At;
use super::journal::position_of;
use super::record::{Found, Put, Record, Records};
use super::slab::Id;
use super::{Store, Writer};
use crate::engine::purge::bans::Ban;
use crate::engine::purge::{Mode, Subject};

/// Purges that move with the answers that they concern, while a segment is given up.
#[derive(Default)]
struct Copies {
    /// All that are held, by number; read when the first is needed.
    held: Option<BTreeMap<u64, Ban>>,
    /// The segment that a purge was last written to.
    written: HashMap<u64, u32>,
}

impl Store {
    /// Ends a change of the index: gives up segments until none is worn. Others who want to change
    /// something come in between; who took the room waits for all of it. Mostly that is one segment in
    /// many commits, but one long body may take the place of a hundred thousand records. Blocks.
    pub(super) fn tidy(&self, mut writer: MutexGuard<'_, Writer>) {
        // Purges that are held are in no share of dead bytes: with very many of them in a small store
        // no round would be the last.
        let mut left = writer.journal.segments().len();
        while left > 0 && self.compact(&mut writer) {
            left -= 1;
            MutexGuard::bump(&mut writer);
        }
        self.gauge(&writer);
    }

    /// Gives up the oldest segment if it is worn: whether it was.
    fn compact(&self, writer: &mut Writer) -> bool {
        if writer.loading.is_some() || !self.admission.is_open() {
            return false;
        }
        let Some(oldest) = writer.journal.worn() else {
            return false;
        };
        let done = self.compact_segment(writer, oldest);
        done.inspect_err(|error| self.admission.failed(error))
            .is_ok()
    }

    fn compact_segment(&self, writer: &mut Writer, number: u32) -> io::Result<()> {
        let segment = writer.journal.file(number).ok_or(io::ErrorKind::NotFound)?;
        let read = segment.read()?;
        let first = writer.journal.next_segment();
        let mut copies = Copies::default();
        for found in Records::in_segment(&read.bytes, segment.salt) {
            match &found.record {
                Record::Put(put) => {
                    if let Some((id, at)) = self.still_true(number, put, &found) {
                        self.move_record(writer, (id, at), put, &found, &mut copies)?;
                    }
                }
                Record::Ban(ban) if self.bans.holds(ban) => {
                    writer.journal.append(&found.record, b"")?;
                }
                Record::Ban(_) | Record::Drop { .. } => {}
            }
        }
        if read.lost > 0 {
            // It must go, and won't be read better in an hour. A purge may have been among it.
            tracing::error!(
                segment = number,
                bytes = read.lost,
                "part of a journal segment can't be read"
            );
            for ban in self.bans.all() {
                writer.journal.append(&Record::Ban(ban), b"")?;
            }
        }
        // What the index still has in there can't be read: it goes with the segment.
        self.forget_damaged(writer, number);
        writer.journal.give_up(number, first)
    }

    /// The key that stands on this very record.
    fn still_true(&self, number: u32, put: &Put, found: &Found<'_>) -> Option<(Id, At)> {
        let at = position_of(number, found)?.into();
        let index = self.index.read();
        let id = index.find(&self.print(&put.key))?;
        (index.slot(id)?.at() == at).then_some((id, at))
    }

    fn move_record(
        &self,
        writer: &mut Writer,
        (id, at): (Id, At),
        put: &Put,
        found: &Found<'_>,
        copies: &mut Copies,
    ) -> io::Result<()> {
        let is_packed = found.body.len() as u64 == put.size;
        if is_packed && Sha256::of(found.body) != put.digest {
            self.metrics.corrupt.inc();
            tracing::warn!(key = %put.key, digest = %put.digest, "damaged object dropped");
            self.forget(writer, id);
            return Ok(());
        }
        match self.purged_record(put) {
            Some(Mode::Hard) => {
                self.forget(writer, id);
                self.metrics.purged_entries.inc();
                return Ok(());
            }
            Some(Mode::Soft) => self.move_purge(writer, put, copies)?,
            None => {}
        }
        let position = writer.journal.append(&found.record, found.body)?;
        writer.journal.bury(at.len);
        writer.journal.revive(position.len);
        let mut index = self.index.write();
        index.move_to(id, position.into());
        if let Some(entry) = self.warm.by_id(id) {
            let place = Some(Place { id, position });
            self.warm
                .insert(self.renewed(&entry, entry.meta.clone(), place));
        }
        Ok(())
    }

    /// Has the purge that made an answer stale in the segment to which the answer goes.
    fn move_purge(&self, writer: &mut Writer, put: &Put, copies: &mut Copies) -> io::Result<()> {
        let subject = Subject::new(&put.key, put.meta.headers.tags());
        let concerning = self.bans.concerning(&subject, put.meta.epoch);
        // The newest one is enough: it is held as long as the answer isn't confirmed.
        let Some(number) = concerning.into_iter().max() else {
            return Ok(());
        };
        let by_number = || self.bans.all().into_iter().map(|ban| (ban.epoch, ban));
        let held = copies.held.get_or_insert_with(|| by_number().collect());
        let Some(ban) = held.get(&number) else {
            return Ok(());
        };
        // Twice where it fills a segment up: a new one has room for it and more.
        while copies.written.get(&number) != Some(&writer.journal.next_segment()) {
            let record = Record::Ban(ban.clone());
            let position = writer.journal.append(&record, b"")?;
            copies.written.insert(number, position.segment);
        }
        Ok(())
    }

    fn forget_damaged(&self, writer: &mut Writer, number: u32) {
        let lies_there = |(id, at): (Id, At)| (at.segment == number).then_some(id);
        let lost: Vec<Id> = {
            let index = self.index.read();
            let slots = index.slots().map(|(id, slot)| (id, slot.at()));
            slots.filter_map(lies_there).collect()
        };
        for id in lost {
            self.metrics.corrupt.inc();
            self.forget(writer, id);
        }
    }
}
