//! What state each PoP is in: state machines without I/O or clock.
//!
//! [`Streak`] is what our own checks of one address say. [`Evidence`] is all that is known of a PoP:
//! checks, its own report, what others see. [`Board`] makes a [`Verdict`] of it for every PoP, by the
//! rules that `docs/dns-health.md` explains to operators:
//!
//! 1. Our own check decides, unless others outvote it: at least two, more than there are on its side,
//!    of whom only those count that saw the PoP after it had begun to fail for us. Such a PoP is
//!    degraded, not down.
//! 2. If most PoPs look down from here, and others contradict that for at least half of them, it is
//!    us who is cut off: our failures don't count, and where nobody says anything the state stays.
//! 3. A PoP that isn't checked is what its report says; one that stopped reporting is down.
//! 4. A PoP that drains, by report or by an operator's word, is draining unless it is down.
//! 5. A PoP that falls again and again comes back only when it has been calm, unless there is no other.

mod board;
mod damper;
mod evidence;
mod streak;

pub use board::{Board, Change, Verdict};
pub use damper::Damping;
pub use evidence::{Check, Evidence, Heard, View};
pub use streak::{Rule, Streak};

pub use crate::steer::State;

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Degraded, Self::Draining, Self::Down];

    /// Whether it takes clients.
    #[must_use]
    pub fn is_answerable(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// Why a PoP is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing is known of it.
    Unknown,
    /// Our own check.
    Check,
    /// Its own report.
    Report,
    /// What other PoPs and DNS nodes see.
    Peers,
    /// It isn't checked, and its reports have stopped.
    Silent,
    /// An operator's word, by configuration or by call.
    Operator,
    /// It was so before, and nothing that is trusted says anything else.
    Held,
    /// It is up again, and has fallen too often of late.
    Flapping,
}

impl Reason {
    /// The same in logs, metrics and explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Check => "check",
            Self::Report => "report",
            Self::Peers => "peers",
            Self::Silent => "silent",
            Self::Operator => "operator",
            Self::Held => "held",
            Self::Flapping => "flapping",
        }
    }
}
