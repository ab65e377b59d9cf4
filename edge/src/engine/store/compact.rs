//! Giving up the journal's oldest segment: what is still true in it is appended anew.

use std::io;
use std::sync::Arc;

use modcdn_core::digest::Sha256;

use super::entry::Entry;
use super::journal::position_of;
use super::record::{Found, Record, Records};
use super::{Store, Writer, put_record};
use crate::engine::purge::Mode;

/// A commit waits for this many segments at most.
const AT_ONCE: usize = 2;

impl Store {
    /// Gives up segments while they are worn. Blocks.
    pub(super) fn compact(&self, writer: &mut Writer) {
        for _ in 0..AT_ONCE {
            let Some(oldest) = writer.journal.worn() else {
                return;
            };
            if !self.admission.is_open() {
                return;
            }
            if let Err(error) = self.compact_segment(writer, oldest) {
                self.admission.failed(&error);
                return;
            }
        }
    }

    fn compact_segment(&self, writer: &mut Writer, number: u32) -> io::Result<()> {
        let (bytes, salt) = writer.journal.read(number)?;
        for found in Records::in_segment(&bytes, salt) {
            if let Some(entry) = self.still_true(number, &found) {
                self.move_record(writer, &entry, found.body)?;
            } else if let Record::Ban(ban) = &found.record {
                self.move_ban(writer, ban, position_of(number, &found))?;
            }
        }
        writer.journal.give_up(number)
    }

    /// The entry that stands on this very record.
    fn still_true(&self, number: u32, found: &Found<'_>) -> Option<Arc<Entry>> {
        let Record::Put(put) = &found.record else {
            return None;
        };
        let position = position_of(number, found)?;
        self.index
            .get(&put.key)
            .filter(|entry| entry.position == Some(position))
    }

    fn move_record(&self, writer: &mut Writer, entry: &Arc<Entry>, body: &[u8]) -> io::Result<()> {
        if entry.is_packed() && Sha256::of(body) != entry.object.digest {
            self.condemn_locked(writer, entry);
            return Ok(());
        }
        // Behind the purge's record it would outlive it.
        if self.purged(entry) == Some(Mode::Hard) {
            self.drop_if_purged(writer, &entry.key);
            return Ok(());
        }
        let record = put_record(&entry.key, &entry.meta, &entry.object);
        let position = writer.journal.append(&record, body)?;
        if let Some(old) = entry.position {
            writer.journal.bury(old);
        }
        writer.journal.revive(position);
        self.index
            .insert(self.renewed(entry, entry.meta.clone(), Some(position)));
        Ok(())
    }
}
