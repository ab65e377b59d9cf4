//! A zip that is scanned while it comes in.
//!
//! The scan is a task beside the fetch: it reads behind the writer what the kernel still has in
//! memory. So when the last byte is there, almost all of a check is done, and the fetch itself never
//! waited for it. Steps of all scans share the processors with checks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::archive::Scan;
use crate::disk;
use crate::store::spool::{Progress, Spool};

/// How much is scanned at once, at most: a tenth of a second's work.
const STEP: u64 = 4 << 20;

/// How much is read at once.
const BUFFER: usize = 64 << 10;

/// A scan under way. Dropped, it ends.
pub(super) struct Following {
    whole: watch::Sender<bool>,
    task: JoinHandle<Option<Scan>>,
}

impl Following {
    /// Scans what is written to a spool.
    pub(super) fn start(spool: &Spool, scan: Scan, processors: Arc<Semaphore>) -> Self {
        let (whole, ended) = watch::channel(false);
        let follower = Follower {
            file: spool.file().clone(),
            progress: spool.progress(),
            ended,
            processors,
        };
        Self {
            whole,
            task: tokio::spawn(follower.run(scan)),
        }
    }

    /// The scan of all bytes, once all were written; `None` if there is none.
    pub(super) async fn finish(mut self) -> Option<Scan> {
        self.whole.send_replace(true);
        (&mut self.task).await.ok().flatten()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    /// Whether all bytes were written.
    ended: watch::Receiver<bool>,
    processors: Arc<Semaphore>,
}

/// A scan, and the memory that it reads into: made once, so that no thread of the many that take a
/// step of it keeps any.
struct Reading {
    scan: Scan,
    buffer: Box<[u8]>,
}

impl Follower {
    async fn run(mut self, scan: Scan) -> Option<Scan> {
        let mut reading = Reading {
            scan,
            buffer: vec![0; BUFFER].into(),
        };
        let mut position = 0;
        while !reading.scan.has_stopped() {
            // In this order: what is written before the end was said is seen after it.
            let ended = *self.ended.borrow_and_update();
            let written = match *self.progress.borrow_and_update() {
                Progress::Growing(written) => written,
                Progress::Committed(_) | Progress::Failed(_) => return None,
            };
            if position < written {
                let to = written.min(position + STEP);
                reading = self.step(reading, position, to).await?;
                position = to;
            } else if ended {
                break;
            } else {
                tokio::select! {
                    changed = self.progress.changed() => changed.ok()?,
                    changed = self.ended.changed() => changed.ok()?,
                }
            }
        }
        Some(reading.scan)
    }

    /// `None` if the file can't be read: whoever checks it then finds out why.
    async fn step(&self, mut reading: Reading, from: u64, to: u64) -> Option<Reading> {
        let _processor = self.processors.acquire().await.ok()?;
        let file = self.file.clone();
        let stepped = disk::blocking(move || {
            let Reading { scan, buffer } = &mut reading;
            let mut position = from;
            while position < to && !scan.has_stopped() {
                let len = buffer.len().min((to - position) as usize);
                file.read_exact_at(&mut buffer[..len], position)?;
                scan.feed(&buffer[..len]);
                position += len as u64;
            }
            Ok(reading)
        });
        stepped.await.ok()
    }
}
