//! What was measured of continents, countries and systems: residuals, a list of those PoPs that were
//! measured.

use std::collections::HashMap;

use super::world::{Cell, Traits};
use super::{Continent, Inputs};

/// A level between the distance and the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Level {
    Continent(Continent),
    Country([u8; 2]),
    /// A system, in a country where that is known.
    Asn(u32, Option<[u8; 2]>),
}

impl Level {
    /// The levels of a unit, from the coarse to the fine.
    pub(super) fn of(inputs: &Inputs, traits: Traits) -> [Option<Self>; 3] {
        let place = inputs.geo.as_ref().and_then(|geo| geo.place(traits.place));
        let country = place.and_then(|place| place.country);
        [
            place.and_then(|place| place.continent).map(Self::Continent),
            country.map(Self::Country),
            (traits.asn != 0).then_some(Self::Asn(traits.asn, country)),
        ]
    }
}

/// A prefix's residual at a PoP, and what it weighs.
pub(super) type Residual = (usize, f64, f64);

/// A residual of a level. Half of what a [`Cell`] takes: there are hundreds of thousands.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Packed {
    pop: u16,
    median: f32,
    n: f32,
}

/// Residuals by level.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Levels {
    /// Where the cells of each begin and end.
    ranges: HashMap<Level, (u32, u32)>,
    cells: Vec<Packed>,
}

impl Levels {
    pub(super) fn has(&self, level: Level) -> bool {
        self.ranges.contains_key(&level)
    }

    /// What was measured of a level, by PoP.
    pub(super) fn cells(&self, level: Level) -> impl Iterator<Item = (usize, Cell)> + '_ {
        let range = self.ranges.get(&level).copied().unwrap_or_default();
        let cells = self.cells[range.0 as usize..range.1 as usize].iter();
        cells.map(|cell| {
            let (median, n) = (cell.median.into(), cell.n.into());
            (usize::from(cell.pop), Cell { median, n })
        })
    }

    /// Adds a level with the residuals of its prefixes.
    pub(super) fn add(&mut self, level: Level, residuals: &mut [Residual]) {
        residuals.sort_unstable_by(|a, b| {
            let by_value = a.1.total_cmp(&b.1).then(a.2.total_cmp(&b.2));
            a.0.cmp(&b.0).then(by_value)
        });
        let start = self.cells.len() as u32;
        for of_pop in residuals.chunk_by(|a, b| a.0 == b.0) {
            let Cell { median, n } = weighted_median(of_pop);
            self.cells.push(Packed {
                pop: of_pop[0].0 as u16,
                median: median as f32,
                n: n as f32,
            });
        }
        let range = (start, self.cells.len() as u32);
        if range.0 < range.1 {
            self.ranges.insert(level, range);
        }
    }

    /// Lets go of what was held to grow.
    pub(super) fn shrink(&mut self) {
        self.ranges.shrink_to_fit();
        self.cells.shrink_to_fit();
    }
}

/// The first value at which half of the weight is reached, and the whole weight.
fn weighted_median(sorted: &[Residual]) -> Cell {
    let n: f64 = sorted.iter().map(|(_, _, weight)| weight).sum();
    let mut sum = 0.0;
    let mut median = 0.0;
    for (_, value, weight) in sorted {
        median = *value;
        sum += weight;
        if sum * 2.0 >= n {
            break;
        }
    }
    Cell { median, n }
}
