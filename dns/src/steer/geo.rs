//! Places from an mmdb file that the operator supplies; none is shipped, each has its own licence.
//!
//! Two schemas are read: MaxMind's nested one (`location.latitude`, `country.iso_code`) and flat
//! ones (`latitude`, `country_code`; `asn`). With a country only, its middle stands for the place.
//! A file is walked through once and let go: what stays is a step function, 16 bytes a network. A
//! record that can't be decoded is an unknown place, never an error to a client.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use maxminddb::{LookupResult, Reader, WithinOptions};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::space::{Family, Key, Steps, bits};
use super::{Continent, Place, Point, countries};

/// Places are rounded to this many cells a degree: half a degree is at most 40 km off, half a
/// millisecond, and lets neighbours share a unit.
const CELLS_PER_DEGREE: f64 = 2.0;

/// The largest database that is read, in bytes; the largest there are have half of it.
pub const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// The places of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Places {
    /// What there is to know; the first is nothing.
    table: Vec<Option<Place>>,
    /// Indices into it, by family.
    families: [Steps<u32>; 2],
}

/// The autonomous systems of addresses; 0 where none is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Asns {
    families: [Steps<u32>; 2],
}

/// Why a geo database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    /// The file can't be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Larger than [`MAX_DATABASE_BYTES`].
    #[error("larger than {MAX_DATABASE_BYTES} bytes")]
    TooLarge,
    /// Not an mmdb file.
    #[error("not a usable mmdb file: {0}")]
    Format(#[from] maxminddb::MaxMindDbError),
}

impl Places {
    /// Reads an mmdb file with places or countries.
    ///
    /// # Errors
    /// See [`GeoError`].
    pub fn open(path: &Path) -> Result<Self, GeoError> {
        Self::from_bytes(read(path)?)
    }

    /// Takes a database that is in memory.
    ///
    /// # Errors
    /// If it isn't an mmdb file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let mut places = Interned::default();
        let networks = networks(bytes, |found| {
            let record = found.decode::<Record<'_>>().ok().flatten();
            record.and_then(|record| places.id(record.place()?))
        })?;
        Ok(Self::of_ids(places, networks))
    }

    /// Places of prefixes; the longest that holds an address decides.
    #[must_use]
    pub fn of(prefixes: impl IntoIterator<Item = (IpNet, Place)>) -> Self {
        let mut places = Interned::default();
        let ids = prefixes
            .into_iter()
            .filter_map(|(net, place)| Some((net, places.id(place)?)));
        let ids = ids.collect();
        Self::of_ids(places, ids)
    }

    fn of_ids(places: Interned, networks: Vec<(IpNet, u32)>) -> Self {
        Self {
            families: by_family(networks),
            table: std::iter::once(None)
                .chain(places.list.into_iter().map(Some))
                .collect(),
        }
    }

    /// The place of an address, as far as its first [`SUBNET_CAP_V4`](super::SUBNET_CAP_V4) or
    /// [`SUBNET_CAP_V6`](super::SUBNET_CAP_V6) bits tell.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<Place> {
        let id = self.steps(Family::of(address)).at(bits(address));
        self.place(id)
    }

    pub(super) fn steps(&self, family: Family) -> &Steps<u32> {
        &self.families[family as usize]
    }

    pub(super) fn place(&self, id: u32) -> Option<Place> {
        self.table[id as usize]
    }

    pub(super) fn table(&self) -> &[Option<Place>] {
        &self.table
    }
}

impl Asns {
    /// Reads an mmdb file with autonomous systems.
    ///
    /// # Errors
    /// See [`GeoError`].
    pub fn open(path: &Path) -> Result<Self, GeoError> {
        Self::from_bytes(read(path)?)
    }

    /// Takes a database that is in memory.
    ///
    /// # Errors
    /// If it isn't an mmdb file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let networks = networks(bytes, |found| {
            let record = found.decode::<AsnRecord>().ok().flatten();
            record.and_then(|record| record.number())
        })?;
        Ok(Self::of(networks))
    }

    /// Systems of prefixes; the longest that holds an address decides.
    #[must_use]
    pub fn of(prefixes: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        Self {
            families: by_family(prefixes),
        }
    }

    /// The system of an address, 0 if unknown.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> u32 {
        self.steps(Family::of(address)).at(bits(address))
    }

    pub(super) fn steps(&self, family: Family) -> &Steps<u32> {
        &self.families[family as usize]
    }
}

/// A rounded place: cells north and east, country and continent.
type Cell = (i64, i64, Option<[u8; 2]>, Option<Continent>);

/// Places met so far: their indices in the table, of which 0 is nothing.
#[derive(Default)]
struct Interned {
    list: Vec<Place>,
    ids: HashMap<Cell, u32>,
}

impl Interned {
    fn id(&mut self, place: Place) -> Option<u32> {
        let cell = |degrees: f64| (degrees * CELLS_PER_DEGREE).round();
        let (north, east) = (cell(place.point.latitude), cell(place.point.longitude));
        let key = (north as i64, east as i64, place.country, place.continent);
        let next = u32::try_from(self.list.len() + 1).ok()?;
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            let point = Point {
                latitude: north / CELLS_PER_DEGREE,
                longitude: east / CELLS_PER_DEGREE,
            };
            self.list.push(Place { point, ..place });
        }
        Some(id)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, GeoError> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(MAX_DATABASE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > MAX_DATABASE_BYTES {
        return Err(GeoError::TooLarge);
    }
    Ok(bytes)
}

/// Every network of a database that `value` makes something of. Records that many networks share
/// are decoded once.
fn networks(
    bytes: Vec<u8>,
    mut value: impl FnMut(&LookupResult<'_, Vec<u8>>) -> Option<u32>,
) -> Result<Vec<(IpNet, u32)>, GeoError> {
    let reader = Reader::from_source(bytes)?;
    let mut known: HashMap<usize, Option<u32>> = HashMap::new();
    let mut networks = Vec::new();
    for found in reader.networks(WithinOptions::default())? {
        let found = found?;
        let Some(offset) = found.offset() else {
            continue;
        };
        let value = *known.entry(offset).or_insert_with(|| value(&found));
        let network = found.network()?;
        if let (Some(value), Some(net)) = (value, plain(network.ip(), network.prefix())) {
            networks.push((net, value));
        }
    }
    Ok(networks)
}

/// A network as it is, or as IPv4 if it lies where databases keep IPv4 among IPv6 (::/96).
fn plain(address: IpAddr, prefix: u8) -> Option<IpNet> {
    match address {
        IpAddr::V6(v6) if prefix >= 96 && u128::from(v6) >> 32 == 0 => {
            let v4 = Ipv4Addr::from(u128::from(v6) as u32);
            IpNet::new(v4.into(), prefix - 96).ok()
        }
        _ => IpNet::new(address, prefix).ok(),
    }
}

fn by_family(networks: impl IntoIterator<Item = (IpNet, u32)>) -> [Steps<u32>; 2] {
    let mut families = [Vec::new(), Vec::new()];
    for (net, value) in networks {
        if let Some((family, key)) = Key::deciding(net) {
            families[family as usize].push((key, net.prefix_len(), value));
        }
    }
    families.map(|prefixes| Steps::of_prefixes(prefixes, 0))
}

/// The fields of both schemas that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    location: Option<Location>,
    #[serde(borrow)]
    country: Option<Country<'a>>,
    country_code: Option<&'a str>,
    #[serde(borrow)]
    continent: Option<Region<'a>>,
    continent_code: Option<&'a str>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

#[derive(Debug, Deserialize)]
struct Location {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// A map in MaxMind's schema; flat ones put a code or a name there.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Country<'a> {
    Nested { iso_code: Option<&'a str> },
    Flat(&'a str),
}

/// The same for continents.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Region<'a> {
    Nested { code: Option<&'a str> },
    Flat(&'a str),
}

/// The field of both schemas that names an autonomous system.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AsnRecord {
    autonomous_system_number: Option<Asn>,
    asn: Option<Asn>,
}

impl AsnRecord {
    fn number(&self) -> Option<u32> {
        let Asn(number) = self.autonomous_system_number.or(self.asn)?;
        number.filter(|number| *number != 0)
    }
}

/// A number, or a text like `AS64500`.
#[derive(Clone, Copy, Debug)]
struct Asn(Option<u32>);

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsnVisitor)
    }
}

struct AsnVisitor;

impl Visitor<'_> for AsnVisitor {
    type Value = Asn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of an autonomous system")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Asn, E> {
        Ok(Asn(value.try_into().ok()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Asn, E> {
        Ok(Asn(value.try_into().ok()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Asn, E> {
        let digits = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        Ok(Asn(digits.parse().ok()))
    }
}

impl Record<'_> {
    fn place(&self) -> Option<Place> {
        let country = self.country();
        let nested = self.location.as_ref();
        let latitude = nested.map_or(self.latitude, |l| l.latitude);
        let longitude = nested.map_or(self.longitude, |l| l.longitude);
        let exact = match (latitude, longitude) {
            (Some(Degrees(latitude)), Some(Degrees(longitude))) => point(latitude, longitude),
            _ => None,
        };
        let point = exact.or_else(|| countries::centre(country?))?;
        Some(Place {
            point,
            country,
            continent: self.continent().or_else(|| countries::continent(country?)),
        })
    }

    fn continent(&self) -> Option<Continent> {
        let code = match &self.continent {
            Some(Region::Nested { code }) => *code,
            Some(Region::Flat(text)) => Some(*text),
            None => None,
        };
        code.and_then(Continent::of_code)
            .or_else(|| Continent::of_code(self.continent_code?))
    }

    fn country(&self) -> Option<[u8; 2]> {
        let code = match &self.country {
            Some(Country::Nested { iso_code }) => *iso_code,
            Some(Country::Flat(text)) if text.len() == 2 => Some(*text),
            _ => None,
        };
        let code = code.or(self.country_code)?;
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let code = code.map(|byte| byte.to_ascii_uppercase());
        code.iter().all(u8::is_ascii_uppercase).then_some(code)
    }
}

fn point(latitude: f64, longitude: f64) -> Option<Point> {
    let on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    on_earth.then_some(Point {
        latitude,
        longitude,
    })
}

/// A number, or a text that is one.
#[derive(Clone, Copy, Debug)]
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DegreesVisitor)
    }
}

struct DegreesVisitor;

impl Visitor<'_> for DegreesVisitor {
    type Value = Degrees;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("degrees")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Degrees, E> {
        Ok(Degrees(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Degrees, E> {
        Ok(Degrees(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Degrees, E> {
        Ok(Degrees(value as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Degrees, E> {
        text.trim().parse().map(Degrees).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use mmdb_writer::Writer;
    use serde_json::{Value, json};

    use super::*;

    fn bytes(records: &[(&str, Value)]) -> Vec<u8> {
        let mut writer = Writer::new("Test");
        for (network, record) in records {
            let network: IpNet = network.parse().unwrap();
            writer.insert(network, record).unwrap();
        }
        writer.to_bytes().unwrap()
    }

    fn database(records: &[(&str, Value)]) -> Places {
        Places::from_bytes(bytes(records)).unwrap()
    }

    fn locate(database: &Places, address: &str) -> Option<(f64, f64)> {
        let place = database.find(address.parse().unwrap());
        place.map(|p| (p.point.latitude, p.point.longitude))
    }

    #[test]
    fn nested_and_flat_schemas_are_read() {
        let database = database(&[
            (
                "81.2.69.0/24",
                json!({"country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
                       "location": {"latitude": 51.5, "longitude": -0.1, "accuracy_radius": 10}}),
            ),
            ("81.3.0.0/16", json!({"country": {"iso_code": "DE"}})),
            (
                "81.4.0.0/16",
                json!({"country_code": "fr", "latitude": 48.9, "longitude": 2.4}),
            ),
            ("81.5.0.0/16", json!({"country_code": "JP"})),
            (
                "81.6.0.0/16",
                json!({"country": "US", "latitude": "37.4", "longitude": "-122"}),
            ),
            (
                "2a00:1450::/32",
                json!({"country_code": "IE", "country": "Ireland"}),
            ),
        ]);
        assert_eq!(locate(&database, "81.2.69.7"), Some((51.5, 0.0)));
        assert_eq!(locate(&database, "81.4.1.1"), Some((49.0, 2.5)));
        assert_eq!(locate(&database, "81.6.1.1"), Some((37.5, -122.0)));
        for (address, country, continent) in [
            ("81.3.9.9", b"DE", Continent::Europe),
            ("81.5.9.9", b"JP", Continent::Asia),
            ("2a00:1450:1::", b"IE", Continent::Europe),
        ] {
            let place = database.find(address.parse().unwrap()).unwrap();
            assert_eq!(place.country, Some(*country));
            assert_eq!(place.continent, Some(continent));
            assert_eq!(place.point, countries::centre(*country).unwrap());
        }
    }

    #[test]
    fn continents_are_read_from_both_schemas() {
        let database = database(&[
            (
                "81.2.0.0/16",
                json!({"country_code": "TR", "continent": {"code": "AS"}}),
            ),
            (
                "81.3.0.0/16",
                json!({"country_code": "TR", "continent": "EU"}),
            ),
            (
                "81.4.0.0/16",
                json!({"country_code": "TR", "continent": "Europe", "continent_code": "EU"}),
            ),
        ]);
        let continent = |text: &str| database.find(text.parse().unwrap()).unwrap().continent;
        assert_eq!(continent("81.2.0.1"), Some(Continent::Asia));
        assert_eq!(continent("81.3.0.1"), Some(Continent::Europe));
        assert_eq!(continent("81.4.0.1"), Some(Continent::Europe));
    }

    #[test]
    fn systems_are_read_from_both_schemas() {
        let database = Asns::from_bytes(bytes(&[
            ("81.2.0.0/16", json!({"autonomous_system_number": 64500u32})),
            ("81.3.0.0/16", json!({"asn": "AS64501"})),
            ("81.4.0.0/16", json!({"asn": 64502u32})),
            ("81.5.0.0/16", json!({"asn": "none"})),
            ("2a00::/16", json!({"asn": "AS64503"})),
        ]));
        let database = database.unwrap();
        for (address, asn) in [
            ("81.2.1.1", 64500),
            ("81.3.1.1", 64501),
            ("81.4.1.1", 64502),
            ("81.5.1.1", 0),
            ("9.9.9.9", 0),
            ("2a00::1", 64503),
            ("::81.2.1.1", 0),
        ] {
            assert_eq!(database.find(address.parse().unwrap()), asn, "{address}");
        }
    }

    #[test]
    fn a_database_of_ipv4_knows_nothing_of_ipv6() {
        let database = database(&[("81.2.69.0/24", json!({"country_code": "GB"}))]);
        assert_eq!(locate(&database, "81.2.70.1"), None);
        assert_eq!(locate(&database, "2a00::1"), None);
        assert_eq!(locate(&database, "::5102:4501"), None);
    }

    #[test]
    fn a_record_of_another_form_is_an_unknown_place() {
        let database = database(&[
            ("81.2.0.0/16", json!({"country": 7, "location": "here"})),
            ("81.3.0.0/16", json!("a text")),
            ("81.4.0.0/16", json!({"latitude": 999.0, "longitude": 0.0})),
            ("81.5.0.0/16", json!({"country_code": "ZZ"})),
        ]);
        for address in ["81.2.0.1", "81.3.0.1", "81.4.0.1", "81.5.0.1"] {
            assert_eq!(locate(&database, address), None, "{address}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Places::from_bytes(vec![7; 5000]).is_err());
        assert!(Places::from_bytes(Vec::new()).is_err());
        assert!(Places::open(Path::new("/nowhere/x.mmdb")).is_err());
    }
}
