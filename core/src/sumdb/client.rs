//! A client of a checksum database, with its I/O handed in (x/mod's `sumdb.Client`).
//!
//! It keeps one thing in memory: the largest tree head that it has proven, which only advances. A
//! head that is smaller is proven to be the beginning of ours, one that is larger to begin with ours. Of
//! several lookups at once each proves its head against whichever is ours by then. What depends on
//! a head is not given out before [`Io::keep_head`] has taken that head or a larger one.
//!
//! A future of this module may be dropped at any time: nothing is half done then.
//!
//! Tiles come from the store, else from the database; where a partial one is gone, a wider one has its
//! entries. Those from the store are authenticated again each time. If they don't fit, they are fetched
//! anew before the database is accused.

mod tiles;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use self::tiles::Read;
use super::note::{NoteError, VerifierKey};
use super::record::{self, Lookup};
use super::tree::{self, Node, Plan, TreeHead, leaf_hash};
use super::{Forgery, SumError};
use crate::goproxy::{ModulePath, SumDbCall, Tile, Version};
use crate::h1::H1;

/// What the client needs of the world. Calls may come many at once.
#[async_trait]
pub trait Io: Send + Sync {
    /// Asks the database (or who passes it on). The whole answer; nothing of it is checked.
    async fn remote(&self, call: &SumDbCall) -> Result<Bytes, Remote>;

    /// A tile that was kept, exactly this one.
    async fn tile(&self, tile: &Tile) -> Option<Bytes>;

    /// One that was kept in a tile's place and is wider.
    async fn wider_tile(&self, tile: &Tile) -> Option<Bytes>;

    /// Keeps a tile: it is proven. What can't be kept is merely asked for again. Narrower ones in its
    /// place need no longer be kept, since it begins with their entries.
    async fn keep_tile(&self, tile: &Tile, bytes: &Bytes);

    /// Keeps our tree head in place of all earlier ones, durably: the next start's
    /// [`Client::resume`] gets it. A store that can't is noted by the implementation; the head then
    /// holds until the program's end.
    async fn keep_head(&self, note: &Bytes);
}

/// Why there is no answer. The texts are for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// It says that there is no such thing (404, 410).
    Absent(String),
    /// It answered with what can't be an answer: too much of it, for one.
    Malformed(String),
    /// It can't be asked.
    Unreachable(String),
}

impl From<Remote> for SumError {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Absent(text) => Self::NotFound(text),
            Remote::Malformed(text) => Self::Malformed(text),
            Remote::Unreachable(text) => Self::Unreachable(text),
        }
    }
}

/// A tree head with the note that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Size and hash.
    pub tree: TreeHead,
    /// The signed note, byte for byte.
    pub note: Bytes,
}

/// What the database proved of a module version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The zip's hash.
    pub zip: H1,
    /// The go.mod's hash.
    pub go_mod: H1,
    /// The record's number in the log: a measure of when the version was first seen.
    pub record: u64,
    /// A lookup's answer that says so: the record, and the head of ours in which it was proven.
    pub answer: Bytes,
}

/// See the module.
pub struct Client<I> {
    key: VerifierKey,
    io: I,
    latest: Mutex<Latest>,
    /// Held while a head is being kept.
    keeping: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Latest {
    head: Arc<SignedHead>,
    kept: bool,
}

impl<I: Io> Client<I> {
    /// A client that believes `key`, and whatever head signed by it that it is shown first.
    pub fn new(key: VerifierKey, io: I) -> Self {
        let head = SignedHead {
            tree: TreeHead::empty(),
            note: Bytes::new(),
        };
        Self::at(key, head, io)
    }

    /// A client that goes on from the note that an earlier one's [`Io::keep_head`] was given last.
    ///
    /// # Errors
    /// If that isn't a tree head signed by that key.
    pub fn resume(key: VerifierKey, kept: Bytes, io: I) -> Result<Self, SumError> {
        let head = open(&key, kept)?;
        Ok(Self::at(key, head, io))
    }

    fn at(key: VerifierKey, head: SignedHead, io: I) -> Self {
        let head = Arc::new(head);
        Self {
            key,
            io,
            latest: Mutex::new(Latest { head, kept: true }),
            keeping: tokio::sync::Mutex::default(),
        }
    }

    /// The database's key.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The I/O.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// Our head; `None` as long as there is none.
    pub fn head(&self) -> Option<Arc<SignedHead>> {
        let head = self.ours();
        (!head.note.is_empty()).then_some(head)
    }

    /// Asks the database for a version's hashes, and has them proven.
    ///
    /// # Errors
    /// [`SumError::NotFound`] only if the database itself says so.
    pub async fn lookup(&self, module: &ModulePath, version: &Version) -> Result<Proven, SumError> {
        let call = SumDbCall::Lookup(module.clone(), version.clone());
        let body = self.io.remote(&call).await?;
        self.prove(&body, module, version).await
    }

    /// Proves a lookup's answer, whoever gave it.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup), but never [`SumError::NotFound`].
    pub async fn prove(
        &self,
        body: &[u8],
        module: &ModulePath,
        version: &Version,
    ) -> Result<Proven, SumError> {
        let parsed = Lookup::parse(body);
        let lookup = parsed.ok_or_else(|| malformed("something that is no record"))?;
        let shown = open(&self.key, Bytes::copy_from_slice(lookup.note))?;
        let shown_size = shown.tree.size;
        let ours = self.merge(shown).await?;
        self.prove_record(&lookup, &ours.tree, shown_size).await?;
        let (zip, go_mod) = record::hashes(lookup.record, module, version).map_err(|fault| {
            let id = lookup.id;
            Forgery::Unrelated { id, fault }
        })?;
        Ok(Proven {
            zip,
            go_mod,
            record: lookup.id,
            answer: lookup.with_note(&ours.note).into(),
        })
    }

    /// Asks the database for its newest head. What comes back is ours: that one, or a newer one.
    ///
    /// # Errors
    /// If the database can't be asked, or its head isn't of our log. Our own head is as good as
    /// before then.
    pub async fn latest(&self) -> Result<Arc<SignedHead>, SumError> {
        let note = match self.io.remote(&SumDbCall::Latest).await {
            Ok(note) => note,
            Err(Remote::Absent(text)) => {
                return Err(SumError::Malformed(format!("no tree head at all: {text}")));
            }
            Err(other) => return Err(other.into()),
        };
        self.merge(open(&self.key, note)?).await
    }

    fn ours(&self) -> Arc<SignedHead> {
        self.latest.lock().head.clone()
    }

    /// Proves that a head and ours are of one log; ours is then the larger of the two.
    async fn merge(&self, shown: SignedHead) -> Result<Arc<SignedHead>, SumError> {
        let shown = Arc::new(shown);
        let ours = loop {
            let ours = self.ours();
            let (older, newer) = if shown.tree.size <= ours.tree.size {
                (&shown, &ours)
            } else {
                (&ours, &shown)
            };
            let size = shown.tree.size;
            let read = self.prove_prefix(&older.tree, &newer.tree, size).await?;
            // Until it is, another head may be that isn't of one log with this one.
            let is_ours = Arc::ptr_eq(newer, &ours) || self.advance(&ours, newer);
            if is_ours {
                if let Some(read) = read {
                    self.keep_tiles(&read).await;
                }
                break newer.clone();
            }
        };
        self.keep().await;
        Ok(ours)
    }

    /// Puts a larger head in the place of `ours`; false if another one is there by now.
    fn advance(&self, ours: &Arc<SignedHead>, larger: &Arc<SignedHead>) -> bool {
        let mut latest = self.latest.lock();
        let same = Arc::ptr_eq(&latest.head, ours);
        if same {
            *latest = Latest {
                head: larger.clone(),
                kept: false,
            };
        }
        same
    }

    /// Returns once our head, or a larger one, is kept.
    async fn keep(&self) {
        if self.latest.lock().kept {
            return;
        }
        let _one_at_a_time = self.keeping.lock().await;
        let latest = self.latest.lock().clone();
        if latest.kept {
            return;
        }
        self.io.keep_head(&latest.head.note).await;
        let mut now = self.latest.lock();
        // A larger one that came meanwhile is kept by whoever brought it.
        if Arc::ptr_eq(&now.head, &latest.head) {
            now.kept = true;
        }
    }

    /// Proves that `newer` begins with `older`; the tiles that say so, unless there is nothing to
    /// prove. `shown` is the size that the database shows just now.
    async fn prove_prefix(
        &self,
        older: &TreeHead,
        newer: &TreeHead,
        shown: u64,
    ) -> Result<Option<Read>, SumError> {
        if older == newer {
            return Ok(None);
        }
        let plan = Plan::new(*newer, Node::of_tree(older.size));
        let plan = plan.filter(|_| older.size < newer.size);
        let plan = plan.ok_or_else(|| fork(older, newer))?;
        let read = self.read(&plan, shown).await?;
        if tree::root(&read.hashes) != older.hash {
            return Err(fork(older, newer).into());
        }
        Ok(Some(read))
    }

    async fn prove_record(
        &self,
        lookup: &Lookup<'_>,
        head: &TreeHead,
        shown: u64,
    ) -> Result<(), SumError> {
        let (id, size) = (lookup.id, head.size);
        let wrong = || Forgery::Record { id, size };
        let plan = Plan::new(*head, [Node::leaf(id)]).ok_or_else(wrong)?;
        let read = self.read(&plan, shown).await?;
        self.keep_tiles(&read).await;
        if read.hashes != [leaf_hash(lookup.record.as_bytes())] {
            return Err(wrong().into());
        }
        Ok(())
    }
}

/// Reads a signed head.
fn open(key: &VerifierKey, note: Bytes) -> Result<SignedHead, SumError> {
    let text = key.open(&note).map_err(|error| match error {
        NoteError::Malformed => malformed("a tree head that is no signed note"),
        wrong => Forgery::Signature(wrong).into(),
    })?;
    let tree = TreeHead::parse(text);
    let tree = tree.ok_or_else(|| malformed("a signed note that is no tree head"))?;
    Ok(SignedHead { tree, note })
}

fn malformed(what: &str) -> SumError {
    SumError::Malformed(what.to_owned())
}

fn fork(older: &TreeHead, newer: &TreeHead) -> Forgery {
    Forgery::Fork {
        old_size: older.size,
        old_hash: older.base64(),
        new_size: newer.size,
        new_hash: newer.base64(),
    }
}

#[cfg(test)]
mod tests;
