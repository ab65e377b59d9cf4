//! What nobody asked for in `store.unused`: the scrub drops it when it comes by, and where room is
//! needed before that it goes before anything that was asked for since.
//!
//! The index knows of each key when it was last asked for, and has no order by that. A hand goes around
//! it: for each 4 KiB that are missing one key is looked at, and some more. So of unused keys that
//! are many the first is found at once, and the last ones of a million when as many have been looked
//! at; the policy decides meanwhile. Costs no memory, and a look some 100 ns.

use super::index::{FILE_BLOCK, Slot};
use super::slab::Id;
use super::{HOUR, Store, Writer};
use crate::engine::clock::millis;

/// Keys that are looked at when room is needed, however little.
const LOOKS: u64 = 64;

impl Store {
    /// Drops a key if nobody has asked for it in a long time: whether it did. Blocks.
    pub(super) fn drop_unused(&self, id: Id) -> bool {
        let mut writer = self.writer.lock();
        let unused = self
            .index
            .read()
            .slot(id)
            .is_some_and(|slot| self.is_unused(id, slot));
        if unused {
            self.forget_unused(&mut writer, id);
            self.tidy(writer);
        }
        unused
    }

    /// Drops unused keys, as far as they are found, until a key of that weight fits.
    pub(super) fn drop_unused_for(&self, writer: &mut Writer, newcomer: Id, weight: u64) {
        let mut missing = writer.disk.missing(newcomer.get(), weight);
        let mut looks = LOOKS + missing / FILE_BLOCK;
        while missing > 0 && looks > 0 {
            if let Some(id) = self
                .next_unused(writer, &mut looks)
                .filter(|id| *id != newcomer)
            {
                self.forget_unused(writer, id);
            }
            missing = writer.disk.missing(newcomer.get(), weight);
        }
    }

    fn next_unused(&self, writer: &mut Writer, looks: &mut u64) -> Option<Id> {
        let index = self.index.read();
        while *looks > 0 {
            *looks -= 1;
            let Some((id, slot)) = index.after(writer.hand) else {
                writer.hand = 0;
                continue;
            };
            writer.hand = id.get();
            if self.is_unused(id, slot) {
                return Some(id);
            }
        }
        None
    }

    fn forget_unused(&self, writer: &mut Writer, id: Id) {
        self.forget(writer, id);
        self.metrics.unused.inc();
    }

    fn is_unused(&self, id: Id, slot: &Slot) -> bool {
        let most = millis(self.config.unused.get()) / HOUR;
        let now = self.hours();
        if most == 0 || u64::from(now.saturating_sub(slot.asked())) < most {
            return false;
        }
        // Of warm entries the index learns it when a round of the scrub begins: asked for since then.
        let asked_since = self.warm.by_id(id).is_some_and(|entry| entry.take_touch());
        if asked_since {
            slot.ask(now);
        }
        !asked_since
    }
}
