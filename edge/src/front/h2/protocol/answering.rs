//! What whoever answers a request does with its stream.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Arrival, FAREWELL_PING, Farewell, Gone, NO_TABLE, Protocol};
use crate::front::h2::frame::{
    self, ErrorCode, Kind, MAX_31, MAX_PAYLOAD, rst_stream, short, window_update,
};
use crate::front::h2::streams::{Over, Stream};
use crate::front::h2::window::Window;

impl Protocol {
    /// Makes a stream of a request that isn't answered at once.
    pub(crate) fn open(&mut self, arrival: &Arrival) {
        let ended = !arrival.opened.request.has_body;
        let send = Window::new(self.initial);
        let stream = Stream::new(send, arrival.opened.declared, ended);
        self.streams.insert(arrival.stream, stream);
    }

    /// A request without a body is answered with `body` bytes in one frame: whether the windows and
    /// the client's frames have room for them. If so they are taken, and the stream is over.
    pub(crate) fn answers_at_once(&mut self, arrival: &Arrival, body: usize) -> bool {
        // What every client takes in one frame; more would not be little.
        let most = MAX_PAYLOAD.min(self.initial as usize);
        if arrival.opened.request.has_body || body > most || !self.send.take(body) {
            return false;
        }
        self.meter.sent(body);
        self.streams.remember(arrival.stream, Over::Closed);
        true
    }

    /// The most that one frame to the client carries.
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// What an answer's header block begins with: nothing, or that we use no dynamic table.
    pub(crate) fn block_prefix(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.tells_table) {
            &[NO_TABLE]
        } else {
            &[]
        }
    }

    /// Whether an answer may be sent on this stream at all.
    pub(crate) fn is_open(&mut self, id: u32) -> bool {
        self.streams.live(id).is_some()
    }

    /// Takes up to `want` bytes, at least one, off both windows; waits for them if need be.
    pub(crate) fn poll_window(
        &mut self,
        id: u32,
        want: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Gone>> {
        let all = self.send.room();
        let Some(stream) = self.streams.live(id) else {
            return Poll::Ready(Err(Gone));
        };
        let granted = want.min(stream.send.room()).min(all);
        if granted == 0 {
            stream.wait(cx.waker());
            if all == 0 {
                self.streams.block(id);
            }
            return Poll::Pending;
        }
        stream.send.take(granted);
        self.send.take(granted);
        self.meter.sent(granted);
        Poll::Ready(Ok(granted))
    }

    /// The next piece of a request's body; `None`: that was all.
    pub(crate) fn poll_body(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Gone>> {
        let Some(stream) = self.streams.live(id) else {
            return Poll::Ready(Err(Gone));
        };
        if let Some(piece) = stream.incoming.pop_front() {
            self.released(id, piece.len());
            return Poll::Ready(Ok(Some(piece)));
        }
        if stream.ended {
            return Poll::Ready(Ok(None));
        }
        stream.wait(cx.waker());
        Poll::Pending
    }

    /// Waits until the stream was reset.
    pub(crate) fn poll_gone(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<()> {
        match self.streams.live(id) {
            Some(stream) => {
                stream.wait(cx.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// The answer is over: with its last byte if `complete`, else it is broken off.
    pub(crate) fn close(&mut self, id: u32, complete: bool) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let (gone, ended) = (stream.gone, stream.ended);
        let unread: usize = stream.incoming.iter().map(Bytes::len).sum();
        let over = match gone {
            Some(gone) => gone,
            None if complete && ended => Over::Closed,
            None => {
                // Broken off; or complete, and the client need not go on (§8.1).
                let code = if complete {
                    ErrorCode::NoError
                } else {
                    ErrorCode::Internal
                };
                rst_stream(&mut self.out, id, code);
                Over::Abandoned
            }
        };
        self.streams.end(id, over);
        self.release(unread);
    }

    /// Begins a graceful shutdown: the client is warned, and when it has answered, what it opens is no
    /// longer looked at (§6.8).
    pub(crate) fn say_farewell(&mut self) {
        if self.farewell == Farewell::Not {
            self.farewell = Farewell::Said;
            frame::go_away(&mut self.out, MAX_31, ErrorCode::NoError);
            short(&mut self.out, Kind::Ping, 0, 0, &FAREWELL_PING);
        }
    }

    /// The last word.
    pub(crate) fn give_up(&mut self, code: ErrorCode) {
        frame::go_away(&mut self.out, self.highest, code);
    }

    /// Bytes of a body were read, or thrown away: the stream and the connection may send more.
    pub(super) fn released(&mut self, id: u32, bytes: usize) {
        let back = self.streams.get(id).filter(|stream| !stream.ended);
        if let Some(back) = back.and_then(|stream| stream.allowance.release(bytes)) {
            window_update(&mut self.out, id, back);
        }
        self.release(bytes);
    }

    pub(super) fn release(&mut self, bytes: usize) {
        if let Some(back) = self.allowance.release(bytes) {
            window_update(&mut self.out, 0, back);
        }
    }
}
