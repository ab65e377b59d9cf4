//! From a commit to the one version that names it for a module.
//!
//! A tag that is a version of the module names it; else a pseudo-version made from the highest
//! version tagged before it. What was asked for as a version is itself or nothing.

use std::collections::HashMap;

use modcdn_core::gomod::Notices;
use modcdn_core::goproxy::{Pseudo, REVISION_DIGITS, Version, tag};
use tokio::sync::OnceCell;

use super::layout::join;
use super::revision::Revision;
use super::versions::incompatible;
use super::{Code, MAX_GO_MOD};
use crate::git::fault::Fault;

/// What is found out once about a commit, if at all.
struct Subject<'a> {
    code: &'a Code<'a>,
    revision: &'a Revision,
    asked: Option<&'a str>,
    retracted: OnceCell<Option<Notices>>,
    /// Whether a go.mod is there, by its path.
    go_mods: tokio::sync::Mutex<HashMap<String, bool>>,
}

impl Code<'_> {
    /// The version of a commit. `asked` is what it was found by, unless that was the default branch.
    pub(super) async fn version_of(
        &self,
        revision: &Revision,
        asked: Option<&str>,
    ) -> Result<Version, Fault> {
        let subject = Subject {
            code: self,
            revision,
            asked,
            retracted: OnceCell::new(),
            go_mods: tokio::sync::Mutex::default(),
        };
        let version: Option<Version> = asked.and_then(|asked| asked.parse().ok());
        if let Some(pseudo) = version.filter(Version::is_pseudo) {
            // What costs little comes first: ancestry may need all history.
            let version = subject.checked(&pseudo).await?;
            self.check_pseudo(revision, &pseudo).await?;
            return Ok(version);
        }
        subject.version().await
    }
}

impl Subject<'_> {
    async fn version(&self) -> Result<Version, Fault> {
        if let Some(tag) = &self.revision.tag
            && let Some(Tag::Canonical(version)) = self.code.read_tag(tag)
            && let Ok(version) = self.checked(&version).await
        {
            return Ok(version);
        }
        let mut base = None;
        let mut canonical = Vec::new();
        for tag in &self.revision.tags {
            match self.code.read_tag(tag) {
                Some(Tag::Canonical(version)) if self.is_asked(&version) => {
                    return self.checked(&version).await;
                }
                Some(Tag::Canonical(version)) => canonical.push(version),
                // It may be one of several tags for the same version, and not the only commit.
                Some(Tag::Spelling(version)) if self.is_asked(&version) => base = Some(version),
                Some(Tag::Spelling(_)) | None => {}
            }
        }
        if let Some(version) = self.highest(canonical).await? {
            return self.checked(&version).await;
        }
        if base.is_none() {
            base = self.base().await?;
        }
        let pseudo = self.code.pseudo(self.revision, base.as_ref())?;
        self.checked(&pseudo).await
    }

    /// The highest version tagged on the commit or before it.
    async fn base(&self) -> Result<Option<Version>, Fault> {
        let own = self.highest_of(&self.revision.tags).await?;
        let prefix = self.code.layout.tag_prefix();
        let any = format!("{prefix}v");
        if own.is_some() || self.code.refs.tags(&any).next().is_none() {
            return Ok(own);
        }
        let code = self.code;
        let mut before = code
            .mirror
            .tags_before(&code.refs, &self.revision.commit)
            .await?;
        before.retain(|tag| code.refs.tag(tag).is_some());
        self.highest_of(&before).await
    }

    async fn highest_of(&self, tags: &[String]) -> Result<Option<Version>, Fault> {
        let read = tags.iter().filter_map(|tag| self.code.read_tag(tag));
        self.highest(read.map(Tag::version).collect()).await
    }

    async fn highest(&self, mut versions: Vec<Version>) -> Result<Option<Version>, Fault> {
        versions.sort_unstable_by(|a, b| b.cmp(a));
        for version in versions {
            if self.may_be(&version).await? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn is_asked(&self, version: &Version) -> bool {
        let asked = self.asked.and_then(tag::canonical);
        asked.is_some_and(|asked| asked == *version)
    }

    /// Whether a tagged version is one that the module may have, and isn't retracted.
    async fn may_be(&self, version: &Version) -> Result<bool, Fault> {
        let allowed = self.code.layout.allows(version) || self.may_be_incompatible(version).await?;
        Ok(allowed && !self.is_retracted(version).await?)
    }

    async fn is_retracted(&self, version: &Version) -> Result<bool, Fault> {
        let read = || async {
            match self.code.notices().await {
                Ok(notices) => Ok(notices),
                // As for the go command: what can't be read retracts nothing.
                Err(Fault::Nothing(_)) => Ok(None),
                Err(fault) => Err(fault),
            }
        };
        let notices = self.retracted.get_or_try_init(read).await?;
        let retraction = notices.as_ref().map(|n| n.retraction(version).is_some());
        Ok(retraction.unwrap_or_default())
    }

    /// Whether the commit may have versions marked `+incompatible`: neither its root nor the folder
    /// for the major version has a go.mod. (Who asks for the mark is spared the second question: old
    /// go commands did not ask it.)
    async fn may_be_incompatible(&self, version: &Version) -> Result<bool, Fault> {
        if !self.code.layout.may_be_incompatible() || self.has("go.mod").await? {
            return Ok(false);
        }
        if self
            .asked
            .is_some_and(|asked| asked.ends_with("+incompatible"))
        {
            return Ok(true);
        }
        let second = join(version.major(), "go.mod");
        Ok(!self.has(&second).await?)
    }

    async fn has(&self, path: &str) -> Result<bool, Fault> {
        let mut known = self.go_mods.lock().await;
        if let Some(is_there) = known.get(path) {
            return Ok(*is_there);
        }
        let commit = &self.revision.commit;
        let read = self.code.mirror.files(commit, &[path], MAX_GO_MOD).await?;
        let is_there = read.into_iter().flatten().next().is_some();
        known.insert(path.to_owned(), is_there);
        Ok(is_there)
    }

    /// A version that the commit has by a tag or by being one, marked if it must be, if the module
    /// may have it and it is what was asked for.
    async fn checked(&self, version: &Version) -> Result<Version, Fault> {
        self.code.folder(&self.revision.commit).await?;
        let asked: Option<Version> = self.asked.and_then(|asked| asked.parse().ok());
        let wants_mark = asked
            .as_ref()
            .filter(|asked| asked.plain() == version.plain())
            .is_some_and(Version::is_incompatible);
        let plain: Version = match version.plain().parse() {
            Ok(plain) => plain,
            Err(_) => version.clone(),
        };
        let fits = self.code.layout.allows(&plain);
        let marked = if fits || !self.may_be_incompatible(&plain).await? {
            None
        } else {
            incompatible(&plain)
        };
        if let Some(asked) = asked.filter(|asked| asked.plain() != plain.as_str()) {
            let given = marked.as_ref().unwrap_or(&plain);
            return Err(self.invalid(&format!("{asked} is no tag; its commit is {given}")));
        }
        match (fits, marked) {
            (true, _) if wants_mark => Err(self.invalid(&format!(
                "+incompatible is not for {plain}: the module's path allows it as it is"
            ))),
            (true, _) => Ok(plain),
            (false, Some(marked)) => Ok(marked),
            (false, None) if self.code.layout.major.is_empty() => Err(self.invalid(&format!(
                "the module has a go.mod, so {plain} belongs to {}/{}",
                self.code.layout.prefix,
                plain.major()
            ))),
            (false, None) => Err(self.invalid(&format!(
                "{plain} does not have the major version that the module's path names"
            ))),
        }
    }

    fn invalid(&self, why: &str) -> Fault {
        Fault::Nothing(format!("{why} (in {})", self.code.remote()))
    }
}

/// What a tag says of the module's version.
enum Tag {
    /// Exactly a version.
    Canonical(Version),
    /// A version with something behind it.
    Spelling(Version),
}

impl Tag {
    fn version(self) -> Version {
        match self {
            Self::Canonical(version) | Self::Spelling(version) => version,
        }
    }
}

impl Code<'_> {
    /// What a tag says, if it is one of the module's.
    fn read_tag(&self, tag: &str) -> Option<Tag> {
        let name = tag.strip_prefix(&self.layout.tag_prefix())?;
        // Asked of the whole tag, as the go command does: in a folder such a tag counts.
        if tag::canonical(tag).is_some_and(|version| version.is_pseudo()) {
            return None;
        }
        let version = tag::canonical(name)?;
        if name == version.as_str() {
            return Some(Tag::Canonical(version));
        }
        name.starts_with(version.as_str())
            .then_some(Tag::Spelling(version))
    }

    fn pseudo(&self, revision: &Revision, base: Option<&Version>) -> Result<Version, Fault> {
        let major = match self.layout.path_major() {
            "" => "v0",
            major => major,
        };
        let digits = &revision.commit.as_str()[..REVISION_DIGITS];
        Version::pseudo(major, base, revision.time, digits)
            .ok_or_else(|| Fault::Nothing(format!("no version can name commit {digits}")))
    }

    /// What the go.mod of the highest release (or pre-release, where there is none) takes back.
    async fn notices(&self) -> Result<Option<Notices>, Fault> {
        let mut versions = self.versions().await?;
        versions.retain(|version| !version.is_incompatible());
        let release = versions.iter().rfind(|version| !version.is_prerelease());
        let Some(highest) = release.or(versions.last()) else {
            return Ok(None);
        };
        let revision = self.tagged(highest).await?;
        let folder = self.folder(&revision.commit).await?;
        let go_mod = folder.go_mod.unwrap_or_default();
        Ok(Notices::parse(&go_mod).ok())
    }

    /// A pseudo-version must be the one that its commit has, and come right after a version tagged
    /// before it: else a name could be made that outranks every release.
    async fn check_pseudo(&self, revision: &Revision, version: &Version) -> Result<(), Fault> {
        let invalid = |why: String| Fault::Nothing(format!("invalid pseudo-version: {why}"));
        let Some(parts) = Pseudo::of(version) else {
            return Ok(());
        };
        let digits = &revision.commit.as_str()[..REVISION_DIGITS];
        if parts.revision() != digits {
            return Err(invalid(format!("its commit is called {digits}")));
        }
        if parts.time() != Some(revision.time) {
            let time = revision.time.digits();
            return Err(invalid(format!("its commit is of {time}")));
        }
        let plain: Option<Version> = version.plain().parse().ok();
        let base = plain
            .as_ref()
            .and_then(Pseudo::of)
            .map(|parts| parts.base());
        let Some(base) = base.transpose().map_err(|why| invalid(why.to_string()))? else {
            return Ok(());
        };
        match base {
            None if self.layout.path_major().is_empty() && version.major() == "v1" => Err(invalid(
                "without a tag before it, it must be v0, not v1".to_owned(),
            )),
            None => Ok(()),
            Some(base) => self
                .check_base(revision, &base)
                .await
                .map_err(|fault| match fault {
                    Fault::Nothing(why) => invalid(why),
                    other => other,
                }),
        }
    }

    /// The base must be tagged on a commit before, and not on the commit itself.
    async fn check_base(&self, revision: &Revision, base: &Version) -> Result<(), Fault> {
        let prefix = self.layout.tag_prefix();
        let name_of = |tag: &str| tag.strip_prefix(&prefix).unwrap_or(tag).to_owned();
        if revision
            .tags
            .iter()
            .any(|tag| name_of(tag) == base.as_str())
        {
            let why = format!("its commit has the tag {base}, which is the version to take");
            return Err(Fault::Nothing(why));
        }
        let beginning = format!("{prefix}{base}");
        let mut tagged = None;
        for (name, commit) in self.refs.tags(&beginning) {
            if tag::canonical(&name_of(name)).as_ref() != Some(base) {
                continue;
            }
            tagged = Some(name);
            let commits = (&revision.commit, commit);
            if self
                .mirror
                .descends(&self.refs, commits.0, commits.1)
                .await?
            {
                return Ok(());
            }
        }
        Err(Fault::Nothing(match tagged {
            Some(tag) => format!("its commit does not come after the tag {tag}"),
            None => format!("there is no tag {base} before it"),
        }))
    }
}
