//! The UDP side: one task a socket answers in place, since an answer takes microseconds and never
//! waits for anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::answer::Answerer;
use crate::respond::{Ask, Moment, Transport};

/// No query is nearly as long; what is longer is cut by the kernel and then malformed.
const MAX_QUERY: usize = 4096;

/// How long an answer may wait for room in the send buffer before it is dropped.
const SEND_WAIT: Duration = Duration::from_millis(100);

/// Between two receive errors running, so that a broken socket doesn't eat a core.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Answers on one socket until told to stop.
pub(crate) async fn serve(
    socket: UdpSocket,
    answerer: Arc<Answerer>,
    mut stop: watch::Receiver<bool>,
) {
    let mut query = vec![0; MAX_QUERY];
    let mut answer = Vec::with_capacity(MAX_QUERY);
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut query) => received,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match received {
            Ok((length, peer)) => {
                let ask = Ask {
                    peer: peer.ip(),
                    transport: Transport::Udp,
                    at: Moment::now(),
                };
                if answerer.answer(&query[..length], &ask, &mut answer) {
                    send(&socket, &answer, peer, &answerer).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "udp receive failed");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr, answerer: &Answerer) {
    if socket.try_send_to(answer, peer).is_ok() {
        return;
    }
    let sent = timeout(SEND_WAIT, socket.send_to(answer, peer)).await;
    if !matches!(sent, Ok(Ok(_))) {
        answerer.metrics().send_errors.inc();
    }
}
