//! The section `policy` of a mount: which modules and versions are given out.
//!
//! What it means is in [`crate::policy`] and docs/policy.md.

use std::fmt;

use modcdn_core::goproxy::{ModulePath, Patterns, Version};
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use crate::policy::until::Until;
use crate::policy::versions::Versions;

/// A rule's reason is no longer than this, in bytes: refusals quote it.
pub const MAX_REASON: usize = 200;

/// The policy of one mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What happens to what no rule names.
    pub default: Verdict,
    /// The first one that fits counts.
    pub rules: Vec<Rule>,
    /// A version of a public module is given out only once it is known to be so old. Zero: at once.
    pub min_age: Period,
    /// Modules for which that doesn't hold.
    pub min_age_except: Patterns,
    /// What happens to versions that their author took back.
    pub retracted: OnNotice,
    /// What happens to modules that their author gave up.
    pub deprecated: OnNotice,
}

/// Everything is given out.
impl Default for Policy {
    fn default() -> Self {
        Self {
            default: Verdict::Allow,
            rules: Vec::new(),
            min_age: Period::secs(0),
            min_age_except: Patterns::default(),
            retracted: OnNotice::Allow,
            deprecated: OnNotice::Allow,
        }
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is given out.
    #[default]
    Allow,
    /// It isn't.
    Deny,
}

/// What a notice of the author leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNotice {
    /// Nothing; nobody looks for one either.
    #[default]
    Allow,
    /// A header field and a metric.
    Warn,
    /// A refusal.
    Deny,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    /// What happens to what it means.
    pub verdict: Verdict,
    /// The modules that it means.
    pub modules: Patterns,
    /// Their versions that it means. None: all.
    pub versions: Option<Versions>,
    /// Why; refusals quote it. A rule that denies has one.
    pub reason: String,
    /// Up to when the rule holds. None: for good.
    pub until: Option<Until>,
    /// Whether a rule that denies keeps go.mod files back too. Builds need them of versions which
    /// they don't use.
    pub go_mod: bool,
    /// In place of the policy's `min_age`, for what the rule allows.
    pub min_age: Option<Period>,
}

impl Rule {
    /// Whether it means this version, were it not over.
    #[must_use]
    pub fn means(&self, module: &ModulePath, version: &Version) -> bool {
        self.modules.matches(module)
            && self
                .versions
                .as_ref()
                .is_none_or(|versions| versions.contain(version))
    }
}

/// As refusals and logs name it: `deny corp.example <v1.2.3`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        };
        write!(f, "{verdict} {}", self.modules)?;
        match &self.versions {
            Some(versions) => write!(f, " {versions}"),
            None => Ok(()),
        }
    }
}

/// [`Rule`] as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Patterns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Patterns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Versions>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Until>,
    #[serde(rename = "mod", skip_serializing_if = "std::ops::Not::not")]
    go_mod: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_age: Option<Period>,
}

/// Why a rule makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum RuleError {
    #[error("a rule says either `allow` or `deny`, with the patterns of the modules that it means")]
    Verdict,
    #[error("a rule means some modules: name at least one pattern")]
    Modules,
    #[error("a rule that denies says why: `reason`, one line of at most {MAX_REASON} bytes")]
    NoReason,
    #[error(
        "`reason` is one line of printable ASCII, at most {MAX_REASON} bytes: the go command shows it"
    )]
    Reason,
    #[error("`mod` is for rules that deny")]
    GoMod,
    #[error("`min_age` is for rules that allow")]
    MinAge,
}

impl TryFrom<Written> for Rule {
    type Error = RuleError;

    fn try_from(written: Written) -> Result<Self, RuleError> {
        let (verdict, modules) = match (written.allow, written.deny) {
            (Some(modules), None) => (Verdict::Allow, modules),
            (None, Some(modules)) => (Verdict::Deny, modules),
            _ => return Err(RuleError::Verdict),
        };
        let denies = verdict == Verdict::Deny;
        let reason = written.reason.trim();
        let printable = reason.bytes().all(|b| (b' '..=b'~').contains(&b));
        if modules.is_empty() {
            return Err(RuleError::Modules);
        }
        if denies && reason.is_empty() {
            return Err(RuleError::NoReason);
        }
        if !printable || reason.len() > MAX_REASON {
            return Err(RuleError::Reason);
        }
        if written.go_mod && !denies {
            return Err(RuleError::GoMod);
        }
        if written.min_age.is_some() && denies {
            return Err(RuleError::MinAge);
        }
        Ok(Self {
            verdict,
            modules,
            versions: written.versions,
            reason: reason.to_owned(),
            until: written.until,
            go_mod: written.go_mod,
            min_age: written.min_age,
        })
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let (allow, deny) = match rule.verdict {
            Verdict::Allow => (Some(rule.modules), None),
            Verdict::Deny => (None, Some(rule.modules)),
        };
        Self {
            allow,
            deny,
            versions: rule.versions,
            reason: rule.reason,
            until: rule.until,
            go_mod: rule.go_mod,
            min_age: rule.min_age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_survives_a_round_trip_through_yaml() {
        let text = "
default: deny
rules:
  - deny: [example.com/bad, '*.evil.example']
    versions: '>=v1.0.0 <v1.2.3'
    reason: CVE-2026-0001
    until: 2026-12-31
    mod: true
  - allow: example.com
    min_age: 0s
min_age: 7days
min_age_except: corp.example,other.example/*
retracted: warn
deprecated: deny
";
        let policy = parse(text).unwrap();
        assert_eq!(
            policy.rules[0].to_string(),
            "deny example.com/bad,*.evil.example >=v1.0.0 <v1.2.3"
        );
        assert_eq!(policy.min_age, Period::secs(7 * 24 * 3600));
        let written = serde_yaml::to_string(&policy).unwrap();
        assert_eq!(parse(&written).unwrap(), policy);
        let defaults = serde_yaml::to_string(&Policy::default()).unwrap();
        assert_eq!(parse(&defaults).unwrap(), Policy::default());
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_place() {
        let long = format!("rules:\n- {{deny: a.b, reason: {}}}", "x".repeat(201));
        for (text, said) in [
            ("rules:\n- reason: x", "either `allow` or `deny`"),
            (
                "rules:\n- {allow: a.b, deny: a.b, reason: x}",
                "either `allow` or `deny`",
            ),
            ("rules:\n- {deny: [], reason: x}", "at least one pattern"),
            ("rules:\n- {deny: a.b}", "says why"),
            ("rules:\n- {deny: a.b, reason: ' '}", "says why"),
            (
                "rules:\n- {deny: a.b, reason: schlecht für uns}",
                "printable ASCII",
            ),
            (long.as_str(), "at most 200"),
            ("rules:\n- {allow: a.b, mod: true}", "rules that deny"),
            (
                "rules:\n- {deny: a.b, reason: x, min_age: 1d}",
                "rules that allow",
            ),
            ("rules:\n- {deny: 'a.b/[', reason: x}", "begins a class"),
            (
                "rules:\n- {deny: a.b, reason: x, versions: v1}",
                "one version or many",
            ),
            (
                "rules:\n- {deny: a.b, reason: x, until: soon}",
                "write a day",
            ),
            ("rules:\n- {deny: a.b, raeson: x}", "unknown field"),
            ("retracted: no", "unknown variant"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
            assert!(
                error.contains(" line ") || error.contains("retracted"),
                "{text}: {error}"
            );
        }
    }
}
