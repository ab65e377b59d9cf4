//! HTTP/1.x connections: one request after the other.
//!
//! The loop reads a whole header ahead, bounded in time (from its first byte) and size, checks it
//! (`head`), and lets the session read exactly that. What a client has sent beyond it waits on the
//! wire for its turn, so pipelined requests are answered in order. After anything ambiguous the
//! connection is closed.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{CONNECTION, DATE};
use http::{HeaderValue, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use modcdn_core::refusal::{Reason, Refusal};

use super::head::{self, Bounds, H2_PREFACE, Malformed, Scan};
use super::service::{Answers, Peer, Service, refused};
use super::session::{H1, Session};
use super::wire::Wire;
use crate::exchange::Body;

/// After a refusal that closes: our side is closed, and for this long what the client still sends
/// is swallowed, so that the close doesn't become a reset that takes the answer with it.
const LINGER: Duration = Duration::from_millis(500);
/// And how much of it.
const LINGER_BYTES: usize = 256 << 10;

/// What a connection turned out to speak.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    H1,
    H2,
    Closed,
}

/// Tells HTTP/2 by prior knowledge from HTTP/1.1 by the first bytes of a clear-text connection.
pub(crate) async fn opening<A: Answers>(service: &Service<A>, wire: &Wire, peer: &Peer) -> Opening {
    let limit = peer.settings.timeouts.keep_alive.get();
    let told = timeout(limit, async {
        loop {
            let (bytes, matches) = wire.with_ahead(|ahead| {
                let n = ahead.len().min(H2_PREFACE.len());
                (n, ahead[..n] == H2_PREFACE[..n])
            });
            if !matches {
                return Opening::H1;
            }
            if bytes == H2_PREFACE.len() {
                return Opening::H2;
            }
            if !matches!(wire.read_ahead().await, Ok(1..)) {
                // A beginning of the preface and then the end: the loop will say what is wrong.
                return if bytes == 0 {
                    Opening::Closed
                } else {
                    Opening::H1
                };
            }
        }
    });
    tokio::select! {
        biased;
        told = told => told.unwrap_or(Opening::Closed),
        () = service.drain.begun() => Opening::Closed,
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After a complete answer, or in silence.
    Clean,
    /// In the middle of an answer.
    Aborted,
}

/// Serves a connection to its end.
pub(crate) async fn serve<A: Answers>(service: &Arc<Service<A>>, wire: &Wire, peer: &Peer) -> End {
    loop {
        match next_header(service, wire, peer).await {
            Next::Header(length) => match serve_one(service, wire, peer, length).await {
                After::Again => {}
                After::Close(end) => return end,
            },
            Next::Refused(malformed) => {
                refuse(service, wire, peer, "-", malformed).await;
                return End::Clean;
            }
            Next::Closed => return End::Clean,
        }
    }
}

enum Next {
    Header(usize),
    Refused(Malformed),
    Closed,
}

/// Waits for the next request's whole header.
async fn next_header<A: Answers>(service: &Service<A>, wire: &Wire, peer: &Peer) -> Next {
    if !wire.has_ahead() {
        let silence = timeout(peer.settings.timeouts.keep_alive.get(), wire.read_ahead());
        tokio::select! {
            biased;
            read = silence => if !matches!(read, Ok(Ok(1..))) { return Next::Closed },
            () = service.drain.begun() => return Next::Closed,
        }
    }
    match timeout(
        peer.settings.timeouts.header.get(),
        whole_header(wire, peer),
    )
    .await
    {
        Ok(next) => next,
        Err(_) => Next::Refused(Malformed {
            reason: Reason::RequestTimeout,
            what: "the header took too long to arrive",
        }),
    }
}

async fn whole_header(wire: &Wire, peer: &Peer) -> Next {
    let (bounds, mut scan) = (bounds(peer), Scan::default());
    loop {
        match wire.with_ahead(|ahead| scan.find_end(ahead, bounds)) {
            Ok(Some(length)) => return Next::Header(length),
            Ok(None) => {}
            Err(malformed) => return Next::Refused(malformed),
        }
        if !matches!(wire.read_ahead().await, Ok(1..)) {
            return Next::Closed;
        }
    }
}

fn bounds(peer: &Peer) -> Bounds {
    let bytes = usize::try_from(peer.settings.limits.header_size.as_u64()).unwrap_or(usize::MAX);
    Bounds {
        bytes,
        fields: peer.settings.limits.header_fields,
    }
}

enum After {
    Again,
    Close(End),
}

async fn serve_one<A: Answers>(
    service: &Arc<Service<A>>,
    wire: &Wire,
    peer: &Peer,
    length: usize,
) -> After {
    if let Err((malformed, target)) = checked(wire, peer, length) {
        refuse(service, wire, peer, &target, malformed).await;
        return After::Close(End::Clean);
    }
    wire.allow(Some(length));
    let Ok(mut h1) = H1::read(wire).await else {
        let malformed = Malformed {
            reason: Reason::BadRequest,
            what: "the header is malformed",
        };
        refuse(service, wire, peer, "-", malformed).await;
        return After::Close(End::Clean);
    };
    wire.allow(None);
    if service.drain.has_begun() {
        h1.close_after();
    }
    let mut session = Session::H1(h1);
    service.serve(&mut session, peer).await;
    match session {
        Session::H1(h1) if h1.reusable() => After::Again,
        Session::H1(h1) if h1.complete() => After::Close(End::Clean),
        _ => After::Close(End::Aborted),
    }
}

/// Everything that must be refused before the session may see the header, with the target for the
/// log.
fn checked(wire: &Wire, peer: &Peer, length: usize) -> Result<(), (Malformed, String)> {
    let bounds = bounds(peer);
    wire.with_ahead(|ahead| {
        let head = head::check(&ahead[..length], bounds).map_err(|m| (m, "-".to_owned()))?;
        let refused = |reason, what| Err((Malformed { reason, what }, head.target.to_owned()));
        if !matches!(head.method, "GET" | "HEAD") {
            return refused(Reason::Method, "only GET and HEAD are answered here");
        }
        if head.has_body {
            return refused(Reason::BadRequest, "a GET request must not carry a body");
        }
        let absolute = head.target.split_once("://").map(|(_, rest)| rest);
        let other = absolute.is_some_and(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            !authority.eq_ignore_ascii_case(head.host)
        });
        if other && !head.target.starts_with('/') {
            let what = "the request's absolute URL names another host than its Host field";
            return refused(Reason::Misdirected, what);
        }
        Ok(())
    })
}

/// Answers without a session, and the connection is over: nobody knows what comes next on it.
async fn refuse<A: Answers>(
    service: &Service<A>,
    wire: &Wire,
    peer: &Peer,
    target: &str,
    malformed: Malformed,
) {
    let mut entry = service.access.enter(peer.address, "HTTP/1.1", "-", target);
    let answer = refused(&Refusal::new(malformed.reason, target, malformed.what));
    (entry.status, entry.reason) = (answer.status, answer.reason);
    let mut bytes = head_bytes(answer.status, answer.headers);
    if let Body::Whole(body) = &answer.body {
        bytes.extend_from_slice(body);
        entry.bytes = body.len() as u64;
    }
    let mut writer = wire.clone();
    let limit = peer.settings.timeouts.write.get();
    if timeout(limit, writer.write_all(&bytes)).await.is_ok() {
        wire.close(limit).await;
        let _ = timeout(LINGER, swallow(wire)).await;
    }
}

fn head_bytes(status: StatusCode, mut headers: HeaderMap) -> Vec<u8> {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(std::time::SystemTime::now())) {
        headers.insert(DATE, date);
    }
    let reason = status.canonical_reason().unwrap_or("");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

async fn swallow(wire: &Wire) {
    let mut left = LINGER_BYTES;
    wire.with_ahead(bytes::BytesMut::clear);
    while let Ok(n @ 1..) = wire.read_ahead().await {
        wire.with_ahead(bytes::BytesMut::clear);
        left = left.saturating_sub(n);
        if left == 0 {
            return;
        }
    }
}
