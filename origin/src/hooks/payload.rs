//! What a call says has changed. Pure.
//!
//! Of a forge's event only the repository's URLs count, and whether it can concern versions: any push
//! and any change of a tag can, of whatever branch, for queries name branches and `@latest` of an untagged
//! module is a commit. Unknown fields are passed over, as forges add them at will; of a call of our own
//! they are refused.

use modcdn_core::goproxy::{ModulePath, Prefix, Version};
use serde::Deserialize;

use super::Source;
use super::repository::Location;
use crate::changes::Below;
use crate::config::Repository;

/// What a call asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// These have changed, in one mount or in all.
    Changed(Option<Prefix>, Vec<Below>),
    /// Nothing that concerns modules.
    Nothing,
}

/// A call of our own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    module: String,
    version: Option<String>,
    mount: Option<Prefix>,
}

/// A forge's event, as far as it is of use.
#[derive(Deserialize)]
struct Event {
    /// Of GitLab.
    project: Option<Urls>,
    repository: Option<Urls>,
}

/// By what URLs a repository goes. A field that is no text is as if it weren't there.
#[derive(Deserialize)]
#[serde(transparent)]
struct Urls(serde_json::Map<String, serde_json::Value>);

/// Where forges say where a repository is.
const URL_FIELDS: &[&str] = &[
    "html_url",
    "clone_url",
    "ssh_url",
    "web_url",
    "homepage",
    "git_http_url",
    "git_ssh_url",
];

impl Urls {
    fn locations(&self) -> impl Iterator<Item = Location> {
        let texts = URL_FIELDS
            .iter()
            .filter_map(|field| self.0.get(*field)?.as_str());
        texts.filter_map(Location::parse)
    }
}

/// Reads a body that was found to be genuine, in the words of `source`; `event` is its name for what
/// happened.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(
    source: Source,
    event: &str,
    body: &[u8],
    repositories: &[Repository],
) -> Result<Said, String> {
    if source == Source::Token {
        return read_call(body);
    }
    if !concerns_versions(source, event) {
        return Ok(Said::Nothing);
    }
    let event: Event =
        serde_json::from_slice(body).map_err(|error| format!("the event's JSON: {error}"))?;
    let urls = event.project.iter().chain(&event.repository);
    let mut changed: Vec<Below> = urls
        .flat_map(Urls::locations)
        .flat_map(|location| location.modules(repositories))
        .collect();
    changed.sort();
    changed.dedup();
    if changed.is_empty() {
        return Err("the event names no repository whose modules we could know".to_owned());
    }
    Ok(Said::Changed(None, changed))
}

fn concerns_versions(source: Source, event: &str) -> bool {
    match source {
        Source::Token => true,
        Source::Gitlab => matches!(event, "Push Hook" | "Tag Push Hook" | "System Hook"),
        Source::Github | Source::Gitea => {
            matches!(event, "push" | "create" | "delete" | "release")
        }
    }
}

fn read_call(body: &[u8]) -> Result<Said, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!("expected {{\"module\": \"example.com/m\", \"version\": \"v1.2.3\"}}: {error}")
    };
    let call: Call = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    let module: ModulePath = call.module.parse().map_err(|error| wrong(&error))?;
    if let Some(version) = &call.version {
        let version: Version = version.parse().map_err(|error| wrong(&error))?;
        if !module.allows(&version) {
            return Err(wrong(&"the module can't have that version"));
        }
    }
    Ok(Said::Changed(call.mount, vec![Below::module(&module)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(source: Source, event: &str, body: &str) -> Result<Vec<String>, String> {
        match read(source, event, body.as_bytes(), &[])? {
            Said::Changed(_, changed) => Ok(changed.iter().map(ToString::to_string).collect()),
            Said::Nothing => Ok(Vec::new()),
        }
    }

    #[test]
    fn a_call_of_our_own_names_a_module_and_no_nonsense() {
        let call = |body: &str| said(Source::Token, "", body);
        for body in [
            r#"{"module": "example.com/M"}"#,
            r#"{"module": "example.com/M", "version": "v1.2.3"}"#,
            r#"{"module": "example.com/M", "mount": "/team-a/"}"#,
        ] {
            assert_eq!(call(body).unwrap(), ["example.com/!m"], "{body}");
        }
        let mounted = r#"{"module": "example.com/m", "mount": "/team-a/"}"#;
        let Said::Changed(mount, _) = read_call(mounted.as_bytes()).unwrap() else {
            panic!("nothing")
        };
        assert_eq!(mount, Some("/team-a/".parse().unwrap()));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"module": "m"}"#,
            r#"{"module": "example.com/m", "version": "1.2.3"}"#,
            r#"{"module": "example.com/m", "version": "v2.0.0"}"#,
            r#"{"module": "example.com/m", "mount": "team-a"}"#,
            r#"{"module": "example.com/m", "modul": "x"}"#,
        ] {
            assert!(call(body).unwrap_err().contains("expected"), "{body}");
        }
    }

    #[test]
    fn forges_say_where_the_repository_is() {
        let github = r#"{"ref": "refs/tags/v1.0.0", "deleted": false, "repository": {
            "id": 1, "name": "lib", "html_url": "https://github.com/Acme/lib",
            "clone_url": "https://github.com/Acme/lib.git", "ssh_url": "git@github.com:Acme/lib.git"}}"#;
        let expected = ["github.com/!acme/lib", "github.com/!acme/lib.git"];
        for event in ["push", "create", "delete", "release"] {
            assert_eq!(said(Source::Github, event, github).unwrap(), expected);
        }
        let gitlab = r#"{"object_kind": "tag_push", "ref": "refs/tags/v1.0.0", "project": {
            "web_url": "https://git.example/group/sub/lib",
            "git_ssh_url": "git@ssh.git.example:group/sub/lib.git", "ci_config_path": null}}"#;
        let expected = [
            "git.example/group/sub/lib",
            "git.example/group/sub/lib.git",
            "ssh.git.example/group/sub/lib",
            "ssh.git.example/group/sub/lib.git",
        ];
        for event in ["Push Hook", "Tag Push Hook", "System Hook"] {
            assert_eq!(said(Source::Gitlab, event, gitlab).unwrap(), expected);
        }
        let gitea = r#"{"repository": {"html_url": "http://gitea.example:3000/a/b"}}"#;
        let expected = ["gitea.example/a/b", "gitea.example/a/b.git"];
        assert_eq!(said(Source::Gitea, "push", gitea).unwrap(), expected);
    }

    #[test]
    fn other_events_are_nothing_to_us_whatever_they_hold() {
        for (source, event) in [
            (Source::Github, "ping"),
            (Source::Github, "issues"),
            (Source::Gitlab, "Issue Hook"),
            (Source::Gitea, ""),
        ] {
            assert_eq!(said(source, event, "junk").unwrap(), [""; 0], "{event}");
        }
    }

    #[test]
    fn an_event_without_a_repository_is_refused() {
        for body in [
            "junk",
            "{}",
            r#"{"repository": {}}"#,
            r#"{"repository": {"html_url": 7, "clone_url": "x"}}"#,
            r#"{"repository": "https://github.com/a/b"}"#,
        ] {
            assert!(said(Source::Github, "push", body).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for source in Source::ALL {
                let _ = read(source, "push", &body, &[]);
                let _ = read(source, "Push Hook", &body, &[]);
            }
        }
    }
}
