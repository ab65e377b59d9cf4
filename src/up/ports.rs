//! Are the addresses free? Asked before anything is started, so that the answer is one clear
//! sentence and not a dead child.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::up::plan::{Plan, Transport};

/// An address that can't be had.
#[derive(Debug)]
pub(crate) struct Unavailable {
    /// Which.
    pub(crate) address: SocketAddr,
    /// Who wanted it: `edge eu`.
    node: String,
    error: io::Error,
}

impl Unavailable {
    fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            node,
            error,
        } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address}, wanted for {node}, is taken by another program"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{address}, wanted for {node}, needs root or CAP_NET_BIND_SERVICE"
                )
            }
            _ => write!(f, "{address}, wanted for {node}, can't be used: {error}"),
        }
    }
}

/// How long a taken address may take to come free: nodes of an `up` that was killed a moment ago
/// may still be on their way out.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_STEP: Duration = Duration::from_millis(50);

/// Binds every address of the plan for a moment; waits a little for those that are taken.
///
/// # Errors
/// The first address that can't be bound.
pub(crate) async fn wait_free(plan: &Plan) -> Result<(), Unavailable> {
    let deadline = Instant::now() + LINGER;
    loop {
        match check(plan) {
            Err(taken) if taken.is_taken() && Instant::now() < deadline => {
                sleep(LINGER_STEP).await;
            }
            outcome => return outcome,
        }
    }
}

/// Binds every address of the plan for a moment.
///
/// # Errors
/// The first address that can't be bound.
pub(crate) fn check(plan: &Plan) -> Result<(), Unavailable> {
    for node in &plan.nodes {
        for (transport, address) in node.listeners() {
            bind(transport, address).map_err(|error| Unavailable {
                address,
                node: node.title(),
                error,
            })?;
        }
    }
    Ok(())
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<()> {
    match transport {
        Transport::Tcp => TcpListener::bind(address).map(drop),
        Transport::Udp => UdpSocket::bind(address).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plan::{Duty, Node};

    fn dns_on(listen: SocketAddr, admin: SocketAddr) -> Plan {
        Plan {
            nodes: vec![Node {
                name: "dns",
                admin,
                duty: Duty::Dns { listen },
            }],
            goproxy: String::new(),
        }
    }

    #[test]
    fn a_taken_tcp_port_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let error = check(&dns_on(free, taken)).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{taken}, wanted for dns, is taken by another program")
        );
    }

    #[test]
    fn a_taken_udp_port_is_named() {
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let error = check(&dns_on(taken, "127.0.0.1:0".parse().unwrap())).unwrap_err();
        assert_eq!(error.address, taken);
    }

    #[test]
    fn free_ports_are_let_go_again() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let plan = dns_on("127.0.0.1:0".parse().unwrap(), free);
        check(&plan).unwrap();
        check(&plan).unwrap();
    }
}
