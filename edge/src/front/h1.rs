//! HTTP/1.x connections: one request after the other.
//!
//! The loop reads a whole header ahead, bounded in time (from its first byte) and size, checks it
//! (`head`), and takes exactly that off the wire. What a client has sent beyond it waits there for
//! its turn, so pipelined requests are answered in order. After anything ambiguous, and after a body
//! that nobody read, the connection is closed.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use tokio::time::timeout;

use modcdn_core::refusal::{Reason, Refusal};

use super::head::{Bounds, H2_PREFACE, Malformed, Scan};
use super::request::Request;
use super::service::{Answers, Peer, Service, refused};
use super::session::{H1, Session, head_bytes};
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
        () = service.drain.last_call() => Opening::Closed,
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
                refuse(service, wire, peer, malformed).await;
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
            () = service.drain.last_call() => return Next::Closed,
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
    let header = wire.with_ahead(|ahead| ahead.split_to(length).freeze());
    let (request, framing) = match Request::of_h1(&header, bounds(peer)) {
        Ok(read) => read,
        Err(malformed) => {
            refuse(service, wire, peer, malformed).await;
            return After::Close(End::Clean);
        }
    };
    let mut h1 = H1::new(wire, &request, framing);
    if service.drain.has_begun() {
        h1.close_after();
    }
    let mut session = Session::H1(h1);
    service.serve(&request, &mut session, peer).await;
    match session {
        Session::H1(h1) if h1.reusable() => After::Again,
        Session::H1(h1) if h1.complete() => {
            if !h1.was_read() {
                part(wire, peer).await;
            }
            After::Close(End::Clean)
        }
        _ => After::Close(End::Aborted),
    }
}

/// Answers without a session, and the connection is over: nobody knows what comes next on it.
async fn refuse<A: Answers>(service: &Service<A>, wire: &Wire, peer: &Peer, malformed: Malformed) {
    let mut entry = service.access.enter(peer.address, "HTTP/1.1", "-", "-");
    let mut answer = refused(&Refusal::new(malformed.reason, "-", malformed.what));
    (entry.status, entry.reason) = (answer.status, answer.reason);
    let close = HeaderValue::from_static("close");
    answer.headers.insert(CONNECTION, close);
    let mut bytes = head_bytes(answer.status, &answer.headers);
    if let Body::Whole(body) = &answer.body {
        bytes.extend_from_slice(body);
        entry.bytes = body.len() as u64;
    }
    let limit = peer.settings.timeouts.write.get();
    if matches!(timeout(limit, wire.send(&[&bytes])).await, Ok(Ok(()))) {
        part(wire, peer).await;
    }
}

/// Closes our side while the client may still be sending: what comes is swallowed for a while.
async fn part(wire: &Wire, peer: &Peer) {
    wire.close(peer.settings.timeouts.write.get()).await;
    let _ = timeout(LINGER, swallow(wire)).await;
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
