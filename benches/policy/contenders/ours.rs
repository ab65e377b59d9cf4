//! The edge's own policy.

use super::{Contender, Setting};
use crate::policy::{Policy, Tuning};
use crate::rng::mix;
use crate::world::Id;

/// How the version that an object belongs to could count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not at all: what the edge does.
    Ignored,
    /// A visit to what is not superseded counts twice.
    NewestTwice,
    /// A visit to what is superseded doesn't count.
    SupersededNever,
}

pub(super) struct Ours {
    setting: Setting,
    standing: Standing,
    policy: Policy,
    evicted: Vec<u32>,
    superseded: Vec<bool>,
}

impl Ours {
    pub(super) fn new(setting: &Setting, tuning: Tuning, standing: Standing) -> Self {
        Self {
            setting: setting.clone(),
            standing,
            policy: Policy::tuned(setting.capacity, setting.most, tuning),
            evicted: Vec::new(),
            superseded: vec![false; setting.weights.len()],
        }
    }

    /// How many marks a visit is worth.
    fn worth(&self, id: Id) -> usize {
        match (self.standing, self.superseded[id as usize]) {
            (Standing::Ignored, _) | (Standing::NewestTwice, true) => 1,
            (Standing::NewestTwice, false) => 2,
            (Standing::SupersededNever, superseded) => usize::from(!superseded),
        }
    }
}

impl Contender for Ours {
    fn ask(&mut self, id: Id) -> bool {
        if self.policy.contains(id) {
            (0..self.worth(id)).for_each(|_| self.policy.marks().mark(id));
            return true;
        }
        let weight = self.setting.weight(id);
        self.evicted.clear();
        self.policy
            .insert(id, mix(u64::from(id)), weight, &mut self.evicted);
        false
    }

    fn supersede(&mut self, id: Id) {
        self.superseded[id as usize] = true;
    }

    /// A node, a mark and a ghost; the policy's own tests hold it to that.
    fn per_entry(&self) -> usize {
        20 + 1 + 2
    }
}
