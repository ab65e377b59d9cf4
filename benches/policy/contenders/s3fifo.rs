//! S3-FIFO as its paper has it, over bytes: a small queue of 10 %, ghosts as many as entries held.

use std::collections::VecDeque;

use super::{Contender, Setting};
use crate::world::Id;

const MOST_VISITS: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Ghost,
    Held,
}

pub(super) struct S3Fifo {
    setting: Setting,
    states: Vec<State>,
    visits: Vec<u8>,
    small: VecDeque<Id>,
    main: VecDeque<Id>,
    ghosts: VecDeque<Id>,
    small_weight: u64,
    main_weight: u64,
}

impl S3Fifo {
    pub(super) fn new(setting: &Setting) -> Self {
        let objects = setting.weights.len();
        Self {
            setting: setting.clone(),
            states: vec![State::Absent; objects],
            visits: vec![0; objects],
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            small_weight: 0,
            main_weight: 0,
        }
    }

    fn enter_main(&mut self, id: Id) {
        self.main.push_back(id);
        self.main_weight += self.setting.weight(id);
    }

    fn evict(&mut self) {
        if self.small_weight > self.setting.capacity / 10 || self.main.is_empty() {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        let Some(id) = self.small.pop_front() else {
            return;
        };
        self.small_weight -= self.setting.weight(id);
        if std::mem::take(&mut self.visits[id as usize]) > 1 {
            return self.enter_main(id);
        }
        self.states[id as usize] = State::Ghost;
        self.ghosts.push_back(id);
        while self.ghosts.len() > self.small.len() + self.main.len() {
            let Some(oldest) = self.ghosts.pop_front() else {
                break;
            };
            if self.states[oldest as usize] == State::Ghost {
                self.states[oldest as usize] = State::Absent;
            }
        }
    }

    fn evict_main(&mut self) {
        while let Some(id) = self.main.pop_front() {
            if self.visits[id as usize] > 0 {
                self.visits[id as usize] -= 1;
                self.main.push_back(id);
                continue;
            }
            self.main_weight -= self.setting.weight(id);
            self.states[id as usize] = State::Absent;
            return;
        }
    }
}

impl Contender for S3Fifo {
    fn ask(&mut self, id: Id) -> bool {
        let visits = &mut self.visits[id as usize];
        if self.states[id as usize] == State::Held {
            *visits = (*visits + 1).min(MOST_VISITS);
            return true;
        }
        *visits = 0;
        let weight = self.setting.weight(id);
        while self.small_weight + self.main_weight + weight > self.setting.capacity {
            self.evict();
        }
        let known = std::mem::replace(&mut self.states[id as usize], State::Held) == State::Ghost;
        if known {
            self.enter_main(id);
        } else {
            self.small.push_back(id);
            self.small_weight += weight;
        }
        false
    }

    /// An id in a queue, one in the ghosts, weight, state and visits.
    fn per_entry(&self) -> usize {
        2 * size_of::<Id>() + size_of::<u64>() + size_of::<State>() + 1
    }
}
