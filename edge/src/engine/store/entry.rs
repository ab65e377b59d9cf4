//! What the index holds: an [`Entry`] a key, and the [`Object`] (the body) that it names.
//!
//! Both are immutable but for the RAM copy and the counters; a change makes a new `Entry`, so a
//! reader that has one sees one consistent answer. Several entries may share an object.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::RwLock;

use modcdn_core::digest::{Hasher, Sha256};
use modcdn_core::headers::{CACHE_TAG, MODCDN_SUM};

use super::handles::Handle;
use super::policy::{Visited, Visits};
use super::slab::Id;
use super::verified::Verified;
use crate::engine::clock::Millis;
use crate::engine::freshness::Lifetime;
use crate::engine::purge::Subject;

/// Bodies are hashed, spooled and verified in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 256 * 1024;

/// Stored header fields: no more than this many, each value no longer than [`MAX_VALUE`].
const MAX_FIELDS: usize = 16;
const MAX_VALUE: usize = 1024;
/// All of an answer's tags together; what is beyond is not kept, and a warning says so.
const MAX_TAGS: usize = 16 * 1024;

/// What two processes' clocks on one machine may differ by, in milliseconds: each has read the time
/// once, and the system's clock is corrected now and then.
const MOMENT: Millis = 60_000;

/// The origin's header fields that are kept with a body. `ETag`, `Repr-Digest` and
/// `Content-Length` are not among them: they follow from the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers(Arc<[(HeaderName, HeaderValue)]>);

impl Headers {
    /// Picks what is kept. Tags come first: no other field may take their place.
    pub(crate) fn keep(from: &HeaderMap) -> Self {
        let kept = from
            .iter()
            .filter(|(name, value)| is_kept(name) && value.len() <= MAX_VALUE)
            .map(|(name, value)| (name.clone(), value.clone()));
        let tags = joined_tags(from).map(|tags| (CACHE_TAG, tags));
        Self(tags.into_iter().chain(kept).take(MAX_FIELDS).collect())
    }

    /// The value of `Cache-Tag`; empty if there is none.
    pub(crate) fn tags(&self) -> &[u8] {
        self.get(&CACHE_TAG).map_or(b"", HeaderValue::as_bytes)
    }

    /// Keeps all.
    pub(crate) fn all(from: &HeaderMap) -> Self {
        let all = from
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        Self(all.collect())
    }

    /// Fields that were kept before.
    pub(super) fn restored(fields: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self(fields.into())
    }

    /// These fields with those of a 304 in their place (RFC 9111 §4.3.4).
    pub(crate) fn merged(&self, update: &Self) -> Self {
        let stays = |name: &HeaderName| update.get(name).is_none();
        let old = self.0.iter().filter(|(name, _)| stays(name));
        Self(
            old.chain(update.0.iter())
                .take(MAX_FIELDS)
                .cloned()
                .collect(),
        )
    }

    /// With what came behind a body that was still growing at the origin: its module's hash.
    pub(crate) fn with_trailers(self, trailers: Option<&HeaderMap>) -> Self {
        let Some(sum) = trailers.and_then(|fields| fields.get(MODCDN_SUM)) else {
            return self;
        };
        self.merged(&Self::keep(&HeaderMap::from_iter([(
            MODCDN_SUM,
            sum.clone(),
        )])))
    }

    /// The field of that name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0
            .iter()
            .find(|(kept, _)| kept == name)
            .map(|(_, value)| value)
    }

    /// All lines of the field of that name.
    pub(crate) fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        let lines = self.0.iter().filter(move |(kept, _)| kept == name);
        lines.map(|(_, value)| value)
    }

    /// All fields.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// The fields that clients get: tags are between the origin and us.
    pub(crate) fn public(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.iter().filter(|(name, _)| *name != CACHE_TAG)
    }
}

/// All lines of `Cache-Tag` as one.
fn joined_tags(from: &HeaderMap) -> Option<HeaderValue> {
    let lines = from.get_all(CACHE_TAG).iter().map(HeaderValue::as_bytes);
    let mut joined = lines.collect::<Vec<_>>().join(&b',');
    if joined.len() > MAX_TAGS {
        tracing::warn!(
            bytes = joined.len(),
            "more tags than are kept: those at the end are dropped"
        );
        joined.truncate(MAX_TAGS);
        // A tag cut in two would be another one.
        let last = joined.iter().rposition(|byte| *byte == b',');
        joined.truncate(last.unwrap_or(0));
    }
    if joined.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok()
}

fn is_kept(name: &HeaderName) -> bool {
    name == CONTENT_TYPE
        || name == CACHE_CONTROL
        || name == LAST_MODIFIED
        || name == RETRY_AFTER
        || name.as_str().starts_with("modcdn-")
}

/// The digests of a body's blocks, so that any part of it can be verified by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks(Arc<[Sha256]>);

impl Blocks {
    /// Digests in the order of the blocks. Empty for a body of one block: its own digest serves.
    pub(crate) fn new(digests: Vec<Sha256>) -> Self {
        Self(if digests.len() > 1 {
            digests.into()
        } else {
            Arc::default()
        })
    }

    /// The digests.
    pub(super) fn as_slice(&self) -> &[Sha256] {
        &self.0
    }
}

/// The two fields that follow from a digest; made when first asked for, then cloned.
#[derive(Debug)]
pub(crate) struct Validators {
    /// `ETag`.
    pub(crate) etag: HeaderValue,
    /// `Repr-Digest`.
    pub(crate) repr_digest: HeaderValue,
}

impl Validators {
    /// Those of the body with that digest.
    pub(crate) fn of(digest: &Sha256) -> Self {
        Self {
            etag: digest.etag(),
            repr_digest: digest.repr_digest(),
        }
    }
}

/// A body.
#[derive(Debug)]
pub(crate) struct Object {
    /// The digest of all of it.
    pub(crate) digest: Sha256,
    /// Its length in bytes.
    pub(crate) size: u64,
    blocks: Blocks,
    /// The RAM tier's copy. Written only by the store, which keeps the sum of them within bounds.
    pub(super) ram: RwLock<Option<Bytes>>,
    /// Visits as the RAM tier counts them.
    pub(super) visits: Visits,
    /// Found damaged: every entry that names it is a miss.
    pub(super) damaged: AtomicBool,
    /// Its bytes could not be read the last time somebody tried.
    pub(super) unreadable: AtomicBool,
    /// Blocks of its file that need not be hashed again.
    pub(super) verified: Verified,
    /// Its file, while that is kept open.
    pub(super) handle: Handle,
    /// Held by the one reader who loads it into RAM while the others wait.
    pub(crate) loading: tokio::sync::Mutex<()>,
    validators: OnceLock<Box<Validators>>,
}

impl Object {
    /// A body that is described but not in RAM.
    pub(crate) fn new(digest: Sha256, size: u64, blocks: Blocks) -> Self {
        Self {
            digest,
            size,
            blocks,
            ram: RwLock::new(None),
            visits: Visits::default(),
            damaged: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            verified: Verified::default(),
            handle: Handle::default(),
            loading: tokio::sync::Mutex::new(()),
            validators: OnceLock::new(),
        }
    }

    /// `ETag` and `Repr-Digest`.
    pub(crate) fn validators(&self) -> &Validators {
        self.validators
            .get_or_init(|| Box::new(Validators::of(&self.digest)))
    }

    /// The digests of its blocks.
    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Whether these are the bytes of block number `block`.
    pub(crate) fn verifies(&self, block: u64, bytes: &[u8]) -> bool {
        let whole = std::slice::from_ref(&self.digest);
        let digests = if self.size <= BLOCK {
            whole
        } else {
            self.blocks.as_slice()
        };
        let digest = usize::try_from(block)
            .ok()
            .and_then(|block| digests.get(block));
        digest.is_some_and(|digest| Sha256::of(bytes) == *digest)
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Notes that its bytes came from the disk. Writes nothing in the common case.
    pub(super) fn was_read(&self) {
        if self.is_unreadable() {
            self.unreadable.store(false, Ordering::Relaxed);
        }
    }
}

impl Visited for Arc<Object> {
    fn visits(&self) -> &Visits {
        &self.visits
    }
}

impl Visited for Arc<Visits> {
    fn visits(&self) -> &Visits {
        self
    }
}

/// Where a record of the journal lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The segment's number.
    pub(super) segment: u32,
    /// Where the record begins in it.
    pub(super) offset: u32,
    /// The record's length.
    pub(super) len: u32,
    /// How much of it, at its end, is the body. Shorter than the body: that has a file.
    pub(super) body: u32,
}

/// An answer that is on disk: which key of the index it is, and where its record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) id: Id,
    pub(super) position: Position,
}

/// By which rules an answer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// A versioned object of a module: it can never change.
    Immutable,
    /// A list, a query, a tree head: within the configured bounds.
    Mutable,
    /// An answer of a plain HTTP mount: RFC 9111.
    Http,
    /// No answer: it names the request fields by which the answers of a plain HTTP mount's URL
    /// differ (RFC 9111 §4.1). When it was stored is the generation of these answers.
    Variants,
}

/// What is known about an answer: everything but its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// 200, 404 or 410; of a plain HTTP mount any.
    pub(crate) status: StatusCode,
    /// The kept fields.
    pub(crate) headers: Headers,
    /// By which rules it lives.
    pub(crate) rules: Rules,
    /// When the body came.
    pub(crate) stored: Millis,
    /// When the origin last said that it is right.
    pub(crate) validated: Millis,
    /// The number of the newest purge when the origin was last asked: newer ones concern it.
    pub(crate) epoch: u64,
}

impl Meta {
    /// Whether the answer outlives the process. A module's "not found" doesn't: the module may
    /// be there any moment.
    pub(super) fn is_durable(&self) -> bool {
        match self.rules {
            Rules::Immutable | Rules::Mutable => self.status == StatusCode::OK,
            Rules::Http | Rules::Variants => true,
        }
    }
}

/// One key's answer.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The canonical path.
    pub(crate) key: Arc<str>,
    /// Everything but the body.
    pub(crate) meta: Meta,
    /// How long it may be used.
    pub(crate) lifetime: Lifetime,
    /// The body.
    pub(crate) object: Arc<Object>,
    /// None: it is in RAM and nowhere else.
    pub(super) place: Option<Place>,
    /// Visits as the warm entries' bound counts them, or that of loose ones; goes on when the
    /// entry is renewed.
    pub(super) visits: Arc<Visits>,
    /// Asked for since somebody last looked.
    touched: AtomicBool,
    /// Its body came along when the record was read, and answered nobody yet.
    pub(super) brought: AtomicBool,
    /// No revalidation before this time: the last one failed.
    retry_at: AtomicU64,
    /// No purge up to this number concerns it.
    clear_of: AtomicU64,
}

impl Entry {
    pub(super) fn new(
        key: Arc<str>,
        meta: Meta,
        lifetime: Lifetime,
        object: Arc<Object>,
        place: Option<Place>,
        visits: Arc<Visits>,
    ) -> Self {
        let clear_of = AtomicU64::new(meta.epoch);
        Self {
            key,
            meta,
            lifetime,
            object,
            place,
            visits,
            touched: AtomicBool::new(false),
            brought: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            clear_of,
        }
    }

    /// As purges see it.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::new(&self.key, self.meta.headers.tags())
    }

    /// Whether it is known that no purge up to this number concerns it.
    pub(super) fn is_clear_of(&self, epoch: u64) -> bool {
        epoch <= self.clear_of.load(Ordering::Relaxed)
    }

    /// Notes that no purge up to this number concerns it.
    pub(super) fn clear_of(&self, epoch: u64) {
        self.clear_of.fetch_max(epoch, Ordering::Relaxed);
    }

    /// Whether the body lies in the journal's record.
    pub(super) fn is_packed(&self) -> bool {
        self.place
            .is_some_and(|place| u64::from(place.position.body) == self.object.size)
    }

    /// Notes that it was asked for. Writes nothing if that is known already.
    pub(super) fn touch(&self) {
        self.visits.mark();
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether its body is in RAM because the disk was read for this answer.
    pub(super) fn take_brought(&self) -> bool {
        self.brought.load(Ordering::Relaxed) && self.brought.swap(false, Ordering::Relaxed)
    }

    /// Whether it was asked for since the last call.
    pub(super) fn take_touch(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    /// Milliseconds since the last validation.
    ///
    /// One that is yet to come was noted by a process whose clock was ahead of ours, or ours is behind.
    /// A moment is nothing; with more than that nobody knows the age, and the answer counts as just
    /// stale: it can be used once more, and the origin is asked.
    pub(crate) fn age(&self, now: Millis) -> Millis {
        let ahead = self.meta.validated.saturating_sub(now);
        if ahead > MOMENT {
            self.lifetime.just_stale()
        } else {
            now.saturating_sub(self.meta.validated)
        }
    }

    /// Notes that a revalidation failed.
    pub(crate) fn retry_at(&self, time: Millis) {
        self.retry_at.store(time, Ordering::Relaxed);
    }

    /// Whether a revalidation failed so lately that none is due yet.
    pub(crate) fn rests(&self, now: Millis) -> bool {
        now < self.retry_at.load(Ordering::Relaxed)
    }
}

/// Computes the digest of a body and those of its blocks while it arrives.
#[derive(Clone)]
pub(crate) struct BodyHasher {
    whole: Hasher,
    blocks: Vec<Sha256>,
    len: u64,
}

impl BodyHasher {
    pub(crate) fn new() -> Self {
        Self {
            whole: Hasher::new(),
            blocks: Vec::new(),
            len: 0,
        }
    }

    /// Takes a full block, or the last one.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> Sha256 {
        self.whole.update(bytes);
        self.len += bytes.len() as u64;
        let digest = Sha256::of(bytes);
        self.blocks.push(digest);
        digest
    }

    /// The body that was hashed.
    pub(crate) fn finish(self) -> Object {
        Object::new(self.whole.finish(), self.len, Blocks::new(self.blocks))
    }
}
