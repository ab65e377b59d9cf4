//! The upstream chain: a GOPROXY list, read and walked as the go command does it.
//!
//! `,` goes on to the next upstream only after "no such thing" (404, 410), `|` after any error.
//! Elements are trimmed, empty ones skipped, repeated ones kept; a name with a dot but no scheme
//! gets `https://`; `off` and `direct` end the list, whatever follows them.
//!
//! A URL may carry a name and a password. They leave this module in two ways only: in a request to
//! that upstream, and in the serialised configuration. [`std::fmt::Display`] leaves them out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// A GOPROXY list: at least one upstream, asked from left to right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpstreamChain {
    links: Vec<Link>,
}

/// One upstream of a chain, with what its errors lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whom to ask.
    pub upstream: Upstream,
    /// Whether any error goes on to the next upstream (`|`), or only "no such thing" (`,`).
    pub any_error_goes_on: bool,
}

/// Someone who may have what is asked.
#[derive(Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A module proxy, at a base URL.
    Http(Url),
    /// A folder laid out as a module proxy, such as `GOMODCACHE/cache/download`.
    File(PathBuf),
    /// The module's own repository, which this version can't read.
    Direct,
    /// Nobody: the list ends here.
    Off,
}

impl UpstreamChain {
    /// The chain that asks nobody.
    #[must_use]
    pub fn off() -> Self {
        Self {
            links: vec![Link {
                upstream: Upstream::Off,
                any_error_goes_on: false,
            }],
        }
    }

    /// The chain that asks repositories only.
    #[must_use]
    pub fn direct() -> Self {
        Self {
            links: vec![Link {
                upstream: Upstream::Direct,
                any_error_goes_on: false,
            }],
        }
    }

    /// The chain without its final `direct`, if it has one and somebody else is asked before.
    #[must_use]
    pub fn without_direct(&self) -> Option<Self> {
        let (last, before) = self.links.split_last()?;
        if last.upstream != Upstream::Direct || before.is_empty() {
            return None;
        }
        let mut links = before.to_vec();
        links.last_mut()?.any_error_goes_on = false;
        Some(Self { links })
    }

    /// The upstreams in the order in which they are asked; never empty.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The list as text, credentials included if asked for.
    fn text(&self, element: impl Fn(&Upstream) -> String) -> String {
        let mut text = String::new();
        for (n, link) in self.links.iter().enumerate() {
            text += &element(&link.upstream);
            if n + 1 < self.links.len() {
                text.push(if link.any_error_goes_on { '|' } else { ',' });
            }
        }
        text
    }
}

/// Without credentials.
impl fmt::Display for UpstreamChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(ToString::to_string))
    }
}

/// With credentials: a configuration that is written down must work when it is read again.
impl From<UpstreamChain> for String {
    fn from(chain: UpstreamChain) -> Self {
        chain.text(|upstream| match upstream {
            Upstream::Http(url) => url.to_string(),
            other => other.to_string(),
        })
    }
}

impl TryFrom<String> for UpstreamChain {
    type Error = ChainError;

    fn try_from(text: String) -> Result<Self, ChainError> {
        text.parse()
    }
}

/// Without credentials, for logs and error texts.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(redacted(url).as_str()),
            Self::File(folder) => match Url::from_directory_path(folder) {
                Ok(url) => f.write_str(url.as_str().trim_end_matches('/')),
                Err(()) => write!(f, "file://{}", folder.display()),
            },
            Self::Direct => f.write_str("direct"),
            Self::Off => f.write_str("off"),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Upstream {
    /// The host (and port) of a proxy, the path of a folder: what a person would call it.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Http(url) => host(url),
            other => other.to_string(),
        }
    }
}

/// The host, and the port if it isn't the scheme's own.
pub(crate) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "upstream".to_owned(),
    }
}

/// Without name and password.
pub(crate) fn redacted(url: &Url) -> Url {
    let mut url = url.clone();
    // Both refuse only URLs that can't carry credentials in the first place.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// A text that is no GOPROXY list. Never shows credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Nothing between the separators.
    #[error("the upstream list has no entries: give a GOPROXY list such as https://goproxy.cn")]
    Empty,
    /// Neither a URL nor one of the two words.
    #[error("upstream {0:?}: neither a URL nor one of the words off and direct")]
    Word(String),
    /// A folder without a scheme.
    #[error("upstream {0:?}: write a folder as file://{0}")]
    Folder(String),
    /// A URL that can't be a proxy's.
    #[error("upstream number {position}: {fault}")]
    Url {
        /// Which element, from 1.
        position: usize,
        /// What is wrong with it.
        fault: String,
    },
}

impl FromStr for UpstreamChain {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let mut links = Vec::new();
        for piece in text.split_inclusive([',', '|']) {
            let any_error_goes_on = piece.ends_with('|');
            let element = piece.trim_end_matches([',', '|']).trim();
            if element.is_empty() {
                continue;
            }
            let upstream = parse_element(element, links.len() + 1)?;
            let ends = matches!(upstream, Upstream::Off | Upstream::Direct);
            links.push(Link {
                upstream,
                any_error_goes_on: any_error_goes_on && !ends,
            });
            if ends {
                break;
            }
        }
        if let Some(last) = links.last_mut() {
            last.any_error_goes_on = false;
            return Ok(Self { links });
        }
        Err(ChainError::Empty)
    }
}

fn parse_element(element: &str, position: usize) -> Result<Upstream, ChainError> {
    match element {
        "off" => return Ok(Upstream::Off),
        "direct" => return Ok(Upstream::Direct),
        _ if element.starts_with('/') => return Err(ChainError::Folder(element.to_owned())),
        _ if !element.contains(['.', ':', '/']) => {
            return Err(ChainError::Word(element.to_owned()));
        }
        _ => {}
    }
    let text = if element.contains(":/") {
        element.to_owned()
    } else {
        format!("https://{element}")
    };
    let fault = |fault: &str| ChainError::Url {
        position,
        fault: fault.to_owned(),
    };
    let url = Url::parse(&text).map_err(|error| fault(&error.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("a proxy's URL has no '?' and no '#'"));
    }
    match url.scheme() {
        "http" | "https" => Ok(Upstream::Http(url)),
        "file" => folder(&url)
            .map(Upstream::File)
            .ok_or_else(|| fault("file:// needs an absolute path and nothing else")),
        scheme => Err(fault(&format!(
            "scheme {scheme:?}: only https, http and file are known"
        ))),
    }
}

fn folder(url: &Url) -> Option<PathBuf> {
    if url.host_str().is_some() {
        return None;
    }
    let path = url.to_file_path().ok()?;
    // Without a slash at its end, so that a chain prints as it was written.
    path.is_absolute()
        .then(|| path.components().as_path().to_owned())
        .filter(|path| path != Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> UpstreamChain {
        text.parse().unwrap()
    }

    #[test]
    fn direct_can_be_left_out_where_somebody_else_is_asked() {
        let without = |text| chain(text).without_direct().map(|chain| chain.to_string());
        assert_eq!(
            without("https://a.example,https://b.example|direct").as_deref(),
            Some("https://a.example/,https://b.example/")
        );
        assert_eq!(without("direct"), None);
        assert_eq!(without("https://a.example,off"), None);
        assert_eq!(without("https://a.example"), None);
    }

    #[test]
    fn separators_decide_what_goes_on() {
        let chain = chain("https://a.example|https://b.example/base/,file:///srv/tree");
        let goes_on: Vec<bool> = chain.links().iter().map(|l| l.any_error_goes_on).collect();
        assert_eq!(goes_on, [true, false, false]);
        assert_eq!(
            chain.to_string(),
            "https://a.example/|https://b.example/base/,file:///srv/tree"
        );
    }

    #[test]
    fn lists_are_read_as_the_go_command_reads_them() {
        for (text, read) in [
            (" off ", "off"),
            ("off,https://a.example", "off"),
            (
                "https://a.example/,direct|junk",
                "https://a.example/,direct",
            ),
            (",|https://a.example/,,", "https://a.example/"),
            ("goproxy.cn", "https://goproxy.cn/"),
            ("http://a.example:8081/x", "http://a.example:8081/x"),
            (
                "https://a.example/,https://a.example/",
                "https://a.example/,https://a.example/",
            ),
            ("file:///srv/a%20b", "file:///srv/a%20b"),
        ] {
            assert_eq!(chain(text).to_string(), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            " , | ",
            "noproxy",
            "/srv/tree",
            "ftp://a.example",
            "https://",
            "https://a.example/?x=1",
            "file://host/srv",
            "https://a.example,http://[",
        ] {
            assert!(text.parse::<UpstreamChain>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_kept_for_files_and_shown_nowhere() {
        let text = "https://me:s3cret@a.example/base,off";
        let chain = chain(text);
        for shown in [
            chain.to_string(),
            format!("{chain:?}"),
            chain.links()[0].upstream.label(),
        ] {
            assert!(
                !shown.contains("s3cret") && !shown.contains("me"),
                "{shown}"
            );
        }
        assert_eq!(String::from(chain), text);
        let error = "https://me:s3cret@a.example:x"
            .parse::<UpstreamChain>()
            .unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn a_chain_survives_a_round_trip_through_yaml() {
        let chain = chain("https://me:pw@a.example/|file:///srv/tree,direct");
        let text = serde_yaml::to_string(&chain).unwrap();
        assert_eq!(serde_yaml::from_str::<UpstreamChain>(&text).unwrap(), chain);
    }
}
