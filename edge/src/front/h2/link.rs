//! One HTTP/2 connection: its [`Protocol`] and its [`Wire`], shared by the loop that reads and the
//! requests that are answered.
//!
//! All of them run in the connection's task, so neither lock is ever contended. Lock order: the
//! protocol, the wire. What the protocol wants sent goes out before anything that is written later.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::header::DATE;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::frame::{self, ErrorCode, HEAD, Kind, flags, head};
use super::hpack::encode;
use super::protocol::{Arrival, Fatal, Gone, Limits, Protocol};
use crate::front::session::date;
use crate::front::tls_stream::RECORD;
use crate::front::wire::Wire;

/// After so many bytes other connections have their turn.
const TURN: usize = 64 << 10;

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has closed its side, or the connection broke.
    Left,
    /// A graceful shutdown has come to its end.
    Done,
    /// The client must be sent away.
    Fatal(Fatal),
}

/// The connection.
pub(crate) struct Link {
    wire: Wire,
    protocol: Mutex<Protocol>,
}

impl Link {
    /// A connection of which nothing was read. Our SETTINGS are on their way.
    pub(crate) fn new(wire: &Wire, limits: Limits) -> Link {
        let link = Link {
            wire: wire.clone(),
            protocol: Mutex::new(Protocol::new(limits)),
        };
        link.with(|_| ());
        link
    }

    /// Has something done by the protocol, and sends what it wants sent.
    fn with<R>(&self, act: impl FnOnce(&mut Protocol) -> R) -> R {
        let mut protocol = self.protocol.lock();
        let result = act(&mut protocol);
        let out = protocol.out();
        if !out.is_empty() {
            self.wire.push(&[out]);
            *out = Vec::new();
        }
        result
    }

    /// The next request. `taken` counts the bytes that were read in this turn.
    pub(crate) fn poll_arrival(
        &self,
        cx: &mut Context<'_>,
        taken: &mut usize,
    ) -> Poll<Result<Arrival, End>> {
        loop {
            let received = self.with(|protocol| {
                let received = self.wire.with_ahead(|ahead| receive(protocol, ahead));
                match received {
                    Ok(None) if protocol.is_done() => Err(End::Done),
                    received => received.map_err(End::Fatal),
                }
            });
            if let Some(arrival) = received.transpose() {
                return Poll::Ready(arrival);
            }
            if *taken >= TURN {
                *taken = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(self.wire.poll_read_ahead(cx)) {
                Ok(n @ 1..) => *taken += n,
                Ok(0) | Err(_) => return Poll::Ready(Err(End::Left)),
            }
        }
    }

    /// Answers a request without a body at once, with a short body or none. False if something is in
    /// the way: the client's windows, or what it has not yet taken.
    pub(crate) fn answer(
        &self,
        arrival: &Arrival,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> bool {
        if !self.wire.has_room() {
            return false;
        }
        self.with(|protocol| {
            if !protocol.answers_at_once(arrival, body.len()) {
                return false;
            }
            let id = arrival.stream;
            let (prefix, most) = (protocol.block_prefix(), protocol.max_payload());
            self.wire.write_with(|out| {
                headers_frame(out, id, body.is_empty(), most, |block| {
                    encode_head(block, prefix, status, headers);
                });
                if !body.is_empty() {
                    let data = head(Kind::Data, flags::END_STREAM, id, body.len());
                    out.extend_from_slice(&data);
                    out.extend_from_slice(body);
                }
            });
            true
        })
    }

    /// Makes a stream of a request that isn't answered at once.
    pub(crate) fn open(&self, arrival: &Arrival) {
        self.with(|protocol| protocol.open(arrival));
    }

    /// Sends the head of an answer; `end` if nothing follows.
    ///
    /// # Errors
    /// The client has given the request up.
    pub(crate) fn write_head(
        &self,
        id: u32,
        status: StatusCode,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        self.with(|protocol| {
            if !protocol.is_open(id) {
                return Err(Gone);
            }
            let (prefix, most) = (protocol.block_prefix(), protocol.max_payload());
            self.wire.write_with(|out| {
                headers_frame(out, id, end, most, |block| {
                    encode_head(block, prefix, status, headers);
                });
            });
            Ok(())
        })
    }

    /// Waits for room on the wire and in the client's windows, and takes up to `want` bytes of it, at
    /// least one. They have to be sent with [`Self::write_data`].
    pub(crate) fn poll_room(
        &self,
        id: u32,
        want: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Gone>> {
        match self.wire.poll_room(cx) {
            Poll::Pending => self.poll_gone(id, cx).map(|()| Err(Gone)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Gone)),
            Poll::Ready(Ok(())) => self.protocol.lock().poll_window(id, want, cx),
        }
    }

    /// Sends bytes for which there is room; `end` if they are the last. None at all need no room.
    pub(crate) fn write_data(&self, id: u32, bytes: &[u8], end: bool) {
        let most = self.protocol.lock().max_payload();
        if bytes.is_empty() {
            let ended = head(Kind::Data, flags::END_STREAM, id, 0);
            return self.wire.push(&[&ended]);
        }
        // A frame's content and the next one's head fill a TLS record.
        let mut left = bytes.len();
        let frames = bytes.chunks(most.min(RECORD - HEAD)).map(|part| {
            left -= part.len();
            let last = end && left == 0;
            let flags = if last { flags::END_STREAM } else { 0 };
            (head(Kind::Data, flags, id, part.len()), part)
        });
        self.wire.push_frames(frames);
    }

    /// Whether an answer may still be sent.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        self.protocol.lock().is_open(id)
    }

    /// The next piece of a request's body.
    pub(crate) fn poll_body(
        &self,
        id: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Gone>> {
        self.with(|protocol| protocol.poll_body(id, cx))
    }

    /// Waits until the client has given the request up.
    pub(crate) fn poll_gone(&self, id: u32, cx: &mut Context<'_>) -> Poll<()> {
        self.protocol.lock().poll_gone(id, cx)
    }

    /// A request is over; unless `complete`, its answer is broken off visibly.
    pub(crate) fn close(&self, id: u32, complete: bool) {
        self.with(|protocol| protocol.close(id, complete));
    }

    /// Begins a graceful shutdown.
    pub(crate) fn say_farewell(&self) {
        self.with(Protocol::say_farewell);
    }

    /// Says the last word.
    pub(crate) fn give_up(&self, code: ErrorCode) {
        self.with(|protocol| protocol.give_up(code));
    }

    /// Whether the client has said what a client says first.
    pub(crate) fn has_begun(&self) -> bool {
        self.protocol.lock().has_begun()
    }
}

/// Takes what can be taken off the bytes that were read ahead. A connection that has none keeps no
/// buffer for them.
fn receive(protocol: &mut Protocol, ahead: &mut BytesMut) -> Result<Option<Arrival>, Fatal> {
    let mut used = 0;
    let received = protocol.receive(ahead, &mut used, Instant::now);
    ahead.advance(used);
    if ahead.is_empty() {
        *ahead = BytesMut::new();
    }
    received
}

/// A head's fields as HPACK has them, behind what the block begins with; with a `Date` if there is none.
fn encode_head(block: &mut Vec<u8>, prefix: &[u8], status: StatusCode, headers: &HeaderMap) {
    block.extend_from_slice(prefix);
    encode::status(block, status);
    let now = (!headers.contains_key(DATE)).then(date);
    for (name, value) in headers.iter().chain(now.iter().map(|now| (&DATE, now))) {
        encode::field(block, name, value.as_bytes());
    }
}

/// HEADERS with what `encode` puts into it, and CONTINUATION for what is above `most` bytes.
fn headers_frame(
    out: &mut Vec<u8>,
    id: u32,
    end: bool,
    most: usize,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    encode(out);
    let length = out.len() - begin - HEAD;
    let ends = if end { flags::END_STREAM } else { 0 };
    if length <= most {
        let first = head(Kind::Headers, flags::END_HEADERS | ends, id, length);
        out[begin..begin + HEAD].copy_from_slice(&first);
        return;
    }
    let block = out.split_off(begin + HEAD);
    out.truncate(begin);
    let mut parts = block.chunks(most).peekable();
    let mut kind = Kind::Headers;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() {
            flags::END_HEADERS
        } else {
            0
        };
        let ends = if kind == Kind::Headers { ends } else { 0 };
        frame::short(out, kind, last | ends, id, part);
        kind = Kind::Continuation;
    }
}

/// A [`Link`] as its requests hold it.
pub(crate) type Shared = Arc<Link>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_head_goes_on_in_continuations() {
        let mut out = b"before".to_vec();
        headers_frame(&mut out, 5, true, 10, |block| block.extend(0..25));
        let mut frames = Vec::new();
        let mut rest = &out[6..];
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let head = frame::Head::parse(*head);
            frames.push((head.kind, head.flags, behind[..head.length].to_vec()));
            rest = &behind[head.length..];
        }
        let expected = [
            (Kind::Headers, flags::END_STREAM, (0..10).collect()),
            (Kind::Continuation, 0, (10..20).collect()),
            (
                Kind::Continuation,
                flags::END_HEADERS,
                (20..25).collect::<Vec<u8>>(),
            ),
        ];
        assert_eq!(frames, expected);
    }
}
