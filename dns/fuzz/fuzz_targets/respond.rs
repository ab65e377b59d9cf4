//! Any bytes to an answer: no panic, never longer than the asker takes, always decodable, and the
//! same by the short way as by the long one.
//!
//! `mkdir -p corpus/respond && cargo +nightly fuzz run respond corpus/respond seeds/respond` in the
//! folder `dns/fuzz`.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::DecodeError;
use libfuzzer_sys::fuzz_target;
use modcdn_dns::cookie::Jar;
use modcdn_dns::config::Tcp;
use modcdn_dns::fast::Fast;
use modcdn_dns::metrics::Metrics;
use modcdn_dns::respond::{Ask, Moment, Responder, Settings, Transport};
use modcdn_dns::snapshot::Snapshot;
use modcdn_dns::steer::{Constants, Inputs, Map, Point, Pop, ViewId, compile};
use modcdn_dns::zone::{Authority, Https, Nameserver, Ttls, Zone, Zones};
use prometheus::Registry;

const CAP: u16 = 1232;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static SERVER: LazyLock<Server> = LazyLock::new(Server::new);

fuzz_target!(|bytes: &[u8]| {
    for transport in [Transport::Udp, Transport::Tcp] {
        let ask = Ask {
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            transport,
            at: Moment {
                instant: *START,
                unix: 1_559_731_985,
            },
        };
        let before = SERVER.short(bytes, &ask);
        let long = SERVER.long(bytes, &ask);
        let after = SERVER.short(bytes, &ask);
        for short in [before, after].into_iter().flatten() {
            assert_eq!(Some(short), long, "another answer by the short way");
        }
        let Some(answer) = long else { continue };
        assert!(transport == Transport::Tcp || answer.len() <= limit(bytes));
        assert_eq!(bytes[..2], answer[..2], "another id");
        match Message::from_vec(&answer) {
            // A subnet of family 0 is valid and echoed, but hickory doesn't know it.
            Ok(_) | Err(DecodeError::UnknownAddressFamily(0)) => {}
            Err(error) => panic!("an answer that doesn't decode: {error}"),
        }
    }
});

/// Without room for an OPT record nobody takes more than 512 bytes.
fn limit(query: &[u8]) -> usize {
    const SHORTEST_WITH_OPT: usize = 12 + 5 + 11;
    if query.len() < SHORTEST_WITH_OPT {
        512
    } else {
        usize::from(CAP)
    }
}

struct Server {
    now: Arc<Snapshot>,
    fast: Fast,
    metrics: Metrics,
}

impl Server {
    fn new() -> Self {
        let now = Snapshot {
            responder: responder(),
            map: Arc::new(map()),
        };
        Self {
            now: Arc::new(now),
            fast: Fast::default(),
            metrics: Metrics::new(&Registry::new()),
        }
    }

    /// The short way, over whatever is left of another answer.
    fn short(&self, query: &[u8], ask: &Ask) -> Option<Vec<u8>> {
        let mut out = vec![7; 9];
        let table = self.fast.table();
        table
            .answer(query, ask, &self.now, &mut out)
            .map(|_| out)
    }

    /// The long way, from which the short one learns.
    fn long(&self, query: &[u8], ask: &Ask) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let note = self.now.respond(query, ask, &mut out)?;
        let answer = (&note, out.as_slice());
        self.fast
            .learn(query, ask, &self.now, answer, &self.metrics);
        Some(out)
    }
}

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
    let settings = Settings {
        identity: Some("fuzz".to_owned()),
        tcp: Tcp::default(),
        cookies: Some(Jar::new([7; 16], None)),
        ..Settings::plain(CAP)
    };
    Responder::new(Arc::new(Zones::new(vec![zone])), settings)
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
