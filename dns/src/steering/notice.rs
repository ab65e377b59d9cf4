//! What an operator should know of a node that answers all the same: shown on `/readyz`.

use std::fmt;
use std::time::{Duration, Instant};

use super::Steering;
use super::desk::Desk;

/// What an operator should know of a node that answers all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Most PoPs look down from here, and others say that they are up.
    Distrusted,
    /// No map was made for longer than `steering.map_age`.
    OldMap {
        /// How old the one in use is.
        age: Duration,
    },
    /// The state of some PoPs is what was kept of the process before.
    Kept {
        /// Their names.
        pops: Vec<String>,
    },
}

impl Notice {
    /// The same wherever people see it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Distrusted => "distrusted",
            Self::OldMap { .. } => "old-map",
            Self::Kept { .. } => "kept-state",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::Distrusted => f.write_str(
                "most pops look down from here and others say that they are up: look at this node's \
                 own network; it answers with the states that it last trusted",
            ),
            Self::OldMap { age } => write!(
                f,
                "the map in use is {} s old, and the next one isn't there: look into the log",
                age.as_secs()
            ),
            Self::Kept { pops } => write!(
                f,
                "not looked at since the start, so they are what they were before it: {}",
                pops.join(", ")
            ),
        }
    }
}

impl Steering {
    /// What an operator should know.
    #[must_use]
    pub fn notices(&self, now: Instant) -> Vec<Notice> {
        self.desk.lock().notices(now)
    }
}

impl Desk {
    fn notices(&self, now: Instant) -> Vec<Notice> {
        let age = now.saturating_duration_since(self.published);
        let distrusted = self.board.is_distrusted().then_some(Notice::Distrusted);
        let old = (age > self.setup.map_age).then_some(Notice::OldMap { age });
        let pops = || self.kept.iter().cloned().collect();
        let kept = (!self.kept.is_empty()).then(|| Notice::Kept { pops: pops() });
        [distrusted, old, kept].into_iter().flatten().collect()
    }
}
