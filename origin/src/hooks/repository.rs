//! From a repository's URL to the paths of its modules. Pure.
//!
//! A module's path is the repository's host and path, unless the configuration says something else; a
//! repository that goes by several URLs (web, https, ssh) has modules by each of them. Where a forge
//! doesn't say where a repository begins, its modules' paths have `.git` in them, so both are meant.

use reqwest::Url;

use crate::changes::Below;
use crate::config::{Repository, UrlPrefix};

/// Where a repository is, without scheme, credentials and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// In lower case.
    host: String,
    /// With a slash before each element, without `.git`; empty for a whole host.
    path: String,
}

impl Location {
    /// Of `https://host[:port]/path[.git]`, `ssh://git@host/path` or `git@host:path`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, path) = match Url::parse(text) {
            Ok(url) => (url.host_str()?.to_owned(), url.path().to_owned()),
            Err(_) => {
                let (host, path) = text.split_once(':')?;
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                (host.to_owned(), path.to_owned())
            }
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let slash = if path.is_empty() { "" } else { "/" };
        Some(Self {
            host: host.to_ascii_lowercase(),
            path: format!("{slash}{path}"),
        })
    }

    /// The paths of the modules that are there.
    pub(super) fn modules(&self, config: &[Repository]) -> Vec<Below> {
        let fitting = config
            .iter()
            .filter_map(|one| Some((one.module.as_str(), self.rest(&one.url)?)));
        let closest = fitting.min_by_key(|(_, rest)| rest.len());
        let (begin, rest) = closest.unwrap_or((&self.host, &self.path));
        let below = Below::path(&format!("{begin}{rest}"));
        let both = below.map(|below| [below.with(".git"), below]);
        both.into_iter().flatten().collect()
    }

    /// What is left of the path at or below a URL.
    fn rest(&self, url: &UrlPrefix) -> Option<&str> {
        let known = Self::parse(&url.to_string())?;
        let rest = self.path.strip_prefix(&known.path)?;
        let fits = known.host == self.host && (rest.is_empty() || rest.starts_with('/'));
        fits.then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn modules(url: &str, config: &str) -> Vec<String> {
        let config: Vec<Repository> = serde_yaml::from_str(config).unwrap();
        let found = Location::parse(url).map(|location| location.modules(&config));
        let found = found.unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_repository_is_its_host_and_path() {
        for (url, module) in [
            ("https://github.com/Acme/lib", "github.com/!acme/lib"),
            ("https://GitHub.com/acme/lib.git", "github.com/acme/lib"),
            ("https://me:pw@git.example:8443/a/b/c/", "git.example/a/b/c"),
            ("ssh://git@git.example:2222/a/b.git", "git.example/a/b"),
            ("git@git.example:a/b.git", "git.example/a/b"),
            ("git://git.example/a/b", "git.example/a/b"),
        ] {
            let expected = [format!("{module}.git"), module.to_owned()];
            assert_eq!(modules(url, "[]"), expected, "{url}");
        }
        for url in [
            "",
            "x",
            "localhost:a/b",
            "https://host/x",
            "file:///x/y",
            "https://a.b/ä b",
        ] {
            assert_eq!(modules(url, "[]"), [""; 0], "{url}");
        }
    }

    #[test]
    fn the_configuration_says_what_is_elsewhere() {
        let config = "
            - {url: 'https://git.example', module: corp.example}
            - {url: 'https://git.example/platform/go', module: go.corp.example}
            - {url: 'https://git.example/platform/go/lib', module: corp.example/the/lib}";
        for (url, module) in [
            ("https://git.example/a/b.git", "corp.example/a/b"),
            (
                "ssh://git@git.example/platform/go/x.git",
                "go.corp.example/x",
            ),
            (
                "https://git.example/platform/gopher",
                "corp.example/platform/gopher",
            ),
            (
                "https://git.example/platform/go/lib",
                "corp.example/the/lib",
            ),
            ("https://other.example/a", "other.example/a"),
        ] {
            assert_eq!(modules(url, config)[1], module, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics_and_what_comes_of_it_is_a_path(url in ".{0,60}") {
            for module in modules(&url, "[]") {
                prop_assert!(module.contains('.') && !module.starts_with('/'));
                prop_assert!(!module.contains("//") && !module.contains(','));
            }
        }
    }
}
