//! Reloads under load: every answer is wholly of one configuration, and keys are changed by reloads
//! alone.
//!
//! Waits here are bounds for a test that would otherwise hang, never what is asserted.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use modcdn_core::config::parse;
use modcdn_dns::config::Config;
use modcdn_dns::dnssec::{Algorithm, Role, file};
use modcdn_dns::{Dns, reload::ReloadError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use wire::{LONG, over_udp, read_framed};

const TOKEN: &str = "a-token-of-24-characters";

/// Reloads while it is asked.
const FLIPS: usize = 60;

const NSID: u16 = 3;
const ECS: u16 = 8;

/// One of two configurations that differ in all that an answer can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Red,
    Blue,
}

use Side::{Blue, Red};

impl Side {
    const BOTH: [Self; 2] = [Red, Blue];

    fn other(self) -> Self {
        if self == Red { Blue } else { Red }
    }

    fn name(self) -> &'static str {
        if self == Red { "red" } else { "blue" }
    }

    /// The third byte of its addresses.
    fn net(self) -> u8 {
        self as u8 + 1
    }

    fn payload(self) -> u16 {
        1232 + 100 * self as u16
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::BOTH
            .into_iter()
            .find(|side| name.contains(side.name()))
    }

    fn of_address(address: IpAddr) -> Option<Self> {
        let IpAddr::V4(v4) = address else { return None };
        let net = v4.octets()[2];
        Self::BOTH.into_iter().find(|side| side.net() == net)
    }

    /// PoPs `eu` and `ap` are there on both sides, elsewhere; what `www` chooses among and in which
    /// order PoPs stand differs.
    fn yaml(self, dir: &Path, key: &Path) -> String {
        let (name, net, payload) = (self.name(), self.net(), self.payload());
        let dir = dir.display();
        let (pops, www) = match self {
            Red => (["eu", "red", "ap"], "[red, ap]"),
            Blue => (["ap", "eu", "blue"], "[eu, blue]"),
        };
        let pops: String = (pops.iter().zip(1..))
            .map(|(pop, n)| {
                format!(
                    "  - {{name: {pop}, addresses: [127.0.{net}.{n}], latitude: 0, longitude: {n}}}\n"
                )
            })
            .collect();
        format!(
            "name: {name}
listen: ['127.0.0.1:0']
admin: '127.0.0.1:0'
soa: {{contact: {name}.go.test.}}
steered: [{{name: go.test., https: {{}}}}, {{name: www.go.test., pops: {www}}}]
records: [{{name: go.test., type: TXT, data: {name}}}]
pops:
{pops}
order: [{name}]
pins: {{192.0.2.0/24: {name}}}
udp: {{payload: {payload}}}
rates: {{answers: 0, errors: 0}}
dynamic: {{file: {dir}/dynamic.json, token_file: {dir}/tokens}}
reports: {{token_file: {dir}/tokens}}
dnssec: {{keys: [{{zone: go.test., file: {key}}}]}}
",
            key = key.display()
        )
    }
}

fn config(yaml: &str) -> Config {
    parse("dns.yaml", yaml).unwrap()
}

fn new_key(dir: &Path) -> (PathBuf, u16) {
    let zone = Name::from_ascii("go.test.").unwrap();
    let (path, key) = file::create(dir, &zone, Algorithm::EcdsaP256, Role::Csk).unwrap();
    (path, key.tag())
}

/// A key whose tag is another one's can't be told from it.
fn another_key(dir: &Path, tag: u16) -> (PathBuf, u16) {
    loop {
        let (path, other) = new_key(dir);
        if other != tag {
            return (path, other);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    name: &'static str,
    kind: RecordType,
    class: DNSClass,
    /// With DO and NSID; without, it is of the kind that takes the short way.
    telling: bool,
    subnet: bool,
}

const fn asked(name: &'static str, kind: RecordType) -> Asked {
    Asked {
        name,
        kind,
        class: DNSClass::IN,
        telling: true,
        subnet: false,
    }
}

const QUESTIONS: [Asked; 15] = [
    asked("go.test.", RecordType::A),
    asked("go.test.", RecordType::HTTPS),
    asked("go.test.", RecordType::SOA),
    asked("go.test.", RecordType::TXT),
    asked("go.test.", RecordType::DNSKEY),
    asked("go.test.", RecordType::CDS),
    asked("go.test.", RecordType::MX),
    asked("no.go.test.", RecordType::A),
    asked("all.go.test.", RecordType::A),
    asked("why.go.test.", RecordType::TXT),
    asked("www.go.test.", RecordType::A),
    Asked {
        class: DNSClass::CH,
        ..asked("id.server.", RecordType::TXT)
    },
    Asked {
        telling: false,
        ..asked("go.test.", RecordType::A)
    },
    Asked {
        telling: false,
        subnet: true,
        ..asked("go.test.", RecordType::A)
    },
    Asked {
        telling: false,
        ..asked("www.go.test.", RecordType::A)
    },
];

impl Asked {
    fn message(self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        let mut query = Query::query(Name::from_ascii(self.name).unwrap(), self.kind);
        query.set_query_class(self.class);
        message.add_query(query);
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(self.telling);
        let mut put = |code, data: &[u8]| {
            let option = EdnsOption::Unknown(code, data.to_vec());
            edns.options_mut().insert(option);
        };
        if self.telling {
            put(NSID, &[]);
        }
        if self.subnet {
            put(ECS, &[0, 1, 24, 0, 192, 0, 2]);
        }
        message.set_edns(edns);
        message.to_vec().unwrap()
    }
}

/// What is known of both sides.
struct Judge {
    tags: [u16; 2],
    /// The side of each version of the map that was seen.
    versions: Mutex<BTreeMap<u64, Side>>,
    seen: [AtomicUsize; 2],
}

impl Judge {
    fn of_tag(&self, tag: u16) -> Side {
        let at = self.tags.iter().position(|known| *known == tag);
        Side::BOTH[at.unwrap_or_else(|| panic!("no key has tag {tag}"))]
    }

    /// Asserts that all of an answer is of one side.
    fn judge(&self, asked: Asked, bytes: &[u8]) {
        let answer = Message::from_vec(bytes).unwrap();
        let edns = answer.edns.as_ref().expect("OPT");
        let mut marks: Vec<(String, Side)> = Vec::new();
        let payload = edns.max_payload();
        let side = Side::BOTH
            .into_iter()
            .find(|side| side.payload() == payload);
        marks.push((format!("payload {payload}"), side.expect("a payload")));
        if let Some(EdnsOption::Unknown(_, nsid)) = edns.option(EdnsCode::from(NSID)) {
            self.mark_identity(&String::from_utf8_lossy(nsid), &mut marks);
        }
        let sections = [&answer.answers, &answer.authorities, &answer.additionals];
        for record in sections.into_iter().flatten() {
            self.mark(record, &mut marks);
        }
        let sides: BTreeSet<Side> = marks.iter().map(|(_, side)| *side).collect();
        assert_eq!(sides.len(), 1, "a mixture for {asked:?}: {marks:?}");
        assert!(
            marks.len() > 1,
            "nothing tells the side of {asked:?}: {answer}"
        );
        for side in sides {
            self.seen[side as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn mark(&self, record: &Record, marks: &mut Vec<(String, Side)>) {
        let side = match &record.data {
            RData::A(a) => Side::of_address(IpAddr::V4(a.0)),
            RData::SOA(soa) => Side::of_name(&soa.rname.to_ascii()),
            RData::TXT(txt) => {
                let text = txt.to_string();
                if text.contains("map=") {
                    return self.mark_identity(&text, marks);
                }
                Side::of_name(&text)
            }
            RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(self.of_tag(rrsig.input().key_tag)),
            RData::DNSSEC(DNSSECRData::DNSKEY(key)) => {
                Some(self.of_tag(key.calculate_key_tag().unwrap()))
            }
            RData::DNSSEC(DNSSECRData::CDS(cds)) => Some(self.of_tag(cds.key_tag())),
            RData::HTTPS(https) => {
                let text = https.to_string();
                let hint = text.split("127.0.").nth(1).expect("a hint");
                let net = hint.split('.').next().expect("a byte");
                Side::BOTH
                    .into_iter()
                    .find(|side| net == side.net().to_string())
            }
            _ => return,
        };
        let side = side.unwrap_or_else(|| panic!("of no side: {record}"));
        marks.push((record.to_string(), side));
    }

    /// `red map=7`, or `pop=red … map=7`: a version of the map is of one side, whoever names it.
    fn mark_identity(&self, text: &str, marks: &mut Vec<(String, Side)>) {
        let side = Side::of_name(text).expect("a name");
        let version = text
            .trim_matches('"')
            .split("map=")
            .nth(1)
            .expect("a version");
        let mut versions = self.versions.lock().unwrap();
        let known = *versions.entry(version.parse().unwrap()).or_insert(side);
        marks.extend([(text.to_owned(), side), (format!("map {version}"), known)]);
    }
}

async fn ask_over_udp(server: SocketAddr, judge: Arc<Judge>, done: Arc<AtomicBool>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut answer = [0; 4096];
    while !done.load(Ordering::Relaxed) {
        // Together, so that a batch is answered while something changes.
        for (id, asked) in QUESTIONS.iter().enumerate() {
            let id = u16::try_from(id).unwrap();
            socket.send(&asked.message(id)).await.unwrap();
        }
        for _ in QUESTIONS {
            let length = timeout(LONG, socket.recv(&mut answer)).await.unwrap();
            let bytes = &answer[..length.unwrap()];
            let id = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            judge.judge(QUESTIONS[id], bytes);
        }
    }
}

async fn ask_over_tcp(server: SocketAddr, judge: Arc<Judge>, done: Arc<AtomicBool>) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    while !done.load(Ordering::Relaxed) {
        for asked in QUESTIONS {
            let query = asked.message(7);
            let length = u16::try_from(query.len()).unwrap().to_be_bytes();
            let framed = [&length[..], &query].concat();
            stream.write_all(&framed).await.unwrap();
        }
        for asked in QUESTIONS {
            judge.judge(asked, &read_framed(&mut stream).await);
        }
    }
}

/// One request to the admin listener; its status.
async fn post(admin: SocketAddr, path: &str, body: &str) -> String {
    let answer = wire::admin(admin, &format!("POST {path}"), TOKEN, body).await;
    answer.split(' ').nth(1).unwrap().to_owned()
}

/// Maps and records that change by themselves, between and during reloads.
async fn change(admin: SocketAddr, done: Arc<AtomicBool>) {
    for round in 0.. {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let drain = format!("{{\"pop\":\"ap\",\"drain\":{}}}", round % 2 == 0);
        assert_eq!(post(admin, "/drain", &drain).await, "200");
        let set = format!(
            "{{\"set\":{{\"name\":\"_acme-challenge.go.test.\",\"value\":\"{}\"}}}}",
            round % 10
        );
        assert_eq!(post(admin, "/dns/txt", &set).await, "200");
    }
}

/// Two configurations in turns, on a server that is asked all the while by both transports and both
/// ways, and whose map and zones change by themselves too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_is_a_mixture_of_two_configurations() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens"), TOKEN).unwrap();
    let (red, red_tag) = new_key(dir.path());
    let (blue, blue_tag) = another_key(dir.path(), red_tag);
    let yaml = [Red.yaml(dir.path(), &red), Blue.yaml(dir.path(), &blue)];
    let mut dns = Dns::start(config(&yaml[0])).await.unwrap();
    let (server, admin) = (dns.addresses()[0], dns.admin_address());
    let judge = Arc::new(Judge {
        tags: [red_tag, blue_tag],
        versions: Mutex::default(),
        seen: Default::default(),
    });
    let done = Arc::new(AtomicBool::new(false));
    let asking = [
        tokio::spawn(ask_over_udp(server, judge.clone(), done.clone())),
        tokio::spawn(ask_over_udp(server, judge.clone(), done.clone())),
        tokio::spawn(ask_over_tcp(server, judge.clone(), done.clone())),
        tokio::spawn(change(admin, done.clone())),
    ];
    let mut side = Red;
    for _ in 0..FLIPS {
        side = side.other();
        let yaml = yaml[side as usize].clone();
        dns.reload(&|| parse("dns.yaml", &yaml)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for task in asking {
        task.await.unwrap();
    }
    let seen = judge
        .seen
        .each_ref()
        .map(|count| count.load(Ordering::Relaxed));
    assert!(seen.iter().all(|count| *count > FLIPS), "{seen:?}");
    dns.stop().await;
}

async fn tell(server: SocketAddr, name: &'static str, kind: RecordType) -> Message {
    Message::from_vec(&over_udp(server, &asked(name, kind).message(1)).await).unwrap()
}

/// The tags of the keys that signed an answer.
fn signed_by(answer: &Message) -> BTreeSet<u16> {
    let records = answer.answers.iter().chain(&answer.authorities);
    let tags = records.filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input().key_tag),
        _ => None,
    });
    tags.collect()
}

fn keys_of(answer: &Message) -> BTreeSet<u16> {
    let tags = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some(key.calculate_key_tag().unwrap()),
            _ => None,
        });
    tags.collect()
}

async fn metric(dns: &Dns, line: &str) -> f64 {
    let mut stream = TcpStream::connect(dns.admin_address()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    timeout(LONG, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    let line = text.lines().find_map(|other| other.strip_prefix(line));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// The stages of docs/dnssec.md, from an unsigned zone to an unsigned one, each by a reload.
#[tokio::test]
async fn keys_are_changed_by_reloads_alone_and_signed_with_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (old, old_tag) = new_key(dir.path());
    let (new, new_tag) = another_key(dir.path(), old_tag);
    let yaml = |keys: &[(&Path, &str)]| {
        let keys: Vec<_> = keys
            .iter()
            .map(|(file, state)| {
                format!(
                    "{{zone: go.test., file: {}, state: {state}}}",
                    file.display()
                )
            })
            .collect();
        format!(
            "listen: ['127.0.0.1:0']\nadmin: '127.0.0.1:0'\n\
             pops: [{{name: eu, addresses: [127.0.0.11], latitude: 0, longitude: 0}}]\n\
             dnssec: {{keys: [{}]}}\n",
            keys.join(", ")
        )
    };
    let mut dns = Dns::start(config(&yaml(&[]))).await.unwrap();
    let server = dns.addresses()[0];
    let stages = [
        (yaml(&[(&old, "active")]), vec![old_tag], vec![old_tag]),
        (
            yaml(&[(&old, "active"), (&new, "published")]),
            vec![old_tag, new_tag],
            vec![old_tag],
        ),
        (
            yaml(&[(&old, "retired"), (&new, "active")]),
            vec![old_tag, new_tag],
            vec![new_tag],
        ),
        (yaml(&[(&new, "active")]), vec![new_tag], vec![new_tag]),
        (yaml(&[]), vec![], vec![]),
    ];
    for (yaml, keys, signers) in stages {
        dns.reload(&|| parse("dns.yaml", &yaml)).await.unwrap();
        let signers = BTreeSet::from_iter(signers);
        for (name, kind) in [
            ("go.test.", RecordType::A),
            ("go.test.", RecordType::SOA),
            ("go.test.", RecordType::DNSKEY),
            ("go.test.", RecordType::MX),
            ("all.go.test.", RecordType::A),
        ] {
            let answer = tell(server, name, kind).await;
            assert_eq!(signed_by(&answer), signers, "{name} {kind} with\n{yaml}");
        }
        let shown = keys_of(&tell(server, "go.test.", RecordType::DNSKEY).await);
        assert_eq!(shown, BTreeSet::from_iter(keys), "with\n{yaml}");
        let online = metric(&dns, "modcdn_dns_signed_total{when=\"online\"}").await;
        assert_eq!(
            online, 0.0,
            "something was signed while answering, with\n{yaml}"
        );
    }
    dns.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_refuses_the_reload_whole_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens"), TOKEN).unwrap();
    let (red, red_tag) = new_key(dir.path());
    let (blue, blue_tag) = another_key(dir.path(), red_tag);
    let red_yaml = Red.yaml(dir.path(), &red);
    let mut dns = Dns::start(config(&red_yaml)).await.unwrap();
    let judge = Judge {
        tags: [red_tag, blue_tag],
        versions: Mutex::default(),
        seen: Default::default(),
    };
    let blue_yaml = Blue.yaml(dir.path(), &blue);
    let broken = dir.path().join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let private = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    private(&broken);
    let missing = dir.path().join("missing");
    for (yaml, named) in [
        (Blue.yaml(dir.path(), &broken), broken.clone()),
        (Blue.yaml(dir.path(), &missing), missing.clone()),
        (
            format!(
                "{blue_yaml}cookies: {{secret_file: {}}}\n",
                missing.display()
            ),
            missing,
        ),
    ] {
        let refused = dns.reload(&|| parse("dns.yaml", &yaml)).await.unwrap_err();
        assert!(matches!(refused, ReloadError::Unusable(_)), "{refused}");
        let said = refused.to_string();
        assert!(said.contains(&named.display().to_string()), "{said}");
        for asked in QUESTIONS {
            if asked.telling {
                let answer = over_udp(dns.addresses()[0], &asked.message(1)).await;
                judge.judge(asked, &answer);
            }
        }
    }
    assert_eq!(judge.seen[Blue as usize].load(Ordering::Relaxed), 0);
    dns.reload(&|| parse("dns.yaml", &blue_yaml)).await.unwrap();
    let answer = tell(dns.addresses()[0], "go.test.", RecordType::A).await;
    assert_eq!(signed_by(&answer), BTreeSet::from([blue_tag]));
    dns.stop().await;
}
