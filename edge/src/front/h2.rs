//! HTTP/2 connections (RFC 9113), with a server of our own: one task for a connection and all its
//! requests.
//!
//! In the order in which bytes flow: [`frame`] reads frames' heads, [`meter`] counts those that serve
//! no request, [`hpack`] decodes header blocks, [`header`] makes requests of them; [`protocol`] is the
//! state of it all, with its [`window`]s and [`streams`], pure; [`link`] puts it on a wire.
//!
//! The loop takes a request and begins it. What is in RAM is answered there and then: neither a stream
//! nor a future nor a wake-up is made for it, and everything that a connection writes comes together
//! on its wire. Only a request that has to wait is kept, among the others of its connection. A request
//! that panics takes its stream with it and nothing else.

mod frame;
mod header;
pub(crate) mod hpack;
pub(crate) mod link;
pub(crate) mod meter;
pub(crate) mod protocol;
mod streams;
mod window;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, poll};
use tokio::time::{Instant, sleep};

use self::frame::ErrorCode;
use self::link::{End, Link, Shared};
use self::meter::Flood;
use self::protocol::{Arrival, Fatal, Limits};
use super::head::Bounds;
use super::service::{Answers, Exchange, Peer, Service};
use super::session::{H2, Session};
use super::wire::Wire;
use crate::config::LimitConfig;

/// At shutdown, a connection without a request and without a byte in either direction for this
/// long is closed. (A client that hears the GOAWAY closes it before; one that is still taking the
/// rest of an answer has bytes on the way.)
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection to its end. Answers what it was closed for, if the client flooded us.
pub(crate) async fn serve<A: Answers>(
    service: &Arc<Service<A>>,
    wire: &Wire,
    peer: &Peer,
) -> Option<Flood> {
    let link = Arc::new(Link::new(wire, limits(&peer.settings.limits)));
    let mut requests = FuturesUnordered::new();
    let (mut malformed, mut taken, mut draining) = (0, 0, false);
    let mut begun = pin!(service.drain.begun());
    let mut quiet = Quiet::new(peer.settings.timeouts.h2_idle.get(), 0);
    // Until the client has said who it is, it has as long as for a handshake.
    let mut tick = pin!(sleep(peer.settings.timeouts.handshake.get()));
    let mut greeted = false;
    loop {
        let next = |cx: &mut Context<'_>| poll_all(&mut requests, &link, &mut taken, cx);
        let arrival = tokio::select! {
            biased;
            arrival = poll_fn(next) => arrival,
            () = &mut begun, if !draining => {
                (draining, greeted) = (true, true);
                link.say_farewell();
                quiet = Quiet::new(FAREWELL, wire.activity());
                tick.as_mut().reset(Instant::now() + quiet.tick);
                continue;
            }
            () = &mut tick => {
                if !link.has_begun() {
                    return None;
                }
                let activity = if draining { wire.activity() } else { 0 };
                let lasted = quiet.lasted(requests.is_empty(), activity);
                if std::mem::replace(&mut greeted, true) && lasted {
                    link.give_up(ErrorCode::NoError);
                    return None;
                }
                tick.as_mut().reset(Instant::now() + quiet.tick);
                continue;
            }
        };
        let arrival = match arrival {
            Ok(arrival) => arrival,
            Err(End::Left | End::Done) => return None,
            Err(End::Fatal(fatal)) => {
                link.give_up(fatal.code());
                return match fatal {
                    Fatal::Flood(flood) => Some(flood),
                    Fatal::Error(_) => None,
                };
            }
        };
        quiet.begun += 1;
        malformed += usize::from(arrival.opened.refused.is_some());
        if let Some(exchange) = begin(service, &link, peer, &arrival) {
            let session = Session::H2(H2::new(&link, arrival.stream));
            let mut going_on = Box::pin(go_on(service, exchange, arrival, session, peer));
            if poll!(&mut going_on).is_pending() {
                requests.push(going_on);
            }
        }
        if malformed > peer.settings.limits.h2_malformed {
            link.give_up(ErrorCode::EnhanceYourCalm);
            return None;
        }
    }
}

/// Lets the requests that waited go on, then reads.
fn poll_all<F: Future<Output = ()>>(
    requests: &mut FuturesUnordered<Pin<Box<F>>>,
    link: &Link,
    taken: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Arrival, End>> {
    while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
    link.poll_arrival(cx, taken)
}

/// Begins a request, and answers it if nothing has to be waited for. What is left to do otherwise, on
/// a stream that is open then.
fn begin<'a, A: Answers>(
    service: &'a Service<A>,
    link: &Shared,
    peer: &Peer,
    arrival: &Arrival,
) -> Option<Exchange<'a>> {
    let request = &arrival.opened.request;
    let beginning = || match arrival.opened.refused {
        Some(wrong) => service.refuse(request, peer, wrong),
        None => service.begin(request, peer),
    };
    let Ok(mut exchange) = catch_unwind(AssertUnwindSafe(beginning)) else {
        service.access.metrics.panics.inc();
        link.open(arrival);
        link.close(arrival.stream, false);
        return None;
    };
    if answered(link, arrival, &mut exchange) {
        return None;
    }
    link.open(arrival);
    Some(exchange)
}

/// Whether the answer was there, short, and is on its way.
fn answered(link: &Link, arrival: &Arrival, exchange: &mut Exchange<'_>) -> bool {
    let Some((answer, body)) = exchange.ready() else {
        return false;
    };
    let written = link.answer(arrival, answer.status, &answer.headers, body);
    if written {
        let length = body.len() as u64;
        exchange.wrote(length);
    }
    written
}

/// Does what is left of a request. The session's drop resets the stream unless the answer is whole.
async fn go_on<A: Answers>(
    service: &Service<A>,
    exchange: Exchange<'_>,
    arrival: Arrival,
    mut session: Session,
    peer: &Peer,
) {
    let request = &arrival.opened.request;
    let going_on = pin!(service.finish(exchange, request, &mut session, peer));
    if AssertUnwindSafe(going_on).catch_unwind().await.is_err() {
        service.access.metrics.panics.inc();
    }
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

/// What a connection is bounded by.
pub(crate) fn limits(limits: &LimitConfig) -> Limits {
    Limits {
        header: Bounds {
            bytes: usize::try_from(limits.header_size.as_u64()).unwrap_or(usize::MAX),
            fields: limits.header_fields,
        },
        streams: limits.h2_streams,
        frames: limits.h2_frames.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
