//! The decision about one version. Pure: no I/O, no clock.
//!
//! In this order: the rules, of which the first one counts that means the version and isn't over;
//! where none does, the default; then the age; then the author's notices. [`Policy::needs`] says
//! which facts matter for that, so that only those are looked for.

use std::time::{Duration, SystemTime};

use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::refusal::Reason;

use crate::config::policy::{OnNotice, Policy, Rule, Verdict};

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The time, for rules that end.
    pub now: SystemTime,
    /// Whether a pattern makes the module private: nobody but ourselves could publish a version.
    pub private: bool,
    /// How old it is at least.
    pub age: Age,
    /// Why its author took it back. None: he didn't, or nobody looked.
    pub retracted: Option<String>,
    /// Why its author gave the module up.
    pub deprecated: Option<String>,
}

impl Facts {
    /// Nothing but the time.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self {
            now,
            private: false,
            age: Age::Unknown,
            retracted: None,
            deprecated: None,
        }
    }
}

/// How old a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Nobody knows: as good as new.
    Unknown,
    /// Its record was in the checksum database so long ago.
    Recorded(Duration),
    /// This origin saw it so long ago.
    Seen(Duration),
}

impl Age {
    /// At least so old.
    #[must_use]
    pub fn at_least(self) -> Duration {
        match self {
            Self::Unknown => Duration::ZERO,
            Self::Recorded(age) | Self::Seen(age) => age,
        }
    }
}

/// Which facts a decision depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`Facts::age`].
    pub age: bool,
    /// [`Facts::retracted`] and [`Facts::deprecated`].
    pub notices: bool,
}

/// What becomes of a request for a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is answered.
    Allowed {
        /// The number of the rule that said so, from 0. None: the default.
        rule: Option<usize>,
        /// What its user should hear of all the same.
        warnings: Vec<Warning>,
    },
    /// It isn't.
    Blocked(Block),
}

/// Something to be told beside an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The author took the version back, for this reason.
    Retracted(String),
    /// The author gave the module up, for this reason.
    Deprecated(String),
}

/// Why a version isn't given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// By the rule of this number, from 0.
    Denied(usize),
    /// No rule allows it.
    NotAllowed,
    /// It is too new.
    CoolDown {
        /// What is known of its age.
        age: Age,
        /// What is asked for.
        min_age: Duration,
    },
    /// The author took it back.
    Retracted(String),
    /// The author gave the module up.
    Deprecated(String),
}

impl Warning {
    /// The name in metrics and in the header field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Retracted(_) => "retracted",
            Self::Deprecated(_) => "deprecated",
        }
    }

    /// The author's words.
    #[must_use]
    pub fn rationale(&self) -> &str {
        match self {
            Self::Retracted(why) | Self::Deprecated(why) => why,
        }
    }
}

impl Block {
    /// The name in logs, metrics and the header field.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Denied(_) => Reason::PolicyDenied,
            Self::NotAllowed => Reason::PolicyNotAllowed,
            Self::CoolDown { .. } => Reason::PolicyCoolDown,
            Self::Retracted(_) => Reason::PolicyRetracted,
            Self::Deprecated(_) => Reason::PolicyDeprecated,
        }
    }
}

impl Decision {
    /// Whether the version is given out.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl Policy {
    /// Whether everything is allowed, without a look at anything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.default == Verdict::Allow
            && self.rules.is_empty()
            && self.min_age.is_zero()
            && self.retracted == OnNotice::Allow
            && self.deprecated == OnNotice::Allow
    }

    /// Decides about a version.
    #[must_use]
    pub fn decide(&self, module: &ModulePath, version: &Version, facts: &Facts) -> Decision {
        let found = self.rule(module, version, facts.now);
        if let Some(block) = self.by_rule(found) {
            return Decision::Blocked(block);
        }
        let min_age = self.min_age_of(module, found, facts.private);
        if facts.age.at_least() < min_age {
            let age = facts.age;
            return Decision::Blocked(Block::CoolDown { age, min_age });
        }
        let mut warnings = Vec::new();
        if let Some(why) = &facts.retracted {
            match self.retracted {
                OnNotice::Deny => return Decision::Blocked(Block::Retracted(why.clone())),
                OnNotice::Warn => warnings.push(Warning::Retracted(why.clone())),
                OnNotice::Allow => {}
            }
        }
        if let Some(why) = &facts.deprecated {
            match self.deprecated {
                OnNotice::Deny => return Decision::Blocked(Block::Deprecated(why.clone())),
                OnNotice::Warn => warnings.push(Warning::Deprecated(why.clone())),
                OnNotice::Allow => {}
            }
        }
        let rule = found.map(|(number, _)| number);
        Decision::Allowed { rule, warnings }
    }

    /// Which facts the decision depends on, beside the time.
    #[must_use]
    pub fn needs(
        &self,
        module: &ModulePath,
        version: &Version,
        now: SystemTime,
        private: bool,
    ) -> Needs {
        let found = self.rule(module, version, now);
        if self.by_rule(found).is_some() {
            return Needs::default();
        }
        Needs {
            age: !self.min_age_of(module, found, private).is_zero(),
            notices: self.wants_notices(),
        }
    }

    /// Whether ages matter.
    #[must_use]
    pub fn wants_ages(&self) -> bool {
        let of_rules = self.rules.iter().filter_map(|rule| rule.min_age);
        of_rules.chain([self.min_age]).any(|age| !age.is_zero())
    }

    /// Whether the author's notices matter.
    #[must_use]
    pub fn wants_notices(&self) -> bool {
        self.retracted != OnNotice::Allow || self.deprecated != OnNotice::Allow
    }

    /// Whether even the go.mod of a version is kept back: only by a rule that says so.
    #[must_use]
    pub fn blocks_go_mod(
        &self,
        module: &ModulePath,
        version: &Version,
        now: SystemTime,
    ) -> Option<Block> {
        let (number, rule) = self.rule(module, version, now)?;
        let blocks = rule.verdict == Verdict::Deny && rule.go_mod;
        blocks.then_some(Block::Denied(number))
    }

    /// Whether no version of a module can be allowed, whatever there is: then nobody needs to be
    /// asked for a list.
    #[must_use]
    pub fn denies_all(&self, module: &ModulePath, now: SystemTime) -> bool {
        let meant = |rule: &&Rule| {
            let holds = rule.until.as_ref().is_none_or(|until| until.holds_at(now));
            holds && rule.modules.matches(module)
        };
        for rule in self.rules.iter().filter(meant) {
            match rule.verdict {
                Verdict::Allow => return false,
                Verdict::Deny if rule.versions.is_none() => return true,
                Verdict::Deny => {}
            }
        }
        self.default == Verdict::Deny
    }

    /// The first rule that means a version and isn't over.
    #[must_use]
    pub fn rule(
        &self,
        module: &ModulePath,
        version: &Version,
        now: SystemTime,
    ) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| {
            let holds = rule.until.as_ref().is_none_or(|until| until.holds_at(now));
            holds && rule.means(module, version)
        })
    }

    fn by_rule(&self, found: Option<(usize, &Rule)>) -> Option<Block> {
        match found {
            Some((number, rule)) if rule.verdict == Verdict::Deny => Some(Block::Denied(number)),
            None if self.default == Verdict::Deny => Some(Block::NotAllowed),
            _ => None,
        }
    }

    /// How old a version must be. What is private has no strangers who publish it.
    fn min_age_of(
        &self,
        module: &ModulePath,
        found: Option<(usize, &Rule)>,
        private: bool,
    ) -> Duration {
        if let Some(of_rule) = found.and_then(|(_, rule)| rule.min_age) {
            return of_rule.get();
        }
        if private || self.min_age_except.matches(module) {
            return Duration::ZERO;
        }
        self.min_age.get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn policy(text: &str) -> Policy {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-06-01T00:00:00Z").unwrap()
    }

    fn decide(policy: &Policy, of: &str, facts: &Facts) -> Decision {
        let (module, version) = of.split_once('@').unwrap();
        policy.decide(&module.parse().unwrap(), &version.parse().unwrap(), facts)
    }

    fn reason(policy: &Policy, of: &str, facts: &Facts) -> &'static str {
        match decide(policy, of, facts) {
            Decision::Allowed { .. } => "allowed",
            Decision::Blocked(block) => block.reason().name(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let policy = policy(
            "
default: deny
rules:
  - {deny: a.b/m, versions: '<v1.2.0', reason: broken}
  - {allow: a.b}
  - {deny: a.b/n, reason: too late}
  - {deny: c.d, reason: over, until: 2026-05-31}
  - {allow: c.d, until: 2026-06-01}
",
        );
        let facts = Facts::at(now());
        for (of, expected) in [
            ("a.b/m@v1.1.9", "policy-denied"),
            ("a.b/m/v2@v2.0.0", "allowed"),
            ("a.b/m@v1.2.0", "allowed"),
            ("a.b/n@v1.0.0", "allowed"),
            ("c.d/x@v1.0.0", "allowed"),
            ("e.f/x@v1.0.0", "policy-not-allowed"),
        ] {
            assert_eq!(reason(&policy, of, &facts), expected, "{of}");
        }
        let later = Facts::at(now() + DAY);
        assert_eq!(
            reason(&policy, "c.d/x@v1.0.0", &later),
            "policy-not-allowed"
        );
    }

    #[test]
    fn an_age_that_is_not_known_is_no_age() {
        let policy = policy(
            "{min_age: 7days, min_age_except: good.example, rules: [{allow: a.b/fix, versions: v1.0.1, min_age: 1day}]}",
        );
        let aged = |age| Facts {
            age,
            ..Facts::at(now())
        };
        let blocked = "policy-cool-down";
        for (of, age, expected) in [
            ("a.b/m@v1.0.0", Age::Unknown, blocked),
            ("a.b/m@v1.0.0", Age::Seen(6 * DAY), blocked),
            ("a.b/m@v1.0.0", Age::Seen(7 * DAY), "allowed"),
            ("a.b/m@v1.0.0", Age::Recorded(7 * DAY), "allowed"),
            ("good.example/m@v1.0.0", Age::Unknown, "allowed"),
            ("a.b/fix@v1.0.1", Age::Unknown, blocked),
            ("a.b/fix@v1.0.1", Age::Seen(DAY), "allowed"),
            ("a.b/fix@v1.0.2", Age::Seen(DAY), blocked),
        ] {
            assert_eq!(reason(&policy, of, &aged(age)), expected, "{of} {age:?}");
        }
        let private = Facts {
            private: true,
            ..Facts::at(now())
        };
        assert_eq!(reason(&policy, "a.b/m@v1.0.0", &private), "allowed");
    }

    #[test]
    fn notices_of_the_author_warn_or_deny() {
        let facts = Facts {
            retracted: Some("lost data".to_owned()),
            deprecated: Some("use a.b/n".to_owned()),
            ..Facts::at(now())
        };
        let warns = policy("{retracted: warn, deprecated: warn}");
        let decision = decide(&warns, "a.b/m@v1.0.0", &facts);
        let warnings = vec![
            Warning::Retracted("lost data".to_owned()),
            Warning::Deprecated("use a.b/n".to_owned()),
        ];
        let rule = None;
        assert_eq!(decision, Decision::Allowed { rule, warnings });
        let denies = policy("retracted: deny");
        assert_eq!(reason(&denies, "a.b/m@v1.0.0", &facts), "policy-retracted");
        let denies = policy("deprecated: deny");
        assert_eq!(reason(&denies, "a.b/m@v1.0.0", &facts), "policy-deprecated");
        let open = Policy::default();
        assert!(open.is_open() && !open.wants_notices() && !open.wants_ages());
        assert!(policy("rules: [{allow: a.b, min_age: 1day}]").wants_ages());
        assert_eq!(reason(&open, "a.b/m@v1.0.0", &facts), "allowed");
    }

    #[test]
    fn only_a_rule_that_says_so_keeps_a_go_mod_back() {
        let policy = policy(
            "{default: deny, min_age: 7days, rules: [{deny: a.b/m, reason: x}, {deny: a.b/n, reason: x, mod: true}]}",
        );
        let blocked = |module: &str| {
            let module = module.parse().unwrap();
            policy.blocks_go_mod(&module, &"v1.0.0".parse().unwrap(), now())
        };
        assert_eq!(blocked("a.b/m"), None);
        assert_eq!(blocked("c.d/m"), None);
        assert_eq!(blocked("a.b/n"), Some(Block::Denied(1)));
    }

    #[test]
    fn a_module_may_be_denied_as_a_whole() {
        let rules = policy(
            "{default: deny, rules: [{deny: a.b/m, versions: v1.0.0, reason: x}, {allow: a.b/m/x}, {deny: a.b/m, reason: y, until: 2026-05-01}]}",
        );
        assert!(rules.denies_all(&"a.b/m".parse().unwrap(), now()));
        assert!(!rules.denies_all(&"a.b/m/x".parse().unwrap(), now()));
        let some = policy("{rules: [{deny: a.b/m, versions: v1.0.0, reason: x}]}");
        assert!(!some.denies_all(&"a.b/m".parse().unwrap(), now()));
        let all =
            policy("{rules: [{deny: a.b/m, versions: v1.0.0, reason: x}, {deny: a.b, reason: y}]}");
        assert!(all.denies_all(&"a.b/m".parse().unwrap(), now()));
    }

    /// A rule: denies, pattern, range, over, min_age.
    type Drawn = (bool, usize, usize, bool, Option<u64>);

    const MODULES: [&str; 3] = ["a.b/m", "a.b/n", "c.d/m"];
    const PATTERNS: [&str; 4] = ["a.b", "a.b/m", "*/m", "c.*"];
    const RANGES: [Option<&str>; 4] = [
        None,
        Some("<v1.2.0"),
        Some(">=v1.1.0 <v1.3.0"),
        Some("v1.0.0, v1.3.0"),
    ];

    fn drawn(rules: &[Drawn], default: bool, min_age: u64) -> Policy {
        let mut text = format!(
            "default: {}\nmin_age: {min_age}days\nrules:\n",
            if default { "deny" } else { "allow" }
        );
        for (denies, pattern, range, over, age) in rules {
            let verdict = if *denies { "deny" } else { "allow" };
            text += &format!("- {{{verdict}: '{}', reason: x", PATTERNS[*pattern]);
            if let Some(range) = RANGES[*range] {
                text += &format!(", versions: '{range}'");
            }
            if *over {
                text += ", until: 2026-05-01";
            }
            if let Some(age) = age.filter(|_| !denies) {
                text += &format!(", min_age: {age}days");
            }
            text += "}\n";
        }
        if rules.is_empty() {
            text += "  []\n";
        }
        policy(&text)
    }

    prop_compose! {
        fn any_policy()(
            rules in prop::collection::vec(
                (any::<bool>(), 0usize..4, 0usize..4, any::<bool>(), prop::option::of(0u64..10)), 0..5,
            ),
            default in any::<bool>(), min_age in 0u64..10,
        ) -> Policy {
            drawn(&rules, default, min_age)
        }
    }

    proptest! {
        #[test]
        fn decisions_are_consistent(
            policy in any_policy(), module in 0usize..3, minor in 0u64..5, days in 0u64..12, private in any::<bool>(),
        ) {
            let module: ModulePath = MODULES[module].parse().unwrap();
            let version: Version = format!("v1.{minor}.0").parse().unwrap();
            let facts = |age| Facts { private, age, ..Facts::at(now()) };
            let aged = |days: u64| facts(Age::Seen(DAY * u32::try_from(days).unwrap()));
            let decision = policy.decide(&module, &version, &aged(days));
            // By hand: the first rule that fits and holds.
            let first = policy.rules.iter().position(|rule| {
                rule.until.is_none() && rule.modules.matches(&module)
                    && rule.versions.as_ref().is_none_or(|range| range.contain(&version))
            });
            let denied = match first {
                Some(number) => policy.rules[number].verdict == Verdict::Deny,
                None => policy.default == Verdict::Deny,
            };
            match &decision {
                Decision::Blocked(Block::Denied(number)) => prop_assert_eq!(Some(*number), first),
                Decision::Blocked(Block::NotAllowed) => prop_assert!(first.is_none() && denied),
                Decision::Allowed { rule, .. } => {
                    prop_assert_eq!(*rule, first);
                    prop_assert!(!denied);
                }
                _ => prop_assert!(!denied),
            }
            // What is allowed stays so when it grows older.
            if decision.is_allowed() {
                prop_assert!(policy.decide(&module, &version, &aged(days + 1)).is_allowed());
            }
            // A fact that isn't needed makes no difference.
            let needs = policy.needs(&module, &version, now(), private);
            if !needs.age {
                prop_assert_eq!(&policy.decide(&module, &version, &facts(Age::Unknown)), &decision);
            }
            // What is denied as a whole is denied.
            if policy.denies_all(&module, now()) {
                prop_assert!(!policy.decide(&module, &version, &aged(99)).is_allowed());
            }
            if policy.is_open() {
                prop_assert!(decision.is_allowed());
            }
        }
    }
}
