//! Steering: which PoP a client is led to, and why.
//!
//! Pure: no I/O, no clock. A [`Map`] is an immutable snapshot, so every answer can be explained and
//! repeated. In order:
//!
//! 1. the operator's pin of the longest prefix; is its PoP down, the healthy one nearest to that PoP;
//! 2. the place of the client, from a geo database: the nearest healthy PoP by great circle;
//! 3. the same two for the resolver, where the client's subnet said nothing;
//! 4. the first healthy PoP of the operator's order;
//! 5. every healthy PoP; 6. if none looks healthy, every PoP: a viewpoint from which all is down is
//!    more likely wrong than right, and some answer beats none.
//!
//! **Scope.** An answer tailored to a client subnet says for which prefix it holds, and every
//! address inside that prefix gets the same answer. So a subnet is cut to [`SUBNET_CAP_V4`] or
//! [`SUBNET_CAP_V6`] bits before it is looked up, and the scope is the longer of what the pins and
//! the geo database needed to decide. Pins finer than the cap apply to resolvers' own addresses
//! only: those need no scope.

mod countries;
mod geo;
mod trie;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;

pub use geo::{GeoDatabase, GeoError, MAX_DATABASE_BYTES};
pub use trie::{Match, Trie};

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

/// Where a geo database says an address is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The point itself, or the middle of the country.
    pub point: Point,
    /// ISO 3166-1 alpha-2, where known.
    pub country: Option<[u8; 2]>,
}

/// A geo database's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    /// The place, if there is one.
    pub place: Option<Place>,
    /// Bits of the address that decided: every address sharing them is at this place.
    pub prefix: u8,
}

/// What knows the places of addresses.
pub trait Locate: fmt::Debug + Send + Sync {
    /// Looks an address up; must be deterministic.
    fn locate(&self, address: IpAddr) -> Located;
}

/// The places of addresses.
#[derive(Debug)]
pub struct Places(Box<dyn Locate>);

impl Places {
    /// Reads an mmdb file.
    ///
    /// # Errors
    /// See [`GeoError`].
    pub fn open(path: &Path) -> Result<Self, GeoError> {
        GeoDatabase::open(path).map(|database| Self(Box::new(database)))
    }

    fn locate(&self, address: IpAddr) -> Located {
        self.0.locate(address)
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Where places come from.
    pub geo: Option<Arc<Places>>,
    /// The state of each PoP; what is missing is up.
    pub states: Vec<State>,
}

/// Numbers of the algorithm; the configuration's section `steering`.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// The shortest TTL of a tailored answer.
    pub ttl_least: Duration,
    /// The longest.
    pub ttl_most: Duration,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            ttl_least: Duration::from_secs(20),
            ttl_most: Duration::from_secs(120),
        }
    }
}

/// What a new map changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {}

#[derive(Clone, Copy, Debug)]
struct Pin {
    prefix: IpNet,
    pop: usize,
}

/// An immutable snapshot: every client's answer, and why.
#[derive(Debug)]
pub struct Map {
    inputs: Inputs,
    pins: Trie<Pin>,
    fine_pins: Trie<Pin>,
    answers: Vec<Answer>,
    version: u64,
    ttl: u32,
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

/// A choice with everything that led to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Version of the map.
    pub map: u64,
    /// The answer's name.
    pub answer: String,
    /// What decided.
    pub source: Source,
    /// More of it, in words.
    pub why: String,
    /// Whose address decided.
    pub via: Via,
    /// The client's subnet, as far as it counts: every address in it has this explanation.
    pub subnet: Option<IpNet>,
    /// Who asked.
    pub resolver: IpAddr,
    /// Bits of the subnet for which the answer holds.
    pub scope: u8,
}

impl Explanation {
    /// One fact a line, each short enough for a TXT record's string.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let asker = match self.subnet {
            Some(subnet) if self.via == Via::Subnet => format!("for=subnet {subnet}"),
            _ => format!("for=resolver {}", self.resolver),
        };
        vec![
            format!("pop={}", self.answer),
            format!("why={}", self.why),
            asker,
            format!("map={}", self.version()),
        ]
    }

    fn version(&self) -> u64 {
        self.map
    }
}

/// Makes a map. Pure: the same arguments, the same map.
#[must_use]
pub fn compile(
    inputs: &Inputs,
    before: Option<&Map>,
    constants: &Constants,
    _now: Instant,
) -> (Map, Changes) {
    let mut inputs = inputs.clone();
    let pops = inputs.pops.len();
    inputs.states.resize(pops, State::Up);
    if inputs.views.is_empty() {
        inputs.views.push((0..pops).collect());
    }
    let mut map = Map {
        answers: Vec::new(),
        pins: Trie::default(),
        fine_pins: Trie::default(),
        version: before.map_or(1, |map| map.version + 1),
        ttl: u32::try_from(constants.ttl_least.as_secs()).unwrap_or(u32::MAX),
        inputs,
    };
    for (prefix, pop) in map.inputs.pins.iter().copied() {
        let pin = Pin { prefix, pop };
        if prefix.prefix_len() <= cap(prefix.network()) {
            map.pins.insert(prefix, pin);
        }
        map.fine_pins.insert(prefix, pin);
    }
    for (index, pop) in map.inputs.pops.iter().enumerate() {
        map.answers.push(Answer {
            pops: vec![index],
            name: pop.name.clone(),
        });
    }
    for view in &map.inputs.views {
        map.answers.push(map.all_of(view));
    }
    (map, Changes::default())
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

    /// Whether a PoP may be chosen: it is neither down nor draining.
    #[must_use]
    pub fn is_healthy(&self, pop: usize) -> bool {
        matches!(
            self.inputs.states.get(pop),
            Some(State::Up | State::Degraded)
        )
    }

    /// One of the answers that choices name.
    #[must_use]
    pub fn answer(&self, id: AnswerId) -> &Answer {
        &self.answers[id.index()]
    }

    /// Every answer that a choice can name, by [`AnswerId::index`]; for rendering ahead.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// What a name answers that isn't tailored: every healthy PoP of the view; if there is none
    /// every draining one, and if there is none of these every PoP.
    #[must_use]
    pub fn healthy(&self, view: ViewId) -> AnswerId {
        AnswerId(self.inputs.pops.len() as u16 + view.0)
    }

    fn all_of(&self, view: &[usize]) -> Answer {
        let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
            view.iter().copied().filter(|pop| wanted(*pop)).collect()
        };
        let healthy = of(&|pop| self.is_healthy(pop));
        let draining = of(&|pop| self.inputs.states[pop] == State::Draining);
        let (pops, name) = match (healthy.is_empty(), draining.is_empty()) {
            (false, _) => (healthy, "healthy"),
            (true, false) => (draining, "draining"),
            (true, true) => (view.to_vec(), "every"),
        };
        Answer {
            pops,
            name: name.to_owned(),
        }
    }

    fn view(&self, view: ViewId) -> &[usize] {
        &self.inputs.views[usize::from(view.0)]
    }

    /// Chooses for a client. Total and deterministic: the same map, client and time, the same
    /// choice.
    #[must_use]
    pub fn choose(&self, view: ViewId, client: &Client, _now: Instant) -> Choice {
        let (lead, via, scope) = self.lead(client);
        let (answer, source, _) = self.settle(view, lead);
        Choice {
            answer,
            source,
            via,
            scope,
            ttl: self.ttl,
        }
    }

    fn lead(&self, client: &Client) -> (Option<Lead>, Via, u8) {
        let (of_subnet, scope) = client
            .subnet
            .map_or((None, 0), |address| self.seek(cut(address), &self.pins));
        match of_subnet {
            Some(lead) => (Some(lead), Via::Subnet, scope),
            None => (
                self.seek(client.resolver, &self.fine_pins).0,
                Via::Resolver,
                scope,
            ),
        }
    }

    /// Looks for what is known of an address, and for how many of its bits that holds.
    fn seek(&self, address: IpAddr, pins: &Trie<Pin>) -> (Option<Lead>, u8) {
        let pinned = pins.find(address);
        if let Some(pin) = pinned.value {
            return (Some(Lead::Pin(*pin)), pinned.depth);
        }
        let Some(geo) = &self.inputs.geo else {
            return (None, pinned.depth);
        };
        let located = geo.locate(address);
        let prefix = located.prefix.min(cap(address)).max(pinned.depth);
        (located.place.map(Lead::Place), prefix)
    }

    fn settle(&self, view: ViewId, lead: Option<Lead>) -> (AnswerId, Source, String) {
        let name = |pop: usize| &self.inputs.pops[pop].name;
        let settled = match lead {
            Some(Lead::Pin(pin)) if self.is_healthy(pin.pop) => {
                Some((pin.pop, Source::Pin, format!("pin {}", pin.prefix)))
            }
            Some(Lead::Pin(pin)) => {
                self.nearest(view, self.inputs.pops[pin.pop].at)
                    .map(|(pop, _)| {
                        let down = name(pin.pop);
                        let why = format!("pin {}, nearest to {down} which is down", pin.prefix);
                        (pop, Source::Pin, why)
                    })
            }
            Some(Lead::Place(place)) => self.nearest(view, place.point).map(|(pop, km)| {
                let country = place.country.unwrap_or(*b"??");
                let country = String::from_utf8_lossy(&country).into_owned();
                (
                    pop,
                    Source::Distance,
                    format!("nearest to {country}, {} km", km as u32),
                )
            }),
            None => {
                let mut order = self.inputs.order.iter().copied();
                order
                    .find(|pop| self.is_healthy(*pop))
                    .map(|pop| (pop, Source::Order, "order".to_owned()))
            }
        };
        let all = self.healthy(view);
        match settled {
            Some((pop, source, why)) => (AnswerId(pop as u16), source, why),
            None if self.answer(all).name == "healthy" => {
                (all, Source::All, "nothing known of the client".to_owned())
            }
            None => (
                all,
                Source::NoneHealthy,
                "no pop looks healthy from here".to_owned(),
            ),
        }
    }

    /// The nearest healthy PoP and its distance in kilometres; of equals the first in the config.
    fn nearest(&self, view: ViewId, point: Point) -> Option<(usize, f64)> {
        let pops = self.view(view).iter().copied();
        pops.filter(|pop| self.is_healthy(*pop))
            .map(|pop| (pop, point.km_to(self.inputs.pops[pop].at)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// A choice with everything that led to it.
    #[must_use]
    pub fn explain(&self, view: ViewId, client: &Client) -> Explanation {
        let (lead, via, scope) = self.lead(client);
        let (answer, source, why) = self.settle(view, lead);
        Explanation {
            map: self.version,
            answer: self.answer(answer).name.clone(),
            source,
            why,
            via,
            subnet: client
                .subnet
                .and_then(|address| IpNet::new(cut(address), cap(address)).ok()),
            resolver: client.resolver,
            scope,
        }
    }
}

/// What is known of an address.
#[derive(Clone, Copy)]
enum Lead {
    Pin(Pin),
    Place(Place),
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
mod tests;
