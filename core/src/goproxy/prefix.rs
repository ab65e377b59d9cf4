//! Where a mount of modules begins: `/`, `/team-a/`, `/eu/team-a/`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How long a prefix may be, in bytes.
const MAX_PREFIX: usize = 128;

/// The path prefix of a mount of modules: `/`, or elements of lower-case letters, digits, `-` and
/// `_`, with a slash before and after each.
///
/// No element has a dot, so none is a module path's first; none is `sumdb`, and none begins with
/// `-`, which is how paths of our own begin. So the objects of two mounts never share a path, nor a
/// folder of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(Box<str>);

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no mount's prefix: write / or /team-a/, elements of a-z, 0-9, - and _ that begin \
     with a letter or digit and aren't sumdb, at most {MAX_PREFIX} bytes"
)]
pub struct PrefixError(String);

impl Prefix {
    /// `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// With the slashes at both ends.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// What goes before a mount's own path, which begins with a slash: `/team-a`, nothing for `/`.
    #[must_use]
    pub fn before(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }

    /// What lies below the root: `team-a`, nothing for `/`. Fit to be a folder's path.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.before().trim_start_matches('/')
    }

    /// The path below this prefix, with a slash before it; `None` if it lies elsewhere. A prefix
    /// ends with a slash, so whole elements are compared.
    #[must_use]
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.starts_with(self.as_str())
            .then(|| &path[self.0.len() - 1..])
    }

    /// Takes a path apart: as much of it as could be a mount's prefix, without the slash at its end,
    /// and the rest with the slash at its beginning. Of a request's path in any mount it is that
    /// mount, for neither a module path nor `sumdb` could be part of a prefix.
    #[must_use]
    pub fn split(path: &str) -> (&str, &str) {
        let mut end = 0;
        while let Some(rest) = path[end..].strip_prefix('/')
            && let Some((element, _)) = rest.split_once('/')
            && is_element(element)
        {
            end += 1 + element.len();
        }
        path.split_at(end)
    }

    /// Which of the prefixes a path lies below, and what is left of it: the longest counts.
    #[must_use]
    pub fn longest<'a, 'p>(
        prefixes: impl IntoIterator<Item = &'p Prefix>,
        path: &'a str,
    ) -> Option<(usize, &'a str)> {
        let fitting = prefixes
            .into_iter()
            .enumerate()
            .filter_map(|(at, prefix)| Some((at, prefix.rest(path)?)));
        fitting.min_by_key(|(_, rest)| rest.len())
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let is_root = text == "/";
        let elements = text
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        let fits = elements.is_some_and(|elements| elements.split('/').all(is_element));
        if text.len() <= MAX_PREFIX && (is_root || fits) {
            Ok(Self(text.into()))
        } else {
            Err(PrefixError(text.chars().take(2 * MAX_PREFIX).collect()))
        }
    }
}

fn is_element(element: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = element.bytes();
    bytes.next().is_some_and(plain)
        && bytes.all(|byte| plain(byte) || matches!(byte, b'-' | b'_'))
        && element != "sumdb"
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goproxy::Request;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_are_taken_and_printed_as_they_are() {
        for (text, before, folder) in [
            ("/", "", ""),
            ("/team-a/", "/team-a", "team-a"),
            ("/eu/team_b2/", "/eu/team_b2", "eu/team_b2"),
        ] {
            let prefix = prefix(text);
            assert_eq!(prefix.to_string(), text);
            assert_eq!((prefix.before(), prefix.folder()), (before, folder));
        }
    }

    #[test]
    fn what_could_be_a_module_or_ours_is_no_prefix() {
        let long = format!("/{}/", "a".repeat(MAX_PREFIX));
        for text in [
            "",
            "team-a",
            "/team-a",
            "team-a/",
            "//",
            "/a//b/",
            "/a.example/",
            "/team-a/b.example/",
            "/sumdb/",
            "/a/sumdb/",
            "/-/",
            "/-a/",
            "/_a/",
            "/Team/",
            "/a b/",
            "/a%20/",
            "/../",
            "/é/",
            &long,
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_prefix_of_whole_elements_counts() {
        let prefixes = ["/", "/team/", "/team/b/", "/team-a/"].map(prefix);
        for (path, expected) in [
            ("/x.example/@v/list", Some((0, "/x.example/@v/list"))),
            ("/team/x.example/@v/list", Some((1, "/x.example/@v/list"))),
            ("/team/b/x.example/@v/list", Some((2, "/x.example/@v/list"))),
            ("/team-a/x", Some((3, "/x"))),
            ("/team-ab/x", Some((0, "/team-ab/x"))),
            ("/team", Some((0, "/team"))),
            ("/team/", Some((1, "/"))),
            ("/%74eam/x", Some((0, "/%74eam/x"))),
            ("", None),
        ] {
            assert_eq!(Prefix::longest(&prefixes, path), expected, "{path}");
        }
        assert_eq!(Prefix::longest(&prefixes[1..], "/x.example/@v/list"), None);
    }

    #[test]
    fn a_path_is_taken_apart_at_its_mount() {
        for (path, expected) in [
            ("/x.example/@v/list", ("", "/x.example/@v/list")),
            (
                "/team-a/x.example/@v/list",
                ("/team-a", "/x.example/@v/list"),
            ),
            (
                "/eu/b/sumdb/x.example/latest",
                ("/eu/b", "/sumdb/x.example/latest"),
            ),
            ("/sumdb/x.example/latest", ("", "/sumdb/x.example/latest")),
            ("/team-a/", ("/team-a", "/")),
            ("/team-a", ("", "/team-a")),
            ("/-/healthz", ("", "/-/healthz")),
            ("//a/b", ("", "//a/b")),
            ("", ("", "")),
        ] {
            assert_eq!(Prefix::split(path), expected, "{path}");
        }
    }

    #[test]
    fn no_path_below_a_prefix_is_a_request_by_itself() {
        for text in ["/team-a/", "/eu/team-b/"] {
            let path = format!("{}/x.example/@v/list", prefix(text).before());
            assert!(Request::parse(&path).is_err());
        }
    }
}
