//! Signatures made, kept until half of their life is over.
//!
//! Two parts: those made ahead of time, read without a lock and replaced whole; and those made while
//! answering, bounded in number and in how many are made a second. Of the latter there are two
//! halves: when the newer one is full, the older one is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::rr::RData;
use parking_lot::Mutex;

use super::canonical::Canonical;
use super::signature::Life;

/// The signatures over one set: one a signing key.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) rrsigs: Arc<[RData]>,
    pub(super) life: Life,
}

/// What is known of a set.
pub(super) enum Known {
    /// Signed, with more than half of the life left.
    Fresh(Signed),
    /// Signed, but time for a new one.
    Aging(Signed),
    /// Not signed, or no longer.
    Nothing,
}

#[derive(Default)]
struct Online {
    newer: HashMap<Canonical, Signed>,
    older: HashMap<Canonical, Signed>,
    /// The second that `made` counts in.
    second: u32,
    made: u32,
}

/// All signatures of a server.
pub(super) struct Store {
    ahead: ArcSwap<HashMap<Canonical, Signed>>,
    online: Arc<Mutex<Online>>,
    /// Entries of both halves together.
    capacity: usize,
    /// Signatures made while answering, a second.
    rate: u32,
    /// A signature with fewer seconds left is replaced.
    renewal: i32,
}

impl Store {
    pub(super) fn new(capacity: usize, rate: u32, renewal: u32) -> Self {
        Self {
            ahead: ArcSwap::default(),
            online: Arc::default(),
            capacity,
            rate,
            renewal: i32::try_from(renewal).unwrap_or(i32::MAX),
        }
    }

    /// The same with what another one knows: signatures made ahead as they are now, and those made
    /// while answering together with it.
    pub(super) fn knowing(self, other: &Self) -> Self {
        Self {
            ahead: ArcSwap::new(other.ahead.load_full()),
            online: other.online.clone(),
            ..self
        }
    }

    pub(super) fn get(&self, set: &Canonical, now: u32) -> Known {
        if let Some(signed) = self.ahead.load().get(set)
            && signed.life.left(now) > self.renewal
        {
            return Known::Fresh(signed.clone());
        }
        let online = self.online.lock();
        match online.newer.get(set).or_else(|| online.older.get(set)) {
            Some(signed) if signed.life.left(now) > self.renewal => Known::Fresh(signed.clone()),
            Some(signed) if signed.life.left(now) > 0 => Known::Aging(signed.clone()),
            _ => Known::Nothing,
        }
    }

    /// Whether one more set may be signed while answering, in this second.
    pub(super) fn may_sign(&self, now: u32) -> bool {
        let mut online = self.online.lock();
        if online.second != now {
            (online.second, online.made) = (now, 0);
        }
        let may = online.made < self.rate;
        online.made += u32::from(may);
        may
    }

    pub(super) fn put(&self, set: Canonical, signed: Signed) {
        let mut online = self.online.lock();
        if online.newer.len() >= self.capacity.div_ceil(2) {
            online.older = std::mem::take(&mut online.newer);
        }
        online.newer.insert(set, signed);
    }

    /// What was made ahead of time for a set and has at least `left` seconds left.
    pub(super) fn ahead(&self, set: &Canonical, now: u32, left: u32) -> Option<Signed> {
        let ahead = self.ahead.load();
        let signed = ahead.get(set)?;
        (i64::from(signed.life.left(now)) >= i64::from(left)).then(|| signed.clone())
    }

    /// Replaces all that was made ahead of time.
    pub(super) fn set_ahead(&self, ahead: HashMap<Canonical, Signed>) {
        self.ahead.store(Arc::new(ahead));
    }

    /// Sets with signatures made ahead, and those with signatures made while answering.
    pub(super) fn len(&self) -> (usize, usize) {
        let online = self.online.lock();
        let answering = online.newer.len() + online.older.len();
        (self.ahead.load().len(), answering)
    }

    /// The end of the signature made ahead that ends first.
    pub(super) fn first_expiration(&self, now: u32) -> Option<u32> {
        let ahead = self.ahead.load();
        let lives = ahead.values().map(|signed| signed.life);
        lives
            .min_by_key(|life| life.left(now))
            .map(|life| life.expiration)
    }
}
