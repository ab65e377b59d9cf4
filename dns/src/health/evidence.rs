//! All that is known of one PoP at one moment, and what it amounts to.

use std::time::Instant;

use super::{Reason, State};

/// What our own checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// It isn't checked.
    #[default]
    Off,
    /// It will be, and wasn't yet.
    Pending,
    /// It answers.
    Up,
    /// It doesn't.
    Down {
        /// When the first of the failures running ended.
        since: Instant,
    },
}

impl Check {
    /// The same wherever people see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Pending => "pending",
            Self::Up => "up",
            Self::Down { .. } => "down",
        }
    }

    /// The checks of a PoP's addresses together: one that answers is enough; it is down since the
    /// last of them failed.
    #[must_use]
    pub fn any(checks: impl IntoIterator<Item = Self>) -> Self {
        checks.into_iter().fold(Self::Off, |a, b| match (a, b) {
            (Self::Up, _) | (_, Self::Up) => Self::Up,
            (Self::Pending, _) | (_, Self::Pending) => Self::Pending,
            (Self::Down { since: a }, Self::Down { since: b }) => Self::Down { since: a.max(b) },
            (Self::Off, other) | (other, Self::Off) => other,
        })
    }
}

/// What a PoP says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heard {
    /// It never reported.
    #[default]
    Never,
    /// It reports.
    Fresh {
        /// When it said so.
        at: Instant,
        /// Whether it wants no more clients.
        draining: bool,
    },
    /// It reported to the process before this one, and has still the time to report to this one.
    Awaited,
    /// It reported once, and has stopped.
    Silent,
}

/// What somebody else sees of a PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// When.
    pub at: Instant,
    /// Whether it answered.
    pub up: bool,
}

/// All that is known of one PoP; what is too old is left out before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Our own checks.
    pub check: Check,
    /// Its own reports.
    pub heard: Heard,
    /// What others see.
    pub views: Vec<View>,
    /// Whether an operator drains it.
    pub drained: bool,
}

/// So many others say the one and the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Votes {
    up: usize,
    down: usize,
}

/// One other may be as wrong as we are: fewer never overrule a check, nor take a PoP out.
const QUORUM: usize = 2;

impl Evidence {
    /// Whether our own check fails.
    pub(super) fn fails(&self) -> bool {
        matches!(self.check, Check::Down { .. })
    }

    /// Whether our own check fails, and more of the others see it up than down.
    pub(super) fn is_contradicted(&self) -> bool {
        let votes = self.votes(None);
        self.fails() && votes.up > votes.down
    }

    /// What it amounts to; `trusted` says whether our own failures count, `before` is what the PoP
    /// was.
    pub(super) fn weigh(&self, trusted: bool, before: State) -> (State, Reason) {
        let reach = match self.check {
            Check::Up => self.seen(),
            Check::Down { since } if trusted => self.unseen(since),
            Check::Pending | Check::Down { .. } => self.told().unwrap_or((before, Reason::Held)),
            Check::Off if self.heard == Heard::Awaited => {
                self.told().unwrap_or((before, Reason::Held))
            }
            Check::Off => self.told().unwrap_or((State::Up, Reason::Unknown)),
        };
        match reach {
            (State::Down, _) => reach,
            _ if self.drained => (State::Draining, Reason::Operator),
            _ if matches!(self.heard, Heard::Fresh { draining: true, .. }) => {
                (State::Draining, Reason::Report)
            }
            _ => reach,
        }
    }

    /// Our check sees it.
    fn seen(&self) -> (State, Reason) {
        let others = self.votes(None);
        if others.down >= QUORUM && others.down > others.up + 1 {
            (State::Degraded, Reason::Peers)
        } else {
            (State::Up, Reason::Check)
        }
    }

    /// Our check has failed since then.
    fn unseen(&self, since: Instant) -> (State, Reason) {
        let others = self.votes(Some(since));
        if others.up >= QUORUM && others.up > others.down + 1 {
            (State::Degraded, Reason::Peers)
        } else {
            (State::Down, Reason::Check)
        }
    }

    /// What it is by others' words alone, if they say anything.
    fn told(&self) -> Option<(State, Reason)> {
        let votes = self.votes(None);
        if votes.down >= QUORUM && votes.down > votes.up {
            return Some((State::Down, Reason::Peers));
        }
        match self.heard {
            Heard::Fresh { .. } => Some((State::Up, Reason::Report)),
            _ if votes.up > 0 => Some((State::Up, Reason::Peers)),
            Heard::Silent => Some((State::Down, Reason::Silent)),
            Heard::Never | Heard::Awaited => None,
        }
    }

    /// What others say; of those who see it up, only if they saw it after `since`. Its own report
    /// is a word too: whoever reports isn't dead.
    fn votes(&self, since: Option<Instant>) -> Votes {
        let counts = |at: Instant| since.is_none_or(|since| at > since);
        let own = matches!(self.heard, Heard::Fresh { at, .. } if counts(at));
        let up = self.views.iter().filter(|view| view.up && counts(view.at));
        Votes {
            up: up.count() + usize::from(own),
            down: self.views.iter().filter(|view| !view.up).count(),
        }
    }
}
