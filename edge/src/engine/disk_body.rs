//! A long body sent from the disk: block by block, each verified before it is sent.
//!
//! What is in the page cache is read at once, on the thread that sends it; what isn't is read where
//! it may block, and the block after it as well while the client takes the first.
//!
//! If a block turns out to be damaged in the midst of a response, the object is dropped and fetched
//! again, and the response goes on from the new one, provided that the origin announces the same
//! digest; else it is cut off. The same if a block can't be read now, but then nothing is dropped.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;

use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Reason;

use super::growing::{Follower, Outcome};
use super::store::entry::{BLOCK, Entry};
use super::store::{Damage, StoredBody};
use super::{Engine, Joined};
use crate::exchange::{Aborted, BodyStream, FileSpan};

/// How often one read begins anew before the body is given up.
const REFETCHES: usize = 3;

/// A part of a stored body.
pub(super) struct DiskBody {
    engine: Arc<Engine>,
    /// What fetches it anew; None: damage in its midst is its end.
    request: Option<Request>,
    entry: Arc<Entry>,
    source: Source,
    at: u64,
    end: u64,
    /// Read ahead of the head, so that damage there costs the client nothing. None: it was verified
    /// before and is in memory.
    first: Option<Bytes>,
    /// The block that is being read meanwhile.
    ahead: Option<(u64, JoinHandle<Result<Bytes, Damage>>)>,
}

enum Source {
    Stored(StoredBody),
    Refetched(Follower),
}

impl DiskBody {
    /// Opens `start..end` of a body and reads the first block of it.
    ///
    /// # Errors
    /// [`Damage`].
    pub(super) async fn open(
        engine: &Arc<Engine>,
        request: Option<&Request>,
        entry: &Arc<Entry>,
        start: u64,
        end: u64,
    ) -> Result<Self, Damage> {
        let opened = engine.store.opened_body(entry);
        let ready = opened.filter(|body| body.span(start, end).is_some());
        let (body, block) = match ready {
            Some(body) => (body, None),
            None => open_and_read(engine, entry, start / BLOCK).await?,
        };
        let mut opened = Self {
            engine: engine.clone(),
            request: request.cloned(),
            entry: entry.clone(),
            source: Source::Stored(body),
            at: start,
            end,
            first: None,
            ahead: None,
        };
        opened.first = block.map(|block| opened.part(&block));
        Ok(opened)
    }

    /// What is wanted of the block that `at` lies in.
    fn part(&self, block: &Bytes) -> Bytes {
        let begin = self.at - self.at % BLOCK;
        let from = usize::try_from(self.at - begin).unwrap_or(usize::MAX);
        let to = usize::try_from(self.end - begin).unwrap_or(usize::MAX);
        block.slice(from.min(block.len())..to.min(block.len()))
    }

    async fn read(&mut self) -> Result<Bytes, Damage> {
        let Source::Stored(body) = &self.source else {
            return Err(Damage::Corrupt);
        };
        let number = self.at / BLOCK;
        let block = match self.ahead.take() {
            Some((ahead, task)) if ahead == number => {
                let read = task.await;
                read.unwrap_or_else(|error| Err(Damage::Unreadable(io::Error::other(error))))?
            }
            _ => match body.block_in_memory(number)? {
                Some(block) => return Ok(self.part(&block)),
                None => {
                    let body = body.clone();
                    self.engine.blocking(move || body.block(number)).await?
                }
            },
        };
        self.read_ahead(number + 1);
        Ok(self.part(&block))
    }

    /// Begins to read a block while the client takes the one before: that wasn't in memory either.
    fn read_ahead(&mut self, block: u64) {
        if let Source::Stored(body) = &self.source
            && block * BLOCK < self.end
        {
            let body = body.clone();
            let task = self.engine.fills.spawn_blocking(move || body.block(block));
            self.ahead = Some((block, task));
        }
    }

    /// Goes on from a body that is fetched anew.
    async fn refetch(&mut self, damage: &Damage) -> Result<(), Aborted> {
        let aborted = Aborted {
            reason: Reason::Store,
        };
        match damage {
            Damage::Unreadable(error) => self.engine.store.unreadable(&self.entry, error),
            Damage::Corrupt | Damage::Moved => self.engine.condemn(&self.entry).await,
        }
        let Some(request) = &self.request else {
            return Err(aborted);
        };
        let digest = self.entry.object.digest;
        let entry = &self.entry;
        let growing = match self.engine.join(request, &entry.key, None, Some(entry)) {
            Joined::Fill { growing, .. } => growing,
            Joined::Stored(entry) if entry.object.digest == digest => {
                let opening = (self.engine.store.clone(), entry.clone());
                let opened = self
                    .engine
                    .blocking(move || opening.0.open_body(&opening.1))
                    .await;
                self.source = Source::Stored(opened.map_err(|_| aborted)?);
                self.entry = entry;
                return Ok(());
            }
            Joined::Stored(_) | Joined::Failed(_) => return Err(aborted),
        };
        match growing.outcome().await {
            Outcome::Arriving(head) if head.digest == Some(digest) => {}
            Outcome::Complete(entry, _) if entry.object.digest == digest => {}
            _ => return Err(aborted),
        }
        let blocking = self.engine.fills.clone();
        let follower = Follower::new(growing, self.at, Some(self.end), blocking);
        self.source = Source::Refetched(follower);
        Ok(())
    }
}

async fn open_and_read(
    engine: &Arc<Engine>,
    entry: &Arc<Entry>,
    first: u64,
) -> Result<(StoredBody, Option<Bytes>), Damage> {
    let (store, entry) = (engine.store.clone(), entry.clone());
    let work = move || {
        let body = store.open_for_many(&entry)?;
        let block = match body.block_in_memory(first)? {
            Some(block) => block,
            None => body.block(first)?,
        };
        Ok((body, Some(block)))
    };
    engine.blocking(work).await
}

#[async_trait]
impl BodyStream for DiskBody {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        if let Some(first) = self.first.take() {
            self.at += first.len() as u64;
            return Ok(Some(first));
        }
        for _ in 0..REFETCHES {
            if let Source::Refetched(follower) = &mut self.source {
                return follower.next().await;
            }
            if self.at >= self.end {
                return Ok(None);
            }
            match self.read().await {
                Ok(bytes) => {
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Err(damage) => self.refetch(&damage).await?,
            }
        }
        Err(Aborted {
            reason: Reason::Store,
        })
    }

    fn lies_in_file(&self) -> bool {
        self.first.is_none() && self.ahead.is_none() && self.at < self.end
    }

    fn span(&mut self) -> Option<FileSpan> {
        match &self.source {
            Source::Stored(body) if self.lies_in_file() => body.span(self.at, self.end),
            _ => None,
        }
    }

    fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }
}
