//! The role's configuration. `config/dns.yaml` shows every key with its default.

mod check;
pub mod checks;
pub mod cookies;
pub mod dnssec;
pub mod dynamic;
mod health_url;
pub mod rates;
pub mod reports;
pub mod state;
mod steering;
mod values;
pub mod zones;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;

use ipnet::IpNet;
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

pub use checks::{Checks, Damping};
pub use cookies::Cookies;
pub use dnssec::{Dnssec, KeyConfig};
pub use dynamic::Dynamic;
pub use health_url::{HealthUrl, HealthUrlError};
pub use rates::Rates;
pub use reports::Reports;
pub use state::State;
pub use steering::Steering;
pub use values::{Domain, DomainError};
pub use zones::{HttpsConfig, RecordConfig, RecordKind, SteeredName, ZoneConfig};

/// Where queries are answered unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8053";

/// Where the admin listener is unless told otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9053";

/// The zone unless told otherwise: `.test` never exists in public (RFC 6761).
pub const DEFAULT_ZONE: &str = "go.test.";

/// How long a resolver may keep what isn't tailored of a steered name.
pub const DEFAULT_TTL: Period = Period::secs(20);

/// How long a resolver may keep SOA, NS and addresses of name servers.
pub const DEFAULT_FIXED_TTL: Period = Period::secs(3600);

/// How long a resolver may keep a "no such name" (RFC 2308).
pub const DEFAULT_NEGATIVE_TTL: Period = Period::secs(60);

/// The largest UDP answer: fits IPv6's smallest MTU, so it is never fragmented.
pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;

/// Receive buffer of each UDP socket: a burst of some ten thousand queries.
pub const DEFAULT_UDP_BUFFER: ByteSize = ByteSize::mib(1);

/// Queries that a UDP socket's thread receives at once, and answers it sends at once.
pub const DEFAULT_UDP_BATCH: usize = 64;

/// The most that may be configured for it: the kernel takes no more at once.
pub const MAX_UDP_BATCH: usize = 1024;

/// TCP connections at once; more are closed as they come.
pub const DEFAULT_TCP_CONNECTIONS: usize = 1000;

/// TCP connections at once from one address, or one IPv6 /64.
pub const DEFAULT_TCP_PER_CLIENT: usize = 50;

/// How long a TCP connection may be silent between queries (RFC 7766 §6.2.3: a few seconds).
pub const DEFAULT_TCP_IDLE: Period = Period::secs(10);

/// How long a query may take to arrive once it has begun, and its answer to leave.
pub const DEFAULT_TCP_STALL: Period = Period::secs(5);

/// How long open TCP connections may go on once the server is told to stop.
pub const DEFAULT_GRACE: Period = Period::secs(5);

/// Addresses of all PoPs together: what a TCP answer can hold with room to spare.
pub const MAX_ADDRESSES: usize = 2000;

/// The most TCP connections that may be configured: beyond it lies a slip of the finger.
pub const MAX_CONNECTIONS: usize = 1_000_000;

/// The largest receive buffer that may be configured: the kernel counts it in 31 bits.
pub const MAX_RECEIVE_BUFFER: ByteSize = ByteSize::gib(1);

/// The longest TTL that makes sense for a steered name.
pub const MAX_TTL: Period = Period::secs(86_400);

/// What the DNS role can be configured with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's name in logs.
    pub name: String,
    /// Addresses on which queries are answered, over UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub admin: SocketAddr,
    /// Where the access log goes.
    pub access_log: AccessTarget,
    /// One query in so many has a line there.
    pub access_log_sample: NonZero<u32>,
    /// The zone, or the first of several.
    pub zone: Domain,
    /// Name servers of the zone; none: `ns1.<zone>` at the addresses of `listen`.
    pub nameservers: Vec<Nameserver>,
    /// The SOA record.
    pub soa: Soa,
    /// The zone's steered names; none: its apex.
    pub steered: Vec<SteeredName>,
    /// The zone's other records.
    pub records: Vec<RecordConfig>,
    /// Further zones.
    pub zones: Vec<ZoneConfig>,
    /// Records that come and go while the server runs.
    pub dynamic: Dynamic,
    /// How long resolvers may keep the addresses of `all.` names and the texts of `why.` names; of what is
    /// tailored [`Steering`] says how long.
    pub ttl: Period,
    /// How long resolvers may keep SOA, NS and addresses of name servers.
    pub fixed_ttl: Period,
    /// The PoPs.
    pub pops: Vec<Pop>,
    /// Prefixes whose clients are led to a PoP by name.
    pub pins: BTreeMap<IpNet, String>,
    /// Autonomous systems whose clients are led to a PoP by name, unless their prefix is pinned.
    pub asn_pins: BTreeMap<u32, String>,
    /// The geo database.
    pub geo: Geo,
    /// PoPs in the order in which clients of unknown place prefer them.
    pub order: Vec<String>,
    /// PoPs that are to get no new clients, by name.
    pub draining: Vec<String>,
    /// How PoPs are chosen.
    pub steering: Steering,
    /// How PoPs are checked.
    pub checks: Checks,
    /// Who may report, and for how long what is reported counts.
    pub reports: Reports,
    /// What outlives the process.
    pub state: State,
    /// Limits of UDP.
    pub udp: Udp,
    /// Limits of TCP.
    pub tcp: Tcp,
    /// DNS cookies.
    pub cookies: Cookies,
    /// Keys and signatures.
    pub dnssec: Dnssec,
    /// How much a network gets over UDP.
    pub rates: Rates,
    /// How long open TCP connections may go on once the server is told to stop.
    pub grace: Period,
}

/// A name server of the zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nameserver {
    /// Its name.
    pub name: Domain,
    /// Its addresses; needed if its name lies in the zone, and only then.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// The fields of the SOA record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Soa {
    /// The mailbox of whoever is responsible, as a name; none: `hostmaster.<zone>`.
    pub contact: Option<Domain>,
    /// For secondaries.
    pub refresh: Period,
    /// For secondaries.
    pub retry: Period,
    /// For secondaries.
    pub expire: Period,
    /// How long resolvers may keep a "no such name".
    pub negative_ttl: Period,
}

/// A PoP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pop {
    /// Its name.
    pub name: String,
    /// Its addresses, all answered.
    pub addresses: Vec<IpAddr>,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// What is fetched to see whether it is healthy; none: it always counts as healthy.
    #[serde(default)]
    pub health: Option<HealthUrl>,
}

/// The geo database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Geo {
    /// An mmdb file; none: clients have no place.
    pub database: Option<PathBuf>,
    /// An mmdb file with autonomous systems; none: clients have none.
    pub asn: Option<PathBuf>,
}

/// Limits of UDP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Udp {
    /// The largest answer in bytes.
    pub payload: u16,
    /// Sockets an address; 0: one a core.
    pub sockets: usize,
    /// Receive buffer of each socket, as far as the kernel allows.
    pub receive_buffer: ByteSize,
    /// Queries that a socket receives at once, and answers it sends at once.
    pub batch: usize,
    /// Whether the thread of each of an address's sockets is kept on a core of its own.
    pub pin: bool,
}

/// Limits of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one IPv4 address, or one IPv6 /64.
    pub per_client: usize,
    /// How long a connection may be silent between queries.
    pub idle: Period,
    /// How long a query may take to arrive once it has begun, and answers to leave.
    pub stall: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "dns".to_owned(),
            listen: vec![constant(DEFAULT_LISTEN)],
            admin: constant(DEFAULT_ADMIN),
            access_log: AccessTarget::Off,
            access_log_sample: NonZero::<u32>::MIN,
            zone: constant(DEFAULT_ZONE),
            nameservers: Vec::new(),
            soa: Soa::default(),
            steered: Vec::new(),
            records: Vec::new(),
            zones: Vec::new(),
            dynamic: Dynamic::default(),
            ttl: DEFAULT_TTL,
            fixed_ttl: DEFAULT_FIXED_TTL,
            pops: Vec::new(),
            pins: BTreeMap::new(),
            asn_pins: BTreeMap::new(),
            geo: Geo::default(),
            order: Vec::new(),
            draining: Vec::new(),
            steering: Steering::default(),
            checks: Checks::default(),
            reports: Reports::default(),
            state: State::default(),
            udp: Udp::default(),
            tcp: Tcp::default(),
            cookies: Cookies::default(),
            dnssec: Dnssec::default(),
            rates: Rates::default(),
            grace: DEFAULT_GRACE,
        }
    }
}

fn constant<T: std::str::FromStr<Err: fmt::Debug>>(text: &str) -> T {
    text.parse().expect("constants are well-formed")
}

impl Default for Soa {
    fn default() -> Self {
        Self {
            contact: None,
            refresh: Period::secs(3600),
            retry: Period::secs(600),
            expire: Period::secs(604_800),
            negative_ttl: DEFAULT_NEGATIVE_TTL,
        }
    }
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            payload: DEFAULT_UDP_PAYLOAD,
            sockets: 0,
            receive_buffer: DEFAULT_UDP_BUFFER,
            batch: DEFAULT_UDP_BATCH,
            pin: false,
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            connections: DEFAULT_TCP_CONNECTIONS,
            per_client: DEFAULT_TCP_PER_CLIENT,
            idle: DEFAULT_TCP_IDLE,
            stall: DEFAULT_TCP_STALL,
        }
    }
}

impl Config {
    /// The index of a PoP by its name.
    #[must_use]
    pub fn pop_index(&self, name: &str) -> Option<usize> {
        self.pops.iter().position(|pop| pop.name == name)
    }
}

#[cfg(test)]
mod tests;
