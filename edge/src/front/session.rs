//! The narrow interface over both protocols: read a body, write a head, write a body, abort.
//!
//! Reading the request's header differs too much between the protocols to be shared: `h1` and `h2`
//! do it and hand a [`Session`] to the service. Failure rule: a session that is dropped or aborted
//! before its end leaves a response that is visibly broken off: HTTP/1.1 by closing before the
//! announced length or the last chunk (by a reset where the close itself would be the end),
//! HTTP/2 by `RST_STREAM`.

mod date;
mod over_h1;
mod over_h2;

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::poll;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use modcdn_core::refusal::Reason;

use crate::exchange::{Aborted, FileSpan};

pub(crate) use self::date::date;
pub(crate) use self::over_h1::{H1, head_bytes};
pub(crate) use self::over_h2::H2;
use super::pace::Pace;
use super::turns::in_turns;

/// HTTP/2 bodies are handed on in pieces of at most this, each judged by the client's pace.
pub(crate) const PIECE: usize = 128 << 10;

/// What is handed on at once over HTTP/1.x: a `write` of 512 KiB cost two thirds of four of 128, but a client that takes nothing is noticed later.
const BULK: usize = 4 * PIECE;

/// What is no longer than this is sent without waiting for a turn.
const SHORT: usize = 32 << 10;

/// The client is gone, too slow, or the session is in a state in which nothing more can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The way to answer one request, and to the rest of it.
pub(crate) enum Session {
    H1(H1),
    H2(H2),
}

impl Session {
    /// The next piece of the request's body, never empty; `None` when it is complete, or if there is
    /// none. A client that waits for `100 Continue` gets it with the first call. A body that isn't
    /// read to its end closes the connection after the answer (HTTP/1.1), or is called off (HTTP/2).
    ///
    /// # Errors
    /// Why there will be no more of it: the client left, sent nonsense, or took longer than `limit`.
    pub(crate) async fn read_body(&mut self, limit: Duration) -> Result<Option<Bytes>, Aborted> {
        let reading = pin!(async {
            match self {
                Session::H1(h1) => h1.read_body().await,
                Session::H2(h2) => h2.read_body().await,
            }
        });
        within(limit, reading).await.unwrap_or(Err(Aborted {
            reason: Reason::RequestTimeout,
        }))
    }

    /// Reads the whole body into `upload`, each piece within `limit`, and then waits until the client
    /// has given the request up. Ends early if nobody wants the rest.
    pub(crate) async fn feed(
        &mut self,
        upload: mpsc::Sender<Result<Bytes, Aborted>>,
        limit: Duration,
    ) {
        while let Some(piece) = self.read_body(limit).await.transpose() {
            let broken = piece.is_err();
            if upload.send(piece).await.is_err() || broken {
                break;
            }
        }
        drop(upload);
        self.given_up().await;
    }

    /// Writes status and headers; `end` if nothing follows. `Date` and the connection's own
    /// headers are added here.
    pub(crate) async fn write_head(
        &mut self,
        status: StatusCode,
        headers: HeaderMap,
        end: bool,
    ) -> Result<(), Gone> {
        match self {
            Session::H1(h1) => h1.write_head(status, headers, end).await,
            Session::H2(h2) => h2.write_head(status, &headers, end),
        }
    }

    /// Writes some of the body; `end` with its last byte. Gives up on a client that is slower than
    /// his `pace`, which is judged for each [`PIECE`], or for several at once.
    pub(crate) async fn write_body(
        &mut self,
        mut bytes: Bytes,
        end: bool,
        pace: &mut Pace,
    ) -> Result<(), Gone> {
        let most = match self {
            Session::H1(_) => BULK,
            Session::H2(_) => PIECE,
        };
        let long = bytes.len() > SHORT;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(most));
            let (length, last) = (piece.len(), end && bytes.is_empty());
            let writing = pin!(self.write_piece(piece, last));
            let written = if long {
                at_pace(pace, length, pin!(in_turns(writing))).await
            } else {
                at_pace(pace, length, writing).await
            };
            written.unwrap_or(Err(Gone))?;
        }
        Ok(())
    }

    /// Whether what comes next of the body may be sent from a file.
    pub(crate) fn takes_files(&self) -> bool {
        match self {
            Session::H1(h1) => h1.takes_files(),
            Session::H2(_) => false,
        }
    }

    /// Sends of the file that `ask` answers what the client takes, and says how many bytes: none if
    /// there is no file to send from now. Gives up on a client that is slower than his `pace`.
    pub(crate) async fn write_file(
        &mut self,
        ask: impl FnMut() -> Option<FileSpan>,
        pace: &mut Pace,
    ) -> Result<u64, Gone> {
        let Session::H1(h1) = self else {
            return Ok(0);
        };
        let writing = pin!(h1.write_file(ask));
        let mut writing = pin!(in_turns(writing));
        if let Poll::Ready(sent) = poll!(writing.as_mut()) {
            return sent;
        }
        let began = Instant::now();
        let sent = timeout(pace.limit(BULK), writing).await;
        let sent = sent.unwrap_or(Err(Gone))?;
        // How many there would be wasn't known when the wait began.
        let (bytes, took) = (usize::try_from(sent).unwrap_or(usize::MAX), began.elapsed());
        let late = sent > 0 && took > pace.limit(bytes);
        pace.took(bytes, took);
        if late { Err(Gone) } else { Ok(sent) }
    }

    async fn write_piece(&mut self, piece: Bytes, last: bool) -> Result<(), Gone> {
        match self {
            Session::H1(h1) => h1.write_piece(&piece, last).await,
            Session::H2(h2) => h2.write_piece(piece, last).await,
        }
    }

    /// Ends a body whose last piece was not known to be the last.
    pub(crate) async fn finish(&mut self) -> Result<(), Gone> {
        match self {
            Session::H1(h1) => h1.finish().await,
            Session::H2(h2) => h2.finish(),
        }
    }

    /// Breaks the response off, so that the client sees it.
    pub(crate) fn abort(&mut self) {
        match self {
            Session::H1(h1) => h1.abort(),
            Session::H2(h2) => h2.abort(),
        }
    }

    /// Waits until the client has given the request up. Never, over HTTP/1.1: there a client that
    /// has closed its side may still be reading.
    pub(crate) async fn given_up(&mut self) {
        match self {
            Session::H1(_) => std::future::pending().await,
            Session::H2(h2) => h2.given_up().await,
        }
    }
}

/// `future` as fast as a client must take `bytes`; `None` if he is slower. The clock is read only where
/// there is something to wait for.
async fn at_pace<F: Future>(
    pace: &mut Pace,
    bytes: usize,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    if let Poll::Ready(output) = poll!(future.as_mut()) {
        pace.took(bytes, Duration::ZERO);
        return Some(output);
    }
    let began = Instant::now();
    let output = timeout(pace.limit(bytes), future).await.ok()?;
    pace.took(bytes, began.elapsed());
    Some(output)
}

/// `future` with a time limit, which costs nothing where there is nothing to wait for; `None` if it
/// took longer. Pinned by the caller, since moving a request's future means copying all of it.
pub(crate) async fn within<F: Future>(
    limit: Duration,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    match poll!(future.as_mut()) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => timeout(limit, future).await.ok(),
    }
}

#[cfg(test)]
mod tests;
