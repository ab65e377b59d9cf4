//! From a question to what the zones say to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::content::{Content, ExtendedError};
use super::negative::{no_data, no_name};
use crate::dnssec::NXNAME;
use crate::query::Question;
use crate::steer::{AnswerId, Choice, Client, Map, Pop, ViewId};
use crate::zone::{Found, Https, Node, Role, Zone, Zones};

/// What MAILA and MAILB are called by number: obsolete, and never implemented.
const MAIL_TYPES: [u16; 2] = [253, 254];

/// Answers a question of class IN or refuses it. Transfers are refused: there are no secondaries.
pub(super) fn answer(
    zones: &Zones,
    question: &Question,
    client: &Client,
    map: &Map,
    now: Instant,
) -> Content {
    if question.class != DNSClass::IN {
        return Content::refused(ExtendedError::NotAuthoritative);
    }
    let kind = question.kind;
    match kind {
        RecordType::AXFR | RecordType::IXFR => {
            return Content::refused(ExtendedError::NotSupported);
        }
        RecordType::OPT | RecordType::TSIG | NXNAME => {
            return Content::error(ResponseCode::FormErr);
        }
        _ if MAIL_TYPES.contains(&u16::from(kind)) => {
            return Content::error(ResponseCode::NotImp);
        }
        _ => {}
    }
    let name = &question.name;
    match zones.find(name, kind) {
        Found::Outside => Content::refused(ExtendedError::NotAuthoritative),
        Found::Missing(zone) => no_name(zone, name),
        Found::Empty(zone) => no_data(zone, None, name, kind),
        Found::Node(zone, node) => {
            let at = At {
                zone,
                node,
                name,
                client,
                map,
                now,
            };
            at.answer(kind)
        }
    }
}

/// A name that exists, as it was asked for, by whom and when.
struct At<'a> {
    zone: &'a Zone,
    node: &'a Node,
    name: &'a Name,
    client: &'a Client,
    map: &'a Map,
    now: Instant,
}

impl At<'_> {
    fn answer(&self, kind: RecordType) -> Content {
        let address = matches!(kind, RecordType::A | RecordType::AAAA);
        let is_apex = self.zone.is_apex(self.node);
        match (self.node.role(), kind) {
            (_, RecordType::ANY) => self.content(vec![self.zone.minimal_any(self.name)]),
            (_, RecordType::SOA) if is_apex => self.content(vec![self.zone.soa(self.name, false)]),
            (_, RecordType::NS) if is_apex => Content {
                additionals: self.zone.glue(),
                ..self.or_negative(kind, self.node.records(kind, self.name))
            },
            (Role::Steered { view, .. }, _) if address => self.steered(*view, kind),
            (
                Role::Steered {
                    view,
                    https: Some(https),
                },
                RecordType::HTTPS,
            ) => self.https(*view, https),
            (Role::All(view), _) if address => {
                let records = self.addresses(kind, self.map.healthy(*view));
                self.or_negative(kind, records)
            }
            (Role::Why(view), RecordType::TXT) => self.explanation(*view),
            _ => self.or_negative(kind, self.node.records(kind, self.name)),
        }
    }

    /// The addresses of the PoPs chosen for the client. If they have none of the family, that is a
    /// tailored "no" and has the choice's scope; if no PoP has any, the "no" is for everybody.
    fn steered(&self, view: ViewId, kind: RecordType) -> Content {
        let choice = self.choose(view);
        let mut records = self.addresses(kind, choice.answer);
        for record in &mut records {
            record.ttl = choice.ttl;
        }
        let tailored = self.map.pops().iter().any(|pop| has_family(pop, kind));
        Content {
            scope: if tailored { choice.scope } else { 0 },
            choice: Some(choice),
            ..self.or_negative(kind, records)
        }
    }

    /// The HTTPS record; its hints are the addresses that A and AAAA would answer.
    fn https(&self, view: ViewId, https: &Https) -> Content {
        if !https.hints {
            let data = https.data(Vec::new(), Vec::new());
            return self.content(vec![self.zone.tailored(self.name, data)]);
        }
        let choice = self.choose(view);
        let (v4, v6) = self.both_families(choice.answer);
        let mut record = self.zone.tailored(self.name, https.data(v4, v6));
        record.ttl = choice.ttl;
        Content {
            scope: choice.scope,
            choice: Some(choice),
            ..self.content(vec![record])
        }
    }

    fn explanation(&self, view: ViewId) -> Content {
        let choice = self.choose(view);
        let explanation = self.map.explain(view, self.client);
        let text = RData::TXT(TXT::new(explanation.lines()));
        Content {
            // An explanation may hold for fewer addresses than the answer it explains.
            scope: explanation.subnet.map_or(0, |subnet| subnet.prefix_len()),
            choice: Some(choice),
            ..self.content(vec![self.zone.tailored(self.name, text)])
        }
    }

    fn choose(&self, view: ViewId) -> Choice {
        self.map.choose(view, self.client, self.now)
    }

    fn addresses(&self, kind: RecordType, answer: AnswerId) -> Vec<Record> {
        let (v4, v6) = self.both_families(answer);
        let record = |address: IpAddr| self.zone.steered(self.name, address);
        if kind == RecordType::AAAA {
            v6.into_iter().map(|v6| record(v6.into())).collect()
        } else {
            v4.into_iter().map(|v4| record(v4.into())).collect()
        }
    }

    fn both_families(&self, answer: AnswerId) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
        let pops = self.map.answer(answer).pops.iter();
        let pops = pops.filter_map(|index| self.map.pops().get(*index));
        let v4 = pops.clone().flat_map(|pop| pop.v4.iter().copied());
        (
            v4.collect(),
            pops.flat_map(|pop| pop.v6.iter().copied()).collect(),
        )
    }

    fn or_negative(&self, kind: RecordType, records: Vec<Record>) -> Content {
        if records.is_empty() {
            no_data(self.zone, Some(self.node), self.name, kind)
        } else {
            self.content(records)
        }
    }

    fn content(&self, records: Vec<Record>) -> Content {
        Content::of(self.zone.origin(), records)
    }
}

fn has_family(pop: &Pop, kind: RecordType) -> bool {
    if kind == RecordType::AAAA {
        !pop.v6.is_empty()
    } else {
        !pop.v4.is_empty()
    }
}
