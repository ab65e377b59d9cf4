//! What PoPs and other DNS nodes report: heartbeats, what they see of each other, round-trip samples.
//!
//! [`grammar`] is one report, parsed strictly and bounded. Reports come in by [`endpoint`], which asks
//! for a token and [for whom](Mandate) it speaks, and from a [`file`] of JSON lines; both hand them to the [`Book`], which keeps of every
//! sender what it said last, for as long as that counts. Whom the book doesn't know is counted and
//! ignored: a PoP that was taken out of the configuration goes on reporting for a while.
//!
//! Layout and rules for senders: `docs/dns-reports.md`.

mod book;
pub(crate) mod endpoint;
pub(crate) mod file;
pub mod grammar;
mod mandate;

pub use book::{Book, MAX_NODES, Measured, Refused, Rules, Taken};
pub use grammar::{Report, Sample, SelfReport, Sender, View, Wrong};
pub use mandate::{Foreign, Mandate};
