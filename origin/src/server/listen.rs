//! Listening: addresses are bound before anything is served, and connections are accepted for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::Error;
use super::connection::Server;

/// How long a listener rests after the system refused it a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        listeners.push(bind(address).await?);
    }
    Ok(listeners)
}

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Listen { address, error })
}

pub(super) fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Accepts for ever; connections beyond the limit are closed at once.
pub(super) async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    places: Arc<Semaphore>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    server.shed("limit");
                    continue;
                };
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    server.serve(stream, client, tls).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
