//! The versions that a module's tags make.

use modcdn_core::goproxy::{Version, tag};

use super::{Code, MAX_GO_MOD};
use crate::git::code::layout::Layout;
use crate::git::fault::Fault;
use crate::git::refs::Refs;

/// The versions of the tags, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tagged {
    /// Those that the path allows.
    compatible: Vec<Version>,
    /// v2 and later where the path says nothing of it, not yet marked `+incompatible`.
    later: Vec<Version>,
}

impl Code<'_> {
    /// All versions that have tags, as a list tells them.
    pub(super) async fn versions(&self) -> Result<Vec<Version>, Fault> {
        let Tagged {
            mut compatible,
            later,
        } = tagged(&self.refs, &self.layout);
        if later.is_empty() {
            return Ok(compatible);
        }
        if let Some(latest) = compatible.last()
            && self.has_go_mod(latest).await?
        {
            // Its author knows go.mod: later versions, if meant at all, are for another path.
            return Ok(compatible);
        }
        for same_major in later.chunk_by(|a, b| a.major() == b.major()) {
            if let Some(latest) = same_major.last()
                && !self.has_go_mod(latest).await?
            {
                compatible.extend(same_major.iter().filter_map(incompatible));
            }
        }
        Ok(compatible)
    }

    /// Whether the repository's root has a go.mod at this version's tag.
    async fn has_go_mod(&self, version: &Version) -> Result<bool, Fault> {
        let revision = self.tagged(version).await?;
        let files = self
            .mirror
            .files(&revision.commit, &["go.mod"], MAX_GO_MOD)
            .await?;
        Ok(files.into_iter().flatten().next().is_some())
    }
}

/// The version with its mark.
pub(super) fn incompatible(version: &Version) -> Option<Version> {
    format!("{version}+incompatible").parse().ok()
}

/// Only canonical tags are versions; what looks like a pseudo-version is never a tag's.
fn tagged(refs: &Refs, layout: &Layout) -> Tagged {
    let mut all = Tagged::default();
    if !layout.has_tags() {
        return all;
    }
    let prefix = layout.tag_prefix();
    for (name, _) in refs.tags(&prefix) {
        let name = &name[prefix.len()..];
        let version = tag::canonical(name).filter(|v| v.as_str() == name && !v.is_pseudo());
        let Some(version) = version else {
            continue;
        };
        if layout.allows(&version) {
            all.compatible.push(version);
        } else if layout.may_be_incompatible() {
            all.later.push(version);
        }
    }
    all.compatible.sort();
    all.later.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::discovery::Root;

    fn versions(module: &str, root: &str, tags: &[&str]) -> (Vec<String>, Vec<String>) {
        let commit = "a".repeat(40);
        let lines: Vec<String> = tags
            .iter()
            .map(|tag| format!("{commit}\trefs/tags/{tag}\n"))
            .collect();
        let root = Root {
            path: root.to_owned(),
            url: "https://git.example/x".parse().unwrap(),
            folder: String::new(),
        };
        let layout = Layout::of(&module.parse().unwrap(), &root).unwrap();
        let Tagged { compatible, later } = tagged(&Refs::parse(&lines.concat()), &layout);
        let texts = |all: Vec<Version>| all.iter().map(ToString::to_string).collect();
        (texts(compatible), texts(later))
    }

    #[test]
    fn tags_are_versions_of_the_module_they_name() {
        let tags = [
            "v1.0.0",
            "v1.10.0",
            "v1.2.0",
            "v1.2.0-rc.1",
            "v2.0.0",
            "v1",
            "v1.2",
            "v1.3.0+meta",
            "v0.0.0-20191109021931-daa7c04131f5",
            "sub/v1.0.1",
            "sub/v2.0.1",
            "release",
        ];
        let (root, later) = versions("a.example/x", "a.example/x", &tags);
        assert_eq!(root, ["v1.0.0", "v1.2.0-rc.1", "v1.2.0", "v1.10.0"]);
        assert_eq!(later, ["v2.0.0"]);
        let (second, later) = versions("a.example/x/v2", "a.example/x", &tags);
        assert_eq!((second, later.len()), (vec!["v2.0.0".to_owned()], 0));
        let (sub, later) = versions("a.example/x/sub", "a.example/x", &tags);
        assert_eq!((sub, later.len()), (vec!["v1.0.1".to_owned()], 0));
        let (sub, _) = versions("a.example/x/sub/v2", "a.example/x", &tags);
        assert_eq!(sub, ["v2.0.1"]);
        let (unstable, _) = versions("gopkg.in/x.v2-unstable", "gopkg.in/x.v2-unstable", &tags);
        assert_eq!(unstable.len(), 0);
    }
}
