//! Tells edges what a change of policy makes wrong of what they hold.
//!
//! What edges know is written down: the policy of each mount, as of the last time they were told, without
//! the rules that were over by then. Whatever differs from that is told, by whichever way it came about: a
//! reload, a restart with another configuration, a rule that ended by its date, a crash in between.
//!
//! Failure rule: a policy is in force here before edges are told, and is written down as told only after
//! the purge log has all of it. So they may be told twice, never not at all. A file that is missing or
//! damaged counts as "nobody was told of any policy".

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use modcdn_core::durable;
use modcdn_core::goproxy::Prefix;
use parking_lot::Mutex;

use super::change::purges;
use crate::config::policy::Policy;
use crate::purges::Purger;

/// The path of the file in the store's folder.
pub(crate) const FILE: &str = ".purges/policies.json";

/// See the module.
pub(crate) struct Announcer {
    path: PathBuf,
    purger: Arc<Purger>,
    /// By prefix.
    told: Mutex<Told>,
}

type Told = BTreeMap<String, Policy>;

impl Announcer {
    /// Reads what edges were told. Blocks.
    ///
    /// # Errors
    /// The file is there and can't be read.
    pub(crate) fn open(path: &Path, purger: Arc<Purger>) -> io::Result<Self> {
        let told = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "what edges know of policies is not known");
                Told::new()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Told::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            purger,
            told: Mutex::new(told),
        })
    }

    /// Tells edges what is different from what they know; how many purges that took. Blocks.
    ///
    /// # Errors
    /// The purge log or the file can't be written: it is to be tried again.
    pub(crate) fn announce(
        &self,
        mounts: &[(Prefix, Arc<Policy>)],
        now: SystemTime,
    ) -> io::Result<usize> {
        let mut told = self.told.lock();
        let (mut next, mut count) = (told.clone(), 0);
        for (prefix, policy) in mounts {
            let policy = policy.at(now);
            let before = told.get(prefix.as_str()).cloned().unwrap_or_default();
            for purge in purges(prefix, &before, &policy) {
                let (selector, mode) = (purge.selector.to_string(), purge.mode.name());
                let position = self.purger.purge(purge, now)?;
                tracing::info!(mount = %prefix, %selector, mode, %position, "policy changed");
                count += 1;
            }
            if before != policy {
                next.insert(prefix.to_string(), policy);
            }
        }
        if next != *told {
            let text = serde_json::to_vec_pretty(&next).map_err(io::Error::other)?;
            durable::write(&self.path, &text)?;
            *told = next;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::Registry;

    use super::*;
    use crate::config::Purges;
    use crate::metrics::Metrics;
    use crate::purges::PurgeLog;

    struct Rig {
        dir: tempfile::TempDir,
        log: Arc<PurgeLog>,
        announcer: Announcer,
    }

    impl Rig {
        fn new() -> Self {
            Self::within(tempfile::tempdir().unwrap())
        }

        fn within(dir: tempfile::TempDir) -> Self {
            let log = dir.path().join(crate::purges::FILE);
            let log = Arc::new(PurgeLog::open(&log, &Purges::default()).unwrap());
            let metrics = Metrics::new(&Registry::new());
            let purger = Arc::new(Purger::new(log.clone(), metrics));
            let announcer = Announcer::open(&dir.path().join(FILE), purger).unwrap();
            Self {
                dir,
                log,
                announcer,
            }
        }

        fn restarted(self) -> Self {
            Self::within(self.dir)
        }

        /// How many purges it takes on that day.
        fn announce(&self, policy: &str, day: u64) -> usize {
            let policy: Policy = serde_yaml::from_str(policy).unwrap();
            let mounts = [(Prefix::root(), Arc::new(policy))];
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600);
            self.announcer.announce(&mounts, now).unwrap()
        }
    }

    const ONE: &str = "rules: [{deny: a.b/m, reason: x}]";
    const ENDS: &str = "{default: deny, rules: [{allow: a.b, until: 1970-01-10}]}";

    #[test]
    fn a_change_is_told_once_however_it_came_about() {
        let rig = Rig::new();
        assert_eq!(rig.announce("{}", 1), 0);
        assert_eq!(rig.announce(ONE, 1), 1);
        assert_eq!(rig.announce(ONE, 1), 0);
        let rig = rig.restarted();
        assert_eq!(rig.announce(ONE, 1), 0);
        assert_eq!(rig.announce("{}", 1), 1, "by a restart");
        assert_eq!(rig.log.end().seq, 2);
    }

    #[test]
    fn a_rule_that_ends_is_told_when_it_does() {
        let rig = Rig::new();
        assert_eq!(rig.announce(ENDS, 5), 1);
        assert_eq!(rig.announce(ENDS, 9), 0);
        assert_eq!(rig.announce(ENDS, 10), 1);
        assert_eq!(rig.announce(ENDS, 11), 0);
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let rig = Rig::new();
        let taken = rig.dir.path().join(FILE);
        fs::create_dir_all(taken.join("x")).unwrap();
        let policy: Policy = serde_yaml::from_str(ONE).unwrap();
        let mounts = [(Prefix::root(), Arc::new(policy))];
        let announce = || rig.announcer.announce(&mounts, SystemTime::UNIX_EPOCH);
        assert!(announce().is_err());
        fs::remove_dir_all(&taken).unwrap();
        assert_eq!(announce().unwrap(), 1, "twice rather than not at all");
        assert_eq!(announce().unwrap(), 0);
    }

    #[test]
    fn a_damaged_file_has_everything_told_again() {
        let rig = Rig::new();
        rig.announce(ONE, 1);
        fs::write(rig.dir.path().join(FILE), "{").unwrap();
        assert_eq!(rig.restarted().announce(ONE, 1), 1);
    }
}
