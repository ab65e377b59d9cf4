//! From the bytes of a query to the bytes of its answer: a pure function of both and a [`Map`].
//!
//! Failure rules: what isn't a query gets nothing; what can't be understood gets FORMERR; other
//! opcodes NOTIMP; names outside the zone, transfers and other classes REFUSED. An answer is never
//! longer than the transport allows: over UDP that is the least of our cap and what the asker takes
//! (512 bytes without EDNS); what doesn't fit is left out whole and TC is set, so the asker comes
//! back over TCP. An answer carries OPT if and only if the query did, and a client subnet if and
//! only if the query carried a valid one.

pub mod content;

mod edns;
mod encode;
mod negative;
mod zones;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;

use self::content::Content;
use crate::ecs;
use crate::query::{Draft, Parsed, Question, parse};
use crate::steer::{Choice, Client, Map};
use crate::zone::Zones;

/// The largest UDP answer to an asker without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_UDP_PAYLOAD: u16 = 512;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram: the answer is capped.
    Udp,
    /// A message on a TCP connection.
    Tcp,
}

impl Transport {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What is known of a query besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Who sent it.
    pub peer: IpAddr,
    /// How.
    pub transport: Transport,
}

/// What came of the client subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetUse {
    /// None was sent.
    Absent,
    /// A valid one with an address.
    Given,
    /// A valid one that asks to be left out of account (source 0).
    Declined,
    /// A malformed one.
    Invalid,
}

impl SubnetUse {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Given => "given",
            Self::Declined => "declined",
            Self::Invalid => "invalid",
        }
    }
}

/// What an answer was, for logs and metrics.
#[derive(Debug)]
pub struct Note {
    /// The question, where it could be read.
    pub question: Option<Question>,
    /// The response code.
    pub code: ResponseCode,
    /// What came of the client subnet.
    pub subnet_use: SubnetUse,
    /// The client subnet with its prefix length, where a valid one came.
    pub subnet: Option<ecs::ClientSubnet>,
    /// The PoPs chosen, where the name is tailored.
    pub choice: Option<Choice>,
    /// Whether the answer had to be cut.
    pub truncated: bool,
}

/// The zones that are answered for, replaced whole when their content moves.
pub type Published = Arc<ArcSwap<Zones>>;

/// Answers queries for some zones.
#[derive(Clone, Debug)]
pub struct Responder {
    zones: Published,
    payload: u16,
}

impl Responder {
    /// A responder whose UDP answers have at most `payload` bytes.
    #[must_use]
    pub fn new(zones: Published, payload: u16) -> Self {
        Self {
            zones,
            payload: payload.max(PLAIN_UDP_PAYLOAD),
        }
    }

    /// The zones now.
    #[must_use]
    pub fn zones(&self) -> Arc<Zones> {
        self.zones.load_full()
    }

    /// Answers one message into `out`, which is overwritten. `None`: nothing may be sent.
    #[must_use]
    pub fn respond(&self, bytes: &[u8], ask: &Ask, map: &Map, out: &mut Vec<u8>) -> Option<Note> {
        let (draft, content) = match parse(bytes) {
            Parsed::Ignored => return None,
            Parsed::Rejected(draft, code) => (draft, Content::error(code)),
            Parsed::Query(draft, question) => {
                let content = self.content(&draft, &question, ask, map);
                (draft, content)
            }
        };
        let (code, choice) = (content.code, content.choice);
        let edns = draft.edns.as_ref();
        let edns = edns.map(|asked| edns::opt(asked, self.payload, content.scope));
        let limit = encode::limit(&draft, ask.transport, self.payload);
        let truncated = encode::encode(&draft, content, edns, limit, out)?;
        let subnet = draft.edns.and_then(|edns| edns.subnet);
        Some(Note {
            code,
            subnet_use: subnet_use(&draft),
            subnet,
            choice,
            truncated,
            question: draft.question,
        })
    }

    fn content(&self, draft: &Draft, question: &Question, ask: &Ask, map: &Map) -> Content {
        let client = Client {
            subnet: draft.edns.and_then(|edns| edns.subnet?.client()),
            resolver: ask.peer.to_canonical(),
        };
        zones::answer(&self.zones.load(), question, &client, map)
    }
}

fn subnet_use(draft: &Draft) -> SubnetUse {
    match draft.edns.and_then(|edns| edns.subnet) {
        _ if draft.bad_subnet => SubnetUse::Invalid,
        None => SubnetUse::Absent,
        Some(subnet) if subnet.client().is_none() => SubnetUse::Declined,
        Some(_) => SubnetUse::Given,
    }
}

#[cfg(test)]
mod tests;
