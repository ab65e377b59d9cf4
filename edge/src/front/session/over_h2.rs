//! An HTTP/2 request and its answer, on the `h2` crate's streams.

use std::future::poll_fn;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as H2Reason, RecvStream, SendStream};
use http::header::DATE;
use http::{HeaderMap, Response, StatusCode};

use modcdn_core::refusal::Reason;

use super::{Gone, date};
use crate::exchange::Aborted;

/// One stream. Dropped before its end, it is reset.
pub(crate) struct H2 {
    outgoing: Outgoing,
    /// The request's body, until it was read to its end.
    incoming: Option<RecvStream>,
}

/// Where the answer stands.
enum Outgoing {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    /// Ended or broken off.
    Over,
}

impl H2 {
    /// For an accepted stream; a body only if one follows.
    pub(crate) fn new(respond: SendResponse<Bytes>, body: Option<RecvStream>) -> H2 {
        H2 {
            outgoing: Outgoing::Head(respond),
            incoming: body,
        }
    }

    pub(super) async fn read_body(&mut self) -> Result<Option<Bytes>, Aborted> {
        let broken = Aborted {
            reason: Reason::BadRequest,
        };
        while let Some(incoming) = &mut self.incoming {
            let Some(piece) = incoming.data().await else {
                self.incoming = None;
                break;
            };
            let piece = piece.map_err(|_| broken)?;
            let released = incoming.flow_control().release_capacity(piece.len());
            released.map_err(|_| broken)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    pub(super) fn write_head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        let Outgoing::Head(respond) = &mut self.outgoing else {
            return Err(Gone);
        };
        headers.entry(DATE).or_insert_with(date);
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let body = respond.send_response(response, end).map_err(|_| Gone)?;
        self.outgoing = if end {
            Outgoing::Over
        } else {
            Outgoing::Body(body)
        };
        Ok(())
    }

    /// Waits until the client's window and our buffer have room for all of it.
    pub(super) async fn write_piece(&mut self, mut piece: Bytes, last: bool) -> Result<(), Gone> {
        let Outgoing::Body(body) = &mut self.outgoing else {
            return Err(Gone);
        };
        while !piece.is_empty() {
            body.reserve_capacity(piece.len());
            let room = match body.capacity() {
                0 => poll_fn(|cx| body.poll_capacity(cx)).await,
                room => Some(Ok(room)),
            };
            let Some(Ok(room)) = room else {
                return Err(Gone);
            };
            if room == 0 {
                continue;
            }
            let part = piece.split_to(room.min(piece.len()));
            let ends = last && piece.is_empty();
            body.send_data(part, ends).map_err(|_| Gone)?;
        }
        if last {
            self.outgoing = Outgoing::Over;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), Gone> {
        match &mut self.outgoing {
            Outgoing::Body(body) => body.send_data(Bytes::new(), true).map_err(|_| Gone)?,
            Outgoing::Head(_) => return Err(Gone),
            Outgoing::Over => {}
        }
        self.outgoing = Outgoing::Over;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        match &mut self.outgoing {
            Outgoing::Head(respond) => respond.send_reset(H2Reason::INTERNAL_ERROR),
            Outgoing::Body(body) => body.send_reset(H2Reason::INTERNAL_ERROR),
            Outgoing::Over => {}
        }
        self.outgoing = Outgoing::Over;
    }

    pub(super) async fn given_up(&mut self) {
        let _ = match &mut self.outgoing {
            Outgoing::Head(respond) => poll_fn(|cx| respond.poll_reset(cx)).await,
            Outgoing::Body(body) => poll_fn(|cx| body.poll_reset(cx)).await,
            Outgoing::Over => return,
        };
    }
}
