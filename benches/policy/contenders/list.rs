//! A queue of objects from which any can be taken: two links an object.

use crate::world::Id;

const NONE: Id = Id::MAX;

pub(super) struct List {
    /// Before and after.
    links: Vec<(Id, Id)>,
    pub(super) oldest: Id,
    newest: Id,
    pub(super) weight: u64,
}

impl List {
    pub(super) fn new(objects: usize) -> Self {
        Self {
            links: vec![(NONE, NONE); objects],
            oldest: NONE,
            newest: NONE,
            weight: 0,
        }
    }

    pub(super) fn oldest(&self) -> Option<Id> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The one that came after this one.
    pub(super) fn after(&self, id: Id) -> Option<Id> {
        let after = self.links[id as usize].1;
        (after != NONE).then_some(after)
    }

    pub(super) fn push(&mut self, id: Id, weight: u64) {
        self.links[id as usize] = (self.newest, NONE);
        match self.newest {
            NONE => self.oldest = id,
            newest => self.links[newest as usize].1 = id,
        }
        self.newest = id;
        self.weight += weight;
    }

    pub(super) fn take(&mut self, id: Id, weight: u64) {
        let (before, after) = self.links[id as usize];
        match before {
            NONE => self.oldest = after,
            before => self.links[before as usize].1 = after,
        }
        match after {
            NONE => self.newest = before,
            after => self.links[after as usize].0 = before,
        }
        self.weight -= weight;
    }
}
