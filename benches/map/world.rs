//! A made world, the same for the same numbers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use mmdb_writer::Writer;
use modcdn_dns::steer::{Asns, Constants, Continent, Place, Places, Point, Pop, Sample, Samples};
use serde_json::json;

const CITIES: usize = 4000;
const COUNTRIES: usize = 90;
const CONTINENTS: [Continent; 3] = [Continent::Africa, Continent::Asia, Continent::Europe];
const SYSTEMS: u64 = 20_000;
const NETWORKS: [usize; 2] = [250_000, 25_000];
const NEAREST: usize = 3;

/// splitmix64: enough for a made world.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Network {
    net: IpNet,
    city: usize,
    asn: u32,
}

pub(crate) struct World {
    pops: Arc<[Pop]>,
    cities: Vec<Place>,
    networks: Vec<Network>,
    /// Prefix and network.
    measured: Vec<(IpNet, usize)>,
}

impl World {
    pub(crate) fn new(pops: usize, prefixes: usize) -> Self {
        let mut rng = Rng::new(1);
        let cities = cities(&mut rng);
        let pops = (0..pops).map(|index| Pop {
            name: format!("p{index}"),
            v4: vec![Ipv4Addr::LOCALHOST],
            v6: vec![],
            at: cities[rng.below(CITIES)].point,
        });
        let pops = pops.collect();
        let networks = networks(&mut rng);
        let mut seen = HashSet::new();
        let mut measured = Vec::new();
        while measured.len() < prefixes {
            let six = measured.len() % 10 == 9;
            let index = if six {
                NETWORKS[0] + rng.below(NETWORKS[1])
            } else {
                rng.below(NETWORKS[0])
            };
            let net = within(networks[index].net, rng.next());
            if seen.insert(net) {
                measured.push((net, index));
            }
        }
        Self {
            pops,
            cities,
            networks,
            measured,
        }
    }

    pub(crate) fn networks(&self) -> usize {
        self.networks.len()
    }

    pub(crate) fn prefixes(&self) -> usize {
        self.measured.len()
    }

    pub(crate) fn pops(&self) -> Arc<[Pop]> {
        self.pops.clone()
    }

    pub(crate) fn places(&self) -> Places {
        let networks = self.networks.iter();
        Places::of(networks.map(|network| (network.net, self.cities[network.city])))
    }

    pub(crate) fn asns(&self) -> Asns {
        Asns::of(
            self.networks
                .iter()
                .map(|network| (network.net, network.asn)),
        )
    }

    pub(crate) fn samples(&self) -> Arc<Samples> {
        self.made_samples(2)
    }

    /// Another day's: the same world, other noise.
    pub(crate) fn samples_again(&self) -> Arc<Samples> {
        self.made_samples(3)
    }

    fn made_samples(&self, seed: u64) -> Arc<Samples> {
        let mut rng = Rng::new(seed);
        let mut samples = Samples::default();
        let constants = Constants::default();
        for (prefix, network) in &self.measured {
            let here = self.cities[self.networks[*network].city].point;
            let mut near: Vec<(f64, &Pop)> = self
                .pops
                .iter()
                .map(|pop| (here.km_to(pop.at), pop))
                .collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (km, pop) in near.into_iter().take(NEAREST) {
                let detour = 1.0 + rng.part() * rng.part();
                let sample = Sample {
                    prefix: *prefix,
                    pop: pop.name.clone(),
                    median_ms: 4.0 + 6.0 * rng.part() + km * 0.013 * detour,
                    n: 1.0 + (20.0 * rng.part()).floor(),
                    at: 0,
                };
                samples.add(&sample, &constants).expect("it can be true");
            }
        }
        // As a server does with each batch.
        samples.forget(0, &constants);
        Arc::new(samples)
    }

    /// A client of a measured prefix.
    pub(crate) fn client(&self, rng: &mut Rng) -> IpAddr {
        self.measured[rng.below(self.measured.len())].0.network()
    }

    /// A client of one of the first networks.
    pub(crate) fn placed(&self, rng: &mut Rng, networks: usize) -> IpAddr {
        let network = &self.networks[rng.below(networks)];
        within(network.net, rng.next()).network()
    }

    /// The first networks as an mmdb file.
    pub(crate) fn mmdb(&self, networks: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut writer = Writer::new("Bench");
        for network in &self.networks[..networks] {
            let place = self.cities[network.city];
            let country = place
                .country
                .map(|code| String::from_utf8_lossy(&code).into_owned());
            let record = json!({
                "country": {"iso_code": country},
                "location": {"latitude": place.point.latitude, "longitude": place.point.longitude},
            });
            writer.insert(network.net, &record)?;
        }
        Ok(writer.to_bytes()?)
    }
}

fn cities(rng: &mut Rng) -> Vec<Place> {
    let centres: Vec<(f64, f64)> = (0..COUNTRIES)
        .map(|_| (rng.part() * 100.0 - 40.0, rng.part() * 300.0 - 120.0))
        .collect();
    let city = |_| {
        let index = rng.below(COUNTRIES);
        let (north, east) = centres[index];
        Place {
            point: Point {
                latitude: north + rng.part() * 10.0 - 5.0,
                longitude: east + rng.part() * 20.0 - 10.0,
            },
            country: Some([b'A' + (index / 26) as u8, b'A' + (index % 26) as u8]),
            continent: Some(CONTINENTS[index % CONTINENTS.len()]),
        }
    };
    (0..CITIES).map(city).collect()
}

fn networks(rng: &mut Rng) -> Vec<Network> {
    let mut seen = HashSet::new();
    let mut networks = Vec::new();
    for (family, count) in NETWORKS.into_iter().enumerate() {
        let end = networks.len() + count;
        while networks.len() < end {
            let net = if family == 0 {
                let first = (1 << 24) + (rng.next() as u32) % (223 << 24);
                IpNet::new(Ipv4Addr::from(first).into(), 20)
            } else {
                let bits = 0x2000 << 112 | u128::from(rng.next() >> 3) << 61;
                IpNet::new(Ipv6Addr::from(bits).into(), 40)
            };
            let net = net.expect("a length of the family").trunc();
            if seen.insert(net) {
                networks.push(Network {
                    net,
                    city: rng.below(CITIES),
                    asn: (rng.next() % SYSTEMS) as u32 + 1,
                });
            }
        }
    }
    networks
}

/// A /24 or /56 in a network.
fn within(net: IpNet, random: u64) -> IpNet {
    let inside = match net.network() {
        IpAddr::V4(v4) => {
            let low = (random % (1 << 12)) as u32;
            IpNet::new(Ipv4Addr::from(u32::from(v4) | low).into(), 24)
        }
        IpAddr::V6(v6) => {
            let low = u128::from(random % (1 << 16)) << 72;
            IpNet::new(Ipv6Addr::from(u128::from(v6) | low).into(), 56)
        }
    };
    inside.expect("a length of the family").trunc()
}
