//! What the DNS server makes of checks, reports and operators, and what outlives it.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::dig::Dig;
use harness::http::Client;
use harness::node::Node;
use harness::observe::Metrics;
use harness::scratch::Scratch;
use harness::{until, until_true};

const EU: &str = "127.0.0.11";
const US: &str = "127.0.0.12";
const TOKEN: &str = "a-token-of-the-reporters";
const EU_TOKEN: &str = "a-token-that-speaks-for-eu";

/// A PoP's health endpoint, which can be made to fail, and to answer nothing at all.
struct Pop {
    address: String,
    sick: Arc<AtomicBool>,
    mute: Arc<AtomicBool>,
}

impl Pop {
    fn start() -> Pop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sick, mute) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let flags = (sick.clone(), mute.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if flags.1.load(Ordering::SeqCst) {
                    held.push(stream);
                } else {
                    answer(stream, flags.0.load(Ordering::SeqCst));
                }
            }
        });
        Pop {
            address,
            sick,
            mute,
        }
    }

    fn set_sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::SeqCst);
    }

    /// From now on connections are taken, and nothing is said.
    fn fall_silent(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }
}

fn answer(mut stream: TcpStream, sick: bool) {
    let status = if sick { "503 Sick" } else { "200 OK" };
    let _ = stream.read(&mut [0; 1024]);
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
}

/// A DNS server of two PoPs, of which clients of unknown place prefer eu.
struct World {
    scratch: Scratch,
    eu: Pop,
    us: Pop,
    dns: Node,
}

impl World {
    fn start(overrides: &str) -> World {
        let (eu, us, scratch) = (Pop::start(), Pop::start(), Scratch::new("dns-health"));
        let token = scratch.file("token", &format!("{TOKEN}\n{EU_TOKEN} pop=eu node=ns2\n"));
        let pop = |name: &str, address: &str, pop: &Pop| {
            let health = &pop.address;
            format!(
                "{{name: {name}, addresses: [{address}], latitude: 0, longitude: 0, \
                 health: 'http://{health}/'}}"
            )
        };
        let pops = [pop("eu", EU, &eu), pop("us", US, &us)].join(", ");
        let config = format!(
            "zone: go.test.\npops: [{pops}]\norder: [eu, us]\n\
             checks: {{interval: 100ms, timeout: 20s, fall: 1, rise: 1}}\n\
             state: {{dir: DATA/state, interval: 100ms}}\n\
             reports: {{token_file: '{}'}}\n",
            token.display()
        );
        let dns = Node::dns(&config, overrides);
        World {
            scratch,
            eu,
            us,
            dns,
        }
    }

    fn answers(&self) -> Vec<String> {
        let dig = Dig::at(self.dns.address());
        dig.ask(&["go.test", "A", "+nosubnet"]).answers
    }

    fn until_answered(&self, what: &str, addresses: &[&str]) {
        until_true(what, || self.answers() == addresses);
    }

    /// Waits until every PoP was checked.
    fn ready(&self) {
        until_true("the first checks", || self.readyz().0 == 200);
    }

    /// Whether it wants traffic, and what it says of that.
    fn readyz(&self) -> (u16, String) {
        let admin = Client::h1(&format!("http://{}", self.dns.admin()));
        let reply = admin.get("/readyz");
        (reply.status, reply.text())
    }

    fn post(&self, path: &str, token: &str, body: &str) -> (u16, String) {
        self.dns.post(path, token, body)
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        Metrics::scrape(self.dns.admin()).value(name, labels)
    }

    fn state(&self) -> PathBuf {
        self.dns.data().join("state")
    }
}

#[test]
fn a_pop_whose_health_endpoint_fails_leaves_the_answers_and_comes_back() {
    let world = World::start("");
    world.ready();
    assert_eq!(world.answers(), [EU]);
    world.eu.set_sick(true);
    world.until_answered("us alone", &[US]);
    let down = [("pop", "eu"), ("to", "down"), ("reason", "check")];
    assert_eq!(world.metric("modcdn_dns_health_changes_total", &down), 1.0);
    assert_eq!(
        world.metric("modcdn_dns_pop_state", &[("pop", "eu"), ("state", "down")]),
        1.0
    );
    world.eu.set_sick(false);
    world.until_answered("eu again", &[EU]);
    world.eu.set_sick(true);
    world.us.set_sick(true);
    world.until_answered("every PoP, none being left", &[EU, US]);
}

#[test]
fn a_pop_drains_by_its_report_and_by_an_operators_call() {
    let mut world = World::start("");
    world.ready();
    let report = |state: &str| format!(r#"{{"pop":"eu","state":"{state}","load":0.5}}"#);
    let (status, said) = world.post("/reports", TOKEN, &report("draining"));
    assert_eq!(
        (status, &said[..17]),
        (200, r#"{"heartbeat":true"#),
        "{said}"
    );
    assert_eq!(world.answers(), [US]);
    assert_eq!(world.post("/reports", TOKEN, &report("up")).0, 200);
    assert_eq!(world.answers(), [EU]);
    assert_eq!(
        world
            .post("/drain", TOKEN, r#"{"pop":"eu","drain":true}"#)
            .0,
        200
    );
    assert_eq!(world.answers(), [US]);
    until_true("the operator's word on disk", || {
        let kept = fs::read_to_string(world.state().join("pops")).unwrap_or_default();
        kept.contains(r#""drained":true"#)
    });
    world.dns.kill();
    world.dns.start();
    world.ready();
    assert_eq!(world.answers(), [US], "an operator's word outlives a crash");
    let view = Client::h1(&format!("http://{}", world.dns.admin())).get("/pops");
    let view: serde_json::Value = serde_json::from_str(&view.text()).expect("JSON");
    assert_eq!(view[0]["reason"], "operator", "{view}");
    assert_eq!(
        world
            .post("/drain", TOKEN, r#"{"pop":"eu","drain":false}"#)
            .0,
        200
    );
    assert_eq!(world.answers(), [EU]);
}

#[test]
fn who_may_not_report_and_what_is_no_report_is_refused() {
    let world = World::start("");
    let refused = |path: &str, token: &str, body: &str, status: u16, why: &str| {
        let (found, said) = world.post(path, token, body);
        assert_eq!(found, status, "{path} {body}: {said}");
        assert!(said.contains(why), "{said}");
    };
    let good = r#"{"pop":"eu","state":"up"}"#;
    refused(
        "/reports",
        "another-token-than-theirs",
        good,
        401,
        "reports.token_file",
    );
    refused(
        "/drain",
        "another-token-than-theirs",
        good,
        401,
        "reports.token_file",
    );
    refused("/reports", TOKEN, "{}", 400, "who reports");
    refused(
        "/reports",
        TOKEN,
        r#"{"pop":"eu","at":99999999999}"#,
        400,
        "future",
    );
    refused(
        "/drain",
        TOKEN,
        r#"{"pop":"xx","drain":true}"#,
        404,
        "no pop is named",
    );
    let (status, said) = world.post("/reports", TOKEN, r#"{"pop":"xx","state":"up"}"#);
    assert_eq!(status, 200);
    assert!(said.contains(r#""unknown":1"#), "{said}");
    assert_eq!(
        world.metric("modcdn_dns_reports_total", &[("outcome", "wrong")]),
        1.0
    );
    assert_eq!(
        world.metric("modcdn_dns_report_items_total", &[("item", "unknown")]),
        1.0
    );
}

#[test]
fn a_token_that_speaks_for_some_is_refused_for_others() {
    let mut world = World::start("");
    world.ready();
    let up = |pop: &str| format!(r#"{{"pop":"{pop}","state":"up"}}"#);
    let drain = |pop: &str| format!(r#"{{"pop":"{pop}","drain":true}}"#);
    let seen = r#"{"node":"ns2","views":[{"pop":"us","up":true}]}"#;
    assert_eq!(world.post("/reports", EU_TOKEN, &up("eu")).0, 200);
    assert_eq!(world.post("/reports", EU_TOKEN, seen).0, 200);
    let sample = r#"{"pop":"eu","samples":[{"prefix":"192.0.2.0/24","pop":"us","ms":1,"n":9}]}"#;
    let node = seen.replace("ns2", "ns3");
    let us = up("us");
    for body in [&us, sample, &node] {
        let (status, said) = world.post("/reports", EU_TOKEN, body);
        assert_eq!(status, 403, "{body}: {said}");
        assert!(
            said.starts_with("foreign: this token doesn't speak for"),
            "{said}"
        );
        assert!(!said.contains(EU_TOKEN), "{said}");
    }
    assert_eq!(world.post("/drain", EU_TOKEN, &drain("us")).0, 403);
    let foreign = [("outcome", "foreign")];
    assert_eq!(world.metric("modcdn_dns_reports_total", &foreign), 3.0);
    let log = until("the reason in the log", || {
        let log = world.dns.log();
        log.contains(r#""reason":"foreign""#).then_some(log)
    });
    assert!(!log.contains(EU_TOKEN), "{log}");
    assert_eq!(world.answers(), [EU], "nobody drains yet");
    assert_eq!(world.post("/drain", EU_TOKEN, &drain("eu")).0, 200);
    world.until_answered("eu to drain", &[US]);
    assert_eq!(world.post("/reports", TOKEN, &us).0, 200);
}

#[test]
fn reports_come_from_a_file_too() {
    let scratch = Scratch::new("dns-reports");
    let file = scratch.file("reports.jsonl", "");
    let world = World::start(&format!(
        "reports: {{file: '{}', look: 100ms, age: 1h}}",
        file.display()
    ));
    world.ready();
    fs::write(&file, "{\"pop\":\"eu\",\"state\":\"draining\"}\n").expect("a file");
    world.until_answered("eu to drain", &[US]);
}

#[test]
fn a_restarted_server_answers_from_the_last_known_map_with_every_pop_out_of_reach() {
    let mut world = World::start("");
    world.ready();
    world.eu.set_sick(true);
    world.until_answered("us alone", &[US]);
    until_true("the states on disk", || {
        let kept = fs::read_to_string(world.state().join("pops")).unwrap_or_default();
        kept.contains(r#""state":"down""#)
    });
    let before = world.metric("modcdn_dns_map_version", &[]);
    world.eu.fall_silent();
    world.us.fall_silent();
    world.dns.kill();
    world.dns.start();
    assert_eq!(world.answers(), [US], "no check has ended yet");
    let (status, said) = world.readyz();
    assert_eq!(status, 503, "{said}");
    assert!(
        said.contains("warning: kept-state: ") && said.contains("eu, us"),
        "{said}"
    );
    assert!(world.metric("modcdn_dns_map_version", &[]) > before);
    world.dns.kill();
    let pops = world.state().join("pops");
    let kept = fs::read_to_string(&pops).expect("the states");
    fs::write(&pops, kept.replace("down", "doom")).expect("damage");
    world.dns.start();
    assert_eq!(world.answers(), [EU], "damaged state is ignored");
    assert!(world.dns.log().contains("kept state is ignored"));
}

#[test]
fn a_node_that_is_cut_off_says_so_and_goes_on_answering() {
    let world = World::start("reports: {age: 1h}");
    world.ready();
    assert_eq!(world.readyz(), (200, "ready\n".to_owned()));
    let seen = r#"{"node":"ns2","views":[{"pop":"eu","up":true},{"pop":"us","up":true}]}"#;
    assert_eq!(world.post("/reports", TOKEN, seen).0, 200);
    world.eu.set_sick(true);
    world.us.set_sick(true);
    until_true("the warning", || {
        let (status, said) = world.readyz();
        assert_eq!(status, 200, "{said}");
        said.contains("warning: distrusted: ")
    });
    assert!(!world.answers().is_empty());
    world.eu.set_sick(false);
    world.us.set_sick(false);
    until_true("the end of it", || world.readyz().1 == "ready\n");
}

#[test]
fn a_reload_is_whole_or_not_at_all() {
    let mut world = World::start("");
    world.ready();
    let reloads = |world: &World, outcome: &str| {
        world.metric("modcdn_dns_reloads_total", &[("outcome", outcome)])
    };
    world.dns.configure("order: [us, eu]");
    world.dns.signal(libc::SIGHUP);
    world.until_answered("us first", &[US]);
    assert_eq!(reloads(&world, "applied"), 1.0);
    for (n, (wrong, why)) in [
        ("{order: [eu, us], draining: [xx]}", "no pop is named"),
        (
            "{order: [eu, us], geo: {database: /nonexistent}}",
            "/nonexistent",
        ),
        (
            "{order: [eu, us], udp: {sockets: 7}}",
            "udp.sockets: needs a restart",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let good = fs::read_to_string(world.dns.config()).expect("the configuration");
        world.dns.configure(wrong);
        world.dns.signal(libc::SIGHUP);
        until_true("a refusal", || reloads(&world, "refused") == (n + 1) as f64);
        assert_eq!(world.answers(), [US], "{wrong}");
        let log = until("the reason", || {
            let log = world.dns.log();
            log.contains(why).then_some(log)
        });
        assert!(log.contains("the old one stays"), "{log}");
        world.dns.write_config(&good);
    }
    world.dns.configure("draining: [us]");
    world.dns.signal(libc::SIGHUP);
    world.until_answered("us to drain", &[EU]);
    assert!(world.scratch.path().exists());
}
