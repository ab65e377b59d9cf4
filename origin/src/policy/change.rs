//! What edges must forget when one policy takes another's place. Pure.
//!
//! An edge may hold what the new policy blocks, and lists without what it allows. What can be
//! different is found from the rules alone, not from what is stored: an edge may still have what
//! this origin has dropped. Versions that no changed rule means meet the same rules as before in the
//! same order, so only the patterns of changed rules matter. It is never too little, and often too
//! much: an edge asks for it again.
//!
//! What a rule may have blocked is purged hard: it is gone. Where only an age or a notice of the author
//! counts for more than before, the purge is soft, so that a smaller number doesn't empty every cache:
//! edges ask the origin before each next use, and stand in for it only while it is down.

use std::time::SystemTime;

use modcdn_core::goproxy::{Pattern, Prefix};
use modcdn_core::purge::{Mode, Purge, Selector};

use crate::config::policy::{OnNotice, Policy, Rule, Verdict};

/// With more purges than these, one of the whole mount takes less.
const MOST: usize = 100;

impl Policy {
    /// The policy without the rules that are over: what counts now.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> Self {
        let holds = |rule: &&Rule| rule.until.as_ref().is_none_or(|until| until.holds_at(now));
        Self {
            rules: self.rules.iter().filter(holds).cloned().collect(),
            ..self.clone()
        }
    }
}

/// The purges that follow when `new` takes the place of `old` below a prefix; neither has rules that
/// are over.
#[must_use]
pub fn purges(prefix: &Prefix, old: &Policy, new: &Policy) -> Vec<Purge> {
    if let Some(mode) = of_everything(old, new) {
        return vec![whole(prefix, mode)];
    }
    let mut purges: Vec<Purge> = Vec::new();
    let (removed, added) = changed(&old.rules, &new.rules);
    let removed = removed.iter().map(|rule| (rule, blocks_when_removed(rule)));
    let added = added
        .iter()
        .map(|rule| (rule, blocks_when_added(rule, new)));
    for (rule, blocks) in removed.chain(added) {
        let mode = if blocks { Mode::Hard } else { Mode::Soft };
        for pattern in rule.modules.iter() {
            add(&mut purges, below(prefix, pattern, mode));
        }
    }
    if purges.len() > MOST {
        let hardest = purges.iter().map(|purge| purge.mode).max();
        return vec![whole(prefix, hardest.unwrap_or_default())];
    }
    purges
}

/// How all of a mount is concerned, if it is.
fn of_everything(old: &Policy, new: &Policy) -> Option<Mode> {
    if old.default == Verdict::Allow && new.default == Verdict::Deny {
        return Some(Mode::Hard);
    }
    let same = old.default == new.default
        && old.min_age == new.min_age
        && old.min_age_except == new.min_age_except
        && blocks(old.retracted) == blocks(new.retracted)
        && blocks(old.deprecated) == blocks(new.deprecated);
    let rules = changed(&old.rules, &new.rules);
    let may_block = rules.0.iter().any(blocks_when_removed)
        || rules.1.iter().any(|rule| blocks_when_added(rule, new));
    match (same, may_block) {
        (true, _) => None,
        (false, true) => Some(Mode::Hard),
        (false, false) => Some(Mode::Soft),
    }
}

fn blocks(notice: OnNotice) -> bool {
    notice == OnNotice::Deny
}

/// What stands between the rules that both have at the beginning and at the end.
fn changed<'a>(old: &'a [Rule], new: &'a [Rule]) -> (&'a [Rule], &'a [Rule]) {
    let same = |(a, b): &(&Rule, &Rule)| is_same(a, b);
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take_while(same).count();
    (&old[..old.len() - tail], &new[..new.len() - tail])
}

/// Whether two rules decide alike: what they are called makes no difference.
fn is_same(a: &Rule, b: &Rule) -> bool {
    (a.verdict, &a.modules, &a.versions, a.go_mod, a.min_age)
        == (b.verdict, &b.modules, &b.versions, b.go_mod, b.min_age)
}

/// A rule below it, or the default, may deny what this one allowed.
fn blocks_when_removed(rule: &Rule) -> bool {
    rule.verdict == Verdict::Allow
}

fn blocks_when_added(rule: &Rule, new: &Policy) -> bool {
    let later = rule.min_age.is_some_and(|of_rule| of_rule > new.min_age);
    rule.verdict == Verdict::Deny || later
}

fn below(prefix: &Prefix, pattern: &Pattern, mode: Mode) -> Purge {
    let folder = pattern.folder();
    let path = folder.map(|folder| format!("{}/{folder}", prefix.before()));
    match path.map(|path| Selector::prefix(&path)) {
        Some(Ok(selector)) => Purge { selector, mode },
        _ => whole(prefix, mode),
    }
}

/// Everything below a prefix.
fn whole(prefix: &Prefix, mode: Mode) -> Purge {
    let selector = Selector::prefix(prefix.before()).unwrap_or(Selector::All);
    Purge { selector, mode }
}

/// Each selector once, as hard as it must be.
fn add(purges: &mut Vec<Purge>, purge: Purge) {
    match purges
        .iter_mut()
        .find(|known| known.selector == purge.selector)
    {
        Some(known) => known.mode = known.mode.max(purge.mode),
        None => purges.push(purge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Age, Decision, Facts};

    fn policy(text: &str) -> Policy {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn said(prefix: &str, old: &str, new: &str) -> Vec<String> {
        let prefix = prefix.parse().unwrap();
        let purges = purges(&prefix, &policy(old), &policy(new));
        let said = |purge: Purge| format!("{} {}", purge.mode.name(), purge.selector);
        purges.into_iter().map(said).collect()
    }

    const ONE: &str = "rules: [{deny: a.b/m, reason: x}]";
    const TWO: &str = "rules: [{deny: a.b/m, reason: x}, {deny: 'github.com/Acme/x-*', versions: '<v1', reason: y}]";

    #[test]
    fn only_what_a_changed_rule_means_is_forgotten() {
        assert!(said("/", ONE, ONE).is_empty());
        assert_eq!(said("/", ONE, TWO), ["hard prefix /github.com/!acme"]);
        assert_eq!(said("/", TWO, ONE), ["soft prefix /github.com/!acme"]);
        assert_eq!(said("/team-a/", "{}", ONE), ["hard prefix /team-a/a.b/m"]);
        let reworded = "rules: [{deny: a.b/m, reason: said otherwise, until: 2099-01-01}]";
        assert!(said("/", ONE, reworded).is_empty());
        let allowing = "{default: deny, rules: [{allow: a.b/m}]}";
        assert_eq!(said("/", "default: deny", allowing), ["soft prefix /a.b/m"]);
        assert_eq!(said("/", allowing, "default: deny"), ["hard prefix /a.b/m"]);
        let older = "rules: [{allow: a.b/m, min_age: 1day}]";
        assert_eq!(said("/", "{}", older), ["hard prefix /a.b/m"]);
    }

    #[test]
    fn what_concerns_all_is_one_purge() {
        let wild = "rules: [{deny: '*.b', reason: x}]";
        assert_eq!(said("/", "{}", wild), ["hard all"]);
        assert_eq!(said("/t/", "{}", wild), ["hard prefix /t"]);
        assert_eq!(said("/", "{}", "default: deny"), ["hard all"]);
        assert_eq!(said("/", "default: deny", "{}"), ["soft all"]);
        assert_eq!(said("/", "{}", "min_age: 1day"), ["soft all"]);
        assert_eq!(said("/t/", "{}", "retracted: deny"), ["soft prefix /t"]);
        assert!(said("/", "{}", "retracted: warn").is_empty());
        let both = "{min_age: 1day, rules: [{deny: a.b, reason: x}]}";
        assert_eq!(said("/", "{}", both), ["hard all"]);
        let many: Vec<String> = (0..200).map(|n| format!("a{n}.b")).collect();
        let many = format!("rules: [{{deny: [{}], reason: x}}]", many.join(","));
        assert_eq!(said("/", "{}", &many), ["hard all"]);
    }

    #[test]
    fn a_rule_that_is_over_is_not_there() {
        let policy =
            policy("rules: [{deny: a.b, reason: x, until: 2026-01-01}, {deny: c.d, reason: y}]");
        let then = humantime::parse_rfc3339("2026-06-01T00:00:00Z").unwrap();
        let now = policy.at(then);
        assert_eq!(now.rules.len(), 1);
        let prefix = Prefix::root();
        let purges = purges(&prefix, &policy, &now);
        assert_eq!(purges.len(), 1);
        assert_eq!(purges[0].mode, Mode::Soft);
    }

    const PATTERNS: [&str; 5] = ["a.b", "a.b/m", "*.b/m", "c.d/M*", "c.d/m"];
    const MODULES: [&str; 4] = ["a.b/m", "a.b/n", "c.d/m", "c.d/Mx"];

    prop_compose! {
        fn some_policy()(
            rules in prop::collection::vec((any::<bool>(), 0usize..5, any::<bool>(), prop::option::of(0u64..3)), 0..4),
            default in any::<bool>(), min_age in 0u64..3,
        ) -> Policy {
            let rules: Vec<_> = rules.into_iter().map(|(denies, pattern, range, age)| {
                let mut rule = serde_json::json!({"reason": "x"});
                rule[if denies { "deny" } else { "allow" }] = PATTERNS[pattern].into();
                if range {
                    rule["versions"] = "<v1.1.0".into();
                }
                if let Some(age) = age.filter(|_| !denies) {
                    rule["min_age"] = format!("{age}s").into();
                }
                rule
            }).collect();
            let default = if default { "deny" } else { "allow" };
            let text = serde_json::json!({"default": default, "min_age": format!("{min_age}s"), "rules": rules});
            serde_json::from_value(text).unwrap()
        }
    }

    proptest! {
        /// Whatever is decided otherwise than before is purged, and hard where a rule blocks it.
        #[test]
        fn nothing_that_changes_is_left_out(
            old in some_policy(), new in some_policy(), module in 0usize..4, minor in 0u8..3, age in 0u64..4,
        ) {
            let module: modcdn_core::goproxy::ModulePath = MODULES[module].parse().unwrap();
            let version = format!("v1.{minor}.0").parse().unwrap();
            let mut facts = Facts::at(SystemTime::UNIX_EPOCH);
            facts.age = Age::Seen(std::time::Duration::from_secs(age));
            let (before, after) = (old.decide(&module, &version, &facts), new.decide(&module, &version, &facts));
            let purges = purges(&Prefix::root(), &old, &new);
            let path = format!("/{}/", module.escaped());
            let concerning = purges.iter().filter(|purge| match &purge.selector {
                Selector::Prefix(prefix) => path.starts_with(&format!("{prefix}/")),
                Selector::All => true,
                other => panic!("{other}"),
            });
            let mode = concerning.map(|purge| purge.mode).max();
            if before.is_allowed() != after.is_allowed() {
                prop_assert!(mode.is_some(), "{:?} {:?}", before, after);
            }
            let by_rule = matches!(after, Decision::Blocked(super::super::Block::Denied(_) | super::super::Block::NotAllowed));
            if before.is_allowed() && by_rule {
                prop_assert_eq!(mode, Some(Mode::Hard));
            }
        }
    }
}
