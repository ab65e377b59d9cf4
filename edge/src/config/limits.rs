//! The section `limits`: how much a client may ask for.

use modcdn_core::config::Problem;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use super::claims;

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
/// Malformed HTTP/2 requests before the connection is closed.
pub const DEFAULT_H2_MALFORMED: usize = 32;

/// More fields than any client sends.
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
/// A client that opens all its streams before it has seen our settings is refused some of them.
pub const DEFAULT_MADE_RESETS: u64 = 500;

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
    /// Streams that we had to reset because of what came on them ("MadeYouReset").
    pub made_resets: u64,
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
            made_resets: DEFAULT_MADE_RESETS,
        }
    }
}

impl LimitConfig {
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
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
    }
}
