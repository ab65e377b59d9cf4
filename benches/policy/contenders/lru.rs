//! Least recently used.

use super::list::List;
use super::{Contender, Setting};
use crate::world::Id;

pub(super) struct Lru {
    setting: Setting,
    held: Vec<bool>,
    list: List,
}

impl Lru {
    pub(super) fn new(setting: &Setting) -> Self {
        let objects = setting.weights.len();
        Self {
            setting: setting.clone(),
            held: vec![false; objects],
            list: List::new(objects),
        }
    }
}

impl Contender for Lru {
    fn ask(&mut self, id: Id) -> bool {
        let weight = self.setting.weight(id);
        let hit = std::mem::replace(&mut self.held[id as usize], true);
        if hit {
            self.list.take(id, weight);
        }
        while self.list.weight + weight > self.setting.capacity {
            let Some(oldest) = self.list.oldest() else {
                break;
            };
            self.list.take(oldest, self.setting.weight(oldest));
            self.held[oldest as usize] = false;
        }
        self.list.push(id, weight);
        hit
    }

    fn per_entry(&self) -> usize {
        2 * size_of::<Id>() + size_of::<u64>()
    }
}
