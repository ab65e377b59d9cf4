//! The circuit breaker towards the origin. Pure: time and chance are handed in.
//!
//! ```text
//!            `failures` of the last `window` requests failed
//!   closed ───────────────────────────────────────────────────▶ open, for a pause
//!     ▲                                                          │        ▲
//!     │ it succeeded                            the pause is over│        │ it failed: a longer
//!     └────────────────────── half-open, one request tries ◀─────┘────────┘ pause
//! ```
//! Only what says something about the origin as a whole counts: no connection, or no head of an
//! answer within its time. An answer is a success, whatever its status: an origin that answers 502
//! for a module whose upstream is down is well.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Requests whose ends a window can hold.
pub(crate) const LONGEST_WINDOW: u32 = 64;

/// Failures are forgotten when no request ended for so long: what was an hour ago says nothing.
const FORGET: Duration = Duration::from_secs(60);

/// When a [`Breaker`] opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How many of the last requests are looked at, at most [`LONGEST_WINDOW`].
    pub(crate) window: u32,
    /// So many failures among them open it.
    pub(crate) failures: u32,
    /// The pauses.
    pub(crate) pause: Backoff,
}

/// How a request ended, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The origin answered.
    Answered,
    /// There was no connection.
    Unreachable,
    /// There was one, and no answer.
    Failed,
    /// Nothing is known: we gave up for a reason of our own.
    Unknown,
}

impl Ended {
    const fn is_failure(self) -> bool {
        matches!(self, Self::Unreachable | Self::Failed)
    }
}

/// Leave to ask the origin; its end must be told to the breaker that gave it.
#[derive(Debug)]
pub(crate) struct Ticket {
    era: u64,
}

/// How a breaker is, for a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Everybody may ask.
    Closed = 0,
    /// One may.
    HalfOpen = 1,
    /// Nobody may.
    Open = 2,
}

/// The breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    rules: Rules,
    state: State,
    /// Counts changes of state: ends of requests that began in an earlier one don't count.
    era: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed(Window),
    Open {
        until: Instant,
        times: u32,
        /// The failure that opened it.
        by: Ended,
    },
    HalfOpen {
        times: u32,
        trying: bool,
    },
}

/// How the last requests ended, the newest in the lowest bit: 1 is a failure.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    ends: u64,
    newest: Option<Instant>,
}

impl Window {
    fn add(&mut self, failed: bool, now: Instant, rules: &Rules) -> u32 {
        let forget = |newest| now.saturating_duration_since(newest) > FORGET;
        if self.newest.is_some_and(forget) {
            self.ends = 0;
        }
        self.newest = Some(now);
        let mask = u64::MAX >> (LONGEST_WINDOW - rules.window.clamp(1, LONGEST_WINDOW));
        self.ends = (self.ends << 1 | u64::from(failed)) & mask;
        self.ends.count_ones()
    }
}

impl Breaker {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed(Window::default()),
            era: 0,
        }
    }

    /// How it is.
    pub(crate) fn position(&self) -> Position {
        match self.state {
            State::Closed(_) => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// How long a request that came now would have to wait before it is worth asking again; None:
    /// it may ask now.
    pub(crate) fn refuses(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed(_) | State::HalfOpen { trying: false, .. } => None,
            State::HalfOpen { trying: true, .. } => Some(self.rules.pause.first),
            State::Open { until, .. } => {
                Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
            }
        }
    }

    /// Leave to ask.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Some(wait) = self.refuses(now) {
            return Err(wait);
        }
        let times = match self.state {
            State::Closed(_) => return Ok(Ticket { era: self.era }),
            State::Open { times, .. } | State::HalfOpen { times, .. } => times,
        };
        self.turn(State::HalfOpen {
            times,
            trying: true,
        });
        Ok(Ticket { era: self.era })
    }

    /// A request is over. `chance`, from 0 to 1, shortens a pause that begins now. Whether the
    /// breaker opened.
    pub(crate) fn ended(
        &mut self,
        ticket: &Ticket,
        ended: Ended,
        now: Instant,
        chance: f64,
    ) -> bool {
        if ticket.era != self.era {
            return false;
        }
        match (&mut self.state, ended) {
            (State::Closed(_), Ended::Unknown) | (State::Open { .. }, _) => {}
            (State::Closed(window), _) => {
                let failed = window.add(ended.is_failure(), now, &self.rules);
                if failed >= self.rules.failures {
                    self.open(1, ended, now, chance);
                    return true;
                }
            }
            (State::HalfOpen { .. }, Ended::Answered) => {
                self.turn(State::Closed(Window::default()));
            }
            (State::HalfOpen { trying, .. }, Ended::Unknown) => *trying = false,
            (State::HalfOpen { times, .. }, Ended::Unreachable | Ended::Failed) => {
                let times = times.saturating_add(1);
                self.open(times, ended, now, chance);
                return true;
            }
        }
        false
    }

    /// There is word that the origin can be connected to: the pause is over if that was what was
    /// wrong. A connection to an origin that doesn't answer says nothing.
    pub(crate) fn reachable(&mut self) {
        if let State::Open {
            times,
            by: Ended::Unreachable,
            ..
        } = self.state
        {
            self.turn(State::HalfOpen {
                times,
                trying: false,
            });
        }
    }

    fn open(&mut self, times: u32, by: Ended, now: Instant, chance: f64) {
        let until = now + self.rules.pause.pause(times, chance);
        self.turn(State::Open { until, times, by });
    }

    fn turn(&mut self, state: State) {
        self.era += 1;
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules {
        window: 6,
        failures: 3,
        pause: Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        },
    };

    fn tell(breaker: &mut Breaker, ended: Ended, now: Instant) -> bool {
        let ticket = breaker.admit(now).unwrap();
        breaker.ended(&ticket, ended, now, 0.0)
    }

    /// A breaker that has just opened.
    fn opened(by: Ended, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(RULES);
        let ends = [by; 3].map(|ended| tell(&mut breaker, ended, now));
        assert_eq!(ends, [false, false, true]);
        breaker
    }

    #[test]
    fn failures_among_the_last_requests_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(RULES);
        for ended in [Ended::Failed, Ended::Failed, Ended::Unknown] {
            assert!(!tell(&mut breaker, ended, now));
        }
        for _ in 0..RULES.window {
            assert!(!tell(&mut breaker, Ended::Answered, now));
        }
        assert!(
            !tell(&mut breaker, Ended::Failed, now),
            "the first two are out of the window"
        );
        assert_eq!(
            opened(Ended::Failed, now).refuses(now),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn old_failures_are_forgotten() {
        let now = Instant::now();
        let mut breaker = Breaker::new(RULES);
        tell(&mut breaker, Ended::Failed, now);
        tell(&mut breaker, Ended::Failed, now);
        assert!(!tell(&mut breaker, Ended::Failed, now + 2 * FORGET));
    }

    #[test]
    fn one_request_tries_and_a_failure_makes_the_pause_longer() {
        let mut now = Instant::now();
        let mut breaker = opened(Ended::Failed, now);
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let pause = Duration::from_secs(pause);
            assert_eq!(breaker.admit(now).unwrap_err(), pause);
            now += pause;
            let ticket = breaker.admit(now).unwrap();
            assert!(breaker.admit(now).is_err(), "only one tries");
            assert!(breaker.ended(&ticket, Ended::Failed, now, 0.0));
        }
        now += Duration::from_secs(30);
        tell(&mut breaker, Ended::Answered, now);
        assert_eq!(breaker.position(), Position::Closed);
        assert!(breaker.admit(now).is_ok() && breaker.admit(now).is_ok());
    }

    #[test]
    fn one_who_gives_up_leaves_the_try_to_the_next() {
        let now = Instant::now() + Duration::from_secs(1);
        let mut breaker = opened(Ended::Failed, now - Duration::from_secs(1));
        tell(&mut breaker, Ended::Unknown, now);
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn a_connection_that_stands_again_ends_the_pause() {
        let now = Instant::now();
        let mut breaker = opened(Ended::Unreachable, now);
        breaker.reachable();
        assert!(breaker.admit(now).is_ok());
        assert!(breaker.admit(now).is_err());
        breaker.reachable();
        assert!(breaker.admit(now).is_err(), "one is trying already");
        let mut silent = opened(Ended::Failed, now);
        silent.reachable();
        assert!(
            silent.admit(now).is_err(),
            "that it can be connected to was known"
        );
    }

    #[test]
    fn ends_of_earlier_requests_say_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(RULES);
        let early = breaker.admit(now).unwrap();
        for _ in 0..3 {
            tell(&mut breaker, Ended::Failed, now);
        }
        breaker.ended(&early, Ended::Answered, now, 0.0);
        assert_eq!(breaker.position(), Position::Open);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit,
        End(usize, Ended),
        Wait(u64),
        Reachable,
    }

    fn step() -> impl Strategy<Value = Step> {
        let ended = prop_oneof![
            Just(Ended::Answered),
            Just(Ended::Failed),
            Just(Ended::Unreachable),
            Just(Ended::Unknown)
        ];
        prop_oneof![
            4 => Just(Step::Admit),
            4 => (0..8_usize, ended).prop_map(|(which, ended)| Step::End(which, ended)),
            2 => (0..40_000_u64).prop_map(Step::Wait),
            1 => Just(Step::Reachable),
        ]
    }

    proptest! {
        /// Whatever happens, it never lets more than one try while it isn't closed, and never
        /// refuses for longer than the longest pause.
        #[test]
        fn it_never_shuts_for_good_and_never_opens_wide(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(RULES);
            let mut under_way: Vec<Ticket> = Vec::new();
            for step in steps {
                match step {
                    Step::Admit => under_way.extend(breaker.admit(now).ok()),
                    Step::End(which, ended) if which < under_way.len() => {
                        let ticket = under_way.swap_remove(which);
                        breaker.ended(&ticket, ended, now, 0.0);
                    }
                    Step::End(..) => {}
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Reachable => breaker.reachable(),
                }
                let trying = under_way.iter().filter(|ticket| ticket.era == breaker.era).count();
                if breaker.position() != Position::Closed {
                    prop_assert!(trying <= 1, "{trying} try");
                }
                let wait = breaker.refuses(now).unwrap_or_default();
                prop_assert!(wait <= RULES.pause.longest);
                if breaker.position() == Position::Open {
                    prop_assert!(breaker.refuses(now + RULES.pause.longest).is_none());
                }
            }
            // Once those under way are over, somebody may ask within the longest pause.
            for ticket in under_way {
                breaker.ended(&ticket, Ended::Unknown, now, 0.0);
            }
            prop_assert!(breaker.admit(now + RULES.pause.longest).is_ok());
        }
    }
}
