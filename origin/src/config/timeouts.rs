//! The section `timeouts`.

use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// How long anything may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Connecting to an upstream, TLS included.
    pub connect: Period,
    /// From the request to an upstream's first answer byte.
    pub first_byte: Period,
    /// Between two pieces of an upstream's body.
    pub stall: Period,
    /// One whole fetch: all upstreams tried, and the body.
    pub request: Period,
    /// How long someone waits for a newer answer while there is a stale one for him.
    pub refresh: Period,
    /// Waiting for a free place among the fetches.
    pub queue: Period,
    /// A client's TLS handshake.
    pub handshake: Period,
    /// A client's request header. Between two requests an HTTP/1.1 connection lasts this long too.
    pub header: Period,
    /// A client's HTTP/2 connection without a request.
    pub idle: Period,
    /// A client that takes nothing of what it asked for.
    pub client_stall: Period,
    /// Finishing what is under way when the origin is told to stop.
    pub shutdown: Period,
}

impl Timeouts {
    /// See [`Timeouts::connect`].
    pub const CONNECT: Period = Period::secs(5);
    /// See [`Timeouts::first_byte`]. A proxy may have to fetch a whole repository first.
    pub const FIRST_BYTE: Period = Period::secs(30);
    /// See [`Timeouts::stall`].
    pub const STALL: Period = Period::secs(15);
    /// See [`Timeouts::request`].
    pub const REQUEST: Period = Period::secs(10 * 60);
    /// See [`Timeouts::refresh`].
    pub const REFRESH: Period = Period::secs(3);
    /// See [`Timeouts::queue`].
    pub const QUEUE: Period = Period::secs(10);
    /// See [`Timeouts::handshake`].
    pub const HANDSHAKE: Period = Period::secs(5);
    /// See [`Timeouts::header`].
    pub const HEADER: Period = Period::secs(10);
    /// See [`Timeouts::idle`]. Edges keep their connections warm: longer than most servers do.
    pub const IDLE: Period = Period::secs(5 * 60);
    /// See [`Timeouts::client_stall`].
    pub const CLIENT_STALL: Period = Period::secs(60);
    /// See [`Timeouts::shutdown`].
    pub const SHUTDOWN: Period = Period::secs(10);
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Self::CONNECT,
            first_byte: Self::FIRST_BYTE,
            stall: Self::STALL,
            request: Self::REQUEST,
            refresh: Self::REFRESH,
            queue: Self::QUEUE,
            handshake: Self::HANDSHAKE,
            header: Self::HEADER,
            idle: Self::IDLE,
            client_stall: Self::CLIENT_STALL,
            shutdown: Self::SHUTDOWN,
        }
    }
}

impl Timeouts {
    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, period) in [
            ("connect", self.connect),
            ("first_byte", self.first_byte),
            ("stall", self.stall),
            ("request", self.request),
            ("refresh", self.refresh),
            ("queue", self.queue),
            ("handshake", self.handshake),
            ("header", self.header),
            ("idle", self.idle),
            ("client_stall", self.client_stall),
        ] {
            require(
                !period.is_zero(),
                &format!("timeouts.{key}"),
                "must be above zero: every wait has an end",
            );
        }
    }
}
