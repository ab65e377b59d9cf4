//! Any bytes to an answer: no panic, never longer than the asker takes, always decodable.
//!
//! `cargo +nightly fuzz run respond` in the folder `dns`.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::DecodeError;
use libfuzzer_sys::fuzz_target;
use modcdn_dns::cookie::Jar;
use modcdn_dns::respond::{Ask, Moment, Published, Responder, Settings, Transport};
use modcdn_dns::steer::{Constants, Inputs, Map, Point, Pop, ViewId, compile};
use modcdn_dns::zone::{Authority, Https, Nameserver, Ttls, Zone, Zones};

const CAP: u16 = 1232;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static SERVER: LazyLock<(Responder, Map)> = LazyLock::new(|| (responder(), map()));

fuzz_target!(|bytes: &[u8]| {
    let (responder, map) = &*SERVER;
    for transport in [Transport::Udp, Transport::Tcp] {
        let ask = Ask {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            transport,
            at: Moment {
                instant: *START,
                unix: 1_559_731_985,
            },
        };
        let mut out = Vec::new();
        if responder.respond(bytes, &ask, map, &mut out).is_some() {
            assert!(transport == Transport::Tcp || out.len() <= usize::from(CAP));
            assert_eq!(bytes[..2], out[..2], "another id");
            match Message::from_vec(&out) {
                // A subnet of family 0 is valid and echoed, but hickory doesn't know it.
                Ok(_) | Err(DecodeError::UnknownAddressFamily(0)) => {}
                Err(error) => panic!("an answer that doesn't decode: {error}"),
            }
        }
    }
});

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn responder() -> Responder {
    let day = Duration::from_secs(86_400);
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 1,
        refresh: day,
        retry: day,
        expire: day,
        negative_ttl: day,
    };
    let ttls = Ttls {
        steered: day,
        fixed: day,
    };
    let nameserver = Nameserver {
        name: name("ns1.dns.go.test."),
        v4: vec![Ipv4Addr::LOCALHOST],
        v6: vec![],
    };
    let mut zone = Zone::new(name("go.test."), vec![nameserver], &authority, ttls);
    let https = Https {
        alpn: vec!["h2".to_owned()],
        port: Some(8443),
        hints: true,
    };
    zone.steer(&name("go.test."), ViewId::default(), Some(https));
    let zones = Published::default();
    zones.store(Arc::new(Zones::new(vec![zone])));
    let settings = Settings {
        identity: Some("fuzz".to_owned()),
        idle: day,
        cookies: Some(Jar::new([7; 16], None)),
        ..Settings::plain(CAP)
    };
    Responder::new(zones, settings)
}

/// More PoPs than fit into a datagram, so that truncation is met too.
fn map() -> Map {
    let pop = |n: u8| Pop {
        name: format!("p{n}"),
        v4: vec![Ipv4Addr::new(127, 0, 0, n)],
        v6: vec![],
        at: Point {
            latitude: 0.0,
            longitude: f64::from(n),
        },
    };
    let pins = [("192.0.2.0/24", 1), ("2001:db8::/32", 2)];
    let inputs = Inputs {
        pops: (0..100).map(pop).collect(),
        pins: pins
            .map(|(prefix, pop)| (prefix.parse().expect("a prefix"), pop))
            .into(),
        ..Inputs::default()
    };
    compile(&inputs, None, &Constants::default(), Instant::now()).0
}
