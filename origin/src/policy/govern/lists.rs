//! Lists, `@latest` and queries without what the policy blocks.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Request, Version};
use modcdn_core::refusal::Refusal;
use serde::Deserialize;

use super::{Case, Governed};
use crate::fetch::Found;
use crate::policy::nearest::{latest, nearest};
use crate::policy::refusal::Instead;
use crate::policy::{Decision, Facts};
use crate::store::mutable::{Answer, Known};
use crate::store::tree::StoredBody;
use crate::upstream::asked;

/// The part of an `.info` that says which version it is of.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "Version")]
    version: String,
}

/// The versions of a list.
pub(crate) fn versions(list: &[u8]) -> Vec<Version> {
    let text = std::str::from_utf8(list).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

/// The version that an `.info` is of.
pub(super) fn version_of(info: &[u8]) -> Option<Version> {
    let info: Info = serde_json::from_slice(info).ok()?;
    info.version.parse().ok()
}

/// What is allowed of a list.
pub(super) struct Allowed {
    all: Vec<Version>,
    allowed: HashSet<Version>,
}

impl Allowed {
    /// What to take in place of a blocked version.
    pub(super) fn nearest(&self, version: &Version) -> Instead {
        let nearest = nearest(version, &self.all, |other| self.allowed.contains(other));
        nearest.map_or(Instead::Nothing, Instead::Version)
    }
}

impl Case<'_> {
    /// The list without what is blocked.
    pub(super) async fn list(
        &self,
        request: &Request,
        module: &ModulePath,
    ) -> Result<Governed, Refusal> {
        let found = self.find(request).await?;
        let Found::Answer(known) = found else {
            return Ok(found.into());
        };
        let listed = self.judged(module, versions(&known.answer.body)).await;
        if listed.allowed.len() == listed.all.len() {
            return Ok(Found::Answer(known).into());
        }
        let kept = listed.all.iter().filter(|v| listed.allowed.contains(v));
        let body: String = kept.map(|version| format!("{version}\n")).collect();
        Ok(replaced(&known, body.as_bytes()).into())
    }

    /// The latest version, or the highest allowed one if that is blocked.
    pub(super) async fn latest(
        &self,
        request: &Request,
        module: &ModulePath,
    ) -> Result<Governed, Refusal> {
        let found = self.find(request).await?;
        let Found::Answer(known) = found else {
            return Ok(found.into());
        };
        let Some(version) = version_of(&known.answer.body) else {
            return Ok(Found::Answer(known).into());
        };
        let block = match self.decide(&asked(request), module, &version).await? {
            Decision::Allowed { warnings, .. } => {
                self.count_warnings(&warnings);
                let found = Found::Answer(known);
                return Ok(Governed { found, warnings });
            }
            Decision::Blocked(block) => block,
        };
        match self.highest_allowed(module).await {
            Some(info) => Ok(replaced(&known, &info).into()),
            None => {
                let asked = format!("{}, which is {version}", asked(request));
                Err(self.refusal(&block, asked, module, &version).await)
            }
        }
    }

    /// The `.info` of the highest allowed version that the list has.
    async fn highest_allowed(&self, module: &ModulePath) -> Option<Bytes> {
        let listed = self.allowed(module).await.ok()?;
        let highest = latest(&listed.all, |version| listed.allowed.contains(version))?;
        let info = Request::Info(module.clone(), highest);
        match self.find(&info).await {
            Ok(Found::Stored(stored)) => match stored.body {
                StoredBody::Small(info) => Some(info),
                _ => None,
            },
            _ => None,
        }
    }

    /// The version that a branch or commit stands for, if it is allowed.
    pub(super) async fn query(
        &self,
        request: &Request,
        module: &ModulePath,
    ) -> Result<Governed, Refusal> {
        let found = self.find(request).await?;
        let version = match &found {
            Found::Answer(known) => version_of(&known.answer.body),
            _ => None,
        };
        let Some(version) = version else {
            return Ok(found.into());
        };
        let asked = format!("{}, which is {version}", asked(request));
        match self.decide(&asked, module, &version).await? {
            Decision::Allowed { warnings, .. } => {
                self.count_warnings(&warnings);
                Ok(Governed { found, warnings })
            }
            Decision::Blocked(block) => Err(self.refusal(&block, asked, module, &version).await),
        }
    }

    /// What is allowed of a module's list.
    ///
    /// # Errors
    /// There is no list.
    pub(super) async fn allowed(&self, module: &ModulePath) -> Result<Allowed, Refusal> {
        let list = match self.find(&Request::List(module.clone())).await? {
            Found::Answer(known) => versions(&known.answer.body),
            _ => Vec::new(),
        };
        Ok(self.judged(module, list).await)
    }

    async fn judged(&self, module: &ModulePath, all: Vec<Version>) -> Allowed {
        let governor = self.governor;
        let private = governor.private.matches(module);
        let needs = |version: &Version| self.policy.needs(module, version, self.now, private);
        let mut unknown: Vec<Version> = Vec::new();
        for version in all.iter().filter(|version| needs(version).age) {
            if self.known_age(module, version).is_none() {
                unknown.push(version.clone());
            }
        }
        unknown.sort_by(|a, b| b.cmp(a));
        let found = self.ages(module, unknown).await;
        let notices = if self.policy.wants_notices() {
            Some(self.notices(module).await)
        } else {
            None
        };
        let is_allowed = |version: &&Version| {
            let known = || {
                let known = self.known_age(module, version);
                known.unwrap_or_else(|| self.age_so_far(module, version))
            };
            let mut facts = Facts {
                private,
                age: found.get(*version).copied().unwrap_or_else(known),
                ..Facts::at(self.now)
            };
            if let Some(said) = &notices {
                said.add_to(&mut facts, version);
            }
            self.policy.decide(module, version, &facts).is_allowed()
        };
        let allowed = all.iter().filter(is_allowed).cloned().collect();
        Allowed { all, allowed }
    }
}

/// The same answer with another body.
fn replaced(known: &Known, body: &[u8]) -> Found {
    Found::Answer(Known {
        answer: Arc::new(Answer {
            confirmed: known.answer.confirmed,
            ..Answer::new(body, None)
        }),
        changed: known.changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_version_is_not_in_a_list() {
        let found = versions(b"v1.0.0\njunk\nv2.0.0+incompatible \n\n");
        let found: Vec<&str> = found.iter().map(Version::as_str).collect();
        assert_eq!(found, ["v1.0.0", "v2.0.0+incompatible"]);
        assert_eq!(versions(b"\xff"), []);
        let version = version_of(br#"{"Version":"v1.0.0","Time":"x"}"#);
        assert_eq!(version.unwrap().as_str(), "v1.0.0");
        assert_eq!(version_of(b"{}"), None);
    }
}
