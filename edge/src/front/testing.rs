//! A front door in a test: real sockets, no Pingora server, whoever answers is handed in.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest};
use prometheus::Registry;
use tokio::net::TcpListener;

use modcdn_core::telemetry::AccessLog;

use super::Front;
use super::clients::Clients;
use super::drain::Drain;
use super::mounts::Mounts;
use super::service::{Answers, Service, Settings};
use super::tls::Acceptor;
use crate::access::Access;
use crate::config::Config;
use crate::metrics::Metrics;

/// A running front door; it ends with the test's runtime.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
    registry: Registry,
}

impl Door {
    /// Starts one on a port of its own. Of `config` only `timeouts`, `limits`, `hosts` and `proxy_protocol` matter.
    pub(crate) async fn open<A: Answers>(
        answers: A,
        config: &Config,
        tls: Option<Acceptor>,
    ) -> Door {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let drain = Drain::new(config.limits.connections, &metrics);
        let service = Service {
            answers,
            access: Access::new(AccessLog::off(), metrics.clone(), &config.name),
            clients: Clients::new(&metrics, Instant::now()),
            drain: drain.clone(),
            settings: ArcSwap::from_pointee(Settings::of(config)),
            mounts: Mounts::new(&config.mounts),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, Front::new(Arc::new(service), tls)));
        Door {
            address,
            drain,
            metrics,
            registry,
        }
    }

    /// Whether this line is among the metrics.
    pub(crate) fn shows(&self, line: &str) -> bool {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather());
        text.unwrap().lines().any(|found| found == line)
    }
}

async fn accept<A: Answers>(listener: TcpListener, front: Front<A>) {
    while let Ok((stream, _)) = listener.accept().await {
        let front = front.clone();
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let mut stream = L4Stream::from(stream);
        stream.set_socket_digest(digest);
        tokio::spawn(async move { front.serve(Box::new(stream)).await });
    }
}
