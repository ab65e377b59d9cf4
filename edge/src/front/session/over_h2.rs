//! An HTTP/2 request and its answer, on its connection's [`Link`](crate::front::h2::link::Link).

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use modcdn_core::refusal::Reason;

use super::Gone;
use crate::exchange::Aborted;
use crate::front::h2::link::Shared;

/// One stream. Dropped before its end, it is reset.
pub(crate) struct H2 {
    link: Shared,
    stream: u32,
    outgoing: Outgoing,
}

/// Where the answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Head,
    Body,
    /// The last byte was handed on.
    Complete,
    Broken,
}

impl H2 {
    /// For a stream that is open.
    pub(crate) fn new(link: &Shared, stream: u32) -> H2 {
        H2 {
            link: link.clone(),
            stream,
            outgoing: Outgoing::Head,
        }
    }

    pub(super) async fn read_body(&mut self) -> Result<Option<Bytes>, Aborted> {
        let piece = poll_fn(|cx| self.link.poll_body(self.stream, cx)).await;
        piece.map_err(|_| Aborted {
            reason: Reason::BadRequest,
        })
    }

    pub(super) fn write_head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        if self.outgoing != Outgoing::Head {
            return Err(Gone);
        }
        let written = self.link.write_head(self.stream, status, headers, end);
        written.map_err(|_| Gone)?;
        self.outgoing = if end {
            Outgoing::Complete
        } else {
            Outgoing::Body
        };
        Ok(())
    }

    /// Waits until the wire and the client's windows have room for all of it.
    pub(super) async fn write_piece(&mut self, mut piece: Bytes, last: bool) -> Result<(), Gone> {
        if self.outgoing != Outgoing::Body {
            return Err(Gone);
        }
        while !piece.is_empty() {
            let room = poll_fn(|cx| self.link.poll_room(self.stream, piece.len(), cx)).await;
            let part = piece.split_to(room.map_err(|_| Gone)?);
            let ends = last && piece.is_empty();
            self.link.write_data(self.stream, &part, ends);
        }
        if last {
            self.outgoing = Outgoing::Complete;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Gone> {
        match self.outgoing {
            Outgoing::Body if self.link.is_open(self.stream) => {
                self.link.write_data(self.stream, &[], true);
            }
            Outgoing::Complete => {}
            _ => return Err(Gone),
        }
        self.outgoing = Outgoing::Complete;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        if self.outgoing != Outgoing::Complete {
            self.outgoing = Outgoing::Broken;
        }
    }

    pub(super) async fn given_up(&mut self) {
        if matches!(self.outgoing, Outgoing::Head | Outgoing::Body) {
            poll_fn(|cx| self.link.poll_gone(self.stream, cx)).await;
        }
    }
}

impl Drop for H2 {
    fn drop(&mut self) {
        let complete = self.outgoing == Outgoing::Complete;
        self.link.close(self.stream, complete);
    }
}
