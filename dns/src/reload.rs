//! SIGHUP: the configuration is read again and applied, whole or not at all.
//!
//! Everything that can fail is done first: the file is read and checked, what may not change is
//! compared, geo databases, authorities and the access log are opened, the zone is made and a map is
//! compiled. Only then anything is changed. Failure rule: an error is logged (with file, line and
//! column where the file is at fault) and counted, and the server goes on as if there had been no
//! signal.
//!
//! What is known of PoPs whose names stay is kept: health, reports, samples, who drains. Databases and
//! the access log are opened anew each time, so that a signal is all that a new database or a rotated
//! log needs.

use modcdn_core::config::{ConfigError, changed, is_within};

use crate::config::Config;
use crate::server::Error;

/// Reads the configuration again.
pub type Loader<'a> = dyn Fn() -> Result<Config, ConfigError> + 'a;

/// Keys, and sections with all their keys, that may change while a server runs. What isn't named here
/// needs a restart: a key that nobody thought of is refused, not ignored.
const LIVE: &[&str] = &[
    "access_log",
    "access_log_sample",
    "asn_pins",
    "checks",
    "draining",
    "fixed_ttl",
    "geo",
    "nameservers",
    "order",
    "pins",
    "pops",
    "records",
    "reports",
    "soa",
    "steered",
    "steering",
    "ttl",
    "zone",
    "zones",
];

/// Why a configuration isn't taken up.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong: file, line and column.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what can't be changed while the server runs: listeners, their limits, the folder of
    /// what is kept.
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
        let fixed = "{ttl: 30s, admin: '127.0.0.1:1', udp: {sockets: 3}, tcp: {idle: 1s}, \
                     listen: ['127.0.0.1:2'], state: {dir: /x}}";
        assert_eq!(
            between("{}", fixed).unwrap_err(),
            "admin, listen, state.dir, tcp.idle, udp.sockets: needs a restart"
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

    #[test]
    fn live_keys_exist() {
        let all = serde_json::to_value(Config::default()).unwrap();
        for key in LIVE {
            let mut value = &all;
            for part in key.split('.') {
                value = value.get(part).unwrap_or_else(|| panic!("no key {key}"));
            }
        }
    }
}
