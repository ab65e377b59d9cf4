use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;
use crate::steer::{Constants, Inputs, Point, Pop, ViewId, compile};
use crate::zone::{Authority, Nameserver, Ttls, Zone};

mod edns;
mod limits;
mod several;

const CAP: u16 = 1232;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn pop(name: &str, last: u8, v6: bool, longitude: f64) -> Pop {
    Pop {
        name: name.to_owned(),
        v4: vec![Ipv4Addr::new(127, 0, 0, last)],
        v6: if v6 {
            vec![Ipv6Addr::LOCALHOST]
        } else {
            vec![]
        },
        at: Point {
            latitude: 0.0,
            longitude,
        },
    }
}

fn map() -> Map {
    let pins = [
        ("192.0.2.0/24", 0),
        ("198.51.100.0/24", 1),
        ("2001:db8::/32", 0),
    ];
    made_of(&Inputs {
        pops: [pop("eu", 11, true, 8.0), pop("us", 12, false, -77.0)].into(),
        order: vec![1],
        pins: pins.map(|(net, pop)| (net.parse().unwrap(), pop)).into(),
        ..Inputs::default()
    })
}

/// A map whose `all` name doesn't fit into a datagram.
fn crowd() -> Map {
    made_of(&Inputs {
        pops: (0..200)
            .map(|n| pop(&format!("p{n}"), n, false, 0.0))
            .collect(),
        ..Inputs::default()
    })
}

fn made_of(inputs: &Inputs) -> Map {
    compile(inputs, None, &Constants::default(), Instant::now()).0
}

fn responder() -> Responder {
    let nameservers = ["ns1.go.test.", "ns2.dns.go.test."].map(|text| Nameserver {
        name: name(text),
        v4: vec![Ipv4Addr::new(127, 0, 0, 10)],
        v6: vec![Ipv6Addr::LOCALHOST],
    });
    let second = Duration::from_secs(1);
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 7,
        refresh: 3600 * second,
        retry: 600 * second,
        expire: 86_400 * second,
        negative_ttl: 60 * second,
    };
    let ttls = Ttls {
        steered: 20 * second,
        fixed: 3600 * second,
    };
    let mut zone = Zone::new(name("go.test."), nameservers.into(), &authority, ttls);
    zone.steer(&name("go.test."), ViewId::default(), None);
    publish(vec![zone])
}

fn publish(zones: Vec<Zone>) -> Responder {
    Responder::new(Arc::new(Zones::new(zones)), Settings::plain(CAP))
}

/// A query, byte by byte.
#[derive(Clone)]
struct Ask1 {
    name: &'static str,
    kind: u16,
    class: u16,
    /// Payload, version and options.
    opt: Option<(u16, u8, Vec<u8>)>,
    transport: Transport,
}

fn ask(name: &'static str, kind: u16) -> Ask1 {
    Ask1 {
        name,
        kind,
        class: 1,
        opt: None,
        transport: Transport::Udp,
    }
}

impl Ask1 {
    fn opt(mut self, payload: u16, version: u8, options: &[u8]) -> Self {
        self.opt = Some((payload, version, options.to_vec()));
        self
    }

    fn subnet(self, data: &[u8]) -> Self {
        let length = u8::try_from(data.len()).unwrap();
        self.opt(CAP, 0, &[&[0, 8, 0, length], data].concat())
    }

    fn tcp(mut self) -> Self {
        self.transport = Transport::Tcp;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let additional = u8::from(self.opt.is_some());
        let mut bytes = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        if let Some((payload, version, options)) = &self.opt {
            bytes.extend([0, 0, 41]);
            bytes.extend(payload.to_be_bytes());
            bytes.extend([0, *version, 0x80, 0]);
            bytes.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
            bytes.extend(options);
        }
        bytes
    }

    fn raw(&self, map: &Map) -> Vec<u8> {
        answer(&self.bytes(), self.transport, map).unwrap().0
    }

    fn send(&self) -> Message {
        Message::from_vec(&self.raw(&map())).unwrap()
    }
}

fn answer(bytes: &[u8], transport: Transport, map: &Map) -> Option<(Vec<u8>, Note)> {
    let ask = Ask {
        peer: "127.0.0.1".parse().unwrap(),
        transport,
        at: Moment::now(),
    };
    let mut out = Vec::new();
    let note = responder().respond(bytes, &ask, map, &mut out)?;
    Some((out, note))
}

fn addresses(message: &Message) -> Vec<String> {
    let data = message.answers.iter().map(|record| record.data.to_string());
    data.collect()
}

/// The client subnet in an answer, as raw bytes: if there, it is the message's very end.
fn echoed(bytes: &[u8]) -> Option<Vec<u8>> {
    (4..=20).find_map(|length: u8| {
        let head = bytes.len().checked_sub(usize::from(length) + 4)?;
        (bytes[head..head + 4] == [0, 8, 0, length]).then(|| bytes[head + 4..].to_vec())
    })
}

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const ANY: u16 = 255;

#[test]
fn the_steered_name_answers_the_pop_of_the_subnet() {
    let eu = ask("go.test", A).subnet(&[0, 1, 24, 0, 192, 0, 2]).send();
    assert_eq!(addresses(&eu), ["127.0.0.11"]);
    assert!(eu.metadata.authoritative && eu.metadata.recursion_desired);
    assert!(!eu.metadata.recursion_available && !eu.metadata.truncation);
    let bytes = ask("go.test", A).subnet(&[0, 1, 24, 0, 192, 0, 2]).bytes();
    let (_, note) = answer(&bytes, Transport::Udp, &map()).unwrap();
    let ttl = note.choice.unwrap().ttl;
    assert_eq!((eu.metadata.id, eu.answers[0].ttl), (0x1234, ttl));
    let us = ask("go.test", A)
        .subnet(&[0, 1, 24, 0, 198, 51, 100])
        .send();
    assert_eq!(addresses(&us), ["127.0.0.12"]);
    let nobody = ask("go.test", A).send();
    assert_eq!(addresses(&nobody), ["127.0.0.12"], "the order's first");
    assert!(nobody.edns.is_none(), "no OPT was asked for");
}

#[test]
fn names_keep_the_askers_case() {
    let message = ask("Go.tEsT", A).send();
    assert_eq!(message.queries[0].name.to_ascii(), "Go.tEsT.");
    assert_eq!(message.answers[0].name.to_ascii(), "Go.tEsT.");
    let missing = ask("nO.gO.TesT", A).send();
    assert_eq!(missing.authorities[0].name.to_ascii(), "gO.TesT.");
}

#[test]
fn a_subnet_comes_back_exactly_with_the_scope() {
    for (sent, scope) in [
        (&[0, 1, 24, 0, 192, 0, 2][..], 24),
        (&[0, 1, 32, 0, 192, 0, 2, 77], 24),
        (&[0, 1, 16, 0, 192, 0], 23),
        (&[0, 1, 8, 0, 10], 1),
        (&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0], 32),
        (&[0, 1, 0, 0], 0),
        (&[0, 2, 0, 0], 0),
        (&[0, 0, 0, 0], 0),
    ] {
        let bytes = ask("go.test", A).subnet(sent).raw(&map());
        let mut expected = sent.to_vec();
        expected[3] = scope;
        assert_eq!(echoed(&bytes), Some(expected), "{sent:?}");
    }
}

#[test]
fn what_is_not_tailored_has_scope_zero() {
    let subnet = [0, 1, 24, 0, 192, 0, 2];
    for (name, kind) in [
        ("all.go.test", A),
        ("go.test", SOA),
        ("go.test", NS),
        ("go.test", TXT),
        ("ns1.go.test", A),
        ("missing.go.test", A),
        ("example", A),
    ] {
        let bytes = ask(name, kind).subnet(&subnet).raw(&map());
        assert_eq!(echoed(&bytes), Some(subnet.to_vec()), "{name}");
    }
    let none = ask("go.test", A).opt(CAP, 0, &[]).raw(&map());
    assert_eq!(echoed(&none), None, "none was sent");
}

#[test]
fn malformed_subnets_are_format_errors_without_an_echo() {
    for data in [
        &[0, 0, 24, 0, 192, 0, 2][..],
        &[0, 3, 24, 0, 192, 0, 2],
        &[0, 1, 24, 0, 192, 0],
        &[0, 1, 24, 0, 192, 0, 2, 0],
        &[0, 1, 23, 0, 192, 0, 3],
        &[0, 1, 33, 0, 192, 0, 2, 0, 0],
        &[0, 2, 129, 0],
        &[0, 1, 24, 24, 192, 0, 2],
        &[0, 1],
        &[],
    ] {
        let (bytes, note) = answer(
            &ask("go.test", A).subnet(data).bytes(),
            Transport::Udp,
            &map(),
        )
        .unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::FormErr,
            "{data:?}"
        );
        assert!(message.answers.is_empty() && message.edns.is_some());
        assert_eq!(
            (echoed(&bytes), note.subnet_use),
            (None, SubnetUse::Invalid)
        );
    }
}

#[test]
fn a_family_the_pop_lacks_is_a_tailored_no() {
    let subnet = [0, 1, 24, 0, 198, 51, 100];
    let bytes = ask("go.test", AAAA).subnet(&subnet).raw(&map());
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(message.answers.is_empty());
    assert_eq!(message.authorities[0].ttl, 60);
    assert_eq!(echoed(&bytes).unwrap()[3], 24, "eu has one");
    let v4_only = crowd();
    let bytes = ask("go.test", AAAA).subnet(&subnet).raw(&v4_only);
    assert_eq!(echoed(&bytes).unwrap()[3], 0, "nobody has one");
}

#[test]
fn the_zones_own_records_are_answered() {
    let ns = ask("go.test", NS).send();
    assert_eq!(addresses(&ns), ["ns1.go.test.", "ns2.dns.go.test."]);
    assert_eq!((ns.additionals.len(), ns.answers[0].ttl), (4, 3600));
    let soa = ask("go.test", SOA).send();
    assert!(
        soa.answers[0]
            .data
            .to_string()
            .starts_with("ns1.go.test. hostmaster.go.test. 7 ")
    );
    assert_eq!(addresses(&ask("ns1.go.test", A).send()), ["127.0.0.10"]);
    assert_eq!(addresses(&ask("ns2.dns.go.test", AAAA).send()), ["::1"]);
    assert_eq!(
        addresses(&ask("ALL.go.test", A).send()),
        ["127.0.0.11", "127.0.0.12"]
    );
    assert_eq!(addresses(&ask("all.go.test", AAAA).send()), ["::1"]);
}

#[test]
fn every_no_is_the_right_one() {
    for (name, kind, code, soa) in [
        ("missing.go.test", A, ResponseCode::NXDomain, true),
        ("x.all.go.test", A, ResponseCode::NXDomain, true),
        ("dns.go.test", A, ResponseCode::NoError, true),
        ("dns.go.test", ANY, ResponseCode::NoError, true),
        ("go.test", TXT, ResponseCode::NoError, true),
        ("go.test", 65, ResponseCode::NoError, true),
        ("why.go.test", A, ResponseCode::NoError, true),
        ("ns1.go.test", NS, ResponseCode::NoError, true),
        ("example", A, ResponseCode::Refused, false),
        ("", NS, ResponseCode::Refused, false),
        ("go.test", 252, ResponseCode::Refused, false),
        ("go.test", 251, ResponseCode::Refused, false),
        ("go.test", 41, ResponseCode::FormErr, false),
        ("go.test", 250, ResponseCode::FormErr, false),
        ("go.test", 253, ResponseCode::NotImp, false),
    ] {
        for transport in [ask(name, kind), ask(name, kind).tcp()] {
            let message = transport.send();
            assert_eq!(message.metadata.response_code, code, "{name} {kind}");
            assert!(message.answers.is_empty(), "{name} {kind}");
            assert_eq!(message.authorities.len(), usize::from(soa), "{name} {kind}");
            assert_eq!(message.metadata.authoritative, soa, "{name} {kind}");
        }
    }
}

#[test]
fn other_classes_are_refused_and_come_back_in_the_question() {
    for class in [0, 3, 4, 254, 255, 9999] {
        let mut asked = ask("go.test", A);
        asked.class = class;
        let message = asked.send();
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::Refused,
            "{class}"
        );
        assert_eq!(u16::from(message.queries[0].query_class), class);
    }
}

#[test]
fn any_is_answered_with_the_least() {
    for name in ["go.test", "all.go.test", "why.go.test", "ns1.go.test"] {
        let message = ask(name, ANY).send();
        assert_eq!(message.answers.len(), 1);
        assert_eq!(message.answers[0].record_type(), RecordType::HINFO);
    }
}

#[test]
fn another_edns_version_is_refused_with_ours() {
    let message = ask("go.test", A).opt(CAP, 1, &[0, 8, 0, 1, 9]).send();
    // 16 is BADSIG's number too (RFC 6895 §2.3).
    assert_eq!(u16::from(message.metadata.response_code), 16);
    assert_eq!(message.edns.unwrap().version(), 0);
    assert!(message.answers.is_empty());
}

#[test]
fn our_edns_says_what_we_take_and_keeps_the_do_bit() {
    let edns = ask("go.test", A).opt(4096, 0, &[]).send().edns.unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (CAP, true));
}

#[test]
fn other_opcodes_are_not_implemented() {
    for op in [1, 2, 4, 5, 6, 15] {
        let mut bytes = ask("go.test", A).bytes();
        bytes[2] = op << 3;
        let (bytes, _) = answer(&bytes, Transport::Udp, &map()).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NotImp);
        assert_eq!(message.metadata.op_code, OpCode::from_u8(op));
    }
}

#[test]
fn responses_and_fragments_get_nothing() {
    let mut response = ask("go.test", A).bytes();
    response[2] |= 0x80;
    assert!(answer(&response, Transport::Udp, &map()).is_none());
    assert!(answer(&response[..7], Transport::Udp, &map()).is_none());
    assert!(answer(&[], Transport::Tcp, &map()).is_none());
}

#[test]
fn what_does_not_fit_a_datagram_is_cut_and_whole_over_tcp() {
    let map = crowd();
    let asked = ask("all.go.test", A).subnet(&[0, 1, 24, 0, 192, 0, 2]);
    let bytes = asked.raw(&map);
    let message = Message::from_vec(&bytes).unwrap();
    assert!(message.metadata.truncation && message.answers.is_empty());
    assert!(message.edns.is_some() && echoed(&bytes).is_some());
    let whole = Message::from_vec(&asked.tcp().raw(&map)).unwrap();
    assert_eq!(
        (whole.answers.len(), whole.metadata.truncation),
        (200, false)
    );
}

#[test]
fn addresses_of_name_servers_are_left_out_before_anything_is_cut() {
    let many = (0..18).map(|n| Nameserver {
        name: name(&format!("ns{n}.go.test.")),
        v4: vec![Ipv4Addr::LOCALHOST; 2],
        v6: vec![Ipv6Addr::LOCALHOST],
    });
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 1,
        refresh: Duration::ZERO,
        retry: Duration::ZERO,
        expire: Duration::ZERO,
        negative_ttl: Duration::ZERO,
    };
    let ttls = Ttls {
        steered: Duration::ZERO,
        fixed: Duration::ZERO,
    };
    let zone = Zone::new(name("go.test."), many.collect(), &authority, ttls);
    let crowded = publish(vec![zone]);
    let asked = Ask {
        peer: "127.0.0.1".parse().unwrap(),
        transport: Transport::Udp,
        at: Moment::now(),
    };
    let mut out = Vec::new();
    let query = ask("go.test", NS).bytes();
    let note = crowded.respond(&query, &asked, &map(), &mut out).unwrap();
    let message = Message::from_vec(&out).unwrap();
    assert!(!note.truncated && !message.metadata.truncation);
    assert_eq!((message.answers.len(), message.additionals.len()), (18, 0));
}

#[test]
fn why_explains_the_choice() {
    let message = ask("why.go.test", TXT)
        .subnet(&[0, 1, 32, 0, 192, 0, 2, 9])
        .send();
    let text = message.answers[0].data.to_string();
    for part in ["pop=eu", "why=pin 192.0.2.0/24", "for=subnet 192.0.2.0/24"] {
        assert!(text.contains(part), "{text}");
    }
    let text = ask("why.go.test", TXT).send().answers[0].data.to_string();
    assert!(text.contains("for=resolver 127.0.0.1"), "{text}");
}

fn any_query() -> impl Strategy<Value = Vec<u8>> {
    let names = proptest::sample::select(vec![
        "go.test",
        "all.go.test",
        "why.go.test",
        "ns1.go.test",
        "no.go.test",
        "example",
        "",
    ]);
    let kinds = proptest::sample::select(vec![A, NS, SOA, TXT, AAAA, ANY, 65, 252, 999]);
    let opts = proptest::option::of((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..30)));
    (names, kinds, opts).prop_map(|(name, kind, opt)| {
        let mut asked = ask(name, kind);
        if let Some((payload, options)) = opt {
            asked = asked.opt(payload, 0, &options);
        }
        asked.bytes()
    })
}

proptest! {
    #[test]
    fn an_answer_decodes_and_never_exceeds_what_the_asker_takes(
        bytes in any_query(), udp in any::<bool>(), crowded in any::<bool>(),
    ) {
        let transport = if udp { Transport::Udp } else { Transport::Tcp };
        let map = if crowded { crowd() } else { map() };
        let (out, _) = answer(&bytes, transport, &map).unwrap();
        let message = Message::from_vec(&out).unwrap();
        prop_assert_eq!(message.metadata.message_type, MessageType::Response);
        let has_opt = bytes[11] == 1;
        prop_assert_eq!(message.edns.is_some(), has_opt);
        if udp {
            let limit = if has_opt { usize::from(CAP) } else { 512 };
            prop_assert!(out.len() <= limit);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_answer_too_long(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        keep in 0usize..60, query in any_query(),
    ) {
        let spliced = [&query[..keep.min(query.len())], &bytes[..]].concat();
        for bytes in [bytes, spliced] {
            if let Some((out, _)) = answer(&bytes, Transport::Udp, &map()) {
                prop_assert!(out.len() <= usize::from(CAP));
                prop_assert!(Message::from_vec(&out).is_ok());
            }
        }
    }

    #[test]
    fn every_address_in_a_scope_gets_the_same_bytes(
        address in any::<u32>(), other in any::<u32>(), near_pins in any::<bool>(),
    ) {
        let base = if near_pins { 0xc000_0200 | (address & 0x3ff) } else { address };
        let ask_for = |bits: u32| {
            let [a, b, c, d] = bits.to_be_bytes();
            ask("why.go.test", TXT).subnet(&[0, 1, 32, 0, a, b, c, d]).raw(&map())
        };
        let first = ask_for(base);
        let scope = echoed(&first).unwrap()[3];
        let mask = u32::MAX.checked_shl(32 - u32::from(scope)).unwrap_or(0);
        let second = ask_for((base & mask) | (other & !mask));
        // All but the echoed address at the end.
        prop_assert_eq!(&first[..first.len() - 4], &second[..second.len() - 4]);
    }
}
