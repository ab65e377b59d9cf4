//! Several zones, nested ones, several steered names, and records that are the same for everybody.

use modcdn_core::config::parse;

use super::*;
use crate::config::Config;
use crate::zone::build;

const CONFIG: &str = r#"
zone: go.test.
steered:
  - name: go.test.
    https: {alpn: [h2], port: 8443}
  - {name: us.go.test., pops: [us], https: {hints: false}}
  - name: eu.deep.go.test.
    pops: [eu]
records:
  - {name: go.test., type: CAA, data: 0 issue "ca.example"}
  - {name: go.test., type: TXT, data: '"one text" "and more"', ttl: 5m}
  - {name: go.test., type: MX, data: 10 mail.example.}
  - {name: www.go.test., type: A, data: 192.0.2.1}
  - {name: www.go.test., type: A, data: 192.0.2.2}
  - {name: www.go.test., type: AAAA, data: '2001:db8::1'}
  - {name: svc.go.test., type: HTTPS, data: 1 . alpn=h2 port=8443}
zones:
  - zone: in.go.test.
    records:
      - {name: x.in.go.test., type: TXT, data: nested}
  - zone: other.test.
    nameservers: [{name: ns1.go.test.}]
    soa: {negative_ttl: 7s}
    steered: [{name: go.other.test.}]
pops:
  - {name: eu, addresses: [127.0.0.11, '::1'], latitude: 0, longitude: 8}
  - {name: us, addresses: [127.0.0.12], latitude: 0, longitude: -77}
"#;

struct Server {
    responder: Responder,
    map: Map,
}

fn server() -> Server {
    let config: Config = parse("dns.yaml", CONFIG).unwrap();
    let zones = build::zones(&config, &["127.0.0.10".parse().unwrap()]).unwrap();
    let pops = vec![pop("eu", 11, true, 8.0), pop("us", 12, false, -77.0)];
    let inputs = Inputs {
        pops: pops.into(),
        views: config.views(),
        ..Inputs::default()
    };
    Server {
        responder: publish(zones),
        map: compile(&inputs, None, &Constants::default(), Instant::now()).0,
    }
}

impl Server {
    fn raw(&self, asked: &Ask1) -> Vec<u8> {
        let ask = Ask {
            peer: "192.0.2.53".parse().unwrap(),
            transport: asked.transport,
            at: Moment::now(),
        };
        let mut out = Vec::new();
        let note = self
            .responder
            .respond(&asked.bytes(), &ask, &self.map, &mut out);
        note.unwrap();
        out
    }

    fn ask(&self, name: &'static str, kind: u16) -> Message {
        Message::from_vec(&self.raw(&ask(name, kind))).unwrap()
    }
}

const MX: u16 = 15;
const DS: u16 = 43;
const HTTPS: u16 = 65;
const CAA: u16 = 257;

#[test]
fn every_steered_name_chooses_among_its_own_pops() {
    let server = server();
    for (name, kind, expected) in [
        ("go.test", A, &["127.0.0.11", "127.0.0.12"][..]),
        ("us.go.test", A, &["127.0.0.12"]),
        ("us.go.test", AAAA, &[]),
        ("EU.deep.go.test", AAAA, &["::1"]),
        ("go.other.test", A, &["127.0.0.11", "127.0.0.12"]),
        ("all.go.test", A, &["127.0.0.11", "127.0.0.12"]),
        ("all.us.go.test", A, &["127.0.0.12"]),
        ("all.eu.deep.go.test", A, &["127.0.0.11"]),
        ("other.test", A, &[]),
    ] {
        let message = server.ask(name, kind);
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::NoError,
            "{name}"
        );
        assert_eq!(addresses(&message), expected, "{name} {kind}");
    }
    let why = server.ask("why.us.go.test", TXT);
    assert_eq!(why.answers.len(), 1, "{why}");
}

#[test]
fn records_are_answered_as_a_zone_file_says_them() {
    let server = server();
    for (name, kind, expected, ttl) in [
        ("go.test", CAA, &["0 issue \"ca.example\""][..], 3600),
        ("go.test", MX, &["10 mail.example."], 3600),
        ("www.go.test", A, &["192.0.2.1", "192.0.2.2"], 3600),
        ("WWW.go.test", AAAA, &["2001:db8::1"], 3600),
        ("go.test", TXT, &["one textand more"], 300),
        ("x.in.go.test", TXT, &["nested"], 3600),
    ] {
        let message = server.ask(name, kind);
        assert_eq!(addresses(&message), expected, "{name} {kind}");
        assert_eq!(message.answers[0].ttl, ttl, "{name} {kind}");
    }
}

#[test]
fn an_https_record_has_its_parameters_in_order_and_the_answers_addresses() {
    let server = server();
    // RFC 9460 §2.2: priority, target (the owner), then key, length and value, ascending.
    let bytes = server.raw(&ask("go.test", HTTPS));
    let expected = [
        &[0, 1, 0][..],
        &[0, 1, 0, 3, 2, b'h', b'2'],
        &[0, 3, 0, 2, 0x20, 0xfb],
        &[0, 4, 0, 8, 127, 0, 0, 11, 127, 0, 0, 12],
        &[0, 6, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ]
    .concat();
    assert!(bytes.ends_with(&expected), "{bytes:?}");
    let scoped = ask("go.test", HTTPS).subnet(&[0, 1, 24, 0, 198, 51, 100]);
    let same = ask("go.test", A).subnet(&[0, 1, 24, 0, 198, 51, 100]);
    assert_eq!(
        echoed(&server.raw(&scoped)),
        echoed(&server.raw(&same)),
        "tailored as A is"
    );
    let bytes = server.raw(&ask("us.go.test", HTTPS));
    assert!(
        bytes.ends_with(&[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2']),
        "no hints: {bytes:?}"
    );
    let fixed = server.ask("svc.go.test", HTTPS);
    assert_eq!(fixed.answers.len(), 1);
    let none = server.ask("go.other.test", HTTPS);
    assert!(none.answers.is_empty() && none.authorities.len() == 1);
}

#[test]
fn of_nested_zones_the_deepest_answers_and_nothing_is_said_of_others() {
    let server = server();
    for (name, kind, code, soa) in [
        ("x.in.go.test", A, ResponseCode::NoError, "in.go.test."),
        ("y.in.go.test", A, ResponseCode::NXDomain, "in.go.test."),
        ("y.go.test", A, ResponseCode::NXDomain, "go.test."),
        ("deep.go.test", A, ResponseCode::NoError, "go.test."),
        ("y.deep.go.test", A, ResponseCode::NXDomain, "go.test."),
        ("other.test", MX, ResponseCode::NoError, "other.test."),
        // RFC 4035 §3.1.4.1: whether a zone is signed is said by the one above.
        ("in.go.test", DS, ResponseCode::NoError, "go.test."),
        ("go.test", DS, ResponseCode::NoError, "go.test."),
    ] {
        let message = server.ask(name, kind);
        assert_eq!(message.metadata.response_code, code, "{name}");
        assert!(message.metadata.authoritative, "{name}");
        assert_eq!(message.authorities[0].name.to_ascii(), soa, "{name}");
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
    }
    for name in ["test", "example", "xin.test", ""] {
        let message = server.ask(name, A);
        assert_eq!(
            message.metadata.response_code,
            ResponseCode::Refused,
            "{name}"
        );
        assert!(message.authorities.is_empty() && message.additionals.is_empty());
    }
}

#[test]
fn every_zone_has_its_own_soa_and_name_servers() {
    let server = server();
    let ns = server.ask("go.test", NS);
    assert_eq!(addresses(&ns), ["ns1.go.test."]);
    assert_eq!(ns.additionals.len(), 1, "glue");
    let ns = server.ask("other.test", NS);
    assert_eq!(addresses(&ns), ["ns1.go.test."]);
    assert_eq!(ns.additionals.len(), 0, "it lies outside that zone");
    let soa = server.ask("other.test", SOA).answers[0].data.to_string();
    assert!(
        soa.starts_with("ns1.go.test. hostmaster.other.test. "),
        "{soa}"
    );
    assert_eq!(server.ask("x.other.test", A).authorities[0].ttl, 7);
}

#[test]
fn what_is_denied_is_known_to_who_proves_it() {
    let server = server();
    let question = |text: &str, kind: RecordType| Question {
        name: name(text),
        kind,
        class: DNSClass::IN,
    };
    let client = Client {
        subnet: None,
        resolver: "192.0.2.53".parse().unwrap(),
    };
    let denial = |text: &str, kind: RecordType| {
        let zones = server.responder.zones();
        let question = question(text, kind);
        zones::answer(zones, &question, &client, &server.map, Instant::now()).denial
    };
    use content::Denial;
    assert_eq!(denial("y.go.test.", RecordType::A), Some(Denial::Name));
    assert_eq!(
        denial("deep.go.test.", RecordType::A),
        Some(Denial::Type(vec![]))
    );
    let at_apex = [
        RecordType::A,
        RecordType::NS,
        RecordType::SOA,
        RecordType::MX,
        RecordType::TXT,
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::CAA,
    ];
    assert_eq!(
        denial("go.test.", RecordType::SRV),
        Some(Denial::Type(at_apex.to_vec()))
    );
    let but_aaaa = vec![RecordType::A, RecordType::HTTPS];
    assert_eq!(
        denial("us.go.test.", RecordType::AAAA),
        Some(Denial::Type(but_aaaa))
    );
    assert_eq!(denial("go.test.", RecordType::A), None);
}
