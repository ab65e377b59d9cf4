//! SIGHUP: the configuration is read again and applied, whole or not at all.
//!
//! Everything that can fail is done first: the file is read and checked, what may not change is
//! compared, geo databases, authorities, keys, secrets and the access log are opened, the zones are
//! made, a map is compiled, and what can be known ahead is signed. Then all that answers is replaced at
//! one time ([`crate::snapshot`]). Failure rule: an error is logged (with file, line and column where
//! the file is at fault) and counted, and the server goes on as if there had been no signal.
//!
//! What is known of PoPs whose names stay is kept: health, reports, samples, who drains; so is who had
//! how many answers, where the limits stay, and what was signed, where the keys do. Databases, keys,
//! secrets and the access log are opened anew each time, so that a signal is all that a new database or
//! a rotated log needs.

use modcdn_core::config::{ConfigError, changed, is_within};

use crate::config::Config;
use crate::server::Error;

/// Reads the configuration again.
pub type Loader<'a> = dyn Fn() -> Result<Config, ConfigError> + 'a;

/// Keys, and sections with all their keys, that may change while a server runs. What isn't named here
/// needs a restart (sockets, their threads, and where things are kept): a key that nobody thought of is
/// refused, not ignored.
const LIVE: &[&str] = &[
    "access_log",
    "access_log_sample",
    "asn_pins",
    "checks",
    "cookies",
    "dnssec",
    "draining",
    "dynamic.any_name",
    "dynamic.lifetime",
    "dynamic.token_file",
    "dynamic.ttl",
    "dynamic.values",
    "fixed_ttl",
    "geo",
    "grace",
    "name",
    "nameservers",
    "order",
    "pins",
    "pops",
    "rates",
    "records",
    "reports",
    "soa",
    "state.homes_interval",
    "state.interval",
    "steered",
    "steering",
    "tcp",
    "ttl",
    "udp.payload",
    "zone",
    "zones",
];

/// Why a configuration isn't taken up.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong: file, line and column.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what can't be changed while the server runs: sockets, their threads, and where things
    /// are kept.
    #[error("{}: needs a restart", keys.join(", "))]
    Restart {
        /// The dotted names of these keys.
        keys: Vec<String>,
    },
    /// A file that it names can't be used.
    #[error(transparent)]
    Unusable(#[from] Error),
}

/// The keys that `new` changes.
///
/// # Errors
/// Those that need a restart, if there are any.
pub(crate) fn changes(old: &Config, new: &Config) -> Result<Vec<String>, ReloadError> {
    let all = changed(old, new, &[]);
    let fixed = all.iter().filter(|key| !is_within(key, LIVE));
    let keys: Vec<String> = fixed.cloned().collect();
    if keys.is_empty() {
        Ok(all)
    } else {
        Err(ReloadError::Restart { keys })
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::config::parse;

    use super::*;

    fn between(old: &str, new: &str) -> Result<Vec<String>, String> {
        let read = |text| parse::<Config>("dns.yaml", text).unwrap();
        changes(&read(old), &read(new)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_steers_may_change_and_what_listens_needs_a_restart() {
        let new = "{zone: go2.test., ttl: 30s, checks: {fall: 3}, reports: {age: 20s}}";
        let changed = between("{}", new).unwrap();
        assert_eq!(changed, ["checks.fall", "reports.age", "ttl", "zone"]);
        let fixed = "{ttl: 30s, admin: '127.0.0.1:1', udp: {sockets: 3, payload: 1400}, \
                     tcp: {idle: 1s}, listen: ['127.0.0.1:2'], state: {dir: /x}}";
        assert_eq!(
            between("{}", fixed).unwrap_err(),
            "admin, listen, state.dir, udp.sockets: needs a restart"
        );
    }

    #[test]
    fn pops_and_pins_come_and_go() {
        let eu = "{name: eu, addresses: [127.0.0.1], latitude: 0, longitude: 0}";
        let with = format!("{{pops: [{eu}], pins: {{192.0.2.0/24: eu}}}}");
        let changed = ["pins.192.0.2.0/24", "pops"];
        assert_eq!(between("{}", &with).unwrap(), changed);
        assert_eq!(between(&with, "{}").unwrap(), changed);
    }

    /// All keys of a configuration that are no section themselves, or an empty one.
    fn keys(at: &str, value: &serde_json::Value, all: &mut Vec<String>) {
        match value.as_object().filter(|object| !object.is_empty()) {
            Some(object) => object.iter().for_each(|(key, value)| {
                let separator = if at.is_empty() { "" } else { "." };
                keys(&format!("{at}{separator}{key}"), value, all);
            }),
            None => all.push(at.to_owned()),
        }
    }

    #[test]
    fn only_sockets_and_places_where_things_are_kept_need_a_restart() {
        let mut all = Vec::new();
        let config = serde_json::to_value(Config::default()).unwrap();
        keys("", &config, &mut all);
        for live in LIVE {
            assert!(
                all.iter().any(|key| is_within(key, &[live])),
                "no key {live}"
            );
        }
        all.retain(|key| !is_within(key, LIVE));
        all.sort_unstable();
        let fixed = [
            "admin",
            "dynamic.file",
            "listen",
            "state.dir",
            "udp.batch",
            "udp.pin",
            "udp.receive_buffer",
            "udp.sockets",
        ];
        assert_eq!(all, fixed);
    }
}
