//! Measured round trips: what edges report of their clients' prefixes.
//!
//! One row a prefix and PoP. A new report is averaged with what is left of the old one, each by its
//! weight; weights halve with time, so that what was measured yesterday hardly counts. Names of
//! PoPs, not their indices, so that what is kept outlives a change of the configuration.
//!
//! Rows lie sorted in lists that never change ([`Rows`]), so that a map reads them where they are. What
//! is new waits in a small tree and is merged into new lists now and then.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::constants::Constants;
use super::rows::{At, Row, Rows};
use super::space::Key;

/// The most rows that are held: some 24 bytes each.
pub const MAX_SAMPLES: usize = 4_000_000;

/// The longest round trip that is believed, in milliseconds.
pub const MAX_ROUND_TRIP_MS: f64 = 10_000.0;

/// No row counts for more samples than this, so that one busy prefix can still change its mind.
pub const MAX_WEIGHT: f64 = 1000.0;

/// Rows that weigh less are forgotten.
pub(super) const FORGOTTEN: f64 = 0.05;

/// Rows that may be new before they are merged: so many at least, and this part of all, so that
/// taking in one after the other costs each a few steps and no more memory than that part.
const FRESH: usize = 4096;
const FRESH_PART: usize = 8;

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
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pops: Vec<String>,
    settled: Arc<Rows>,
    /// What has come since; of a row that is settled too this one holds.
    fresh: BTreeMap<At, Row>,
    /// How many of these are of no settled row.
    added: usize,
}

impl PartialEq for Samples {
    fn eq(&self, other: &Self) -> bool {
        self.pops == other.pops && self.all().eq(other.all())
    }
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
        let at = At {
            family,
            key,
            pop: self.pop(&sample.pop)?,
        };
        let given = Row {
            median_ms: sample.median_ms as f32,
            n: sample.n.min(MAX_WEIGHT) as f32,
            at: u32::try_from(sample.at).unwrap_or(u32::MAX),
            pop: at.pop,
        };
        let fresh = self.fresh.get(&at).copied();
        let known = fresh.or_else(|| self.settled.find(at));
        if known.is_none() && self.len() >= MAX_SAMPLES {
            return Err(SampleError::Full);
        }
        self.added += usize::from(known.is_none());
        let half_life = constants.half_life.as_secs_f64();
        let row = known.map_or(given, |known| known.averaged(given, half_life));
        self.fresh.insert(at, row);
        if self.fresh.len() > FRESH.max(self.settled.len() / FRESH_PART) {
            self.settle(|_| true);
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
        self.settle(|row| row.weight(now, half_life) >= FORGOTTEN);
    }

    /// Merges what is new, and leaves out what isn't wanted.
    fn settle(&mut self, wanted: impl Fn(&Row) -> bool) {
        let rows = self.all().filter(|(_, row)| wanted(row));
        self.settled = Arc::new(rows.collect());
        self.fresh.clear();
        self.added = 0;
    }

    /// Rows held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.settled.len() + self.added
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the newest was measured, in seconds since 1970.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.all().map(|(_, row)| row.at.into()).max()
    }

    /// The rows, by prefix and then in the order in which PoPs were first named.
    pub fn iter(&self) -> impl Iterator<Item = Sample> + '_ {
        self.all().map(|(at, row)| Sample {
            prefix: at.family.net(at.key),
            pop: self.pops[usize::from(at.pop)].clone(),
            median_ms: f64::from(row.median_ms),
            n: f64::from(row.n),
            at: row.at.into(),
        })
    }

    pub(super) fn pops(&self) -> &[String] {
        &self.pops
    }

    /// All rows, to keep.
    pub(super) fn rows(&self) -> Arc<Rows> {
        if self.fresh.is_empty() {
            return self.settled.clone();
        }
        Arc::new(self.all().collect())
    }

    /// Settled and fresh rows in one order.
    fn all(&self) -> impl Iterator<Item = (At, Row)> + '_ {
        let mut settled = self.settled.iter().peekable();
        let mut fresh = self.fresh.iter().map(|(at, row)| (*at, *row)).peekable();
        std::iter::from_fn(move || match (settled.peek(), fresh.peek()) {
            (Some((old, _)), Some((new, _))) if old < new => settled.next(),
            (Some((old, _)), Some((new, _))) => {
                if old == new {
                    settled.next();
                }
                fresh.next()
            }
            (Some(_), None) => settled.next(),
            (None, _) => fresh.next(),
        })
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
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
        samples.settle(|_| true);
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
        let half_life = constants.half_life.as_secs_f64();
        let n = |now| samples.rows().of(0)[0].weight(now, half_life);
        assert_eq!([n(0), n(HALF_LIFE), n(2 * HALF_LIFE)], [8.0, 4.0, 2.0]);
        assert!(n(20 * HALF_LIFE) < FORGOTTEN);
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
