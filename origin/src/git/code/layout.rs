//! Where in a repository a module is. Pure.
//!
//! | module | repository | folder | major | second folder |
//! |---|---|---|---|---|
//! | `a.example/x` | `a.example/x` | | | |
//! | `a.example/x/sub/v2` | `a.example/x` | `sub` | `/v2` | `sub/v2` |
//! | `a.example/x/v2` | `a.example/x/v2` | | `/v2` | |
//! | `gopkg.in/x.v2` | `gopkg.in/x.v2` | | `.v2` | |
//!
//! A module of a folder is tagged with the folder before the version: `sub/v2.1.0`.

use modcdn_core::goproxy::{ModulePath, Version, split_major};

use crate::git::discovery::Root;
use crate::git::fault::Fault;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) module: ModulePath,
    /// Of the repository; empty for its root.
    pub(super) folder: String,
    /// `/v2`, `.v2`, `.v2-unstable`, or empty.
    pub(super) major: String,
    /// The module's path without what it says of its major version.
    pub(super) prefix: String,
    /// The second folder where the module may be; its go.mod decides.
    pub(super) major_folder: Option<String>,
}

impl Layout {
    pub(super) fn of(module: &ModulePath, root: &Root) -> Result<Self, Fault> {
        let path = module.as_str();
        let (prefix, major) = split_major(path).unwrap_or((path, ""));
        let is_root = root.path == path;
        let prefix = if is_root { path } else { prefix };
        let Some(below) = prefix.strip_prefix(root.path.as_str()) else {
            return Err(Fault::Nothing(format!(
                "the repository of {} can't contain {path}",
                root.path
            )));
        };
        let folder = join(below, &root.folder);
        let may_be_below = !major.is_empty() && !is_root && !major.starts_with('.');
        Ok(Self {
            module: module.clone(),
            major_folder: may_be_below.then(|| join(&folder, &major[1..])),
            folder,
            major: major.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// What stands before the version in the module's tags.
    pub(super) fn tag_prefix(&self) -> String {
        if self.folder.is_empty() {
            return String::new();
        }
        format!("{}/", self.folder)
    }

    /// The major version that the path asks for; empty for v0 and v1.
    pub(super) fn path_major(&self) -> &str {
        let major = self.major.get(1..).unwrap_or_default();
        major.strip_suffix("-unstable").unwrap_or(major)
    }

    /// Whether `+incompatible` versions are possible at all: at a repository's root, of a path that
    /// says nothing of its major version.
    pub(super) fn may_be_incompatible(&self) -> bool {
        self.folder.is_empty() && self.major.is_empty()
    }

    /// `gopkg.in/x.v2-unstable` has no tags: those belong to `gopkg.in/x.v2`.
    pub(super) fn has_tags(&self) -> bool {
        !(self.module.as_str().starts_with("gopkg.in/") && self.major.ends_with("-unstable"))
    }

    /// Whether a path of this layout may have the version (marked or not).
    pub(super) fn allows(&self, version: &Version) -> bool {
        self.module.allows(version)
    }

    /// Whether a go.mod that declares `declared` may be the module's, as far as the major version
    /// goes: forks declare another path, and are used by `replace`.
    pub(super) fn fits(&self, declared: &str) -> bool {
        if declared.is_empty() {
            return false;
        }
        let Ok((_, theirs)) = split_major(declared) else {
            return false;
        };
        if self.major.is_empty() {
            let theirs = theirs.get(1..).unwrap_or_default();
            let theirs = theirs.strip_suffix("-unstable").unwrap_or(theirs);
            return matches!(theirs, "" | "v0" | "v1");
        }
        !theirs.is_empty() && self.major[1..] == theirs[1..]
    }

    /// The go command once took any `gopkg.in` path for a module without a major version, and
    /// still does.
    pub(super) fn fits_by_mistake(&self, declared: &str) -> bool {
        self.major.is_empty() && declared.starts_with("gopkg.in/")
    }
}

/// Two relative paths, one below the other, without needless elements.
pub(super) fn join(above: &str, below: &str) -> String {
    let elements = above.split('/').chain(below.split('/'));
    let kept: Vec<&str> = elements.filter(|e| !matches!(*e, "" | ".")).collect();
    kept.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(module: &str, root: &str, folder: &str) -> Result<Layout, Fault> {
        let root = Root {
            path: root.to_owned(),
            url: "https://git.example/x".parse().unwrap(),
            folder: folder.to_owned(),
        };
        Layout::of(&module.parse().unwrap(), &root)
    }

    #[test]
    fn paths_lead_to_folders() {
        for (module, root, below, folder, major, second) in [
            ("a.example/x", "a.example/x", "", "", "", None),
            ("a.example/x/v2", "a.example/x", "", "", "/v2", Some("v2")),
            (
                "a.example/x/sub/v2",
                "a.example/x",
                "",
                "sub",
                "/v2",
                Some("sub/v2"),
            ),
            ("a.example/x/v2", "a.example/x/v2", "", "", "/v2", None),
            ("gopkg.in/x.v2", "gopkg.in/x.v2", "", "", ".v2", None),
            (
                "a.example/x/v2",
                "a.example/x",
                "go/dir",
                "go/dir",
                "/v2",
                Some("go/dir/v2"),
            ),
            ("a.example/x/sub", "a.example/x", "./go", "sub/go", "", None),
        ] {
            let layout = layout(module, root, below).unwrap();
            assert_eq!(layout.folder, folder, "{module}");
            assert_eq!(layout.major, major, "{module}");
            assert_eq!(layout.major_folder.as_deref(), second, "{module}");
        }
        assert!(layout("a.example/x/v2", "a.example/x/v", "").is_err());
    }

    #[test]
    fn a_declared_path_must_have_the_paths_major_version() {
        let fits = |module: &str, root: &str, declared: &str| {
            layout(module, root, "").unwrap().fits(declared)
        };
        for (module, declared) in [
            ("a.example/x", "a.example/x"),
            ("a.example/x", "b.example/fork"),
            ("a.example/x", "gopkg.in/x.v1"),
            ("a.example/x/v2", "b.example/fork/v2"),
            ("gopkg.in/x.v2", "gopkg.in/y.v2"),
            ("a.example/x/v2", "gopkg.in/y.v2"),
        ] {
            assert!(fits(module, module, declared), "{module} {declared}");
        }
        for (module, declared) in [
            ("a.example/x", "a.example/x/v2"),
            ("a.example/x", ""),
            ("a.example/x", "a.example/x/v1"),
            ("a.example/x/v2", "a.example/x"),
            ("a.example/x/v2", "a.example/x/v3"),
            ("gopkg.in/x.v1", "a.example/x"),
        ] {
            assert!(!fits(module, module, declared), "{module} {declared}");
        }
        let plain = layout("a.example/x", "a.example/x", "").unwrap();
        assert!(plain.fits_by_mistake("gopkg.in/y.v2") && !plain.fits("gopkg.in/y.v2"));
    }

    #[test]
    fn unstable_modules_have_no_tags() {
        let unstable = layout("gopkg.in/x.v2-unstable", "gopkg.in/x.v2-unstable", "").unwrap();
        assert_eq!((unstable.has_tags(), unstable.path_major()), (false, "v2"));
    }
}
