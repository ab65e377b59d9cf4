//! The front door: from an accepted connection to answered requests.
//!
//! In the order in which bytes flow: [`listen`] binds sockets and makes Pingora services of them;
//! [`Front`] takes each connection, counts it, learns whose it is ([`proxy`], [`clients`]), shakes
//! hands ([`tls`] with the [`certificate`] of the moment, then [`tls_stream`] with the encrypters of
//! [`sealing`]) and puts the
//! coalescing stream on top ([`wire`]); [`h1`] and [`h2`] read requests ([`head`] checks the older
//! protocol's bytes, [`chunked`] its bodies') into one form ([`request`]); [`border`] lets them in;
//! [`service`] has them answered and writes the answer through [`session`]. [`meter`] watches what
//! HTTP/2 clients send, [`pace`] how slowly answers are taken. [`drain`] ends it all at shutdown.

pub(crate) mod border;
pub(crate) mod certificate;
mod chunked;
pub(crate) mod clients;
pub(crate) mod drain;
mod fields;
mod h1;
pub(crate) mod h2;
pub(crate) mod head;
pub(crate) mod listen;
pub(crate) mod mounts;
mod pace;
pub mod proxy;
mod request;
mod sealing;
pub(crate) mod service;
mod session;
pub(crate) mod tls;
mod tls_stream;
mod turns;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use pingora::apps::ServerApp;
use pingora::protocols::{IO, Stream};
use pingora::server::ShutdownWatch;

use self::h1::{End, Opening};
use self::service::{Answers, Peer, Service, Settings};
use self::tls::Acceptor;
use self::wire::{Transport, Wire};
use crate::descriptors;
use crate::metrics::Shed;
use crate::threads;

/// How long the good-bye of a connection (TLS close_notify, FIN) may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// The application behind a listener.
pub(crate) struct Front<A> {
    service: Arc<Service<A>>,
    tls: Option<Acceptor>,
    highest_descriptor: RawFd,
}

impl<A> Clone for Front<A> {
    fn clone(&self) -> Self {
        Front {
            service: Arc::clone(&self.service),
            tls: self.tls.clone(),
            highest_descriptor: self.highest_descriptor,
        }
    }
}

impl<A: Answers> Front<A> {
    pub(crate) fn new(service: Arc<Service<A>>, tls: Option<Acceptor>) -> Front<A> {
        Front {
            service,
            tls,
            highest_descriptor: descriptors::highest_for_clients(),
        }
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(&self, stream: Box<dyn IO>) {
        // Too many: dropped at once, so that those that are open keep their descriptors.
        if stream.id() > self.highest_descriptor {
            self.service.access.metrics.shed(Shed::Descriptors).inc();
            return;
        }
        let Some(_open) = self.service.drain.enter() else {
            return;
        };
        // A panic breaks this connection off, visibly, and nothing else.
        let serving = AssertUnwindSafe(self.welcome(stream));
        if serving.catch_unwind().await.is_err() {
            self.service.access.metrics.panics.inc();
        }
    }

    /// Finds out who it is, and serves unless he has too many connections.
    async fn welcome(&self, mut stream: Box<dyn IO>) {
        let settings = self.service.settings.load_full();
        let Ok(address) = self.client(&mut stream, &settings).await else {
            self.service.access.metrics.proxy_failures.inc();
            return;
        };
        let clients = &self.service.clients;
        let enter =
            |address: SocketAddr| clients.enter(address.ip(), &settings.limits, Instant::now());
        let visit = address.map(enter);
        if matches!(visit, Some(None)) {
            self.service.access.metrics.shed(Shed::Address).inc();
            return;
        }
        let peer = Peer {
            settings,
            address,
            visit: visit.flatten().map(Arc::new),
            sni: None,
            tls: self.tls.is_some(),
        };
        match &self.tls {
            None => self.serve_clear(stream, peer).await,
            Some(acceptor) => self.serve_tls(acceptor, stream, peer).await,
        }
    }

    /// The client's address: the socket's, or what a trusted balancer says in front of everything.
    async fn client(
        &self,
        stream: &mut Box<dyn IO>,
        settings: &Settings,
    ) -> io::Result<Option<SocketAddr>> {
        let digest = stream.get_socket_digest();
        let socket = digest.and_then(|digest| digest.peer_addr()?.as_inet().copied());
        match socket {
            Some(balancer) if settings.proxy_protocol.trusts(balancer.ip()) => {
                let limit = settings.timeouts.handshake.get();
                let said = proxy::read(stream.as_mut(), limit).await?;
                Ok(said.or(socket))
            }
            socket => Ok(socket),
        }
    }

    async fn serve_clear(&self, stream: Box<dyn IO>, peer: Peer) {
        let wire = Wire::new(Transport::Plain(stream));
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

    async fn serve_tls(&self, acceptor: &Acceptor, stream: Box<dyn IO>, mut peer: Peer) {
        let metrics = &self.service.access.metrics;
        let limit = peer.settings.timeouts.handshake.get();
        // Boxed, as all that not every connection has, or not for long: what is idle should be small.
        let accepted = tokio::select! {
            biased;
            accepted = Box::pin(acceptor.accept(stream, limit)) => accepted,
            () = self.service.drain.last_call() => return,
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
        peer.sni = accepted.sni.map(Arc::from);
        if accepted.h2 {
            self.serve_h2(&wire, &peer).await;
        } else {
            self.serve_h1(&wire, &peer).await;
        }
    }

    async fn serve_h1(&self, wire: &Wire, peer: &Peer) {
        let linger = peer.settings.timeouts.write.get();
        let serving = Box::pin(h1::serve(&self.service, wire, peer));
        let end = Box::pin(wire.drive(linger, serving)).await;
        if end == Some(End::Clean) {
            wire.close(GOODBYE).await;
        }
    }

    async fn serve_h2(&self, wire: &Wire, peer: &Peer) {
        let linger = peer.settings.timeouts.write.get();
        let serving = Box::pin(h2::serve(&self.service, wire, peer));
        let served = wire.drive(linger, serving).await;
        if let Some(Some(flood)) = served {
            self.service.access.metrics.flood(flood);
            tracing::debug!(flood = flood.name(), client = ?peer.address, "connection closed");
        }
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
        threads::answers();
        // Apart: Pingora's task for it has room for a handshake of its own, and is over at once.
        let front = Front::clone(self);
        tokio::spawn(async move { front.serve(session).await });
        None
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
