//! From what was asked (a version, branch, tag or the beginning of a commit's name) to a commit.
//!
//! Where a text can mean several things, a tag comes before a branch, a branch before a commit.

use modcdn_core::goproxy::{Pseudo, Stamp, Version, tag};
use modcdn_core::refusal::Reason;

use super::Code;
use crate::git::fault::Fault;
use crate::git::refs::{Commit, is_hex};

/// Shorter beginnings of names are not taken for commits.
const LEAST_DIGITS: usize = 7;

/// A commit, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) commit: Commit,
    pub(super) time: Stamp,
    /// All its tags, in the order of their names.
    pub(super) tags: Vec<String>,
    /// The tag that was asked for.
    pub(super) tag: Option<String>,
    /// The full name of the tag or branch that was asked for.
    pub(super) reference: Option<String>,
}

impl Code<'_> {
    /// The commit that a version, or a query of a person, means.
    pub(super) async fn revision(&self, asked: &str) -> Result<Revision, Fault> {
        self.find(&self.name(asked)).await
    }

    /// What the default branch leads to.
    pub(super) async fn head(&self) -> Result<Revision, Fault> {
        if self.refs.head().is_none() {
            return Err(Fault::Nothing(format!("{} has no commits", self.remote())));
        }
        self.find("HEAD").await
    }

    /// The tag of a version; a branch or a commit of its name doesn't count.
    pub(super) async fn tagged(&self, version: &Version) -> Result<Revision, Fault> {
        let tag = self.name(version.as_str());
        if self.refs.tag(&tag).is_none() {
            return Err(self.unknown(&tag));
        }
        self.find(&tag).await
    }

    /// The commit that a version's `.info` names. Where the tag leads now doesn't matter, but the
    /// repository must still have it.
    pub(super) async fn named(
        &self,
        version: &Version,
        commit: &Commit,
    ) -> Result<Revision, Fault> {
        match self.commit(commit.as_str()).await? {
            Some(commit) => self.at(&commit, None, None).await,
            None => Err(Fault::failed(
                Reason::GitFailed,
                format!(
                    "{version} was commit {commit} when its .info was made, and {} has no such commit any more",
                    self.remote()
                ),
            )
            .hint("whoever moved the tag must publish a new version")),
        }
    }

    /// The name in the repository: of a version its tag, of a pseudo-version its commit.
    fn name(&self, asked: &str) -> String {
        let Some(version) = tag::canonical(asked) else {
            return asked.to_owned();
        };
        if let Some(pseudo) = Pseudo::of(&version) {
            return pseudo.revision().to_owned();
        }
        let plain = asked.strip_suffix("+incompatible").unwrap_or(asked);
        format!("{}{plain}", self.layout.tag_prefix())
    }

    async fn find(&self, name: &str) -> Result<Revision, Fault> {
        let refs = &self.refs;
        if let Some(commit) = refs.tag(name) {
            let tag = Some(name.to_owned());
            return self
                .at(commit, tag, Some(format!("refs/tags/{name}")))
                .await;
        }
        if let Some(commit) = refs.branch(name) {
            return self
                .at(commit, None, Some(format!("refs/heads/{name}")))
                .await;
        }
        if let ("HEAD", Some(commit)) = (name, refs.head()) {
            return self.at(commit, None, Some(name.to_owned())).await;
        }
        match self.commit(name).await? {
            Some(commit) => self.at(&commit, None, None).await,
            None => Err(self.unknown(name)),
        }
    }

    /// The commit whose name begins so.
    async fn commit(&self, digits: &str) -> Result<Option<Commit>, Fault> {
        let Some((_, any)) = self.refs.iter().next() else {
            return Ok(None);
        };
        let possible = (LEAST_DIGITS..=any.as_str().len()).contains(&digits.len());
        if !possible || !is_hex(digits) {
            return Ok(None);
        }
        let commits = self.refs.iter().map(|(_, commit)| commit);
        let mut named = commits.filter(|commit| commit.as_str().starts_with(digits));
        let Some(first) = named.next() else {
            return self.mirror.find(&self.refs, digits).await;
        };
        if named.any(|other| other != first) {
            return Err(Fault::Nothing(format!(
                "several commits of {} begin with {digits}",
                self.remote()
            )));
        }
        Ok(Some(first.clone()))
    }

    async fn at(
        &self,
        commit: &Commit,
        tag: Option<String>,
        reference: Option<String>,
    ) -> Result<Revision, Fault> {
        let Some(time) = self.mirror.time(&self.refs, commit).await? else {
            let name = reference.unwrap_or_else(|| commit.to_string());
            return Err(Fault::Nothing(format!(
                "{name} of {} is no commit",
                self.remote()
            )));
        };
        Ok(Revision {
            commit: commit.clone(),
            time,
            tags: self.refs.tags_of(commit).map(str::to_owned).collect(),
            tag,
            reference,
        })
    }

    fn unknown(&self, name: &str) -> Fault {
        Fault::Nothing(format!("unknown revision {name} in {}", self.remote()))
    }
}
