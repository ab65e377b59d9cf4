//! The scrub: goes through everything stored, gently, over and over.
//!
//! A round goes through the keys by number. What nobody asked for in `store.unused` is dropped
//! (`unused`).
//! Every record is read, and every file by the key that owns it; what is not what was written is
//! dropped and counted, and fetched again when somebody asks for it. What can't be read now is
//! counted and stays.

use std::sync::{Arc, Weak};
use std::time::Duration;

use modcdn_core::digest::Sha256;
use tokio::runtime::Handle;

use super::Store;
use super::index::{At, FILE_BLOCK};
use super::look::Thawed;
use super::read::Damage;
use super::slab::Id;

/// How far a round is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The number of the last key that is done.
    last: u32,
    /// The next block of the next key's file.
    block: u64,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where to go on; None: the round is over.
    pub(crate) next: Option<Round>,
    /// Bytes that it cost.
    pub(crate) bytes: u64,
}

/// Scrubs as long as the store lives.
pub(crate) async fn scrub(store: Weak<Store>, blocking: Handle) {
    let Some(config) = store.upgrade().map(|store| store.config.scrub.clone()) else {
        return;
    };
    loop {
        tokio::time::sleep(config.pause.get()).await;
        let mut round = Some(Round::default());
        while let Some(now) = round {
            let Some(store) = store.upgrade() else { return };
            let Ok(step) = blocking.spawn_blocking(move || store.scrub_step(now)).await else {
                // A panic in there, which the runtime has reported: this round is over.
                break;
            };
            round = step.next;
            let rate = config.rate.as_u64().max(1);
            tokio::time::sleep(Duration::from_micros(step.bytes * 1_000_000 / rate)).await;
        }
    }
}

impl Store {
    /// One step of a round: a record, or a block of a file. Blocks.
    pub(crate) fn scrub_step(self: &Arc<Self>, round: Round) -> Step {
        if round == Round::default() {
            self.note_visits();
        }
        let Some((id, at)) = self.key_after(round.last) else {
            self.metrics.scrub_progress.set(0);
            self.metrics.scrub_rounds.inc();
            return Step {
                next: None,
                bytes: 0,
            };
        };
        self.metrics.scrub_progress.set(i64::from(id.get()));
        let done = Round {
            last: id.get(),
            block: 0,
        };
        if round.block == 0 && self.drop_unused(id) || self.config.scrub.rate.as_u64() == 0 {
            return Step {
                next: Some(done),
                bytes: 0,
            };
        }
        let (more, bytes) = self.scrub_key(id, at, round.block);
        self.metrics.scrubbed_bytes.inc_by(bytes);
        let further = Round {
            block: round.block + 1,
            ..round
        };
        Step {
            next: Some(if more { further } else { done }),
            bytes,
        }
    }

    /// Verifies a key's record, or a block of the file that it owns: whether there are more, and
    /// how many bytes were read.
    fn scrub_key(&self, id: Id, at: At, block: u64) -> (bool, u64) {
        let record = u64::from(at.len).max(FILE_BLOCK);
        let thawed = match self.thaw(id, at) {
            Ok(thawed) => thawed,
            Err(Damage::Corrupt) => {
                self.condemn_record(id, at);
                return (false, record);
            }
            Err(Damage::Unreadable(error)) => {
                self.read_refused("record", &error);
                return (false, record);
            }
            Err(Damage::Moved) => return (false, record),
        };
        let packed = u64::from(thawed.place.position.body) == thawed.put.size;
        if packed && Sha256::of(&thawed.body) != thawed.put.digest {
            self.condemn_record(id, at);
        }
        if packed || !self.index.read().owns_file(id) {
            return (false, record);
        }
        self.scrub_block(thawed, block)
    }

    fn scrub_block(&self, thawed: Thawed, block: u64) -> (bool, u64) {
        let Thawed { put, place, .. } = thawed;
        let object = self.live.share(Arc::new(put.object()));
        let entry = self.entry(put.key, put.meta, object, Some(place), Arc::default());
        let read = self.open_body(&entry).and_then(|body| body.block(block));
        match read {
            Ok(bytes) => {
                let read = bytes.len() as u64;
                let done = block * super::entry::BLOCK + read;
                (done < entry.object.size, read)
            }
            Err(Damage::Corrupt) => {
                self.condemn(&entry);
                (false, FILE_BLOCK)
            }
            Err(Damage::Unreadable(error)) => {
                self.unreadable(&entry, &error);
                (false, FILE_BLOCK)
            }
            Err(Damage::Moved) => (false, FILE_BLOCK),
        }
    }
}
