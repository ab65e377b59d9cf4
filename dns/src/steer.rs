//! Steering: which PoP a client is led to, and why.
//!
//! Pure: no I/O, no clock. [`compile`] makes a [`Map`] of [`Inputs`] and the map before; a map is an
//! immutable snapshot, so every answer can be explained and repeated. What decides, in order:
//!
//! 1. the operator's pin of the longest prefix, then of the autonomous system; may its PoP not be
//!    answered, the one nearest to it that may;
//! 2. scores: the round trip expected to each PoP, from distance and measurements (`world`), with
//!    hysteresis and shedding (`unit`);
//! 3. the same for the resolver, where nothing is known of the client's subnet;
//! 4. the first healthy PoP of the operator's order; 5. every healthy PoP; 6. every draining one;
//!    7. every one: a viewpoint from which all is down is more likely wrong than right, and some
//!    answer beats none.
//!
//! How a map is made, in the order data flows: `geo` (databases) and `samples` (measurements) make
//! the `world`; `layout` cuts the addresses into units of which the same is known; `unit` decides
//! about each; `scope` merges equal neighbours; `table` is what lookups read. `changes` and
//! `explain` say what came of it. What the decisions go on from is the map before (`past`), or what
//! the process before left (`homes`).
//!
//! **Scope.** An answer tailored to a client subnet says for which prefix it holds: the largest
//! around the subnet in which every address gets the same answer, at most [`SUBNET_CAP_V4`] or
//! [`SUBNET_CAP_V6`] bits long. So no answer to a subnet depends on bits beyond that, and pins
//! finer than it apply to resolvers' own addresses only: those need no scope.

mod changes;
mod compile;
pub mod constants;
mod countries;
mod explain;
mod geo;
mod homes;
mod index;
mod layout;
mod levels;
mod life;
mod moves;
mod own;
mod past;
mod prior;
mod rows;
mod samples;
mod scope;
mod space;
mod table;
mod trie;
mod unit;
mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use changes::{Cause, Changes, MAX_MOVES, Move};
pub use compile::{compile, resume};
pub use constants::Constants;
pub use explain::{Candidate, Explanation, Score};
pub use geo::{Asns, GeoError, MAX_DATABASE_BYTES, Places};
pub use homes::{Homes, HomesError};
pub use samples::{MAX_ROUND_TRIP_MS, MAX_SAMPLES, MAX_WEIGHT, Sample, SampleError, Samples};
pub use trie::{Match, Trie};

use compile::Answers;
use layout::{Basis, Layout};
use scope::{Entry, Leaf};
use space::{Family, bits};
use table::Table;
use unit::{Relief, Verdict};
use world::{Estimate, World};

/// No scope of an IPv4 answer is longer: resolvers send no more than this.
pub const SUBNET_CAP_V4: u8 = 24;

/// No scope of an IPv6 answer is longer.
pub const SUBNET_CAP_V6: u8 = 56;

/// The earth's mean radius in kilometres.
const EARTH_KM: f64 = 6371.0;

/// A point on the earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// North positive, −90 to 90.
    pub latitude: f64,
    /// East positive, −180 to 180.
    pub longitude: f64,
}

impl Point {
    /// The great-circle distance in kilometres (haversine).
    #[must_use]
    pub fn km_to(self, other: Self) -> f64 {
        let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
        let cosines = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let h =
            half(self.latitude, other.latitude) + cosines * half(self.longitude, other.longitude);
        2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// A part of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Continent {
    /// AF.
    Africa,
    /// AN.
    Antarctica,
    /// AS.
    Asia,
    /// EU.
    Europe,
    /// NA.
    NorthAmerica,
    /// OC.
    Oceania,
    /// SA.
    SouthAmerica,
}

impl Continent {
    /// The continent of a geo database's code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "AF" => Self::Africa,
            "AN" => Self::Antarctica,
            "AS" => Self::Asia,
            "EU" => Self::Europe,
            "NA" => Self::NorthAmerica,
            "OC" => Self::Oceania,
            "SA" => Self::SouthAmerica,
            _ => return None,
        })
    }
}

/// Where a geo database says an address is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The point itself, or the middle of the country.
    pub point: Point,
    /// ISO 3166-1 alpha-2, where known.
    pub country: Option<[u8; 2]>,
    /// The continent, where known.
    pub continent: Option<Continent>,
}

/// A PoP as the map knows it.
#[derive(Clone, Debug)]
pub struct Pop {
    /// Its name in config, logs and metrics.
    pub name: String,
    /// Its IPv4 addresses, all answered.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses, all answered.
    pub v6: Vec<Ipv6Addr>,
    /// Where it stands.
    pub at: Point,
}

/// A set of PoPs among which a steered name chooses: an index into [`Inputs::views`]. Names with
/// the same set share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(pub u16);

/// One of the few possible answers of a map, see [`Map::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerId(u16);

impl AnswerId {
    /// Its index into [`Map::answers`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A possible answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The PoPs, best first: indices into [`Map::pops`].
    pub pops: Vec<usize>,
    /// What logs and metrics call it: `eu`, `eu+us`, `healthy`, `draining`, `every`.
    pub name: String,
}

/// The state of a PoP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It may be answered.
    #[default]
    Up,
    /// It may be answered, but others are preferred by [`Constants::degraded_ms`].
    Degraded,
    /// It is being emptied: answered only if no PoP is up.
    Draining,
    /// It is answered only if nothing else is left.
    Down,
}

impl State {
    /// Its name in logs, metrics and explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// Everything a map is made of. Large parts are shared, so a clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The PoPs; indices everywhere else are into this.
    pub pops: Arc<[Pop]>,
    /// The sets of PoPs that names choose among; none: one set of every PoP.
    pub views: Vec<Vec<usize>>,
    /// PoPs in the order in which clients of unknown place prefer them.
    pub order: Vec<usize>,
    /// Prefixes whose clients are led to a PoP; the longest wins.
    pub pins: Arc<[(IpNet, usize)]>,
    /// Autonomous systems whose clients are led to a PoP, unless their prefix is pinned.
    pub asn_pins: Arc<BTreeMap<u32, usize>>,
    /// Where places come from.
    pub geo: Option<Arc<Places>>,
    /// Where autonomous systems come from.
    pub asns: Option<Arc<Asns>>,
    /// What was measured.
    pub samples: Arc<Samples>,
    /// The time up to which samples have aged, in seconds since 1970.
    pub clock: u64,
    /// The state of each PoP; what is missing is up.
    pub states: Vec<State>,
    /// The load of each PoP, 1.0 is full; what is missing is idle.
    pub load: Vec<f64>,
    /// The part of the units at home at each PoP that it is given, 0 to 1; what is missing is 1.
    pub weight: Vec<f64>,
    /// Milliseconds added to each PoP's score; what is missing is none.
    pub bias: Vec<f64>,
}

impl Inputs {
    fn state(&self, pop: usize) -> State {
        self.states.get(pop).copied().unwrap_or_default()
    }

    fn is_healthy(&self, pop: usize) -> bool {
        matches!(self.state(pop), State::Up | State::Degraded)
    }
}

/// An immutable snapshot: every client's answer, and why.
#[derive(Debug)]
pub struct Map {
    version: u64,
    answers: Answers,
    views: Vec<Arc<Led>>,
    /// What each PoP does about its load.
    relief: Vec<Relief>,
    /// What it was made of, without the samples.
    inputs: Inputs,
    constants: Constants,
    world: Arc<World>,
    layout: Arc<Layout>,
    at: Instant,
    /// When evidence for moves was last counted.
    evidence_at: Instant,
    /// When the answers of each class could next change; never by themselves where none.
    deadlines: [Option<Instant>; scope::CLASSES as usize],
}

/// How a view is led.
#[derive(Debug, PartialEq)]
struct Led {
    /// Entries by family.
    tables: [Table; 2],
    /// Pins finer than any scope: for resolvers' own addresses.
    fine: Trie<Leaf>,
    /// By unit; none where scores didn't decide.
    verdicts: Vec<Option<Verdict>>,
    /// By unit.
    leaves: Vec<Leaf>,
    /// Moves that may still be made.
    allowance: f64,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The client's subnet, where the query carried one.
    pub subnet: Option<IpAddr>,
    /// Who sent the query.
    pub resolver: IpAddr,
}

/// What a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The PoPs to answer.
    pub answer: AnswerId,
    /// What led to them.
    pub source: Source,
    /// Whose address it was.
    pub via: Via,
    /// Bits of the client's subnet for which this answer holds; 0 where none was sent.
    pub scope: u8,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
}

/// What decided, the same in log, metric and explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A pin of a prefix.
    Pin,
    /// A pin of an autonomous system.
    AsnPin,
    /// Round trips measured from the client's own prefix.
    Measured,
    /// Round trips measured from its autonomous system in its country.
    Asn,
    /// Round trips measured from its country.
    Country,
    /// Round trips measured from its continent.
    Continent,
    /// Its distance alone.
    Distance,
    /// Nothing is known of the client: the operator's order.
    Order,
    /// Nothing is known of it and no order helps: every healthy PoP.
    All,
    /// No PoP looks healthy from here.
    NoneHealthy,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Pin,
        Self::AsnPin,
        Self::Measured,
        Self::Asn,
        Self::Country,
        Self::Continent,
        Self::Distance,
        Self::Order,
        Self::All,
        Self::NoneHealthy,
    ];

    /// Its name in logs, metrics and explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::AsnPin => "asn-pin",
            Self::Measured => "measured",
            Self::Asn => "asn",
            Self::Country => "country",
            Self::Continent => "continent",
            Self::Distance => "distance",
            Self::Order => "order",
            Self::All => "all",
            Self::NoneHealthy => "none-healthy",
        }
    }
}

impl Source {
    /// Whether something was known of the client's address, so that nobody else's is looked at.
    fn is_of_client(self) -> bool {
        !matches!(self, Self::Order | Self::All | Self::NoneHealthy)
    }

    /// Whether scores decided.
    fn is_scored(self) -> bool {
        matches!(
            self,
            Self::Measured | Self::Asn | Self::Country | Self::Continent | Self::Distance
        )
    }

    /// Whether the operator decided about this very client.
    fn is_operators(self) -> bool {
        matches!(self, Self::Pin | Self::AsnPin)
    }
}

/// Whose address decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The client's, from its subnet.
    Subnet,
    /// The resolver's.
    Resolver,
}

impl Via {
    /// Its name in logs and explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Subnet => "subnet",
            Self::Resolver => "resolver",
        }
    }
}

impl Map {
    /// Counts snapshots, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All PoPs, in the config's order.
    #[must_use]
    pub fn pops(&self) -> &[Pop] {
        &self.inputs.pops
    }

    /// Every PoP's name, with the state that the map takes it to have.
    pub fn states(&self) -> impl Iterator<Item = (&str, State)> {
        let pops = self.inputs.pops.iter().enumerate();
        pops.map(|(index, pop)| (pop.name.as_str(), self.inputs.state(index)))
    }

    /// Whether a PoP may be chosen: it is neither down nor draining.
    #[must_use]
    pub fn is_healthy(&self, pop: usize) -> bool {
        self.inputs.is_healthy(pop)
    }

    /// One of the answers that choices name.
    #[must_use]
    pub fn answer(&self, id: AnswerId) -> &Answer {
        &self.answers.list[id.index()]
    }

    /// Every answer that a choice can name, by [`AnswerId::index`]; for rendering ahead.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers.list
    }

    /// What a name answers that isn't tailored: every healthy PoP of the view; if there is none
    /// every draining one, and if there is none of these every PoP.
    #[must_use]
    pub fn healthy(&self, view: ViewId) -> AnswerId {
        AnswerId((self.inputs.pops.len() + self.view_index(view)) as u16)
    }

    /// Chooses for a client. Total and deterministic: the same map, client and time, the same
    /// choice.
    #[inline]
    #[must_use]
    pub fn choose(&self, view: ViewId, client: &Client, now: Instant) -> Choice {
        let led = self.led(view);
        let of_subnet = client.subnet.map(|subnet| led.entry(subnet));
        let scope = of_subnet.map_or(0, Entry::scope);
        let leaf = of_subnet
            .map(Entry::leaf)
            .filter(|leaf| leaf.source.is_of_client());
        let (leaf, via) = match leaf {
            Some(leaf) => (leaf, Via::Subnet),
            None => (led.of_resolver(client.resolver), Via::Resolver),
        };
        Choice {
            answer: leaf.answer,
            source: leaf.source,
            via,
            scope,
            ttl: self.ttl(leaf.class, now),
        }
    }

    fn ttl(&self, class: u8, now: Instant) -> u32 {
        let Constants {
            ttl_least: least,
            ttl_most: most,
            ..
        } = self.constants;
        let left = match self.deadlines[usize::from(class)] {
            Some(deadline) => deadline.saturating_duration_since(now),
            None => most,
        };
        left.min(most).max(least).as_secs() as u32
    }

    /// Bytes that lookups read, of all views.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let tables = self.views.iter().flat_map(|led| &led.tables);
        tables.map(Table::bytes).sum()
    }

    /// A view that isn't there is the first: names are bound to views when the configuration is
    /// read, and a map of the last one must still answer them.
    fn view_index(&self, view: ViewId) -> usize {
        let index = usize::from(view.0);
        if index < self.views.len() { index } else { 0 }
    }

    /// The PoPs among which a view chooses: indices into [`Map::pops`].
    #[must_use]
    pub fn view(&self, view: ViewId) -> &[usize] {
        &self.inputs.views[self.view_index(view)]
    }

    fn led(&self, view: ViewId) -> &Led {
        &self.views[self.view_index(view)]
    }

    fn estimate(&self, basis: Basis, estimates: &mut Vec<Estimate>) {
        if let Basis::Scored(traits, own) = basis {
            self.world
                .estimate(&self.inputs, &self.constants, traits, own, estimates);
        }
    }

    /// What a unit is known by from map to map and from server to server.
    fn key(&self, unit: Basis) -> u64 {
        layout::key(unit, &self.inputs, &self.world)
    }

    /// The keys of all units, in their order.
    fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.layout.units.iter().map(|unit| self.key(*unit))
    }

    fn source(&self, basis: Basis) -> Source {
        match basis {
            Basis::Pin(_) => Source::Pin,
            Basis::AsnPin(_) => Source::AsnPin,
            Basis::Scored(traits, own) => self.world.source(&self.inputs, traits, own),
            Basis::Unknown => Source::Order,
        }
    }
}

impl Led {
    #[inline]
    fn entry(&self, address: IpAddr) -> Entry {
        Entry(self.tables[Family::of(address) as usize].at(bits(address)))
    }

    fn of_resolver(&self, resolver: IpAddr) -> Leaf {
        let fine = self.fine.find(resolver).value.copied();
        fine.unwrap_or_else(|| self.entry(resolver).leaf())
    }
}

fn cap(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => SUBNET_CAP_V4,
        IpAddr::V6(_) => SUBNET_CAP_V6,
    }
}

/// An address with the bits beyond the cap cleared.
fn cut(address: IpAddr) -> IpAddr {
    IpNet::new(address, cap(address)).map_or(address, |net| net.network())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
