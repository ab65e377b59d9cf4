//! What stays and what goes. Pure: it moves no bytes, and knows entries by id and weight only.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), made aware
//! of weights. A newcomer enters a small queue and leaves by its other end unless it was asked for
//! meanwhile; then it moves into the main queue, where each time around costs it one of the visits
//! it had. What left the small queue is remembered for a while by its fingerprint (a ghost) and
//! enters the main queue when it comes back. So a scan of things asked for once passes through a
//! tenth of the room and displaces nothing: the small queue is the admission policy.
//!
//! What is light has lives besides visits: it goes around the main queue a few times more, and the
//! lightest enter it at once. A `.mod` weighs a three-hundredth of a zip and a miss costs its reader
//! the same round trip, so keeping it is nearly free. Where all weigh the same, or where the number
//! of entries is what is scarce, nothing is light.
//!
//! Ids are those of the store's slab: they index a table of 20 bytes an entry (`queues`) and a byte
//! an entry in which hits are counted without a lock (`marks`). A ghost is two bytes (`ghosts`).
//! Marks and ghosts grow by doubling, so an entry costs 23 bytes on average and 26 at worst.
//! [`Keyed`] gives ids to those who have keys.
//!
//! Promises: the weights held never exceed the capacity; every id that was inserted is held, or was
//! handed back, or was removed. Each operation is amortised O(1): an entry goes around at most 15
//! times for its lives, and a visit gives it one time more and its lives again.

mod ghosts;
mod keyed;
mod marks;
mod queues;
#[cfg(test)]
mod tests;

use self::ghosts::Ghosts;
use self::marks::MOST_VISITS;
use self::queues::{HEAVIEST, Place, Queues};

pub(crate) use self::keyed::{Keyed, Visited, Visits};
pub(crate) use self::marks::Marks;

/// Entries are scarce when no more than one part in this many is left of the number allowed.
const FEW_LEFT: usize = 8;

/// The numbers that were chosen by replaying a trace (`benches/policy`, ADR 6).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// The small queue's share of the capacity: one part in this many.
    pub(crate) small_share: u64,
    /// An entry's lives: as many as it goes into the mean weight, but not more than this.
    pub(crate) most_lives: u8,
    /// With so many lives an entry is light and enters the main queue at once.
    pub(crate) light: u8,
}

impl Tuning {
    /// What the store uses.
    pub(crate) const CHOSEN: Self = Self {
        small_share: 10,
        most_lives: 15,
        light: 8,
    };
}

/// Ids with weights, bounded by the sum of the weights and by their number.
#[derive(Debug)]
pub(crate) struct Policy {
    capacity: u64,
    most: usize,
    tuning: Tuning,
    queues: Queues,
    ghosts: Ghosts,
    marks: Marks,
}

impl Policy {
    /// An empty cache for at most `most` ids whose weights sum up to at most `capacity` bytes.
    pub(crate) fn new(capacity: u64, most: usize) -> Self {
        Self::tuned(capacity, most, Tuning::CHOSEN)
    }

    /// The same with other numbers, for the bench.
    pub(crate) fn tuned(capacity: u64, most: usize, tuning: Tuning) -> Self {
        Self {
            capacity: capacity.min(HEAVIEST),
            most,
            tuning,
            queues: Queues::new(),
            ghosts: Ghosts::new(),
            marks: Marks::default(),
        }
    }

    /// Where readers count their hits.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Takes an id in, or anew if it is held, and appends to `evicted` what has to go for it: the
    /// newcomer itself if it is heavier than the whole capacity.
    ///
    /// The fingerprint is a hash of what the id stands for, by which it is known when it comes back
    /// under another id.
    pub(crate) fn insert(
        &mut self,
        id: u32,
        fingerprint: u64,
        weight: u64,
        evicted: &mut Vec<u32>,
    ) {
        let fingerprint = (fingerprint >> 32 ^ fingerprint) as u32;
        let known = self.remove(id) | self.ghosts.take(fingerprint);
        if weight > self.capacity || self.most == 0 {
            evicted.push(id);
            return;
        }
        self.make_room(weight, 1, evicted);
        self.marks.take_all(id);
        let lives = self.lives(weight);
        let direct = known || lives >= self.tuning.light;
        let place = if direct { Place::Main } else { Place::Small };
        self.queues.push(id, place, fingerprint, weight, lives);
    }

    /// Forgets an id; false if it wasn't held. If it had proved its worth, its fingerprint is
    /// remembered: what replaces it needn't prove it again.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        let place = self.queues.place(id);
        if place == Place::Nowhere {
            return false;
        }
        if place == Place::Main || self.marks.take_all(id) > 0 {
            self.remember(id);
        }
        self.queues.unlink(id);
        true
    }

    /// Changes the weight of an id that is held; what no longer fits is appended to `evicted`, the
    /// id itself perhaps among it.
    pub(crate) fn reweigh(&mut self, id: u32, weight: u64, evicted: &mut Vec<u32>) {
        if self.queues.place(id) == Place::Nowhere {
            return;
        }
        if weight > self.capacity {
            self.queues.unlink(id);
            evicted.push(id);
            return;
        }
        self.queues.reweigh(id, weight);
        self.make_room(0, 0, evicted);
    }

    /// The sum of the weights held, in bytes.
    pub(crate) fn used(&self) -> u64 {
        self.queues.weight()
    }

    /// How many bytes are missing for this id to be held with that weight, counting one byte where it
    /// is the number of ids that is too high. 0 where the weight is beyond the whole capacity: nothing
    /// would help.
    #[allow(
        dead_code,
        reason = "the bench of the policy has the policy without its store"
    )]
    pub(crate) fn missing(&self, id: u32, weight: u64) -> u64 {
        if weight > self.capacity {
            return 0;
        }
        let (held, one_more) = match self.contains(id) {
            true => (self.queues.weight_of(id), 0),
            false => (0, 1),
        };
        let bytes = (self.used() - held + weight).saturating_sub(self.capacity);
        bytes.max(u64::from(self.len() + one_more > self.most))
    }

    /// The number of ids held.
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Whether the id is held.
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.queues.place(id) != Place::Nowhere
    }

    /// Evicts until so much more fits.
    fn make_room(&mut self, weight: u64, entries: usize, evicted: &mut Vec<u32>) {
        while self.used() + weight > self.capacity || self.len() + entries > self.most {
            match self.evict() {
                Some(gone) => evicted.push(gone),
                None => break,
            }
        }
    }

    /// Drops one entry. None only if nothing is held.
    fn evict(&mut self) -> Option<u32> {
        // Readers mark visits meanwhile: bounded rounds, so that they can't keep us here.
        let mut patience = usize::from(MOST_VISITS + self.tuning.most_lives) * self.len();
        loop {
            let place = self.next_queue();
            let oldest = self.queues.oldest(place)?;
            if patience > 0 && self.stays(oldest, place) {
                patience -= 1;
                self.queues.requeue(oldest);
                continue;
            }
            if place == Place::Small {
                self.remember(oldest);
            }
            self.queues.unlink(oldest);
            return Some(oldest);
        }
    }

    /// Whether an entry at the end of its queue goes (on) to the main queue.
    fn stays(&mut self, id: u32, place: Place) -> bool {
        if place == Place::Small {
            return self.marks.take_all(id) > 0;
        }
        let visited = self.marks.take_one(id);
        if visited {
            let lives = self.lives(self.queues.weight_of(id));
            self.queues.give_lives(id, lives);
        }
        visited || self.queues.take_life(id)
    }

    /// The queue that has to give: the small one while it holds more than its share.
    fn next_queue(&self) -> Place {
        let small = &self.queues.small;
        let heavy = small.weight > self.capacity / self.tuning.small_share;
        let many = small.len > self.most / self.tuning.small_share as usize;
        let main_is_empty = self.queues.main.len == 0;
        if (heavy || many || main_is_empty) && small.len > 0 {
            Place::Small
        } else {
            Place::Main
        }
    }

    fn remember(&mut self, id: u32) {
        let fingerprint = self.queues.fingerprint(id);
        self.ghosts.add(fingerprint, self.queues.len());
    }

    /// How often an entry goes around the main queue unasked: what is light costs little to keep,
    /// unless it is their number that is scarce.
    fn lives(&self, weight: u64) -> u8 {
        if self.len() >= self.most - self.most / FEW_LEFT {
            return 0;
        }
        let mean = self.used() / self.len().max(1) as u64;
        let lives = mean / (weight + 1);
        lives.min(u64::from(self.tuning.most_lives)) as u8
    }
}
