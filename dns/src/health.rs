//! When a PoP counts as healthy: a state machine without I/O or clock.
//!
//! A PoP that was never looked at counts as healthy, and its first check decides at once, so that
//! a server started beside a dead PoP never answers it. From then on it takes `fall` failures
//! running to go down and `rise` successes running to come back.

/// How many checks running it takes to change one's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Failures running that take a PoP out.
    pub fall: u32,
    /// Successes running that bring it back.
    pub rise: u32,
}

/// The health of one PoP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    rule: Rule,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Up { failures: u32 },
    Down { successes: u32 },
}

impl Health {
    /// A PoP that wasn't looked at yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            state: State::Unknown,
        }
    }

    /// Whether the PoP may be answered.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    /// Takes the outcome of a check; true if [`Health::is_healthy`] has changed by it.
    pub fn observe(&mut self, success: bool) -> bool {
        let before = self.is_healthy();
        self.state = match (self.state, success) {
            (State::Unknown | State::Up { .. }, true) => State::Up { failures: 0 },
            (State::Unknown | State::Down { .. }, false) => State::Down { successes: 0 },
            (State::Up { failures }, false) if failures + 1 < self.rule.fall => State::Up {
                failures: failures + 1,
            },
            (State::Up { .. }, false) => State::Down { successes: 0 },
            (State::Down { successes }, true) if successes + 1 < self.rule.rise => State::Down {
                successes: successes + 1,
            },
            (State::Down { .. }, true) => State::Up { failures: 0 },
        };
        self.is_healthy() != before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(fall: u32, rise: u32, outcomes: &[bool]) -> Vec<bool> {
        let mut health = Health::new(Rule { fall, rise });
        let step = |success: &bool| {
            health.observe(*success);
            health.is_healthy()
        };
        outcomes.iter().map(step).collect()
    }

    #[test]
    fn an_unseen_pop_is_healthy_and_its_first_check_decides() {
        assert!(Health::new(Rule { fall: 2, rise: 2 }).is_healthy());
        assert_eq!(after(2, 2, &[true]), [true]);
        assert_eq!(after(2, 2, &[false]), [false]);
    }

    #[test]
    fn it_takes_failures_running_to_fall_and_successes_running_to_rise() {
        assert_eq!(
            after(
                2,
                2,
                &[true, false, true, false, false, true, false, true, true]
            ),
            [true, true, true, true, false, false, false, false, true],
        );
        assert_eq!(after(1, 1, &[true, false, true]), [true, false, true]);
    }

    proptest! {
        #[test]
        fn a_change_is_reported_exactly_when_it_happens(
            fall in 1u32..5, rise in 1u32..5,
            outcomes in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut health = Health::new(Rule { fall, rise });
            for success in outcomes {
                let before = health.is_healthy();
                let changed = health.observe(success);
                prop_assert_eq!(changed, before != health.is_healthy());
                prop_assert!(!changed || health.is_healthy() == success);
            }
        }
    }
}
