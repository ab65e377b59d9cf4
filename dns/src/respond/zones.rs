//! From a question to what the zones say to it.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::content::Content;
use super::negative::{no_data, no_name};
use crate::dnssec::NXNAME;
use crate::query::Question;
use crate::steer::{Client, Map, Picked, Pop};
use crate::zone::{Found, Https, Node, Role, Zone, Zones};

/// What MAILA and MAILB are called by number: obsolete, and never implemented.
const MAIL_TYPES: [u16; 2] = [253, 254];

/// Answers a question of class IN or refuses it. Transfers are refused: there are no secondaries.
pub(super) fn answer(zones: &Zones, question: &Question, client: &Client, map: &Map) -> Content {
    if question.class != DNSClass::IN {
        return Content::error(ResponseCode::Refused);
    }
    let kind = question.kind;
    match kind {
        RecordType::AXFR | RecordType::IXFR => return Content::error(ResponseCode::Refused),
        RecordType::OPT | RecordType::TSIG | NXNAME => return Content::error(ResponseCode::FormErr),
        _ if MAIL_TYPES.contains(&u16::from(kind)) => {
            return Content::error(ResponseCode::NotImp);
        }
        _ => {}
    }
    let name = &question.name;
    match zones.find(name, kind) {
        Found::Outside => Content::error(ResponseCode::Refused),
        Found::Missing(zone) => no_name(zone, name),
        Found::Empty(zone) => no_data(zone, None, name, kind),
        Found::Node(zone, node) => At { zone, node, name }.answer(kind, client, map),
    }
}

/// A name that exists, as it was asked for.
struct At<'a> {
    zone: &'a Zone,
    node: &'a Node,
    name: &'a Name,
}

impl At<'_> {
    fn answer(&self, kind: RecordType, client: &Client, map: &Map) -> Content {
        let address = matches!(kind, RecordType::A | RecordType::AAAA);
        match (self.node.role(), kind) {
            (_, RecordType::ANY) => self.content(vec![self.zone.minimal_any(self.name)]),
            (_, RecordType::SOA) if self.zone.is_apex(self.node) => {
                self.content(vec![self.zone.soa(self.name, false)])
            }
            (_, RecordType::NS) if self.zone.is_apex(self.node) => Content {
                additionals: self.zone.glue(),
                ..self.or_negative(kind, self.node.records(kind, self.name))
            },
            (Role::Steered { .. }, _) if address => self.steered(kind, client, map),
            (
                Role::Steered {
                    https: Some(https), ..
                },
                RecordType::HTTPS,
            ) => self.https(https, client, map),
            (Role::All(_), _) if address => {
                let records = self.addresses(kind, map, map.untailored());
                self.or_negative(kind, records)
            }
            (Role::Why(_), RecordType::TXT) => self.explanation(client, map),
            _ => self.or_negative(kind, self.node.records(kind, self.name)),
        }
    }

    /// The addresses of the PoPs chosen for the client. If they have none of the family, that is a
    /// tailored "no" and has the choice's scope; if no PoP has any, the "no" is for everybody.
    fn steered(&self, kind: RecordType, client: &Client, map: &Map) -> Content {
        let choice = map.choose(client);
        let records = self.addresses(kind, map, choice.picked);
        let tailored = map.all().iter().any(|pop| has_family(pop, kind));
        Content {
            scope: if tailored { choice.scope } else { 0 },
            choice: Some(choice),
            ..self.or_negative(kind, records)
        }
    }

    /// The HTTPS record; its hints are the addresses that A and AAAA would answer.
    fn https(&self, https: &Https, client: &Client, map: &Map) -> Content {
        if !https.hints {
            let data = https.data(Vec::new(), Vec::new());
            return self.content(vec![self.zone.tailored(self.name, data)]);
        }
        let choice = map.choose(client);
        let (v4, v6) = hints(map, choice.picked);
        Content {
            scope: choice.scope,
            choice: Some(choice),
            ..self.content(vec![self.zone.tailored(self.name, https.data(v4, v6))])
        }
    }

    fn explanation(&self, client: &Client, map: &Map) -> Content {
        let choice = map.choose(client);
        let text = RData::TXT(TXT::new(map.explain(client, &choice)));
        Content {
            scope: choice.scope,
            choice: Some(choice),
            ..self.content(vec![self.zone.tailored(self.name, text)])
        }
    }

    fn addresses(&self, kind: RecordType, map: &Map, picked: Picked) -> Vec<Record> {
        let (v4, v6) = hints(map, picked);
        if kind == RecordType::AAAA {
            let records = v6
                .into_iter()
                .map(|v6| self.zone.steered(self.name, v6.into()));
            records.collect()
        } else {
            let records = v4
                .into_iter()
                .map(|v4| self.zone.steered(self.name, v4.into()));
            records.collect()
        }
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

fn hints(map: &Map, picked: Picked) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let v4 = map.pops(picked).flat_map(|pop| pop.v4.iter().copied());
    let v6 = map.pops(picked).flat_map(|pop| pop.v6.iter().copied());
    (v4.collect(), v6.collect())
}

fn has_family(pop: &Pop, kind: RecordType) -> bool {
    if kind == RecordType::AAAA {
        !pop.v6.is_empty()
    } else {
        !pop.v4.is_empty()
    }
}
