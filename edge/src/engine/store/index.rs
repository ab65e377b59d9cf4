//! Key → [`Entry`], in memory, in shards so that hits on many cores don't meet at one lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::entry::Entry;

const SHARDS: usize = 64;

type Shard = RwLock<HashMap<Arc<str>, Arc<Entry>>>;

/// The index. Readers see a key's old entry or its new one, nothing between.
pub(super) struct Index {
    shards: Vec<Shard>,
    hasher: RandomState,
    len: AtomicUsize,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.shard(key).read().get(key).cloned()
    }

    /// Puts an entry under its key; hands back the one that was there.
    pub(super) fn insert(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let old = self
            .shard(&entry.key)
            .write()
            .insert(entry.key.clone(), entry);
        if old.is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        old
    }

    /// Removes the key's entry if `doomed` says so.
    pub(super) fn remove(
        &self,
        key: &str,
        doomed: impl Fn(&Arc<Entry>) -> bool,
    ) -> Option<Arc<Entry>> {
        let mut shard = self.shard(key).write();
        if !shard.get(key).is_some_and(doomed) {
            return None;
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        shard.remove(key)
    }

    /// The keys whose entries are like that. Walks through all of them.
    pub(super) fn keys(&self, like: impl Fn(&Entry) -> bool) -> Vec<Arc<str>> {
        let in_shard = |shard: &Shard| -> Vec<Arc<str>> {
            let shard = shard.read();
            let alike = shard.values().filter(|entry| like(entry));
            alike.map(|entry| entry.key.clone()).collect()
        };
        self.shards.iter().flat_map(in_shard).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}
