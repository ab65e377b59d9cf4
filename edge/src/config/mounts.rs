//! The section `mounts`: which paths are modules, and which are an HTTP server's.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::goproxy::Prefix;
use serde::{Deserialize, Serialize};

use crate::engine::http::uri;
use crate::origin::Endpoint;

/// What lies below one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountConfig {
    /// Begins and ends with a slash. The longest one that fits a path counts. Of modules, a
    /// [`Prefix`]: no dots. The origin is asked for the whole path, prefix included.
    pub prefix: String,
    /// Modules, or plain HTTP.
    pub kind: MountKind,
    /// Of plain HTTP: `http://HOST[:PORT]` (HTTP/1.1) or `https://…` (HTTP/2 or HTTP/1.1 by ALPN).
    /// It is asked for the whole path, prefix included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The name in `Host` and in TLS, instead of the origin's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// PEM file of the authorities that may vouch for an https origin, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Whose rules hold below a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// GOPROXY's: the edge's own origin answers.
    Modules,
    /// Those of RFC 9110 and 9111: any HTTP server answers.
    Http,
}

/// Everything is modules.
#[must_use]
pub fn default_mounts() -> Vec<MountConfig> {
    let modules = MountConfig {
        prefix: "/".to_owned(),
        kind: MountKind::Modules,
        origin: None,
        host: None,
        ca: None,
    };
    vec![modules]
}

/// The plain HTTP mounts, in their order: their number is what requests name them by.
pub fn http_mounts(mounts: &[MountConfig]) -> impl Iterator<Item = &MountConfig> {
    mounts.iter().filter(|mount| mount.kind == MountKind::Http)
}

/// What is wrong with the mounts.
pub(super) fn problems(mounts: &[MountConfig]) -> Vec<Problem> {
    let mut found: Vec<Problem> = mounts.iter().filter_map(MountConfig::problem).collect();
    if mounts.is_empty() {
        found.push(Problem::new("mounts", "an edge needs a mount"));
    }
    for (at, mount) in mounts.iter().enumerate() {
        if mounts[..at]
            .iter()
            .any(|other| other.prefix == mount.prefix)
        {
            found.push(Problem::new(
                "mounts",
                format!("{} is mounted twice", mount.prefix),
            ));
        }
    }
    found
}

impl MountConfig {
    fn problem(&self) -> Option<Problem> {
        let message = self.prefix_problem().or_else(|| match self.kind {
            MountKind::Modules => self.modules_problem(),
            MountKind::Http => self.http_problem(),
        });
        message.map(|message| Problem::new("mounts", format!("{}: {message}", self.prefix)))
    }

    fn prefix_problem(&self) -> Option<String> {
        let prefix = self.prefix.as_str();
        let is_normal = uri::normal(prefix).is_ok_and(|normal| normal.as_str() == prefix);
        if !is_normal || !prefix.ends_with('/') || prefix.contains('?') {
            return Some("a prefix is a path in its normal form that ends with a slash".to_owned());
        }
        prefix
            .starts_with("/-/")
            .then(|| "what begins with /-/ is the edge's own".to_owned())
    }

    fn modules_problem(&self) -> Option<String> {
        let is_bare = self.origin.is_none() && self.host.is_none() && self.ca.is_none();
        if let Err(error) = self.prefix.parse::<Prefix>() {
            return Some(error.to_string());
        }
        (!is_bare).then(|| "modules come from the edge's own origin".to_owned())
    }

    fn http_problem(&self) -> Option<String> {
        let Some(origin) = &self.origin else {
            return Some("plain HTTP needs an origin".to_owned());
        };
        if let Err(error) = Endpoint::parse(origin) {
            return Some(format!("origin: {error}"));
        }
        let is_name = |host: &String| !host.is_empty() && !host.contains([':', '/', ' ', '@']);
        let named = self.host.as_ref().is_none_or(is_name);
        (!named).then(|| "host: a host is a name without scheme or port".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(yaml: &str) -> String {
        let mounts: Vec<MountConfig> = serde_yaml::from_str(yaml).unwrap();
        let messages = problems(&mounts).into_iter().map(|problem| problem.message);
        messages.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn mounts_that_make_sense_are_taken() {
        for yaml in [
            "[{prefix: /, kind: modules}]",
            "[{prefix: /, kind: http, origin: 'http://127.0.0.1:9000'}]",
            "[{prefix: /dl/, kind: http, origin: 'https://x.test', host: y.test, ca: /ca.pem},
              {prefix: /, kind: modules}]",
            "[{prefix: /team-a/, kind: modules}, {prefix: /eu/team-b/, kind: modules}]",
        ] {
            assert_eq!(said(yaml), "", "{yaml}");
        }
        assert_eq!(problems(&default_mounts()), []);
    }

    #[test]
    fn mounts_that_make_none_are_refused() {
        for (yaml, expected) in [
            ("[]", "needs a mount"),
            (
                "[{prefix: /a, kind: http, origin: 'http://x'}]",
                "ends with a slash",
            ),
            (
                "[{prefix: /a/../b/, kind: http, origin: 'http://x'}]",
                "normal form",
            ),
            (
                "[{prefix: /-/a/, kind: http, origin: 'http://x'}]",
                "the edge's own",
            ),
            ("[{prefix: /a/, kind: http}]", "needs an origin"),
            ("[{prefix: /a/, kind: http, origin: 'ftp://x'}]", "origin:"),
            (
                "[{prefix: /a/, kind: http, origin: 'http://x', host: 'y:1'}]",
                "host:",
            ),
            ("[{prefix: /a.b/, kind: modules}]", "no mount's prefix"),
            ("[{prefix: /sumdb/, kind: modules}]", "no mount's prefix"),
            (
                "[{prefix: /, kind: modules, origin: 'http://x'}]",
                "own origin",
            ),
            (
                "[{prefix: /, kind: modules}, {prefix: /, kind: modules}]",
                "twice",
            ),
        ] {
            assert!(said(yaml).contains(expected), "{yaml}: {}", said(yaml));
        }
    }
}
