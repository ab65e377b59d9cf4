//! What of the store is removed to make room.
//!
//! A run walks a mount's part of the store twice, module by module, without holding more than one
//! module at a time: once to learn how much there is and how far back in time of last use the size
//! bound reaches ([`plan`]), once to remove. When a version was asked for last is written down by
//! ourselves ([`used`]); where nothing is known, it was when it was stored.
//!
//! Failure rule: what can't be listed isn't removed. A version goes in an order in which it is
//! absent or whole to a reader of the tree at any moment: from `list`, then `.info`, `.mod`, `.zip`,
//! each with its sum after it. A crash in between leaves a version that the next run finds. Who is
//! reading a body keeps its bytes.

mod group;

mod plan;
mod run;
mod task;
pub(crate) mod used;

pub use self::plan::{Kept, Why};
pub use self::run::{Error, Event, Removal, Summary, run};
pub(crate) use self::task::keep_up;
