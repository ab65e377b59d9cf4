//! Header blocks: requests, and the trailers of some (RFC 9113 §6.2, §6.10, §8.1).

use std::time::Instant;

use super::{Arrival, BLOCK_SLACK, Block, Farewell, Fatal, Protocol, Reading, depends_on_itself};
use crate::front::h2::frame::{ErrorCode, Head, flags, unpadded};
use crate::front::h2::header::{Collector, Malformed, may_trail};
use crate::front::h2::meter::Flood;
use crate::front::h2::streams::Over;

impl Protocol {
    pub(super) fn headers(
        &mut self,
        head: Head,
        payload: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<Option<Arrival>, Fatal> {
        if head.stream.is_multiple_of(2) {
            return Err(ErrorCode::Protocol.into());
        }
        let mut fragment = unpadded(head, payload).ok_or(ErrorCode::Protocol)?;
        if head.has(flags::PRIORITY) {
            let (priority, rest) = fragment.split_at_checked(5).ok_or(ErrorCode::FrameSize)?;
            if depends_on_itself(head.stream, priority) {
                return Err(ErrorCode::Protocol.into());
            }
            fragment = rest;
        }
        let ends = head.has(flags::END_STREAM);
        if head.has(flags::END_HEADERS) {
            return self.block(head.stream, ends, fragment, clock);
        }
        self.reading = Reading::Block(Block {
            stream: head.stream,
            ends,
            bytes: fragment.to_vec(),
        });
        Ok(None)
    }

    pub(super) fn continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<Option<Arrival>, Fatal> {
        let Reading::Block(block) = &mut self.reading else {
            return Err(ErrorCode::Protocol.into());
        };
        if block.bytes.len() + payload.len() > BLOCK_SLACK * self.limits.header.bytes {
            return Err(Fatal::Flood(Flood::Continuation));
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(flags::END_HEADERS) {
            return Ok(None);
        }
        let Block {
            stream,
            ends,
            bytes,
        } = Block {
            bytes: std::mem::take(&mut block.bytes),
            ..*block
        };
        self.reading = Reading::Frames;
        self.block(stream, ends, &bytes, clock)
    }

    /// A whole header block: a request, or the trailers of one.
    fn block(
        &mut self,
        id: u32,
        ends: bool,
        bytes: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<Option<Arrival>, Fatal> {
        if id <= self.highest {
            self.trailers(id, ends, bytes, clock)?;
            return Ok(None);
        }
        self.highest = id;
        let mut collector = Collector::new(self.limits.header);
        self.decode(bytes, |name, value| collector.field(name, value))?;
        if self.farewell == Farewell::Heard {
            // The client was told that this one isn't looked at.
            self.streams.remember(id, Over::Abandoned);
            return Ok(None);
        }
        if self.streams.len() >= self.limits.streams as usize {
            self.made_reset(id, ErrorCode::RefusedStream, clock)?;
            return Ok(None);
        }
        match collector.finish(ends) {
            Ok(opened) => Ok(Some(Arrival { stream: id, opened })),
            Err(Malformed) => {
                self.made_reset(id, ErrorCode::Protocol, clock)?;
                Ok(None)
            }
        }
    }

    /// A header block on a stream that has been opened: trailers, which nobody looks at.
    fn trailers(
        &mut self,
        id: u32,
        ends: bool,
        bytes: &[u8],
        clock: impl Fn() -> Instant + Copy,
    ) -> Result<(), Fatal> {
        let mut proper = ends;
        self.decode(bytes, |name, value| proper &= may_trail(name, value))?;
        let over = self.streams.over(id);
        match self.streams.live(id) {
            Some(stream) if stream.ended => self.made_reset(id, ErrorCode::StreamClosed, clock),
            Some(stream) => {
                let whole = stream
                    .declared
                    .is_none_or(|length| length == stream.received);
                if !proper || !whole {
                    return self.made_reset(id, ErrorCode::Protocol, clock);
                }
                stream.ended = true;
                stream.wake();
                Ok(())
            }
            None => match over {
                Some(Over::Abandoned) => Ok(()),
                Some(Over::Closed) => Err(ErrorCode::StreamClosed.into()),
                // Opened out of order, or long ago (§5.1.1).
                None => Err(ErrorCode::Protocol.into()),
            },
        }
    }

    fn decode(&mut self, bytes: &[u8], field: impl FnMut(&[u8], &[u8])) -> Result<(), Fatal> {
        let decoded = self.decoder.decode(bytes, field);
        decoded.map_err(|_| ErrorCode::Compression.into())
    }
}
