//! What a prefix's own samples say, read where they were collected.

use std::sync::Arc;

use super::Inputs;
use super::constants::Constants;
use super::rows::Rows;
use super::samples::FORGOTTEN;
use super::space::{Family, Key};
use super::world::Cell;

/// The rows that count: those of PoPs that there are, at the time of the inputs.
#[derive(Debug, PartialEq)]
pub(super) struct Own {
    rows: Arc<Rows>,
    /// By the samples' PoPs: the inputs'.
    pops: Vec<Option<usize>>,
    clock: u64,
    half_life: f64,
}

impl Own {
    pub(super) fn new(inputs: &Inputs, constants: &Constants) -> Self {
        let index = |name: &String| inputs.pops.iter().position(|pop| pop.name == *name);
        Self {
            rows: inputs.samples.rows(),
            pops: inputs.samples.pops().iter().map(index).collect(),
            clock: inputs.clock,
            half_life: constants.half_life.as_secs_f64(),
        }
    }

    /// How many prefixes there are, whether they count or not.
    pub(super) fn len(&self) -> usize {
        self.rows.prefixes()
    }

    /// One of the prefixes.
    pub(super) fn prefix(&self, index: usize) -> (Family, Key) {
        self.rows.prefix(index)
    }

    /// The prefixes of a family of which anything counts, each with its index.
    pub(super) fn measured(&self, family: Family) -> impl Iterator<Item = (Key, usize)> + '_ {
        (0..self.len()).filter_map(move |index| {
            let (of, key) = self.prefix(index);
            (of == family && self.cells(index).next().is_some()).then_some((key, index))
        })
    }

    /// What counts of a prefix, by PoP.
    pub(super) fn cells(&self, index: usize) -> impl Iterator<Item = (usize, Cell)> + '_ {
        self.rows.of(index).iter().filter_map(|row| {
            let pop = self.pops[usize::from(row.pop)]?;
            let n = row.weight(self.clock, self.half_life);
            let median = row.median_ms.into();
            (n >= FORGOTTEN).then_some((pop, Cell { median, n }))
        })
    }
}
