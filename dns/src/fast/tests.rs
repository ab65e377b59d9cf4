use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;
use crate::respond::{Moment, Responder, Settings, Transport};
use crate::steer::{Constants, Inputs, Map, Point, Pop, State, compile};
use crate::zone::{Authority, Https, Nameserver, Ttls, Zone};

const CAP: u16 = 1232;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn responder() -> Responder {
    let nameserver = Nameserver {
        name: name("ns1.go.test."),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: vec![],
    };
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 7,
        refresh: Duration::from_secs(3600),
        retry: Duration::from_secs(600),
        expire: Duration::from_secs(86400),
        negative_ttl: Duration::from_secs(60),
    };
    let ttls = Ttls {
        steered: Duration::from_secs(20),
        fixed: Duration::from_secs(3600),
    };
    let https = |hints| Https {
        alpn: vec!["h2".to_owned()],
        port: None,
        hints,
    };
    let mut go = Zone::new(name("go.test."), vec![nameserver], &authority, ttls);
    go.steer(&name("go.test."), ViewId(0), Some(https(true)));
    let mut other = Zone::new(name("other.test."), vec![], &authority, ttls);
    other.steer(&name("www.other.test."), ViewId(1), Some(https(false)));
    let zones = Zones::new(vec![go, other]);
    Responder::new(Arc::new(zones), Settings::plain(CAP))
}

/// PoPs with addresses of one family, of both, of none, and with more than fit into a datagram.
fn map(states: &[State]) -> Arc<Map> {
    let pop = |index: u8, v4: u8, v6: u8| Pop {
        name: format!("p{index}"),
        v4: (0..v4).map(|n| Ipv4Addr::new(127, 0, index, n)).collect(),
        v6: (0..v6).map(|n| Ipv6Addr::from([u16::from(n); 8])).collect(),
        at: Point {
            latitude: 0.0,
            longitude: f64::from(index),
        },
    };
    let pins = [
        ("192.0.2.0/24", 0),
        ("198.51.100.0/24", 1),
        ("203.0.113.0/25", 2),
        ("203.0.113.128/25", 3),
        ("10.0.0.0/8", 3),
        ("10.1.0.0/16", 4),
        ("2001:db8::/32", 0),
        ("2001:db8:1::/48", 1),
        ("2001:db8:1:ff00::/57", 2),
    ];
    let inputs = Inputs {
        pops: [
            pop(0, 1, 1),
            pop(1, 2, 0),
            pop(2, 0, 2),
            pop(3, 40, 0),
            pop(4, 100, 100),
        ]
        .into(),
        views: vec![vec![0, 1, 2, 3, 4], vec![2, 1]],
        order: vec![1],
        pins: pins
            .map(|(prefix, pop)| (prefix.parse().unwrap(), pop))
            .into(),
        states: states.to_vec(),
        ..Inputs::default()
    };
    let (map, _) = compile(&inputs, None, &Constants::default(), Moment::now().instant);
    Arc::new(map)
}

struct World {
    now: Arc<Snapshot>,
    fast: Fast,
    metrics: Metrics,
}

impl World {
    fn new(states: &[State]) -> Self {
        let now = Snapshot {
            responder: responder(),
            map: map(states),
        };
        Self {
            now: Arc::new(now),
            fast: Fast::default(),
            metrics: Metrics::new(&prometheus::Registry::new()),
        }
    }

    /// The answer of the long way, learnt from.
    fn long(&self, query: &[u8], ask: &Ask) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let note = self.now.respond(query, ask, &mut out)?;
        let answer = (&note, out.as_slice());
        self.fast
            .learn(query, ask, &self.now, answer, &self.metrics);
        Some(out)
    }

    fn short(&self, query: &[u8], ask: &Ask) -> Option<(Hit, Vec<u8>)> {
        let mut out = b"left from before".to_vec();
        let table = self.fast.table();
        let hit = table.answer(query, ask, &self.now, &mut out)?;
        Some((hit, out))
    }
}

fn ask(peer: &str, transport: Transport) -> Ask {
    Ask {
        peer: peer.parse().unwrap(),
        transport,
        at: Moment::now(),
    }
}

fn query(name: &[&[u8]], kind: u8, opt: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut bytes = vec![7, 8, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())];
    for label in name {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label);
    }
    bytes.extend([0, 0, kind, 0, 1]);
    if let Some((payload, options)) = opt {
        let [p1, p0] = payload.to_be_bytes();
        let length = u8::try_from(options.len()).unwrap();
        bytes.extend([0, 0, 41, p1, p0, 0, 0, 0, 0, 0, length]);
        bytes.extend_from_slice(options);
    }
    bytes
}

fn subnet(address: IpAddr, source: u8) -> Vec<u8> {
    let net = ipnet::IpNet::new(address, source).unwrap().trunc();
    let (family, octets) = match net.network() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let address = &octets[..usize::from(source).div_ceil(8)];
    let length = u8::try_from(4 + address.len()).unwrap();
    [&[0, 8, 0, length, 0, family, source, 0], address].concat()
}

const APEX: &[&[u8]] = &[b"go", b"test"];

#[test]
fn what_was_asked_before_is_answered_the_short_way() {
    let world = World::new(&[]);
    let udp = ask("127.0.0.1", Transport::Udp);
    let eu = subnet("192.0.2.0".parse().unwrap(), 24);
    let first = query(APEX, 1, Some((1232, &eu)));
    assert!(world.short(&first, &udp).is_none(), "nothing is known yet");
    let long = world.long(&first, &udp).unwrap();
    let (hit, short) = world.short(&first, &udp).unwrap();
    assert_eq!(short, long);
    assert_eq!(hit.subnet_use, SubnetUse::Given);

    // Another id, no RD, another case, another subnet of the same PoP, TCP: all of one entry.
    let v6 = subnet("2001:db8:2::".parse().unwrap(), 48);
    let mut second = query(&[b"Go", b"tEST"], 1, Some((4096, &v6)));
    second[..4].copy_from_slice(&[1, 2, 0, 0]);
    for transport in [Transport::Udp, Transport::Tcp] {
        let ask = ask("2001:db8::1", transport);
        let (other, short) = world.short(&second, &ask).unwrap();
        assert_eq!(Some(short), world.long(&second, &ask));
        assert_eq!(other.entry, hit.entry);
    }
    assert_eq!(world.fast.table().len(), 1);
}

#[test]
fn an_answer_without_records_is_answered_the_short_way_in_lower_case() {
    let world = World::new(&[]);
    let udp = ask("127.0.0.1", Transport::Udp);
    let us = subnet("198.51.100.0".parse().unwrap(), 24);
    let odd = query(&[b"gO", b"test"], 28, Some((1232, &us)));
    world.long(&odd, &udp).unwrap();
    assert!(
        world.fast.table().is_empty(),
        "its records may hold letters"
    );
    let plain = query(APEX, 28, Some((1232, &us)));
    let long = world.long(&plain, &udp).unwrap();
    assert_eq!(long[7], 0, "no address of this family");
    assert_eq!(world.short(&plain, &udp).unwrap().1, long);
    assert!(world.short(&odd, &udp).is_none());
}

#[test]
fn another_map_forgets_what_was_learnt() {
    let mut world = World::new(&[]);
    let udp = ask("127.0.0.1", Transport::Udp);
    let eu = subnet("192.0.2.0".parse().unwrap(), 24);
    let asked = query(APEX, 1, Some((1232, &eu)));
    world.long(&asked, &udp).unwrap();
    assert!(world.short(&asked, &udp).is_some());
    world.now = Arc::new(Snapshot {
        responder: world.now.responder.clone(),
        map: map(&[State::Down]),
    });
    assert!(world.short(&asked, &udp).is_none());
    let long = world.long(&asked, &udp).unwrap();
    assert_eq!(world.short(&asked, &udp).unwrap().1, long);
    assert_eq!(world.fast.table().len(), 1);
}

#[test]
fn explanations_and_names_for_everybody_take_the_long_way() {
    let world = World::new(&[]);
    let udp = ask("127.0.0.1", Transport::Udp);
    for (label, kind) in [(&b"why"[..], 16), (b"all", 1), (b"ns1", 1), (b"none", 1)] {
        let asked = query(&[label, b"go", b"test"], kind, Some((1232, &[])));
        world.long(&asked, &udp).unwrap();
        assert!(world.short(&asked, &udp).is_none());
    }
    for kind in [2, 6, 16, 255] {
        let asked = query(APEX, kind, Some((1232, &[])));
        world.long(&asked, &udp).unwrap();
        assert!(world.short(&asked, &udp).is_none());
    }
}

#[test]
fn hits_are_counted_as_the_long_way_counts() {
    let registry = prometheus::Registry::new();
    let world = World {
        metrics: Metrics::new(&registry),
        ..World::new(&[])
    };
    let asked = query(
        APEX,
        1,
        Some((1232, &subnet("192.0.2.0".parse().unwrap(), 24))),
    );
    let mut tally = Tally::default();
    world
        .long(&asked, &ask("127.0.0.1", Transport::Udp))
        .unwrap();
    for transport in [Transport::Udp, Transport::Udp, Transport::Tcp] {
        let (hit, _) = world.short(&asked, &ask("127.0.0.1", transport)).unwrap();
        tally.count(hit);
        tally.settle(&world.fast.table(), transport);
    }
    tally.settle(&world.fast.table(), Transport::Udp);
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    for line in [
        r#"modcdn_dns_queries_total{rcode="NOERROR",transport="udp",type="A"} 2"#,
        r#"modcdn_dns_queries_total{rcode="NOERROR",transport="tcp",type="A"} 1"#,
        r#"modcdn_dns_answers_total{pop="p0"} 3"#,
        r#"modcdn_dns_client_subnets_total{state="given"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// The fuzzer's first inputs: what is malformed in every way that was thought of, and what isn't.
#[test]
fn the_corpus_is_answered_alike_both_ways_and_within_its_limits() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/respond");
    let world = World::new(&[]);
    let (mut short_ones, mut all) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            let ask = ask("192.0.2.1", transport);
            let long = world.long(&bytes, &ask);
            let short = world.short(&bytes, &ask).map(|(_, short)| short);
            if let Some(short) = &short {
                assert_eq!(Some(short), long.as_ref(), "{}", path.display());
            }
            let most = if bytes.len() > 40 { CAP } else { 512 };
            let length = long.map_or(0, |long| long.len());
            assert!(transport == Transport::Tcp || length <= usize::from(most));
            short_ones += usize::from(short.is_some());
            all += 1;
        }
    }
    assert!(all > 80 && short_ones >= 8, "{short_ones} of {all}");
}

fn labels() -> impl Strategy<Value = Vec<&'static [u8]>> {
    prop_oneof![
        8 => Just(vec![&b"go"[..], b"test"]),
        2 => Just(vec![&b"GO"[..], b"tesT"]),
        3 => Just(vec![&b"www"[..], b"other", b"test"]),
        1 => Just(vec![&b"wWw"[..], b"other", b"test"]),
        1 => Just(vec![&b"other"[..], b"test"]),
        1 => Just(vec![&b"all"[..], b"go", b"test"]),
        1 => Just(vec![&b"why"[..], b"go", b"test"]),
        1 => Just(vec![&b"x"[..], b"go", b"test"]),
        1 => Just(vec![&b"test"[..]]),
    ]
}

fn addresses() -> impl Strategy<Value = (IpAddr, u8)> {
    const KNOWN: [[u8; 4]; 6] = [
        [192, 0, 2, 1],
        [198, 51, 100, 9],
        [203, 0, 113, 5],
        [203, 0, 113, 200],
        [10, 0, 0, 1],
        [10, 1, 2, 3],
    ];
    let v4 = prop_oneof![
        proptest::sample::select(&KNOWN[..]).prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(IpAddr::from),
    ];
    let v6 = (0u16..3, any::<u16>())
        .prop_map(|(third, fourth)| IpAddr::from([0x2001, 0xdb8, third, fourth, 0, 0, 0, 0]));
    prop_oneof![(v4, 0u8..=32), (v6, 0u8..=128)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// One world, many queries: whatever the short way answers, the long way answers too, with the
    /// same bytes, whatever either has seen before.
    #[test]
    fn the_short_way_is_the_long_way(
        states in proptest::collection::vec(
            proptest::sample::select(&[State::Up, State::Up, State::Draining, State::Down][..]), 5),
        queries in proptest::collection::vec(
            (
                labels(),
                proptest::sample::select(&[1u8, 1, 28, 65, 16, 2][..]),
                proptest::option::weighted(0.8, (
                    proptest::sample::select(&[0u16, 512, 700, 1232, 4096][..]),
                    proptest::option::weighted(0.8, addresses()),
                )),
                (any::<[u8; 4]>(), addresses(), any::<bool>()),
                proptest::option::weighted(0.2, (any::<proptest::sample::Index>(), any::<u8>())),
            ), 1..60),
    ) {
        let world = World::new(&states);
        for (labels, kind, opt, (head, (peer, _), is_tcp), damage) in queries {
            let options = opt.map(|(payload, address)| {
                (payload, address.map_or(Vec::new(), |(address, source)| subnet(address, source)))
            });
            let opt = options.as_ref().map(|(payload, options)| (*payload, options.as_slice()));
            let mut bytes = query(&labels, kind, opt);
            bytes[..2].copy_from_slice(&head[..2]);
            bytes[2] = head[2] & 0x01;
            bytes[3] = head[3] & 0x30;
            if let Some((at, byte)) = damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
            let ask = Ask { peer, transport, at: Moment::now() };
            let short = world.short(&bytes, &ask);
            let long = world.long(&bytes, &ask);
            if let Some((_, short)) = short {
                prop_assert_eq!(Some(&short), long.as_ref());
            }
            if let (Some((_, again)), Some(long)) = (world.short(&bytes, &ask), long) {
                prop_assert_eq!(again, long);
            }
        }
    }
}
