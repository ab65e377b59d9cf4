//! Warm entries: those whose record is in RAM, decoded, by key; in shards, so that hits on many
//! cores don't meet at one lock.
//!
//! Two kinds: entries with a place on disk, which are copies and go when they must (bounded here),
//! and loose ones, which are nowhere else (bounded by the store). Lock order: the bound, a shard.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::entry::Entry;
use super::policy::{Keyed, Visits};
use super::slab::Id;

const SHARDS: usize = 64;
/// About what a warm entry takes: itself, its key twice, its fields, its object, the maps.
const COST: u64 = 768;
/// A digest of a block.
const DIGEST: u64 = 32;

type Shard = RwLock<HashMap<Arc<str>, Arc<Entry>>>;

/// The warm entries. Readers see a key's old entry or its new one, nothing between.
pub(super) struct Warm {
    shards: Vec<Shard>,
    hasher: RandomState,
    bound: Mutex<Bound>,
}

/// Which copies there are.
struct Bound {
    order: Keyed<Arc<str>, Arc<Visits>>,
    keys: HashMap<Id, Arc<str>>,
}

impl Warm {
    /// Room for copies of that many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            bound: Mutex::new(Bound {
                order: Keyed::new(bytes, usize::MAX),
                keys: HashMap::new(),
            }),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.shard(key).read().get(key).cloned()
    }

    /// The copy of that number's entry.
    pub(super) fn by_id(&self, id: Id) -> Option<Arc<Entry>> {
        let key = self.bound.lock().keys.get(&id).cloned()?;
        self.get(&key)
    }

    /// Puts an entry under its key, in place of the one that was there.
    pub(super) fn insert(&self, entry: Arc<Entry>) {
        let Some(place) = entry.place else {
            self.shard(&entry.key)
                .write()
                .insert(entry.key.clone(), entry);
            return;
        };
        let mut bound = self.bound.lock();
        let (key, visits) = (entry.key.clone(), entry.visits.clone());
        let weight = COST + DIGEST * entry.object.blocks().as_slice().len() as u64;
        self.shard(&key).write().insert(key.clone(), entry);
        if bound.keys.insert(place.id, key.clone()).is_some() {
            return;
        }
        for (key, _) in bound.order.insert(key, visits, weight) {
            let gone = self.shard(&key).write().remove(&key);
            if let Some(place) = gone.and_then(|gone| gone.place) {
                bound.keys.remove(&place.id);
            }
        }
    }

    /// Removes the copy of that number's entry.
    pub(super) fn remove(&self, id: Id) -> Option<Arc<Entry>> {
        let mut bound = self.bound.lock();
        let key = bound.keys.remove(&id)?;
        bound.order.remove(&key);
        self.shard(&key).write().remove(&key)
    }

    /// Removes a key's loose entry.
    pub(super) fn remove_loose(&self, key: &str) -> Option<Arc<Entry>> {
        let mut shard = self.shard(key).write();
        let is_loose = shard.get(key).is_some_and(|entry| entry.place.is_none());
        if is_loose { shard.remove(key) } else { None }
    }

    /// Calls `visit` for every entry.
    pub(super) fn each(&self, mut visit: impl FnMut(&Entry)) {
        for shard in &self.shards {
            shard.read().values().for_each(|entry| visit(entry));
        }
    }

    /// Puts what `anew` makes of an entry in its place. It must be of the same key, place and body.
    pub(super) fn replace(&self, anew: impl Fn(&Entry) -> Option<Arc<Entry>>) {
        for shard in &self.shards {
            for entry in shard.write().values_mut() {
                if let Some(new) = anew(entry) {
                    *entry = new;
                }
            }
        }
    }

    /// Bytes that the copies take, about.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.bound.lock().order.used()
    }

    fn shard(&self, key: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}
