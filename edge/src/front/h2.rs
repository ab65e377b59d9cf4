//! HTTP/2 connections: a task for the connection, a task for every request.
//!
//! The connection's task drives Pingora's accept loop step by step, because Pingora's own loop
//! can't be told to flush (see `wire`), nor to end an idle connection quickly. Requests are tasks
//! on the same thread; one that panics takes its stream with it and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use h2::Reason as H2Reason;
use h2::server::Connection;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, Stream};
use tokio::time::{sleep, timeout};

use super::service::{Answers, Peer, Service};
use super::session::Session;
use super::wire::Wire;
use crate::config::LimitConfig;

/// At shutdown, a connection without a request and without a byte in either direction for this
/// long is closed. (A client that hears the GOAWAY closes it before; one that is still taking the
/// rest of an answer has bytes on the way.)
const FAREWELL: Duration = Duration::from_secs(1);

/// Requests carry no bodies here: the smallest window there is sense in.
const REQUEST_WINDOW: u32 = 16 << 10;

/// Frames of one connection that we may have to answer with a reset. A client that opens all its
/// streams before it has seen our settings is refused some of them, which counts here.
const LOCAL_RESETS: usize = 1024;

type H2 = Connection<Stream, bytes::Bytes>;

/// Serves a connection to its end.
pub(crate) async fn serve<A: Answers>(service: &Arc<Service<A>>, wire: &Wire, peer: &Peer) {
    let shaking = handshake(Box::new(wire.clone()), Some(options(&peer.settings.limits)));
    let Ok(Ok(mut connection)) = timeout(peer.settings.timeouts.handshake.get(), shaking).await
    else {
        return;
    };
    let digest = Arc::new(Digest {
        socket_digest: wire.socket_digest(),
        ..Digest::default()
    });
    let busy = Busy::default();
    let mut malformed = 0;
    let mut draining = false;
    let mut begun = std::pin::pin!(service.drain.begun());
    let mut quiet = std::pin::pin!(quiet(&busy, peer.settings.timeouts.h2_idle.get(), None));
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = &mut begun, if !draining => {
                draining = true;
                connection.graceful_shutdown();
                quiet.set(self::quiet(&busy, FAREWELL, Some(wire)));
                continue;
            }
            () = &mut quiet => {
                say_goodbye(&mut connection, H2Reason::NO_ERROR, &digest).await;
                return;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => spawn(service, session, peer, busy.enter()),
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed > peer.settings.limits.h2_malformed {
                    say_goodbye(&mut connection, H2Reason::ENHANCE_YOUR_CALM, &digest).await;
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Ends when nothing speaks for keeping the connection: for a whole `tick` no request was begun and
/// none was under way; nor, if a wire is given, did a byte pass on it. Looked at once a tick, so that
/// a request costs it no more than a count.
async fn quiet(busy: &Busy, tick: Duration, wire: Option<&Wire>) {
    loop {
        let seen = || (busy.begun(), wire.map(Wire::activity));
        let before = seen();
        sleep(tick).await;
        if busy.is_idle() && seen() == before {
            return;
        }
    }
}

fn options(limits: &LimitConfig) -> H2Options {
    let mut options = default_h2_options();
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    options
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_size.as_u64()).unwrap_or(u32::MAX))
        .max_send_buffer_size(bytes(limits.h2_send_buffer.as_u64()))
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .initial_window_size(REQUEST_WINDOW);
    options
}

fn spawn<A: Answers>(service: &Arc<Service<A>>, session: HttpSession, peer: &Peer, one: One) {
    let (service, peer) = (Arc::clone(service), peer.clone());
    tokio::spawn(async move {
        let _one = one;
        let mut session = Session::H2(Box::new(session));
        let served = std::panic::AssertUnwindSafe(service.serve(&mut session, &peer));
        // The session's drop resets the stream: the client sees that the answer is not whole.
        if served.catch_unwind().await.is_err() {
            service.access.metrics.panics.inc();
        }
    });
}

/// Sends GOAWAY and lets the connection say its last words.
async fn say_goodbye(connection: &mut H2, reason: H2Reason, digest: &Arc<Digest>) {
    connection.abrupt_shutdown(reason);
    let rest = async {
        while let Ok(Some(_)) = HttpSession::from_h2_conn(connection, Arc::clone(digest)).await {}
    };
    let _ = timeout(FAREWELL, rest).await;
}

/// The requests of a connection. All its tasks run on one thread: plain counters would do, if they
/// could be sent.
#[derive(Default)]
struct Busy(Arc<Counts>);

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    under_way: AtomicU64,
}

/// One request; dropping it is its end.
struct One(Arc<Counts>);

impl Busy {
    fn enter(&self) -> One {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        One(Arc::clone(&self.0))
    }

    /// Requests begun so far.
    fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.0.under_way.load(Ordering::Relaxed) == 0
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
