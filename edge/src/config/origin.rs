//! The section `origin`: where it is, and every bound on talking to it.

use std::net::SocketAddr;
use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::{claims, nest};
use crate::backoff::Backoff;
use crate::origin::Endpoint;
use crate::origin::breaker::{LONGEST_WINDOW, Rules};

/// The largest HTTP/2 window (RFC 9113 §6.9.1).
const MAX_WINDOW: u64 = (1 << 31) - 1;
/// The smallest that makes sense: the protocol's own default.
const MIN_WINDOW: u64 = (1 << 16) - 1;

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
/// Requests at once whose answers go to one client at its pace.
pub const DEFAULT_RELAYS: usize = 1000;
/// Requests of either kind that wait for a place among them; each costs some KiB.
pub const DEFAULT_QUEUE: usize = 10_000;
/// And for how long.
pub const DEFAULT_QUEUE_WAIT: Period = Period::secs(5);
/// The breaker looks at so many of the last requests.
pub const DEFAULT_BREAKER_WINDOW: u32 = 20;
/// So many failures among them open it.
pub const DEFAULT_BREAKER_FAILURES: u32 = 10;
/// How often the origin's purge log is looked at.
pub const DEFAULT_PURGES_INTERVAL: Period = Period::secs(5);
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
    /// File with the token that is shown to the origin where it wants one, for its purge log: the first
    /// line counts. Read at each request. None: the purge log isn't followed.
    pub token_file: Option<PathBuf>,
    /// DNS resolvers for the origin's name, with their ports; none means the system's.
    pub resolvers: Vec<SocketAddr>,
    /// Longest wait for a connection: name, TCP, TLS, HTTP/2.
    pub connect_timeout: Period,
    /// Longest wait for a sign of life: the head of an answer, or word that the origin is at work on it. Of
    /// whole answers `total_timeout` is the bound.
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
    /// Most requests at once whose answers go to one client at its pace; they have places among
    /// `requests` only until the head of their answer is here.
    pub relays: usize,
    /// Most requests of either kind that wait for that.
    pub queue: usize,
    /// Longest wait in that queue.
    pub queue_wait: Period,
    /// The circuit breaker.
    pub breaker: BreakerConfig,
    /// How the origin's purge log is followed.
    pub purges: FollowConfig,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            url: DEFAULT_ORIGIN_URL.to_owned(),
            ca: None,
            token_file: None,
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
            relays: DEFAULT_RELAYS,
            queue: DEFAULT_QUEUE,
            queue_wait: DEFAULT_QUEUE_WAIT,
            breaker: BreakerConfig::default(),
            purges: FollowConfig::default(),
        }
    }
}

/// How the origin's purge log is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowConfig {
    /// How often it is looked at. Zero: never.
    pub interval: Period,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self {
            interval: DEFAULT_PURGES_INTERVAL,
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
    /// What is wrong with the section; keys are relative to it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut claim = claims(&mut problems);
        claim(
            (1..=LONGEST_WINDOW).contains(&self.window),
            "window",
            "must be from 1 to 64",
        );
        claim(
            (1..=self.window).contains(&self.failures),
            "failures",
            "must be from 1 to window",
        );
        claim(
            !self.pause.is_zero() && self.pause <= self.pause_max,
            "pause",
            "must be above zero, and not above pause_max",
        );
        drop(claim);
        problems
    }

    /// The same for the breaker.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            window: self.window,
            failures: self.failures,
            pause: Backoff {
                first: self.pause.get(),
                longest: self.pause_max.get(),
            },
        }
    }
}

impl OriginConfig {
    /// What is bounded here as in the section `http`.
    pub(crate) fn exchange(&self) -> Exchange<'_> {
        Exchange {
            connect_timeout: self.connect_timeout,
            first_byte_timeout: self.first_byte_timeout,
            stall_timeout: self.stall_timeout,
            total_timeout: self.total_timeout,
            idle_timeout: self.idle_timeout,
            suspicion: self.suspicion,
            suspicion_max: self.suspicion_max,
            requests: self.requests,
            relays: self.relays,
            queue: self.queue,
            queue_wait: self.queue_wait,
            breaker: &self.breaker,
        }
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if let Err(message) = Endpoint::parse(&self.url) {
            problems.push(Problem::new("origin.url", message));
        }
        nest("origin", self.exchange().problems(), problems);
        let mut claim = claims(problems);
        claim(!self.ping.is_zero(), "origin.ping", "must be above zero");
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
