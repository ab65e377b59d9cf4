//! The section `timeouts`: how long a client may take for what.

use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use super::claims;

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

impl TimeoutConfig {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
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
