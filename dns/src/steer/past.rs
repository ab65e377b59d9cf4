//! The map before, as the new one sees it.

use super::Map;
use super::index::PopIndex;
use super::unit::Memory;

/// The map before, as the new one sees it.
pub(super) struct Past<'a> {
    pub(super) map: &'a Map,
    /// By the new map's units: the one of the map before that each goes on, see [`heirs`].
    units: Vec<u32>,
    /// What its PoPs are now, by their names.
    pops: Vec<Option<PopIndex>>,
}

impl<'a> Past<'a> {
    pub(super) fn new(map: &'a Map, new: &Map) -> Self {
        let names = map.inputs.pops.iter().map(|pop| &pop.name);
        Self {
            map,
            units: heirs(map, new),
            pops: names.map(|name| new.pop_named(name)).collect(),
        }
    }

    /// The unit of the map before that a new one goes on.
    pub(super) fn unit(&self, unit: usize) -> usize {
        self.units[unit] as usize
    }

    /// What a PoP of the map before is now.
    pub(super) fn pop(&self, pop: usize) -> Option<usize> {
        self.pops[pop].map(PopIndex::get)
    }

    /// What was decided about what a new unit goes on.
    pub(super) fn memory(&self, view: usize, unit: usize) -> Option<Memory> {
        let verdict = self.map.views.get(view)?.verdicts[self.unit(unit)]?;
        let now = |pop: PopIndex| self.pops[pop.get()];
        let challenger = verdict.challenger.and_then(now);
        Some(Memory {
            home: now(verdict.home)?,
            had: [now(verdict.shown), verdict.second.and_then(now)],
            challenger,
            streak: challenger.map_or(0, |_| verdict.streak),
        })
    }
}

/// For each unit of a map the one of the map before that has the same key, or if there is none, the
/// one in its place.
fn heirs(before: &Map, new: &Map) -> Vec<u32> {
    let mut by_key: Vec<(u64, u32)> = before.keys().zip(0..).collect();
    by_key.sort_unstable();
    let heir = |(key, (family, first))| {
        let found = by_key.binary_search_by_key(&key, |(key, _)| *key);
        found.map_or_else(|_| before.layout.at(family, first), |at| by_key[at].1)
    };
    new.keys().zip(new.layout.firsts()).map(heir).collect()
}

impl Map {
    /// The index of a PoP.
    pub(super) fn pop_named(&self, name: &str) -> Option<PopIndex> {
        let found = self.inputs.pops.iter().position(|pop| pop.name == name);
        found.map(PopIndex::of)
    }
}
