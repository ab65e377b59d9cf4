//! The section `credentials`: what is shown to which upstream.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Credentials for everything below a URL. Either a name and a password (Basic), or a token
/// (Bearer); the secrets are in files, which are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Whom they are shown to: the longest URL that fits counts.
    pub url: UrlPrefix,
    /// The name, with `password_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The file with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A URL and all below it, by whole elements of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPrefix(Url);

/// Why a text is no [`UrlPrefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give a URL such as https://proxy.example/go: http or https, without a name, a password, '?' \
     and '#'"
)]
pub struct UrlPrefixError;

impl UrlPrefix {
    /// Whether a URL is this one or lies below it: same scheme, host and port, and the path begins
    /// with all elements of this one's.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let own = self.0.path().trim_end_matches('/');
        let below = url.path().strip_prefix(own);
        self.0.origin() == url.origin()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How much of a path it names: the longer, the closer.
    pub(crate) fn depth(&self) -> usize {
        self.0.path().trim_end_matches('/').len()
    }

    /// Whether what is shown to it can be read on the way.
    pub(crate) fn is_clear_text(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for UrlPrefix {
    type Err = UrlPrefixError;

    fn from_str(text: &str) -> Result<Self, UrlPrefixError> {
        let url = Url::parse(text).map_err(|_| UrlPrefixError)?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        (is_bare && is_http)
            .then_some(Self(url))
            .ok_or(UrlPrefixError)
    }
}

impl fmt::Display for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for UrlPrefix {
    type Error = UrlPrefixError;

    fn try_from(text: String) -> Result<Self, UrlPrefixError> {
        text.parse()
    }
}

impl From<UrlPrefix> for String {
    fn from(prefix: UrlPrefix) -> Self {
        prefix.0.into()
    }
}

/// What must hold of the credentials, one by one and together.
pub(super) fn check(all: &[Credential], require: &mut impl FnMut(bool, &str, &str)) {
    for (at, one) in all.iter().enumerate() {
        let key = format!("credentials[{at}]");
        let is_basic = one.user.is_some() && one.password_file.is_some();
        let is_bearer = one.user.is_none() && one.password_file.is_none();
        require(
            if one.token_file.is_some() {
                is_bearer
            } else {
                is_basic
            },
            &key,
            "needs either user and password_file, or token_file",
        );
        let has_colon = one.user.as_ref().is_some_and(|user| user.contains(':'));
        require(!has_colon, &format!("{key}.user"), "can't have a colon");
        require(
            all[..at].iter().all(|other| other.url != one.url),
            &format!("{key}.url"),
            "has credentials already",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_whole_elements_of_the_same_server() {
        let covers = |prefix: &str, url: &str| {
            let prefix: UrlPrefix = prefix.parse().unwrap();
            prefix.covers(&url.parse().unwrap())
        };
        for (prefix, url) in [
            ("https://a.example", "https://a.example/x"),
            ("https://a.example/", "https://A.example:443/"),
            ("https://a.example/go", "https://a.example/go"),
            ("https://a.example/go/", "https://a.example/go/x"),
            ("http://a.example:8080/go", "http://a.example:8080/go/x/y"),
        ] {
            assert!(covers(prefix, url), "{prefix} {url}");
        }
        for (prefix, url) in [
            ("https://a.example", "http://a.example/"),
            ("https://a.example", "https://a.example:8443/"),
            ("https://a.example", "https://b.a.example/"),
            ("https://a.example", "https://a.example.evil.example/"),
            ("https://a.example/go", "https://a.example/gopher"),
            ("https://a.example/go", "https://a.example/"),
            ("https://a.example/go", "https://a.example/go/../x"),
            ("https://a.example/go", "https://a.example/go/%2e%2e/x"),
        ] {
            assert!(!covers(prefix, url), "{prefix} {url}");
        }
    }

    #[test]
    fn secrets_have_no_place_in_a_prefix() {
        for text in [
            "a.example",
            "ftp://a.example",
            "https://me@a.example",
            "https://me:pw@a.example",
            "https://a.example/?token=x",
            "https://a.example/#x",
            "file:///x",
        ] {
            assert!(text.parse::<UrlPrefix>().is_err(), "{text}");
        }
    }
}
