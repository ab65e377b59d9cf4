//! The state of every PoP, made of all that is known of them.

use std::time::Instant;

use super::damper::Damper;
use super::{Check, Damping, Evidence, Reason, State};

/// What a PoP is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// What led to it.
    pub reason: Reason,
}

/// A PoP's state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its index.
    pub pop: usize,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: Verdict,
}

/// The state of every PoP.
#[derive(Debug)]
pub struct Board {
    damping: Damping,
    seats: Vec<Seat>,
    distrusted: bool,
}

#[derive(Debug)]
struct Seat {
    verdict: Verdict,
    damper: Damper,
}

impl Board {
    /// Starts with what each PoP was when it was last looked at.
    #[must_use]
    pub fn new(before: impl IntoIterator<Item = State>, damping: Damping, now: Instant) -> Self {
        let seat = |state| Seat {
            verdict: Verdict {
                state,
                reason: Reason::Held,
            },
            damper: Damper::new(now),
        };
        Self {
            damping,
            seats: before.into_iter().map(seat).collect(),
            distrusted: false,
        }
    }

    /// What each PoP is.
    pub fn verdicts(&self) -> impl ExactSizeIterator<Item = Verdict> + '_ {
        self.seats.iter().map(|seat| seat.verdict)
    }

    /// The state of each PoP.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        self.verdicts().map(|verdict| verdict.state).collect()
    }

    /// Whether it looks as if we were cut off, and not the PoPs down.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// Judges every PoP anew, of each of which there is evidence; names those whose state has
    /// changed.
    pub fn judge(&mut self, evidence: &[Evidence], now: Instant) -> Vec<Change> {
        self.distrusted = is_cut_off(evidence);
        let weighed: Vec<_> = (self.seats.iter().zip(evidence))
            .map(|(seat, evidence)| evidence.weigh(!self.distrusted, seat.verdict.state))
            .collect();
        let damped = self.damp(&weighed, now);
        let seats = self.seats.iter_mut().zip(damped).enumerate();
        seats
            .filter_map(|(pop, (seat, to))| seat.settle(pop, to, self.damping, now))
            .collect()
    }

    /// Keeps those down that flap, unless nobody would be left.
    fn damp(&mut self, weighed: &[(State, Reason)], now: Instant) -> Vec<Verdict> {
        let held: Vec<bool> = (self.seats.iter_mut().zip(weighed))
            .map(|(seat, (state, _))| {
                let suppressed = seat.damper.suppresses(self.damping, now);
                suppressed && state.is_answerable() && seat.verdict.state == State::Down
            })
            .collect();
        let others = weighed.iter().zip(&held);
        let somebody = others
            .clone()
            .any(|((state, _), held)| state.is_answerable() && !held);
        others
            .map(|((state, reason), held)| {
                if *held && somebody {
                    Verdict {
                        state: State::Down,
                        reason: Reason::Flapping,
                    }
                } else {
                    Verdict {
                        state: *state,
                        reason: *reason,
                    }
                }
            })
            .collect()
    }
}

impl Seat {
    fn settle(
        &mut self,
        pop: usize,
        to: Verdict,
        damping: Damping,
        now: Instant,
    ) -> Option<Change> {
        let from = std::mem::replace(&mut self.verdict, to).state;
        if to.state == State::Down && from != State::Down {
            self.damper.fell(damping, now);
        }
        (from != to.state).then_some(Change { pop, from, to })
    }
}

/// Whether most of what we check looks down, and for at least half of that others say otherwise.
fn is_cut_off(evidence: &[Evidence]) -> bool {
    let checked = evidence
        .iter()
        .filter(|e| matches!(e.check, Check::Up | Check::Down { .. }));
    let failing = evidence.iter().filter(|e| e.fails()).count();
    let contradicted = evidence.iter().filter(|e| e.is_contradicted()).count();
    failing >= 2 && 2 * failing > checked.count() && 2 * contradicted >= failing
}

#[cfg(test)]
mod tests;
