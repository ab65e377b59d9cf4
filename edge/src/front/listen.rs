//! Listening sockets, bound by us and handed to Pingora's services.
//!
//! Shared nothing: each front thread is a Pingora service with one thread and a socket of its own
//! on the same address (`SO_REUSEPORT`), so the kernel spreads connections and no two threads ever
//! touch one. We bind, because Pingora tries a taken port for 30 seconds and then panics inside a
//! task; a taken port must be an error, at once. `SO_REUSEPORT` would even let a second edge bind
//! the same port silently, so an exclusive bind is tried first.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// None: TLS reads into a buffer of its own, HTTP in clear text into the wire's, and writes are
/// collected there. Pingora's 64 KiB a connection would be mostly air.
const BUFFERS: L4BufferSettings = L4BufferSettings {
    read: Some(0),
    write: Some(0),
};

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

/// Sockets on one address, one for each thread.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address, its port resolved if it was 0.
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
}

/// Binds `threads` sockets to one address.
///
/// # Errors
/// If the port is taken, or the address isn't this machine's.
pub(crate) fn bind(address: SocketAddr, threads: usize) -> Result<Bound, ListenError> {
    let named = |error| ListenError { address, error };
    if address.port() != 0 {
        socket(address, false).map_err(named)?;
    }
    let first = listening(address).map_err(named)?;
    let address = first.local_addr().map_err(named)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        sockets.push(listening(address).map_err(named)?);
    }
    Ok(Bound { address, sockets })
}

/// A socket for the admin listener.
///
/// # Errors
/// As [`bind`].
pub(crate) fn bind_one(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = || {
        let socket = socket(address, false)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|error| ListenError { address, error })
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A Pingora service with one thread and one socket.
pub(crate) struct Listening<A> {
    service: Service<A>,
    fds: ListenFds,
}

impl Bound {
    /// A service for each socket, each with an application of its own.
    pub(crate) fn into_services<A>(self, name: &str, app: impl Fn() -> A) -> Vec<Listening<A>>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let key = self.address.to_string();
        let service = |(n, socket): (usize, TcpListener)| {
            let mut service = Service::new(format!("{name}-{n}"), app());
            service.threads = Some(1);
            service.add_listener(ListenerConfig::tcp(key.clone()).l4_buffer(BUFFERS));
            let mut fds = Fds::new();
            // Pingora's listener takes the descriptor over when the service starts.
            fds.add(key.clone(), socket.into_raw_fd());
            Listening {
                service,
                fds: Arc::new(Mutex::new(fds)),
            }
        };
        self.sockets.into_iter().enumerate().map(service).collect()
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> PingoraService for Listening<A> {
    /// With our socket in place of the server's table, which knows one socket an address.
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let fds = Some(Arc::clone(&self.fds));
        PingoraService::start_service(&mut self.service, fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        PingoraService::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: &str = "127.0.0.1:0";

    #[test]
    fn a_taken_port_is_an_error_that_names_it() {
        let taken = bind(ANY_PORT.parse().unwrap(), 2).unwrap();
        let error = bind(taken.address, 2).unwrap_err();
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&taken.address.to_string()),
            "{error}"
        );
        assert!(bind_one(taken.address).is_err());
    }

    #[test]
    fn each_thread_has_a_socket_on_the_same_port() {
        let bound = bind(ANY_PORT.parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = bound
            .sockets
            .iter()
            .map(|s| s.local_addr().unwrap())
            .collect();
        assert_eq!(ports, [bound.address; 3]);
    }
}
