//! DNSSEC: the zones' keys, and how signatures are made.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use super::{Config, Domain};
use crate::dnssec::{Role, STEP, State};

/// How long a signature counts: what is left at its renewal, half, outlasts a weekend.
pub const DEFAULT_VALIDITY: Period = Period::secs(7 * 86_400);

/// Signatures made while answering, a second: a twentieth of what a core can make.
pub const DEFAULT_ONLINE_RATE: u32 = 2000;

/// Sets whose signatures, made while answering, are kept; each takes about half a kilobyte.
pub const DEFAULT_CACHE: usize = 20_000;

/// The shortest validity: half of it, the time to renew, must outlast what ends with the hour.
pub const MIN_VALIDITY: Period = Period::secs(6 * STEP as u64);

/// The longest validity: an answer recorded today can be replayed that long.
pub const MAX_VALIDITY: Period = Period::secs(60 * 86_400);

/// The most keys a zone may have: two at each stage of a roll-over, and DNSKEY still fits into UDP.
pub const MAX_KEYS: usize = 6;

/// DNSSEC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dnssec {
    /// The zones' keys; a zone without any is unsigned.
    pub keys: Vec<KeyConfig>,
    /// Zones whose DS records the zone above is asked to remove (RFC 8078 §4), before their keys go.
    pub delete_ds: Vec<Domain>,
    /// How long a signature counts from when it is made; it is replaced after half of it.
    pub validity: Period,
    /// Signatures made while answering, a second; answers that would need more are SERVFAIL.
    pub online_rate: u32,
    /// RRsets whose signatures, made while answering, are kept.
    pub cache: usize,
}

/// A key of a zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The zone.
    pub zone: Domain,
    /// The file with the private key, as `modcdn dns keygen` makes it.
    pub file: PathBuf,
    /// What it signs.
    #[serde(default)]
    pub role: Role,
    /// Where it is in its life.
    #[serde(default)]
    pub state: State,
}

impl Default for Dnssec {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            delete_ds: Vec::new(),
            validity: DEFAULT_VALIDITY,
            online_rate: DEFAULT_ONLINE_RATE,
            cache: DEFAULT_CACHE,
        }
    }
}

impl Config {
    pub(super) fn check_dnssec(&self, problems: &mut Vec<Problem>) {
        let dnssec = &self.dnssec;
        let mut problem = |key: &str, message: String| problems.push(Problem::new(key, message));
        if !(MIN_VALIDITY..=MAX_VALIDITY).contains(&dnssec.validity) {
            problem("dnssec.validity", "must be from 6h to 60days".to_owned());
        }
        if dnssec.online_rate == 0 {
            problem("dnssec.online_rate", "must be above zero".to_owned());
        }
        if dnssec.cache < 2 {
            problem("dnssec.cache", "must be at least 2".to_owned());
        }
        for zone in &dnssec.delete_ds {
            if !dnssec.keys.iter().any(|key| key.zone == *zone) {
                let message = "has no keys: whoever reads CDS records must find them signed";
                problem("dnssec.delete_ds", format!("{zone} {message}"));
            }
        }
        let zones = self.every_zone();
        for (index, key) in dnssec.keys.iter().enumerate() {
            let others = &dnssec.keys[..index];
            if !zones.iter().any(|zone| zone.zone == key.zone) {
                problem("dnssec.keys", format!("no zone is named {}", key.zone));
            }
            if others.iter().any(|other| other.file == key.file) {
                problem(
                    "dnssec.keys",
                    format!("{} is there twice", key.file.display()),
                );
            }
            if !others.iter().any(|other| other.zone == key.zone) {
                self.check_keys(&key.zone, &mut problem);
            }
        }
    }

    /// Something must sign the zone's keys, and something all the rest.
    fn check_keys(&self, zone: &Domain, problem: &mut dyn FnMut(&str, String)) {
        let keys = self.dnssec.keys.iter().filter(|key| key.zone == *zone);
        if keys.clone().count() > MAX_KEYS {
            problem("dnssec.keys", format!("{zone}: more than {MAX_KEYS} keys"));
        }
        let active = keys.filter(|key| key.state == State::Active);
        let roles: Vec<Role> = active.map(|key| key.role).collect();
        let has = |role| roles.contains(&role);
        let message = match (has(Role::Csk), has(Role::Ksk), has(Role::Zsk)) {
            (true, ..) | (false, true, true) => return,
            (false, false, false) => "no key is active, so nothing would be signed",
            (false, true, false) => "a ksk is active but no zsk or csk: only keys would be signed",
            (false, false, true) => "a zsk is active but no ksk or csk: the keys aren't signed",
        };
        problem("dnssec.keys", format!("{zone}: {message}"));
    }
}
