//! Free ports. Below the ephemeral range, so that no outgoing connection takes one in between;
//! each process begins at another place, and never hands one out twice.

use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::sync::{LazyLock, Mutex};

/// The addresses `modcdn up` gives its edges.
pub const EDGES: [&str; 3] = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];
/// The address of its origin and its DNS server.
pub const ORIGIN: &str = "127.0.0.10";

const FIRST: u16 = 10_100;
const LAST: u16 = 30_000;

static TAKEN: LazyLock<Mutex<Allocator>> = LazyLock::new(|| {
    let spread = std::process::id().wrapping_mul(7919) % u32::from(LAST - FIRST);
    let next = FIRST + u16::try_from(spread).unwrap_or_default();
    Mutex::new(Allocator {
        next,
        taken: HashSet::new(),
    })
});

struct Allocator {
    next: u16,
    taken: HashSet<u16>,
}

impl Allocator {
    /// The next port for which `ports` (it and those derived from it) are all free.
    fn find(&mut self, ports: impl Fn(u16) -> Vec<u16>, free: impl Fn(u16) -> bool) -> u16 {
        for _ in FIRST..LAST {
            let port = self.next;
            self.next = if port + 1 >= LAST { FIRST } else { port + 1 };
            let all = ports(port);
            if !all.iter().any(|port| self.taken.contains(port)) && free(port) {
                self.taken.extend(all);
                return port;
            }
        }
        panic!("no free ports between {FIRST} and {LAST}");
    }
}

/// A port on 127.0.0.1, and on whatever else loopback address, that nobody listens on.
pub fn free() -> u16 {
    let mut allocator = TAKEN.lock().expect("no test panics with the ports in hand");
    allocator.find(
        |port| vec![port],
        |port| tcp_free("127.0.0.1", port) && udp_free(port),
    )
}

/// A port for `modcdn up --port` all of whose derived ports are free.
pub fn cluster() -> u16 {
    let mut allocator = TAKEN.lock().expect("no test panics with the ports in hand");
    allocator.find(cluster_ports, |port| {
        let edges = EDGES.iter().all(|edge| {
            [port, https(port), admin(port)]
                .iter()
                .all(|port| tcp_free(edge, *port))
        });
        let origin = [port, admin(port), dns(port), dns_admin(port)];
        edges && origin.iter().all(|port| tcp_free(ORIGIN, *port)) && udp_free(dns(port))
    })
}

/// An edge's https port beside the http port `port`.
pub fn https(port: u16) -> u16 {
    port + (8443 - 8080)
}

/// The admin port of an edge or the origin.
pub fn admin(port: u16) -> u16 {
    port + (9080 - 8080)
}

/// The DNS server's port.
pub fn dns(port: u16) -> u16 {
    port - (8080 - 8053)
}

/// The DNS server's admin port.
pub fn dns_admin(port: u16) -> u16 {
    port + (9053 - 8080)
}

fn cluster_ports(port: u16) -> Vec<u16> {
    vec![port, https(port), admin(port), dns(port), dns_admin(port)]
}

fn tcp_free(address: &str, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok()
}

fn udp_free(port: u16) -> bool {
    UdpSocket::bind((ORIGIN, port)).is_ok()
}
