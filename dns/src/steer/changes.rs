//! What a new map changes: how many units moved and why, and the first of them by name.

use std::collections::BTreeMap;

use serde::Serialize;

/// Moves listed one by one; all are counted.
pub const MAX_MOVES: usize = 1000;

/// Why a unit is led elsewhere than by the map before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Another PoP was better for long enough.
    Better,
    /// Its PoP is down.
    Down,
    /// Its PoP is being emptied.
    Draining,
    /// Its PoP is no longer there.
    Gone,
    /// Its PoP has too much load.
    Shed,
    /// Its PoP has load to spare again.
    Restored,
    /// The operator's pins or order, or the sets of PoPs.
    Operator,
    /// Its PoP may be answered again after no one could.
    Back,
    /// More or less is known of it than before.
    Known,
}

impl Cause {
    /// Its name in logs, metrics and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::Shed => "shed",
            Self::Restored => "restored",
            Self::Operator => "operator",
            Self::Back => "back",
            Self::Known => "known",
        }
    }
}

/// A unit that is led elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// The view.
    pub view: u16,
    /// A prefix, or what its addresses have in common.
    pub unit: String,
    /// The first PoP of the answer before.
    pub from: String,
    /// The first PoP of the answer now.
    pub to: String,
    /// Why.
    pub cause: Cause,
    /// By how much the new one is expected to be nearer, in milliseconds; negative if farther.
    pub gain_ms: Option<f64>,
}

/// What a new map changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    /// Version of the map before; 0 if there was none.
    pub before: u64,
    /// Version of the new map.
    pub after: u64,
    /// Units in all views together.
    pub units: usize,
    /// Of them those that are led elsewhere, by cause.
    pub totals: BTreeMap<Cause, usize>,
    /// Units that want to move and must wait, since only some may in a minute.
    pub waiting: usize,
    /// The first [`MAX_MOVES`] moves.
    pub moves: Vec<Move>,
    /// Stretches of addresses of which the same is known, before equal neighbours were merged.
    pub stretches: usize,
    /// Scopes after.
    pub scopes: usize,
}

impl Changes {
    /// Units that are led elsewhere.
    #[must_use]
    pub fn moved(&self) -> usize {
        self.totals.values().sum()
    }
}
