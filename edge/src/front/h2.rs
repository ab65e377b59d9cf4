//! HTTP/2 connections: one task for a connection and all its requests.
//!
//! The loop accepts a request, makes its future and polls it once. What is in RAM is answered by
//! that one poll, right there; only a request that has to wait is kept, among the others of its
//! connection. So a hit costs no task and no wake-up, and everything that a connection writes comes
//! together on its wire. A request that panics takes its stream with it and nothing else.

#[cfg_attr(
    not(any(test, fuzzing)),
    expect(dead_code, unused_imports, reason = "the server that uses it follows")
)]
pub(crate) mod hpack;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, poll};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason as H2Reason, RecvStream};
use http::header::{CONTENT_LENGTH, HOST};
use tokio::time::{Instant, sleep, timeout};

use super::request::Request;
use super::service::{Answers, Peer, Service};
use super::session::{H2, Session};
use super::wire::Wire;
use crate::config::LimitConfig;

/// At shutdown, a connection without a request and without a byte in either direction for this
/// long is closed. (A client that hears the GOAWAY closes it before; one that is still taking the
/// rest of an answer has bytes on the way.)
const FAREWELL: Duration = Duration::from_secs(1);

/// What a client may send of one request's body, and of all of a connection's, before it is read:
/// the protocol's own default.
const REQUEST_WINDOW: u32 = 65_535;

type Accepted = Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// Serves a connection to its end.
pub(crate) async fn serve<A: Answers>(service: &Arc<Service<A>>, wire: &Wire, peer: &Peer) {
    let shaking = options(&peer.settings.limits).handshake(wire.clone());
    let Ok(Ok(mut connection)) = timeout(peer.settings.timeouts.handshake.get(), shaking).await
    else {
        return;
    };
    let mut requests = FuturesUnordered::new();
    let mut malformed = 0;
    let mut draining = false;
    let mut begun = pin!(service.drain.begun());
    let mut quiet = Quiet::new(peer.settings.timeouts.h2_idle.get(), 0);
    let mut tick = pin!(sleep(quiet.tick));
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = poll_fn(|cx| poll_all(&mut requests, &mut connection, cx)) => accepted,
            () = &mut begun, if !draining => {
                draining = true;
                connection.graceful_shutdown();
                quiet = Quiet::new(FAREWELL, wire.activity());
                tick.as_mut().reset(Instant::now() + quiet.tick);
                continue;
            }
            () = &mut tick => {
                let activity = if draining { wire.activity() } else { 0 };
                if quiet.lasted(requests.is_empty(), activity) {
                    say_goodbye(&mut connection, H2Reason::NO_ERROR).await;
                    return;
                }
                tick.as_mut().reset(Instant::now() + quiet.tick);
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        quiet.begun += 1;
        let (request, session) = session(request, respond);
        let wrong = wrong(&request);
        malformed += usize::from(wrong.is_some());
        let mut answering = Box::pin(answer(service, request, session, peer, wrong));
        if poll!(&mut answering).is_pending() {
            requests.push(answering);
        }
        if malformed > peer.settings.limits.h2_malformed {
            say_goodbye(&mut connection, H2Reason::ENHANCE_YOUR_CALM).await;
            return;
        }
    }
}

/// Lets the requests that waited go on, then the connection, which sends what they wrote.
fn poll_all<F: Future<Output = ()>>(
    requests: &mut FuturesUnordered<Pin<Box<F>>>,
    connection: &mut Connection<Wire, Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Accepted> {
    while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
    connection.poll_accept(cx)
}

fn session(request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> (Request, Session) {
    let (parts, body) = request.into_parts();
    let body = (!body.is_end_stream()).then_some(body);
    let request = Request::of_h2(parts, body.is_some());
    (request, Session::H2(H2::new(respond, body)))
}

async fn answer<A: Answers>(
    service: &Service<A>,
    request: Request,
    mut session: Session,
    peer: &Peer,
    wrong: Option<&'static str>,
) {
    let serving = pin!(async {
        match wrong {
            None => service.serve(&request, &mut session, peer).await,
            Some(what) => Box::pin(service.refuse(&request, &mut session, peer, what)).await,
        }
    });
    // The session's drop resets the stream: the client sees that the answer is not whole.
    if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
        service.access.metrics.panics.inc();
    }
}

/// What `h2` lets pass and nobody further on should see (RFC 9113 §8.1.1, §8.3.1). Pure.
fn wrong(request: &Request) -> Option<&'static str> {
    let target = request.target();
    if request.authority().is_empty() {
        return Some("neither :authority nor Host");
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    if !hosts.all(|host| {
        host.as_bytes()
            .eq_ignore_ascii_case(request.authority().as_bytes())
    }) {
        return Some("Host and :authority differ");
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(":path holds a byte that must be percent-encoded");
    }
    if target.contains("://") && !target.starts_with('/') {
        return Some(":path is a whole URL");
    }
    let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        return Some("Content-Length fields that differ");
    }
    None
}

/// Whether anything speaks for keeping a connection. Looked at once a tick, so that a request costs
/// it no more than a count.
struct Quiet {
    tick: Duration,
    /// Requests so far.
    begun: u64,
    /// What was so when the tick began: requests, and bytes' comings and goings.
    seen: (u64, u64),
}

impl Quiet {
    fn new(tick: Duration, activity: u64) -> Quiet {
        Quiet {
            tick,
            begun: 0,
            seen: (0, activity),
        }
    }

    /// At the end of a tick: whether all through it no request was begun, `activity` stood still,
    /// and none is under way.
    fn lasted(&mut self, idle: bool, activity: u64) -> bool {
        let now = (self.begun, activity);
        std::mem::replace(&mut self.seen, now) == now && idle
    }
}

fn options(limits: &LimitConfig) -> Builder {
    let mut options = Builder::new();
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    options
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_size.as_u64()).unwrap_or(u32::MAX))
        .max_send_buffer_size(bytes(limits.h2_send_buffer.as_u64()))
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(Some(limits.h2_local_resets))
        .initial_window_size(REQUEST_WINDOW);
    options
}

/// Sends GOAWAY and lets the connection say its last words.
async fn say_goodbye(connection: &mut Connection<Wire, Bytes>, reason: H2Reason) {
    connection.abrupt_shutdown(reason);
    let rest = async { while let Some(Ok(_)) = connection.accept().await {} };
    let _ = timeout(FAREWELL, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        let mut request = http::Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        wrong(&Request::of_h2(parts, false))
    }

    #[test]
    fn what_another_hop_could_read_otherwise_is_wrong() {
        assert_eq!(of("https://go.test/a?b", &[]), None);
        assert_eq!(of("https://go.test/a", &[("host", "GO.test")]), None);
        assert_eq!(of("/a", &[("host", "go.test")]), None);
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert_eq!(of("https://go.test/a", &twice), None);
        for (uri, fields) in [
            ("/a", &[][..]),
            ("/a", &[("host", "a.test"), ("host", "b.test")]),
            ("https://go.test/a", &[("host", "other.test")]),
            ("https://go.test/a\u{e9}", &[]),
            (
                "https://go.test/a",
                &[("content-length", "5"), ("content-length", "6")],
            ),
        ] {
            assert!(of(uri, fields).is_some(), "{uri} {fields:?}");
        }
    }

    #[test]
    fn quiet_is_a_whole_tick_without_anything() {
        let mut quiet = Quiet::new(Duration::from_secs(1), 7);
        assert!(!quiet.lasted(false, 7), "a request is under way");
        quiet.begun += 1;
        assert!(!quiet.lasted(true, 7), "one was begun");
        assert!(!quiet.lasted(true, 8), "bytes came");
        assert!(quiet.lasted(true, 8));
    }
}
