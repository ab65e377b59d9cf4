//! What stays and what goes: S3-FIFO over weighted keys. Pure: it moves no bytes.
//!
//! Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023): a newcomer enters a
//! small queue and leaves by its other end unless it was asked for meanwhile; then it moves into
//! the main queue, where each time around costs it one of the visits it had. Keys that left the
//! small queue are remembered for a while (ghosts) and enter the main queue when they come back.
//! So a scan of things asked for once passes through a tenth of the room and displaces nothing.
//!
//! A hit only marks the [`Visits`] of its entry: no lock, no queue is touched.
//!
//! Promises: the weights held never exceed the capacity; every key that was inserted is held, or
//! was handed back by `insert`, or was removed. Each operation is amortised O(1).

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicU8, Ordering};

/// The small queue's share of the capacity: one part in this many.
const SMALL_SHARE: u64 = 10;
/// Visits are counted up to this.
const MOST_VISITS: u8 = 3;
/// At least this many ghosts are remembered; more as more keys are held.
const LEAST_GHOSTS: usize = 1024;

/// How often something was asked for lately, counted by its readers.
#[derive(Debug, Default)]
pub(crate) struct Visits(AtomicU8);

impl Visits {
    /// Counts a hit. Writes nothing once the count is full, so that many cores can hit one entry
    /// without passing its cache line around; a lost race loses a count, which does no harm.
    pub(crate) fn mark(&self) {
        let seen = self.0.load(Ordering::Relaxed);
        if seen < MOST_VISITS {
            self.0.store(seen + 1, Ordering::Relaxed);
        }
    }

    fn take_one(&self) -> bool {
        let seen = self.0.load(Ordering::Relaxed);
        self.0.store(seen.saturating_sub(1), Ordering::Relaxed);
        seen > 0
    }

    fn take_all(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) > 0
    }
}

/// A value that counts its visits.
pub(crate) trait Visited {
    /// The count.
    fn visits(&self) -> &Visits;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

struct Node<V> {
    value: V,
    weight: u64,
    /// Which of the key's places in the queues is the true one; others are left-overs.
    generation: u64,
    queue: Queue,
}

/// Keys with values and weights, bounded by the sum of the weights and by their number.
pub(crate) struct S3Fifo<K, V> {
    capacity: u64,
    most: usize,
    used: u64,
    small_used: u64,
    small_len: usize,
    nodes: HashMap<K, Node<V>>,
    small: VecDeque<(K, u64)>,
    main: VecDeque<(K, u64)>,
    ghosts: Ghosts<K>,
    generation: u64,
}

impl<K: Hash + Eq + Clone, V: Visited> S3Fifo<K, V> {
    /// An empty cache for at most `most` keys whose weights sum up to at most `capacity`.
    pub(crate) fn new(capacity: u64, most: usize) -> Self {
        Self {
            capacity,
            most,
            used: 0,
            small_used: 0,
            small_len: 0,
            nodes: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::new(),
            generation: 0,
        }
    }

    /// Takes a key in, in place of what it had before, and hands back what has to go for it: the
    /// newcomer itself if it is heavier than the whole capacity.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: u64) -> Vec<(K, V)> {
        let known = self.remove(&key).is_some() || self.ghosts.take(&key);
        if weight > self.capacity || self.most == 0 {
            return vec![(key, value)];
        }
        let mut evicted = Vec::new();
        while self.used + weight > self.capacity || self.nodes.len() >= self.most {
            match self.evict() {
                Some(gone) => evicted.push(gone),
                None => break,
            }
        }
        let queue = if known { Queue::Main } else { Queue::Small };
        self.place(key, value, weight, queue);
        evicted
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let node = self.nodes.remove(key)?;
        self.subtract(&node);
        self.sweep();
        Some(node.value)
    }

    /// Whether the key is held.
    #[cfg(test)]
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.nodes.contains_key(key)
    }

    /// The sum of the weights held.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// The number of keys held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn place(&mut self, key: K, value: V, weight: u64, queue: Queue) {
        self.generation += 1;
        let generation = self.generation;
        self.used += weight;
        match queue {
            Queue::Small => {
                self.small_used += weight;
                self.small_len += 1;
                self.small.push_back((key.clone(), generation));
            }
            Queue::Main => self.main.push_back((key.clone(), generation)),
        }
        self.nodes.insert(
            key,
            Node {
                value,
                weight,
                generation,
                queue,
            },
        );
    }

    /// Drops one key. None only if nothing is held.
    fn evict(&mut self) -> Option<(K, V)> {
        // Readers mark visits meanwhile: bounded rounds, so that they can't keep us here.
        let mut patience = usize::from(MOST_VISITS) * self.nodes.len() + 1;
        loop {
            patience = patience.saturating_sub(1);
            let queue = self.next_queue();
            let (key, node) = self.pop(queue)?;
            let visited = match queue {
                Queue::Small => node.value.visits().take_all(),
                Queue::Main => node.value.visits().take_one(),
            };
            if visited && patience > 0 {
                self.place(key, node.value, node.weight, Queue::Main);
                continue;
            }
            if queue == Queue::Small {
                self.ghosts
                    .add(key.clone(), self.nodes.len().max(LEAST_GHOSTS));
            }
            return Some((key, node.value));
        }
    }

    /// The queue that has to give: the small one while it holds more than its share.
    fn next_queue(&self) -> Queue {
        let heavy = self.small_used > self.capacity / SMALL_SHARE;
        let many = self.small_len > self.most / SMALL_SHARE as usize;
        let main_is_empty = self.small_len == self.nodes.len();
        let small_is_empty = self.small_len == 0;
        let small = (heavy || many || main_is_empty) && !small_is_empty;
        if small { Queue::Small } else { Queue::Main }
    }

    /// Takes the oldest key out of a queue, stepping over left-overs.
    fn pop(&mut self, queue: Queue) -> Option<(K, Node<V>)> {
        loop {
            let (key, generation) = match queue {
                Queue::Small => self.small.pop_front()?,
                Queue::Main => self.main.pop_front()?,
            };
            let live = self
                .nodes
                .get(&key)
                .is_some_and(|node| node.generation == generation);
            if !live {
                continue;
            }
            let node = self.nodes.remove(&key)?;
            self.subtract(&node);
            return Some((key, node));
        }
    }

    fn subtract(&mut self, node: &Node<V>) {
        self.used -= node.weight;
        if node.queue == Queue::Small {
            self.small_used -= node.weight;
            self.small_len -= 1;
        }
    }

    /// Clears left-overs once they are most of what the queues hold.
    fn sweep(&mut self) {
        if self.small.len() + self.main.len() <= 2 * self.nodes.len() + 64 {
            return;
        }
        let nodes = &self.nodes;
        let live = |(key, generation): &(K, u64)| {
            nodes
                .get(key)
                .is_some_and(|node| node.generation == *generation)
        };
        self.small.retain(live);
        self.main.retain(live);
    }
}

/// Keys that left not long ago.
struct Ghosts<K> {
    order: VecDeque<K>,
    present: HashSet<K>,
}

impl<K: Hash + Eq + Clone> Ghosts<K> {
    fn new() -> Self {
        Self {
            order: VecDeque::new(),
            present: HashSet::new(),
        }
    }

    fn add(&mut self, key: K, most: usize) {
        self.order.push_back(key.clone());
        self.present.insert(key);
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                // May forget a key that became a ghost again since: it enters the small queue once
                // more, nothing worse.
                self.present.remove(&oldest);
            }
        }
    }

    fn take(&mut self, key: &K) -> bool {
        self.present.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    type Cache = S3Fifo<u32, Arc<Visits>>;

    fn ask(cache: &mut Cache, key: u32) {
        match cache.nodes.get(&key) {
            Some(node) => node.value.mark(),
            None => drop(cache.insert(key, Arc::default(), 1)),
        }
    }

    #[test]
    fn a_scan_does_not_displace_what_is_asked_for_often() {
        let mut cache = Cache::new(100, usize::MAX);
        for _ in 0..5 {
            (0..50).for_each(|key| ask(&mut cache, key));
        }
        (1000..3000).for_each(|key| ask(&mut cache, key));
        let kept = (0..50).filter(|key| cache.contains(key)).count();
        assert_eq!(kept, 50);
    }

    #[test]
    fn a_key_that_comes_back_soon_enters_the_main_queue() {
        let mut cache = Cache::new(10, usize::MAX);
        (0..11).for_each(|key| drop(cache.insert(key, Arc::default(), 1)));
        assert!(!cache.contains(&0));
        cache.insert(0, Arc::default(), 1);
        assert!(cache.nodes[&0].queue == Queue::Main);
    }

    #[test]
    fn what_is_heavier_than_everything_is_handed_back() {
        let mut cache = Cache::new(10, usize::MAX);
        cache.insert(1, Arc::default(), 5);
        assert_eq!(cache.insert(2, Arc::default(), 11).len(), 1);
        assert!(cache.contains(&1));
        assert_eq!(cache.insert(1, Arc::default(), 11).len(), 1);
        assert_eq!((cache.used(), cache.len()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u64),
        Mark(u32),
        Remove(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..60, 0u64..40).prop_map(|(key, weight)| Step::Insert(key, weight)),
            3 => (0u32..60).prop_map(Step::Mark),
            1 => (0u32..60).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_never_exceeds_its_bound_and_never_loses_what_it_holds(
            capacity in 0u64..200,
            most in 0usize..30,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let mut cache = Cache::new(capacity, most);
            let mut model: HashMap<u32, u64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(key, weight) => {
                        model.insert(key, weight);
                        for (gone, _) in cache.insert(key, Arc::default(), weight) {
                            prop_assert!(model.remove(&gone).is_some(), "{gone} handed back twice");
                        }
                    }
                    Step::Mark(key) => {
                        if let Some(node) = cache.nodes.get(&key) {
                            node.value.mark();
                        }
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(cache.remove(&key).is_some(), model.remove(&key).is_some());
                    }
                }
                prop_assert!(cache.used() <= capacity && cache.len() <= most);
                prop_assert_eq!(cache.used(), model.values().sum::<u64>());
                prop_assert_eq!(cache.len(), model.len());
                prop_assert!(model.keys().all(|key| cache.contains(key)));
                prop_assert!(cache.small.len() + cache.main.len() <= 2 * cache.len() + 66);
            }
        }
    }
}
