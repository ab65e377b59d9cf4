//! What an edge can be told, and what it does when it isn't told.
//!
//! One struct a section, every default a named constant. The sections `store`, `freshness`,
//! `fill` and `purge` are the engine's. `config/edge.yaml` names every key; a test holds the two together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use modcdn_core::config::{self, Problem};
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::{ByteSize, Period};

pub use crate::engine::config::{
    FillConfig, FreshnessConfig, HttpConfig, PurgeConfig, StoreConfig,
};
use crate::origin::Endpoint;
use crate::origin::breaker::LONGEST_WINDOW;

pub mod mounts;

use self::mounts::{MountConfig, default_mounts};

/// The node's name in logs and in `Cache-Status`.
pub const DEFAULT_NAME: &str = "edge";
/// Clear-text HTTP/1.1 and HTTP/2 (prior knowledge), on every address.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// Metrics and health: on this machine only, never on the public listener.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
/// One front thread a core.
pub const DEFAULT_THREADS: usize = 0;
/// Threads for fills and connections to the origin.
pub const DEFAULT_FILL_THREADS: usize = 1;
/// Threads that wait for the disk. More of them serve a disk no better, and each keeps memory.
pub const DEFAULT_DISK_THREADS: usize = 16;

/// An edge's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's name: access log, `Cache-Status`.
    pub name: String,
    /// Addresses for clear text.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners.
    pub tls: TlsConfig,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    pub admin: SocketAddr,
    /// Where the access log goes: `off`, `stdout`, `stderr` or a file.
    pub access_log: AccessTarget,
    /// Balancers in front of this edge.
    pub proxy_protocol: ProxyProtocolConfig,
    /// Names served here, without ports; any other is answered 421. Empty: any name.
    pub hosts: Vec<String>,
    /// Front threads for each address; 0 means one a core.
    pub threads: usize,
    /// Threads for fills and connections to the origin.
    pub fill_threads: usize,
    /// Most threads that wait for the disk at once; they are made when needed.
    pub disk_threads: usize,
    /// What lies below which prefix.
    pub mounts: Vec<MountConfig>,
    /// The origin of the modules, and how it is spoken to.
    pub origin: OriginConfig,
    /// Plain HTTP mounts.
    pub http: HttpConfig,
    /// The cache's two tiers.
    pub store: StoreConfig,
    /// Bounds on how long mutable answers live.
    pub freshness: FreshnessConfig,
    /// Limits of fills.
    pub fill: FillConfig,
    /// Who may purge, and how many purges are held.
    pub purge: PurgeConfig,
    /// How long a client may take for what.
    pub timeouts: TimeoutConfig,
    /// How much a client may ask for.
    pub limits: LimitConfig,
    /// How a new process takes over.
    pub upgrade: UpgradeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            listen: vec![DEFAULT_LISTEN],
            tls: TlsConfig::default(),
            admin: DEFAULT_ADMIN,
            access_log: AccessTarget::default(),
            proxy_protocol: ProxyProtocolConfig::default(),
            hosts: Vec::new(),
            threads: DEFAULT_THREADS,
            fill_threads: DEFAULT_FILL_THREADS,
            disk_threads: DEFAULT_DISK_THREADS,
            mounts: default_mounts(),
            origin: OriginConfig::default(),
            http: HttpConfig::default(),
            store: StoreConfig::default(),
            freshness: FreshnessConfig::default(),
            fill: FillConfig::default(),
            purge: PurgeConfig::default(),
            timeouts: TimeoutConfig::default(),
            limits: LimitConfig::default(),
            upgrade: UpgradeConfig::default(),
        }
    }
}

/// Pause between two looks at the certificate's files.
pub const DEFAULT_TLS_RELOAD: Period = Period::secs(60);

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Addresses for TLS; none by default.
    pub listen: Vec<SocketAddr>,
    /// PEM file with the certificate chain, the leaf first. Needed if there is an address.
    pub certificate: Option<PathBuf>,
    /// PEM file with the leaf's private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: Option<PathBuf>,
    /// How often both files are looked at; changed ones are taken up without a restart.
    pub reload: Period,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            key: None,
            reload: DEFAULT_TLS_RELOAD,
        }
    }
}

/// Where an origin with its defaults listens, on the same machine.
pub const DEFAULT_ORIGIN_URL: &str = "http://127.0.0.10:8080";
/// Name look-up, TCP, TLS and HTTP/2 together.
pub const DEFAULT_CONNECT_TIMEOUT: Period = Period::secs(5);
/// From a request sent to the head of its answer.
pub const DEFAULT_FIRST_BYTE_TIMEOUT: Period = Period::secs(5);
/// Between two pieces of a body.
pub const DEFAULT_STALL_TIMEOUT: Period = Period::secs(5);
/// A whole answer. 500 MiB in it need 0.9 MB/s.
pub const DEFAULT_TOTAL_TIMEOUT: Period = Period::secs(600);
/// An unused connection beyond the first is closed after it.
pub const DEFAULT_IDLE_TIMEOUT: Period = Period::secs(300);
/// Connections to the origin.
pub const DEFAULT_CONNECTIONS: usize = 100;
/// Requests on one connection at once.
pub const DEFAULT_STREAMS: usize = 100;
/// A PING on every connection, so that a dead one is known before it is needed.
pub const DEFAULT_PING: Period = Period::secs(30);
/// Flow-control window of one stream: 4 MiB at 200 ms are 160 Mbit/s.
pub const DEFAULT_STREAM_WINDOW: ByteSize = ByteSize::mib(4);
/// Flow-control window of one connection: 1 Gbit/s × 200 ms is 25 MB. Several times a stream's,
/// so that one stalled stream can't starve its siblings.
pub const DEFAULT_CONNECTION_WINDOW: ByteSize = ByteSize::mib(32);
/// Connections kept open, used or not, so that a fill after a quiet hour pays no handshake.
pub const DEFAULT_WARM: usize = 1;
/// Connections and addresses that one request is tried on before the head of its answer is here.
pub const DEFAULT_TRIES: u32 = 3;
/// For so long an address where something went wrong is used only where there is no other.
pub const DEFAULT_SUSPICION: Period = Period::secs(1);
/// The longest that this grows to, doubling with each further failure there.
pub const DEFAULT_SUSPICION_MAX: Period = Period::secs(60);
/// Requests with the origin at once, until their bodies are read.
pub const DEFAULT_REQUESTS: usize = 1000;
/// Requests that wait for a place among them; each costs some KiB.
pub const DEFAULT_QUEUE: usize = 10_000;
/// And for how long.
pub const DEFAULT_QUEUE_WAIT: Period = Period::secs(5);
/// The breaker looks at so many of the last requests.
pub const DEFAULT_BREAKER_WINDOW: u32 = 20;
/// So many failures among them open it.
pub const DEFAULT_BREAKER_FAILURES: u32 = 10;
/// The first pause of an open breaker.
pub const DEFAULT_BREAKER_PAUSE: Period = Period::secs(1);
/// The longest, doubling with each try that fails.
pub const DEFAULT_BREAKER_PAUSE_MAX: Period = Period::secs(30);

/// Where the origin is, and every bound on talking to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginConfig {
    /// `http://HOST[:PORT]` (HTTP/2 by prior knowledge) or `https://…` (TLS, HTTP/2 by ALPN).
    pub url: String,
    /// PEM file of the certificate authorities that may vouch for an `https` origin; none means
    /// the system's.
    pub ca: Option<PathBuf>,
    /// DNS resolvers for the origin's name, with their ports; none means the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Longest wait for a connection: name, TCP, TLS, HTTP/2.
    pub connect_timeout: Period,
    /// Longest wait for the head of an answer.
    pub first_byte_timeout: Period,
    /// Longest wait for the next piece of a body.
    pub stall_timeout: Period,
    /// Longest time for a whole answer.
    pub total_timeout: Period,
    /// Unused connections beyond the first are closed after this.
    pub idle_timeout: Period,
    /// Most connections.
    pub connections: usize,
    /// Most requests on one connection at once.
    pub streams_per_connection: usize,
    /// Pause between PINGs on a connection.
    pub ping: Period,
    /// HTTP/2 window of one stream.
    pub stream_window: ByteSize,
    /// HTTP/2 window of one connection.
    pub connection_window: ByteSize,
    /// Connections kept open, used or not.
    pub warm: usize,
    /// Connections and addresses that one request is tried on.
    pub tries: u32,
    /// How long an address where something went wrong is avoided; doubles with each failure.
    pub suspicion: Period,
    /// The longest that it is.
    pub suspicion_max: Period,
    /// Most requests at once.
    pub requests: usize,
    /// Most requests that wait for that.
    pub queue: usize,
    /// Longest wait in that queue.
    pub queue_wait: Period,
    /// The circuit breaker.
    pub breaker: BreakerConfig,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            url: DEFAULT_ORIGIN_URL.to_owned(),
            ca: None,
            resolvers: Vec::new(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            first_byte_timeout: DEFAULT_FIRST_BYTE_TIMEOUT,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            total_timeout: DEFAULT_TOTAL_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            connections: DEFAULT_CONNECTIONS,
            streams_per_connection: DEFAULT_STREAMS,
            ping: DEFAULT_PING,
            stream_window: DEFAULT_STREAM_WINDOW,
            connection_window: DEFAULT_CONNECTION_WINDOW,
            warm: DEFAULT_WARM,
            tries: DEFAULT_TRIES,
            suspicion: DEFAULT_SUSPICION,
            suspicion_max: DEFAULT_SUSPICION_MAX,
            requests: DEFAULT_REQUESTS,
            queue: DEFAULT_QUEUE,
            queue_wait: DEFAULT_QUEUE_WAIT,
            breaker: BreakerConfig::default(),
        }
    }
}

/// When the origin isn't asked any more. Only requests that got no answer count as failures, never
/// a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// How many of the last requests are looked at: from 1 to 64.
    pub window: u32,
    /// So many failures among them open the breaker.
    pub failures: u32,
    /// Then the origin is left alone for so long; doubles with each try that fails.
    pub pause: Period,
    /// The longest pause.
    pub pause_max: Period,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: DEFAULT_BREAKER_WINDOW,
            failures: DEFAULT_BREAKER_FAILURES,
            pause: DEFAULT_BREAKER_PAUSE,
            pause_max: DEFAULT_BREAKER_PAUSE_MAX,
        }
    }
}

impl BreakerConfig {
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut claim = claims(problems);
        claim(
            (1..=LONGEST_WINDOW).contains(&self.window),
            "origin.breaker.window",
            "must be from 1 to 64",
        );
        claim(
            (1..=self.window).contains(&self.failures),
            "origin.breaker.failures",
            "must be from 1 to window",
        );
        claim(
            !self.pause.is_zero() && self.pause <= self.pause_max,
            "origin.breaker.pause",
            "must be above zero, and not above pause_max",
        );
    }
}

/// TLS and HTTP/2 handshakes.
pub const DEFAULT_HANDSHAKE: Period = Period::secs(10);
/// A whole HTTP/1.1 header, from its first byte.
pub const DEFAULT_HEADER: Period = Period::secs(10);
/// The first byte of a connection's first or next HTTP/1.1 request.
pub const DEFAULT_KEEP_ALIVE: Period = Period::secs(75);
/// An HTTP/2 connection without a request.
pub const DEFAULT_H2_IDLE: Period = Period::secs(180);
/// How long a client may stall in the midst of an answer.
pub const DEFAULT_WRITE: Period = Period::secs(30);
/// Some more of a request's body.
pub const DEFAULT_READ: Period = Period::secs(30);
/// A whole request, its body read by the client included.
pub const DEFAULT_REQUEST: Period = Period::secs(3600);
/// In-flight requests at shutdown.
pub const DEFAULT_SHUTDOWN: Period = Period::secs(30);

/// How long a client may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutConfig {
    /// TLS handshake; HTTP/2 preface.
    pub handshake: Period,
    /// A whole HTTP/1.1 header, from its first byte (not: between two bytes).
    pub header: Period,
    /// Silence between two HTTP/1.1 requests.
    pub keep_alive: Period,
    /// An HTTP/2 connection without a request is closed after one to two times this.
    pub h2_idle: Period,
    /// A client that takes an answer more slowly than `limits.send_rate` is given up once it has cost
    /// this much time; taking it faster earns that back. Other waits for the client: at most this.
    pub write: Period,
    /// Of a request's body some more must come within this.
    pub read: Period,
    /// A whole request.
    pub request: Period,
    /// At shutdown: how long requests in flight may go on.
    pub shutdown: Period,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            handshake: DEFAULT_HANDSHAKE,
            header: DEFAULT_HEADER,
            keep_alive: DEFAULT_KEEP_ALIVE,
            h2_idle: DEFAULT_H2_IDLE,
            write: DEFAULT_WRITE,
            read: DEFAULT_READ,
            request: DEFAULT_REQUEST,
            shutdown: DEFAULT_SHUTDOWN,
        }
    }
}

/// Open connections; more are closed at once.
pub const DEFAULT_MAX_CONNECTIONS: usize = 20_000;
/// Open connections of one address. A whole office or CI farm may stand behind one.
pub const DEFAULT_CONNECTIONS_PER_ADDRESS: usize = 1000;
/// Addresses that are told apart, some 150 bytes each.
pub const DEFAULT_ADDRESSES: usize = 65_536;
/// Slower than any link that a build could wait for: 1 MiB in four minutes.
pub const DEFAULT_SEND_RATE: ByteSize = ByteSize::kib(4);
/// A customer of an IPv6 provider has at least a /64.
pub const DEFAULT_IPV6_PREFIX: u8 = 64;
/// A request's header.
pub const DEFAULT_HEADER_SIZE: ByteSize = ByteSize::kib(64);
/// Header fields of a request.
pub const DEFAULT_HEADER_FIELDS: usize = 100;
/// Requests on one HTTP/2 connection at once.
pub const DEFAULT_H2_STREAMS: u32 = 100;
/// Bytes of one HTTP/2 answer that wait for the client's window.
pub const DEFAULT_H2_SEND_BUFFER: ByteSize = ByteSize::kib(256);
/// Streams that a client may reset before they were looked at (rapid reset).
pub const DEFAULT_H2_RESETS: usize = 20;
/// Streams that we may have to reset because of what the client sent on them. One that opens all its
/// streams before it has seen our settings is refused some of them, which counts here.
pub const DEFAULT_H2_LOCAL_RESETS: usize = 1024;
/// Malformed HTTP/2 requests before the connection is closed.
pub const DEFAULT_H2_MALFORMED: usize = 32;

/// Pingora's parser takes no more fields than this.
pub const MAX_HEADER_FIELDS: usize = 256;

/// How much a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Open connections of all clients.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_address: usize,
    /// Addresses that are told apart; further ones share one allowance.
    pub addresses: usize,
    /// Bits of an IPv6 address that make one client.
    pub ipv6_prefix: u8,
    /// Requests of one address.
    pub rate: RateConfig,
    /// Bytes a second that a client must take of an answer, beyond stalls of `timeouts.write`.
    pub send_rate: ByteSize,
    /// Bytes of a request's header.
    pub header_size: ByteSize,
    /// Fields of a request's header.
    pub header_fields: usize,
    /// Requests on one HTTP/2 connection at once.
    pub h2_streams: u32,
    /// Bytes of one HTTP/2 answer that may wait for the client's window.
    pub h2_send_buffer: ByteSize,
    /// Streams reset by the client before they were looked at: more close the connection.
    pub h2_resets: usize,
    /// Streams reset by us because of the client's mistakes ("MadeYouReset"): more close the
    /// connection.
    pub h2_local_resets: usize,
    /// Malformed HTTP/2 requests: more close the connection.
    pub h2_malformed: usize,
    /// HTTP/2 frames that serve no request.
    pub h2_frames: FrameConfig,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            connections: DEFAULT_MAX_CONNECTIONS,
            connections_per_address: DEFAULT_CONNECTIONS_PER_ADDRESS,
            addresses: DEFAULT_ADDRESSES,
            ipv6_prefix: DEFAULT_IPV6_PREFIX,
            rate: RateConfig::default(),
            send_rate: DEFAULT_SEND_RATE,
            header_size: DEFAULT_HEADER_SIZE,
            header_fields: DEFAULT_HEADER_FIELDS,
            h2_streams: DEFAULT_H2_STREAMS,
            h2_send_buffer: DEFAULT_H2_SEND_BUFFER,
            h2_resets: DEFAULT_H2_RESETS,
            h2_local_resets: DEFAULT_H2_LOCAL_RESETS,
            h2_malformed: DEFAULT_H2_MALFORMED,
            h2_frames: FrameConfig::default(),
        }
    }
}

/// No limit: thousands of requests a second are a build with a warm cache, not an attack, and many
/// machines may share an address. An operator who knows the clients sets one.
pub const DEFAULT_REQUESTS_PER_SECOND: u32 = 0;
/// Requests that may come at once.
pub const DEFAULT_BURST: u32 = 1000;
/// The longest delay before a request is refused.
pub const DEFAULT_RATE_QUEUE_WAIT: Period = Period::secs(10);

/// How many requests a second one address may send. More are delayed, and refused (429) only where
/// the delay would be too long: the go command never tries again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateConfig {
    /// Requests a second; 0: any number.
    pub requests_per_second: u32,
    /// Requests that may come at once, after a pause.
    pub burst: u32,
    /// The longest delay.
    pub queue_wait: Period,
}

impl Default for RateConfig {
    fn default() -> Self {
        Self {
            requests_per_second: DEFAULT_REQUESTS_PER_SECOND,
            burst: DEFAULT_BURST,
            queue_wait: DEFAULT_RATE_QUEUE_WAIT,
        }
    }
}

/// The span of time over which frames are counted.
pub const DEFAULT_FRAME_WINDOW: Period = Period::secs(10);
/// A client that measures its bandwidth sends several a second.
pub const DEFAULT_PINGS: u64 = 200;
/// One at the start, one when a window is resized; and their acknowledgements.
pub const DEFAULT_SETTINGS: u64 = 50;
/// A browser that leaves a page, a build that is stopped: all requests under way, some times over.
pub const DEFAULT_RESETS: u64 = 500;
/// And 8 for each request.
pub const DEFAULT_PRIORITIES: u64 = 500;
/// And 8 for each request, and one for each KiB sent to the client.
pub const DEFAULT_WINDOW_UPDATES: u64 = 2000;
/// And 8 for each request.
pub const DEFAULT_CONTINUATIONS: u64 = 50;
/// There is no reason to send any.
pub const DEFAULT_EMPTY: u64 = 100;

/// How many HTTP/2 frames of a kind that serves no request a client may send on a connection within
/// `window`. More close it (GOAWAY, ENHANCE_YOUR_CALM).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrameConfig {
    /// The span of time.
    pub window: Period,
    /// PING, acknowledgements too.
    pub pings: u64,
    /// SETTINGS, acknowledgements too.
    pub settings: u64,
    /// RST_STREAM.
    pub resets: u64,
    /// PRIORITY, PRIORITY_UPDATE and unknown types, beside 8 for each request.
    pub priorities: u64,
    /// WINDOW_UPDATE, beside 8 for each request and one for each KiB sent.
    pub window_updates: u64,
    /// CONTINUATION, beside 8 for each request.
    pub continuations: u64,
    /// DATA that carries nothing and ends nothing.
    pub empty: u64,
}

impl Default for FrameConfig {
    fn default() -> Self {
        Self {
            window: DEFAULT_FRAME_WINDOW,
            pings: DEFAULT_PINGS,
            settings: DEFAULT_SETTINGS,
            resets: DEFAULT_RESETS,
            priorities: DEFAULT_PRIORITIES,
            window_updates: DEFAULT_WINDOW_UPDATES,
            continuations: DEFAULT_CONTINUATIONS,
            empty: DEFAULT_EMPTY,
        }
    }
}

/// Who may say on whose behalf a connection comes (the PROXY protocol, versions 1 and 2). Nobody, by
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocolConfig {
    /// Addresses of balancers. A connection from one of them must begin with a header; one from
    /// elsewhere must not.
    pub trusted: Vec<IpNet>,
}

impl ProxyProtocolConfig {
    /// Whether a connection from there begins with a header.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|range| range.contains(&address.to_canonical()))
    }
}

/// Name of the upgrade's socket in the store's folder.
pub const UPGRADE_SOCKET: &str = "upgrade.sock";
/// A large index may have to be read in between.
pub const DEFAULT_UPGRADE_WAIT: Period = Period::secs(120);

/// How a new process (`--upgrade`) takes over from a running one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeConfig {
    /// Whether a new process may take over. Not where a supervisor would take the old one's end
    /// for the edge's.
    pub enabled: bool,
    /// Unix socket at which the running process is asked; none means `upgrade.sock` in the store's
    /// folder.
    pub socket: Option<PathBuf>,
    /// How long either may keep the other waiting.
    pub wait: Period,
}

impl Default for UpgradeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            wait: DEFAULT_UPGRADE_WAIT,
        }
    }
}

/// The largest HTTP/2 window (RFC 9113 §6.9.1).
const MAX_WINDOW: u64 = (1 << 31) - 1;
/// The smallest that makes sense: the protocol's own default.
const MIN_WINDOW: u64 = (1 << 16) - 1;

impl config::Config for Config {
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_listeners(&mut problems);
        self.origin.check(&mut problems);
        self.timeouts.check(&mut problems);
        self.limits.check(&mut problems);
        problems.extend(mounts::problems(&self.mounts));
        nest("http", self.http.problems(), &mut problems);
        nest("store", self.store.problems(), &mut problems);
        nest("freshness", self.freshness.problems(), &mut problems);
        nest("purge", self.purge.problems(), &mut problems);
        nest("fill", self.fill.problems(), &mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Config {
    /// Where a running edge is asked to hand over.
    #[must_use]
    pub fn upgrade_socket(&self) -> PathBuf {
        let in_store = || self.store.dir.join(UPGRADE_SOCKET);
        self.upgrade.socket.clone().unwrap_or_else(in_store)
    }

    fn check_listeners(&self, problems: &mut Vec<Problem>) {
        let mut claim = claims(problems);
        claim(!self.name.is_empty(), "name", "must not be empty");
        claim(
            !self.listen.is_empty() || !self.tls.listen.is_empty(),
            "listen",
            "an edge needs an address here or under tls.listen",
        );
        let files = self.tls.certificate.is_some() && self.tls.key.is_some();
        claim(
            files || self.tls.listen.is_empty(),
            "tls.listen",
            "TLS needs tls.certificate and tls.key",
        );
        claim(
            !self.tls.reload.is_zero(),
            "tls.reload",
            "must be above zero",
        );
        claim(
            !self.upgrade.wait.is_zero(),
            "upgrade.wait",
            "must be above zero",
        );
        claim(self.fill_threads > 0, "fill_threads", "must be at least 1");
        // The index may be read, and the store be walked through, while requests are answered.
        claim(self.disk_threads > 3, "disk_threads", "must be at least 4");
        for host in &self.hosts {
            let fits = !host.is_empty() && !host.contains([':', '/', ' ', '@']);
            claim(fits, "hosts", "a host is a name without scheme or port");
        }
    }
}

impl OriginConfig {
    fn check(&self, problems: &mut Vec<Problem>) {
        if let Err(message) = Endpoint::parse(&self.url) {
            problems.push(Problem::new("origin.url", message));
        }
        self.breaker.check(problems);
        let mut claim = claims(problems);
        let periods = [
            ("origin.connect_timeout", self.connect_timeout),
            ("origin.first_byte_timeout", self.first_byte_timeout),
            ("origin.stall_timeout", self.stall_timeout),
            ("origin.total_timeout", self.total_timeout),
            ("origin.idle_timeout", self.idle_timeout),
            ("origin.ping", self.ping),
            ("origin.queue_wait", self.queue_wait),
            ("origin.suspicion", self.suspicion),
        ];
        for (key, period) in periods {
            claim(!period.is_zero(), key, "must be above zero");
        }
        claim(
            self.connections > 0,
            "origin.connections",
            "must be at least 1",
        );
        let streams = self.streams_per_connection;
        claim(
            streams > 0,
            "origin.streams_per_connection",
            "must be at least 1",
        );
        claim(self.tries > 0, "origin.tries", "must be at least 1");
        let requests = 1..=Semaphore::MAX_PERMITS;
        claim(
            requests.contains(&self.requests),
            "origin.requests",
            "must be at least 1",
        );
        claim(
            self.suspicion <= self.suspicion_max,
            "origin.suspicion",
            "must not be above suspicion_max",
        );
        let window = |size: ByteSize| (MIN_WINDOW..=MAX_WINDOW).contains(&size.as_u64());
        let bounds = "must be from 65535 bytes to 2GiB less one byte";
        claim(window(self.stream_window), "origin.stream_window", bounds);
        claim(
            window(self.connection_window),
            "origin.connection_window",
            bounds,
        );
        claim(
            self.stream_window <= self.connection_window,
            "origin.stream_window",
            "must not be above connection_window",
        );
    }
}

impl TimeoutConfig {
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut claim = claims(problems);
        let periods = [
            ("timeouts.handshake", self.handshake),
            ("timeouts.header", self.header),
            ("timeouts.keep_alive", self.keep_alive),
            ("timeouts.h2_idle", self.h2_idle),
            ("timeouts.write", self.write),
            ("timeouts.read", self.read),
            ("timeouts.request", self.request),
        ];
        for (key, period) in periods {
            claim(!period.is_zero(), key, "must be above zero");
        }
    }
}

impl LimitConfig {
    fn check(&self, problems: &mut Vec<Problem>) {
        let mut claim = claims(problems);
        claim(
            self.connections > 0,
            "limits.connections",
            "must be at least 1",
        );
        claim(
            (1..=MAX_HEADER_FIELDS).contains(&self.header_fields),
            "limits.header_fields",
            "must be from 1 to 256",
        );
        claim(
            self.connections_per_address > 0,
            "limits.connections_per_address",
            "must be at least 1",
        );
        claim(self.addresses > 0, "limits.addresses", "must be at least 1");
        claim(
            (1..=128).contains(&self.ipv6_prefix),
            "limits.ipv6_prefix",
            "must be from 1 to 128",
        );
        claim(
            self.send_rate.as_u64() > 0,
            "limits.send_rate",
            "must be at least 1B",
        );
        claim(
            self.rate.burst > 0,
            "limits.rate.burst",
            "must be at least 1",
        );
        claim(
            !self.h2_frames.window.is_zero(),
            "limits.h2_frames.window",
            "must be above zero",
        );
        let header = (1 << 10)..=(1 << 20) - 1;
        claim(
            header.contains(&self.header_size.as_u64()),
            "limits.header_size",
            "must be from 1KiB to just below 1MiB",
        );
        claim(
            self.h2_streams > 0,
            "limits.h2_streams",
            "must be at least 1",
        );
        let buffer = (16 << 10)..=(64 << 20);
        claim(
            buffer.contains(&self.h2_send_buffer.as_u64()),
            "limits.h2_send_buffer",
            "must be from 16KiB to 64MiB",
        );
    }
}

/// A rule, its key, and what to say where it doesn't hold.
fn claims(problems: &mut Vec<Problem>) -> impl FnMut(bool, &str, &str) {
    |holds, key, message| {
        if !holds {
            problems.push(Problem::new(key, message));
        }
    }
}

fn nest(section: &str, found: Vec<Problem>, problems: &mut Vec<Problem>) {
    problems.extend(
        found
            .into_iter()
            .map(|p| Problem::new(format!("{section}.{}", p.key), p.message)),
    );
}

#[cfg(test)]
mod tests {
    use modcdn_core::config::parse;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/edge.yaml");

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(
            parse::<Config>("edge.yaml", EXAMPLE).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn the_example_names_every_key() {
        let example: serde_yaml::Value = serde_yaml::from_str(EXAMPLE).unwrap();
        let all = serde_yaml::to_value(Config::default()).unwrap();
        assert_eq!(keys(&example), keys(&all));
    }

    fn keys(value: &serde_yaml::Value) -> Vec<String> {
        let mut found = Vec::new();
        collect(value, "", &mut found);
        found.sort();
        found
    }

    fn collect(value: &serde_yaml::Value, prefix: &str, found: &mut Vec<String>) {
        let Some(mapping) = value.as_mapping() else {
            return;
        };
        for (key, value) in mapping {
            let key = format!("{prefix}{}", key.as_str().unwrap());
            collect(value, &format!("{key}."), found);
            found.push(key);
        }
    }

    #[test]
    fn contradictions_are_named_with_their_keys() {
        let text = "listen: []\nfill_threads: 0\norigin: {url: 'ftp://x', connections: 0}\n\
                    limits: {header_fields: 300}\ntimeouts: {header: 0s}\n";
        let error = parse::<Config>("e.yaml", text).unwrap_err().to_string();
        for key in [
            "listen",
            "fill_threads",
            "origin.url",
            "origin.connections",
            "limits.header_fields",
            "timeouts.header",
        ] {
            assert!(error.contains(key), "{key} in {error}");
        }
    }

    #[test]
    fn tls_without_a_certificate_is_refused() {
        let error = parse::<Config>("e.yaml", "tls: {listen: ['0.0.0.0:8443']}").unwrap_err();
        assert!(error.to_string().contains("tls.certificate"), "{error}");
    }
}
