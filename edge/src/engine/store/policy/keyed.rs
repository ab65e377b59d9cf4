//! The policy for those who have keys instead of ids.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Marks, Policy};

/// Where a value's visits are counted, once a [`Keyed`] has taken it in. A value belongs to one
/// `Keyed` for all its life, which may drop it and take it in again.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    marks: OnceLock<Marks>,
    id: AtomicU32,
}

impl Visits {
    /// Counts a hit, without a lock.
    pub(crate) fn mark(&self) {
        if let Some(marks) = self.marks.get() {
            marks.mark(self.id.load(Ordering::Relaxed));
        }
    }

    fn bind(&self, marks: &Marks, id: u32) {
        self.id.store(id, Ordering::Relaxed);
        self.marks.get_or_init(|| marks.clone());
    }
}

/// A value that counts its visits.
pub(crate) trait Visited {
    /// The count.
    fn visits(&self) -> &Visits;
}

/// Keys with values and weights, bounded by the sum of the weights and by their number. Keeps keys
/// twice.
pub(crate) struct Keyed<K, V> {
    policy: Policy,
    ids: HashMap<K, u32>,
    slots: Vec<Option<(K, V)>>,
    free: Vec<u32>,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone, V: Visited> Keyed<K, V> {
    /// An empty cache for at most `most` keys whose weights sum up to at most `capacity` bytes.
    pub(crate) fn new(capacity: u64, most: usize) -> Self {
        Self {
            policy: Policy::new(capacity, most),
            ids: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a key in, in place of what it had before, and hands back what has to go for it: the
    /// newcomer itself if it is heavier than the whole capacity.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) -> Vec<(K, V)> {
        let fingerprint = self.hasher.hash_one(&key);
        let id = self.ids.get(&key).copied().unwrap_or_else(|| self.id());
        value.visits().bind(self.policy.marks(), id);
        self.ids.insert(key.clone(), id);
        self.slots[id as usize] = Some((key, value));
        let mut evicted = Vec::new();
        self.policy.insert(id, fingerprint, weight, &mut evicted);
        evicted.iter().filter_map(|id| self.release(*id)).collect()
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let id = *self.ids.get(key)?;
        self.policy.remove(id);
        self.release(id).map(|(_, value)| value)
    }

    /// The sum of the weights held, in bytes.
    pub(crate) fn used(&self) -> u64 {
        self.policy.used()
    }

    /// The number of keys held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.policy.len()
    }

    fn id(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        })
    }

    fn release(&mut self, id: u32) -> Option<(K, V)> {
        let slot = self.slots[id as usize].take()?;
        self.ids.remove(&slot.0);
        self.free.push(id);
        Some(slot)
    }
}
