//! What is asked and who answers it: networks of clients, where they are, and queries.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use mmdb_writer::Writer;
use serde_json::json;

use super::rig::Outcome;

/// Networks whose place is known.
pub(crate) const NETWORKS: usize = 500_000;

/// Different queries; a run repeats them.
const QUERIES: usize = 200_000;

/// The steered name of both servers.
pub(crate) const ZONE: &str = "go.test";

/// Name, latitude and longitude of each PoP.
pub(crate) const POPS: [(&str, f64, f64); 12] = [
    ("fra", 50.1, 8.7),
    ("lon", 51.5, -0.1),
    ("iad", 39.0, -77.5),
    ("ord", 41.9, -87.6),
    ("sjc", 37.3, -121.9),
    ("gru", -23.5, -46.6),
    ("jnb", -26.2, 28.0),
    ("bom", 19.1, 72.9),
    ("sin", 1.3, 103.8),
    ("hkg", 22.3, 114.2),
    ("nrt", 35.7, 139.7),
    ("syd", -33.9, 151.2),
];

/// The address of a PoP.
pub(crate) fn address(pop: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + pop as u8)
}

/// A xorshift generator: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Random networks, most of them /24, in public space.
pub(crate) fn networks() -> Vec<Ipv4Net> {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut networks = Vec::with_capacity(NETWORKS);
    while networks.len() < NETWORKS {
        let address = Ipv4Addr::from((random.next() >> 32) as u32);
        let length = [24, 24, 24, 24, 24, 23, 22, 20][random.below(8)];
        let first = address.octets()[0];
        if (1..224).contains(&first) && first != 10 && first != 127 {
            networks.push(Ipv4Net::new(address, length).expect("a length").trunc());
        }
    }
    // Finer ones last, so that coarser ones don't cover them.
    networks.sort_by_key(Ipv4Net::prefix_len);
    networks
}

/// Writes a database of MaxMind's city schema, each network at a random place.
pub(crate) fn write_database(networks: &[Ipv4Net], path: &Path) -> Outcome<()> {
    let mut random = Random::new(7);
    let mut writer = Writer::new("GeoIP2-City");
    for network in networks {
        let (latitude, longitude) = (
            random.share() * 120.0 - 50.0,
            random.share() * 360.0 - 180.0,
        );
        let round = |degrees: f64| (degrees * 10.0).round() / 10.0;
        let (code, country) = [("EU", "DE"), ("NA", "US"), ("AS", "JP")][random.below(3)];
        writer.insert(
            ipnet::IpNet::V4(*network),
            &json!({
                "continent": {"code": code},
                "country": {"iso_code": country},
                "location": {"latitude": round(latitude), "longitude": round(longitude)},
            }),
        )?;
    }
    fs::write(path, writer.to_bytes()?)?;
    Ok(())
}

/// Queries for the steered name's A record with EDNS 1232, with the subnet of a random network or
/// without one.
pub(crate) fn queries(networks: &[Ipv4Net], with_subnet: bool) -> Vec<Vec<u8>> {
    let mut random = Random::new(99);
    let mut query = || {
        let network = networks[random.below(networks.len())];
        let [a, b, c, _] = network.network().octets();
        let mut bytes = header(random.next() as u16).to_vec();
        for label in ZONE.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        let subnet = [0, 8, 0, 7, 0, 1, 24, 0, a, b, c];
        let options = if with_subnet { &subnet[..] } else { &[] };
        bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, options.len() as u8]);
        bytes.extend(options);
        bytes
    };
    (0..QUERIES).map(|_| query()).collect()
}

/// RD, one question, one additional record.
fn header(id: u16) -> [u8; 12] {
    let [i1, i0] = id.to_be_bytes();
    [i1, i0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
}
