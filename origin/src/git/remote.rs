//! Addresses of repositories.
//!
//! An address is a URL with one of four schemes, and nothing that `git` or `ssh` could take for an
//! option, a command or a secret. It is kept as it was written, because that is what the go command
//! tells of it.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `https://`.
    Https,
    /// `ssh://` (`git+ssh://` means the same).
    Ssh,
    /// `http://`: anybody on the way can read and change what is fetched.
    Http,
    /// `file:///`: a repository on this machine.
    File,
}

impl Protocol {
    /// The scheme, as git calls the transport too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::File => "file",
        }
    }

    pub(crate) fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "https" => Some(Self::Https),
            "ssh" | "git+ssh" | "ssh+git" => Some(Self::Ssh),
            "http" => Some(Self::Http),
            "file" => Some(Self::File),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address of a repository, or the beginning of some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteUrl {
    text: Box<str>,
    protocol: Protocol,
    url: Url,
}

/// Why a text is no address. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// `host:path`, a folder, or nothing at all.
    #[error(
        "{0:?} is no URL: write a repository's address as https://host/path or ssh://git@host/path"
    )]
    NoUrl(String),
    /// Another scheme.
    #[error("scheme {0:?}: repositories are fetched by https, ssh, http or file only")]
    Scheme(String),
    /// A password in the URL.
    #[error("a repository's address must not hold a password: name a file under git.credentials")]
    Password,
    /// Something that a program could take for an option.
    #[error("a repository's address with a part that begins with '-'")]
    Option,
    /// Not a URL after all.
    #[error("a repository's address that is malformed: {0}")]
    Malformed(String),
}

impl RemoteUrl {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is reached.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The parsed URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// What may be told of it: without the user's name where that is half of a secret.
    #[must_use]
    pub fn told(&self) -> String {
        if self.protocol == Protocol::Ssh || self.url.username().is_empty() {
            return self.text.to_string();
        }
        let mut url = self.url.clone();
        // Refused only by URLs that have no user to begin with.
        let _ = url.set_username("");
        url.to_string()
    }

    /// Whether `other` is this address or one below it. A user who isn't named here may be anyone.
    #[must_use]
    pub fn covers(&self, other: &Url) -> bool {
        let (path, below) = (self.url.path().trim_end_matches('/'), other.path());
        let user = self.url.username();
        Protocol::of(other.scheme()) == Some(self.protocol)
            && self.url.host_str() == other.host_str()
            && self.url.port() == other.port()
            && (user.is_empty() || user == other.username())
            && below
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for RemoteUrl {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(RemoteError::NoUrl(text.to_owned()));
        };
        let protocol =
            Protocol::of(scheme).ok_or_else(|| RemoteError::Scheme(scheme.to_owned()))?;
        let malformed = |what: &str| RemoteError::Malformed(what.to_owned());
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
            return Err(malformed("it has blanks in it"));
        }
        let plain = format!("{protocol}://{rest}");
        let url = Url::parse(&plain).map_err(|error| RemoteError::Malformed(error.to_string()))?;
        if url.password().is_some() {
            return Err(RemoteError::Password);
        }
        let host = url.host_str().unwrap_or_default();
        if host.starts_with('-') || url.username().starts_with('-') || rest.starts_with('-') {
            return Err(RemoteError::Option);
        }
        if protocol == Protocol::File {
            if !rest.starts_with('/') {
                return Err(malformed("file:// needs a whole path"));
            }
        } else if host.is_empty() || rest.starts_with('/') {
            return Err(malformed("it names no host"));
        }
        Ok(Self {
            text: plain.into(),
            protocol,
            url,
        })
    }
}

/// What may be told of it.
impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told())
    }
}

impl Serialize for RemoteUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RemoteUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteUrl {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn addresses_stay_as_they_were_written() {
        for (text, kept, protocol) in [
            (
                "https://A.example/x.git",
                "https://A.example/x.git",
                Protocol::Https,
            ),
            (
                "https://a.example:8443/%7Ex",
                "https://a.example:8443/%7Ex",
                Protocol::Https,
            ),
            (
                "ssh://git@a.example:22/x",
                "ssh://git@a.example:22/x",
                Protocol::Ssh,
            ),
            ("git+ssh://a.example/x", "ssh://a.example/x", Protocol::Ssh),
            ("http://a.example/x", "http://a.example/x", Protocol::Http),
            ("file:///srv/x.git", "file:///srv/x.git", Protocol::File),
        ] {
            assert_eq!(
                (remote(text).as_str(), remote(text).protocol()),
                (kept, protocol)
            );
        }
    }

    #[test]
    fn what_a_program_could_misread_is_no_address() {
        for text in [
            "",
            "/srv/x.git",
            "git@a.example:x.git",
            "a.example/x",
            "ext::sh -c touch% /tmp/x",
            "ext://sh",
            "git://a.example/x",
            "ftp://a.example/x",
            "https://me:pw@a.example/x",
            "ssh://-oProxyCommand=x/y",
            "ssh://-x@a.example/y",
            "https:///x",
            "file://srv/x",
            "https://a.example/x y",
            "https://a.example/x\ny",
            "--upload-pack=x://y",
        ] {
            assert!(text.parse::<RemoteUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn secrets_are_told_to_nobody() {
        assert_eq!(
            remote("https://token@a.example/x").to_string(),
            "https://a.example/x"
        );
        assert_eq!(
            remote("ssh://git@a.example/x").to_string(),
            "ssh://git@a.example/x"
        );
        let error = "https://me:s3cret@a.example/x"
            .parse::<RemoteUrl>()
            .unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn an_address_covers_what_lies_below_it() {
        let covers = |above: &str, below: &str| remote(above).covers(remote(below).url());
        assert!(covers("https://a.example", "https://a.example/x"));
        assert!(covers(
            "https://a.example/team/",
            "https://a.example/team/x.git"
        ));
        assert!(covers("https://a.example/team", "https://a.example/team"));
        assert!(covers("ssh://a.example", "ssh://git@a.example/x"));
        for (above, below) in [
            ("https://a.example/team", "https://a.example/team2/x"),
            ("https://a.example", "https://b.example/x"),
            ("https://a.example", "http://a.example/x"),
            ("https://a.example", "https://a.example:8443/x"),
            ("https://a.example", "https://xa.example/x"),
            ("ssh://git@a.example", "ssh://root@a.example/x"),
        ] {
            assert!(!covers(above, below), "{above} {below}");
        }
    }
}
