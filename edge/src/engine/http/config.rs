//! What plain HTTP mounts can be told.

use modcdn_core::config::Problem;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use crate::config::{BreakerConfig, Exchange};

/// Default part of the time since `Last-Modified` for which an answer without a lifetime is fresh:
/// what RFC 9111 §4.2.2 suggests.
pub const DEFAULT_HEURISTIC_PERCENT: u32 = 10;
/// Default bound on such a lifetime.
pub const DEFAULT_HEURISTIC_MAX: Period = Period::secs(86_400);
/// Default bound on stale-while-revalidate.
pub const DEFAULT_STALE_WHILE_REVALIDATE: Period = Period::secs(86_400);
/// Default bound on stale-if-error.
pub const DEFAULT_STALE_IF_ERROR: Period = Period::secs(7 * 86_400);
/// Default time for which a stale answer stands in for an origin that can't be reached.
pub const DEFAULT_STALE_IF_UNREACHABLE: Period = Period::secs(86_400);
/// Default pause between revalidations that fail.
pub const DEFAULT_RETRY: Period = Period::secs(5);
/// Default bound on a stored body.
pub const DEFAULT_BODY: ByteSize = ByteSize::gib(1);
/// Default bound on an answer's header.
pub const DEFAULT_HEADER_SIZE: ByteSize = ByteSize::kib(32);
/// Default limit of TCP and TLS together.
pub const DEFAULT_CONNECT_TIMEOUT: Period = Period::secs(5);
/// Default limit from a request sent to the head of its answer: an application may compute it.
pub const DEFAULT_FIRST_BYTE_TIMEOUT: Period = Period::secs(30);
/// Default limit between two pieces of a body, in either direction.
pub const DEFAULT_STALL_TIMEOUT: Period = Period::secs(30);
/// Default limit of a whole exchange.
pub const DEFAULT_TOTAL_TIMEOUT: Period = Period::secs(3600);
/// Default time after which an unused connection is closed.
pub const DEFAULT_IDLE_TIMEOUT: Period = Period::secs(60);
/// For so long an address where something went wrong is used only where there is no other.
pub const DEFAULT_SUSPICION: Period = Period::secs(1);
/// The longest that this grows to, doubling with each further failure there.
pub const DEFAULT_SUSPICION_MAX: Period = Period::secs(60);
/// Default bound on requests with one mount's origin at once.
pub const DEFAULT_REQUESTS: usize = 100;
/// Default bound on requests at once whose answers go to one client at its pace: each may be a
/// connection, and clients leave the edge some 500 descriptors.
pub const DEFAULT_RELAYS: usize = 300;
/// Default window of an HTTP/2 stream: at 100 ms, 5 MB/s.
pub const DEFAULT_STREAM_WINDOW: ByteSize = ByteSize::kib(512);
/// Default bound on those that wait for a place among them; each costs some KiB.
pub const DEFAULT_QUEUE: usize = 1000;
/// Default bound on that wait.
pub const DEFAULT_QUEUE_WAIT: Period = Period::secs(5);

/// Plain HTTP mounts: bounds on what their origins say, and on talking to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// An answer without a lifetime is fresh for this part of the time since its `Last-Modified`.
    pub heuristic_percent: u32,
    /// … but no longer than this.
    pub heuristic_max: Period,
    /// A longer `stale-while-revalidate` is cut to this.
    pub stale_while_revalidate: Period,
    /// A longer `stale-if-error` is cut to this.
    pub stale_if_error: Period,
    /// While the origin can't be reached: how long an answer is given stale about which the origin
    /// said nothing to the contrary (RFC 9111 §4.2.4).
    pub stale_if_unreachable: Period,
    /// After a revalidation failed: how long the stale answer is given without asking again.
    pub retry: Period,
    /// Longer bodies pass through and are not stored.
    pub body: ByteSize,
    /// An answer with a longer header is refused.
    pub header_size: ByteSize,
    /// Longest wait for TCP and TLS.
    pub connect_timeout: Period,
    /// Longest wait for the head of an answer, once there is a connection.
    pub first_byte_timeout: Period,
    /// Longest wait for the next piece of a body.
    pub stall_timeout: Period,
    /// Longest time for a whole exchange.
    pub total_timeout: Period,
    /// Unused connections are closed after this.
    pub idle_timeout: Period,
    /// How long an address where something went wrong is avoided; doubles with each failure.
    pub suspicion: Period,
    /// The longest that it is.
    pub suspicion_max: Period,
    /// Most requests with one mount's origin at once, until their bodies are read; over HTTP/1.1 each
    /// is a connection.
    pub requests: usize,
    /// Most requests at once of one mount whose answers go to one client at its pace; they have places
    /// among `requests` only until the head of their answer is here. Over HTTP/1.1 each is a
    /// connection.
    pub relays: usize,
    /// HTTP/2 window of one stream. A connection's is that of all streams together: one whose client
    /// doesn't read holds none of the others up, and this many bytes.
    pub stream_window: ByteSize,
    /// Most requests of one mount, of either kind, that wait for that.
    pub queue: usize,
    /// Longest wait in that queue.
    pub queue_wait: Period,
    /// When one mount's origin isn't asked any more.
    pub breaker: BreakerConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            heuristic_percent: DEFAULT_HEURISTIC_PERCENT,
            heuristic_max: DEFAULT_HEURISTIC_MAX,
            stale_while_revalidate: DEFAULT_STALE_WHILE_REVALIDATE,
            stale_if_error: DEFAULT_STALE_IF_ERROR,
            stale_if_unreachable: DEFAULT_STALE_IF_UNREACHABLE,
            retry: DEFAULT_RETRY,
            body: DEFAULT_BODY,
            header_size: DEFAULT_HEADER_SIZE,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            first_byte_timeout: DEFAULT_FIRST_BYTE_TIMEOUT,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            total_timeout: DEFAULT_TOTAL_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            suspicion: DEFAULT_SUSPICION,
            suspicion_max: DEFAULT_SUSPICION_MAX,
            requests: DEFAULT_REQUESTS,
            relays: DEFAULT_RELAYS,
            stream_window: DEFAULT_STREAM_WINDOW,
            queue: DEFAULT_QUEUE,
            queue_wait: DEFAULT_QUEUE_WAIT,
            breaker: BreakerConfig::default(),
        }
    }
}

impl HttpConfig {
    /// What is bounded here as in the section `origin`.
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

    /// What is wrong with the section; keys are relative to it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.exchange().problems();
        let mut claim = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        claim(
            self.heuristic_percent <= 100,
            "heuristic_percent",
            "must be at most 100",
        );
        let window = (64 << 10)..=(16 << 20);
        claim(
            window.contains(&self.stream_window.as_u64()),
            "stream_window",
            "must be from 64KiB to 16MiB",
        );
        let header = (8 << 10)..=(256 << 10);
        claim(
            header.contains(&self.header_size.as_u64()),
            "header_size",
            "must be from 8KiB to 256KiB",
        );
        problems
    }
}
