//! What checks of one address say together: its first check decides at once, so that a server
//! started beside a dead PoP never answers it. From then on it takes `fall` failures running to go
//! down and `rise` successes running to come back.

use std::time::Instant;

use super::evidence::Check;

/// How many checks running it takes to change one's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Failures running that take a PoP out.
    pub fall: u32,
    /// Successes running that bring it back.
    pub rise: u32,
}

/// The checks of one address so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    rule: Rule,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Up {
        failures: u32,
        first: Option<Instant>,
    },
    Down {
        successes: u32,
        since: Instant,
    },
}

impl Streak {
    /// An address that wasn't looked at yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            state: State::Unknown,
        }
    }

    /// The same checks under another rule, from the next check on.
    #[must_use]
    pub fn under(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// What the checks say.
    #[must_use]
    pub fn check(&self) -> Check {
        match self.state {
            State::Unknown => Check::Pending,
            State::Up { .. } => Check::Up,
            State::Down { since, .. } => Check::Down { since },
        }
    }

    /// Takes the outcome of a check that ended at `now`.
    pub fn observe(&mut self, success: bool, now: Instant) {
        self.state = match (self.state, success) {
            (State::Unknown | State::Up { .. }, true) => State::UP,
            (State::Down { successes, .. }, true) if successes + 1 >= self.rule.rise => State::UP,
            (State::Down { successes, since }, true) => State::Down {
                successes: successes + 1,
                since,
            },
            (State::Up { failures, first }, false) if failures + 1 < self.rule.fall => State::Up {
                failures: failures + 1,
                first: first.or(Some(now)),
            },
            (State::Up { first, .. }, false) => State::down(first.unwrap_or(now)),
            (State::Unknown, false) => State::down(now),
            (State::Down { since, .. }, false) => State::down(since),
        };
    }
}

impl State {
    const UP: Self = Self::Up {
        failures: 0,
        first: None,
    };

    fn down(since: Instant) -> Self {
        Self::Down {
            successes: 0,
            since,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn after(fall: u32, rise: u32, outcomes: &[bool]) -> Vec<Check> {
        let mut streak = Streak::new(Rule { fall, rise });
        let now = Instant::now();
        let step = |success: &bool| {
            streak.observe(*success, now);
            streak.check()
        };
        outcomes.iter().map(step).collect()
    }

    fn ups(checks: &[Check]) -> Vec<bool> {
        checks.iter().map(|check| *check == Check::Up).collect()
    }

    #[test]
    fn an_unseen_address_is_pending_and_its_first_check_decides() {
        let new = Streak::new(Rule { fall: 2, rise: 2 });
        assert_eq!(new.check(), Check::Pending);
        assert_eq!(ups(&after(2, 2, &[true])), [true]);
        assert_eq!(ups(&after(2, 2, &[false])), [false]);
    }

    #[test]
    fn it_takes_failures_running_to_fall_and_successes_running_to_rise() {
        let outcomes = [
            true, false, true, false, false, true, false, true, true, true,
        ];
        assert_eq!(
            ups(&after(2, 2, &outcomes)),
            [
                true, true, true, true, false, false, false, false, true, true
            ],
        );
        assert_eq!(ups(&after(1, 1, &[true, false, true])), [true, false, true]);
    }

    #[test]
    fn it_is_down_since_the_first_failure_of_the_row() {
        let mut streak = Streak::new(Rule { fall: 3, rise: 1 });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, success) in [true, false, false, false, false].into_iter().enumerate() {
            streak.observe(success, at(second as u64));
        }
        assert_eq!(streak.check(), Check::Down { since: at(1) });
    }

    proptest! {
        #[test]
        fn only_a_check_of_that_outcome_changes_the_state(
            fall in 1u32..5, rise in 1u32..5,
            outcomes in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut streak = Streak::new(Rule { fall, rise });
            for success in outcomes {
                let before = streak.check() == Check::Up;
                streak.observe(success, Instant::now());
                let up = streak.check() == Check::Up;
                prop_assert!(up == before || up == success);
            }
        }
    }
}
