//! SIEVE (Zhang et al., NSDI 2024): a queue whose hand walks from the oldest to the newest, spares
//! what was visited and leaves it in its place.

use super::list::List;
use super::{Contender, Setting};
use crate::world::Id;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Fresh,
    Visited,
}

pub(super) struct Sieve {
    setting: Setting,
    states: Vec<State>,
    list: List,
    hand: Option<Id>,
}

impl Sieve {
    pub(super) fn new(setting: &Setting) -> Self {
        let objects = setting.weights.len();
        Self {
            setting: setting.clone(),
            states: vec![State::Absent; objects],
            list: List::new(objects),
            hand: None,
        }
    }

    fn evict(&mut self) {
        while let Some(at) = self.hand.or_else(|| self.list.oldest()) {
            self.hand = self.list.after(at);
            if self.states[at as usize] == State::Visited {
                self.states[at as usize] = State::Fresh;
                continue;
            }
            self.list.take(at, self.setting.weight(at));
            self.states[at as usize] = State::Absent;
            return;
        }
    }
}

impl Contender for Sieve {
    fn ask(&mut self, id: Id) -> bool {
        if self.states[id as usize] != State::Absent {
            self.states[id as usize] = State::Visited;
            return true;
        }
        let weight = self.setting.weight(id);
        while self.list.weight + weight > self.setting.capacity {
            self.evict();
        }
        self.list.push(id, weight);
        self.states[id as usize] = State::Fresh;
        false
    }

    fn per_entry(&self) -> usize {
        2 * size_of::<Id>() + size_of::<u64>() + size_of::<State>()
    }
}
