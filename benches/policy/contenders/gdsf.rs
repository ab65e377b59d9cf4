//! Greedy-Dual-Size-Frequency (Cherkasova, 1998): keeps what has the most visits a byte. O(log n),
//! and a lock for every hit: a yardstick of what the object hit ratio could be, not a candidate.

use std::collections::BTreeSet;

use super::{Contender, Setting};
use crate::world::Id;

#[derive(Clone, Copy, Default)]
struct Entry {
    visits: u32,
    priority: u64,
}

pub(super) struct Gdsf {
    setting: Setting,
    entries: Vec<Entry>,
    order: BTreeSet<(u64, Id)>,
    used: u64,
    age: u64,
}

impl Gdsf {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            setting: setting.clone(),
            entries: vec![Entry::default(); setting.weights.len()],
            order: BTreeSet::new(),
            used: 0,
            age: 0,
        }
    }
}

impl Contender for Gdsf {
    fn ask(&mut self, id: Id) -> bool {
        let weight = self.setting.weight(id);
        let entry = self.entries[id as usize];
        let hit = entry.visits > 0;
        if hit {
            self.order.remove(&(entry.priority, id));
        } else {
            while self.used + weight > self.setting.capacity {
                let Some((age, gone)) = self.order.pop_first() else {
                    break;
                };
                self.age = age;
                self.used -= self.setting.weight(gone);
                self.entries[gone as usize] = Entry::default();
            }
            self.used += weight;
        }
        let visits = entry.visits + 1;
        let priority = self.age + (u64::from(visits) << 32) / weight;
        self.entries[id as usize] = Entry { visits, priority };
        self.order.insert((priority, id));
        hit
    }

    fn per_entry(&self) -> usize {
        size_of::<Entry>() + 2 * size_of::<(u64, Id)>()
    }
}
