//! When an upstream isn't asked, because it is down or asked for a pause.
//!
//! ```text
//! open ── so many failures in a row, or a 429 ──▶ resting ── the pause is over ──▶ one tries
//!  ▲                                                 ▲                               │
//!  └──────────────── it answers ─────────────────────┼───────────────────────────────┤
//!                                                    └────── it fails: longer ───────┘
//! ```
//! A 404 is an answer, and so is a 403. A 5xx is a failure like a broken connection: one object that
//! fails among others that don't rests nobody, for any answer ends the row. Half of each pause is left to
//! chance. `Retry-After` is honoured up to a bound. What is still under way when a pause begins
//! doesn't count any more: many that fail together are one failure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge};

use reqwest::Url;

use super::chain::redacted;
use crate::config::Backoff;
use crate::metrics::Metrics;

/// How many upstreams have a gate, about 300 bytes each.
const MOST: usize = 10_000;

/// Before one upstream.
pub(crate) struct Gate {
    config: Backoff,
    state: Mutex<State>,
    backoffs: IntCounterVec,
    resting: IntGauge,
}

/// The gates of all upstreams: mounts that ask the same one share its gate.
pub(crate) struct Gates {
    config: Backoff,
    metrics: Metrics,
    known: Mutex<HashMap<String, Arc<Gate>>>,
}

impl Gates {
    pub(crate) fn new(config: &Backoff, metrics: &Metrics) -> Self {
        Self {
            config: config.clone(),
            metrics: metrics.clone(),
            known: Mutex::default(),
        }
    }

    /// The gate before an upstream at that URL. Modules' own sites can name proxies, too: where there
    /// are too many, those that let everybody in are made anew, and at worst all.
    pub(crate) fn of(&self, base: &Url) -> Arc<Gate> {
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, gate| !matches!(gate.state.lock().phase, Phase::Open(_)));
        }
        if known.len() >= MOST {
            known.clear();
        }
        let gate = known.entry(redacted(base).into()).or_insert_with(|| {
            let (backoffs, resting) = (self.metrics.backoffs.clone(), self.metrics.resting.clone());
            Arc::new(Gate::new(self.config.clone(), backoffs, resting))
        });
        gate.clone()
    }
}

/// The right to ask once. Dropped without a report, it says nothing of the upstream.
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    round: u64,
    reported: bool,
}

/// What an upstream's behaviour says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answers.
    Alive,
    /// It did not, or answered with an error of its own.
    Failed,
    /// It asks for a pause, perhaps of a certain length.
    Busy(Option<Duration>),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Pauses so far in this row.
    step: u32,
    /// Reports of earlier rounds don't count.
    round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many failures in a row.
    Open(u32),
    Resting(Instant),
    Trying,
}

/// The upstream's status and header as a sign of how it is.
pub(crate) fn sign(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Sign {
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| retry_after(value.to_str().ok()?.trim(), now));
    match status {
        StatusCode::TOO_MANY_REQUESTS => Sign::Busy(retry_after),
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Sign::Busy(retry_after),
        _ if status.is_server_error() => Sign::Failed,
        _ => Sign::Alive,
    }
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

impl Gate {
    pub(crate) fn new(config: Backoff, backoffs: IntCounterVec, resting: IntGauge) -> Self {
        Self {
            config,
            state: Mutex::new(State {
                phase: Phase::Open(0),
                step: 0,
                round: 0,
            }),
            backoffs,
            resting,
        }
    }

    /// Asks for a pass.
    ///
    /// # Errors
    /// For how long there is none; nothing, if somebody is trying just now.
    pub(crate) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Open(_) => {}
            Phase::Resting(until) if until <= now => {
                state.phase = Phase::Trying;
                state.round += 1;
            }
            Phase::Resting(until) => return Err(until - now),
            Phase::Trying => return Err(Duration::ZERO),
        }
        Ok(Pass {
            gate: self,
            round: state.round,
            reported: false,
        })
    }

    /// `chance` is between 0 and 1.
    fn report(&self, round: u64, sign: Sign, now: Instant, chance: f64) {
        let mut state = self.state.lock();
        if state.round != round {
            return;
        }
        let (asked_for, cause) = match (state.phase, sign) {
            (Phase::Resting(_), _) => return,
            (_, Sign::Alive) => {
                self.leave_rest(&state);
                (state.phase, state.step) = (Phase::Open(0), 0);
                return;
            }
            (Phase::Open(failures), Sign::Failed) if failures + 1 < self.config.failures => {
                state.phase = Phase::Open(failures + 1);
                return;
            }
            (_, Sign::Failed) => (None, "failures"),
            (_, Sign::Busy(asked_for)) => (asked_for, "asked"),
        };
        if let Phase::Open(_) = state.phase {
            self.resting.inc();
        }
        let pause = self.config.pause(state.step, asked_for, chance);
        state.phase = Phase::Resting(now + pause);
        state.step = state.step.saturating_add(1);
        state.round += 1;
        self.backoffs.with_label_values(&[cause]).inc();
    }

    fn leave_rest(&self, state: &State) {
        if state.phase == Phase::Trying {
            self.resting.dec();
        }
    }

    /// Whoever tried went away: the next one may.
    fn abandon(&self, round: u64, now: Instant) {
        let mut state = self.state.lock();
        if state.round == round && state.phase == Phase::Trying {
            state.phase = Phase::Resting(now);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if !matches!(self.state.get_mut().phase, Phase::Open(_)) {
            self.resting.dec();
        }
    }
}

impl Pass<'_> {
    /// Says how the upstream behaved.
    pub(crate) fn report(mut self, sign: Sign) {
        self.reported = true;
        let (now, chance) = (Instant::now(), fastrand::f64());
        self.gate.report(self.round, sign, now, chance);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.reported {
            self.gate.abandon(self.round, Instant::now());
        }
    }
}

impl Backoff {
    /// How long an upstream rests after so many pauses in a row.
    fn pause(&self, step: u32, asked_for: Option<Duration>, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        let doubled = self.first.get().saturating_mul(1 << step.min(30));
        let own = doubled.min(self.longest.get()).mul_f64(0.5 + 0.5 * chance);
        let asked_for = asked_for.unwrap_or_default().min(self.retry_after.get());
        own.max(asked_for.mul_f64(1.0 + 0.1 * chance))
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::units::Period;
    use prometheus::Opts;
    use proptest::prelude::*;

    use super::*;

    fn gate(failures: u32) -> Gate {
        let config = Backoff {
            failures,
            first: Period::secs(2),
            longest: Period::secs(10),
            retry_after: Period::secs(100),
        };
        let counters = IntCounterVec::new(Opts::new("x", "x"), &["cause"]).unwrap();
        Gate::new(config, counters, IntGauge::new("x", "x").unwrap())
    }

    /// Asks at a moment, and says how it went.
    fn ask(gate: &Gate, now: Instant, sign: Sign) -> bool {
        let Ok(mut pass) = gate.enter(now) else {
            return false;
        };
        pass.reported = true;
        gate.report(pass.round, sign, now, 1.0);
        true
    }

    #[test]
    fn failures_in_a_row_bring_pauses_that_grow_and_end() {
        let gate = gate(3);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        assert!(ask(&gate, at(0), Sign::Failed) && ask(&gate, at(0), Sign::Failed));
        assert!(ask(&gate, at(0), Sign::Alive), "which ends the row");
        for _ in 0..3 {
            assert!(ask(&gate, at(0), Sign::Failed));
        }
        assert_eq!(gate.resting.get(), 1);
        for (tried, next) in [(2, 6), (6, 14), (14, 24), (24, 34)] {
            let early = at(tried) - Duration::from_millis(1);
            assert!(!ask(&gate, early, Sign::Alive), "{tried}");
            assert!(ask(&gate, at(tried), Sign::Failed), "{tried}");
            assert!(!ask(&gate, at(next - 1), Sign::Alive), "{next}");
        }
        assert!(ask(&gate, at(34), Sign::Alive) && ask(&gate, at(34), Sign::Failed));
        assert_eq!(gate.resting.get(), 0);
        assert_eq!(gate.backoffs.with_label_values(&["failures"]).get(), 5);
    }

    #[test]
    fn who_asks_for_a_pause_gets_it_within_bounds() {
        for (asked_for, pause) in [
            (None, 2.0),
            (Some(1), 2.0),
            (Some(60), 66.0),
            (Some(100_000), 110.0),
        ] {
            let gate = gate(3);
            let now = Instant::now();
            ask(&gate, now, Sign::Busy(asked_for.map(Duration::from_secs)));
            let left = gate.enter(now).err().unwrap();
            assert_eq!(left, Duration::from_secs_f64(pause), "{asked_for:?}");
        }
    }

    #[test]
    fn gates_are_bounded_and_a_pause_outlasts_the_crowd() {
        let metrics = Metrics::new(&prometheus::Registry::new());
        let gates = Gates::new(&gate(1).config, &metrics);
        let url = |n: usize| format!("https://a{n}.example/").parse().unwrap();
        ask(&gates.of(&url(0)), Instant::now(), Sign::Failed);
        for n in 1..2 * MOST {
            gates.of(&url(n));
        }
        assert!(gates.known.lock().len() <= MOST);
        assert!(gates.of(&url(0)).enter(Instant::now()).is_err());
        assert_eq!(metrics.resting.get(), 1);
        gates.known.lock().clear();
        assert_eq!(metrics.resting.get(), 0);
    }

    #[test]
    fn one_tries_at_a_time_and_may_leave() {
        let gate = gate(1);
        let now = Instant::now();
        ask(&gate, now, Sign::Failed);
        let later = now + Duration::from_secs(3);
        let trying = gate.enter(later).ok().unwrap();
        assert_eq!(gate.enter(later).err(), Some(Duration::ZERO));
        drop(trying);
        assert!(gate.enter(later).is_ok());
    }

    #[test]
    fn what_was_under_way_before_a_pause_does_not_count() {
        let gate = gate(1);
        let now = Instant::now();
        let under_way: Vec<_> = (0..3).map(|_| gate.enter(now).ok().unwrap()).collect();
        for (pass, sign) in under_way
            .into_iter()
            .zip([Sign::Failed, Sign::Alive, Sign::Failed])
        {
            pass.report(sign);
        }
        assert!(gate.enter(now).is_err());
        assert_eq!(gate.backoffs.with_label_values(&["failures"]).get(), 1);
    }

    #[test]
    fn an_upstreams_own_errors_are_failures_and_its_word_is_none() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        for (status, retry_after, expected) in [
            (200, None, Sign::Alive),
            (304, None, Sign::Alive),
            (401, None, Sign::Alive),
            (404, Some("5"), Sign::Alive),
            (429, None, Sign::Busy(None)),
            (429, Some("5"), Sign::Busy(Some(Duration::from_secs(5)))),
            (429, Some("soon"), Sign::Busy(None)),
            (429, Some(date), Sign::Busy(Some(Duration::from_secs(60)))),
            (500, Some("5"), Sign::Failed),
            (503, None, Sign::Failed),
            (503, Some("5"), Sign::Busy(Some(Duration::from_secs(5)))),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = retry_after {
                headers.insert(RETRY_AFTER, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                sign(status, &headers, now),
                expected,
                "{status} {retry_after:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_pause_is_beyond_its_bounds(
            text in ".{0,40}",
            step in any::<u32>(),
            chance in -1.0f64..2.0,
        ) {
            let asked_for = retry_after(&text, SystemTime::UNIX_EPOCH);
            let config = gate(1).config.clone();
            let pause = config.pause(step, asked_for, chance);
            prop_assert!(pause >= config.first.get() / 2);
            prop_assert!(pause <= config.retry_after.get().mul_f64(1.1));
        }

        /// Whatever is reported in whatever order: resting is counted once, and a gate that is let
        /// alone opens again.
        #[test]
        fn a_gate_never_stays_shut(steps in prop::collection::vec((0u8..4, 0u64..20), 0..60)) {
            let gate = gate(2);
            let mut now = Instant::now();
            for (sign, secs) in steps {
                now += Duration::from_secs(secs);
                let sign = match sign {
                    0 => Sign::Alive,
                    1 => Sign::Failed,
                    2 => Sign::Busy(None),
                    _ => {
                        // Looked in and left.
                        drop(gate.enter(now));
                        continue;
                    }
                };
                ask(&gate, now, sign);
                let is_open = matches!(gate.state.lock().phase, Phase::Open(_));
                prop_assert_eq!(gate.resting.get(), i64::from(!is_open));
            }
            now += Duration::from_secs(120);
            prop_assert!(gate.enter(now).is_ok());
        }
    }
}
