//! The purge log: what edges must forget, in order, for all of them and for those that are away.
//!
//! - [`PurgeLog`]: the durable log. An entry is on disk before [`PurgeLog::append`] returns; edges ask
//!   for what came since the last one they know, late if need be, and miss none.
//! - `purger`: who says what is to be forgotten.
//! - `endpoint`: `GET /-/purges?since=` for edges, and `POST /-/purges` for operators.
//!
//! One file of [checked lines](crate::lines). The first says whose log it is, the others hold an entry
//! each:
//!
//! ```text
//! {"epoch":"9f86d081884c7d65","file":[131,1767225600123456789],"before":40}
//! {"seq":41,"at":1767225600,"purge":{"module":"example.com/m","mode":"hard"}}
//! ```
//!
//! The epoch is random and made with the log. Whoever knows another epoch, or an entry that this log
//! doesn't have, or one older than what is kept, is told to reset. So a log must not go back under an
//! old epoch. It gets a new one where it is new, where lines in its midst are broken, where the file isn't
//! the one that was written (`file`: its inode, and when it was made; a copy put back from a backup is
//! another file as a rule), and where a reader has seen entries that it doesn't hold.
//!
//! The origin goes by the log too: an answer that may change, and was confirmed before an entry that
//! selects it, is asked for again ([`PurgeLog::judge`]). What it stores for good stays: it can't be wrong.
//!
//! Failure rule: an entry that can't be written is an error to whoever appends it, takes no number, and is
//! shown to nobody. After a failed write the log is written anew before the next.

pub(crate) mod endpoint;
mod purger;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use modcdn_core::purge::log::{Entry, Epoch, Head, Page, Position};
use modcdn_core::purge::{Mode, Purge, Subject};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use self::purger::Purger;
use crate::config::Purges;
use crate::lines::Lines;

/// The path of the log in the store's folder.
pub(crate) const FILE: &str = ".purges/log";

/// An answer holds no more entries than these, by number and in bytes; the next one goes on.
const PAGE: usize = 1000;
const PAGE_BYTES: u64 = 1 << 20;

/// See the module.
pub struct PurgeLog(Mutex<Log>);

struct Log {
    lines: Lines,
    bounds: Bounds,
    epoch: Epoch,
    /// All entries up to this one were dropped.
    before: u64,
    entries: VecDeque<Kept>,
    /// What the entries take in the file.
    bytes: u64,
    /// The file isn't what is kept here: it must be written anew before anything is added.
    stale: bool,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    entries: usize,
    bytes: u64,
}

struct Kept {
    entry: Entry,
    bytes: u64,
}

/// The file's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Whose {
    epoch: Epoch,
    /// Inode, and when it was made, in nanoseconds; 0 where the file system doesn't say.
    file: (u64, u64),
    before: u64,
}

impl PurgeLog {
    /// Opens the log, or begins one.
    ///
    /// # Errors
    /// It can't be read or written.
    pub fn open(path: &Path, config: &Purges) -> io::Result<Self> {
        let mut found = Found::default();
        let (lines, damaged) = Lines::open(path, |text| found.take_up(text))?;
        let same_file = found.whose.map(|whose| whose.file) == Some(identity(lines.file())?);
        let mut log = Log {
            lines,
            bounds: Bounds {
                entries: config.entries,
                bytes: config.size.as_u64(),
            },
            epoch: match found.whose {
                Some(whose) => whose.epoch,
                None => random_epoch()?,
            },
            before: found.whose.map_or(0, |whose| whose.before),
            entries: VecDeque::new(),
            bytes: 0,
            stale: true,
        };
        let whole = found.whole && !damaged && same_file;
        if whole {
            for entry in found.entries {
                log.keep(entry);
            }
            log.stale = log.drop_oldest();
        } else {
            log.begin_anew(found.last())?;
        }
        log.write_anew_if_stale()?;
        Ok(Self(Mutex::new(log)))
    }

    /// Adds a purge; it is on disk when this returns. Blocks.
    ///
    /// # Errors
    /// The disk's. Then there is no such entry.
    pub fn append(&self, purge: Purge, now: SystemTime) -> io::Result<Position> {
        self.0.lock().append(purge, now)
    }

    /// What someone must hear who knows everything up to `since`. Blocks where the log turns out to
    /// have gone back.
    ///
    /// # Errors
    /// The disk's: the log went back, and can't be given a new epoch.
    pub fn since(&self, since: Option<Position>) -> io::Result<Page> {
        let mut log = self.0.lock();
        if since.is_some_and(|known| known.epoch == log.epoch && known.seq > log.last()) {
            let last = log.last();
            tracing::warn!(
                since = ?since, last,
                "a reader knows entries that the purge log doesn't have: it was put back; it gets a new epoch"
            );
            log.begin_anew(last)?;
            log.write_anew_if_stale()?;
        }
        Ok(log.page(since))
    }

    /// What became of an answer that was confirmed at that time: the hardest purge since.
    #[must_use]
    pub fn judge(&self, subject: &Subject<'_>, confirmed: SystemTime) -> Option<Mode> {
        // Entries count whole seconds, and an age that is measured isn't exact: one second too many
        // asks once more in vain, one too few would miss a purge.
        let confirmed = seconds(confirmed).saturating_sub(1);
        let log = self.0.lock();
        // The clock may have gone back: then an older entry seems newer, and is asked about in vain.
        let newer = log.entries.iter().rev().map(|kept| &kept.entry);
        let newer = newer.take_while(|entry| entry.at >= confirmed);
        let selecting = newer.filter(|entry| entry.purge.selector.selects(subject));
        selecting.map(|entry| entry.purge.mode).max()
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Position {
        let log = self.0.lock();
        Position {
            epoch: log.epoch,
            seq: log.last(),
        }
    }

    /// How many entries are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log {
    fn last(&self) -> u64 {
        self.entries
            .back()
            .map_or(self.before, |kept| kept.entry.seq)
    }

    fn append(&mut self, purge: Purge, now: SystemTime) -> io::Result<Position> {
        self.write_anew_if_stale()?;
        let entry = Entry {
            seq: self.last() + 1,
            at: seconds(now),
            purge,
        };
        if let Err(error) = self.lines.append([&*line(&entry)?], true) {
            // What of it is on disk isn't known: the next write begins with what is kept here.
            self.stale = true;
            return Err(error);
        }
        let position = Position {
            epoch: self.epoch,
            seq: entry.seq,
        };
        self.keep(entry);
        self.drop_oldest();
        if self.lines.len() > 2 * self.bounds.bytes {
            self.stale = true;
            // The entry is there; a file that is too long is a lesser evil than an error.
            if let Err(error) = self.write_anew_if_stale() {
                tracing::warn!(%error, "the purge log can't be written anew");
            }
        }
        Ok(position)
    }

    fn keep(&mut self, entry: Entry) {
        let bytes = line(&entry).map_or(0, |line| line.len() as u64);
        self.bytes += bytes;
        self.entries.push_back(Kept { entry, bytes });
    }

    /// True if there were too many. The newest always stays.
    fn drop_oldest(&mut self) -> bool {
        let before = self.before;
        while self.entries.len() > 1
            && (self.entries.len() > self.bounds.entries || self.bytes > self.bounds.bytes)
        {
            if let Some(kept) = self.entries.pop_front() {
                self.bytes -= kept.bytes;
                self.before = kept.entry.seq;
            }
        }
        self.before != before
    }

    /// Forgets all entries, under a new epoch. Numbers go on.
    fn begin_anew(&mut self, last: u64) -> io::Result<()> {
        self.epoch = random_epoch()?;
        self.entries.clear();
        self.bytes = 0;
        self.before = last;
        self.stale = true;
        Ok(())
    }

    fn write_anew_if_stale(&mut self) -> io::Result<()> {
        if !self.stale {
            return Ok(());
        }
        let (epoch, before, entries) = (self.epoch, self.before, &self.entries);
        self.lines.rewrite(|file, put| {
            let file = identity(file)?;
            put(&line(&Whose {
                epoch,
                file,
                before,
            })?)?;
            entries.iter().try_for_each(|kept| put(&line(&kept.entry)?))
        })?;
        self.stale = false;
        Ok(())
    }

    fn page(&self, since: Option<Position>) -> Page {
        let last = self.last();
        let known = since
            .filter(|known| known.epoch == self.epoch && (self.before..=last).contains(&known.seq));
        let mut head = Head {
            epoch: self.epoch,
            last,
            reset: known.is_none(),
            more: false,
        };
        let Some(known) = known else {
            let entries = Vec::new();
            return Page { head, entries };
        };
        // Numbers have no gaps, and what lies between fits into memory.
        let skip = usize::try_from(known.seq - self.before).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            let first = bytes == 0;
            bytes += kept.bytes;
            first || bytes <= PAGE_BYTES
        };
        let entries = self.entries.iter().skip(skip).take(PAGE).take_while(fits);
        let entries: Vec<Entry> = entries.map(|kept| kept.entry.clone()).collect();
        head.more = known.seq + (entries.len() as u64) < last;
        Page { head, entries }
    }
}

/// What a log's file held.
#[derive(Default)]
struct Found {
    whose: Option<Whose>,
    entries: Vec<Entry>,
    /// Nothing but what belongs there, without gaps.
    whole: bool,
    begun: bool,
}

impl Found {
    fn take_up(&mut self, text: &str) {
        if !self.begun {
            self.begun = true;
            self.whose = serde_json::from_str(text).ok();
            self.whole = self.whose.is_some();
            return;
        }
        match serde_json::from_str::<Entry>(text) {
            Ok(entry) if entry.seq == self.last() + 1 => self.entries.push(entry),
            _ => self.whole = false,
        }
    }

    fn last(&self) -> u64 {
        let before = self.whose.map_or(0, |whose| whose.before);
        self.entries.last().map_or(before, |entry| entry.seq)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    let made = metadata.created().ok();
    let made = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or(0, |made| u64::try_from(made.as_nanos()).unwrap_or(0));
    Ok((metadata.ino(), made))
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn line(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::other)
}

fn random_epoch() -> io::Result<Epoch> {
    Epoch::random().map_err(|_| io::Error::other("the system has no random numbers"))
}

#[cfg(test)]
mod tests;
