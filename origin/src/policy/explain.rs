//! Explains a decision to an operator, from what an origin stored and saw, in its folder and its bucket;
//! nobody else is asked, and nothing is written. An origin that can ask knows at least as much.

use std::time::{Duration, SystemTime};

use modcdn_core::gomod::Notices;
use modcdn_core::goproxy::{ModulePath, Prefix, Request, SumDb as Asked, SumDbCall, Version};
use modcdn_core::sumdb::record::Lookup;
use serde::Serialize;

use super::nearest::{latest, nearest};
use super::refusal::why;
use super::sight::{self, Sight};
use super::stored::StoredBodies;
use super::{Age, Decision, Facts, Warning};
use crate::config::policy::{Policy, Rule};
use crate::config::{Config, Mount, Verify};
use crate::store::mutable;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The origin.
    pub config: &'a Config,
    /// The mount.
    pub mount: &'a Prefix,
    /// The module.
    pub module: &'a ModulePath,
    /// The version.
    pub version: &'a Version,
    /// In place of what is known of its age.
    pub age: Option<Duration>,
    /// The time.
    pub now: SystemTime,
}

/// Why a question can't be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No such mount.
    #[error("nothing is mounted at {0}")]
    Mount(Prefix),
}

/// A decision with everything it follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The module.
    pub module: String,
    /// The version.
    pub version: String,
    /// The mount.
    pub mount: String,
    /// Whether it is given out.
    pub allowed: bool,
    /// The reason's name, if it isn't.
    pub reason: Option<&'static str>,
    /// The same in words.
    pub why: Option<String>,
    /// The rule that counts, if one does.
    pub rule: Option<Said>,
    /// Rules that mean the version and are over, by number.
    pub over: Vec<usize>,
    /// Whether its go.mod is given out.
    pub go_mod: bool,
    /// Names of the notices that are passed on with it.
    pub notices: Vec<&'static str>,
    /// What the decision follows from.
    pub facts: Known,
    /// The nearest allowed version that is known, if it is blocked.
    pub nearest: Option<String>,
}

/// A rule as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// From 1.
    pub number: usize,
    /// What it means.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Up to when it holds.
    pub until: Option<String>,
}

/// The facts as they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Whether the module is private.
    pub private: bool,
    /// In seconds; none where it isn't known.
    pub age: Option<u64>,
    /// Where that comes from.
    pub age_from: &'static str,
    /// Why the author took the version back.
    pub retracted: Option<String>,
    /// Why he gave the module up.
    pub deprecated: Option<String>,
    /// How many versions are known of the module.
    pub listed: usize,
    /// Why what is stored couldn't be read, if it couldn't: ages and notices may be missing then.
    pub store_fault: Option<String>,
}

/// Explains. Blocks, and so it isn't for a runtime's own threads.
///
/// # Errors
/// There is no such mount.
pub fn explain(question: &Question<'_>) -> Result<Explanation, ExplainError> {
    let mut mounts = question.config.mounts.iter();
    let mount = mounts.find(|mount| mount.prefix == *question.mount);
    let mount = mount.ok_or_else(|| ExplainError::Mount(question.mount.clone()))?;
    Ok(Looking::new(question, mount).explain())
}

/// What there is to look at.
struct Looking<'a> {
    question: &'a Question<'a>,
    mount: &'a Mount,
    stored: StoredBodies,
    sight: Option<Sight>,
    list: Vec<Version>,
    notices: Notices,
}

impl<'a> Looking<'a> {
    fn new(question: &'a Question<'a>, mount: &'a Mount) -> Self {
        let config = question.config;
        let folder = mount.folder(&config.store.dir);
        let list = Request::List(question.module.clone());
        let list = mutable::kept(&folder, &list.path()).unwrap_or_default();
        let list = super::govern::versions(&list);
        let sight = config.store.dir.join(sight::FILE);
        let stored = StoredBodies::open(&mount.store(&config.store));
        let notices = notices(&stored, question.module, &list);
        Self {
            question,
            mount,
            sight: Sight::read(&sight, config.sight.versions).ok(),
            list,
            notices: notices.unwrap_or_default(),
            stored,
        }
    }

    fn policy(&self) -> &Policy {
        &self.mount.policy
    }

    fn explain(&self) -> Explanation {
        let (module, version) = (self.question.module, self.question.version);
        let (policy, now) = (self.policy(), self.question.now);
        let (mut facts, mut age_from) = self.facts(version);
        if let Some(age) = self.question.age {
            facts.age = Age::Seen(age);
            age_from = "said";
        }
        let decision = policy.decide(module, version, &facts);
        let (block, warnings) = match &decision {
            Decision::Allowed { warnings, .. } => (None, warnings.as_slice()),
            Decision::Blocked(block) => (Some(block), &[][..]),
        };
        let rule = policy.rule(module, version, now);
        Explanation {
            module: module.to_string(),
            version: version.to_string(),
            mount: self.mount.prefix.to_string(),
            allowed: decision.is_allowed(),
            reason: block.map(|block| block.reason().name()),
            why: block.map(|block| why(policy, block)),
            rule: rule.map(|(number, rule)| Said::of(number, rule)),
            over: self.over(version),
            go_mod: policy.blocks_go_mod(module, version, now).is_none(),
            notices: warnings.iter().map(Warning::name).collect(),
            nearest: block.and_then(|_| self.nearest()),
            facts: self.known(&facts, age_from),
        }
    }

    fn known(&self, facts: &Facts, age_from: &'static str) -> Known {
        let age = match facts.age {
            Age::Unknown => None,
            Age::Recorded(age) | Age::Seen(age) => Some(age.as_secs()),
        };
        Known {
            private: facts.private,
            age,
            age_from,
            retracted: facts.retracted.clone(),
            deprecated: facts.deprecated.clone(),
            listed: self.list.len(),
            store_fault: self.stored.fault(),
        }
    }

    fn over(&self, version: &Version) -> Vec<usize> {
        let now = self.question.now;
        let is_over = |rule: &Rule| {
            let ended = rule
                .until
                .as_ref()
                .is_some_and(|until| !until.holds_at(now));
            ended && rule.means(self.question.module, version)
        };
        let rules = self.policy().rules.iter().zip(1..);
        let over = rules.filter(|(rule, _)| is_over(rule));
        over.map(|(_, number)| number).collect()
    }

    fn nearest(&self) -> Option<String> {
        let module = self.question.module;
        let is_allowed = |version: &Version| {
            let (facts, _) = self.facts(version);
            *version != *self.question.version
                && self.policy().decide(module, version, &facts).is_allowed()
        };
        let found = nearest(self.question.version, &self.list, is_allowed);
        found.map(|version| version.to_string())
    }

    fn facts(&self, version: &Version) -> (Facts, &'static str) {
        let private = self.mount.private.matches(self.question.module);
        let (age, from) = self.age(version);
        let retraction = self.notices.retraction(version);
        let facts = Facts {
            private,
            age,
            retracted: retraction.map(|one| one.rationale.clone()),
            deprecated: self.notices.deprecated.clone(),
            ..Facts::at(self.question.now)
        };
        (facts, from)
    }

    fn age(&self, version: &Version) -> (Age, &'static str) {
        let unknown = (Age::Unknown, "unknown");
        let Some(sight) = &self.sight else {
            return unknown;
        };
        let (module, now) = (self.question.module, self.question.now);
        if self.mount.sumdb.verify == Verify::Off || self.mount.private.matches(module) {
            let seen = sight.age(&self.mount.prefix, module, version, now);
            let seen = seen.map(|age| (age, "first sight"));
            let stored = self
                .stored_for(version)
                .map(|age| (age, "time in the store"));
            let oldest = seen.into_iter().chain(stored).max_by_key(|(age, _)| *age);
            return oldest.map_or(unknown, |(age, from)| (Age::Seen(age), from));
        }
        let Some(record) = self.record(version) else {
            return unknown;
        };
        let database = self.mount.sumdb.key.name().as_str();
        let a_day = self.question.config.sight.records_a_day;
        let age = sight.record_age(database, record, now, a_day);
        age.map_or(unknown, |age| (Age::Recorded(age), "checksum database"))
    }

    /// How long something of the version has been stored.
    fn stored_for(&self, version: &Version) -> Option<Duration> {
        let (module, version) = (self.question.module.clone(), version.clone());
        let bodies = [
            Request::Info(module.clone(), version.clone()),
            Request::Mod(module.clone(), version.clone()),
            Request::Zip(module, version),
        ];
        let ages = bodies.iter().filter_map(|body| {
            let since = self.stored.stored_at(body)?;
            self.question.now.duration_since(since).ok()
        });
        ages.max()
    }

    /// The number of the version's record, if that was proven once.
    fn record(&self, version: &Version) -> Option<u64> {
        let lookup = Request::SumDb(Asked {
            name: self.mount.sumdb.key.name().clone(),
            call: SumDbCall::Lookup(self.question.module.clone(), version.clone()),
        });
        let answer = self.stored.read(&lookup)?;
        Some(Lookup::parse(&answer)?.id)
    }
}

impl Said {
    fn of(number: usize, rule: &Rule) -> Self {
        Self {
            number: number + 1,
            rule: rule.to_string(),
            reason: rule.reason.clone(),
            until: rule.until.as_ref().map(ToString::to_string),
        }
    }
}

/// What the go.mod of the latest version says, if that is stored.
fn notices(stored: &StoredBodies, module: &ModulePath, list: &[Version]) -> Option<Notices> {
    let compatible = latest(list, |version| !version.is_incompatible());
    let latest = compatible.or_else(|| latest(list, |_| true))?;
    let go_mod = Request::Mod(module.clone(), latest);
    let text = stored.read(&go_mod)?;
    Notices::parse(&text).ok()
}
