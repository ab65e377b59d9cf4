//! The TCP side (RFC 7766): pipelined queries, answered in order, on a bounded number of
//! connections whose every wait is bounded.
//!
//! Reading, answering and writing don't wait for each other: while answers are under way, further
//! queries are read, and many are read, answered and written by one system call each. A connection
//! holds at most [`INBOX_BYTES`] of queries and [`OUTBOX_BYTES`] of answers plus one more answer; then
//! it is only written to, and cut off if that gets nowhere within the stall time. What isn't a query
//! ends its connection: nobody who speaks DNS sends it.

mod clients;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{Answerer, Worker};
use crate::config::Tcp;
use crate::respond::Transport;
pub(crate) use clients::Clients;

/// A message's length stands before it in as many bytes.
const LENGTH: usize = 2;

/// No query is nearly as long: whoever announces more is cut off.
const MAX_QUERY: usize = 4096;

/// Read at once: some hundred queries.
const READ_BYTES: usize = 8 * 1024;

/// Queries are read until so much waits.
const INBOX_BYTES: usize = 32 * 1024;

/// Queries are answered until so much waits.
const OUTBOX_BYTES: usize = 32 * 1024;

/// So much must be written within the stall time, or all there is.
const PROGRESS_BYTES: usize = 16 * 1024;

/// After an accept error (out of descriptors), so that the loop doesn't spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection isn't taken, or is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// There are as many as there may be.
    #[error("connections")]
    Connections,
    /// There are as many of its client as there may be.
    #[error("per-client")]
    PerClient,
    /// Its peer doesn't read.
    #[error("not-read")]
    NotRead,
    /// A query doesn't arrive whole.
    #[error("stalled")]
    Stalled,
    /// A query longer than any was announced.
    #[error("too-long")]
    TooLong,
    /// What came was no query.
    #[error("not-a-query")]
    NotAQuery,
}

impl Cut {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Connections,
        Self::PerClient,
        Self::NotRead,
        Self::Stalled,
        Self::TooLong,
        Self::NotAQuery,
    ];
}

/// Accepts until told to stop, then waits for open connections to end; dropped, it ends them. Limits
/// are those of the snapshot in use.
pub(crate) async fn serve(
    listener: TcpListener,
    answerer: Arc<Answerer>,
    clients: Arc<Clients>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => match clients.enter(peer.ip(), &answerer.tcp()) {
                Ok(place) => {
                    let connection = Connection {
                        stream,
                        peer: peer.ip(),
                        stop: stop.clone(),
                        inbox: Vec::new(),
                        outbox: Vec::new(),
                        scratch: Vec::new(),
                        ended: false,
                    };
                    let answerer = answerer.clone();
                    connections.spawn(async move {
                        connection.counted(&answerer).await;
                        drop(place);
                    });
                }
                Err(cut) => answerer.metrics().tcp_cut(&cut.to_string()),
            },
            Err(error) => {
                tracing::warn!(%error, "tcp accept failed");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    stop: watch::Receiver<bool>,
    /// Queries that aren't answered, the last perhaps not whole.
    inbox: Vec<u8>,
    /// Answers that aren't written.
    outbox: Vec<u8>,
    /// Where each answer is made.
    scratch: Vec<u8>,
    /// The peer won't send any more.
    ended: bool,
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a connection waits for, and until when.
#[derive(Clone, Copy)]
enum Patience {
    /// For a query to begin.
    Idle(Instant),
    /// For a query to be whole: from its first byte on it has the stall time, however it drips.
    Query(Instant),
    /// For answers to be written: after so many more bytes there is new patience.
    Answers(Instant, usize),
}

/// What one turn got done.
#[derive(Clone, Copy, Default)]
struct Done {
    queries: usize,
    written: usize,
}

impl Connection {
    async fn counted(self, answerer: &Answerer) {
        let gauge = answerer.metrics().tcp_connections.clone();
        gauge.inc();
        let _counted = Counted(gauge);
        if let Err(error) = self.talk(answerer).await {
            if let Some(cut) = error.get_ref().and_then(|cut| cut.downcast_ref::<Cut>()) {
                answerer.metrics().tcp_cut(&cut.to_string());
            }
            tracing::debug!(%error, "tcp connection ended");
        }
    }

    async fn talk(mut self, answerer: &Answerer) -> io::Result<()> {
        let _ = self.stream.set_nodelay(true);
        let mut worker = Worker::new(answerer, Transport::Tcp);
        let mut patience = Patience::Idle(Instant::now() + *answerer.tcp().idle);
        let mut written = 0;
        loop {
            let queries = self.answer(&mut worker)?;
            if self.outbox.is_empty() && self.ended {
                return self.stream.shutdown().await;
            }
            patience = self.patience(patience, Done { queries, written }, answerer.tcp());
            match self.exchange(patience).await? {
                Some(bytes) => written = bytes,
                None => return self.stream.shutdown().await,
            }
        }
    }

    /// Answers whole queries until enough waits to be written. Returns how many.
    fn answer(&mut self, worker: &mut Worker<'_>) -> io::Result<usize> {
        if next_query(&self.inbox)?.is_none() {
            return Ok(0);
        }
        let mut round = worker.round();
        let (mut at, mut count) = (0, 0);
        while self.outbox.len() < OUTBOX_BYTES
            && let Some(query) = next_query(&self.inbox[at..])?
        {
            at += LENGTH + query.len();
            count += 1;
            if !round.answer(query, self.peer, &mut self.scratch) {
                return Err(io::Error::other(Cut::NotAQuery));
            }
            let length = u16::try_from(self.scratch.len()).map_err(io::Error::other)?;
            self.outbox.extend_from_slice(&length.to_be_bytes());
            self.outbox.extend_from_slice(&self.scratch);
        }
        self.inbox.drain(..at);
        Ok(count)
    }

    fn patience(&self, before: Patience, done: Done, limits: Tcp) -> Patience {
        let within = |period: Duration| Instant::now() + period;
        if !self.outbox.is_empty() {
            return match before {
                Patience::Answers(until, more) if more > done.written => {
                    Patience::Answers(until, more - done.written)
                }
                _ => Patience::Answers(within(*limits.stall), PROGRESS_BYTES),
            };
        }
        match before {
            Patience::Query(until) if !self.inbox.is_empty() && done.queries == 0 => {
                Patience::Query(until)
            }
            _ if !self.inbox.is_empty() => Patience::Query(within(*limits.stall)),
            Patience::Idle(until) if done.queries == 0 => Patience::Idle(until),
            _ => Patience::Idle(within(*limits.idle)),
        }
    }

    /// Reads and writes what can be, once. Returns how much was written; nothing if the connection
    /// is over, because it was idle or the server stops between two queries.
    async fn exchange(&mut self, patience: Patience) -> io::Result<Option<usize>> {
        let is_quiet = self.inbox.is_empty() && self.outbox.is_empty();
        let may_read = !self.ended && self.inbox.len() < INBOX_BYTES;
        let interest = match (may_read, self.outbox.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, _) => Interest::WRITABLE,
        };
        let (Patience::Idle(until) | Patience::Query(until) | Patience::Answers(until, _)) =
            patience;
        let ready = tokio::select! {
            // What has arrived is answered even if the server is to stop.
            biased;
            ready = timeout_at(until, self.stream.ready(interest)) => ready,
            _ = self.stop.wait_for(|stop| *stop), if is_quiet => return Ok(None),
        };
        let Ok(ready) = ready else {
            return match patience {
                Patience::Idle(_) => Ok(None),
                Patience::Query(_) => Err(io::Error::other(Cut::Stalled)),
                Patience::Answers(..) => Err(io::Error::other(Cut::NotRead)),
            };
        };
        let ready = ready?;
        let mut written = 0;
        if ready.is_writable() && !self.outbox.is_empty() {
            written = not_yet(self.stream.try_write(&self.outbox))?.unwrap_or(0);
            self.outbox.drain(..written);
        }
        if ready.is_readable() && may_read {
            self.inbox.reserve(READ_BYTES);
            let read = not_yet(self.stream.try_read_buf(&mut self.inbox))?;
            // A query that was begun will never be whole now.
            self.ended = read == Some(0);
        }
        Ok(Some(written))
    }
}

/// Nothing, if the system says that it is too early after all.
fn not_yet(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first query of a buffer if it is there whole.
fn next_query(buffer: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_QUERY {
        return Err(io::Error::other(Cut::TooLong));
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_cut_from_the_stream_by_their_length() {
        assert_eq!(next_query(&[]).unwrap(), None);
        assert_eq!(next_query(&[0]).unwrap(), None);
        assert_eq!(next_query(&[0, 2, 7]).unwrap(), None);
        assert_eq!(next_query(&[0, 2, 7, 8, 9]).unwrap(), Some(&[7, 8][..]));
        assert_eq!(next_query(&[0, 0]).unwrap(), Some(&[][..]));
        assert!(next_query(&[0xff, 0xff]).is_err());
    }
}
