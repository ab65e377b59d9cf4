//! The section `upstreams`: how upstreams are asked over HTTP.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use modcdn_core::units::Period;
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// How upstreams are asked over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstreams {
    /// By way of which proxy. Loopback addresses are asked without one.
    pub proxy: HttpProxy,
    /// Whom the proxy of a URL isn't used for: names (with those below them), addresses, networks.
    pub no_proxy: Vec<String>,
    /// PEM files of authorities that may vouch for an upstream, beside the system's.
    pub ca: Vec<PathBuf>,
    /// How many redirects are followed, at most.
    pub redirects: usize,
    /// When an upstream isn't asked for a while.
    pub backoff: Backoff,
}

/// When an upstream isn't asked for a while: it fails, or says that it has too much to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// So many failures in a row: no answer, or a 5xx. One 429 is enough.
    pub failures: u32,
    /// The first pause; it doubles while the upstream goes on failing. Half of each is left to chance.
    pub first: Period,
    /// The longest pause.
    pub longest: Period,
    /// The longest pause that an upstream may ask for (`Retry-After`).
    pub retry_after: Period,
}

impl Backoff {
    /// See [`Backoff::failures`].
    pub const FAILURES: u32 = 10;
    /// See [`Backoff::first`].
    pub const FIRST: Period = Period::secs(1);
    /// See [`Backoff::longest`].
    pub const LONGEST: Period = Period::secs(60);
    /// See [`Backoff::retry_after`].
    pub const RETRY_AFTER: Period = Period::secs(5 * 60);

    fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        require(
            self.failures > 0,
            "upstreams.backoff.failures",
            "must be above zero",
        );
        require(
            !self.first.is_zero(),
            "upstreams.backoff.first",
            "must be above zero",
        );
        require(
            self.longest >= self.first && self.retry_after >= self.first,
            "upstreams.backoff.longest",
            "no bound can be shorter than the first pause",
        );
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            failures: Self::FAILURES,
            first: Self::FIRST,
            longest: Self::LONGEST,
            retry_after: Self::RETRY_AFTER,
        }
    }
}

impl Upstreams {
    /// See [`Upstreams::redirects`]. As the go command.
    pub const REDIRECTS: usize = 10;
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            proxy: HttpProxy::Env,
            no_proxy: Vec::new(),
            ca: Vec::new(),
            redirects: Self::REDIRECTS,
            backoff: Backoff::default(),
        }
    }
}

/// An HTTP proxy. Its URL may carry a name and a password; they leave this type in the serialised
/// configuration and in requests to the proxy only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HttpProxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    Env,
    /// None.
    Off,
    /// That one, for http and https.
    Url(Url),
}

/// Why a text is no [`HttpProxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write env, off, or a proxy's URL such as http://proxy.example:3128")]
pub struct HttpProxyError;

impl FromStr for HttpProxy {
    type Err = HttpProxyError;

    fn from_str(text: &str) -> Result<Self, HttpProxyError> {
        match text {
            "env" => return Ok(Self::Env),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let url = Url::parse(text).map_err(|_| HttpProxyError)?;
        let is_proxy = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        is_proxy.then_some(Self::Url(url)).ok_or(HttpProxyError)
    }
}

impl TryFrom<String> for HttpProxy {
    type Error = HttpProxyError;

    fn try_from(text: String) -> Result<Self, HttpProxyError> {
        text.parse()
    }
}

/// With the name and the password.
impl From<HttpProxy> for String {
    fn from(proxy: HttpProxy) -> Self {
        match proxy {
            HttpProxy::Env => "env".to_owned(),
            HttpProxy::Off => "off".to_owned(),
            HttpProxy::Url(url) => url.into(),
        }
    }
}

/// Without the name and the password.
impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env => f.write_str("env"),
            Self::Off => f.write_str("off"),
            Self::Url(url) => match (url.host_str(), url.port_or_known_default()) {
                (Some(host), Some(port)) => write!(f, "{}://{host}:{port}", url.scheme()),
                _ => f.write_str(url.scheme()),
            },
        }
    }
}

impl Upstreams {
    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        self.backoff.check(require);
        let has_url = matches!(self.proxy, HttpProxy::Url(_));
        require(
            has_url || self.no_proxy.is_empty(),
            "upstreams.no_proxy",
            "goes with the URL of a proxy; with env, NO_PROXY says it",
        );
        let plain = |name: &String| !name.is_empty() && !name.contains([',', ' ']);
        require(
            self.no_proxy.iter().all(plain),
            "upstreams.no_proxy",
            "write one name, address or network (10.0.0.0/8) an entry",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_shown_nowhere() {
        let text = "http://me:s3cret@proxy.example:3128/";
        let proxy: HttpProxy = text.parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "http://proxy.example:3128");
        assert_eq!(String::from(proxy), text);
        for wrong in [
            "",
            "none",
            "proxy.example:3128",
            "socks5://p",
            "http://p/x",
            "http://",
        ] {
            let error = wrong.parse::<HttpProxy>().unwrap_err();
            assert!(error.to_string().contains("env, off"), "{wrong}");
        }
    }
}
