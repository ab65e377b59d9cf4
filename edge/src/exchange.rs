//! What passes between the front door and the engine: one [`Asked`] in, one [`Answer`] out.
//!
//! The front door knows connections and HTTP framing and nothing of the cache; the engine knows
//! the cache and nothing of connections. Failure rule: a body that can't be finished ends in
//! [`Aborted`], and the front door then breaks the response off visibly (HTTP/1.1: closed before
//! the announced length; HTTP/2: `RST_STREAM`). It never ends such a body cleanly.

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::mpsc;

use modcdn_core::goproxy::{self, Prefix};
use modcdn_core::refusal::Reason;

/// One request, parsed at the border: only this goes on to the engine.
#[derive(Debug)]
pub struct Asked {
    /// What is asked of the mount.
    pub request: goproxy::Request,
    /// Its canonical path, the mount's prefix included: the cache's key, and what the origin is asked
    /// for.
    pub path: String,
    /// `HEAD`: the answer is that of a `GET`, and its body is not written.
    pub head: bool,
    /// `Range`, as sent.
    pub range: Option<HeaderValue>,
    /// `If-Range`, as sent.
    pub if_range: Option<HeaderValue>,
    /// `If-None-Match`, as sent (several lines joined by a comma).
    pub if_none_match: Option<HeaderValue>,
    /// `Disable-Module-Fetch: true`: only what is stored already; never cached, joins no fill.
    pub no_fetch: bool,
}

impl Asked {
    /// A `GET` of the whole object in that mount.
    #[must_use]
    pub fn get(mount: &Prefix, request: goproxy::Request) -> Self {
        Self {
            path: request.path_below(mount),
            request,
            head: false,
            range: None,
            if_range: None,
            if_none_match: None,
            no_fetch: false,
        }
    }
}

/// One request to a plain HTTP mount: any method but `CONNECT` and `TRACE`, any path below the
/// mount's prefix.
#[derive(Debug)]
pub struct HttpAsked {
    /// Which of the plain HTTP mounts: its place among them in the configuration.
    pub mount: usize,
    /// The method.
    pub method: Method,
    /// Path and query in their normal form (RFC 3986 §6.2.2); begins with the mount's prefix.
    pub target: PathAndQuery,
    /// End-to-end fields only: those of the connection, and those that `Connection` names, are
    /// gone, and so is `Host`.
    pub headers: HeaderMap,
    /// The request's body, if it has one.
    pub upload: Option<Upload>,
    /// What the client named as the host.
    pub host: String,
    /// The client's address, where it is known.
    pub client: Option<IpAddr>,
    /// Whether the client came over TLS.
    pub tls: bool,
    /// The protocol that it came by: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
}

/// The body of a request on its way in: pieces, then `None`. A body that the client broke off ends
/// in [`Aborted`].
pub type Upload = mpsc::Receiver<Result<Bytes, Aborted>>;

/// What the engine answers.
#[derive(Debug)]
pub struct Answer {
    /// The status line.
    pub status: StatusCode,
    /// All headers but `Date` and those of the connection. Holds `Content-Length` whenever the
    /// length is known, for `HEAD` too.
    pub headers: HeaderMap,
    /// The body; dropped unread for `HEAD`.
    pub body: Body,
    /// How the cache was used: access log and metrics.
    pub cache: Cached,
    /// Why the answer is a "no", if it is one.
    pub reason: Option<Reason>,
}

/// An [`Answer`], or the wait for it.
pub enum Answering {
    /// Nothing had to be waited for.
    Now(Answer),
    /// It comes. Dropping the future stops nothing but this answer.
    Later(BoxFuture<'static, Answer>),
}

impl IntoFuture for Answering {
    type Output = Answer;
    type IntoFuture = BoxFuture<'static, Answer>;

    fn into_future(self) -> Self::IntoFuture {
        match self {
            Answering::Now(answer) => Box::pin(std::future::ready(answer)),
            Answering::Later(answer) => answer,
        }
    }
}

/// The body of an [`Answer`].
pub enum Body {
    /// No bytes.
    Empty,
    /// All bytes at once.
    Whole(Bytes),
    /// Bytes as they come.
    Stream(Box<dyn BodyStream>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Body::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A body that is read piece by piece. Dropping it early is always allowed and stops nothing but
/// this reader. `next` is cancel safe: a future dropped before it was ready has lost no bytes.
#[async_trait]
pub trait BodyStream: Send {
    /// The next piece, never empty; `None` when the body is complete.
    ///
    /// # Errors
    /// [`Aborted`]: the body can't be finished, the response is to be cut off visibly.
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted>;

    /// Whether what comes next may lie in a file, so that asking for its [`FileSpan`] makes sense.
    fn lies_in_file(&self) -> bool {
        false
    }

    /// What comes next, if the kernel may send it from the file right now. Nothing is taken by asking,
    /// and the answer is good for this moment only: after any wait it has to be asked for again.
    fn span(&mut self) -> Option<FileSpan> {
        None
    }

    /// So many bytes of the span were sent: the body goes on behind them.
    fn advance(&mut self, _bytes: u64) {}
}

/// Bytes of a body that lie in a file and were verified there.
#[derive(Debug, Clone)]
pub struct FileSpan {
    /// The file.
    pub file: Arc<File>,
    /// Where in it the bytes begin.
    pub offset: u64,
    /// How many there are, at least one.
    pub length: u64,
}

/// A body that can't be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("body cut off: {}", reason.name())]
pub struct Aborted {
    /// Why: the access log names it.
    pub reason: Reason,
}

/// How the cache took part in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cached {
    /// Answered from the store, fresh.
    Hit,
    /// Not stored: fetched from the origin, or refused because it could not be.
    Miss,
    /// Answered from the store past its freshness.
    Stale,
    /// Past its freshness, confirmed by the origin before it was answered.
    Revalidated,
    /// The cache was not asked.
    Bypass,
}

impl Cached {
    /// Every value, in the order of declaration.
    pub const ALL: [Cached; 5] = [
        Cached::Hit,
        Cached::Miss,
        Cached::Stale,
        Cached::Revalidated,
        Cached::Bypass,
    ];

    /// The name in access log and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cached::Hit => "hit",
            Cached::Miss => "miss",
            Cached::Stale => "stale",
            Cached::Revalidated => "revalidated",
            Cached::Bypass => "bypass",
        }
    }
}
