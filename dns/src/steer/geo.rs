//! Places from an mmdb file that the operator supplies; none is shipped, each has its own licence.
//!
//! Two schemas are read: MaxMind's nested one (`location.latitude`, `country.iso_code`) and flat
//! ones (`latitude`, `country_code`). With a country only, its middle stands for the place. The
//! file is read into memory whole, so replacing it on disk disturbs nobody; a record that can't be
//! decoded is an unknown place, never an error to a client.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use maxminddb::Reader;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::{Locate, Located, Place, Point, countries};

/// The largest database that is read, in bytes; the largest there are have half of it.
pub const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// A geo database in memory.
pub struct GeoDatabase {
    reader: Reader<Vec<u8>>,
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

impl GeoDatabase {
    /// Reads a database.
    ///
    /// # Errors
    /// See [`GeoError`].
    pub fn open(path: &Path) -> Result<Self, GeoError> {
        let mut bytes = Vec::new();
        let read = File::open(path)?
            .take(MAX_DATABASE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if read as u64 > MAX_DATABASE_BYTES {
            return Err(GeoError::TooLarge);
        }
        Self::from_bytes(bytes)
    }

    /// Takes a database that is in memory.
    ///
    /// # Errors
    /// If it isn't an mmdb file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let reader = Reader::from_source(bytes)?;
        Ok(Self { reader })
    }
}

impl fmt::Debug for GeoDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.reader.metadata().database_type;
        f.debug_tuple("GeoDatabase").field(kind).finish()
    }
}

impl Locate for GeoDatabase {
    fn locate(&self, address: IpAddr) -> Located {
        // An IPv4-only database knows nothing of any IPv6 address.
        let nothing = Located {
            place: None,
            prefix: 0,
        };
        let Ok(found) = self.reader.lookup(address) else {
            return nothing;
        };
        let Ok(network) = found.network() else {
            return nothing;
        };
        let place = found.decode::<Record<'_>>().ok().flatten();
        Located {
            place: place.and_then(|record| record.place()),
            // A database without an IPv4 part answers an IPv4 address with an IPv6 network.
            prefix: if network.is_ipv4() == address.is_ipv4() {
                network.prefix()
            } else {
                0
            },
        }
    }
}

/// The fields of both schemas that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    location: Option<Location>,
    #[serde(borrow)]
    country: Option<Country<'a>>,
    country_code: Option<&'a str>,
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
        Some(Place { point, country })
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

    fn database(records: &[(&str, Value)]) -> GeoDatabase {
        let mut writer = Writer::new("Test");
        for (network, record) in records {
            let network: ipnet::IpNet = network.parse().unwrap();
            writer.insert(network, record).unwrap();
        }
        GeoDatabase::from_bytes(writer.to_bytes().unwrap()).unwrap()
    }

    fn locate(database: &GeoDatabase, address: &str) -> (Option<(f64, f64)>, u8) {
        let located = database.locate(address.parse().unwrap());
        let place = located.place.map(|p| (p.point.latitude, p.point.longitude));
        (place, located.prefix)
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
        assert_eq!(locate(&database, "81.2.69.7"), (Some((51.5, -0.1)), 24));
        assert_eq!(locate(&database, "81.4.1.1"), (Some((48.9, 2.4)), 16));
        assert_eq!(locate(&database, "81.6.1.1"), (Some((37.4, -122.0)), 16));
        for (address, country, prefix) in [
            ("81.3.9.9", b"DE", 16),
            ("81.5.9.9", b"JP", 16),
            ("2a00:1450:1::", b"IE", 32),
        ] {
            let located = database.locate(address.parse().unwrap());
            assert_eq!(located.place.unwrap().country, Some(*country));
            assert_eq!(
                located.place.unwrap().point,
                countries::centre(*country).unwrap()
            );
            assert_eq!(located.prefix, prefix);
        }
    }

    #[test]
    fn an_unknown_address_has_no_place_but_a_prefix() {
        let database = database(&[("81.2.69.0/24", json!({"country_code": "GB"}))]);
        let (place, prefix) = locate(&database, "81.2.70.1");
        assert_eq!(place, None);
        assert!((1..=24).contains(&prefix), "{prefix}");
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
            assert_eq!(locate(&database, address), (None, 16), "{address}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(GeoDatabase::from_bytes(vec![7; 5000]).is_err());
        assert!(GeoDatabase::from_bytes(Vec::new()).is_err());
        assert!(GeoDatabase::open(Path::new("/nowhere/x.mmdb")).is_err());
    }
}
