//! An HTTP/1.x request and its answer on the wire.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use modcdn_core::refusal::Reason;

use super::{Gone, date};
use crate::exchange::{Aborted, FileSpan};
use crate::front::chunked::{Chunked, Decoded};
use crate::front::head::Framing;
use crate::front::request::Request;
use crate::front::wire::Wire;

/// One request whose header has been taken off the wire.
pub(crate) struct H1 {
    wire: Wire,
    http11: bool,
    head_only: bool,
    keep_alive: bool,
    /// The client waits for `100 Continue` and has not had it.
    expects: bool,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// What is still to come of the request's body.
enum Incoming {
    Done,
    /// So many bytes.
    Length(u64),
    Chunked(Chunked),
    /// What it was can't be told.
    Broken,
}

/// Where the answer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    /// No head yet.
    Head,
    /// So many bytes of the body are due.
    Length(u64),
    Chunked,
    /// The close is the body's end.
    UntilClose,
    /// The last byte was written.
    Done,
}

impl H1 {
    /// For a request whose body, framed so, is next on the wire.
    pub(crate) fn new(wire: &Wire, request: &Request, framing: Framing) -> H1 {
        H1 {
            wire: wire.clone(),
            http11: request.is_http11(),
            head_only: request.method == Method::HEAD,
            keep_alive: request.keeps_alive(),
            expects: request.expects_continue(),
            incoming: match framing {
                Framing::None => Incoming::Done,
                Framing::Length(length) => Incoming::Length(length),
                Framing::Chunked => Incoming::Chunked(Chunked::Size),
            },
            outgoing: Outgoing::Head,
        }
    }

    /// Takes no further request after this one.
    pub(crate) fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// Whether the last byte of the answer was written.
    pub(crate) fn complete(&self) -> bool {
        self.outgoing == Outgoing::Done
    }

    /// Whether the answer is complete and the connection may be used again.
    pub(crate) fn reusable(&self) -> bool {
        self.complete() && self.keep_alive && self.was_read()
    }

    /// Whether all of the request was read, so that the client sends nothing more of it.
    pub(crate) fn was_read(&self) -> bool {
        matches!(self.incoming, Incoming::Done)
    }

    pub(super) async fn read_body(&mut self) -> Result<Option<Bytes>, Aborted> {
        loop {
            let wire = self.wire.clone();
            let decoded = wire.with_ahead(|ahead| self.decode(ahead))?;
            match decoded {
                Decoded::Data(piece) => return Ok(Some(piece)),
                Decoded::End => return Ok(None),
                Decoded::Hungry => self.read_more().await?,
            }
        }
    }

    fn decode(&mut self, ahead: &mut BytesMut) -> Result<Decoded, Aborted> {
        let decoded = match &mut self.incoming {
            Incoming::Done => return Ok(Decoded::End),
            Incoming::Broken => return Err(BROKEN),
            Incoming::Length(_) if ahead.is_empty() => return Ok(Decoded::Hungry),
            Incoming::Length(left) => {
                let n = ahead
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.incoming = Incoming::Done;
                }
                return Ok(Decoded::Data(ahead.split_to(n).freeze()));
            }
            Incoming::Chunked(chunked) => chunked.decode(ahead),
        };
        match decoded {
            Ok(Decoded::End) => self.incoming = Incoming::Done,
            Ok(_) => {}
            Err(_) => self.incoming = Incoming::Broken,
        }
        decoded.map_err(|_| BROKEN)
    }

    async fn read_more(&mut self) -> Result<(), Aborted> {
        if self.expects && self.outgoing == Outgoing::Head {
            let sent = self.wire.send(&[b"HTTP/1.1 100 Continue\r\n\r\n"]).await;
            sent.map_err(|_| BROKEN)?;
        }
        self.expects = false;
        match self.wire.read_ahead().await {
            Ok(1..) => Ok(()),
            _ => {
                self.incoming = Incoming::Broken;
                Err(BROKEN)
            }
        }
    }

    pub(super) async fn write_head(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        if self.outgoing != Outgoing::Head {
            return Err(Gone);
        }
        self.outgoing = self.framing(status, &mut headers, end)?;
        // What is left of a body that nobody reads would be taken for the next request.
        self.keep_alive &= self.was_read() && self.outgoing != Outgoing::UntilClose;
        if !self.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let bytes = head_bytes(status, &headers);
        self.wire.send(&[&bytes]).await.map_err(|_| Gone)
    }

    /// How the answer's body is framed (RFC 9112 §6.3), with the fields that say so.
    fn framing(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        end: bool,
    ) -> Result<Outgoing, Gone> {
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = headers.get(CONTENT_LENGTH);
        if bodiless || self.head_only {
            return Ok(Outgoing::Done);
        }
        if let Some(length) = length {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            return match length.ok_or(Gone)? {
                0 => Ok(Outgoing::Done),
                length if !end => Ok(Outgoing::Length(length)),
                _ => Err(Gone),
            };
        }
        if end {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            return Ok(Outgoing::Done);
        }
        if self.http11 {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            return Ok(Outgoing::Chunked);
        }
        Ok(Outgoing::UntilClose)
    }

    pub(super) async fn write_piece(&mut self, piece: &[u8], last: bool) -> Result<(), Gone> {
        let written = match &mut self.outgoing {
            Outgoing::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(Gone)?;
                self.wire.send(&[piece]).await
            }
            Outgoing::Chunked => {
                let size = format!("{:x}\r\n", piece.len());
                self.wire.send(&[size.as_bytes(), piece, b"\r\n"]).await
            }
            Outgoing::UntilClose => self.wire.send(&[piece]).await,
            Outgoing::Head | Outgoing::Done => return Err(Gone),
        };
        written.map_err(|_| Gone)?;
        if last { self.finish().await } else { Ok(()) }
    }

    /// Whether bytes of a file may come next: in a body whose length was announced.
    pub(super) fn takes_files(&self) -> bool {
        matches!(self.outgoing, Outgoing::Length(1..)) && self.wire.takes_files()
    }

    /// Sends of the file what the socket takes; see [`Wire::send_file`].
    pub(super) async fn write_file(
        &mut self,
        mut ask: impl FnMut() -> Option<FileSpan>,
    ) -> Result<u64, Gone> {
        let Outgoing::Length(left) = &mut self.outgoing else {
            return Err(Gone);
        };
        let most = *left;
        let within_length = || ask().filter(|span| span.length <= most);
        let sent = self.wire.send_file(within_length).await.map_err(|_| Gone)? as u64;
        *left = left.checked_sub(sent).ok_or(Gone)?;
        Ok(sent)
    }

    /// Fails if less was written than was announced: that must be seen.
    pub(super) async fn finish(&mut self) -> Result<(), Gone> {
        match self.outgoing {
            Outgoing::Length(0) | Outgoing::UntilClose | Outgoing::Done => {}
            Outgoing::Chunked => self.wire.send(&[b"0\r\n\r\n"]).await.map_err(|_| Gone)?,
            Outgoing::Head | Outgoing::Length(_) => return Err(Gone),
        }
        self.outgoing = Outgoing::Done;
        Ok(())
    }

    pub(super) fn abort(&mut self) {
        self.close_after();
        if self.outgoing == Outgoing::UntilClose {
            self.wire.reset_on_close();
        }
    }
}

/// A body that the client broke off or made a mess of.
const BROKEN: Aborted = Aborted {
    reason: Reason::BadRequest,
};

/// An answer's head as it is sent, with a `Date` if it has none.
pub(crate) fn head_bytes(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    bytes.extend_from_slice(b"\r\n");
    let now = (!headers.contains_key(DATE)).then(date);
    for (name, value) in headers.iter().chain(now.iter().map(|now| (&DATE, now))) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
