//! What goes and what stays. Pure.
//!
//! Keep rules come first, then age and idleness, which look at one version only. The size bound
//! looks at all of them: what was used before a certain hour goes ([`Cutoff`]), so that no more
//! than a sum for each hour is held in memory, however many versions there are.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modcdn_core::goproxy::{ModulePath, Version};

use super::group::{Group, Held};
use crate::config::{Irreplaceable, Retention};

/// Why a version goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It was stored longer ago than `max_age`.
    Age,
    /// It was asked for longer ago than `max_idle`.
    Idle,
    /// There is more than `max_size`, and all that stays was asked for later.
    Size,
}

impl Why {
    /// The name in logs, metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Size => "size",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "stored longer ago than max_age",
            Self::Idle => "asked for longer ago than max_idle",
            Self::Size => "over max_size, and asked for before all that stays",
        })
    }
}

/// Why a version stays that would go otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// Its module is one of `keep.modules`.
    Module,
    /// It is one of the `keep.newest`.
    Newest,
    /// Nobody could fetch it again.
    Irreplaceable,
}

impl Kept {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Newest => "newest",
            Self::Irreplaceable => "irreplaceable",
        }
    }
}

/// What decides.
pub(super) struct Rules<'a> {
    pub(super) retention: &'a Retention,
    pub(super) now: SystemTime,
    /// Whether a module could be fetched again.
    pub(super) can_fetch: &'a dyn Fn(&ModulePath) -> bool,
    /// When a version was asked for last, if that is known.
    pub(super) last_use: &'a dyn Fn(&ModulePath, &Version) -> Option<SystemTime>,
}

/// What is decided of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Goes(Why),
    /// It stays although a bound is passed.
    Protected(Kept),
    Stays,
}

/// A version with what is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) version: Version,
    pub(super) held: Held,
    pub(super) used: SystemTime,
    kept: Option<Kept>,
    passed: Option<Why>,
}

impl Rules<'_> {
    /// Everything that can be said of a module's versions by themselves.
    pub(super) fn judge(&self, group: &Group) -> Vec<Judged> {
        let of_module = self.module_kept(&group.module);
        let newest = self.retention.keep.newest;
        let oldest_kept = group.versions.len().saturating_sub(newest);
        let versions = group.versions.iter().enumerate();
        versions
            .map(|(at, (version, held))| {
                let used = (self.last_use)(&group.module, version);
                let used = used.map_or(held.stored, |used| used.max(held.stored));
                Judged {
                    version: version.clone(),
                    held: *held,
                    used,
                    kept: of_module.or((at >= oldest_kept).then_some(Kept::Newest)),
                    passed: self.passed(held.stored, used),
                }
            })
            .collect()
    }

    fn module_kept(&self, module: &ModulePath) -> Option<Kept> {
        if self.retention.keep.modules.matches(module) {
            return Some(Kept::Module);
        }
        let keeps = self.retention.irreplaceable == Irreplaceable::Keep;
        (keeps && !(self.can_fetch)(module)).then_some(Kept::Irreplaceable)
    }

    fn passed(&self, stored: SystemTime, used: SystemTime) -> Option<Why> {
        let since = |then: SystemTime| self.now.duration_since(then).unwrap_or_default();
        let over = |bound: Option<modcdn_core::units::Period>, then| {
            bound.is_some_and(|bound| since(then) > bound.get())
        };
        if over(self.retention.max_age, stored) {
            return Some(Why::Age);
        }
        over(self.retention.max_idle, used).then_some(Why::Idle)
    }
}

/// What a first walk learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) versions: u64,
    pub(super) bytes: u64,
    /// Bytes that stay whatever the size bound says.
    fixed: u64,
    /// Bytes that may go for the size bound's sake, by hour of last use.
    movable: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, judged: &[Judged]) {
        for one in judged {
            self.versions += 1;
            self.bytes += one.held.bytes;
            match (one.kept, one.passed) {
                (Some(_), _) => self.fixed += one.held.bytes,
                (None, Some(_)) => {}
                (None, None) => *self.movable.entry(hour(one.used)).or_default() += one.held.bytes,
            }
        }
    }

    /// How far the size bound reaches.
    pub(super) fn cutoff(&self, max_size: Option<u64>) -> Cutoff {
        let Some(max_size) = max_size else {
            return Cutoff::default();
        };
        let mut excess = (self.fixed + self.movable.values().sum::<u64>()).saturating_sub(max_size);
        let mut cutoff = Cutoff::default();
        for (hour, bytes) in &self.movable {
            if excess == 0 {
                break;
            }
            cutoff = Cutoff {
                before: *hour,
                of_hour: excess,
                over: 0,
            };
            excess = excess.saturating_sub(*bytes);
        }
        if excess > 0 {
            // It reaches all there is, and what is kept is kept from it.
            cutoff = Cutoff {
                before: u64::MAX,
                of_hour: 0,
                over: excess,
            };
        }
        cutoff
    }
}

/// How far the size bound reaches: all that was used before an hour goes, and some of that hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cutoff {
    before: u64,
    /// Bytes that must still go of those used in that very hour.
    of_hour: u64,
    /// Bytes over the bound that keep rules hold.
    pub(super) over: u64,
}

impl Cutoff {
    /// What becomes of a version.
    pub(super) fn decide(&mut self, one: &Judged) -> Verdict {
        match (one.passed, one.kept) {
            (Some(why), None) => Verdict::Goes(why),
            (Some(_), Some(kept)) => Verdict::Protected(kept),
            (None, _) if !self.reaches(one.used) => Verdict::Stays,
            (None, Some(kept)) => Verdict::Protected(kept),
            (None, None) => {
                if hour(one.used) == self.before {
                    self.of_hour = self.of_hour.saturating_sub(one.held.bytes);
                }
                Verdict::Goes(Why::Size)
            }
        }
    }

    fn reaches(&self, used: SystemTime) -> bool {
        let hour = hour(used);
        hour < self.before || (hour == self.before && self.of_hour > 0)
    }
}

fn hour(time: SystemTime) -> u64 {
    const HOUR: Duration = Duration::from_secs(3600);
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() / HOUR.as_secs()
}

#[cfg(test)]
mod tests {
    use modcdn_core::units::{ByteSize, Period};
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;
    const NOW: u64 = 1000 * HOUR;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Versions `v1.N.0` with their bytes, hour stored, hour used.
    fn group(module: &str, versions: &[(u64, u64)]) -> Group {
        let versions = versions.iter().enumerate().map(|(n, (bytes, stored))| {
            let held = Held {
                bytes: *bytes,
                stored: at(stored * HOUR),
            };
            (format!("v1.{n}.0").parse().unwrap(), held)
        });
        Group {
            module: module.parse().unwrap(),
            versions: versions.collect(),
        }
    }

    /// What becomes of the versions of some modules, none of them ever used.
    fn decide(groups: &[Group], retention: &Retention, can_fetch: bool) -> (Vec<Verdict>, u64) {
        decide_used(groups, retention, can_fetch, &|_, _| None)
    }

    fn decide_used(
        groups: &[Group],
        retention: &Retention,
        can_fetch: bool,
        last_use: &dyn Fn(&ModulePath, &Version) -> Option<SystemTime>,
    ) -> (Vec<Verdict>, u64) {
        let rules = Rules {
            retention,
            now: at(NOW),
            can_fetch: &|_| can_fetch,
            last_use,
        };
        let mut tally = Tally::default();
        for group in groups {
            tally.add(&rules.judge(group));
        }
        let mut cutoff = tally.cutoff(retention.max_size.map(|size| size.as_u64()));
        let judged = groups.iter().flat_map(|group| rules.judge(group));
        let verdicts = judged.map(|one| cutoff.decide(&one)).collect();
        (verdicts, cutoff.over)
    }

    fn bounds(max_size: Option<u64>, max_age: Option<u64>, max_idle: Option<u64>) -> Retention {
        Retention {
            max_size: max_size.map(ByteSize::b),
            max_age: max_age.map(|hours| Period::secs(hours * HOUR)),
            max_idle: max_idle.map(|hours| Period::secs(hours * HOUR)),
            ..Retention::default()
        }
    }

    #[test]
    fn without_bounds_everything_stays() {
        let groups = [group("a.example/m", &[(1 << 40, 0)])];
        let (verdicts, over) = decide(&groups, &Retention::default(), true);
        assert_eq!((verdicts, over), (vec![Verdict::Stays], 0));
    }

    #[test]
    fn what_is_too_old_or_too_long_unused_goes() {
        let groups = [group("a.example/m", &[(1, 100), (1, 800), (1, 950)])];
        let used = |_: &ModulePath, version: &Version| {
            (version.as_str() == "v1.0.0").then(|| at(990 * HOUR))
        };
        let retention = bounds(None, None, Some(100));
        let (verdicts, _) = decide_used(&groups, &retention, true, &used);
        let idle = Verdict::Goes(Why::Idle);
        assert_eq!(verdicts, [Verdict::Stays, idle, Verdict::Stays]);
        let (verdicts, _) = decide_used(&groups, &bounds(None, Some(500), Some(100)), true, &used);
        assert_eq!(verdicts, [Verdict::Goes(Why::Age), idle, Verdict::Stays]);
    }

    #[test]
    fn the_size_bound_takes_what_was_used_the_longest_ago() {
        let groups = [
            group("a.example/a", &[(10, 500), (10, 900)]),
            group("a.example/b", &[(10, 600), (10, 600), (10, 100)]),
        ];
        let (verdicts, over) = decide(&groups, &bounds(Some(25), None, None), true);
        let (goes, stays) = (Verdict::Goes(Why::Size), Verdict::Stays);
        assert_eq!(verdicts, [goes, stays, goes, stays, goes]);
        assert_eq!(over, 0);
    }

    #[test]
    fn what_is_kept_counts_and_is_told() {
        let groups = [
            group("a.example/kept", &[(10, 1), (10, 1)]),
            group("a.example/b", &[(10, 500), (10, 600)]),
        ];
        let mut retention = bounds(Some(15), None, Some(999));
        retention.keep.modules = "a.example/kept".parse().unwrap();
        let (verdicts, over) = decide(&groups, &retention, true);
        let (goes, kept) = (Verdict::Goes(Why::Size), Verdict::Protected(Kept::Module));
        assert_eq!(verdicts, [kept, kept, goes, goes]);
        assert_eq!(over, 5);

        retention.keep.newest = 1;
        let (verdicts, over) = decide(&groups, &retention, true);
        assert_eq!(verdicts[2..], [goes, Verdict::Protected(Kept::Newest)]);
        assert_eq!(over, 15);
    }

    #[test]
    fn what_nobody_can_fetch_again_stays_unless_said() {
        let groups = [group("a.example/m", &[(10, 1)])];
        let mut retention = bounds(Some(1), Some(1), Some(1));
        let (verdicts, over) = decide(&groups, &retention, false);
        let kept = Verdict::Protected(Kept::Irreplaceable);
        assert_eq!((verdicts, over), (vec![kept], 9));
        retention.irreplaceable = Irreplaceable::Remove;
        let (verdicts, _) = decide(&groups, &retention, false);
        assert_eq!(verdicts, [Verdict::Goes(Why::Age)]);
    }

    proptest! {
        #[test]
        fn enough_goes_and_never_one_used_later_than_one_that_stays(
            versions in prop::collection::vec((1u64..100, 0u64..1000), 1..30),
            max_size in 0u64..2000,
            newest in 0usize..3,
        ) {
            let groups = [group("a.example/m", &versions)];
            let mut retention = bounds(Some(max_size), None, None);
            retention.keep.newest = newest;
            let (verdicts, over) = decide(&groups, &retention, true);
            let of = |which: fn(&Verdict) -> bool| {
                let both = versions.iter().zip(&verdicts);
                both.filter(move |(_, verdict)| which(verdict)).map(|(v, _)| *v)
            };
            let left: u64 = of(|v| !matches!(v, Verdict::Goes(_))).map(|(bytes, _)| bytes).sum();
            prop_assert_eq!(left.saturating_sub(max_size), over);
            let last_gone = of(|v| matches!(v, Verdict::Goes(_))).map(|(_, used)| used).max();
            let first_left = of(|v| *v == Verdict::Stays).map(|(_, used)| used).min();
            if let (Some(gone), Some(left)) = (last_gone, first_left) {
                prop_assert!(gone <= left);
            }
            // No more than needed: without the last one that went there would be too much.
            let least = of(|v| matches!(v, Verdict::Goes(_))).map(|(bytes, _)| bytes).max();
            if let Some(least) = least {
                prop_assert!(left + least > max_size);
            }
        }
    }
}
