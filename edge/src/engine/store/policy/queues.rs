//! Two queues of ids, linked through one table: an id is in one of them or in none.

/// No id.
const NONE: u32 = u32::MAX;
/// Nodes are made this many at a time, so that growing neither moves nor doubles them.
const CHUNK: usize = 4096;
/// The heaviest that an entry can be, in bytes.
pub(super) const HEAVIEST: u64 = (1 << 48) - 1;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Small,
    Main,
}

/// What is kept of an entry: 20 bytes.
#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    weight_low: u32,
    fingerprint: u32,
    weight_high: u16,
    place: Place,
    /// Times that it goes around the main queue without a visit.
    lives: u8,
}

impl Node {
    const EMPTY: Self = Self {
        before: NONE,
        after: NONE,
        weight_low: 0,
        fingerprint: 0,
        weight_high: 0,
        place: Place::Nowhere,
        lives: 0,
    };

    fn weight(&self) -> u64 {
        u64::from(self.weight_high) << 32 | u64::from(self.weight_low)
    }

    fn set_weight(&mut self, weight: u64) {
        debug_assert!(weight <= HEAVIEST);
        self.weight_low = weight as u32;
        self.weight_high = (weight >> 32) as u16;
    }
}

/// One queue: what it holds in sum, and its ends.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) len: usize,
    pub(super) weight: u64,
    oldest: u32,
    newest: u32,
}

impl Queue {
    const EMPTY: Self = Self {
        len: 0,
        weight: 0,
        oldest: NONE,
        newest: NONE,
    };
}

/// The table and the two queues.
#[derive(Debug)]
pub(super) struct Queues {
    nodes: Vec<Box<[Node]>>,
    pub(super) small: Queue,
    pub(super) main: Queue,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            small: Queue::EMPTY,
            main: Queue::EMPTY,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    pub(super) fn weight(&self) -> u64 {
        self.small.weight + self.main.weight
    }

    pub(super) fn place(&self, id: u32) -> Place {
        let chunk = self.nodes.get(id as usize / CHUNK);
        chunk.map_or(Place::Nowhere, |chunk| chunk[id as usize % CHUNK].place)
    }

    pub(super) fn oldest(&self, place: Place) -> Option<u32> {
        let oldest = match place {
            Place::Nowhere => NONE,
            Place::Small => self.small.oldest,
            Place::Main => self.main.oldest,
        };
        (oldest != NONE).then_some(oldest)
    }

    pub(super) fn fingerprint(&self, id: u32) -> u32 {
        self.node(id).fingerprint
    }

    pub(super) fn weight_of(&self, id: u32) -> u64 {
        self.node(id).weight()
    }

    /// Takes one of the entry's lives; false if it had none.
    pub(super) fn take_life(&mut self, id: u32) -> bool {
        let node = self.node_mut(id);
        let alive = node.lives > 0;
        node.lives = node.lives.saturating_sub(1);
        alive
    }

    pub(super) fn give_lives(&mut self, id: u32, lives: u8) {
        self.node_mut(id).lives = lives;
    }

    /// Puts an id that is nowhere at the end of a queue.
    pub(super) fn push(&mut self, id: u32, place: Place, fingerprint: u32, weight: u64, lives: u8) {
        debug_assert!(id != NONE);
        let chunks = id as usize / CHUNK + 1;
        while self.nodes.len() < chunks {
            self.nodes.push(vec![Node::EMPTY; CHUNK].into());
        }
        let node = self.node_mut(id);
        debug_assert!(node.place == Place::Nowhere);
        node.fingerprint = fingerprint;
        node.lives = lives;
        node.set_weight(weight);
        self.link(id, place);
    }

    /// Takes an id out of its queue.
    pub(super) fn unlink(&mut self, id: u32) {
        let Node { before, after, .. } = *self.node(id);
        let weight = self.node(id).weight();
        let place = self.place(id);
        if before != NONE {
            self.node_mut(before).after = after;
        }
        if after != NONE {
            self.node_mut(after).before = before;
        }
        if let Some(queue) = self.queue(place) {
            queue.len -= 1;
            queue.weight -= weight;
            if queue.oldest == id {
                queue.oldest = after;
            }
            if queue.newest == id {
                queue.newest = before;
            }
        }
        self.node_mut(id).place = Place::Nowhere;
    }

    /// Moves an id to the end of the main queue.
    pub(super) fn requeue(&mut self, id: u32) {
        self.unlink(id);
        self.link(id, Place::Main);
    }

    pub(super) fn reweigh(&mut self, id: u32, weight: u64) {
        let place = self.place(id);
        let old = self.node(id).weight();
        self.node_mut(id).set_weight(weight);
        if let Some(queue) = self.queue(place) {
            queue.weight = queue.weight - old + weight;
        }
    }

    /// Bytes that the table occupies.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.nodes.len() * CHUNK * size_of::<Node>()
    }

    fn link(&mut self, id: u32, place: Place) {
        let weight = self.node(id).weight();
        let Some(queue) = self.queue(place) else {
            return;
        };
        queue.len += 1;
        queue.weight += weight;
        let before = std::mem::replace(&mut queue.newest, id);
        if before == NONE {
            queue.oldest = id;
        } else {
            self.node_mut(before).after = id;
        }
        let node = self.node_mut(id);
        node.before = before;
        node.after = NONE;
        node.place = place;
    }

    fn queue(&mut self, place: Place) -> Option<&mut Queue> {
        match place {
            Place::Nowhere => None,
            Place::Small => Some(&mut self.small),
            Place::Main => Some(&mut self.main),
        }
    }

    fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize / CHUNK][id as usize % CHUNK]
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize / CHUNK][id as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        assert_eq!(size_of::<Node>(), 20);
    }

    #[test]
    fn an_id_can_be_taken_from_anywhere_in_a_queue() {
        let mut queues = Queues::new();
        for id in [3, 9000, 5, 7] {
            queues.push(id, Place::Small, 0, 10, 0);
        }
        for id in [9000, 3, 7] {
            queues.unlink(id);
        }
        assert_eq!(queues.oldest(Place::Small), Some(5));
        assert_eq!((queues.small.len, queues.small.weight), (1, 10));
        queues.requeue(5);
        assert_eq!(queues.oldest(Place::Small), None);
        assert_eq!(queues.oldest(Place::Main), Some(5));
        assert_eq!(queues.place(9000), Place::Nowhere);
    }

    #[test]
    fn weights_beyond_four_gibibytes_are_exact() {
        let mut queues = Queues::new();
        queues.push(0, Place::Main, 0, HEAVIEST, 0);
        assert_eq!(queues.weight(), HEAVIEST);
        queues.reweigh(0, 5 << 32 | 7);
        queues.unlink(0);
        assert_eq!((queues.weight(), queues.len()), (0, 0));
    }
}
