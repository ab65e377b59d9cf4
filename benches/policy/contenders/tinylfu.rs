//! W-TinyLFU (Einziger et al., TOS 2017): an LRU window of 1 %, then a segmented LRU (80 %
//! protected) that a newcomer enters only if it is estimated to be more popular than each entry it
//! would displace. Popularity: a count-min sketch of four-bit counters, halved every so often.

use super::list::List;
use super::{Contender, Setting};
use crate::rng::mix;
use crate::world::Id;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Window,
    Probation,
    Protected,
}

pub(super) struct TinyLfu {
    setting: Setting,
    states: Vec<State>,
    lists: [List; 3],
    sketch: Sketch,
}

impl TinyLfu {
    pub(super) fn new(setting: &Setting) -> Self {
        let objects = setting.weights.len();
        let mean = setting.weights.iter().sum::<u64>() / objects as u64;
        Self {
            setting: setting.clone(),
            states: vec![State::Absent; objects],
            lists: std::array::from_fn(|_| List::new(objects)),
            sketch: Sketch::new((setting.capacity / mean.max(1)) as usize),
        }
    }

    fn list(&mut self, state: State) -> &mut List {
        match state {
            State::Absent | State::Window => &mut self.lists[0],
            State::Probation => &mut self.lists[1],
            State::Protected => &mut self.lists[2],
        }
    }

    fn put(&mut self, id: Id, state: State) {
        self.states[id as usize] = state;
        let weight = self.setting.weight(id);
        self.list(state).push(id, weight);
    }

    fn take(&mut self, id: Id) {
        let weight = self.setting.weight(id);
        self.list(self.states[id as usize]).take(id, weight);
        self.states[id as usize] = State::Absent;
    }

    fn hit(&mut self, id: Id) {
        let next = match self.states[id as usize] {
            State::Window => State::Window,
            _ => State::Protected,
        };
        self.take(id);
        self.put(id, next);
        while self.lists[2].weight > self.setting.capacity / 100 * 79 {
            let Some(oldest) = self.lists[2].oldest() else {
                break;
            };
            self.take(oldest);
            self.put(oldest, State::Probation);
        }
    }

    /// Lets what leaves the window into the main part, or drops it.
    fn admit(&mut self, id: Id) {
        let (weight, worth) = (self.setting.weight(id), self.sketch.estimate(id));
        let room = self.setting.capacity - self.setting.capacity / 100;
        while self.lists[1].weight + self.lists[2].weight + weight > room {
            let victim = self.lists[1].oldest().or_else(|| self.lists[2].oldest());
            match victim {
                Some(victim) if self.sketch.estimate(victim) < worth => self.take(victim),
                _ => return,
            }
        }
        self.put(id, State::Probation);
    }
}

impl Contender for TinyLfu {
    fn ask(&mut self, id: Id) -> bool {
        self.sketch.count(id);
        if self.states[id as usize] != State::Absent {
            self.hit(id);
            return true;
        }
        let window = self.setting.capacity / 100;
        if self.setting.weight(id) > window {
            self.admit(id);
            return false;
        }
        self.put(id, State::Window);
        while self.lists[0].weight > window {
            let Some(oldest) = self.lists[0].oldest() else {
                break;
            };
            self.take(oldest);
            self.admit(oldest);
        }
        false
    }

    /// Links, weight, state, and eight counters of four bits.
    fn per_entry(&self) -> usize {
        2 * size_of::<Id>() + size_of::<u64>() + size_of::<State>() + 4
    }
}

/// Four rows in one table of counters.
struct Sketch {
    counters: Vec<u8>,
    counted: usize,
    period: usize,
}

impl Sketch {
    fn new(entries: usize) -> Self {
        let entries = entries.next_power_of_two().max(1024);
        Self {
            counters: vec![0; entries * 8],
            counted: 0,
            period: entries * 10,
        }
    }

    fn places(&self, id: Id) -> [usize; 4] {
        let hash = mix(u64::from(id) + 1);
        let mask = self.counters.len() - 1;
        [0, 1, 2, 3].map(|row| mix(hash.wrapping_add(row << 56 | row)) as usize & mask)
    }

    fn count(&mut self, id: Id) {
        for place in self.places(id) {
            self.counters[place] = (self.counters[place] + 1).min(15);
        }
        self.counted += 1;
        if self.counted == self.period {
            self.counted /= 2;
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
    }

    fn estimate(&self, id: Id) -> u8 {
        let counts = self.places(id).map(|place| self.counters[place]);
        counts.into_iter().min().unwrap_or(0)
    }
}
