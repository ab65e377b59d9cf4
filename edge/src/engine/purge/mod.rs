//! Purges: which answers are meant, and what becomes of them. Pure: no I/O, no clock.
//!
//! A purge is a *ban*: it gets the next number (its epoch), and every answer knows the newest
//! number there was when it was asked for. A ban concerns the answers that it selects and whose
//! number is below its own, wherever they are: in RAM, on disk, or still arriving. So a purge takes
//! effect with one insertion, and needs no walk through the cache.
//!
//! - [`Selector`], [`Mode`], [`Purge`]: what can be asked, strictly parsed; shared with the origin, as
//!   is `Subject`, an answer as selectors see it.
//! - `bans`: the numbered purges that still matter.

pub(crate) mod bans;

use serde::{Deserialize, Serialize};

pub use modcdn_core::purge::{Kind, Mode, Purge, PurgeError, Selector};

pub(crate) use modcdn_core::purge::Subject;

/// What came of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Its number: they grow.
    pub epoch: u64,
    /// Running fills that no later request will join, and whose answers are not stored.
    pub fills: usize,
    /// Whether it is on disk. If not (the disk refused it) it holds until the process ends, and is
    /// written down as soon as the disk takes it.
    pub durable: bool,
}
