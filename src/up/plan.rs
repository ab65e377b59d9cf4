//! Flags → nodes and addresses. Pure: nothing is opened, nothing is written.
//!
//! DNS answers carry no ports, so every edge has a loopback address of its own and all edges share
//! one port: what DNS answers is all that a client needs, as in production.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::roles::Role;
use crate::up::regions::Region;

/// The zone that the DNS server answers for.
pub(crate) const ZONE: &str = "go.test.";

/// The names in the zone that lead to edges, as certificates carry them.
pub(crate) const EDGE_NAMES: [&str; 2] = ["go.test", "all.go.test"];

/// Client networks pinned to the first, second and third region: RFC 5737 documentation prefixes.
pub(crate) const PINNED: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];

/// Default of `--port`: the edges' and the origin's HTTP port.
pub(crate) const BASE_PORT: u16 = 8080;

/// The other ports, where `--port` is [`BASE_PORT`]; they keep their distance to it.
const HTTPS_PORT: u16 = 8443;
const ADMIN_PORT: u16 = 9080;
const DNS_PORT: u16 = 8053;
const DNS_ADMIN_PORT: u16 = 9053;

/// The origin's and the DNS server's address.
const CENTRAL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);

/// The last byte of the first edge's address; the next edges count on.
const FIRST_EDGE: u8 = 11;

/// What decides the plan.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// An edge each.
    pub(crate) regions: Vec<Region>,
    /// `--port`.
    pub(crate) port: u16,
    /// `--dns-port`.
    pub(crate) dns_port: Option<u16>,
    /// `--tls`.
    pub(crate) tls: bool,
}

#[cfg(test)]
impl Wish {
    /// These regions, all else as without flags.
    pub(crate) fn of(names: &[&str]) -> Self {
        Self {
            regions: crate::up::regions::find(names).unwrap(),
            port: BASE_PORT,
            dns_port: None,
            tls: false,
        }
    }
}

/// A whole network: edges in the order of the regions, then the origin, then DNS.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// All nodes, in the order in which they are shown.
    pub(crate) nodes: Vec<Node>,
    /// What a client is told to use: the first edge.
    pub(crate) goproxy: String,
}

/// One node: one child process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its name: the region's for an edge, the role's for the others.
    pub(crate) name: &'static str,
    /// Where its metrics and its readiness are.
    pub(crate) admin: SocketAddr,
    /// What it does, and where it listens for it.
    pub(crate) duty: Duty,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Duty {
    /// Serves clients.
    Edge {
        /// Where it stands.
        region: Region,
        /// Clear-text listener.
        http: SocketAddr,
        /// TLS listener, with `--tls`.
        https: Option<SocketAddr>,
    },
    /// Serves the edges.
    Origin {
        /// HTTP/1.1 and h2c listener.
        http: SocketAddr,
    },
    /// Answers for the zone.
    Dns {
        /// UDP and TCP listener.
        listen: SocketAddr,
    },
}

/// Over what a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Plan {
    /// Lays a network out.
    ///
    /// # Errors
    /// Ports that don't exist or collide: a text that names the flag.
    pub(crate) fn new(wish: &Wish) -> Result<Self, String> {
        let ports = Ports::new(wish.port, wish.dns_port)?;
        let mut nodes = Vec::with_capacity(wish.regions.len() + 2);
        for (region, last) in wish.regions.iter().zip(FIRST_EDGE..=u8::MAX) {
            let address = Ipv4Addr::new(127, 0, 0, last);
            nodes.push(edge(*region, address, &ports, wish.tls));
        }
        let goproxy = nodes
            .first()
            .and_then(|edge| edge.urls().pop())
            .ok_or("--regions: at least one is needed")?;
        nodes.push(Node {
            name: "origin",
            admin: at(CENTRAL, ports.admin),
            duty: Duty::Origin {
                http: at(CENTRAL, ports.http),
            },
        });
        nodes.push(Node {
            name: "dns",
            admin: at(CENTRAL, ports.dns_admin),
            duty: Duty::Dns {
                listen: at(CENTRAL, ports.dns),
            },
        });
        Ok(Self { nodes, goproxy })
    }

    /// Where the origin listens.
    pub(crate) fn origin(&self) -> Option<SocketAddr> {
        self.nodes.iter().find_map(|node| match node.duty {
            Duty::Origin { http } => Some(http),
            _ => None,
        })
    }

    /// The edges: region and clear-text listener.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (Region, SocketAddr)> + '_ {
        self.nodes.iter().filter_map(|node| match node.duty {
            Duty::Edge { region, http, .. } => Some((region, http)),
            _ => None,
        })
    }
}

fn edge(region: Region, address: Ipv4Addr, ports: &Ports, tls: bool) -> Node {
    Node {
        name: region.name,
        admin: at(address, ports.admin),
        duty: Duty::Edge {
            region,
            http: at(address, ports.http),
            https: tls.then(|| at(address, ports.https)),
        },
    }
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

impl Node {
    /// The role, which is also the subcommand that runs it.
    pub(crate) fn role(&self) -> Role {
        match self.duty {
            Duty::Edge { .. } => Role::Edge,
            Duty::Origin { .. } => Role::Origin,
            Duty::Dns { .. } => Role::Dns,
        }
    }

    /// What to call it in a sentence: `edge eu`, `origin`, `dns`.
    pub(crate) fn title(&self) -> String {
        let role = self.role().name();
        if role == self.name {
            role.to_owned()
        } else {
            format!("{role} {}", self.name)
        }
    }

    /// Base URLs for clients, clear text first; none for DNS.
    pub(crate) fn urls(&self) -> Vec<String> {
        match self.duty {
            Duty::Edge { http, https, .. } => {
                let mut urls = vec![format!("http://{http}")];
                urls.extend(https.map(|https| format!("https://{https}")));
                urls
            }
            Duty::Origin { http } => vec![format!("http://{http}")],
            Duty::Dns { .. } => Vec::new(),
        }
    }

    /// Every address that it binds.
    pub(crate) fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        let mut all = match self.duty {
            Duty::Edge { http, https, .. } => {
                let mut tcp = vec![(Transport::Tcp, http)];
                tcp.extend(https.map(|https| (Transport::Tcp, https)));
                tcp
            }
            Duty::Origin { http } => vec![(Transport::Tcp, http)],
            Duty::Dns { listen } => vec![(Transport::Udp, listen), (Transport::Tcp, listen)],
        };
        all.push((Transport::Tcp, self.admin));
        all
    }
}

struct Ports {
    http: u16,
    https: u16,
    admin: u16,
    dns: u16,
    dns_admin: u16,
}

impl Ports {
    fn new(port: u16, dns_port: Option<u16>) -> Result<Self, String> {
        let moved = |base: u16| {
            u16::try_from(i32::from(base) + i32::from(port) - i32::from(BASE_PORT))
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| out_of_range(port))
        };
        let dns = match dns_port {
            Some(dns) => dns,
            None => moved(DNS_PORT)?,
        };
        let ports = Self {
            http: port,
            https: moved(HTTPS_PORT)?,
            admin: moved(ADMIN_PORT)?,
            dns,
            dns_admin: moved(DNS_ADMIN_PORT)?,
        };
        if [ports.http, ports.admin, ports.dns_admin].contains(&dns) {
            return Err(format!(
                "--dns-port: {dns} is used on {CENTRAL} already; choose another one"
            ));
        }
        Ok(ports)
    }
}

fn out_of_range(port: u16) -> String {
    let lowest = 1 + BASE_PORT - DNS_PORT;
    let highest = u16::MAX - (ADMIN_PORT - BASE_PORT);
    format!("--port: {port} leaves no room for the other ports; {lowest} to {highest} can be used")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::regions;

    fn listeners(plan: &Plan, name: &str) -> Vec<String> {
        let node = plan.nodes.iter().find(|node| node.name == name).unwrap();
        let all = node.listeners();
        all.iter()
            .map(|(transport, address)| format!("{transport:?} {address}").to_lowercase())
            .collect()
    }

    #[test]
    fn three_regions_have_the_documented_addresses() {
        let plan = Plan::new(&Wish::of(&["eu", "us", "ap"])).unwrap();
        assert_eq!(plan.goproxy, "http://127.0.0.11:8080");
        assert_eq!(
            listeners(&plan, "eu"),
            ["tcp 127.0.0.11:8080", "tcp 127.0.0.11:9080"]
        );
        assert_eq!(
            listeners(&plan, "us"),
            ["tcp 127.0.0.12:8080", "tcp 127.0.0.12:9080"]
        );
        assert_eq!(
            listeners(&plan, "ap"),
            ["tcp 127.0.0.13:8080", "tcp 127.0.0.13:9080"]
        );
        assert_eq!(
            listeners(&plan, "origin"),
            ["tcp 127.0.0.10:8080", "tcp 127.0.0.10:9080"]
        );
        assert_eq!(
            listeners(&plan, "dns"),
            [
                "udp 127.0.0.10:8053",
                "tcp 127.0.0.10:8053",
                "tcp 127.0.0.10:9053"
            ]
        );
    }

    #[test]
    fn all_ports_move_with_the_port() {
        let mut wish = Wish::of(&["eu"]);
        wish.port = 18_080;
        wish.tls = true;
        let plan = Plan::new(&wish).unwrap();
        assert_eq!(plan.goproxy, "https://127.0.0.11:18443");
        assert_eq!(
            listeners(&plan, "eu"),
            [
                "tcp 127.0.0.11:18080",
                "tcp 127.0.0.11:18443",
                "tcp 127.0.0.11:19080"
            ]
        );
        assert_eq!(plan.origin().unwrap().to_string(), "127.0.0.10:18080");
        assert_eq!(listeners(&plan, "dns")[0], "udp 127.0.0.10:18053");
    }

    #[test]
    fn the_dns_port_can_be_chosen() {
        let mut wish = Wish::of(&["eu"]);
        wish.dns_port = Some(53);
        let plan = Plan::new(&wish).unwrap();
        assert_eq!(
            listeners(&plan, "dns"),
            [
                "udp 127.0.0.10:53",
                "tcp 127.0.0.10:53",
                "tcp 127.0.0.10:9053"
            ]
        );
        wish.dns_port = Some(9080);
        assert!(Plan::new(&wish).unwrap_err().contains("--dns-port"));
    }

    #[test]
    fn a_port_without_room_for_the_others_is_refused() {
        let mut wish = Wish::of(&["eu"]);
        for port in [1, 27, 64_536, 65_535] {
            wish.port = port;
            assert!(
                Plan::new(&wish).unwrap_err().contains("28 to 64535"),
                "{port}"
            );
        }
        for port in [28, 64_535] {
            wish.port = port;
            assert!(Plan::new(&wish).is_ok(), "{port}");
        }
    }

    #[test]
    fn every_known_region_has_an_address_and_no_address_is_used_twice() {
        let names: Vec<_> = regions::REGIONS.iter().map(|region| region.name).collect();
        let mut wish = Wish::of(&names);
        wish.tls = true;
        let plan = Plan::new(&wish).unwrap();
        assert_eq!(plan.edges().count(), names.len());
        let mut all: Vec<_> = plan.nodes.iter().flat_map(Node::listeners).collect();
        let bound = all.len();
        all.sort_by_key(|(transport, address)| (*address, *transport as u8));
        all.dedup();
        assert_eq!(all.len(), bound);
    }

    #[test]
    fn nodes_are_called_by_role_and_name() {
        let plan = Plan::new(&Wish::of(&["eu"])).unwrap();
        let titles: Vec<_> = plan.nodes.iter().map(Node::title).collect();
        assert_eq!(titles, ["edge eu", "origin", "dns"]);
    }
}
