//! One commit for all files of a version.
//!
//! A tag can move between two questions, and a version must not be made of two commits. So its `.info`
//! comes first, and the commit that it names is the one of the `.mod` and the `.zip`, wherever the tag leads by
//! then. A pseudo-version names its commit itself.

use modcdn_core::goproxy::Request;
use serde::Deserialize;

use super::refs::Commit;

/// What the files of a version are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// The commit that its `.info` names.
    Commit(Commit),
    /// No `.info` names one: what its tag leads to.
    Tag,
}

impl Pin {
    /// What an `.info` says of it.
    pub(crate) fn of(info: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Info {
            #[serde(rename = "Origin")]
            origin: Option<Origin>,
        }
        #[derive(Deserialize)]
        struct Origin {
            #[serde(rename = "VCS", default)]
            vcs: String,
            #[serde(rename = "Hash", default)]
            hash: String,
        }
        let info: Option<Info> = serde_json::from_slice(info).ok();
        let origin = info.and_then(|info| info.origin);
        let commit = origin
            .filter(|origin| origin.vcs == "git")
            .and_then(|origin| Commit::new(&origin.hash));
        commit.map_or(Self::Tag, Self::Commit)
    }

    pub(super) fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::Tag => None,
        }
    }
}

/// Whether this is a file that may only be made from the commit that the version's `.info` names.
pub(crate) fn must_pin(request: &Request) -> bool {
    match request {
        Request::Mod(_, version) | Request::Zip(_, version) => !version.is_pseudo(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_names_a_commit_of_git_or_none() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let named = format!(r#"{{"Version":"v1.0.0","Origin":{{"VCS":"git","Hash":"{commit}"}}}}"#);
        let pin = Pin::of(named.as_bytes());
        assert_eq!(pin.commit().map(Commit::as_str), Some(commit));
        for other in [
            named.replace("git", "hg"),
            named.replace("0123", "0X"),
            r#"{"Version":"v1.0.0","Origin":{"VCS":"git","Ref":"refs/tags/v1.0.0"}}"#.to_owned(),
            r#"{"Version":"v1.0.0"}"#.to_owned(),
            "{".to_owned(),
        ] {
            assert_eq!(Pin::of(other.as_bytes()), Pin::Tag, "{other}");
        }
    }

    #[test]
    fn what_a_version_has_beside_its_info_is_pinned() {
        let must = |path: &str| must_pin(&Request::parse(path).unwrap());
        assert!(must("/a.example/m/@v/v1.0.0.mod") && must("/a.example/m/@v/v1.0.0.zip"));
        for free in [
            "/a.example/m/@v/v1.0.0.info",
            "/a.example/m/@v/list",
            "/a.example/m/@v/v0.0.0-20191109021931-daa7c04131f5.zip",
        ] {
            assert!(!must(free), "{free}");
        }
    }
}
