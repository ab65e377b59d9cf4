//! The configured places of repositories: `corp.example/*/*` → `ssh://git@git.corp.example/*/*`.
//!
//! A prefix is a module path in which whole elements may be `*`. It means the root of one repository
//! for each text that its stars can stand for; the address takes the same texts, in their order.

use std::fmt;
use std::str::FromStr;

use modcdn_core::goproxy::ModulePath;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::remote::RemoteUrl;

/// Where the repositories of some modules are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Raw", into = "Raw")]
pub struct Repository {
    prefix: Prefix,
    url: String,
}

/// As configuration has it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    prefix: Prefix,
    url: String,
}

/// A module path in which whole elements may be stars.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix(String);

/// Why a place can't be configured so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// No module path, whatever the stars stand for.
    #[error("{0:?}: a prefix is a module path in which whole elements may be `*`")]
    Prefix(String),
    /// The address has other stars than the prefix.
    #[error("{url:?} needs as many `*` as {prefix:?}: each takes what the prefix's stands for")]
    Stars {
        /// As configured.
        prefix: String,
        /// As configured.
        url: String,
    },
    /// Not a repository's address, whatever the stars stand for.
    #[error(transparent)]
    Url(#[from] super::remote::RemoteError),
}

impl Repository {
    /// The root and the address of the repository that the module is in, if it is one of these.
    #[must_use]
    pub fn of<'a>(&self, module: &'a ModulePath) -> Option<(&'a str, RemoteUrl)> {
        let module = module.as_str();
        let (mut len, mut url) = (0, self.url.clone());
        let mut elements = module.split('/');
        for wanted in self.prefix.0.split('/') {
            let element = elements.next()?;
            if wanted == "*" {
                // What was put in has no star: module paths don't.
                url = url.replacen('*', element, 1);
            } else if wanted != element {
                return None;
            }
            len += element.len() + 1;
        }
        // A star may stand for anything that module paths can have: no blank, no scheme, no user.
        Some((module.get(..len - 1)?, url.parse().ok()?))
    }

    /// How many elements it looks at: of two that fit, the longer one is meant.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.prefix.0.split('/').count()
    }
}

impl TryFrom<Raw> for Repository {
    type Error = RepositoryError;

    fn try_from(Raw { prefix, url }: Raw) -> Result<Self, RepositoryError> {
        let stars = |text: &str| text.matches('*').count();
        if stars(&prefix.0) != stars(&url) {
            let prefix = prefix.0;
            return Err(RepositoryError::Stars { prefix, url });
        }
        url.replace('*', "x").parse::<RemoteUrl>()?;
        Ok(Self { prefix, url })
    }
}

impl From<Repository> for Raw {
    fn from(Repository { prefix, url }: Repository) -> Self {
        Self { prefix, url }
    }
}

impl FromStr for Prefix {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self, RepositoryError> {
        let stars_are_elements = text
            .split('/')
            .all(|element| element == "*" || !element.contains('*'));
        let with_texts = text.replace('*', "x");
        if !stars_are_elements || with_texts.parse::<ModulePath>().is_err() {
            return Err(RepositoryError::Prefix(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefix: &str, url: &str) -> Result<Repository, serde_yaml::Error> {
        serde_yaml::from_str(&format!("{{prefix: '{prefix}', url: '{url}'}}"))
    }

    fn found(prefix: &str, url: &str, module: &str) -> Option<(String, String)> {
        let module: ModulePath = module.parse().unwrap();
        let repository = read(prefix, url).unwrap();
        let (root, url) = repository.of(&module)?;
        Some((root.to_owned(), url.as_str().to_owned()))
    }

    #[test]
    fn stars_stand_for_elements() {
        let team = ("corp.example/*/*", "ssh://git@git.corp.example/*/*.git");
        assert_eq!(
            found(team.0, team.1, "corp.example/team/lib/v2"),
            Some((
                "corp.example/team/lib".to_owned(),
                "ssh://git@git.corp.example/team/lib.git".to_owned()
            ))
        );
        assert_eq!(found(team.0, team.1, "corp.example/team"), None);
        assert_eq!(found(team.0, team.1, "other.example/team/lib"), None);
        let one = ("corp.example/lib", "https://git.corp.example/x");
        assert!(found(one.0, one.1, "corp.example/lib").is_some());
        assert!(found(one.0, one.1, "corp.example/lib/sub").is_some());
        assert_eq!(found(one.0, one.1, "corp.example/library"), None);
    }

    #[test]
    fn what_means_no_repository_is_refused() {
        for (prefix, url) in [
            ("corp.example/*", "https://git.corp.example/"),
            ("corp.example", "https://git.corp.example/*"),
            ("corp.example/a*", "https://git.corp.example/*"),
            ("corp", "https://git.corp.example/x"),
            ("*/x", "https://git.corp.example/*"),
            ("corp.example/*", "git@git.corp.example:*"),
            ("corp.example/*", "ext://*"),
            ("", "https://git.corp.example/x"),
        ] {
            assert!(read(prefix, url).is_err(), "{prefix} {url}");
        }
    }

    #[test]
    fn a_place_survives_a_round_trip_through_yaml() {
        let place = read("corp.example/*", "ssh://git@git.corp.example/*").unwrap();
        let text = serde_yaml::to_string(&place).unwrap();
        assert_eq!(serde_yaml::from_str::<Repository>(&text).unwrap(), place);
    }
}
