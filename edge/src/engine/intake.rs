//! Where a fill's bytes go: hashed block by block, kept in RAM while that is cheap, spooled.
//!
//! A short body stays in RAM until it is complete. A longer one goes to a spool file, block by
//! block, and stays in RAM as well only as long as there is [`Memory`] left for it. If the disk
//! refuses a write, what follows stays in RAM; if there is no RAM either, the fill fails. A body that
//! begins while the disk takes nothing has the RAM for all of it set aside.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use modcdn_core::digest::Sha256;
use modcdn_core::refusal::Reason;

use super::growing::Growing;
use super::memory::{Held, Memory};
use super::store::entry::{BLOCK, BodyHasher, Object};
use super::store::{Payload, Spool, Store};

/// Bodies up to this length are not spooled while they arrive: four blocks.
const SPOOLED_FROM: u64 = 4 * BLOCK;

/// The writing side of a [`Growing`].
pub(super) struct Intake {
    growing: Arc<Growing>,
    store: Arc<Store>,
    memory: Arc<Memory>,
    blocking: Handle,
    hasher: BodyHasher,
    digests: Vec<Sha256>,
    /// Bytes taken.
    len: u64,
    /// Of these, bytes in sealed blocks.
    sealed: u64,
    disk: Disk,
    /// Memory set aside for this body.
    held: Option<Held>,
}

enum Disk {
    /// The body is still short, or the disk took nothing when it became long.
    Unused,
    /// All sealed blocks are in the file.
    Spooling(Arc<Spool>),
    /// The disk refused one. Those before it can still be read.
    Refused,
}

impl Intake {
    pub(super) fn new(
        growing: Arc<Growing>,
        store: Arc<Store>,
        memory: Arc<Memory>,
        blocking: Handle,
    ) -> Self {
        Self {
            growing,
            store,
            memory,
            blocking,
            hasher: BodyHasher::new(),
            digests: Vec::new(),
            len: 0,
            sealed: 0,
            disk: Disk::Unused,
            held: None,
        }
    }

    /// Uses what was set aside for the body first.
    pub(super) fn with_held(self, held: Option<Held>) -> Self {
        Self { held, ..self }
    }

    /// Bytes taken so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// [`Reason::Store`]: there is no room for it anywhere.
    pub(super) async fn take(&mut self, mut piece: Bytes) -> Result<(), Reason> {
        while !piece.is_empty() {
            let room = usize::try_from(BLOCK - (self.len - self.sealed)).unwrap_or(0);
            let part = piece.split_to(room.min(piece.len()));
            self.len += part.len() as u64;
            self.growing.push(part);
            if self.len - self.sealed == BLOCK {
                self.seal().await?;
            }
        }
        Ok(())
    }

    /// The finished body. Nothing is stored yet.
    ///
    /// # Errors
    /// As [`Intake::take`].
    pub(super) async fn finish(mut self, ram_body: u64) -> Result<Finished, Reason> {
        if self.len > self.sealed {
            self.seal().await?;
        }
        let short = self.len <= ram_body.max(SPOOLED_FROM);
        let blocks = if short { self.growing.in_ram() } else { None };
        let whole = blocks.map(|blocks| join(&blocks));
        let payload = match (self.disk, &whole) {
            (Disk::Spooling(spool), whole) => {
                let spool = Arc::into_inner(spool).ok_or(Reason::Internal)?;
                Payload::Spool(spool, whole.clone())
            }
            (_, Some(whole)) => Payload::Ram(whole.clone()),
            (_, None) => Payload::Nowhere,
        };
        let object = Arc::new(self.hasher.finish());
        Ok(Finished {
            object,
            digests: self.digests,
            payload,
            whole,
        })
    }

    /// Seals the tail as a block, in RAM or in the spool or both.
    async fn seal(&mut self) -> Result<(), Reason> {
        let block = self.growing.tail();
        let digest = self.hasher.block(&block);
        let begin = self.sealed;
        self.sealed = self.len;
        self.digests.push(digest);
        let size = block.len() as u64;
        if self.len <= SPOOLED_FROM {
            if !self.draw(size) {
                self.memory.reserve(size);
            }
            self.growing.seal(block);
            return Ok(());
        }
        let spooled = self.spool(block.clone(), begin).await;
        if self.draw(size) || self.memory.try_reserve(size) {
            self.growing.seal(block);
        } else if spooled {
            self.growing.seal_spooled(digest);
        } else {
            return Err(Reason::Store);
        }
        Ok(())
    }

    fn draw(&mut self, size: u64) -> bool {
        self.held.as_mut().is_some_and(|held| held.draw(size))
    }

    /// Writes a block to the spool; false if the disk takes nothing.
    async fn spool(&mut self, block: Bytes, begin: u64) -> bool {
        let spool = match &self.disk {
            Disk::Spooling(spool) => Some(spool.clone()),
            Disk::Unused if self.store.is_admitting() => None,
            Disk::Unused => {
                self.disk = Disk::Refused;
                return false;
            }
            Disk::Refused => return false,
        };
        let earlier = if spool.is_none() {
            self.growing.in_ram()
        } else {
            None
        };
        let store = self.store.clone();
        let written = self.blocking.spawn_blocking(move || {
            let spool = spool.map_or_else(|| begin_spool(&store, earlier.as_deref()), Ok)?;
            spool
                .write_at(&block, begin)
                .inspect_err(|error| store.write_failed(error))?;
            Ok::<_, std::io::Error>(spool)
        });
        match written.await {
            Ok(Ok(spool)) => {
                self.growing.spool_is(spool.file());
                self.disk = Disk::Spooling(spool);
                true
            }
            Ok(Err(_)) | Err(_) => {
                self.disk = Disk::Refused;
                false
            }
        }
    }
}

/// A body that is all there.
pub(super) struct Finished {
    /// Its digests and length.
    pub(super) object: Arc<Object>,
    /// Of each block, also where there is only one.
    pub(super) digests: Vec<Sha256>,
    /// Where its bytes are.
    pub(super) payload: Payload,
    /// The bytes, if they are in RAM and short enough to stay there.
    pub(super) whole: Option<Bytes>,
}

/// A spool with the blocks that came before it was needed.
fn begin_spool(store: &Store, earlier: Option<&[Bytes]>) -> std::io::Result<Arc<Spool>> {
    let spool = store.spool()?;
    let mut at = 0;
    for block in earlier.unwrap_or_default() {
        spool
            .write_at(block, at)
            .inspect_err(|error| store.write_failed(error))?;
        at += block.len() as u64;
    }
    Ok(Arc::new(spool))
}

fn join(blocks: &[Bytes]) -> Bytes {
    match blocks {
        [one] => one.clone(),
        blocks => blocks.concat().into(),
    }
}
