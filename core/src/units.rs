//! Sizes and durations as configuration writes them: `10GiB`, `5s`, `1m 30s`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use bytesize::ByteSize;

/// A span of time, written `5s`, `250ms`, `1m 30s`, `2h`.
///
/// A bare number is refused: `5` could mean seconds or milliseconds, and has meant both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// A period of whole seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A period of whole milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The period as the standard library's type.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Deref for Period {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A text that is not a period.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration: write a number and a unit, such as 500ms, 5s, 10m or 24h")]
pub struct PeriodError(String);

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| PeriodError(text.to_owned()))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeriodVisitor)
    }
}

struct PeriodVisitor;

impl serde::de::Visitor<'_> for PeriodVisitor {
    type Value = Period;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 500ms, 5s, 10m or 24h")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_prints_what_it_parses() {
        for text in ["5s", "250ms", "1m 30s", "24h"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
        assert_eq!("1m 30s".parse::<Period>().unwrap(), Period::secs(90));
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert!("5".parse::<Period>().is_err());
        let error = serde_yaml::from_str::<Period>("5").unwrap_err().to_string();
        assert!(error.contains("a duration such as"), "{error}");
    }

    #[test]
    fn sizes_survive_a_round_trip_through_yaml() {
        for size in [ByteSize::gib(10), ByteSize::mib(512), ByteSize::kib(16)] {
            let text = serde_yaml::to_string(&size).unwrap();
            assert_eq!(serde_yaml::from_str::<ByteSize>(&text).unwrap(), size);
        }
    }
}
