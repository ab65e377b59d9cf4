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
use std::sync::Arc;

use ipnet::IpNet;

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

/// What doesn't change while the server runs. Indices are into `pops`.
#[derive(Debug, Default)]
pub struct Sites {
    pops: Vec<Pop>,
    order: Vec<usize>,
    pins: Trie<Pin>,
    fine_pins: Trie<Pin>,
    geo: Option<Box<dyn Locate>>,
}

impl Sites {
    /// PoPs, and the order in which clients of unknown place prefer them (indices into `pops`).
    #[must_use]
    pub fn new(pops: Vec<Pop>, order: Vec<usize>) -> Self {
        Self {
            pops,
            order,
            ..Self::default()
        }
    }

    /// Pins a prefix to a PoP.
    pub fn pin(&mut self, prefix: IpNet, pop: usize) {
        let pin = Pin { prefix, pop };
        if prefix.prefix_len() <= cap(prefix.network()) {
            self.pins.insert(prefix, pin);
        }
        self.fine_pins.insert(prefix, pin);
    }

    /// Where places come from.
    pub fn set_geo(&mut self, geo: Box<dyn Locate>) {
        self.geo = Some(geo);
    }

    /// The PoPs, in the config's order.
    #[must_use]
    pub fn pops(&self) -> &[Pop] {
        &self.pops
    }
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    prefix: IpNet,
    pop: usize,
}

/// An immutable snapshot: the sites and which PoPs look healthy.
#[derive(Debug)]
pub struct Map {
    sites: Arc<Sites>,
    healthy: Vec<bool>,
    version: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The client's subnet, where the query carried one.
    pub subnet: Option<IpAddr>,
    /// Who sent the query.
    pub resolver: IpAddr,
}

/// Which PoPs are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// One, by index.
    One(usize),
    /// Every healthy one.
    Healthy,
    /// Every one, healthy or not.
    Every,
}

/// An answer of the map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The PoPs to answer.
    pub picked: Picked,
    /// What led to them.
    pub why: Why,
    /// Whose address it was.
    pub via: Via,
    /// Bits of the client's subnet for which this choice holds; 0 where none was sent.
    pub scope: u8,
}

/// What led to a choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// A pin.
    Pin(IpNet),
    /// A pin whose PoP is down; the index is that PoP's.
    PinDown(IpNet, usize),
    /// The nearest to the client's place, this far from it.
    Near(Place, u32),
    /// Nothing is known of the client: the operator's order.
    Order,
    /// Nothing is known and no order is set.
    Anywhere,
    /// No PoP looks healthy from here.
    NoneHealthy,
}

/// Whose address decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The client's, from its subnet.
    Subnet,
    /// The resolver's.
    Resolver,
}

impl Map {
    /// The first map: every PoP counts as healthy until it has been looked at.
    #[must_use]
    pub fn new(sites: Arc<Sites>) -> Self {
        let healthy = vec![true; sites.pops.len()];
        Self {
            sites,
            healthy,
            version: 1,
        }
    }

    /// The next map, with the health of each PoP; a PoP not mentioned counts as healthy.
    #[must_use]
    pub fn with_health(&self, healthy: &[bool]) -> Self {
        let known = healthy.iter().copied().chain(std::iter::repeat(true));
        Self {
            sites: self.sites.clone(),
            healthy: known.take(self.sites.pops.len()).collect(),
            version: self.version + 1,
        }
    }

    /// Counts snapshots, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All PoPs, in the config's order.
    #[must_use]
    pub fn all(&self) -> &[Pop] {
        &self.sites.pops
    }

    /// Whether a PoP looks healthy.
    #[must_use]
    pub fn is_healthy(&self, pop: usize) -> bool {
        self.healthy.get(pop).copied().unwrap_or(false)
    }

    /// What a name answers that isn't tailored: every healthy PoP, or if there is none, every PoP.
    #[must_use]
    pub fn untailored(&self) -> Picked {
        if self.healthy.contains(&true) {
            Picked::Healthy
        } else {
            Picked::Every
        }
    }

    /// The PoPs that were picked, in the config's order.
    pub fn pops(&self, picked: Picked) -> impl Iterator<Item = &Pop> {
        let wanted = move |index: usize| match picked {
            Picked::One(one) => one == index,
            Picked::Healthy => self.is_healthy(index),
            Picked::Every => true,
        };
        let pops = self.sites.pops.iter().enumerate();
        pops.filter_map(move |(index, pop)| wanted(index).then_some(pop))
    }

    /// A short name of what was picked: a PoP's name, `healthy` or `every`.
    #[must_use]
    pub fn name_of(&self, picked: Picked) -> &str {
        match picked {
            Picked::One(index) => self.sites.pops.get(index).map_or("", |pop| &pop.name),
            Picked::Healthy => "healthy",
            Picked::Every => "every",
        }
    }

    /// Chooses for a client. Total and deterministic: the same map and client, the same choice.
    #[must_use]
    pub fn choose(&self, client: &Client) -> Choice {
        let (of_subnet, scope) = client.subnet.map_or((None, 0), |address| {
            self.seek(cut(address), &self.sites.pins)
        });
        let (lead, via) = match of_subnet {
            Some(lead) => (Some(lead), Via::Subnet),
            None => (
                self.seek(client.resolver, &self.sites.fine_pins).0,
                Via::Resolver,
            ),
        };
        let (picked, why) = self.settle(lead);
        Choice {
            picked,
            why,
            via,
            scope,
        }
    }

    /// Looks for what is known of an address, and for how many of its bits that holds.
    fn seek(&self, address: IpAddr, pins: &Trie<Pin>) -> (Option<Lead>, u8) {
        let pinned = pins.find(address);
        if let Some(pin) = pinned.value {
            return (Some(Lead::Pin(*pin)), pinned.depth);
        }
        let Some(geo) = &self.sites.geo else {
            return (None, pinned.depth);
        };
        let located = geo.locate(address);
        let prefix = located.prefix.min(cap(address)).max(pinned.depth);
        (located.place.map(Lead::Place), prefix)
    }

    fn settle(&self, lead: Option<Lead>) -> (Picked, Why) {
        let settled = match lead {
            Some(Lead::Pin(pin)) if self.is_healthy(pin.pop) => {
                Some((pin.pop, Why::Pin(pin.prefix)))
            }
            Some(Lead::Pin(pin)) => self
                .nearest(self.sites.pops[pin.pop].at)
                .map(|(pop, _)| (pop, Why::PinDown(pin.prefix, pin.pop))),
            Some(Lead::Place(place)) => self
                .nearest(place.point)
                .map(|(pop, km)| (pop, Why::Near(place, km as u32))),
            None => {
                let mut order = self.sites.order.iter().copied();
                order
                    .find(|pop| self.is_healthy(*pop))
                    .map(|pop| (pop, Why::Order))
            }
        };
        match (settled, self.untailored()) {
            (Some((pop, why)), _) => (Picked::One(pop), why),
            (None, Picked::Every) => (Picked::Every, Why::NoneHealthy),
            (None, rest) => (rest, Why::Anywhere),
        }
    }

    /// The nearest healthy PoP and its distance in kilometres; of equals the first in the config.
    fn nearest(&self, point: Point) -> Option<(usize, f64)> {
        let pops = self.sites.pops.iter().enumerate();
        pops.filter(|(index, _)| self.is_healthy(*index))
            .map(|(index, pop)| (index, point.km_to(pop.at)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// A choice in words, one fact a line; the same for every client in its scope.
    #[must_use]
    pub fn explain(&self, client: &Client, choice: &Choice) -> Vec<String> {
        let asker = match (client.subnet, choice.via) {
            (Some(subnet), Via::Subnet) => {
                let prefix = IpNet::new(subnet, choice.scope).map(|net| net.trunc());
                format!(
                    "for=subnet {}",
                    prefix.map_or_else(|_| subnet.to_string(), |n| n.to_string())
                )
            }
            _ => format!("for=resolver {}", client.resolver),
        };
        vec![
            format!("pop={}", self.name_of(choice.picked)),
            format!("why={}", self.why(&choice.why)),
            asker,
            format!("map={}", self.version),
        ]
    }

    fn why(&self, why: &Why) -> String {
        match why {
            Why::PinDown(prefix, pop) => {
                format!(
                    "pin {prefix}, nearest to {} which is down",
                    self.name_of(Picked::One(*pop))
                )
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(prefix) => write!(f, "pin {prefix}"),
            Self::PinDown(prefix, _) => write!(f, "pin {prefix}, its pop is down"),
            Self::Near(place, km) => {
                let country = place.country.unwrap_or(*b"??");
                let country = String::from_utf8_lossy(&country);
                write!(f, "nearest to {country}, {km} km")
            }
            Self::Order => f.write_str("order"),
            Self::Anywhere => f.write_str("nothing known of the client"),
            Self::NoneHealthy => f.write_str("no pop looks healthy from here"),
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
