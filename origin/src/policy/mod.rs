//! Policy: which versions of which modules a mount gives out.
//!
//! - [`decide`]: the decision about one version, from facts that are handed in. Pure.
//! - [`versions`], [`until`]: what rules are written with.
//! - [`nearest`]: what is left of a list, and what to take instead. Pure.
//! - [`refusal`]: what the user is told.
//! - [`change`]: what edges must forget when a policy takes another's place. Pure.
//! - [`explain`]: a decision explained to an operator, from what is `stored`.
//! - `govern`: a mount's policy at work.
//! - `announce`: tells edges of changes.
//! - [`sight`]: when this origin first saw what: the one clock that no author can set.
//!
//! The rules that hold everywhere: what is blocked is a 403, in `list` and `@latest` it isn't there;
//! a go.mod is given out all the same (unless a rule says otherwise), because a build reads those of
//! versions that it never uses; and an age that isn't known is no age at all.

pub(crate) mod announce;
pub mod change;
pub mod decide;
pub mod explain;
pub(crate) mod govern;
pub mod nearest;
pub mod refusal;
pub mod sight;
mod stored;
pub mod until;
pub mod versions;

pub use decide::{Age, Block, Decision, Facts, Needs, Warning};
