//! What answers cost their clients, weighted by what each asks for.

use crate::world::{Seen, World};

/// Round trips are counted in steps of half a millisecond, up to a second.
const STEPS_PER_MS: f64 = 2.0;
const STEPS: usize = 2000;

/// A round trip is as good as the best if it is within so many milliseconds of it.
const NEAR_MS: f64 = 5.0;

/// Clients of one kind, or all.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    demand: f64,
    ms: f64,
    regret: f64,
    near: f64,
    /// The same of the answer's first PoP alone.
    first: f64,
    histogram: Vec<f64>,
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            demand: 0.0,
            ms: 0.0,
            regret: 0.0,
            near: 0.0,
            first: 0.0,
            histogram: vec![0.0; STEPS],
        }
    }
}

impl Sums {
    fn first_is(&mut self, demand: f64, ms: f64, best: f64) {
        if ms <= best + NEAR_MS {
            self.first += demand;
        }
    }

    fn add(&mut self, demand: f64, ms: f64, best: f64) {
        self.demand += demand;
        self.ms += demand * ms;
        self.regret += demand * (ms - best);
        if ms <= best + NEAR_MS {
            self.near += demand;
        }
        let step = (ms * STEPS_PER_MS) as usize;
        self.histogram[step.min(STEPS - 1)] += demand;
    }

    /// The mean round trip in milliseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.ms / self.demand
    }

    /// What it is above the best on average.
    pub(crate) fn regret(&self) -> f64 {
        self.regret / self.demand
    }

    /// The part, in percent, whose answer's first PoP is within five milliseconds of the best.
    pub(crate) fn first(&self) -> f64 {
        100.0 * self.first / self.demand
    }

    /// The part, in percent, that is within five milliseconds of the best, where of two PoPs in an
    /// answer each gets half.
    pub(crate) fn near(&self) -> f64 {
        100.0 * self.near / self.demand
    }

    /// The round trip that 95 % are within.
    pub(crate) fn p95(&self) -> f64 {
        let mut left = 0.95 * self.demand;
        let step = self.histogram.iter().position(|part| {
            left -= part;
            left <= 0.0
        });
        (step.unwrap_or(STEPS) + 1) as f64 / STEPS_PER_MS
    }
}

/// What a replay came to.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) all: Sums,
    /// By how they are seen: [`Seen::Subnet`], [`Seen::NearResolver`], [`Seen::FarResolver`].
    pub(crate) kinds: [Sums; 3],
    /// The highest load of each PoP; 1.0 is full.
    pub(crate) peaks: Vec<f64>,
    capacities: Vec<f64>,
    /// Units whose first PoP changed, in windows that count.
    moves: u64,
    minutes: u64,
    units: usize,
    before: Vec<usize>,
}

impl Tally {
    pub(crate) fn new(world: &World, capacities: Vec<f64>) -> Self {
        Self {
            all: Sums::default(),
            kinds: Default::default(),
            peaks: vec![0.0; capacities.len()],
            capacities,
            moves: 0,
            minutes: 0,
            units: world.units.len(),
            before: Vec::new(),
        }
    }

    /// Takes the answers of a window; hands back the PoPs' loads.
    pub(crate) fn window(
        &mut self,
        world: &World,
        minute: u64,
        up: &[bool],
        answers: &[Vec<usize>],
        counts: bool,
    ) -> Vec<f64> {
        let mut loads = vec![0.0; self.capacities.len()];
        for (unit, pops) in world.units.iter().zip(answers) {
            let demand = world.demand(unit, minute) / pops.len() as f64;
            let best = world.best(unit, minute, up).1;
            if counts {
                let (ms, all) = (
                    world.round_trip(unit, pops[0], minute),
                    world.demand(unit, minute),
                );
                self.all.first_is(all, ms, best);
                self.kinds[kind(unit.seen)].first_is(all, ms, best);
            }
            // Resolvers rotate answers: of two PoPs each gets half.
            for pop in pops {
                loads[*pop] += demand / self.capacities[*pop];
                if counts {
                    let ms = world.round_trip(unit, *pop, minute);
                    self.all.add(demand, ms, best);
                    self.kinds[kind(unit.seen)].add(demand, ms, best);
                }
            }
        }
        let firsts: Vec<usize> = answers.iter().map(|pops| pops[0]).collect();
        if counts {
            let changed = self.before.iter().zip(&firsts).filter(|(a, b)| a != b);
            self.moves += changed.count() as u64;
            self.minutes += crate::replay::WINDOW;
            for (peak, load) in self.peaks.iter_mut().zip(&loads) {
                *peak = peak.max(*load);
            }
        }
        self.before = firsts;
        loads
    }

    /// The part of the units, in percent, whose first PoP changes in an hour.
    pub(crate) fn moves_an_hour(&self) -> f64 {
        let hours = self.minutes as f64 / 60.0;
        100.0 * self.moves as f64 / hours / self.units as f64
    }

    /// The highest load that any PoP had.
    pub(crate) fn peak(&self) -> f64 {
        self.peaks.iter().copied().fold(0.0, f64::max)
    }
}

fn kind(seen: Seen) -> usize {
    match seen {
        Seen::Subnet => 0,
        Seen::NearResolver => 1,
        Seen::FarResolver => 2,
    }
}
