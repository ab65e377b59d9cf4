//! A module proxy as upstream.
//!
//! URLs are made from the configured base and the *parsed* request only. HTTP/2 where the proxy
//! offers it; at most ten redirects, never from https to http; no content codings, because the
//! bytes are passed on as they are. A proxy from the environment is used except for loopback
//! addresses, as the go command does it.

use std::error::Error as _;
use std::time::Duration;

use futures::StreamExt;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, TRANSFER_ENCODING,
};
use http::{HeaderValue, StatusCode, Version};
use modcdn_core::goproxy::Request;
use modcdn_core::refusal::{Reason, Refusal};
use reqwest::{Response, Url, redirect};
use tokio::time::timeout;

use super::body::Pieces;
use super::walk::Trouble;
use crate::config::{Limits, Timeouts};

/// As the go command.
const MAX_REDIRECTS: usize = 10;

/// HTTP/2 windows: one stream fills a 200 ms line at 320 Mbit/s, and leaves room for siblings.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

/// How often a used HTTP/2 connection is checked for life.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How much of an error's body is looked at, and for how long.
const DETAIL_BYTES: usize = 2048;
const DETAIL_WAIT: Duration = Duration::from_secs(2);

/// How much of it is passed on.
const DETAIL_LINES: usize = 3;
const DETAIL_CHARS: usize = 200;

/// Asks module proxies.
pub(crate) struct Client {
    /// Through the environment's proxy, where it names one.
    proxied: reqwest::Client,
    /// For loopback addresses.
    straight: reqwest::Client,
    head_wait: Duration,
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

impl Client {
    pub(crate) fn new(timeouts: &Timeouts, limits: &Limits) -> reqwest::Result<Self> {
        Ok(Self {
            proxied: builder(timeouts, limits).build()?,
            straight: builder(timeouts, limits).no_proxy().build()?,
            head_wait: timeouts.connect.get() + timeouts.first_byte.get(),
        })
    }

    /// One GET, once.
    pub(crate) async fn get(
        &self,
        base: &Url,
        request: &Request,
        told: &Told<'_>,
        validator: Option<&HeaderValue>,
    ) -> Result<Got, Trouble> {
        let client = if is_loopback(base) {
            &self.straight
        } else {
            &self.proxied
        };
        let mut get = client
            .get(url_of(base, request))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(validator) = validator {
            get = get.header(IF_NONE_MATCH, validator);
        }
        match timeout(self.head_wait, get.send()).await {
            Ok(Ok(response)) => read_head(response, told, validator.is_some()).await,
            Ok(Err(error)) => Err(told.no_answer(error)),
            Err(_) => Err(told.silence(self.head_wait)),
        }
    }
}

fn builder(timeouts: &Timeouts, limits: &Limits) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("modcdn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect.get())
        .pool_idle_timeout(timeouts.idle.get())
        .pool_max_idle_per_host(limits.upstream_connections)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(timeouts.stall.get())
        .redirect(redirect::Policy::custom(follow))
        .referer(false)
}

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_https = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("more than 10 redirects")
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("a redirect from https to http")
    } else {
        attempt.follow()
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn url_of(base: &Url, request: &Request) -> Url {
    let mut url = base.clone();
    let path = format!("{}{}", base.path().trim_end_matches('/'), request.path());
    url.set_path(&path);
    url
}

async fn read_head(response: Response, told: &Told<'_>, conditional: bool) -> Result<Got, Trouble> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if conditional => return Ok(Got::NotModified),
        status => {
            let detail = detail(response).await;
            return Err(told.status(status, &detail));
        }
    }
    if let Some(fault) = head_fault(&response) {
        return Err(told.content(fault));
    }
    let etag = response.headers().get(ETAG).cloned();
    let announced = content_length(&response);
    let pieces = response
        .bytes_stream()
        .map(|piece| piece.map_err(root_cause))
        .boxed();
    Ok(Got::Fresh(Answer {
        announced,
        pieces,
        etag,
    }))
}

fn content_length(response: &Response) -> Option<u64> {
    let value = response.headers().get(http::header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Why a 200 can't be the object, if its head shows it.
fn head_fault(response: &Response) -> Option<&'static str> {
    let headers = response.headers();
    let is = |name, text: &str| {
        let value = headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok());
        value.is_some_and(|value| value.trim().to_ascii_lowercase().starts_with(text))
    };
    if headers.contains_key(CONTENT_ENCODING) && !is(CONTENT_ENCODING, "identity") {
        return Some("an encoded body, which wasn't asked for");
    }
    if is(CONTENT_TYPE, "text/html") {
        return Some("a web page (text/html)");
    }
    // Without a length and without chunks a body that broke off looks like one that ended.
    let framed = response.version() >= Version::HTTP_2
        || headers.contains_key(TRANSFER_ENCODING)
        || content_length(response).is_some();
    (!framed).then_some("a body of which nobody can tell whether it is complete")
}

/// The first lines of an error's plain text.
async fn detail(response: Response) -> String {
    let is_text = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
    if !is_text {
        return String::new();
    }
    let mut text = Vec::new();
    let mut pieces = response.bytes_stream();
    let read = async {
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece);
            if text.len() >= DETAIL_BYTES {
                break;
            }
        }
    };
    // What came in time is enough.
    let _ = timeout(DETAIL_WAIT, read).await;
    let lines: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .map(|line| line.trim().chars().take(DETAIL_CHARS).collect::<String>())
        .take_while(|line| !line.is_empty())
        .take(DETAIL_LINES)
        .collect();
    lines.join("\n")
}

/// The innermost error: `Connection refused (os error 111)` rather than three times "error".
/// Never the URL, which may carry credentials.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

/// Who was asked for what: all that a refusal's text needs.
pub(crate) struct Told<'a> {
    pub(crate) asked: &'a str,
    pub(crate) upstream: &'a str,
}

impl Told<'_> {
    fn refusal(&self, reason: Reason, failed: impl Into<String>) -> Refusal {
        Refusal::new(reason, self.asked, failed)
    }

    /// The upstream's own answer, a status other than 200.
    fn status(&self, status: StatusCode, detail: &str) -> Trouble {
        let upstream = self.upstream;
        let said = if detail.is_empty() {
            String::new()
        } else {
            format!(":\n{detail}")
        };
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let (reason, word) = if status == StatusCode::GONE {
                    (Reason::Gone, "gone")
                } else {
                    (Reason::NotFound, "not found")
                };
                Trouble::Absent(self.refusal(reason, format!("{word} at {upstream}{said}")))
            }
            _ => {
                let failed = format!("{upstream} answered {status}{said}");
                let hint = match status {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        "check the credentials in the origin's upstream list"
                    }
                    StatusCode::TOO_MANY_REQUESTS => "wait, then try again",
                    _ => "try again; if it stays so, look at the upstream",
                };
                let refusal = self.refusal(Reason::UpstreamStatus, failed).hint(hint);
                Trouble::failed(refusal)
            }
        }
    }

    /// An answer that can't be what was asked for.
    pub(crate) fn content(&self, fault: &str) -> Trouble {
        let failed = format!("{} sent {fault}", self.upstream);
        Trouble::failed(self.refusal(Reason::UpstreamContent, failed))
    }

    fn no_answer(&self, error: reqwest::Error) -> Trouble {
        let upstream = self.upstream;
        let (timed_out, connecting) = (error.is_timeout(), error.is_connect());
        let redirected = error.is_redirect();
        let cause = root_cause(error);
        if redirected {
            return Trouble::failed(self.refusal(
                Reason::UpstreamContent,
                format!("{upstream} redirects where we don't follow: {cause}"),
            ));
        }
        if timed_out {
            let failed = format!("connecting to {upstream} took too long");
            let refusal = self.refusal(Reason::UpstreamTimeout, failed);
            return Trouble::failed(
                refusal.hint("check the network between the origin and its upstream"),
            );
        }
        let (failed, hint) = if connecting {
            (
                format!("can't connect to {upstream}: {cause}"),
                "check the network between the origin and its upstream",
            )
        } else {
            (
                format!("{upstream} closed the connection instead of answering: {cause}"),
                "try again",
            )
        };
        Trouble::Failed {
            refusal: self.refusal(Reason::UpstreamUnreachable, failed).hint(hint),
            connection_broke: true,
        }
    }

    fn silence(&self, waited: Duration) -> Trouble {
        let failed = format!("{} did not answer within {waited:?}", self.upstream);
        let refusal = self
            .refusal(Reason::UpstreamTimeout, failed)
            .hint("try again; if it stays so, look at the upstream");
        Trouble::failed(refusal)
    }
}

#[cfg(test)]
mod tests {
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
                "https://a.example/base/",
                "https://a.example/base/github.com/!burnt/x/@v/v1.0.0.mod",
            ),
        ] {
            assert_eq!(url_of(&base.parse().unwrap(), &request).as_str(), url);
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

    #[test]
    fn only_404_and_410_are_absence() {
        let told = Told {
            asked: "m",
            upstream: "up.example",
        };
        for status in [400, 401, 403, 404, 410, 418, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let absent = matches!(told.status(status, ""), Trouble::Absent(_));
            assert_eq!(absent, matches!(status.as_u16(), 404 | 410), "{status}");
        }
    }
}
