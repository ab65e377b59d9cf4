//! The section `hooks`: who may say that a module has changed.

use std::path::PathBuf;

use modcdn_core::goproxy::ModulePath;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::UrlPrefix;

/// `POST /-/hooks/module`. Without a file there is no such endpoint. Each file has one secret a line, so
/// that a new one can be put in before the old one is taken out, and is read at each call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Bearer tokens, for `{"module": …}`.
    pub token_file: Option<PathBuf>,
    /// Secrets of GitHub's webhooks (`X-Hub-Signature-256`).
    pub github_secret_file: Option<PathBuf>,
    /// Of GitLab's: secret tokens (`X-Gitlab-Token`) and signing tokens (`whsec_…`).
    pub gitlab_secret_file: Option<PathBuf>,
    /// Of Gitea's and Forgejo's (`X-Gitea-Signature`).
    pub gitea_secret_file: Option<PathBuf>,
    /// Which modules come from which repositories, where their paths aren't the repositories' host and
    /// path. The longest URL that fits counts.
    pub repositories: Vec<Repository>,
    /// The longest body that is read.
    pub max_body: ByteSize,
    /// How long a body may take to come.
    pub body_timeout: Period,
    /// Bodies read at once.
    pub at_once: usize,
    /// Accepted calls a minute.
    pub per_minute: u32,
}

/// What lies in the repositories at and below a URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Where: `https://git.corp.example/platform`.
    pub url: UrlPrefix,
    /// What its modules' paths begin with instead: `corp.example`.
    pub module: ModuleText,
}

/// A module path, or one above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleText(ModulePath);

impl ModuleText {
    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Serialize for ModuleText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModuleText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let path = text.parse();
        path.map(Self)
            .map_err(|error| de::Error::custom(format!("module {text:?}: {error}")))
    }
}

impl Hooks {
    /// See [`Hooks::max_body`]. Forges send the commits with a push.
    pub const MAX_BODY: ByteSize = ByteSize::mib(5);
    /// See [`Hooks::body_timeout`].
    pub const BODY_TIMEOUT: Period = Period::secs(10);
    /// See [`Hooks::at_once`].
    pub const AT_ONCE: usize = 8;
    /// See [`Hooks::per_minute`].
    pub const PER_MINUTE: u32 = 600;

    /// Whether anybody may call.
    #[must_use]
    pub fn are_on(&self) -> bool {
        let files = [
            &self.token_file,
            &self.github_secret_file,
            &self.gitlab_secret_file,
            &self.gitea_secret_file,
        ];
        files.into_iter().any(Option::is_some)
    }

    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, holds) in [
            ("max_body", self.max_body.as_u64() > 0),
            ("body_timeout", !self.body_timeout.is_zero()),
            ("at_once", self.at_once > 0),
            ("per_minute", self.per_minute > 0),
        ] {
            require(holds, &format!("hooks.{key}"), "must be above zero");
        }
        for (at, one) in self.repositories.iter().enumerate() {
            let is_new = self.repositories[..at]
                .iter()
                .all(|other| other.url != one.url);
            let key = format!("hooks.repositories[{at}].url");
            require(is_new, &key, "has a module already");
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            token_file: None,
            github_secret_file: None,
            gitlab_secret_file: None,
            gitea_secret_file: None,
            repositories: Vec::new(),
            max_body: Self::MAX_BODY,
            body_timeout: Self::BODY_TIMEOUT,
            at_once: Self::AT_ONCE,
            per_minute: Self::PER_MINUTE,
        }
    }
}
