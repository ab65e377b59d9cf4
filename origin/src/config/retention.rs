//! `mounts[].retention`: what is removed from the store to make room.

use modcdn_core::goproxy::Patterns;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

/// What of a mount's store is removed, and when. Without any of the three bounds nothing is; but it
/// is written down when each version was asked for last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Most bytes of versions' files; what was asked for the longest ago goes first.
    pub max_size: Option<ByteSize>,
    /// A version goes this long after it was stored.
    pub max_age: Option<Period>,
    /// A version goes this long after it was asked for last. What an edge answers by itself isn't
    /// seen here: make it much longer than edges keep things.
    pub max_idle: Option<Period>,
    /// What stays whatever the bounds say.
    pub keep: Keep,
    /// Whether what nobody can fetch again may go: modules of private patterns, and all of a mount
    /// without an upstream.
    pub irreplaceable: Irreplaceable,
    /// From the end of one run to the beginning of the next, give or take a tenth.
    pub interval: Period,
    /// Files looked at or removed in a second.
    pub files_per_second: u32,
    /// Versions whose last use is remembered, by number; some 36 bytes of memory each, and 16 on
    /// disk.
    pub remembered: usize,
}

/// What stays whatever the bounds say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// Modules, as GOPRIVATE names them.
    pub modules: Patterns,
    /// So many of the newest versions of each module.
    pub newest: usize,
}

/// What may become of what nobody can fetch again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Irreplaceable {
    /// It stays.
    Keep,
    /// It is treated as everything else.
    Remove,
}

impl Retention {
    /// See [`Retention::interval`].
    pub const INTERVAL: Period = Period::secs(6 * 3600);
    /// See [`Retention::files_per_second`].
    pub const FILES_PER_SECOND: u32 = 1000;
    /// See [`Retention::remembered`].
    pub const REMEMBERED: usize = 1_000_000;

    /// Whether anything is ever removed.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.max_size.is_some() || self.max_age.is_some() || self.max_idle.is_some()
    }

    pub(super) fn check(&self, key: &str, require: &mut impl FnMut(bool, &str, &str)) {
        for (name, period) in [
            ("max_age", self.max_age),
            ("max_idle", self.max_idle),
            ("interval", Some(self.interval)),
        ] {
            let key = format!("{key}.{name}");
            let holds = period.is_none_or(|period| !period.is_zero());
            require(holds, &key, "must be above zero");
        }
        for (name, number) in [
            ("files_per_second", self.files_per_second as usize),
            ("remembered", self.remembered),
        ] {
            require(number > 0, &format!("{key}.{name}"), "must be above zero");
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_size: None,
            max_age: None,
            max_idle: None,
            keep: Keep::default(),
            irreplaceable: Irreplaceable::Keep,
            interval: Self::INTERVAL,
            files_per_second: Self::FILES_PER_SECOND,
            remembered: Self::REMEMBERED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commented block of the example, uncommented.
    fn example() -> String {
        let example = include_str!("../../../config/origin.yaml");
        let start = |line: &&str| !line.trim_end().ends_with("retention:");
        let block = example.lines().skip_while(start).skip(1);
        let block = block.map_while(|line| line.trim_start().strip_prefix("#     "));
        block.map(|line| format!("{line}\n")).collect()
    }

    fn keys(value: &serde_yaml::Value) -> Vec<String> {
        let keys = value.as_mapping().unwrap().keys();
        keys.map(|key| key.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let text = example();
        let parsed: Retention = serde_yaml::from_str(&text).unwrap();
        assert_eq!(parsed, Retention::default());
        let (named, all) = (
            serde_yaml::from_str(&text).unwrap(),
            serde_yaml::to_value(Retention::default()).unwrap(),
        );
        assert_eq!(keys(&named), keys(&all));
        assert_eq!(keys(&named["keep"]), keys(&all["keep"]));
    }
}
