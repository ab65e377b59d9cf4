//! A made world: clients in cities, the networks between them and the PoPs, and what a round trip
//! takes at any time.
//!
//! What is modelled, each from a seed:
//!
//! - **Distance.** Light in fibre goes at two thirds of its speed, there and back, along a path that
//!   is longer than the great circle by a factor of the two regions ([`detour`]) and of the pair of
//!   city and PoP (log-normal, σ 0.12). Islands add a cable's detour.
//! - **Networks.** Each country has two to eight, of unequal size. In some regions a part of them
//!   exchanges traffic abroad only: what goes to the PoP next door goes by Miami, Marseille or
//!   Singapore ([`abroad`]). One pair of network and PoP in twenty has bad peering: 25 to 120 ms more.
//! - **Time.** Load follows local office hours; the last mile is slower in the evening; one pair of
//!   network and PoP in fifty goes another way for six hours, 20 to 60 ms longer.
//! - **Who is seen.** A unit is a /24 of clients. Half of them ask through a resolver of their own
//!   network in their city, three in ten through a public one that sends their subnet, two in ten
//!   through one that doesn't and stands in a hub. One unit in twelve is placed in the wrong city of
//!   its country by the geo database, and so is its resolver's.
//!
//! Left out: loss, IPv6 (the map treats both alike), anycast, and that networks react to load.

use std::net::{IpAddr, Ipv4Addr};

use crate::cities::{City, Region, cities, find};
use crate::rng::{Rng, mix};

/// Units in the world, about.
const UNITS: f64 = 6000.0;

/// Milliseconds a kilometre there and back at two thirds of the speed of light.
const FIBRE_MS_PER_KM: f64 = 0.010_007;

/// Parts of the units, of 100: their subnet is sent; their resolver stands near; the rest is far.
const SUBNET_SENT: usize = 30;
const NEAR_RESOLVER: usize = 50;

/// One unit in so many is placed in the wrong city.
const MISPLACED: usize = 12;

/// One pair of network and PoP in so many has bad peering, or goes another way for a while.
const BAD_PEERING: u64 = 20;
const OTHER_WAY: u64 = 50;
const OTHER_WAY_MINUTES: u64 = 360;

/// Where public resolvers stand that send no subnet.
const HUBS: [&str; 10] = [
    "Washington",
    "Dallas",
    "San Jose",
    "São Paulo",
    "Frankfurt",
    "London",
    "Johannesburg",
    "Singapore",
    "Tokyo",
    "Mumbai",
];

const TWELVE: [&str; 12] = [
    "Washington",
    "Dallas",
    "San Jose",
    "São Paulo",
    "London",
    "Frankfurt",
    "Johannesburg",
    "Dubai",
    "Mumbai",
    "Singapore",
    "Tokyo",
    "Sydney",
];

const EIGHT_MORE: [&str; 8] = [
    "Chicago",
    "Miami",
    "Madrid",
    "Stockholm",
    "Warsaw",
    "Lagos",
    "Hong Kong",
    "Seoul",
];

/// The PoPs of an evaluation, by their cities' names.
pub(crate) fn sites(count: usize) -> Vec<&'static str> {
    TWELVE.into_iter().chain(EIGHT_MORE).take(count).collect()
}

/// How a unit's queries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// With its subnet.
    Subnet,
    /// From a resolver of its network, in its city.
    NearResolver,
    /// From a public resolver in a hub.
    FarResolver,
}

/// A /24 of clients.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Its first address.
    pub(crate) first: Ipv4Addr,
    /// The city where it is, and where the geo database says that it is.
    pub(crate) city: usize,
    pub(crate) placed: usize,
    pub(crate) asn: u32,
    pub(crate) seen: Seen,
    pub(crate) resolver: Ipv4Addr,
    /// How much it asks for, on average over the day.
    weight: f64,
    /// Milliseconds of its last mile.
    last_mile: f64,
    /// Which paths it shares.
    group: usize,
}

/// A place where resolvers stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolver {
    pub(crate) first: Ipv4Addr,
    pub(crate) placed: usize,
    pub(crate) asn: u32,
}

/// The whole of it.
pub(crate) struct World {
    pub(crate) cities: Vec<City>,
    /// Cities of the PoPs.
    pub(crate) pops: Vec<City>,
    pub(crate) units: Vec<Unit>,
    pub(crate) resolvers: Vec<Resolver>,
    seed: u64,
    /// Milliseconds of the path alone, by group and PoP.
    paths: Vec<Vec<f64>>,
}

impl World {
    /// A world with its PoPs in some of its cities.
    pub(crate) fn new(sites: &[&str], units: f64, seed: u64) -> Self {
        let cities = cities();
        let pops = sites
            .iter()
            .map(|name| find(&cities, name).clone())
            .collect();
        let mut world = Self {
            cities,
            pops,
            units: Vec::new(),
            resolvers: Vec::new(),
            seed,
            paths: Vec::new(),
        };
        world.settle(units, &mut Rng::new(seed));
        world
    }

    /// The size of the evaluation's world.
    pub(crate) fn full(sites: &[&str], seed: u64) -> Self {
        Self::new(sites, UNITS, seed)
    }

    fn settle(&mut self, units: f64, rng: &mut Rng) {
        let mut next = u32::from(Ipv4Addr::new(11, 0, 0, 0));
        let mut block = || {
            next += 256;
            Ipv4Addr::from(next)
        };
        let hubs: Vec<Resolver> = HUBS
            .iter()
            .map(|name| Resolver {
                first: block(),
                placed: self.city(name),
                asn: 64_500,
            })
            .collect();
        self.resolvers.extend(&hubs);
        let people = |city: &City| city.millions.powf(0.75) * developers(city.region);
        let total: f64 = self.cities.iter().map(people).sum();
        for city in 0..self.cities.len() {
            let share = people(&self.cities[city]) / total;
            let mut left = ((units * share).round() as usize).max(2);
            let networks = networks(&self.cities, self.cities[city].country);
            for (rank, asn) in networks.iter().copied().enumerate() {
                let part = if rank + 1 == networks.len() {
                    left
                } else {
                    left.div_ceil(2)
                };
                if part == 0 {
                    break;
                }
                left -= part;
                self.network(city, asn, part, &hubs, &mut block, rng);
            }
        }
    }

    /// The units of a network in a city, and its resolver there.
    fn network(
        &mut self,
        city: usize,
        asn: u32,
        units: usize,
        hubs: &[Resolver],
        block: &mut impl FnMut() -> Ipv4Addr,
        rng: &mut Rng,
    ) {
        let group = self.paths.len();
        let paths = (0..self.pops.len())
            .map(|pop| self.path(city, asn, pop))
            .collect();
        self.paths.push(paths);
        let resolver = Resolver {
            first: block(),
            placed: self.placed(city, rng),
            asn,
        };
        self.resolvers.push(resolver);
        let here = self.cities[city].at;
        let from = |hub: &&Resolver| here.km_to(self.cities[hub.placed].at);
        let hub = hubs.iter().min_by(|a, b| from(a).total_cmp(&from(b)));
        let hub = hub.map_or(resolver.first, |hub| hub.first);
        for _ in 0..units {
            let seen = match rng.below(100) {
                percent if percent < SUBNET_SENT => Seen::Subnet,
                percent if percent < SUBNET_SENT + NEAR_RESOLVER => Seen::NearResolver,
                _ => Seen::FarResolver,
            };
            let unit = Unit {
                first: block(),
                city,
                placed: self.placed(city, rng),
                asn,
                seen,
                resolver: if seen == Seen::NearResolver {
                    resolver.first
                } else {
                    hub
                },
                weight: rng.log_normal(1.0, 0.8),
                last_mile: rng.log_normal(6.0, 0.6),
                group,
            };
            self.units.push(unit);
        }
    }

    fn city(&self, name: &str) -> usize {
        let found = self.cities.iter().position(|city| city.name == name);
        found.unwrap_or_else(|| panic!("no city is called {name}"))
    }

    /// Where the geo database puts what is in a city.
    fn placed(&self, city: usize, rng: &mut Rng) -> usize {
        if rng.below(MISPLACED) > 0 {
            return city;
        }
        let country = self.cities[city].country;
        let same = (0..self.cities.len()).filter(|other| self.cities[*other].country == country);
        let same: Vec<usize> = same.collect();
        same[rng.below(same.len())]
    }

    /// Milliseconds of the path between a network in a city and a PoP.
    fn path(&self, city: usize, asn: u32, pop: usize) -> f64 {
        let (from, to) = (&self.cities[city], &self.pops[pop]);
        let mut rng = self.about([1, city as u64, pop as u64]);
        let wobble = rng.log_normal(1.0, 0.12);
        let remote = if from.remote {
            (1.25, 12.0)
        } else {
            (1.0, 0.0)
        };
        let leg = |a: &City, b: &City| a.at.km_to(b.at) * detour(a.region, b.region);
        let km = match self.exchange(from, asn) {
            Some(hub) => leg(from, hub) + leg(hub, to),
            None => leg(from, to),
        };
        let mut of_pair = self.about([2, asn.into(), pop as u64]);
        let peering = if of_pair.next().is_multiple_of(BAD_PEERING) {
            of_pair.between(25.0, 120.0)
        } else {
            of_pair.exponential(1.5)
        };
        1.0 + km * FIBRE_MS_PER_KM * wobble * remote.0 + remote.1 + peering
    }

    /// Where abroad a network exchanges all of its traffic, if it does.
    fn exchange(&self, city: &City, asn: u32) -> Option<&City> {
        let (part, hubs) = abroad(city.region);
        let mut rng = self.about([3, asn.into(), 0]);
        let hub = rng.chance(part).then(|| hubs[rng.below(hubs.len())]);
        hub.map(|hub| find(&self.cities, hub))
    }

    /// Milliseconds of a round trip at a time in minutes, less what differs from one to the next.
    pub(crate) fn round_trip(&self, unit: &Unit, pop: usize, minute: u64) -> f64 {
        let evening = 1.0 + 0.5 * bump(self.local_hour(unit, minute), 20.5, 3.0);
        let path = self.paths[unit.group][pop];
        path + unit.last_mile * evening + self.other_way(unit.asn, pop, minute)
    }

    fn other_way(&self, asn: u32, pop: usize, minute: u64) -> f64 {
        let slot = minute / OTHER_WAY_MINUTES;
        let pair = u64::from(asn) << 8 | pop as u64;
        let hash = mix(self.seed ^ mix(pair.wrapping_mul(0x9E37) ^ mix(slot + 77)));
        if hash.is_multiple_of(OTHER_WAY) {
            20.0 + (hash >> 32) as f64 / (1_u64 << 32) as f64 * 40.0
        } else {
            0.0
        }
    }

    /// The PoP of the least round trip among those that are up, and the milliseconds.
    pub(crate) fn best(&self, unit: &Unit, minute: u64, up: &[bool]) -> (usize, f64) {
        let pops = (0..self.pops.len()).filter(|pop| up[*pop]);
        let trips = pops.map(|pop| (pop, self.round_trip(unit, pop, minute)));
        let best = trips.min_by(|a, b| a.1.total_cmp(&b.1));
        best.expect("a PoP is up")
    }

    /// What a unit asks for at a time.
    pub(crate) fn demand(&self, unit: &Unit, minute: u64) -> f64 {
        // Builds run at night too; people work by day.
        unit.weight * (0.3 + 1.7 * bump(self.local_hour(unit, minute), 14.0, 4.0))
    }

    fn local_hour(&self, unit: &Unit, minute: u64) -> f64 {
        let east = self.cities[unit.city].at.longitude / 15.0;
        (minute as f64 / 60.0 + east).rem_euclid(24.0)
    }

    /// The median of `n` measured round trips: each with a jitter of its own, and one in thirty far
    /// off.
    pub(crate) fn measure(&self, unit: &Unit, pop: usize, minute: u64, n: usize) -> f64 {
        let mut rng = self.about([4 + minute, u64::from(u32::from(unit.first)), pop as u64]);
        let truth = self.round_trip(unit, pop, minute);
        let mut one = || {
            let stray = if rng.chance(1.0 / 30.0) {
                rng.exponential(120.0)
            } else {
                0.0
            };
            truth + rng.exponential(3.0) + stray
        };
        let mut trips: Vec<f64> = (0..n).map(|_| one()).collect();
        trips.sort_by(f64::total_cmp);
        trips[(n - 1) / 2]
    }

    /// The PoPs by their great-circle distance from a place.
    pub(crate) fn nearest(&self, place: usize) -> Vec<usize> {
        let at = self.cities[place].at;
        let mut pops: Vec<usize> = (0..self.pops.len()).collect();
        pops.sort_by(|a, b| {
            let km = |pop: usize| at.km_to(self.pops[pop].at);
            km(*a).total_cmp(&km(*b))
        });
        pops
    }

    /// Where the geo database says that whoever is seen asking is.
    pub(crate) fn seen_at(&self, unit: &Unit) -> usize {
        if unit.seen == Seen::Subnet {
            return unit.placed;
        }
        let resolver = self.resolvers.iter().find(|r| r.first == unit.resolver);
        resolver.map_or(unit.placed, |resolver| resolver.placed)
    }

    fn about(&self, what: [u64; 3]) -> Rng {
        let stir = |hash: u64, word: &u64| mix(hash ^ mix(word.wrapping_add(0x51)));
        Rng::new(what.iter().fold(self.seed, stir))
    }
}

impl Unit {
    pub(crate) fn subnet(&self) -> Option<IpAddr> {
        (self.seen == Seen::Subnet).then_some(self.first.into())
    }
}

/// The networks of a country, the largest first.
fn networks(cities: &[City], country: [u8; 2]) -> Vec<u32> {
    let people: f64 = (cities.iter())
        .filter(|city| city.country == country)
        .map(|city| city.millions)
        .sum();
    let [a, b] = country.map(u32::from);
    let count = (2.0 + people / 12.0).min(8.0) as u32;
    (0..count).map(|rank| (a * 256 + b) * 16 + rank).collect()
}

/// Developers for each inhabitant, as a ratio.
fn developers(region: Region) -> f64 {
    match region {
        Region::NorthAmerica | Region::Europe => 2.0,
        Region::EastAsia | Region::Oceania => 1.3,
        Region::SouthAsia | Region::LatinAmerica | Region::SoutheastAsia => 0.8,
        Region::MiddleEast => 0.7,
        Region::Africa => 0.4,
    }
}

/// The part of a region's networks that exchange traffic abroad only, and where.
fn abroad(region: Region) -> (f64, &'static [&'static str]) {
    match region {
        Region::NorthAmerica => (0.0, &["Washington"]),
        Region::Europe => (0.04, &["Frankfurt", "London"]),
        Region::EastAsia => (0.10, &["Los Angeles", "Hong Kong"]),
        Region::Oceania => (0.15, &["Los Angeles", "Sydney"]),
        Region::SoutheastAsia => (0.25, &["Singapore", "Hong Kong"]),
        Region::SouthAsia => (0.20, &["Singapore", "Marseille"]),
        Region::LatinAmerica => (0.35, &["Miami"]),
        Region::MiddleEast => (0.35, &["Frankfurt", "Marseille"]),
        Region::Africa => (0.50, &["Marseille", "London"]),
    }
}

/// How much longer than the great circle the way between two regions is.
fn detour(a: Region, b: Region) -> f64 {
    use Region::{
        Africa, EastAsia, Europe, LatinAmerica, MiddleEast, NorthAmerica, Oceania, SouthAsia,
        SoutheastAsia,
    };
    match (a.min(b), a.max(b)) {
        (NorthAmerica, NorthAmerica | Europe | Oceania) => 1.3,
        (NorthAmerica, LatinAmerica | EastAsia) => 1.4,
        (Europe, Europe | MiddleEast | Oceania) => 1.45,
        (Oceania, Oceania) => 1.4,
        (LatinAmerica, Europe) | (SoutheastAsia, Oceania) | (EastAsia, SoutheastAsia) => 1.5,
        (EastAsia, EastAsia | Oceania) | (Europe, Africa | SouthAsia) => 1.6,
        (SouthAsia, SoutheastAsia) | (MiddleEast, SouthAsia) => 1.6,
        (LatinAmerica, LatinAmerica) | (Europe, EastAsia | SoutheastAsia) => 1.75,
        (SouthAsia, SouthAsia) | (SoutheastAsia, SoutheastAsia) => 1.8,
        (MiddleEast | Africa, MiddleEast) => 2.1,
        (Africa, Africa) => 2.4,
        (LatinAmerica, Africa) => 2.5,
        _ => 1.9,
    }
}

/// 1 at an hour of the day, falling to 0 within `width` hours and more.
fn bump(hour: f64, at: f64, width: f64) -> f64 {
    let away = (hour - at).rem_euclid(24.0);
    let away = away.min(24.0 - away);
    (-(away / width).powi(2)).exp()
}
