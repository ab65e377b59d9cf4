//! Binding: every address explicitly, and a port in use is an error that names it.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel keeps for us until we take them.
const BACKLOG: i32 = 1024;

/// Tries to find a port that is free for both TCP and UDP, where any will do.
const PORT_TRIES: u32 = 16;

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({transport}): {error}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// What the system said.
    pub error: io::Error,
}

/// The sockets of one address.
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) tcp: TcpListener,
    pub(crate) udp: Vec<UdpSocket>,
}

/// Binds TCP once and UDP `sockets` times to one address; port 0 takes any that is free for both.
pub(crate) fn bind(
    wanted: SocketAddr,
    sockets: usize,
    receive_buffer: usize,
) -> Result<Bound, BindError> {
    let mut tries = if wanted.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_once(wanted, sockets, receive_buffer) {
            Err(error) if tries > 0 && error.error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

fn bind_once(
    wanted: SocketAddr,
    sockets: usize,
    receive_buffer: usize,
) -> Result<Bound, BindError> {
    let failed = |transport| {
        move |error| BindError {
            address: wanted,
            transport,
            error,
        }
    };
    let tcp = listen_tcp(wanted).map_err(failed("tcp"))?;
    let address = tcp.local_addr().map_err(failed("tcp"))?;
    // Sockets that share a port by SO_REUSEPORT would also share it with a stranger's, unnoticed.
    // One without it shows that the port is free.
    drop(open_udp(address, false, receive_buffer).map_err(failed("udp"))?);
    let udp = (0..sockets.max(1))
        .map(|_| open_udp(address, true, receive_buffer))
        .collect::<io::Result<_>>()
        .map_err(failed("udp"))?;
    Ok(Bound { address, tcp, udp })
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

fn open_udp(address: SocketAddr, share: bool, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(share)?;
    socket.set_recv_buffer_size(receive_buffer)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_transport() {
        let any = "127.0.0.1:0".parse().unwrap();
        let bound = bind(any, 2, 65536).unwrap();
        assert_eq!(bound.udp.len(), 2);
        let error = bind(bound.address, 1, 65536).err().unwrap().to_string();
        assert!(
            error.contains(&format!("{} (tcp)", bound.address)),
            "{error}"
        );
        drop(bound.tcp);
        let error = bind(bound.address, 1, 65536).err().unwrap().to_string();
        assert!(
            error.contains(&format!("{} (udp)", bound.address)),
            "{error}"
        );
    }
}
