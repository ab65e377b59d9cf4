//! A module proxy as upstream.
//!
//! URLs are made from the configured base and the *parsed* request only. HTTP/2 where the proxy
//! offers it; `redirect` says which redirects are followed, and at each step it is decided anew
//! what is shown and by which way the request goes; no content codings, because the bytes are passed
//! on as they are. Loopback addresses are asked without a proxy, as the go command does it.

mod head;
pub(crate) mod redirect;
mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, IF_NONE_MATCH};
use modcdn_core::refusal::Reason;
use reqwest::{Certificate, ClientBuilder, NoProxy, Proxy, RequestBuilder, Response, Url};
use tokio::time::timeout;

use self::head::read_head;
pub(crate) use self::told::Told;
use super::body::Pieces;
use super::chain::redacted;
use super::gate::{self, Pass, Sign};
use super::walk::Trouble;
use crate::config::{Config, HttpProxy, Limits};
use crate::credentials::{Authorization, Credentials, Unusable};

/// How often a used HTTP/2 connection is checked for life.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The ways to the outside.
pub(crate) struct Ways {
    /// Through a proxy, where there is one.
    proxied: reqwest::Client,
    /// For loopback addresses.
    straight: reqwest::Client,
}

/// Asks module proxies.
pub(crate) struct Client {
    ways: Ways,
    credentials: Arc<Credentials>,
    redirects: usize,
    head_wait: Duration,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// No usable certificate store, as a rule.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// A file of the configuration.
    #[error("{path}: {fault}", path = path.display())]
    File { path: PathBuf, fault: String },
}

impl SetupError {
    /// A file or folder that can't be used.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            fault: error.to_string(),
        }
    }
}

impl From<Unusable> for SetupError {
    fn from(unusable: Unusable) -> Self {
        Self::File {
            path: unusable.path,
            fault: unusable.error.to_string(),
        }
    }
}

/// A good answer's head, with the body behind it.
pub(crate) struct Answer {
    pub(crate) announced: Option<u64>,
    pub(crate) pieces: Pieces,
    pub(crate) etag: Option<HeaderValue>,
}

/// What a conditional request brought.
pub(crate) enum Got {
    Fresh(Answer),
    NotModified,
}

/// What a request asks for beside the object.
#[derive(Clone, Copy, Default)]
pub(crate) struct Conditions<'a> {
    /// 304 will do, if this entity tag is still right.
    pub(crate) etag: Option<&'a HeaderValue>,
    /// Caches on the way aren't to answer.
    pub(crate) past_caches: bool,
}

/// An answer of whatever status, and what was shown to who gave it.
struct Reached {
    response: Response,
    /// Who answered, if the request was redirected to somebody else.
    by: Option<String>,
    shown: Option<Authorization>,
}

impl Ways {
    /// # Errors
    /// See [`SetupError`].
    pub(crate) fn open(config: &Config) -> Result<Self, SetupError> {
        let mut authorities = Vec::new();
        for path in &config.upstreams.ca {
            authorities.extend(read_authorities(path)?);
        }
        let builder = || builder(config, &authorities);
        let proxied = match &config.upstreams.proxy {
            HttpProxy::Env => builder(),
            HttpProxy::Off => builder().no_proxy(),
            HttpProxy::Url(url) => {
                let past = NoProxy::from_string(&config.upstreams.no_proxy.join(","));
                builder().proxy(Proxy::all(url.clone())?.no_proxy(past))
            }
        };
        Ok(Self {
            proxied: proxied.build()?,
            straight: builder().no_proxy().build()?,
        })
    }

    /// A GET of a URL, without redirects and content codings.
    pub(crate) fn get(&self, url: &Url) -> RequestBuilder {
        let client = if is_loopback(url) {
            &self.straight
        } else {
            &self.proxied
        };
        client
            .get(url.clone())
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }
}

impl Client {
    /// # Errors
    /// See [`SetupError`].
    pub(crate) fn new(config: &Config, credentials: Arc<Credentials>) -> Result<Self, SetupError> {
        Ok(Self {
            ways: Ways::open(config)?,
            credentials,
            redirects: config.upstreams.redirects,
            head_wait: config.timeouts.connect.get() + config.timeouts.first_byte.get(),
        })
    }

    /// One GET of a path below a base, once. The pass is told how the upstream behaved.
    pub(crate) async fn get(
        &self,
        base: &Url,
        path: &str,
        told: &Told<'_>,
        conditions: Conditions<'_>,
        pass: Pass<'_>,
    ) -> Result<Got, Trouble> {
        let reached = self.reach(base, path, told, conditions);
        let reached = timeout(self.head_wait, reached).await;
        let reached = reached.unwrap_or_else(|_| Err(told.silence(self.head_wait)));
        if let Some(sign) = sign_of(&reached) {
            pass.report(sign);
        }
        let reached = reached?;
        let upstream = match &reached.by {
            Some(by) => &format!("{} (redirected to {by})", told.upstream),
            None => told.upstream,
        };
        let told = Told { upstream, ..*told };
        let shown = reached.shown.as_ref();
        let conditional = conditions.etag.is_some();
        read_head(reached.response, &told, conditional, shown).await
    }

    /// Asks, and follows redirects.
    async fn reach(
        &self,
        base: &Url,
        path: &str,
        told: &Told<'_>,
        conditions: Conditions<'_>,
    ) -> Result<Reached, Trouble> {
        let mut asked = vec![url_of(base, path)];
        loop {
            let url = &asked[asked.len() - 1];
            let shown = self.shown(base, url).await;
            let shown = shown.map_err(|unusable| told.no_secret(&unusable))?;
            let response = self.send(url, shown.as_ref(), conditions).await;
            let response = response.map_err(|error| told.no_answer(error))?;
            if !redirect::is_redirect(response.status()) {
                let is_other = url.origin() != base.origin();
                let by = is_other.then(|| super::chain::host(url));
                return Ok(Reached {
                    response,
                    by,
                    shown,
                });
            }
            let next = redirect::next(response.headers(), &asked, self.redirects);
            asked.push(next.map_err(|astray| told.astray(astray))?);
        }
    }

    /// What is to be shown to a URL: what the configuration says for it, else, to the upstream itself,
    /// what its own URL carries.
    async fn shown(&self, base: &Url, url: &Url) -> Result<Option<Authorization>, Unusable> {
        let own = Authorization::in_url(base).filter(|_| url.origin() == base.origin());
        match own {
            Some(own) => Ok(Some(own)),
            None => self.credentials.find(url).await,
        }
    }

    async fn send(
        &self,
        url: &Url,
        shown: Option<&Authorization>,
        conditions: Conditions<'_>,
    ) -> reqwest::Result<Response> {
        let mut get = self.ways.get(url);
        if let Some(etag) = conditions.etag {
            get = get.header(IF_NONE_MATCH, etag);
        }
        if conditions.past_caches {
            get = get.header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if let Some(value) = shown.and_then(Authorization::header) {
            get = get.header(AUTHORIZATION, value);
        }
        get.send().await
    }
}

/// What an answer, or its absence, says of the upstream; nothing, if it wasn't asked.
fn sign_of(reached: &Result<Reached, Trouble>) -> Option<Sign> {
    match reached {
        Ok(Reached { response, .. }) => {
            let now = SystemTime::now();
            Some(gate::sign(response.status(), response.headers(), now))
        }
        Err(Trouble::Failed { refusal, .. }) => match refusal.reason {
            Reason::UpstreamCredentials => None,
            // A redirect that isn't followed.
            Reason::UpstreamContent => Some(Sign::Alive),
            _ => Some(Sign::Failed),
        },
        Err(_) => None,
    }
}

fn builder(config: &Config, authorities: &[Certificate]) -> ClientBuilder {
    let (stream_window, connection_window) = windows(&config.limits);
    reqwest::Client::builder()
        .user_agent(concat!("modcdn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.timeouts.connect.get())
        .pool_idle_timeout(config.timeouts.idle.get())
        .pool_max_idle_per_host(config.limits.upstream_connections)
        .http2_initial_stream_window_size(stream_window)
        .http2_initial_connection_window_size(connection_window)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(config.timeouts.stall.get())
        .tls_certs_merge(authorities.iter().cloned())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
}

/// HTTP/2 windows of a stream and of a connection. One body leaves room for others.
fn windows(limits: &Limits) -> (u32, u32) {
    let connection = u32::try_from(limits.upstream_window.as_u64()).unwrap_or(u32::MAX);
    (connection / 2, connection)
}

fn read_authorities(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let failed = |fault: String| SetupError::File {
        path: path.to_owned(),
        fault,
    };
    let pem = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is no certificate (PEM) in it".to_owned()));
    }
    Ok(found)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Without what the base carries as `name:password@`.
fn url_of(base: &Url, path: &str) -> Url {
    let mut url = redacted(base);
    let path = format!("{}{path}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

#[cfg(test)]
mod tests {
    use modcdn_core::goproxy::Request;

    use super::*;

    #[test]
    fn urls_are_made_from_the_parsed_request() {
        let request = Request::parse("/github.com/%21burnt/x/@v/v1.0.0.mod").unwrap();
        for (base, url) in [
            (
                "https://a.example",
                "https://a.example/github.com/!burnt/x/@v/v1.0.0.mod",
            ),
            (
                "https://me:pw@a.example/base/",
                "https://a.example/base/github.com/!burnt/x/@v/v1.0.0.mod",
            ),
        ] {
            let path = request.path();
            assert_eq!(url_of(&base.parse().unwrap(), &path).as_str(), url);
        }
    }

    #[test]
    fn only_loopback_goes_past_the_proxy() {
        for (url, loopback) in [
            ("http://127.0.0.9:80", true),
            ("http://[::1]:80", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
