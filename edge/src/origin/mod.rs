//! The origin as the engine sees it: one [`Origin`] that is sent [`OriginRequest`]s.
//!
//! [`client`] is the real one, HTTP/2 over Pingora's connector. A request's way there:
//!
//! - `gate`: a place among the requests or the relays, or in the queue; the circuit `breaker`.
//! - `pool`: a stream on a connection that is open already, as a rule.
//! - `dial`: a new connection, to one of the `addresses` that the `directory` has from `resolve`.
//!
//! [`web`] are those of plain HTTP mounts, over hyper's client, each behind a gate of its own.
//!
//! Failure rule: every wait in here is bounded, and a body that ends any other way than its framing
//! says (an early close, a reset, a stall) is an [`OriginError`], never an end.

mod addresses;
pub(crate) mod breaker;
pub mod client;
mod dial;
mod directory;
pub(crate) mod gate;
pub mod metrics;
mod pool;
mod resolve;
pub mod web;

#[cfg(test)]
#[path = "../../tests/faults/dns.rs"]
mod dns;

pub use client::Client;
pub use dial::Endpoint;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use modcdn_core::refusal::Reason;

/// One request to the origin: always a `GET`.
#[derive(Debug, Clone)]
pub struct OriginRequest {
    /// The canonical path, the mount's prefix included.
    pub path: String,
    /// Ask for a 304 if this entity tag is still right.
    pub if_none_match: Option<HeaderValue>,
    /// Ask only for what is missing of a body that broke off.
    pub resume: Option<Resume>,
    /// Pass `Disable-Module-Fetch: true` on.
    pub no_fetch: bool,
    /// Its answer goes to one client, at that client's pace.
    pub relay: bool,
    /// `Authorization`: for what only this edge may ask.
    pub authorization: Option<HeaderValue>,
    /// Nothing can stand in for its answer: as long as the origin says that it is at work on it, it is
    /// waited for.
    pub patient: bool,
}

impl OriginRequest {
    /// A plain request for `path`.
    pub fn get(path: impl Into<String>) -> OriginRequest {
        OriginRequest {
            path: path.into(),
            if_none_match: None,
            resume: None,
            no_fetch: false,
            relay: false,
            authorization: None,
            patient: false,
        }
    }
}

/// Where a broken body goes on: `Range: bytes=<from>-` and `If-Range: <if_range>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Bytes already there.
    pub from: u64,
    /// The strong validator they came with.
    pub if_range: HeaderValue,
}

impl Resume {
    /// The value of `Range`.
    pub(crate) fn range(&self) -> HeaderValue {
        let range = format!("bytes={}-", self.from);
        HeaderValue::try_from(range).expect("digits are visible ASCII")
    }
}

/// The head of the origin's answer, and its body to be read.
pub struct OriginResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers as sent.
    pub headers: HeaderMap,
    /// The body; dropping it early resets the stream.
    pub body: Box<dyn OriginBody>,
}

impl fmt::Debug for OriginResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginResponse")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// The body of an [`OriginResponse`].
#[async_trait]
pub trait OriginBody: Send {
    /// The next piece; `None` when the body is complete, as its framing says.
    ///
    /// # Errors
    /// [`OriginError::Broken`] for an early close or reset, [`OriginError::Timeout`] for a stall.
    /// After an error the body is of no more use.
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError>;

    /// What is left goes to one client, at that client's pace.
    ///
    /// # Errors
    /// [`OriginError::Overloaded`]: as many do as may.
    fn relay(&mut self) -> Result<(), OriginError> {
        Ok(())
    }

    /// The trailers, after [`OriginBody::next`] has answered `None`.
    ///
    /// # Errors
    /// As [`OriginBody::next`].
    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError>;
}

/// Somebody who answers [`OriginRequest`]s.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// Only if no answer came: an error status is an answer.
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError>;
}

/// What went wrong between us and the origin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OriginError {
    /// No connection: the name doesn't resolve, nobody listens, the handshake failed.
    #[error("cannot connect to {to}: {why}")]
    Connect {
        /// Host and port, or the address last tried.
        to: String,
        /// What the connector said.
        why: String,
    },
    /// A bounded wait ran out.
    #[error("{stage} took longer than {limit:?}")]
    Timeout {
        /// Which wait.
        stage: Stage,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// The connection or the stream broke off.
    #[error("broken off: {why}")]
    Broken {
        /// What the transport said.
        why: String,
    },
    /// The answer isn't HTTP as we speak it.
    #[error("invalid answer: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
    /// As many requests as may be are under way or wait, and none ended in time.
    #[error("overloaded: {why}")]
    Overloaded {
        /// Which bound was hit.
        why: String,
    },
    /// The breaker is open: the origin failed again and again.
    #[error("the origin failed again and again: it is asked again in {:.1} s", wait.as_secs_f64())]
    Suspended {
        /// How long it stays open.
        wait: Duration,
    },
}

impl OriginError {
    /// The "no" that a client is given for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            OriginError::Connect { .. } => Reason::OriginUnreachable,
            OriginError::Timeout { .. } => Reason::OriginTimeout,
            OriginError::Broken { .. } => Reason::OriginBroken,
            OriginError::Invalid { .. } => Reason::OriginContent,
            OriginError::Overloaded { .. } => Reason::Overloaded,
            OriginError::Suspended { .. } => Reason::OriginSuspended,
        }
    }

    /// The name in metrics: how a request to the origin ended.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            OriginError::Connect { .. } => "unreachable",
            OriginError::Timeout { .. } => "timeout",
            OriginError::Broken { .. } => "broken",
            OriginError::Invalid { .. } => "invalid",
            OriginError::Overloaded { .. } => "overloaded",
            OriginError::Suspended { .. } => "suspended",
        }
    }
}

/// The wait that ran out in [`OriginError::Timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Name look-up, TCP and TLS handshake, HTTP/2 preface.
    Connect,
    /// From the request sent to the head of the answer.
    FirstByte,
    /// Between two pieces of the body.
    Stall,
    /// The whole exchange.
    Total,
}

impl Stage {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::FirstByte => "first-byte",
            Stage::Stall => "stall",
            Stage::Total => "total",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Connect => "connecting to the origin",
            Stage::FirstByte => "the origin's first byte",
            Stage::Stall => "the origin's next byte",
            Stage::Total => "the origin's whole answer",
        })
    }
}
