//! Measured round trips: what edges report of their clients' prefixes.
//!
//! One row a prefix and PoP. A new report is averaged with what is left of the old one, each by its
//! weight; weights halve with time, so that what was measured yesterday hardly counts. Names of
//! PoPs, not their indices, so that what is kept outlives a change of the configuration.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::constants::Constants;
use super::space::{Family, Key};

/// The most rows that are held: some 60 bytes each.
pub const MAX_SAMPLES: usize = 4_000_000;

/// The longest round trip that is believed, in milliseconds.
pub const MAX_ROUND_TRIP_MS: f64 = 10_000.0;

/// No row counts for more samples than this, so that one busy prefix can still change its mind.
pub const MAX_WEIGHT: f64 = 1000.0;

/// Rows that weigh less are forgotten.
const FORGOTTEN: f64 = 0.05;

/// A report of a prefix's round trips to a PoP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The clients' prefix; bits beyond /24 and /56 are cut off.
    pub prefix: IpNet,
    /// The PoP's name.
    pub pop: String,
    /// The median of the round trips, in milliseconds.
    pub median_ms: f64,
    /// How many there were.
    pub n: f64,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// Why a sample isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Not a time between zero and [`MAX_ROUND_TRIP_MS`].
    #[error("median_ms must be above 0 and at most {MAX_ROUND_TRIP_MS}")]
    Median,
    /// Not a count.
    #[error("n must be above 0")]
    Count,
    /// [`MAX_SAMPLES`] rows are held.
    #[error("{MAX_SAMPLES} prefixes and pops are held: no room for another")]
    Full,
    /// More PoPs were named than there can be.
    #[error("more pops are named than there can be")]
    Pops,
}

impl SampleError {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Median => "median",
            Self::Count => "count",
            Self::Full => "full",
            Self::Pops => "pops",
        }
    }
}

/// Everything measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pops: Vec<String>,
    rows: BTreeMap<(Family, Key, u16), Row>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    median_ms: f32,
    n: f32,
    at: u64,
}

impl Row {
    fn weight(self, now: u64, half_life: f64) -> f64 {
        let age = now.saturating_sub(self.at) as f64;
        f64::from(self.n) * (-age / half_life).exp2()
    }
}

/// What is left of the samples of one prefix and PoP at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighed {
    pub(super) family: Family,
    pub(super) key: Key,
    /// An index into [`Samples::pops`].
    pub(super) pop: u16,
    pub(super) median_ms: f64,
    pub(super) n: f64,
}

impl Samples {
    /// Takes a sample.
    ///
    /// # Errors
    /// If it can't be true, or there is no room.
    pub fn add(&mut self, sample: &Sample, constants: &Constants) -> Result<(), SampleError> {
        if !(sample.median_ms > 0.0 && sample.median_ms <= MAX_ROUND_TRIP_MS) {
            return Err(SampleError::Median);
        }
        if !(sample.n > 0.0 && sample.n.is_finite()) {
            return Err(SampleError::Count);
        }
        let (family, key) = Key::cut(sample.prefix);
        let at = (family, key, self.pop(&sample.pop)?);
        let full = self.rows.len() >= MAX_SAMPLES;
        let Some(old) = self.rows.get_mut(&at) else {
            if full {
                return Err(SampleError::Full);
            }
            let row = Row {
                median_ms: sample.median_ms as f32,
                n: sample.n.min(MAX_WEIGHT) as f32,
                at: sample.at,
            };
            self.rows.insert(at, row);
            return Ok(());
        };
        let now = sample.at.max(old.at);
        let half_life = constants.half_life.as_secs_f64();
        let given = Row {
            median_ms: sample.median_ms as f32,
            n: sample.n.min(MAX_WEIGHT) as f32,
            at: sample.at,
        };
        let (before, new) = (old.weight(now, half_life), given.weight(now, half_life));
        let sum = f64::from(old.median_ms) * before + f64::from(given.median_ms) * new;
        if before + new > 0.0 {
            *old = Row {
                median_ms: (sum / (before + new)) as f32,
                n: (before + new).min(MAX_WEIGHT) as f32,
                at: now,
            };
        }
        Ok(())
    }

    fn pop(&mut self, name: &str) -> Result<u16, SampleError> {
        let known = self.pops.iter().position(|pop| pop == name);
        let index = known.unwrap_or(self.pops.len());
        let id = u16::try_from(index).map_err(|_| SampleError::Pops)?;
        if known.is_none() {
            self.pops.push(name.to_owned());
        }
        Ok(id)
    }

    /// Forgets what hardly counts any more at a time in seconds since 1970.
    pub fn forget(&mut self, now: u64, constants: &Constants) {
        let half_life = constants.half_life.as_secs_f64();
        self.rows
            .retain(|_, row| row.weight(now, half_life) >= FORGOTTEN);
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, by prefix and then in the order in which PoPs were first named.
    pub fn iter(&self) -> impl Iterator<Item = Sample> + '_ {
        self.rows.iter().map(|((family, key, pop), row)| Sample {
            prefix: family.net(*key),
            pop: self.pops[usize::from(*pop)].clone(),
            median_ms: f64::from(row.median_ms),
            n: f64::from(row.n),
            at: row.at,
        })
    }

    pub(super) fn pops(&self) -> &[String] {
        &self.pops
    }

    /// What still counts at a time, by family, prefix and PoP.
    pub(super) fn weighed(
        &self,
        now: u64,
        constants: &Constants,
    ) -> impl Iterator<Item = Weighed> + '_ {
        let half_life = constants.half_life.as_secs_f64();
        let rows = self
            .rows
            .iter()
            .map(move |((family, key, pop), row)| Weighed {
                family: *family,
                key: *key,
                pop: *pop,
                median_ms: f64::from(row.median_ms),
                n: row.weight(now, half_life),
            });
        rows.filter(|row| row.n >= FORGOTTEN)
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Rows)
    }
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = Samples;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of samples")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Samples, A::Error> {
        let mut samples = Samples::default();
        while let Some(row) = rows.next_element::<Sample>()? {
            let added = samples.add(&row, &Constants::default());
            added.map_err(de::Error::custom)?;
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prefix: &str, pop: &str, median_ms: f64, n: f64, at: u64) -> Sample {
        Sample {
            prefix: prefix.parse().unwrap(),
            pop: pop.to_owned(),
            median_ms,
            n,
            at,
        }
    }

    fn of(list: &[Sample]) -> Samples {
        let mut samples = Samples::default();
        for sample in list {
            samples.add(sample, &Constants::default()).unwrap();
        }
        samples
    }

    const HALF_LIFE: u64 = super::super::constants::HALF_LIFE.as_secs();

    #[test]
    fn weights_halve_with_time_and_are_forgotten_in_the_end() {
        let constants = Constants::default();
        let mut samples = of(&[sample("192.0.2.0/24", "eu", 20.0, 8.0, 0)]);
        let n = |samples: &Samples, now| samples.weighed(now, &constants).next().map(|w| w.n);
        assert_eq!(n(&samples, 0), Some(8.0));
        assert_eq!(n(&samples, HALF_LIFE), Some(4.0));
        assert_eq!(n(&samples, 2 * HALF_LIFE), Some(2.0));
        assert_eq!(n(&samples, 20 * HALF_LIFE), None);
        samples.forget(2 * HALF_LIFE, &constants);
        assert_eq!(samples.len(), 1);
        samples.forget(20 * HALF_LIFE, &constants);
        assert!(samples.is_empty());
    }

    #[test]
    fn a_report_is_averaged_with_what_is_left_of_the_last() {
        let samples = of(&[
            sample("192.0.2.0/24", "eu", 20.0, 8.0, 0),
            sample("192.0.2.7/32", "eu", 50.0, 4.0, HALF_LIFE),
        ]);
        let rows: Vec<_> = samples.iter().collect();
        assert_eq!(rows, [sample("192.0.2.0/24", "eu", 35.0, 8.0, HALF_LIFE)]);
    }

    #[test]
    fn an_old_report_that_comes_late_counts_for_less() {
        let samples = of(&[
            sample("192.0.2.0/24", "eu", 20.0, 4.0, HALF_LIFE),
            sample("192.0.2.0/24", "eu", 50.0, 8.0, 0),
        ]);
        let rows: Vec<_> = samples.iter().collect();
        assert_eq!(rows, [sample("192.0.2.0/24", "eu", 35.0, 8.0, HALF_LIFE)]);
    }

    #[test]
    fn what_can_not_be_true_is_refused() {
        let mut samples = Samples::default();
        let mut add = |ms, n| samples.add(&sample("::/0", "eu", ms, n, 0), &Constants::default());
        for ms in [0.0, -1.0, f64::NAN, f64::INFINITY, 10_001.0] {
            assert_eq!(add(ms, 1.0), Err(SampleError::Median));
        }
        for n in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(add(1.0, n), Err(SampleError::Count));
        }
        assert_eq!(add(1.0, 1.0), Ok(()));
    }

    #[test]
    fn samples_survive_being_written_and_read() {
        let samples = of(&[
            sample("2001:db8::/56", "us", 31.5, 2.0, 77),
            sample("192.0.2.0/24", "eu", 20.0, 8.0, 5),
            sample("192.0.2.0/24", "us", 90.0, 1.0, 6),
        ]);
        let text = serde_json::to_string(&samples).unwrap();
        let back: Samples = serde_json::from_str(&text).unwrap();
        assert!(
            samples
                .iter()
                .all(|row| back.iter().any(|other| other == row))
        );
        assert_eq!(back.len(), 3);
        assert!(serde_json::from_str::<Samples>(r#"[{"prefix": "::/0"}]"#).is_err());
    }
}
