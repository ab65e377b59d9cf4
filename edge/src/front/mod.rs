//! The front door: from an accepted connection to answered requests.
//!
//! In the order in which bytes flow: [`listen`] binds sockets and makes Pingora services of them;
//! [`Front`] takes each connection, counts it, shakes hands ([`tls`] with the [`certificate`] of the
//! moment, then [`tls_stream`]) and puts the coalescing stream on top ([`wire`]); [`h1`] and [`h2`]
//! read requests ([`head`] checks the older protocol's bytes, [`chunked`] its bodies') into one form
//! ([`request`]); [`border`] lets them in; [`service`] has them answered and writes the answer through
//! [`session`]. [`drain`] ends it all at shutdown.

pub(crate) mod border;
pub(crate) mod certificate;
mod chunked;
pub(crate) mod drain;
mod h1;
mod h2;
mod head;
pub(crate) mod listen;
mod request;
pub(crate) mod service;
mod session;
pub(crate) mod tls;
mod tls_stream;
pub(crate) mod wire;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora::apps::ServerApp;
use pingora::protocols::{IO, Stream};
use pingora::server::ShutdownWatch;

use self::h1::{End, Opening};
use self::service::{Answers, Peer, Service};
use self::tls::Acceptor;
use self::wire::{Transport, Wire};

/// How long the good-bye of a connection (TLS close_notify, FIN) may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// The application behind a listener.
pub(crate) struct Front<A> {
    service: Arc<Service<A>>,
    tls: Option<Acceptor>,
}

impl<A> Clone for Front<A> {
    fn clone(&self) -> Self {
        Front {
            service: Arc::clone(&self.service),
            tls: self.tls.clone(),
        }
    }
}

impl<A: Answers> Front<A> {
    pub(crate) fn new(service: Arc<Service<A>>, tls: Option<Acceptor>) -> Front<A> {
        Front { service, tls }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(&self, stream: Box<dyn IO>) {
        // Too many: dropped at once, so that those that are open keep their descriptors.
        let Some(_open) = self.service.drain.enter() else {
            return;
        };
        let serving = async {
            match &self.tls {
                None => self.serve_clear(stream).await,
                Some(acceptor) => self.serve_tls(acceptor, stream).await,
            }
        };
        // A panic breaks this connection off, visibly, and nothing else.
        if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
            self.service.access.metrics.panics.inc();
        }
    }

    async fn serve_clear(&self, stream: Box<dyn IO>) {
        let wire = Wire::new(Transport::Plain(stream));
        let peer = self.peer(&wire, None);
        let metrics = &self.service.access.metrics;
        match h1::opening(&self.service, &wire, &peer).await {
            Opening::Closed => {}
            Opening::H1 => {
                metrics.connection("h1", false);
                self.serve_h1(&wire, &peer).await;
            }
            Opening::H2 => {
                metrics.connection("h2", false);
                self.serve_h2(&wire, &peer).await;
            }
        }
    }

    async fn serve_tls(&self, acceptor: &Acceptor, stream: Box<dyn IO>) {
        let metrics = &self.service.access.metrics;
        let limit = self.service.settings.load().timeouts.handshake.get();
        let accepted = tokio::select! {
            biased;
            accepted = acceptor.accept(stream, limit) => accepted,
            () = self.service.drain.begun() => return,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                metrics.handshake_failures.inc();
                tracing::debug!(%error, "TLS handshake failed");
                return;
            }
        };
        metrics.connection(if accepted.h2 { "h2" } else { "h1" }, true);
        let wire = Wire::new(Transport::Tls(Box::new(accepted.stream)));
        let peer = self.peer(&wire, accepted.sni.map(Arc::from));
        if accepted.h2 {
            self.serve_h2(&wire, &peer).await;
        } else {
            self.serve_h1(&wire, &peer).await;
        }
    }

    fn peer(&self, wire: &Wire, sni: Option<Arc<str>>) -> Peer {
        Peer {
            settings: self.service.settings.load_full(),
            address: wire.peer(),
            sni,
        }
    }

    async fn serve_h1(&self, wire: &Wire, peer: &Peer) {
        let linger = peer.settings.timeouts.write.get();
        let end = wire
            .drive(linger, h1::serve(&self.service, wire, peer))
            .await;
        if end == Some(End::Clean) {
            wire.close(GOODBYE).await;
        }
    }

    async fn serve_h2(&self, wire: &Wire, peer: &Peer) {
        let linger = peer.settings.timeouts.write.get();
        let served = wire
            .drive(linger, h2::serve(&self.service, wire, peer))
            .await;
        if served.is_some() {
            wire.close(GOODBYE).await;
        }
    }
}

#[async_trait]
impl<A: Answers> ServerApp for Front<A> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        self.serve(session).await;
        None
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
