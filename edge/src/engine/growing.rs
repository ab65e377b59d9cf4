//! A body while it arrives: one fill writes it, any number of followers read it, all from byte 0.
//!
//! ```text
//! blocks (256 KiB each, in RAM or only in the spool file) ‖ tail (pieces as they came)
//! ```
//! A follower is an offset and a pointer: it costs the same whatever the body's size, and its pace
//! is nobody else's business.
//!
//! Promise: until the fill has committed, no follower gets the last [`WITHHELD`] bytes of *its*
//! response, be it the whole body or a range in its midst. If the fill fails, every follower's next
//! read is [`Aborted`]. What was spooled is verified again when it is read back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use modcdn_core::digest::Sha256;
use modcdn_core::refusal::{Reason, Refusal};

use super::memory::Memory;
use super::store::entry::{BLOCK, Entry, Headers, Meta};
use crate::exchange::{Aborted, BodyStream};

/// What every response keeps back until the commit. One byte would do; a whole TLS record's worth
/// costs no extra one.
pub(crate) const WITHHELD: u64 = 16 * 1024;

/// Followers look for their piece one by one: the tail has no more than this many.
const MOST_PIECES: usize = 64;

/// What a fill's waiters learn first.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A body is arriving: follow it.
    Arriving(Arc<FillHead>),
    /// It was short and is complete, verified, and stored if it could be.
    Complete(Arc<Entry>, Bytes),
    /// The origin confirmed the answer we have.
    Confirmed(Arc<Entry>),
    /// The origin's answer is an error: pass it on.
    Passed(Arc<Passed>),
    /// There is no answer.
    Refused(Arc<Refusal>),
    /// The answer is not for sharing, or can't be kept while it grows: each asks for himself.
    Relay,
}

/// The head of a body that is arriving.
#[derive(Debug)]
pub(crate) struct FillHead {
    /// Status, kept headers, times.
    pub(crate) meta: Meta,
    /// The digest, if the origin announced it.
    pub(crate) digest: Option<Sha256>,
    /// The length, if the origin announced it.
    pub(crate) size: Option<u64>,
}

/// An error of the origin, passed on as it is.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Its status.
    pub(crate) status: StatusCode,
    /// The kept headers.
    pub(crate) headers: Headers,
    /// Its text.
    pub(crate) body: Bytes,
}

/// A body that is arriving.
pub(crate) struct Growing {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    memory: Arc<Memory>,
    reserved: AtomicU64,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    blocks: Vec<Block>,
    tail: Vec<Bytes>,
    len: u64,
    /// How much of `len` the followers were woken for.
    published: u64,
    spool: Option<Arc<File>>,
    end: Option<End>,
}

enum Block {
    Ram(Bytes),
    Spooled(Sha256),
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every byte is there and right.
    Committed {
        /// The body's digest.
        digest: Sha256,
        /// The body's length.
        size: u64,
    },
    /// It never will be.
    Failed(Reason),
}

/// What a follower finds at its offset.
enum Found {
    Bytes(Bytes),
    Spooled(Spooled),
    NotYet,
    Complete,
    Failed(Reason),
}

struct Spooled {
    file: Arc<File>,
    begin: u64,
    len: u64,
    digest: Sha256,
    /// Which part of the block is wanted.
    from: usize,
    to: usize,
}

impl Growing {
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            memory,
            reserved: AtomicU64::new(0),
        }
    }

    /// Waits until it is known how to answer.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.wait(|state| state.outcome.clone()).await
    }

    /// Waits until the body has at least `len` bytes, or for its end if that comes first.
    pub(crate) async fn reaches(&self, len: u64) -> Option<End> {
        self.wait(|state| match state.end {
            Some(end) => Some(Some(end)),
            None => (state.len >= len).then_some(None),
        })
        .await
    }

    /// Waits for the end.
    pub(crate) async fn end(&self) -> End {
        self.wait(|state| state.end).await
    }

    async fn wait<T>(&self, ready: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = ready(&self.state.lock()) {
                return found;
            }
            // Fails only if the sender is gone, and the sender is ours.
            let _ = changes.changed().await;
        }
    }

    /// Tells the waiters how to answer. The first word counts.
    pub(super) fn announce(&self, outcome: Outcome) {
        self.state.lock().outcome.get_or_insert(outcome);
        self.changed.send_replace(());
    }

    pub(super) fn is_announced(&self) -> bool {
        self.state.lock().outcome.is_some()
    }

    /// Adds a piece to the tail; nobody is woken before [`Growing::publish`].
    pub(super) fn push(&self, piece: Bytes) {
        let mut state = self.state.lock();
        state.len += piece.len() as u64;
        state.tail.push(piece);
        if state.tail.len() > MOST_PIECES {
            state.tail = vec![state.tail.concat().into()];
        }
    }

    /// Wakes the followers, if there is anything new for them.
    pub(super) fn publish(&self) {
        let mut state = self.state.lock();
        if state.published < state.len {
            state.published = state.len;
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// Wakes the followers if much came since they were last woken.
    pub(super) fn publish_if_behind(&self) {
        let mut state = self.state.lock();
        let behind = state.len - state.published >= BLOCK;
        if behind {
            state.published = state.len;
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// The bytes of the tail in one piece.
    pub(super) fn tail(&self) -> Bytes {
        let state = self.state.lock();
        match state.tail.as_slice() {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }

    /// Turns the tail into a block, kept in RAM.
    pub(super) fn seal(&self, block: Bytes) {
        self.reserved
            .fetch_add(block.len() as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.tail.clear();
        state.blocks.push(Block::Ram(block));
    }

    /// Turns the tail into a block that is read from the spool.
    pub(super) fn seal_spooled(&self, digest: Sha256) {
        let mut state = self.state.lock();
        state.tail.clear();
        state.blocks.push(Block::Spooled(digest));
    }

    /// All blocks that are in RAM, from the first on. None if one isn't.
    pub(super) fn in_ram(&self) -> Option<Vec<Bytes>> {
        let state = self.state.lock();
        let bytes = |block: &Block| match block {
            Block::Ram(bytes) => Some(bytes.clone()),
            Block::Spooled(_) => None,
        };
        state.blocks.iter().map(bytes).collect()
    }

    /// Where spooled blocks are read.
    pub(super) fn spool_is(&self, file: Arc<File>) {
        self.state.lock().spool = Some(file);
    }

    /// Everything is in one piece that the RAM tier has too: the blocks become parts of it.
    pub(super) fn adopt(&self, whole: &Bytes) {
        let mut state = self.state.lock();
        let mut begin = 0;
        for block in &mut state.blocks {
            let Block::Ram(bytes) = block else { return };
            let end = begin + bytes.len();
            *bytes = whole.slice(begin..end);
            begin = end;
        }
    }

    /// Everything is in the spool: the RAM is given back.
    pub(super) fn unload(&self, digests: &[Sha256]) {
        let mut state = self.state.lock();
        for (block, digest) in state.blocks.iter_mut().zip(digests) {
            *block = Block::Spooled(*digest);
        }
        drop(state);
        self.memory
            .release(self.reserved.swap(0, Ordering::Relaxed));
    }

    /// Ends it. The first end counts.
    pub(super) fn finish(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.send_replace(());
    }

    /// Its writer is gone: ends it, unless it has ended.
    pub(super) fn abandon(&self, asked: &str) {
        if !self.is_announced() {
            let text = "the fill ended without an answer";
            let refusal = Refusal::new(Reason::Internal, asked, text);
            self.announce(Outcome::Refused(Arc::new(refusal)));
        }
        // The first end counts: this one only if there was none.
        self.finish(End::Failed(Reason::Internal));
    }

    fn look(&self, at: u64, end: Option<u64>) -> Found {
        let state = self.state.lock();
        let (stop, limit) = match state.end {
            Some(End::Failed(reason)) => return Found::Failed(reason),
            Some(End::Committed { .. }) => {
                let stop = end.unwrap_or(state.len);
                (Some(stop), stop)
            }
            None => (None, releasable(state.len, end)),
        };
        if stop.is_some_and(|stop| at >= stop) {
            return Found::Complete;
        }
        if at >= limit.min(state.len) {
            Found::NotYet
        } else {
            state.at(at, limit.min(state.len))
        }
    }
}

/// How far an uncommitted body of which `len` bytes are here may be read by a response that ends
/// at `end`; None: with the body, wherever that ends.
fn releasable(len: u64, end: Option<u64>) -> u64 {
    match end {
        Some(end) => len.min(end.saturating_sub(WITHHELD)),
        None => len.saturating_sub(WITHHELD),
    }
}

impl State {
    /// What lies at an offset below `limit`, which is at most `len`.
    fn at(&self, at: u64, limit: u64) -> Found {
        let number = usize::try_from(at / BLOCK).unwrap_or(usize::MAX);
        let begin = at - at % BLOCK;
        let from = usize::try_from(at % BLOCK).unwrap_or(0);
        let to = usize::try_from((limit - begin).min(BLOCK)).unwrap_or(0);
        match (self.blocks.get(number), &self.spool) {
            (Some(Block::Ram(bytes)), _) => Found::Bytes(bytes.slice(from..to.min(bytes.len()))),
            (Some(Block::Spooled(digest)), Some(file)) => {
                let (file, digest) = (file.clone(), *digest);
                let len = (self.len - begin).min(BLOCK);
                Found::Spooled(Spooled {
                    file,
                    begin,
                    len,
                    digest,
                    from,
                    to,
                })
            }
            (Some(Block::Spooled(_)), None) => Found::Failed(Reason::Internal),
            (None, _) => self.in_tail(from, to),
        }
    }

    fn in_tail(&self, from: usize, to: usize) -> Found {
        let mut begin = 0;
        for piece in &self.tail {
            let end = begin + piece.len();
            if from < end {
                return Found::Bytes(piece.slice(from - begin..to.min(end) - begin));
            }
            begin = end;
        }
        Found::NotYet
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.memory.release(*self.reserved.get_mut());
    }
}

/// A reader of a body that is arriving, or of a part of it.
pub(crate) struct Follower {
    growing: Arc<Growing>,
    changes: watch::Receiver<()>,
    at: u64,
    end: Option<u64>,
    blocking: Handle,
}

impl Follower {
    /// Reads from `start` to `end`; None: to the body's end. Spooled blocks are read on `blocking`.
    pub(crate) fn new(
        growing: Arc<Growing>,
        start: u64,
        end: Option<u64>,
        blocking: Handle,
    ) -> Self {
        let changes = growing.changed.subscribe();
        Self {
            growing,
            changes,
            at: start,
            end,
            blocking,
        }
    }

    fn took(&mut self, bytes: Bytes) -> Bytes {
        self.at += bytes.len() as u64;
        bytes
    }
}

#[async_trait]
impl BodyStream for Follower {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        loop {
            self.changes.mark_unchanged();
            match self.growing.look(self.at, self.end) {
                Found::Bytes(bytes) => return Ok(Some(self.took(bytes))),
                Found::Spooled(spooled) => {
                    let read = self.blocking.spawn_blocking(move || spooled.read()).await;
                    let Ok(Ok(bytes)) = read else {
                        return Err(Aborted {
                            reason: Reason::Store,
                        });
                    };
                    return Ok(Some(self.took(bytes)));
                }
                Found::Complete => return Ok(None),
                Found::Failed(reason) => return Err(Aborted { reason }),
                // Fails only if the sender is gone, and we hold its owner.
                Found::NotYet => drop(self.changes.changed().await),
            }
        }
    }
}

impl Spooled {
    fn read(&self) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(usize::try_from(self.len).unwrap_or(0));
        self.file.read_exact_at(&mut bytes, self.begin)?;
        if Sha256::of(&bytes) != self.digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(bytes.freeze().slice(self.from..self.to))
    }
}
