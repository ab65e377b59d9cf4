//! The narrow interface over Pingora's HTTP sessions: write a head, write a body, abort.
//!
//! Reading the request differs too much between the protocols to be shared: `h1` and `h2` do it
//! and hand a [`Session`] to the service. Failure rule: a session that is dropped or aborted
//! before its end leaves a response that is visibly broken off: HTTP/1.1 by closing before the
//! announced length or the last chunk (by a reset where the close itself would be the end),
//! HTTP/2 by `RST_STREAM`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::{v1, v2};
use tokio::time::timeout;

use super::wire::Wire;

/// A body is handed on in pieces of at most this, each within `timeouts.write`.
pub(crate) const PIECE: usize = 128 << 10;

/// The client is gone, too slow, or the session is in a state in which nothing more can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// One request and the way to answer it.
pub(crate) enum Session {
    H1(H1),
    H2(Box<v2::server::HttpSession>),
}

/// An HTTP/1.x request whose header has been read.
pub(crate) struct H1 {
    session: Box<v1::server::HttpSession>,
    wire: Wire,
    /// The last byte of the answer was written.
    done: bool,
    /// The end of the body can't be told from a close.
    until_close: bool,
}

impl H1 {
    /// Reads the one header that is waiting on the wire, already found well-formed.
    ///
    /// # Errors
    /// If Pingora refuses it all the same.
    pub(crate) async fn read(wire: &Wire) -> Result<H1, Gone> {
        let mut session = Box::new(v1::server::HttpSession::new(Box::new(wire.clone())));
        match session.read_request().await {
            Ok(Some(_)) => Ok(H1 {
                session,
                wire: wire.clone(),
                done: false,
                until_close: false,
            }),
            _ => Err(Gone),
        }
    }

    /// Takes no further request after this one.
    pub(crate) fn close_after(&mut self) {
        self.session.set_server_keepalive(None);
    }

    /// Whether the last byte of the answer was written.
    pub(crate) fn complete(&self) -> bool {
        self.done
    }

    /// Whether the answer is complete and the connection may be used again.
    pub(crate) fn reusable(&self) -> bool {
        self.done && self.session.will_keepalive()
    }

    async fn write_head(&mut self, mut head: ResponseHeader) -> Result<(), Gone> {
        let bodiless = self.session.req_header().method == Method::HEAD
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if !bodiless && !head.headers.contains_key(CONTENT_LENGTH) {
            if self.session.req_header().version == Version::HTTP_11 {
                let chunked = HeaderValue::from_static("chunked");
                head.insert_header(TRANSFER_ENCODING, chunked)
                    .map_err(|_| Gone)?;
            } else {
                self.until_close = true;
            }
        }
        self.session
            .write_response_header(Box::new(head))
            .await
            .map_err(|_| Gone)
    }

    async fn finish(&mut self) -> Result<(), Gone> {
        // Fails if less was written than Content-Length announced: that must be seen, too.
        self.session.finish_body().await.map_err(|_| Gone)?;
        self.done = true;
        Ok(())
    }
}

impl Session {
    /// The request.
    pub(crate) fn request(&self) -> &RequestHeader {
        match self {
            Session::H1(h1) => h1.session.req_header(),
            Session::H2(h2) => h2.req_header(),
        }
    }

    /// For the access log.
    pub(crate) fn protocol(&self) -> &'static str {
        match self {
            Session::H1(h1) if h1.session.req_header().version == Version::HTTP_10 => "HTTP/1.0",
            Session::H1(_) => "HTTP/1.1",
            Session::H2(_) => "HTTP/2",
        }
    }

    /// Whether a body follows the request's header.
    pub(crate) fn has_body(&self) -> bool {
        match self {
            // The loop closes the connection over a body before there is a session.
            Session::H1(_) => false,
            Session::H2(h2) => !h2.is_body_empty(),
        }
    }

    /// Writes status and headers; `end` if nothing follows. `Date` and the connection's own
    /// headers are added here.
    pub(crate) async fn write_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        let head = response_header(status, headers);
        match self {
            Session::H1(h1) => {
                h1.write_head(head).await?;
                if end { h1.finish().await } else { Ok(()) }
            }
            Session::H2(h2) => h2
                .write_response_header(Box::new(head), end)
                .map_err(|_| Gone),
        }
    }

    /// Writes some of the body; `end` with its last byte. Each [`PIECE`] has `limit`.
    pub(crate) async fn write_body(
        &mut self,
        mut bytes: Bytes,
        end: bool,
        limit: Duration,
    ) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let last = end && bytes.is_empty();
            timeout(limit, self.write_piece(piece, last))
                .await
                .map_err(|_| Gone)??;
        }
        Ok(())
    }

    async fn write_piece(&mut self, piece: Bytes, last: bool) -> Result<(), Gone> {
        match self {
            Session::H1(h1) => {
                h1.session.write_body(&piece).await.map_err(|_| Gone)?;
                if last { h1.finish().await } else { Ok(()) }
            }
            Session::H2(h2) => h2.write_body(piece, last).await.map_err(|_| Gone),
        }
    }

    /// Ends a body whose last piece was not known to be the last.
    pub(crate) async fn finish(&mut self) -> Result<(), Gone> {
        match self {
            Session::H1(h1) => h1.finish().await,
            Session::H2(h2) => h2.finish().map_err(|_| Gone),
        }
    }

    /// Breaks the response off, so that the client sees it.
    pub(crate) fn abort(&mut self) {
        match self {
            Session::H1(h1) => {
                h1.close_after();
                if h1.until_close {
                    h1.wire.reset_on_close();
                }
            }
            Session::H2(h2) => h2.shutdown(),
        }
    }

    /// Waits until the client has given the request up. Never, over HTTP/1.1: there a client that
    /// has closed its side may still be reading.
    pub(crate) async fn given_up(&mut self) {
        match self {
            Session::H1(_) => std::future::pending().await,
            Session::H2(h2) => {
                let _ = h2.idle().await;
            }
        }
    }
}

fn response_header(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    ResponseHeader::from(response.into_parts().0)
}
