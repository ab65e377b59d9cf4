use std::time::Duration;

use proptest::prelude::*;

use super::super::{Heard, View};
use super::*;

const DAMPING: Damping = Damping {
    falls: 3,
    half_life: Duration::from_secs(60),
};

const OFF: Damping = Damping {
    falls: 0,
    half_life: Duration::from_secs(60),
};

/// A time in seconds after a start that all of a test's times share.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn up() -> Evidence {
    Evidence {
        check: Check::Up,
        ..Evidence::default()
    }
}

fn down(since: Instant) -> Evidence {
    Evidence {
        check: Check::Down { since },
        ..Evidence::default()
    }
}

fn seen(mut evidence: Evidence, views: &[(Instant, bool)]) -> Evidence {
    let view = |(at, up): &(Instant, bool)| View { at: *at, up: *up };
    evidence.views = views.iter().map(view).collect();
    evidence
}

fn reporting(mut evidence: Evidence, at: Instant, draining: bool) -> Evidence {
    evidence.heard = Heard::Fresh { at, draining };
    evidence
}

/// What a board of PoPs that were all up makes of it.
fn judged(evidence: &[Evidence], now: Instant) -> Vec<(&'static str, &'static str)> {
    let mut board = Board::new(evidence.iter().map(|_| State::Up), OFF, now);
    board.judge(evidence, now);
    let named = |verdict: Verdict| (verdict.state.name(), verdict.reason.name());
    board.verdicts().map(named).collect()
}

fn one(evidence: Evidence, now: Instant) -> (&'static str, &'static str) {
    // Beside it stands one that is up, so that no viewpoint is in doubt.
    judged(&[evidence, up()], now)[0]
}

#[test]
fn our_own_check_decides_where_nobody_says_otherwise() {
    let clock = Clock::new();
    let now = clock.at(10);
    assert_eq!(one(up(), now), ("up", "check"));
    assert_eq!(one(down(clock.at(9)), now), ("down", "check"));
    assert_eq!(one(Evidence::default(), now), ("up", "unknown"));
}

#[test]
fn a_pop_that_dies_goes_although_everybody_saw_it_a_moment_before() {
    let clock = Clock::new();
    let before = [
        (clock.at(4), true),
        (clock.at(4), true),
        (clock.at(5), true),
    ];
    let dead = reporting(seen(down(clock.at(5)), &before), clock.at(4), false);
    assert_eq!(one(dead, clock.at(6)), ("down", "check"));
}

#[test]
fn a_pop_that_only_we_do_not_reach_is_degraded() {
    let clock = Clock::new();
    let since = [
        (clock.at(6), true),
        (clock.at(6), true),
        (clock.at(6), false),
    ];
    assert_eq!(
        one(seen(down(clock.at(5)), &since), clock.at(7)),
        ("down", "check"),
        "two against two"
    );
    assert_eq!(
        one(seen(down(clock.at(5)), &since[..2]), clock.at(7)),
        ("degraded", "peers")
    );
    assert_eq!(
        one(seen(down(clock.at(5)), &since[..1]), clock.at(7)),
        ("down", "check"),
        "one against one"
    );
    let reports = reporting(seen(down(clock.at(5)), &since[..1]), clock.at(6), false);
    assert_eq!(one(reports, clock.at(7)), ("degraded", "peers"));
}

#[test]
fn a_pop_that_only_we_reach_is_degraded() {
    let clock = Clock::new();
    let views = [(clock.at(1), false), (clock.at(1), false)];
    assert_eq!(one(seen(up(), &views), clock.at(2)), ("degraded", "peers"));
    assert_eq!(one(seen(up(), &views[..1]), clock.at(2)), ("up", "check"));
    let alive = reporting(seen(up(), &views), clock.at(1), false);
    assert_eq!(one(alive, clock.at(2)), ("up", "check"));
}

#[test]
fn a_pop_that_is_not_checked_is_what_it_and_others_say() {
    let clock = Clock::new();
    let now = clock.at(2);
    let unchecked = Evidence::default;
    let reports = reporting(unchecked(), clock.at(1), false);
    assert_eq!(one(reports, now), ("up", "report"));
    let silent = Evidence {
        heard: Heard::Silent,
        ..unchecked()
    };
    assert_eq!(one(silent.clone(), now), ("down", "silent"));
    let seen_up = seen(silent, &[(clock.at(1), true)]);
    assert_eq!(one(seen_up, now), ("up", "peers"));
    let views = [(clock.at(1), false), (clock.at(1), false)];
    assert_eq!(one(seen(unchecked(), &views), now), ("down", "peers"));
    assert_eq!(
        one(seen(unchecked(), &views[..1]), now),
        ("up", "unknown"),
        "one other may be cut off"
    );
}

#[test]
fn draining_is_a_report_or_an_operators_word_and_down_is_stronger() {
    let clock = Clock::new();
    let now = clock.at(2);
    let drains = |evidence| reporting(evidence, clock.at(1), true);
    assert_eq!(one(drains(up()), now), ("draining", "report"));
    assert_eq!(one(drains(down(clock.at(2))), now), ("down", "check"));
    let drained = Evidence {
        drained: true,
        ..up()
    };
    assert_eq!(one(drained, now), ("draining", "operator"));
}

#[test]
fn what_was_known_holds_until_the_first_check() {
    let now = Instant::now();
    let pending = Evidence {
        check: Check::Pending,
        ..Evidence::default()
    };
    for state in State::ALL {
        let mut board = Board::new([state], DAMPING, now);
        assert!(board.judge(std::slice::from_ref(&pending), now).is_empty());
        assert_eq!(board.states(), [state]);
    }
}

#[test]
fn a_viewpoint_that_is_cut_off_changes_nothing() {
    let clock = Clock::new();
    let now = clock.at(11);
    let mut board = Board::new([State::Up; 3], OFF, clock.at(0));
    let says = |evidence| reporting(evidence, clock.at(9), false);
    let cut_off = [
        says(down(clock.at(10))),
        says(down(clock.at(10))),
        down(clock.at(10)),
    ];
    assert!(board.judge(&cut_off, now).is_empty());
    assert!(board.is_distrusted());
    let reasons: Vec<_> = board.verdicts().map(|v| v.reason.name()).collect();
    assert_eq!(reasons, ["report", "report", "held"]);
    let believed = [down(clock.at(10)), down(clock.at(10)), down(clock.at(10))];
    assert_eq!(
        board.judge(&believed, now).len(),
        3,
        "nobody contradicts any more"
    );
    assert!(!board.is_distrusted());
}

#[test]
fn one_of_two_is_no_majority_and_most_of_them_without_a_word_are_down() {
    let clock = Clock::new();
    let (now, since) = (clock.at(3), clock.at(2));
    let heard = |evidence| reporting(evidence, clock.at(1), false);
    assert_eq!(
        judged(&[heard(down(since)), up()], now),
        [("down", "check"), ("up", "check")]
    );
    assert_eq!(
        judged(&[down(since), down(since), up()], now),
        [("down", "check"), ("down", "check"), ("up", "check")]
    );
}

#[test]
fn a_pop_that_falls_again_and_again_comes_back_when_it_has_been_calm() {
    let clock = Clock::new();
    let mut board = Board::new([State::Up; 2], DAMPING, clock.at(0));
    let mut look = |second: u64, sees: bool| {
        let now = clock.at(second);
        let it = if sees { up() } else { down(now) };
        board.judge(&[it, up()], now);
        let verdict = board.verdicts().next().unwrap();
        (verdict.state.name(), verdict.reason.name())
    };
    for fall in [0, 2, 4] {
        assert_eq!(look(fall, true), ("up", "check"));
        assert_eq!(look(fall + 1, false), ("down", "check"));
    }
    assert_eq!(look(6, true), ("down", "flapping"));
    assert_eq!(look(60, true), ("down", "flapping"));
    assert_eq!(
        look(70, true),
        ("up", "check"),
        "half of the falls is forgotten"
    );
}

#[test]
fn a_pop_that_flaps_is_better_than_none() {
    let clock = Clock::new();
    let mut board = Board::new([State::Up; 2], DAMPING, clock.at(0));
    for second in 0..8 {
        let now = clock.at(second);
        let it = if second % 2 == 0 { up() } else { down(now) };
        board.judge(&[it, up()], now);
    }
    let now = clock.at(9);
    board.judge(&[up(), up()], now);
    assert_eq!(board.states(), [State::Down, State::Up]);
    board.judge(&[up(), down(now)], now);
    assert_eq!(board.states(), [State::Up, State::Down]);
}

/// Evidence in seconds before now.
#[derive(Clone, Debug)]
struct Words {
    check: Option<Option<u64>>,
    pending: bool,
    heard: Option<Option<(u64, bool)>>,
    views: Vec<(u64, bool)>,
    drained: bool,
}

fn words() -> impl Strategy<Value = Words> {
    let age = 0u64..20;
    let of_age = proptest::option::of(age.clone());
    let of_report = proptest::option::of((age.clone(), any::<bool>()));
    (
        proptest::option::of(of_age),
        any::<bool>(),
        proptest::option::of(of_report),
        proptest::collection::vec((age, any::<bool>()), 0..5),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(check, pending, heard, views, drained)| Words {
            check,
            pending,
            heard,
            views,
            drained,
        })
}

impl Words {
    fn at(&self, now: Instant) -> Evidence {
        let ago = |seconds: u64| now - Duration::from_secs(seconds);
        Evidence {
            check: match self.check {
                None if self.pending => Check::Pending,
                None => Check::Off,
                Some(None) => Check::Up,
                Some(Some(since)) => Check::Down { since: ago(since) },
            },
            heard: match self.heard {
                None => Heard::Never,
                Some(None) => Heard::Silent,
                Some(Some((at, draining))) => Heard::Fresh {
                    at: ago(at),
                    draining,
                },
            },
            views: (self.views.iter())
                .map(|(at, up)| View {
                    at: ago(*at),
                    up: *up,
                })
                .collect(),
            drained: self.drained,
        }
    }
}

proptest! {
    /// Whatever is said, in whatever order, these hold after each judgement.
    #[test]
    fn the_rules_hold_in_every_history(
        history in proptest::collection::vec(proptest::collection::vec(words(), 4), 1..20),
    ) {
        let clock = Clock::new();
        let mut board = Board::new([State::Up; 4], DAMPING, clock.at(100));
        for (step, words) in history.iter().enumerate() {
            let now = clock.at(100 + step as u64);
            let evidence: Vec<_> = words.iter().map(|words| words.at(now)).collect();
            let before = board.states();
            let changes = board.judge(&evidence, now);
            let after: Vec<_> = board.verdicts().collect();
            let changed: Vec<_> = (0..4).filter(|pop| before[*pop] != after[*pop].state).collect();
            prop_assert_eq!(changes.iter().map(|c| c.pop).collect::<Vec<_>>(), changed);
            let answerable = after.iter().any(|v| v.state.is_answerable());
            for (pop, (evidence, verdict)) in evidence.iter().zip(&after).enumerate() {
                let Verdict { state, reason } = *verdict;
                if evidence.drained {
                    prop_assert!(!state.is_answerable(), "{pop} is drained");
                }
                if reason == Reason::Flapping {
                    prop_assert!(answerable, "{pop} flaps, and nobody is left");
                }
                if evidence.check == Check::Up && reason != Reason::Flapping {
                    prop_assert!(state != State::Down, "{pop} answers us");
                }
                if evidence.fails() && evidence.heard == Heard::Never && evidence.views.is_empty()
                    && !board.is_distrusted() {
                    prop_assert_eq!(state, State::Down, "nobody but us says anything of it");
                }
                if board.is_distrusted() {
                    prop_assert!(reason != Reason::Check || evidence.check == Check::Up);
                    prop_assert!(reason != Reason::Held || state == before[pop]);
                }
            }
        }
    }

    /// Damping bounds how often a PoP can fall while another one is up.
    #[test]
    fn falls_are_few(outcomes in proptest::collection::vec(any::<bool>(), 600)) {
        let clock = Clock::new();
        let mut board = Board::new([State::Up; 2], DAMPING, clock.at(0));
        let mut falls = 0;
        for (second, success) in outcomes.iter().enumerate() {
            let now = clock.at(second as u64);
            let it = if *success { up() } else { down(now) };
            let changes = board.judge(&[it, up()], now);
            falls += changes.iter().filter(|change| change.to.state == State::Down).count();
        }
        // Three to be found out; afterwards two in the time that it takes to forget one and a half.
        prop_assert!(falls <= 3 + 2 * 10, "{falls} falls in 10 half-lives");
    }
}
