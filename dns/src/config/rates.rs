//! Response rate limiting.

use ipnet::IpNet;
use modcdn_core::config::Problem;
use serde::{Deserialize, Serialize};

/// Answers a second that a network gets over UDP: a big resolver's network asks some hundred times.
pub const DEFAULT_ANSWERS: u32 = 1000;

/// Errors a second that a network gets over UDP.
pub const DEFAULT_ERRORS: u32 = 100;

/// Seconds for which a silent network saves up.
pub const DEFAULT_BURST: u32 = 5;

/// Of so many answers over the rate, one is replaced instead of dropped.
pub const DEFAULT_SLIP: u32 = 2;

/// Bits that name an IPv4 network.
pub const DEFAULT_PREFIX_V4: u8 = 24;

/// Bits that name an IPv6 network.
pub const DEFAULT_PREFIX_V6: u8 = 56;

/// Networks that are counted at once: 24 bytes each, for answers and for errors.
pub const DEFAULT_NETWORKS: usize = 65_536;

/// The most networks that may be configured: 400 MB.
pub const MAX_NETWORKS: usize = 1 << 24;

/// The highest rate: beyond it lies no limit.
pub const MAX_RATE: u32 = 10_000_000;

/// Limits of what a network gets over UDP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Answers a second; 0: any number.
    pub answers: u32,
    /// Errors a second; 0: any number.
    pub errors: u32,
    /// Seconds for which a silent network saves up.
    pub burst: u32,
    /// Of so many answers over the rate, one is replaced instead of dropped; 0: none.
    pub slip: u32,
    /// Bits that name an IPv4 network.
    pub prefix_v4: u8,
    /// Bits that name an IPv6 network.
    pub prefix_v6: u8,
    /// Networks that are never limited.
    pub exempt: Vec<IpNet>,
    /// Networks that are counted at once, rounded up to a power of two.
    pub networks: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            answers: DEFAULT_ANSWERS,
            errors: DEFAULT_ERRORS,
            burst: DEFAULT_BURST,
            slip: DEFAULT_SLIP,
            prefix_v4: DEFAULT_PREFIX_V4,
            prefix_v6: DEFAULT_PREFIX_V6,
            exempt: ["127.0.0.0/8", "::1/128"].map(super::constant).to_vec(),
            networks: DEFAULT_NETWORKS,
        }
    }
}

impl Rates {
    /// Whether anything is limited.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.answers > 0 || self.errors > 0
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        let mut needs = |good: bool, key: &str, message: &str| {
            if !good {
                problems.push(Problem::new(format!("rates.{key}"), message));
            }
        };
        let rate = "must be at most 10000000 a second";
        needs(self.answers <= MAX_RATE, "answers", rate);
        needs(self.errors <= MAX_RATE, "errors", rate);
        let burst = "must be from 1 to 3600 seconds";
        needs((1..=3600).contains(&self.burst), "burst", burst);
        let v4 = "must be from 8 to 32 bits";
        needs((8..=32).contains(&self.prefix_v4), "prefix_v4", v4);
        let v6 = "must be from 16 to 128 bits";
        needs((16..=128).contains(&self.prefix_v6), "prefix_v6", v6);
        let networks = "must be from 1 to 16777216";
        needs(
            (1..=MAX_NETWORKS).contains(&self.networks),
            "networks",
            networks,
        );
    }
}
