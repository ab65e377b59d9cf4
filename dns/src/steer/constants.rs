//! The numbers of the algorithm, each with its default; the configuration's section `steering`.

use std::time::Duration;

/// A window of measurement: evidence for a move counts once in each.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Windows running in which another PoP must be better before a unit moves.
pub const WINDOWS: u8 = 3;

/// The most windows that may be asked for.
pub const MAX_WINDOWS: u8 = 14;

/// What must be gained by a move, in milliseconds.
pub const GAIN_MS: f64 = 3.0;

/// What must be gained by a move, as a part of the score; the larger of the two counts.
pub const GAIN_PART: f64 = 0.05;

/// The part of all units that may move in a minute.
pub const MOVES_PER_MINUTE: f64 = 0.05;

/// Samples that the prior is worth.
pub const PRIOR_SAMPLES: f64 = 0.5;

/// Measured prefixes that what is known of a larger group is worth to a smaller one: of a continent to a
/// country, of a country to a system in it.
pub const PRIOR_PREFIXES: f64 = 2.0;

/// The time in which a sample loses half of its weight.
pub const HALF_LIFE: Duration = Duration::from_secs(4 * 3600);

/// Round trip of a PoP next door, in milliseconds, where nothing was measured.
pub const BASE_MS: f64 = 5.0;

/// Milliseconds a kilometre where nothing was measured: light in fibre takes 0.01 there and back,
/// and cables go about half as far again as the crow flies.
pub const MS_PER_KM: f64 = 0.015;

/// The distance assumed of clients of unknown place, in kilometres.
pub const UNKNOWN_KM: f64 = 5000.0;

/// What a degraded PoP's score is worsened by, in milliseconds.
pub const DEGRADED_MS: f64 = 50.0;

/// The load (1.0 is full) from which units are shed.
pub const SHED_FROM: f64 = 0.7;

/// The load above [`SHED_FROM`] over which shedding grows from none to all.
pub const SHED_SPAN: f64 = 0.25;

/// How much of the way to the wanted shedding is gone in a window: what is shed lowers the load that
/// asks for it, and that load is seen a window late, so following at once would swing.
pub const SHED_STEP: f64 = 0.1;

/// No unit is moved onto a PoP with more load. From [`SHED_FROM`] up to it, a PoP closes to units that
/// are at home elsewhere.
pub const LOAD_CEILING: f64 = 0.8;

/// The second PoP of an answer is at most this much worse than the first, in milliseconds.
pub const RUNNER_UP_MS: f64 = 3.0;

/// The shortest TTL of a tailored answer.
pub const TTL_LEAST: Duration = Duration::from_secs(20);

/// The longest TTL of a tailored answer.
pub const TTL_MOST: Duration = Duration::from_secs(120);

/// Numbers of the algorithm.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// See [`WINDOW`].
    pub window: Duration,
    /// See [`WINDOWS`].
    pub windows: u8,
    /// See [`GAIN_MS`].
    pub gain_ms: f64,
    /// See [`GAIN_PART`].
    pub gain_part: f64,
    /// See [`MOVES_PER_MINUTE`].
    pub moves_per_minute: f64,
    /// See [`PRIOR_SAMPLES`].
    pub prior_samples: f64,
    /// See [`PRIOR_PREFIXES`].
    pub prior_prefixes: f64,
    /// See [`HALF_LIFE`].
    pub half_life: Duration,
    /// See [`BASE_MS`].
    pub base_ms: f64,
    /// See [`MS_PER_KM`].
    pub ms_per_km: f64,
    /// See [`UNKNOWN_KM`].
    pub unknown_km: f64,
    /// See [`DEGRADED_MS`].
    pub degraded_ms: f64,
    /// See [`SHED_FROM`].
    pub shed_from: f64,
    /// See [`SHED_SPAN`].
    pub shed_span: f64,
    /// See [`SHED_STEP`].
    pub shed_step: f64,
    /// See [`LOAD_CEILING`].
    pub load_ceiling: f64,
    /// See [`RUNNER_UP_MS`].
    pub runner_up_ms: f64,
    /// See [`TTL_LEAST`].
    pub ttl_least: Duration,
    /// See [`TTL_MOST`].
    pub ttl_most: Duration,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            window: WINDOW,
            windows: WINDOWS,
            gain_ms: GAIN_MS,
            gain_part: GAIN_PART,
            moves_per_minute: MOVES_PER_MINUTE,
            prior_samples: PRIOR_SAMPLES,
            prior_prefixes: PRIOR_PREFIXES,
            half_life: HALF_LIFE,
            base_ms: BASE_MS,
            ms_per_km: MS_PER_KM,
            unknown_km: UNKNOWN_KM,
            degraded_ms: DEGRADED_MS,
            shed_from: SHED_FROM,
            shed_span: SHED_SPAN,
            shed_step: SHED_STEP,
            load_ceiling: LOAD_CEILING,
            runner_up_ms: RUNNER_UP_MS,
            ttl_least: TTL_LEAST,
            ttl_most: TTL_MOST,
        }
    }
}
