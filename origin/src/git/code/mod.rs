//! A repository's commits as versions of a module: the go command's rules.
//!
//! - `layout`: which folder of the repository is the module's, which tags are;
//! - `revision`: from a version or query to a commit;
//! - `convert`: from a commit to the version that names it (`versions`: all that have tags);
//! - `folder`: where in a commit the module is, which its go.mod says (`declared`);
//! - `files`: the module's files, and the zip of them.
//!
//! What the repository doesn't have, and what it has but no module may have, is `Fault::Nothing`:
//! it was read, and this is its word.

mod convert;
mod declared;
mod files;
mod folder;
mod layout;
mod revision;
mod versions;

use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Version};
use serde::Serialize;

use self::layout::Layout;
use self::revision::Revision;
use super::discovery::Root;
use super::fault::Fault;
use super::mirror::Mirror;
use super::refs::{Commit, Refs};

/// As the go command.
const MAX_GO_MOD: u64 = 16 << 20;
const MAX_LICENSE: u64 = 16 << 20;

/// A module in a repository whose branches and tags are these.
pub(crate) struct Code<'a> {
    mirror: &'a Mirror,
    refs: Arc<Refs>,
    layout: Layout,
}

/// What an `.info` file holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    version: &'a str,
    time: String,
    origin: Origin<'a>,
}

/// Where a version comes from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Origin<'a> {
    #[serde(rename = "VCS")]
    vcs: &'static str,
    #[serde(rename = "URL")]
    url: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    subdir: &'a str,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "Ref")]
    reference: Option<&'a str>,
}

impl<'a> Code<'a> {
    /// # Errors
    /// If the repository can't have such a module.
    pub(crate) fn new(
        mirror: &'a Mirror,
        refs: Arc<Refs>,
        module: &ModulePath,
        root: &Root,
    ) -> Result<Self, Fault> {
        Ok(Self {
            mirror,
            refs,
            layout: Layout::of(module, root)?,
        })
    }

    /// The list of versions, a line each.
    pub(crate) async fn list(&self) -> Result<Bytes, Fault> {
        let versions = self.versions().await?;
        let lines: Vec<String> = versions.iter().map(|v| format!("{v}\n")).collect();
        Ok(lines.concat().into())
    }

    /// The `.info` of the default branch.
    pub(crate) async fn latest(&self) -> Result<Bytes, Fault> {
        let revision = self.head().await?;
        let version = self.version_of(&revision, None).await?;
        Ok(self.info(&revision, &version))
    }

    /// The `.info` of what a person typed.
    pub(crate) async fn query(&self, query: &str) -> Result<Bytes, Fault> {
        if query == "latest" {
            return self.latest().await;
        }
        let revision = self.revision(query).await?;
        let version = self.version_of(&revision, Some(query)).await?;
        Ok(self.info(&revision, &version))
    }

    /// The `.info` of a version.
    pub(crate) async fn version(&self, version: &Version) -> Result<Bytes, Fault> {
        let mut revision = self.revision(version.as_str()).await?;
        let found = self.version_of(&revision, Some(version.as_str())).await?;
        if version.is_pseudo() {
            // What branch leads to the commit today is no part of what never changes.
            revision.reference = None;
        }
        Ok(self.info(&revision, &found))
    }

    /// The go.mod of a version, from this commit if its `.info` names one.
    pub(crate) async fn go_mod(
        &self,
        version: &Version,
        named: Option<&Commit>,
    ) -> Result<Bytes, Fault> {
        let revision = self.fixed(version, named).await?;
        let folder = self.folder(&revision.commit).await?;
        let none = || format!("module {}\n", self.layout.module).into();
        Ok(folder.go_mod.unwrap_or_else(none))
    }

    /// The commit of a version, which a file of it never leaves: the one that is named, a tag's, or a
    /// pseudo-version's.
    async fn fixed(&self, version: &Version, named: Option<&Commit>) -> Result<Revision, Fault> {
        if let Some(commit) = named {
            return self.named(version, commit).await;
        }
        if !version.is_pseudo() {
            return self.tagged(version).await;
        }
        let revision = self.revision(version.as_str()).await?;
        self.version_of(&revision, Some(version.as_str())).await?;
        Ok(revision)
    }

    fn info(&self, revision: &Revision, version: &Version) -> Bytes {
        let info = Info {
            version: version.as_str(),
            time: revision.time.to_string(),
            origin: Origin {
                vcs: "git",
                url: self.remote(),
                subdir: &self.layout.folder,
                hash: revision.commit.as_str(),
                reference: revision.reference.as_deref(),
            },
        };
        serde_json::to_vec(&info)
            .expect("texts are always JSON")
            .into()
    }

    fn remote(&self) -> String {
        self.mirror.remote().told()
    }
}
