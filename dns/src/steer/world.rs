//! What is known of the world when a map is made: how long a round trip from a client to a PoP is
//! expected to take.
//!
//! The prior is the PoP's line over the distance. What was measured corrects it, from the coarse to
//! the fine: continent, country, autonomous system in that country, the client's own prefix. At
//! each level `(n0·inherited + n·median)/(n0 + n)`. Levels above the prefix hold *residuals*
//! (measured less prior) rather than round trips, so that a large country's median does not hide
//! that its coasts are far apart; there `n` counts prefixes, each at most once, since it is they
//! that differ.

use std::collections::HashMap;

use super::constants::Constants;
use super::prior::{Line, Spot, lines};
use super::space::{Family, Key};
use super::{Inputs, Place, Source, State};

/// What decides about a unit besides its own samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    /// Index of the place; 0 is none.
    pub(super) place: u32,
    /// The autonomous system; 0 where it is unknown or nothing depends on it.
    pub(super) asn: u32,
}

/// A median and how much it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cell {
    pub(super) median: f64,
    pub(super) n: f64,
}

/// A prefix's own samples at one PoP.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OwnCell {
    pop: u16,
    median: f32,
    n: f32,
}

/// The prefixes that were measured, in the order of their families and keys.
#[derive(Debug, Default, PartialEq)]
struct Own {
    prefixes: Vec<(Family, Key)>,
    /// Where the cells of each end.
    ends: Vec<u32>,
    cells: Vec<OwnCell>,
}

/// Everything a score is made of.
#[derive(Debug, PartialEq)]
pub(super) struct World {
    lines: Vec<Line>,
    /// Kilometres from each place to each PoP; places are those of the geo database.
    km: Vec<f64>,
    /// Residuals a level, each a cell a PoP.
    levels: HashMap<Level, Box<[Cell]>>,
    own: Own,
}

/// A level between the distance and the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Level {
    Continent(super::Continent),
    Country([u8; 2]),
    /// A system, in a country where that is known.
    Asn(u32, Option<[u8; 2]>),
}

/// An expected round trip and what it is made of, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// Kilometres, where the place is known.
    pub(super) km: Option<f64>,
    /// From the distance alone.
    pub(super) prior: f64,
    /// What coarser levels add to it.
    pub(super) inherited: f64,
    /// The prefix's own samples.
    pub(super) own: Cell,
    /// The expected round trip.
    pub(super) expected: f64,
    /// What the operator adds.
    pub(super) bias: f64,
    /// What a degraded PoP is worsened by.
    pub(super) penalty: f64,
}

impl Estimate {
    /// What PoPs are compared by; less is better.
    pub(super) fn score(&self) -> f64 {
        self.expected + self.bias + self.penalty
    }
}

fn drawn(towards: f64, cell: Cell, prior_samples: f64) -> f64 {
    if cell.n > 0.0 {
        (prior_samples * towards + cell.n * cell.median) / (prior_samples + cell.n)
    } else {
        towards
    }
}

impl World {
    pub(super) fn new(inputs: &Inputs, constants: &Constants) -> Self {
        let mut world = Self {
            lines: Vec::new(),
            km: distances(inputs),
            levels: HashMap::new(),
            own: Own::new(inputs, constants),
        };
        let mut spots: Vec<Vec<Spot>> = vec![Vec::new(); inputs.pops.len()];
        let traits: Vec<Traits> = (0..world.own.prefixes.len())
            .map(|index| world.traits_of(inputs, index))
            .collect();
        for (index, traits) in traits.iter().enumerate() {
            for cell in world.own.cells(index) {
                if let Some(km) = world.km(traits.place, cell.pop.into(), spots.len()) {
                    spots[usize::from(cell.pop)].push((km, cell.median.into()));
                }
            }
        }
        world.lines = lines(&mut spots, constants);
        drop(spots);
        world.gather(inputs, constants, &traits);
        world
    }

    /// The measured prefixes.
    pub(super) fn measured(&self) -> &[(Family, Key)] {
        &self.own.prefixes
    }

    /// What is known of an address at which one of the measured prefixes begins.
    fn traits_of(&self, inputs: &Inputs, index: usize) -> Traits {
        let (family, key) = self.own.prefixes[index];
        Traits {
            place: inputs
                .geo
                .as_ref()
                .map_or(0, |geo| geo.steps(family).at(key.first)),
            asn: inputs
                .asns
                .as_ref()
                .map_or(0, |asns| asns.steps(family).at(key.first)),
        }
    }

    /// Kilometres between a place and a PoP.
    fn km(&self, place: u32, pop: usize, pops: usize) -> Option<f64> {
        (place != 0).then(|| self.km[place as usize * pops + pop])
    }

    /// Makes the levels, one after the other, so that only one is in memory twice.
    fn gather(&mut self, inputs: &Inputs, constants: &Constants, traits: &[Traits]) {
        for which in 0..3 {
            let mut rows: Vec<(Level, u16, f64, f64)> = Vec::new();
            for (index, traits) in traits.iter().enumerate() {
                let Some(level) = levels_of(inputs, *traits)[which] else {
                    continue;
                };
                for cell in self.own.cells(index) {
                    let pop = usize::from(cell.pop);
                    let prior = self.prior(inputs, constants, *traits, pop);
                    let n = f64::from(cell.n);
                    let weight = n / (n + constants.prior_samples);
                    rows.push((level, cell.pop, f64::from(cell.median) - prior, weight));
                }
            }
            rows.sort_unstable_by(|a, b| {
                (a.0, a.1)
                    .cmp(&(b.0, b.1))
                    .then(a.2.total_cmp(&b.2))
                    .then(a.3.total_cmp(&b.3))
            });
            for group in rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                let cells = self
                    .levels
                    .entry(group[0].0)
                    .or_insert_with(|| vec![Cell::default(); inputs.pops.len()].into());
                cells[usize::from(group[0].1)] = weighted_median(group.iter().map(|r| (r.2, r.3)));
            }
        }
    }

    fn prior(&self, inputs: &Inputs, constants: &Constants, traits: Traits, pop: usize) -> f64 {
        let km = self.km(traits.place, pop, inputs.pops.len());
        self.lines[pop].at(km.unwrap_or(constants.unknown_km))
    }

    /// Whether anything was measured of a system, so that its clients may differ from others.
    pub(super) fn knows_asn(&self, inputs: &Inputs, traits: Traits) -> bool {
        levels_of(inputs, traits)[2].is_some_and(|level| self.levels.contains_key(&level))
    }

    /// The finest level that was measured of a unit.
    pub(super) fn source(&self, inputs: &Inputs, traits: Traits, own: Option<u32>) -> Source {
        let [continent, country, asn] = levels_of(inputs, traits)
            .map(|level| level.is_some_and(|l| self.levels.contains_key(&l)));
        match () {
            () if own.is_some() => Source::Measured,
            () if asn => Source::Asn,
            () if country => Source::Country,
            () if continent => Source::Continent,
            () => Source::Distance,
        }
    }

    /// The estimate of a unit for every PoP, into a list that is overwritten.
    pub(super) fn estimate(
        &self,
        inputs: &Inputs,
        constants: &Constants,
        traits: Traits,
        own: Option<u32>,
        estimates: &mut Vec<Estimate>,
    ) {
        let n0 = constants.prior_samples;
        let np = constants.prior_prefixes;
        let levels = levels_of(inputs, traits).map(|level| self.levels.get(&level?));
        estimates.clear();
        estimates.extend((0..inputs.pops.len()).map(|pop| {
            let prior = self.prior(inputs, constants, traits, pop);
            let inherited = levels
                .iter()
                .flatten()
                .fold(0.0, |inherited, cells| drawn(inherited, cells[pop], np));
            let degraded = inputs.state(pop) == State::Degraded;
            Estimate {
                km: self.km(traits.place, pop, inputs.pops.len()),
                prior,
                inherited,
                own: Cell::default(),
                expected: prior + inherited,
                bias: inputs.bias.get(pop).copied().unwrap_or(0.0),
                penalty: if degraded { constants.degraded_ms } else { 0.0 },
            }
        }));
        for cell in own.map_or(&[][..], |own| self.own.cells(own as usize)) {
            let estimate = &mut estimates[usize::from(cell.pop)];
            estimate.own = Cell {
                median: cell.median.into(),
                n: cell.n.into(),
            };
            estimate.expected = drawn(estimate.expected, estimate.own, n0);
        }
    }
}

impl Own {
    fn new(inputs: &Inputs, constants: &Constants) -> Self {
        let index = |name: &String| inputs.pops.iter().position(|pop| pop.name == *name);
        let pops: Vec<Option<usize>> = inputs.samples.pops().iter().map(index).collect();
        let mut own = Self::default();
        for row in inputs.samples.weighed(inputs.clock, constants) {
            let Some(pop) = pops[usize::from(row.pop)] else {
                continue;
            };
            if own.prefixes.last() != Some(&(row.family, row.key)) {
                own.prefixes.push((row.family, row.key));
                own.ends.push(0);
            }
            own.cells.push(OwnCell {
                pop: pop as u16,
                median: row.median_ms as f32,
                n: row.n as f32,
            });
            if let Some(end) = own.ends.last_mut() {
                *end = own.cells.len() as u32;
            }
        }
        own
    }

    fn cells(&self, index: usize) -> &[OwnCell] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.cells[start as usize..self.ends[index] as usize]
    }
}

fn distances(inputs: &Inputs) -> Vec<f64> {
    let places = inputs.geo.as_ref().map_or(&[][..], |geo| geo.table());
    let from = |place: &Option<Place>| {
        let point = place.map(|place| place.point);
        let pops = inputs.pops.iter();
        pops.map(move |pop| point.map_or(0.0, |point| point.km_to(pop.at)))
    };
    places.iter().flat_map(from).collect()
}

/// The levels of a unit, from the coarse to the fine.
fn levels_of(inputs: &Inputs, traits: Traits) -> [Option<Level>; 3] {
    let place = inputs.geo.as_ref().and_then(|geo| geo.place(traits.place));
    let country = place.and_then(|place| place.country);
    [
        place
            .and_then(|place| place.continent)
            .map(Level::Continent),
        country.map(Level::Country),
        (traits.asn != 0).then_some(Level::Asn(traits.asn, country)),
    ]
}

/// The first value at which half of the weight is reached, and the whole weight.
fn weighted_median(sorted: impl Iterator<Item = (f64, f64)> + Clone) -> Cell {
    let n: f64 = sorted.clone().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    let mut median = 0.0;
    for (value, weight) in sorted {
        median = value;
        sum += weight;
        if sum * 2.0 >= n {
            break;
        }
    }
    Cell { median, n }
}
