//! What is known of the world when a map is made: how long a round trip from a client to a PoP is
//! expected to take.
//!
//! The prior is the PoP's line over the distance. What was measured corrects it, from the coarse to
//! the fine: continent, country, autonomous system in that country, the client's own prefix. At
//! each level `(n0·inherited + n·median)/(n0 + n)`. Levels above the prefix hold *residuals*
//! (measured less prior) rather than round trips, so that a large country's median does not hide
//! that its coasts are far apart; there `n` counts prefixes, each at most once, since it is they
//! that differ.

use super::constants::Constants;
use super::levels::{Level, Levels};
use super::own::Own;
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

/// Everything a score is made of.
#[derive(Debug, PartialEq)]
pub(super) struct World {
    lines: Vec<Line>,
    /// Kilometres from each place to each PoP; places are those of the geo database.
    km: Vec<f64>,
    levels: Levels,
    own: Own,
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
            levels: Levels::default(),
            own: Own::new(inputs, constants),
        };
        let traits: Vec<Traits> = (0..world.own.len())
            .map(|index| world.traits_of(inputs, index))
            .collect();
        world.lines = lines(&mut world.spots(inputs, &traits), constants);
        for which in 0..3 {
            world.gather(which, inputs, constants, &traits);
        }
        world.levels.shrink();
        world
    }

    /// The prefixes of a family that were measured, each with its index.
    pub(super) fn measured(&self, family: Family) -> impl Iterator<Item = (Key, usize)> + '_ {
        self.own.measured(family)
    }

    /// One of the measured prefixes.
    pub(super) fn prefix(&self, index: u32) -> (Family, Key) {
        self.own.prefix(index as usize)
    }

    /// What is known of an address at which one of the measured prefixes begins.
    fn traits_of(&self, inputs: &Inputs, index: usize) -> Traits {
        let (family, key) = self.own.prefix(index);
        let (geo, asns) = (inputs.geo.as_ref(), inputs.asns.as_ref());
        Traits {
            place: geo.map_or(0, |geo| geo.steps(family).at(key.first)),
            asn: asns.map_or(0, |asns| asns.steps(family).at(key.first)),
        }
    }

    /// What was measured of known places, by PoP.
    fn spots(&self, inputs: &Inputs, traits: &[Traits]) -> Vec<Vec<Spot>> {
        let mut spots = vec![Vec::new(); inputs.pops.len()];
        for (index, traits) in traits.iter().enumerate() {
            for (pop, cell) in self.own.cells(index) {
                if let Some(km) = self.km(traits.place, pop, inputs.pops.len()) {
                    spots[pop].push((km, cell.median));
                }
            }
        }
        spots
    }

    /// Kilometres between a place and a PoP.
    fn km(&self, place: u32, pop: usize, pops: usize) -> Option<f64> {
        (place != 0).then(|| self.km[place as usize * pops + pop])
    }

    /// Makes the levels of one kind, one after the other, so that the residuals of one only are in
    /// memory at once.
    fn gather(&mut self, kind: usize, inputs: &Inputs, constants: &Constants, traits: &[Traits]) {
        let prefixes = traits.iter().enumerate();
        let mut members: Vec<(Level, u32)> = prefixes
            .filter_map(|(index, traits)| Some((Level::of(inputs, *traits)[kind]?, index as u32)))
            .collect();
        members.sort_unstable();
        let mut residuals = Vec::new();
        for group in members.chunk_by(|a, b| a.0 == b.0) {
            residuals.clear();
            for (_, index) in group {
                let index = *index as usize;
                residuals.extend(self.own.cells(index).map(|(pop, cell)| {
                    let prior = self.prior(inputs, constants, traits[index], pop);
                    let weight = cell.n / (cell.n + constants.prior_samples);
                    (pop, cell.median - prior, weight)
                }));
            }
            self.levels.add(group[0].0, &mut residuals);
        }
    }

    fn prior(&self, inputs: &Inputs, constants: &Constants, traits: Traits, pop: usize) -> f64 {
        let km = self.km(traits.place, pop, inputs.pops.len());
        self.lines[pop].at(km.unwrap_or(constants.unknown_km))
    }

    /// Whether anything was measured of a system, so that its clients may differ from others.
    pub(super) fn knows_asn(&self, inputs: &Inputs, traits: Traits) -> bool {
        Level::of(inputs, traits)[2].is_some_and(|level| self.levels.has(level))
    }

    /// The finest level that was measured of a unit.
    pub(super) fn source(&self, inputs: &Inputs, traits: Traits, own: Option<u32>) -> Source {
        let [continent, country, asn] =
            Level::of(inputs, traits).map(|level| level.is_some_and(|l| self.levels.has(l)));
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
        estimates.clear();
        estimates.extend((0..inputs.pops.len()).map(|pop| {
            let degraded = inputs.state(pop) == State::Degraded;
            Estimate {
                km: self.km(traits.place, pop, inputs.pops.len()),
                prior: self.prior(inputs, constants, traits, pop),
                inherited: 0.0,
                own: Cell::default(),
                expected: 0.0,
                bias: inputs.bias.get(pop).copied().unwrap_or(0.0),
                penalty: if degraded { constants.degraded_ms } else { 0.0 },
            }
        }));
        for level in Level::of(inputs, traits).into_iter().flatten() {
            for (pop, cell) in self.levels.cells(level) {
                let inherited = &mut estimates[pop].inherited;
                *inherited = drawn(*inherited, cell, constants.prior_prefixes);
            }
        }
        for (pop, cell) in own.iter().flat_map(|own| self.own.cells(*own as usize)) {
            estimates[pop].own = cell;
        }
        for estimate in estimates {
            let expected = estimate.prior + estimate.inherited;
            estimate.expected = drawn(expected, estimate.own, n0);
        }
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
