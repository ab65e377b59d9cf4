//! From the bytes of a query to the bytes of its answer: a pure function of both and a [`Map`].
//!
//! Failure rules: what isn't a query gets nothing; what can't be understood gets FORMERR; other
//! opcodes NOTIMP; names outside the zone, transfers and other classes REFUSED. An answer is never
//! longer than the transport allows: over UDP that is the least of our cap and what the asker takes
//! (512 bytes without EDNS); what doesn't fit is left out whole and TC is set, so the asker comes
//! back over TCP. An answer carries OPT if and only if the query did, and a client subnet if and
//! only if the query carried a valid one.

use std::net::IpAddr;
use std::time::Instant;

use hickory_proto::op::{self, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::ecs;
use crate::query::{Draft, Edns, Parsed, Question, parse};
use crate::steer::{AnswerId, Choice, Client, Map, Pop, ViewId};
use crate::zone::{Found, Zone};

/// The largest UDP answer to an asker without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_UDP_PAYLOAD: u16 = 512;

/// What MAILA and MAILB are called by number: obsolete, and never implemented.
const MAIL_TYPES: [u16; 2] = [253, 254];

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
    /// What can come of a client subnet in a query that is well-formed.
    pub const COUNTED: [Self; 3] = [Self::Absent, Self::Given, Self::Declined];

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

/// Answers queries for one zone.
#[derive(Clone, Debug)]
pub struct Responder {
    zone: Zone,
    payload: u16,
}

impl Responder {
    /// A responder whose UDP answers have at most `payload` bytes.
    #[must_use]
    pub fn new(zone: Zone, payload: u16) -> Self {
        Self {
            zone,
            payload: payload.max(PLAIN_UDP_PAYLOAD),
        }
    }

    /// The largest UDP answer in bytes.
    #[must_use]
    pub fn payload(&self) -> u16 {
        self.payload
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
        let truncated = self.write(&draft, &content, ask.transport, out)?;
        let subnet = draft.edns.and_then(|edns| edns.subnet);
        Some(Note {
            code: content.code,
            subnet_use: subnet_use(&draft),
            subnet,
            choice: content.choice,
            truncated,
            question: draft.question,
        })
    }

    fn content(&self, draft: &Draft, question: &Question, ask: &Ask, map: &Map) -> Content {
        if question.class != DNSClass::IN {
            return Content::error(ResponseCode::Refused);
        }
        match question.kind {
            RecordType::AXFR | RecordType::IXFR => return Content::error(ResponseCode::Refused),
            RecordType::OPT | RecordType::TSIG => return Content::error(ResponseCode::FormErr),
            kind if MAIL_TYPES.contains(&u16::from(kind)) => {
                return Content::error(ResponseCode::NotImp);
            }
            _ => {}
        }
        let client = Client {
            subnet: draft.edns.and_then(|edns| edns.subnet?.client()),
            resolver: ask.peer.to_canonical(),
        };
        self.answer(question, &client, map)
    }

    fn answer(&self, question: &Question, client: &Client, map: &Map) -> Content {
        let name = &question.name;
        let found = self.zone.find(name);
        match (found, question.kind) {
            (Found::Outside, _) => Content::error(ResponseCode::Refused),
            (Found::Missing, _) => self.negative(name, ResponseCode::NXDomain),
            (Found::Empty, _) => self.negative(name, ResponseCode::NoError),
            (_, RecordType::ANY) => Content::of(vec![self.zone.minimal_any(name)]),
            (Found::Apex, RecordType::SOA) => Content::of(vec![self.zone.soa(name, false)]),
            (Found::Apex, RecordType::NS) => Content {
                additionals: self.zone.glue(),
                ..Content::of(self.zone.ns(name))
            },
            (Found::Apex, kind @ (RecordType::A | RecordType::AAAA)) => {
                self.steered(name, kind, client, map)
            }
            (Found::All, kind @ (RecordType::A | RecordType::AAAA)) => {
                let pops = answered(map, map.healthy(ViewId::default()));
                self.or_negative(name, self.addresses(name, kind, pops))
            }
            (Found::Why, RecordType::TXT) => self.explanation(name, client, map),
            (Found::Nameserver(index), kind @ (RecordType::A | RecordType::AAAA)) => {
                let want_v6 = kind == RecordType::AAAA;
                self.or_negative(name, self.zone.nameserver(index, name, want_v6))
            }
            _ => self.negative(name, ResponseCode::NoError),
        }
    }

    /// The addresses of the PoP chosen for the client. If it has none of the family, that is a
    /// tailored "no" and has the choice's scope; if no PoP has any, the "no" is for everybody.
    fn steered(&self, name: &Name, kind: RecordType, client: &Client, map: &Map) -> Content {
        let choice = map.choose(ViewId::default(), client, Instant::now());
        let records = self.addresses(name, kind, answered(map, choice.answer));
        let tailored = map.pops().iter().any(|pop| has_family(pop, kind));
        Content {
            scope: if tailored { choice.scope } else { 0 },
            choice: Some(choice),
            ..self.or_negative(name, records)
        }
    }

    fn addresses<'a>(
        &self,
        name: &Name,
        kind: RecordType,
        pops: impl Iterator<Item = &'a Pop>,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        for pop in pops {
            if kind == RecordType::AAAA {
                let addresses = pop
                    .v6
                    .iter()
                    .map(|v6| self.zone.steered(name, (*v6).into()));
                records.extend(addresses);
            } else {
                let addresses = pop
                    .v4
                    .iter()
                    .map(|v4| self.zone.steered(name, (*v4).into()));
                records.extend(addresses);
            }
        }
        records
    }

    fn explanation(&self, name: &Name, client: &Client, map: &Map) -> Content {
        let choice = map.choose(ViewId::default(), client, Instant::now());
        let explanation = map.explain(ViewId::default(), client);
        let text = TXT::new(explanation.lines());
        Content {
            // An explanation may hold for fewer addresses than the answer it explains.
            scope: explanation.subnet.map_or(0, |subnet| subnet.prefix_len()),
            choice: Some(choice),
            ..Content::of(vec![self.zone.tailored(name, RData::TXT(text))])
        }
    }

    fn or_negative(&self, name: &Name, records: Vec<Record>) -> Content {
        if records.is_empty() {
            self.negative(name, ResponseCode::NoError)
        } else {
            Content::of(records)
        }
    }

    fn negative(&self, name: &Name, code: ResponseCode) -> Content {
        Content {
            code,
            authorities: vec![self.zone.soa(name, true)],
            ..Content::of(Vec::new())
        }
    }

    /// Encodes within the transport's limit. Says whether the answer was cut, or nothing if not
    /// even that could be written.
    fn write(
        &self,
        draft: &Draft,
        content: &Content,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        let limit = match (transport, draft.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_UDP_PAYLOAD, self.payload),
        };
        let mut message = self.message(draft, content);
        if emit(&message, limit, out) {
            return Some(false);
        }
        // Addresses of name servers are a courtesy: leaving them out is no truncation.
        if !message.additionals.is_empty() {
            message.additionals.clear();
            if emit(&message, limit, out) {
                return Some(false);
            }
        }
        message.answers.clear();
        message.authorities.clear();
        message.metadata.truncation = true;
        emit(&message, limit, out).then_some(true)
    }

    fn message(&self, draft: &Draft, content: &Content) -> Message {
        let asked = &draft.metadata;
        let mut message = Message::new(asked.id, MessageType::Response, asked.op_code);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.authoritative = content.authoritative;
        message.metadata.response_code = content.code;
        message.queries = draft.question.iter().map(question_section).collect();
        message.answers.clone_from(&content.answers);
        message.authorities.clone_from(&content.authorities);
        message.additionals.clone_from(&content.additionals);
        message.edns = draft.edns.map(|edns| self.edns(edns, content.scope));
        message
    }

    fn edns(&self, asked: Edns, scope: u8) -> op::Edns {
        let mut edns = op::Edns::new();
        edns.set_max_payload(self.payload)
            .set_dnssec_ok(asked.dnssec_ok);
        if let Some(subnet) = asked.subnet {
            let option = EdnsOption::Unknown(ecs::OPTION_CODE, subnet.echo(scope));
            edns.options_mut().insert(option);
        }
        edns
    }
}

/// What an answer says, before it is cut to the transport's size.
struct Content {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    scope: u8,
    choice: Option<Choice>,
}

impl Content {
    fn of(answers: Vec<Record>) -> Self {
        Self {
            code: ResponseCode::NoError,
            authoritative: true,
            answers,
            authorities: Vec::new(),
            additionals: Vec::new(),
            scope: 0,
            choice: None,
        }
    }

    fn error(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            ..Self::of(Vec::new())
        }
    }
}

fn answered(map: &Map, answer: AnswerId) -> impl Iterator<Item = &Pop> {
    let pops = map.answer(answer).pops.iter();
    pops.map(|index| &map.pops()[*index])
}

fn has_family(pop: &Pop, kind: RecordType) -> bool {
    if kind == RecordType::AAAA {
        !pop.v6.is_empty()
    } else {
        !pop.v4.is_empty()
    }
}

fn question_section(question: &Question) -> op::Query {
    let mut query = op::Query::query(question.name.clone(), question.kind);
    query.set_query_class(question.class);
    query
}

fn subnet_use(draft: &Draft) -> SubnetUse {
    match draft.edns.and_then(|edns| edns.subnet) {
        _ if draft.bad_subnet => SubnetUse::Invalid,
        None => SubnetUse::Absent,
        Some(subnet) if subnet.client().is_none() => SubnetUse::Declined,
        Some(_) => SubnetUse::Given,
    }
}

/// Encodes a message; false if it is longer than `limit` or can't be encoded.
fn emit(message: &Message, limit: u16, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut encoder = BinEncoder::new(out);
    // Without a limit of its own the encoder fails only at 64 KiB, where it cuts and sets TC
    // itself: both are told from a whole message by what it says of its length.
    let whole = message.emit(&mut encoder).is_ok();
    let cut_by_encoder = !message.metadata.truncation && out.get(2).is_some_and(|b| b & 0x02 != 0);
    whole && !cut_by_encoder && out.len() <= usize::from(limit)
}

#[cfg(test)]
mod tests;
