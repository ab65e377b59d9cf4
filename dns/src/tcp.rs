//! The TCP side (RFC 7766): pipelined queries, answered in order, on a bounded number of
//! connections whose every wait is bounded.
//!
//! A connection holds at most one query buffer and [`FLUSH_BYTES`] of answers plus one more answer:
//! a peer that doesn't read is waited for before more is answered, and cut off after the stall time.
//! What isn't a query ends its connection: nobody who speaks DNS sends it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::Answerer;
use crate::config::Tcp;
use crate::respond::{Ask, Moment, Transport};

/// A message's length stands before it in as many bytes.
const LENGTH: usize = 2;

/// No query is nearly as long: whoever announces more is cut off.
const MAX_QUERY: usize = 4096;

/// Answers are written once they are this long together, or no whole query is left.
const FLUSH_BYTES: usize = 16 * 1024;

/// After an accept error (out of descriptors), so that the loop doesn't spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a server share.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tcp: Tcp,
    pub(crate) grace: Duration,
}

/// Accepts until told to stop, then lets open connections end within the grace period.
pub(crate) async fn serve(
    listener: TcpListener,
    answerer: Arc<Answerer>,
    limits: Limits,
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
            Ok((stream, peer)) => {
                let Ok(place) = limits.places.clone().try_acquire_owned() else {
                    answerer.metrics().tcp_refused.inc();
                    continue;
                };
                let connection = Connection {
                    stream,
                    peer: peer.ip(),
                    answerer: answerer.clone(),
                    limits: limits.tcp.clone(),
                    stop: stop.clone(),
                };
                connections.spawn(async move {
                    connection.counted().await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "tcp accept failed");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(limits.grace, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    answerer: Arc<Answerer>,
    limits: Tcp,
    stop: watch::Receiver<bool>,
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Connection {
    async fn counted(self) {
        let gauge = self.answerer.metrics().tcp_connections.clone();
        gauge.inc();
        let _counted = Counted(gauge);
        if let Err(error) = self.talk().await {
            tracing::debug!(%error, "tcp connection ended");
        }
    }

    async fn talk(mut self) -> io::Result<()> {
        let _ = self.stream.set_nodelay(true);
        let mut inbox = Vec::new();
        let mut outbox = Vec::new();
        loop {
            self.answer_whole(&mut inbox, &mut outbox).await?;
            let begun = !inbox.is_empty();
            let limit = if begun {
                self.limits.stall
            } else {
                self.limits.idle
            };
            if !self.fill(&mut inbox, Instant::now() + *limit).await? {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Answers every whole query in `inbox` and leaves the beginning of the next there.
    async fn answer_whole(&mut self, inbox: &mut Vec<u8>, outbox: &mut Vec<u8>) -> io::Result<()> {
        let ask = Ask {
            peer: self.peer,
            transport: Transport::Tcp,
            at: Moment::now(),
        };
        let mut answer = Vec::new();
        let mut at = 0;
        while let Some(query) = next_query(&inbox[at..])? {
            at += LENGTH + query.len();
            if !self.answerer.answer(query, &ask, &mut answer) {
                return Err(io::Error::other("not a query"));
            }
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            outbox.extend_from_slice(&length.to_be_bytes());
            outbox.extend_from_slice(&answer);
            if outbox.len() >= FLUSH_BYTES {
                self.flush(outbox).await?;
            }
        }
        inbox.drain(..at);
        self.flush(outbox).await
    }

    async fn flush(&mut self, outbox: &mut Vec<u8>) -> io::Result<()> {
        if !outbox.is_empty() {
            timeout(*self.limits.stall, self.stream.write_all(outbox)).await??;
            outbox.clear();
        }
        Ok(())
    }

    /// Reads until at least one whole query is there. False: nothing more will come, because the
    /// peer closed, was silent, or the server stops between two queries.
    async fn fill(&mut self, inbox: &mut Vec<u8>, mut deadline: Instant) -> io::Result<bool> {
        loop {
            inbox.reserve(512);
            let was_empty = inbox.is_empty();
            let read = tokio::select! {
                // What has arrived is answered even if the server is to stop.
                biased;
                read = timeout_at(deadline, self.stream.read_buf(inbox)) => read,
                _ = self.stop.wait_for(|stop| *stop), if was_empty => return Ok(false),
            };
            match read {
                Ok(Ok(0)) => return Ok(false),
                Ok(Ok(_)) if next_query(inbox)?.is_some() => return Ok(true),
                // From its first byte on, a query has the stall time to arrive, however it drips.
                Ok(Ok(_)) if was_empty => deadline = Instant::now() + *self.limits.stall,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(false),
            }
        }
    }
}

/// The first query of a buffer if it is there whole.
fn next_query(buffer: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_QUERY {
        return Err(io::Error::other(format!(
            "a query of {length} bytes was announced"
        )));
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
