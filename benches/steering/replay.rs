//! Days of a world, window by window: what each contender answers, and what that costs.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use modcdn_dns::steer::{
    Asns, Client, Constants, Inputs, Map, Place, Places, Pop, Sample, Samples, State, ViewId,
    compile,
};

use crate::tally::Tally;
use crate::world::{Unit, World};

/// Minutes of a window: each ends with a new map.
pub(crate) const WINDOW: u64 = 10;

/// Seconds since 1970 at which a replay begins.
const EPOCH: u64 = 1_800_000_000;

/// Every unit is measured once in so many minutes.
const ROUND: u64 = 360;

/// Units take turns at being measured, one in each window.
const TURNS: usize = (ROUND / WINDOW) as usize;

/// What is counted begins after this many minutes: by then every unit was measured twice.
pub(crate) const SETTLED: u64 = 720;

/// PoPs at which a unit is measured, where more than its own count.
const NEAREST: usize = 6;

/// The load that a PoP is planned to have at its busiest hour.
const PLANNED: f64 = 0.65;

/// A PoP that is lost for some time: which, and from which minute to which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) pop: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// Where clients are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// At the [`NEAREST`] PoPs: clients of `all.<name>`, of resolvers elsewhere, and those whom an
    /// operator sends around.
    Around,
    /// Only at those to which they are led.
    Led,
}

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The PoP of the least round trip at that moment, whatever its load.
    Oracle,
    /// The nearest PoP by great circle from where the geo database says that the asker is.
    Distance,
    /// The PoP of the least round trip among those at which a unit is measured, as it was when it was:
    /// what samples without noise would be worth.
    Hindsight,
    /// A map, with so many samples a unit and PoP in every six hours.
    Ours {
        samples: usize,
        at: Where,
        /// Whether PoPs report their loads, so that a full one sheds.
        loads: bool,
    },
}

/// Replays some minutes of a world.
pub(crate) fn replay(
    world: &World,
    contender: Contender,
    minutes: u64,
    outage: Option<Outage>,
) -> Tally {
    let mut steerer = Steerer::new(world, contender);
    let mut tally = Tally::new(world, capacities(world));
    let mut loads = vec![0.0; world.pops.len()];
    for minute in (0..minutes).step_by(WINDOW as usize) {
        let up: Vec<bool> = (0..world.pops.len())
            .map(|pop| !outage.is_some_and(|out| out.pop == pop && out.covers(minute)))
            .collect();
        let answers = steerer.answers(minute, &up, &loads);
        loads = tally.window(world, minute, &up, &answers, minute >= SETTLED);
    }
    tally
}

impl Outage {
    fn covers(&self, minute: u64) -> bool {
        (self.from..self.until).contains(&minute)
    }
}

/// What each PoP can carry: planned by an operator who leads by distance, so that each is at
/// [`PLANNED`] in its own busiest hour, and none smaller than a third of the average.
fn capacities(world: &World) -> Vec<f64> {
    let mut peaks = vec![0.0_f64; world.pops.len()];
    for minute in (0..1440).step_by(60) {
        let mut loads = vec![0.0; peaks.len()];
        for unit in &world.units {
            loads[world.nearest(unit.city)[0]] += world.demand(unit, minute);
        }
        for (peak, load) in peaks.iter_mut().zip(loads) {
            *peak = peak.max(load);
        }
    }
    let least = peaks.iter().sum::<f64>() / peaks.len() as f64 / 3.0;
    peaks.iter().map(|peak| peak.max(least) / PLANNED).collect()
}

enum Steerer<'a> {
    Oracle(&'a World),
    Distance(Vec<Vec<usize>>),
    Hindsight(&'a World, Vec<Vec<usize>>),
    Ours(Box<Ours<'a>>),
}

impl<'a> Steerer<'a> {
    fn new(world: &'a World, contender: Contender) -> Self {
        match contender {
            Contender::Oracle => Self::Oracle(world),
            Contender::Hindsight => Self::Hindsight(world, measured_from(world)),
            Contender::Distance => {
                let ranked = world.units.iter();
                let ranked = ranked.map(|unit| world.nearest(world.seen_at(unit)));
                Self::Distance(ranked.collect())
            }
            Contender::Ours { samples, at, loads } => {
                Self::Ours(Box::new(Ours::new(world, samples, at, loads)))
            }
        }
    }

    /// The PoPs that each unit is answered.
    fn answers(&mut self, minute: u64, up: &[bool], loads: &[f64]) -> Vec<Vec<usize>> {
        match self {
            Self::Oracle(world) => {
                let best = |unit| vec![world.best(unit, minute, up).0];
                world.units.iter().map(best).collect()
            }
            Self::Hindsight(world, nearest) => {
                let units = world.units.iter().zip(nearest.iter()).enumerate();
                let best = |(index, (unit, near)): (usize, (&Unit, &Vec<usize>))| {
                    let then = measured_at(index, minute);
                    let trip = |pop: &usize| world.round_trip(unit, *pop, then);
                    let near = near.iter().copied().filter(|pop| up[*pop]);
                    let best = near.min_by(|a, b| trip(a).total_cmp(&trip(b)));
                    vec![best.expect("one of the nearest is up")]
                };
                units.map(best).collect()
            }
            Self::Distance(ranked) => {
                let first = |pops: &Vec<usize>| pops.iter().find(|pop| up[**pop]).copied();
                ranked
                    .iter()
                    .map(|pops| first(pops).into_iter().collect())
                    .collect()
            }
            Self::Ours(ours) => ours.answers(minute, up, loads),
        }
    }
}

/// Maps, one after the other, as a DNS node makes them.
struct Ours<'a> {
    world: &'a World,
    samples: usize,
    at: Where,
    loads: bool,
    nearest: Vec<Vec<usize>>,
    inputs: Inputs,
    measured: Samples,
    constants: Constants,
    map: Option<Map>,
    start: Instant,
}

impl<'a> Ours<'a> {
    fn new(world: &'a World, samples: usize, at: Where, loads: bool) -> Self {
        Self {
            nearest: measured_from(world),
            inputs: inputs(world),
            measured: Samples::default(),
            constants: Constants {
                window: Duration::from_secs(WINDOW * 60),
                ..Constants::default()
            },
            map: None,
            start: Instant::now(),
            world,
            samples,
            at,
            loads,
        }
    }

    fn answers(&mut self, minute: u64, up: &[bool], loads: &[f64]) -> Vec<Vec<usize>> {
        let now = self.start + Duration::from_secs(minute * 60);
        self.inputs.clock = EPOCH + minute * 60;
        if self.samples > 0 {
            self.measure(minute, up, now);
        }
        let state = |up: &bool| if *up { State::Up } else { State::Down };
        self.inputs.states = up.iter().map(state).collect();
        if self.loads {
            self.inputs.load = loads.to_vec();
        }
        let (map, _) = compile(&self.inputs, self.map.as_ref(), &self.constants, now);
        let units = self.world.units.iter();
        let answers = units.map(|unit| answered(&map, unit, now)).collect();
        self.map = Some(map);
        answers
    }

    /// Takes the samples of the units whose turn it is.
    fn measure(&mut self, minute: u64, up: &[bool], now: Instant) {
        let turn = (minute / WINDOW) as usize % TURNS;
        let units = self.world.units.iter().enumerate();
        for (index, unit) in units.skip(turn).step_by(TURNS) {
            let pops = match (self.at, &self.map) {
                (Where::Around, _) => self.nearest[index].clone(),
                (Where::Led, Some(map)) => answered(map, unit, now),
                (Where::Led, None) => Vec::new(),
            };
            for pop in pops.into_iter().filter(|pop| up[*pop]) {
                let sample = Sample {
                    prefix: prefix(unit.first).into(),
                    pop: self.world.pops[pop].name.to_owned(),
                    median_ms: self.world.measure(unit, pop, minute, self.samples),
                    n: self.samples as f64,
                    at: EPOCH + minute * 60,
                };
                let taken = self.measured.add(&sample, &self.constants);
                taken.expect("the world's round trips can be true");
            }
        }
        self.inputs.samples = Arc::new(self.measured.clone());
    }
}

/// The PoPs at which each unit is measured, wherever it is led.
fn measured_from(world: &World) -> Vec<Vec<usize>> {
    let nearest = world.units.iter().map(|unit| {
        let mut pops = world.nearest(unit.city);
        pops.truncate(NEAREST);
        pops
    });
    nearest.collect()
}

/// The minute at which a unit was last measured.
fn measured_at(unit: usize, minute: u64) -> u64 {
    let (now, turn) = (minute / WINDOW, (unit % TURNS) as u64);
    let turns = TURNS as u64;
    now.saturating_sub((now + turns - turn) % turns) * WINDOW
}

fn answered(map: &Map, unit: &Unit, now: Instant) -> Vec<usize> {
    let client = Client {
        subnet: unit.subnet(),
        resolver: unit.resolver.into(),
    };
    let choice = map.choose(ViewId::default(), &client, now);
    map.answer(choice.answer).pops.clone()
}

fn inputs(world: &World) -> Inputs {
    let pops = world.pops.iter().map(|city| Pop {
        name: city.name.to_owned(),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: Vec::new(),
        at: city.at,
    });
    let units = world
        .units
        .iter()
        .map(|unit| (unit.first, unit.placed, unit.asn));
    let resolvers = world.resolvers.iter().map(|r| (r.first, r.placed, r.asn));
    let known: Vec<(IpNet, usize, u32)> = units
        .chain(resolvers)
        .map(|(first, placed, asn)| (prefix(first).into(), placed, asn))
        .collect();
    let place = |placed: usize| {
        let city = &world.cities[placed];
        Place {
            point: city.at,
            country: Some(city.country),
            continent: None,
        }
    };
    Inputs {
        pops: pops.collect(),
        order: vec![0],
        geo: Some(Arc::new(Places::of(
            known.iter().map(|(net, placed, _)| (*net, place(*placed))),
        ))),
        asns: Some(Arc::new(Asns::of(
            known.iter().map(|(net, _, asn)| (*net, *asn)),
        ))),
        ..Inputs::default()
    }
}

fn prefix(first: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new(first, 24).expect("24 bits are few enough")
}
