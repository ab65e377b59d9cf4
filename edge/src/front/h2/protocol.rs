//! What a connection's frames mean (RFC 9113): bytes in, requests and bytes out. Pure: it reads no
//! socket and no clock.
//!
//! [`Protocol::receive`] takes frames off what has come. A frame that concerns the connection, or a
//! stream that is open, has its effect at once (windows, bodies, resets, acknowledgements, which are
//! collected in [`Protocol::out`]); a new request is handed out, before the next frame is looked at.
//! Whoever has it answers it at once, or makes a stream of it with [`Protocol::open`] (`answering`).
//! Header blocks are in `blocks`.
//!
//! Failure rule: what breaks the connection's state is [`Fatal`], after which nothing is received;
//! what breaks one stream resets it, and its request finds it gone. Everything that a client can make
//! grow is bounded: streams, a header block, unread bodies (by their windows), what is remembered of
//! streams that are over, and by the [`Meter`](super::meter::Meter) the frames that serve no request.

mod answering;
mod blocks;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;

use super::frame::{
    self, ErrorCode, HEAD, Head, Kind, MAX_31, MAX_PAYLOAD, Setting, flags, rst_stream, short,
    unpadded,
};
use super::header::Opened;
use super::hpack::{DEFAULT_TABLE, Decoder};
use super::meter::{Flood, Meter};
use super::streams::{Over, Streams};
use super::window::{Allowance, INITIAL, Window};
use crate::config::FrameConfig;
use crate::front::head::{Bounds, H2_PREFACE};

/// A header block may be this many times longer than what it may decode to: a request with a header
/// that is too large is told so, and only beyond that is the connection closed.
const BLOCK_SLACK: usize = 4;

/// What we send with the PING of a graceful shutdown.
const FAREWELL_PING: [u8; 8] = *b"farewell";

/// An "update" of the encoder's dynamic table to no size at all (RFC 7541 §6.3).
const NO_TABLE: u8 = 0x20;

/// What a client may ask for on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) header: Bounds,
    /// Requests at once.
    pub(crate) streams: u32,
    pub(crate) frames: FrameConfig,
}

/// A request, and the stream it came on.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: u32,
    pub(crate) opened: Opened,
}

/// Why a connection ends (§5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fatal {
    /// The client broke the protocol.
    Error(ErrorCode),
    /// It sent too much of this.
    Flood(Flood),
}

impl Fatal {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Fatal::Error(code) => code,
            Fatal::Flood(_) => ErrorCode::EnhanceYourCalm,
        }
    }
}

impl From<ErrorCode> for Fatal {
    fn from(code: ErrorCode) -> Fatal {
        Fatal::Error(code)
    }
}

impl From<Flood> for Fatal {
    fn from(flood: Flood) -> Fatal {
        Fatal::Flood(flood)
    }
}

/// The stream is over, or was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// What is being read.
#[derive(Debug)]
enum Reading {
    Preface,
    /// The first frame, which must be SETTINGS (§3.4).
    First,
    Frames,
    /// A header block that goes on in CONTINUATION (§6.10).
    Block(Block),
}

#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
}

/// One connection, as the server has it.
pub(crate) struct Protocol {
    limits: Limits,
    reading: Reading,
    decoder: Decoder,
    meter: Meter,
    streams: Streams,
    /// The highest stream that the client has opened.
    highest: u32,
    /// What we may send on all streams together.
    send: Window,
    /// What the client may.
    allowance: Allowance,
    /// What the client has said of its streams' windows, and of its frames.
    initial: u32,
    max_payload: usize,
    /// The client has to be told that we use no dynamic table.
    tells_table: bool,
    farewell: Farewell,
    out: Vec<u8>,
}

/// How far a graceful shutdown has come (§6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Not,
    /// The client was warned, and asked for a sign that it knows.
    Said,
    /// It knows: streams that it opens now are not looked at.
    Heard,
}

impl Protocol {
    /// A connection of which nothing was read, not even the preface. Our SETTINGS are in [`Self::out`].
    pub(crate) fn new(limits: Limits) -> Protocol {
        let mut out = Vec::with_capacity(HEAD + 18);
        let list = u32::try_from(limits.header.bytes).unwrap_or(u32::MAX);
        let settings = [
            (frame::MAX_CONCURRENT_STREAMS, limits.streams),
            (frame::MAX_HEADER_LIST_SIZE, list),
            (frame::NO_RFC7540_PRIORITIES, 1),
        ];
        frame::write_settings(&mut out, &settings);
        Protocol {
            meter: Meter::new(limits.frames.clone()),
            limits,
            reading: Reading::Preface,
            decoder: Decoder::new(DEFAULT_TABLE),
            streams: Streams::default(),
            highest: 0,
            send: Window::new(INITIAL),
            allowance: Allowance::new(),
            initial: INITIAL,
            max_payload: MAX_PAYLOAD,
            tells_table: false,
            farewell: Farewell::Not,
            out,
        }
    }

    /// Frames of ours that are to be sent before anything else is.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the client's preface and its SETTINGS have come.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.reading, Reading::Preface | Reading::First)
    }

    /// Whether a graceful shutdown has come to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.farewell == Farewell::Heard && self.streams.len() == 0
    }

    /// Takes whole frames off `input`, counting the bytes in `used`, up to the next request. `None`:
    /// the next frame isn't all there.
    ///
    /// # Errors
    /// [`Fatal`]; nothing may be received after it.
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        used: &mut usize,
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<Option<Arrival>, Fatal> {
        if matches!(self.reading, Reading::Preface) && !self.preface(input, used)? {
            return Ok(None);
        }
        while let Some(bytes) = input.get(*used..*used + HEAD) {
            let mut head = [0; HEAD];
            head.copy_from_slice(bytes);
            let head = Head::parse(head);
            if head.length > MAX_PAYLOAD {
                return Err(ErrorCode::FrameSize.into());
            }
            let begin = *used + HEAD;
            let Some(payload) = input.get(begin..begin + head.length) else {
                break;
            };
            *used = begin + head.length;
            if let Some(arrival) = self.frame(head, payload, clock)? {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    fn preface(&mut self, input: &[u8], used: &mut usize) -> Result<bool, Fatal> {
        let n = input.len().min(H2_PREFACE.len());
        if input[..n] != H2_PREFACE[..n] {
            return Err(ErrorCode::Protocol.into());
        }
        let whole = n == H2_PREFACE.len();
        if whole {
            *used = n;
            self.reading = Reading::First;
        }
        Ok(whole)
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<Option<Arrival>, Fatal> {
        self.meter.received(head, clock)?;
        match &self.reading {
            Reading::First if head.kind != Kind::Settings || head.has(flags::ACK) => {
                return Err(ErrorCode::Protocol.into());
            }
            Reading::First => self.reading = Reading::Frames,
            Reading::Block(block) => {
                if head.kind != Kind::Continuation || head.stream != block.stream {
                    return Err(ErrorCode::Protocol.into());
                }
                return self.continuation(head, payload, clock);
            }
            Reading::Preface | Reading::Frames => {}
        }
        match head.kind {
            Kind::Headers => return self.headers(head, payload, clock),
            Kind::Data => self.data(head, payload, clock)?,
            Kind::Priority => self.priority(head, payload)?,
            Kind::RstStream => self.rst_stream(head, payload)?,
            Kind::Settings => self.settings(head, payload)?,
            Kind::Ping => self.ping(head, payload)?,
            Kind::GoAway if head.stream != 0 => return Err(ErrorCode::Protocol.into()),
            Kind::GoAway if payload.len() < 8 => return Err(ErrorCode::FrameSize.into()),
            Kind::WindowUpdate => self.window_update(head, payload, clock)?,
            Kind::PushPromise | Kind::Continuation => return Err(ErrorCode::Protocol.into()),
            // A client that goes away opens no more streams; those it has are answered.
            Kind::GoAway | Kind::Unknown => {}
        }
        Ok(None)
    }

    fn data(
        &mut self,
        head: Head,
        payload: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<(), Fatal> {
        if !self.allowance.receive(payload.len()) {
            return Err(ErrorCode::FlowControl.into());
        }
        let data = unpadded(head, payload).ok_or(ErrorCode::Protocol)?;
        self.opened_before(head.stream)?;
        let over = self.streams.over(head.stream);
        let Some(stream) = self.streams.live(head.stream) else {
            self.release(payload.len());
            return match over {
                Some(Over::Closed) => self.made_reset(head.stream, ErrorCode::StreamClosed, clock),
                // Sent before the client knew that nobody reads it.
                _ => Ok(()),
            };
        };
        stream.received += data.len() as u64;
        let ends = head.has(flags::END_STREAM);
        let fits = stream
            .declared
            .is_none_or(|length| stream.received == length || (stream.received < length && !ends));
        let wrong = if stream.ended {
            Some(ErrorCode::StreamClosed)
        } else if !stream.allowance.receive(payload.len()) {
            Some(ErrorCode::FlowControl)
        } else {
            (!fits).then_some(ErrorCode::Protocol)
        };
        if let Some(code) = wrong {
            self.release(payload.len());
            return self.made_reset(head.stream, code, clock);
        }
        stream.ended |= ends;
        if !data.is_empty() {
            stream.incoming.push_back(Bytes::copy_from_slice(data));
        }
        stream.wake();
        self.released(head.stream, payload.len() - data.len());
        Ok(())
    }

    /// Streams that were never opened are an error of the connection (§5.1).
    fn opened_before(&self, id: u32) -> Result<(), Fatal> {
        if id == 0 || id > self.highest || id.is_multiple_of(2) {
            return Err(ErrorCode::Protocol.into());
        }
        Ok(())
    }

    fn priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if payload.len() != 5 {
            return Err(ErrorCode::FrameSize.into());
        }
        if head.stream == 0 || depends_on_itself(head.stream, payload) {
            return Err(ErrorCode::Protocol.into());
        }
        Ok(())
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if payload.len() != 4 {
            return Err(ErrorCode::FrameSize.into());
        }
        self.opened_before(head.stream)?;
        match self.streams.live(head.stream) {
            Some(stream) => stream.reset(Over::Closed),
            // Nothing that comes on it now is right any more.
            None => self.streams.remember(head.stream, Over::Closed),
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(ErrorCode::Protocol.into());
        }
        let ack = head.has(flags::ACK);
        if !payload.len().is_multiple_of(6) || (ack && !payload.is_empty()) {
            return Err(ErrorCode::FrameSize.into());
        }
        if ack {
            return Ok(());
        }
        for setting in frame::settings(payload) {
            self.setting(setting)?;
        }
        short(&mut self.out, Kind::Settings, flags::ACK, 0, &[]);
        Ok(())
    }

    fn setting(&mut self, setting: Setting) -> Result<(), Fatal> {
        match setting {
            Setting::HeaderTableSize(size) => {
                self.tells_table |= (size as usize) < DEFAULT_TABLE;
            }
            Setting::EnablePush(0 | 1) | Setting::Other => {}
            Setting::EnablePush(_) => return Err(ErrorCode::Protocol.into()),
            Setting::InitialWindowSize(size) if size > MAX_31 => {
                return Err(ErrorCode::FlowControl.into());
            }
            Setting::InitialWindowSize(size) => {
                let old = std::mem::replace(&mut self.initial, size);
                let adjusted = self.streams.adjust(old, size);
                adjusted.map_err(|_| ErrorCode::FlowControl)?;
            }
            Setting::MaxFrameSize(size) => {
                if !(MAX_PAYLOAD..1 << 24).contains(&(size as usize)) {
                    return Err(ErrorCode::Protocol.into());
                }
                self.max_payload = size as usize;
            }
        }
        Ok(())
    }

    fn ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(ErrorCode::Protocol.into());
        }
        if payload.len() != 8 {
            return Err(ErrorCode::FrameSize.into());
        }
        if !head.has(flags::ACK) {
            short(&mut self.out, Kind::Ping, flags::ACK, 0, payload);
        } else if self.farewell == Farewell::Said && *payload == FAREWELL_PING {
            self.farewell = Farewell::Heard;
            frame::go_away(&mut self.out, self.highest, ErrorCode::NoError);
        }
        Ok(())
    }

    fn window_update(
        &mut self,
        head: Head,
        payload: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<(), Fatal> {
        let bytes: [u8; 4] = payload.try_into().map_err(|_| ErrorCode::FrameSize)?;
        let bytes = u32::from_be_bytes(bytes) & MAX_31;
        if head.stream == 0 {
            if bytes == 0 {
                return Err(ErrorCode::Protocol.into());
            }
            self.send.grow(bytes).map_err(|_| ErrorCode::FlowControl)?;
            self.streams.unblock();
            return Ok(());
        }
        self.opened_before(head.stream)?;
        let Some(stream) = self.streams.live(head.stream) else {
            return match (bytes, self.streams.over(head.stream)) {
                (0, Some(_)) => self.made_reset(head.stream, ErrorCode::Protocol, clock),
                _ => Ok(()),
            };
        };
        let wrong = match stream.send.grow(bytes) {
            _ if bytes == 0 => ErrorCode::Protocol,
            Err(_) => ErrorCode::FlowControl,
            Ok(()) => {
                stream.wake();
                return Ok(());
            }
        };
        self.made_reset(head.stream, wrong, clock)
    }

    /// Resets a stream because of what came on it. Its request finds it gone.
    fn made_reset(
        &mut self,
        id: u32,
        code: ErrorCode,
        clock: impl Fn() -> Instant,
    ) -> Result<(), Fatal> {
        rst_stream(&mut self.out, id, code);
        let over = self.streams.over(id);
        match (self.streams.get(id), over) {
            (Some(stream), _) => stream.reset(Over::Abandoned),
            (None, None) => self.streams.remember(id, Over::Abandoned),
            (None, Some(_)) => {}
        }
        Ok(self.meter.made_reset(clock)?)
    }
}

fn depends_on_itself(stream: u32, priority: &[u8]) -> bool {
    let on = priority.first_chunk().map(|on| u32::from_be_bytes(*on));
    on.is_some_and(|on| on & MAX_31 == stream)
}
