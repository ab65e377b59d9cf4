//! Rows in lists that never change: the prefixes, where the rows of each end, and the rows. 24 bytes a
//! row where a prefix has three.

use super::samples::MAX_WEIGHT;
use super::space::{Family, Key};

/// What a row is of; rows are sorted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) family: Family,
    pub(super) key: Key,
    /// An index into the PoPs of [`Samples`](super::Samples).
    pub(super) pop: u16,
}

/// What was measured of a prefix at a PoP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) median_ms: f32,
    pub(super) n: f32,
    /// Seconds since 1970; enough until 2106.
    pub(super) at: u32,
    /// An index into the PoPs of [`Samples`](super::Samples).
    pub(super) pop: u16,
}

impl Row {
    /// For how many samples it still counts at a time.
    pub(super) fn weight(self, now: u64, half_life: f64) -> f64 {
        let age = now.saturating_sub(self.at.into()) as f64;
        f64::from(self.n) * (-age / half_life).exp2()
    }

    /// Itself and a later or earlier row, each by its weight.
    pub(super) fn averaged(self, other: Self, half_life: f64) -> Self {
        let at = self.at.max(other.at);
        let [a, b] = [self, other].map(|row| row.weight(at.into(), half_life));
        if a + b <= 0.0 {
            return self;
        }
        let sum = f64::from(self.median_ms) * a + f64::from(other.median_ms) * b;
        Self {
            median_ms: (sum / (a + b)) as f32,
            n: (a + b).min(MAX_WEIGHT) as f32,
            at,
            ..self
        }
    }
}

/// Rows, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    /// Those of IPv4 first.
    prefixes: Vec<Key>,
    v4: usize,
    /// Where the rows of each prefix end.
    ends: Vec<u32>,
    rows: Vec<Row>,
}

impl Rows {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many prefixes there are.
    pub(super) fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// One of the prefixes.
    pub(super) fn prefix(&self, index: usize) -> (Family, Key) {
        let family = if index < self.v4 {
            Family::V4
        } else {
            Family::V6
        };
        (family, self.prefixes[index])
    }

    /// The rows of one of the prefixes.
    pub(super) fn of(&self, index: usize) -> &[Row] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start as usize..self.ends[index] as usize]
    }

    pub(super) fn find(&self, at: At) -> Option<Row> {
        let (first, keys) = match at.family {
            Family::V4 => (0, &self.prefixes[..self.v4]),
            Family::V6 => (self.v4, &self.prefixes[self.v4..]),
        };
        let rows = self.of(first + keys.binary_search(&at.key).ok()?);
        rows.iter().find(|row| row.pop == at.pop).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (At, Row)> + '_ {
        (0..self.prefixes.len()).flat_map(|index| {
            let (family, key) = self.prefix(index);
            let at = move |row: &Row| At {
                family,
                key,
                pop: row.pop,
            };
            self.of(index).iter().map(move |row| (at(row), *row))
        })
    }

    fn push(&mut self, at: At, row: Row) {
        let last = self.prefixes.len().checked_sub(1);
        if last.is_none_or(|last| self.prefix(last) != (at.family, at.key)) {
            self.prefixes.push(at.key);
            self.v4 += usize::from(at.family == Family::V4);
            self.ends.push(0);
        }
        self.rows.push(row);
        if let Some(end) = self.ends.last_mut() {
            *end = self.rows.len() as u32;
        }
    }
}

/// Of what is sorted, each only once.
impl FromIterator<(At, Row)> for Rows {
    fn from_iter<I: IntoIterator<Item = (At, Row)>>(sorted: I) -> Self {
        let mut rows = Self::default();
        for (at, row) in sorted {
            rows.push(at, row);
        }
        rows.prefixes.shrink_to_fit();
        rows.ends.shrink_to_fit();
        rows.rows.shrink_to_fit();
        rows
    }
}
