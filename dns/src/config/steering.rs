//! The section `steering`: the numbers by which PoPs are chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use crate::steer::Constants;
use crate::steer::constants::MAX_WINDOWS;

/// How PoPs are chosen; what the numbers mean is said in `steer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Steering {
    /// A window of measurement.
    pub window: Period,
    /// Windows running in which another PoP must be better before clients are moved.
    pub windows: u8,
    /// What a move must gain.
    pub gain: Period,
    /// What a move must gain, as a part of the round trip; the larger of the two counts.
    pub gain_part: f64,
    /// The part of all units of clients that may be moved in a minute.
    pub moves_per_minute: f64,
    /// Samples that the expected round trip is worth.
    pub prior_samples: f64,
    /// Measured prefixes that what is known of a continent, of a country is worth to what lies in it.
    pub prior_prefixes: f64,
    /// The time in which a sample loses half of its weight.
    pub half_life: Period,
    /// Round trip to a PoP next door, where nothing was measured.
    pub base: Period,
    /// Milliseconds a kilometre, where nothing was measured.
    pub ms_per_km: f64,
    /// Kilometres assumed of clients of unknown place.
    pub unknown_km: f64,
    /// What a degraded PoP is worsened by.
    pub degraded: Period,
    /// The load from which clients are led elsewhere.
    pub shed_from: f64,
    /// The load above that over which their part grows from none to all.
    pub shed_span: f64,
    /// How much of the way to the wanted part is gone in a window.
    pub shed_step: f64,
    /// No clients are moved onto a PoP with more load; from `shed_from` on it takes fewer and fewer.
    pub load_ceiling: f64,
    /// The second PoP of an answer is at most this much worse than the first.
    pub runner_up: Period,
    /// The shortest TTL.
    pub ttl_least: Period,
    /// The longest TTL.
    pub ttl_most: Period,
    /// Milliseconds added to the round trips of PoPs, by name; negative: preferred.
    pub bias: BTreeMap<String, f64>,
    /// The part of its clients, 0 to 1, that a PoP is given, by name; the rest is led elsewhere, as if
    /// it were shed.
    pub weight: BTreeMap<String, f64>,
    /// From this age of the map on `/readyz` warns: one is made in each window.
    pub map_age: Period,
}

/// Ten windows that passed without a map, and no more than that: it doesn't take a change of PoPs to
/// make one.
const DEFAULT_MAP_AGE: Period = Period::secs(600);

impl Default for Steering {
    fn default() -> Self {
        let constants = Constants::default();
        Self {
            window: Period::from(constants.window),
            windows: constants.windows,
            gain: milliseconds(constants.gain_ms),
            gain_part: constants.gain_part,
            moves_per_minute: constants.moves_per_minute,
            prior_samples: constants.prior_samples,
            prior_prefixes: constants.prior_prefixes,
            half_life: Period::from(constants.half_life),
            base: milliseconds(constants.base_ms),
            ms_per_km: constants.ms_per_km,
            unknown_km: constants.unknown_km,
            degraded: milliseconds(constants.degraded_ms),
            shed_from: constants.shed_from,
            shed_span: constants.shed_span,
            shed_step: constants.shed_step,
            load_ceiling: constants.load_ceiling,
            runner_up: milliseconds(constants.runner_up_ms),
            ttl_least: Period::from(constants.ttl_least),
            ttl_most: Period::from(constants.ttl_most),
            bias: BTreeMap::new(),
            weight: BTreeMap::new(),
            map_age: DEFAULT_MAP_AGE,
        }
    }
}

fn milliseconds(ms: f64) -> Period {
    Period::from(Duration::from_secs_f64(ms / 1000.0))
}

impl Steering {
    /// The numbers as the algorithm takes them.
    #[must_use]
    pub fn constants(&self) -> Constants {
        let ms = |period: Period| period.as_secs_f64() * 1000.0;
        Constants {
            window: *self.window,
            windows: self.windows,
            gain_ms: ms(self.gain),
            gain_part: self.gain_part,
            moves_per_minute: self.moves_per_minute,
            prior_samples: self.prior_samples,
            prior_prefixes: self.prior_prefixes,
            half_life: *self.half_life,
            base_ms: ms(self.base),
            ms_per_km: self.ms_per_km,
            unknown_km: self.unknown_km,
            degraded_ms: ms(self.degraded),
            shed_from: self.shed_from,
            shed_span: self.shed_span,
            shed_step: self.shed_step,
            load_ceiling: self.load_ceiling,
            runner_up_ms: ms(self.runner_up),
            ttl_least: *self.ttl_least,
            ttl_most: *self.ttl_most,
        }
    }

    pub(super) fn check(&self, is_pop: impl Fn(&str) -> bool, problems: &mut Vec<Problem>) {
        let mut needs = |good: bool, key: &str, message: &str| {
            if !good {
                problems.push(Problem::new(format!("steering.{key}"), message));
            }
        };
        let day = Period::secs(86_400);
        let within = |value: f64, least: f64, most: f64| (least..=most).contains(&value);
        let seconds = |period: Period| (1..=86_400).contains(&period.as_secs());
        needs(seconds(self.window), "window", "must be from 1s to 1day");
        needs(
            (1..=MAX_WINDOWS).contains(&self.windows),
            "windows",
            "must be from 1 to 14",
        );
        needs(
            self.map_age > self.window,
            "map_age",
            "must be above window",
        );
        needs(
            self.half_life >= Period::secs(60) && self.half_life <= Period::secs(30 * 86_400),
            "half_life",
            "must be from 1m to 30days",
        );
        for (key, period) in [
            ("gain", self.gain),
            ("base", self.base),
            ("degraded", self.degraded),
            ("runner_up", self.runner_up),
        ] {
            needs(period <= Period::secs(10), key, "must be at most 10s");
        }
        for (key, part) in [
            ("gain_part", self.gain_part),
            ("moves_per_minute", self.moves_per_minute),
            ("shed_step", self.shed_step),
        ] {
            needs(within(part, 0.0, 1.0), key, "must be from 0 to 1");
        }
        for (key, value) in [
            ("shed_from", self.shed_from),
            ("load_ceiling", self.load_ceiling),
        ] {
            needs(within(value, 0.0, 100.0), key, "must be from 0 to 100");
        }
        needs(
            within(self.shed_span, 0.01, 100.0),
            "shed_span",
            "must be from 0.01 to 100",
        );
        needs(
            self.load_ceiling >= self.shed_from,
            "load_ceiling",
            "must not be below shed_from",
        );
        for (key, worth) in [
            ("prior_samples", self.prior_samples),
            ("prior_prefixes", self.prior_prefixes),
        ] {
            needs(
                within(worth, 0.01, 1e6),
                key,
                "must be from 0.01 to 1000000",
            );
        }
        needs(
            within(self.ms_per_km, 0.001, 1.0),
            "ms_per_km",
            "must be from 0.001 to 1",
        );
        needs(
            within(self.unknown_km, 0.0, 20_100.0),
            "unknown_km",
            "must be from 0 to 20100",
        );
        needs(
            seconds(self.ttl_least) && self.ttl_least <= self.ttl_most,
            "ttl_least",
            "must be at least 1s and at most ttl_most",
        );
        needs(self.ttl_most <= day, "ttl_most", "must be at most 1day");
        for (key, by_pop, (least, most), unit) in [
            ("bias", &self.bias, (-10_000.0, 10_000.0), " milliseconds"),
            ("weight", &self.weight, (0.0, 1.0), ""),
        ] {
            for (pop, value) in by_pop {
                needs(is_pop(pop), key, &format!("no pop is named {pop:?}"));
                needs(
                    within(*value, least, most),
                    key,
                    &format!("{pop}: must be from {least} to {most}{unit}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Steering)) -> String {
        let mut steering = Steering::default();
        change(&mut steering);
        let mut problems = Vec::new();
        steering.check(|name| name == "eu", &mut problems);
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("; ")
    }

    #[test]
    fn the_defaults_are_the_algorithms() {
        assert_eq!(Steering::default().constants(), Constants::default());
        assert_eq!(problems(|_| {}), "");
    }

    #[test]
    fn nonsense_is_refused_by_its_key() {
        let refused = |key: &str, change: fn(&mut Steering)| {
            let text = problems(change);
            assert!(text.contains(&format!("steering.{key}")), "{key}: {text}");
        };
        refused("windows", |s| s.windows = 0);
        refused("windows", |s| s.windows = 15);
        refused("window", |s| s.window = Period::secs(0));
        refused("map_age", |s| s.map_age = s.window);
        refused("half_life", |s| s.half_life = Period::secs(1));
        refused("gain_part", |s| s.gain_part = f64::NAN);
        refused("moves_per_minute", |s| s.moves_per_minute = 1.1);
        refused("shed_span", |s| s.shed_span = 0.0);
        refused("load_ceiling", |s| s.load_ceiling = 0.6);
        refused("prior_samples", |s| s.prior_samples = -1.0);
        refused("prior_prefixes", |s| s.prior_prefixes = 0.0);
        refused("ttl_least", |s| s.ttl_least = Period::secs(121));
        refused("ttl_most", |s| s.ttl_most = Period::secs(86_401));
        refused("bias", |s| s.bias = [("xx".to_owned(), 1.0)].into());
        refused("bias", |s| {
            s.bias = [("eu".to_owned(), f64::INFINITY)].into();
        });
        refused("weight", |s| s.weight = [("xx".to_owned(), 0.5)].into());
        refused("weight", |s| s.weight = [("eu".to_owned(), 1.5)].into());
        assert_eq!(problems(|s| s.bias = [("eu".to_owned(), -3.0)].into()), "");
        assert_eq!(problems(|s| s.weight = [("eu".to_owned(), 0.2)].into()), "");
    }
}
