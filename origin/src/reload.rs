//! SIGHUP: the configuration is read again, and what may change while the origin runs is applied, whole or
//! not at all.
//!
//! What may change is the policy of each mount. A file that is wrong, or that changes anything else, is
//! refused as a whole: the error names the place or the keys, and the origin goes on as if there had been
//! no signal.

use modcdn_core::config::ConfigError;

use crate::config::Config;

/// Reads the configuration again.
pub type Loader<'a> = dyn Fn() -> Result<Config, ConfigError> + 'a;

/// Why a configuration isn't taken up.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong: file, line and column.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what can't be changed while the origin runs.
    #[error("{}: needs a restart; only the mounts' policies are reloaded", keys.join(", "))]
    Restart {
        /// The dotted names of these keys.
        keys: Vec<String>,
    },
}

/// Looks whether `new` can take the place of `old` while the origin runs.
///
/// # Errors
/// The keys that forbid it.
pub(crate) fn check(old: &Config, new: &Config) -> Result<(), ReloadError> {
    let mut keys = modcdn_core::config::changed(old, new, &["mounts"]);
    keys.retain(|key| !is_live(key));
    if keys.is_empty() {
        Ok(())
    } else {
        Err(ReloadError::Restart { keys })
    }
}

/// `mounts[1].policy` and what is in it.
fn is_live(key: &str) -> bool {
    let of_mount = key
        .strip_prefix("mounts[")
        .and_then(|rest| rest.split_once("]."));
    of_mount.is_some_and(|(_, key)| key == "policy" || key.starts_with("policy."))
}

#[cfg(test)]
mod tests {
    use modcdn_core::config::parse;

    use super::*;

    fn refused(old: &str, new: &str) -> String {
        let read = |text| parse::<Config>("origin.yaml", text).unwrap();
        match check(&read(old), &read(new)) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn policies_change_while_the_origin_runs_and_nothing_else() {
        let deny = "mounts: [{policy: {rules: [{deny: a.b, reason: x}], min_age: 1day}}]";
        assert_eq!(refused("{}", deny), "");
        assert_eq!(refused(deny, "{}"), "");
        let more =
            "{name: x, limits: {fetches: 7}, mounts: [{prefix: /a/, policy: {default: deny}}]}";
        let said = refused("{}", more);
        assert!(
            said.starts_with("limits.fetches, mounts[0].prefix, name: needs"),
            "{said}"
        );
        let two = "mounts: [{}, {prefix: /a/}]";
        assert!(refused("{}", two).starts_with("mounts: needs"));
        let tls = "tls: {listen: ['0.0.0.0:1'], certificate: a, key: b}";
        assert!(refused("{}", tls).starts_with("tls: needs"));
        assert!(refused(tls, "{}").starts_with("tls: needs"));
    }
}
