use std::path::Path;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, Record, RecordType};
use prometheus::Registry;

use super::*;
use crate::config::Config;
use crate::dnssec::{self, Algorithm, Key, Role, Signing, ZoneKeys};
use crate::respond::{Ask, Responder, Settings, Transport};
use crate::snapshot::Snapshot;
use crate::steer::{Point, Pop};
use crate::zone::Zones;

const RULE: Rule = Rule { fall: 1, rise: 1 };

fn pop(name: &str, addresses: &[&str]) -> Pop {
    Pop {
        name: name.to_owned(),
        v4: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        v6: Vec::new(),
        at: Point {
            latitude: 0.0,
            longitude: 0.0,
        },
    }
}

/// These PoPs, each checked at port 80 of every address.
fn setup(pops: &[(&str, &[&str])]) -> Setup {
    let targets = |(_, addresses): &(&str, &[&str])| {
        let target = |address: &&str| SocketAddr::new(address.parse().unwrap(), 80);
        addresses.iter().map(target).collect()
    };
    Setup {
        inputs: Inputs {
            pops: pops.iter().map(|(name, a)| pop(name, a)).collect(),
            ..Inputs::default()
        },
        constants: Constants::default(),
        targets: pops.iter().map(targets).collect(),
        rule: RULE,
        damping: Damping {
            falls: 0,
            half_life: Duration::from_secs(60),
        },
        rules: Rules {
            age: Duration::from_secs(15),
            samples_age: Duration::from_secs(3600),
            skew: Duration::from_secs(5),
        },
        tokens: None,
        draining: BTreeSet::new(),
        databases: Vec::new(),
        interval: Duration::from_secs(10),
        homes_interval: Duration::from_secs(60),
        map_age: Duration::from_secs(600),
    }
}

const THREE: &[(&str, &[&str])] = &[
    ("eu", &["192.0.2.1", "192.0.2.2"]),
    ("us", &["192.0.2.3"]),
    ("ap", &["192.0.2.4"]),
];

fn steering(folder: Option<&Path>) -> Steering {
    let metrics = Metrics::new(&Registry::new());
    Steering::open(setup(THREE), folder.map(Path::to_owned), metrics)
}

fn check(steering: &Steering, pop: &str, address: &str, good: bool) {
    let outcome = Outcome {
        result: if good { Ok(()) } else { Err("no".to_owned()) },
        expires: None,
    };
    let target = SocketAddr::new(address.parse().unwrap(), 80);
    steering.observe(pop, target, &outcome);
}

fn states(steering: &Steering) -> Vec<(&'static str, &'static str)> {
    let pops = steering.pops();
    pops.iter().map(|pop| (pop.state, pop.reason)).collect()
}

fn report(steering: &Steering, text: &str) -> Taken {
    steering
        .report(&Report::parse(text.as_bytes()).unwrap())
        .unwrap()
}

/// The addresses of a PoP in the map in use.
fn addresses(steering: &Steering, pop: usize) -> Vec<String> {
    let map = steering.snapshot();
    map.pops()[pop].v4.iter().map(ToString::to_string).collect()
}

#[test]
fn a_change_of_state_is_published_at_once() {
    let steering = steering(None);
    let before = steering.snapshot().version();
    check(&steering, "us", "192.0.2.3", true);
    assert_eq!(steering.snapshot().version(), before, "up as it was");
    check(&steering, "us", "192.0.2.3", false);
    let map = steering.snapshot();
    assert!(map.version() > before);
    assert!(!map.is_healthy(1) && map.is_healthy(0));
    check(&steering, "nobody", "192.0.2.3", false);
    check(&steering, "us", "192.0.2.9", false);
    assert_eq!(steering.snapshot().version(), map.version());
}

#[test]
fn an_address_that_fails_is_left_out_unless_all_do() {
    let steering = steering(None);
    check(&steering, "eu", "192.0.2.1", true);
    check(&steering, "eu", "192.0.2.2", false);
    assert_eq!(addresses(&steering, 0), ["192.0.2.1"]);
    assert!(steering.snapshot().is_healthy(0));
    check(&steering, "eu", "192.0.2.1", false);
    assert!(!steering.snapshot().is_healthy(0));
    assert_eq!(addresses(&steering, 0), ["192.0.2.1", "192.0.2.2"]);
    check(&steering, "eu", "192.0.2.2", true);
    assert_eq!(addresses(&steering, 0), ["192.0.2.2"]);
}

#[test]
fn a_pop_drains_by_report_and_by_call() {
    let steering = steering(None);
    for (pop, address) in [("us", "192.0.2.3"), ("ap", "192.0.2.4")] {
        check(&steering, pop, address, true);
    }
    assert!(report(&steering, r#"{"pop":"us","state":"draining"}"#).heartbeat);
    steering.drain("ap", true).unwrap();
    assert_eq!(states(&steering)[1], ("draining", "report"));
    assert_eq!(states(&steering)[2], ("draining", "operator"));
    assert!(!steering.snapshot().is_healthy(1));
    report(&steering, r#"{"pop":"us","state":"up"}"#);
    steering.drain("ap", false).unwrap();
    assert_eq!(states(&steering)[1..], [("up", "check"), ("up", "check")]);
    let error = steering.drain("xx", true).unwrap_err().to_string();
    assert!(error.contains("\"xx\""), "{error}");
}

#[test]
fn people_see_what_a_pop_last_said_of_itself() {
    let steering = steering(None);
    report(
        &steering,
        r#"{"pop":"eu","state":"up","load":0.5,"capacity":900,"versions":{"modcdn":"0.1.0"}}"#,
    );
    let view = serde_json::to_value(steering.pops()).unwrap();
    let said = |pop: usize, key: &str| view[pop][key].clone();
    assert_eq!(said(0, "load"), 0.5);
    assert_eq!(said(0, "capacity"), 900.0);
    assert_eq!(said(0, "versions"), serde_json::json!({"modcdn": "0.1.0"}));
    for key in ["load", "capacity", "versions"] {
        assert!(said(1, key).is_null(), "{key}");
    }
}

#[test]
fn a_restarted_server_goes_on_where_it_was_before_its_first_check() {
    let folder = tempfile::tempdir().unwrap();
    let before = steering(Some(folder.path()));
    check(&before, "eu", "192.0.2.1", true);
    check(&before, "us", "192.0.2.3", false);
    before.drain("ap", true).unwrap();
    report(&before, r#"{"pop":"eu","state":"up"}"#);
    before.keep_all();
    let last = before.snapshot().version();
    drop(before);
    let after = steering(Some(folder.path()));
    let map = after.snapshot();
    assert!(map.version() > last);
    let healthy: Vec<_> = (0..3).map(|pop| map.is_healthy(pop)).collect();
    assert_eq!(healthy, [true, false, false]);
    assert_eq!(
        after.desk.lock().book.reporters().collect::<Vec<_>>(),
        ["eu"]
    );
    check(&after, "ap", "192.0.2.4", true);
    assert_eq!(states(&after)[2], ("draining", "operator"));
}

#[test]
fn a_killed_server_never_gives_a_version_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let steering = steering(Some(folder.path()));
        for good in [false, true, false] {
            check(&steering, "us", "192.0.2.3", good);
        }
        let version = steering.snapshot().version();
        assert!(version > last + 2, "{version} after {last}");
        last = version;
    }
}

#[test]
fn what_was_measured_makes_the_next_map_and_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let before = steering(Some(folder.path()));
    let samples = r#"{"pop":"ap","samples":[{"prefix":"198.51.100.0/24","ms":1,"n":50},
        {"prefix":"198.51.100.0/24","pop":"us","ms":90,"n":50},
        {"prefix":"198.51.100.0/24","pop":"eu","ms":90,"n":50}]}"#;
    assert_eq!(report(&before, samples).samples.len(), 3);
    before.compile();
    let client = crate::steer::Client {
        subnet: Some([198, 51, 100, 0].into()),
        resolver: [127, 0, 0, 1].into(),
    };
    let answered = |steering: &Steering| {
        let map = steering.snapshot();
        let choice = map.choose(crate::steer::ViewId(0), &client, Instant::now());
        (map.answer(choice.answer).name.clone(), choice.source.name())
    };
    // The first map led everybody elsewhere for want of knowledge; a restarted server knows.
    assert_eq!(before.learnt.lock().samples.len(), 3);
    before.keep_all();
    let after = steering(Some(folder.path()));
    assert_eq!(answered(&after), ("ap".to_owned(), "measured"));
}

/// The PoP to which a measured prefix is led.
fn led(steering: &Steering) -> String {
    let client = crate::steer::Client {
        subnet: Some([198, 51, 100, 0].into()),
        resolver: [127, 0, 0, 1].into(),
    };
    let map = steering.snapshot();
    let choice = map.choose(crate::steer::ViewId(0), &client, Instant::now());
    map.pops()[map.answer(choice.answer).pops[0]].name.clone()
}

/// A server that led a prefix to `ap` until it learnt, just before its end, that `us` is far better.
fn that_was_about_to_move(folder: &Path) {
    let server = steering(Some(folder));
    let told = |samples: &str| {
        report(&server, &format!(r#"{{"pop":"ap","samples":[{samples}]}}"#));
        server.compile();
    };
    told(
        r#"{"prefix":"198.51.100.0/24","ms":40,"n":50},
            {"prefix":"198.51.100.0/24","pop":"us","ms":90,"n":50},
            {"prefix":"198.51.100.0/24","pop":"eu","ms":90,"n":50}"#,
    );
    told(r#"{"prefix":"198.51.100.0/24","pop":"us","ms":1,"n":1000}"#);
    assert_eq!(led(&server), "ap", "it hasn't been better for long enough");
    server.keep_all();
}

#[test]
fn a_restarted_server_is_no_less_patient() {
    let folder = tempfile::tempdir().unwrap();
    that_was_about_to_move(folder.path());
    let after = steering(Some(folder.path()));
    assert_eq!(led(&after), "ap");
    after.compile();
    assert_eq!(led(&after), "ap");
}

#[test]
fn homes_that_are_damaged_missing_or_of_pops_that_are_gone_are_done_without() {
    let folder = tempfile::tempdir().unwrap();
    that_was_about_to_move(folder.path());
    let homes = folder.path().join("homes");
    let whole = std::fs::read(&homes).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&homes, bytes).unwrap();
    assert_eq!(led(&steering(Some(folder.path()))), "us", "the best");
    std::fs::remove_file(&homes).unwrap();
    assert_eq!(led(&steering(Some(folder.path()))), "us");
    // Whole, but nothing that belongs there.
    Folder::new(Some(folder.path().to_owned()))
        .write_bytes("homes", b"what?")
        .unwrap();
    assert_eq!(led(&steering(Some(folder.path()))), "us");
    std::fs::write(&homes, whole).unwrap();
    let metrics = Metrics::new(&Registry::new());
    let others = setup(&THREE[..2]);
    let after = Steering::open(others, Some(folder.path().to_owned()), metrics);
    assert_eq!(led(&after), "us", "ap is not there any more");
}

#[test]
fn damaged_state_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let before = steering(Some(folder.path()));
    check(&before, "us", "192.0.2.3", false);
    before.keep_all();
    let pops = folder.path().join("pops");
    let mut bytes = std::fs::read(&pops).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&pops, bytes).unwrap();
    let after = steering(Some(folder.path()));
    assert!(after.snapshot().is_healthy(1));
}

#[test]
fn a_folder_that_cannot_be_written_stops_nothing_and_is_counted() {
    let folder = tempfile::NamedTempFile::new().unwrap();
    let steering = steering(Some(folder.path()));
    check(&steering, "us", "192.0.2.3", false);
    steering.keep_all();
    assert!(!steering.snapshot().is_healthy(1));
    assert_eq!(
        steering.metrics.state_failures.get(),
        2,
        "the ceiling, and the pops"
    );
}

#[test]
fn a_reload_keeps_what_is_known_of_pops_that_stay() {
    let steering = steering(None);
    check(&steering, "us", "192.0.2.3", false);
    steering.drain("ap", true).unwrap();
    let before = steering.snapshot().version();
    let mut new = setup(&[
        ("ap", &["192.0.2.4"]),
        ("sa", &["192.0.2.5"]),
        ("us", &["192.0.2.3"]),
    ]);
    new.draining.insert("sa".to_owned());
    let map = steering.prepare(&new);
    assert_eq!(
        steering.snapshot().version(),
        before,
        "nothing has changed yet"
    );
    let published = steering.published().clone();
    steering.adopt(new, &map, |map| published.set_map(map));
    let map = steering.snapshot();
    assert!(map.version() > before);
    let names: Vec<_> = map.pops().iter().map(|pop| pop.name.as_str()).collect();
    assert_eq!(names, ["ap", "sa", "us"]);
    let states = states(&steering);
    assert_eq!(states[2], ("down", "check"));
    check(&steering, "ap", "192.0.2.4", true);
    check(&steering, "sa", "192.0.2.5", true);
    assert!((0..3).all(|pop| !steering.snapshot().is_healthy(pop)));
    check(&steering, "eu", "192.0.2.1", true);
}

#[test]
fn a_compilation_does_not_undo_what_happened_while_it_ran() {
    let steering = steering(None);
    steering.compile();
    let compiled = steering.snapshot().version();
    check(&steering, "us", "192.0.2.3", false);
    steering.compile();
    let map = steering.snapshot();
    assert!(map.version() > compiled && !map.is_healthy(1));
}

#[test]
fn an_operator_is_told_of_kept_state_until_something_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let before = steering(Some(dir.path()));
    assert!(
        before.notices(Instant::now()).is_empty(),
        "nothing was kept"
    );
    check(&before, "us", "192.0.2.3", false);
    before.keep_all();
    let after = steering(Some(dir.path()));
    let kept = |names: &[&str]| {
        let pops = names.iter().map(|name| (*name).to_owned()).collect();
        vec![Notice::Kept { pops }]
    };
    assert_eq!(after.notices(Instant::now()), kept(&["ap", "eu", "us"]));
    check(&after, "us", "192.0.2.3", true);
    check(&after, "eu", "192.0.2.1", false);
    // One of its two addresses isn't looked at yet.
    assert_eq!(after.notices(Instant::now()), kept(&["ap", "eu"]));
    report(&after, r#"{"pop":"ap","state":"up"}"#);
    check(&after, "eu", "192.0.2.2", true);
    assert!(after.notices(Instant::now()).is_empty());
}

#[test]
fn an_operator_is_told_of_a_map_that_grew_old_and_of_a_lonely_view() {
    let steering = steering(None);
    let now = Instant::now();
    let age = |notice: &Notice| matches!(notice, Notice::OldMap { age } if age.as_secs() >= 600);
    assert!(steering.notices(now + Duration::from_secs(590)).is_empty());
    let old = steering.notices(now + Duration::from_secs(602));
    assert!(old.len() == 1 && age(&old[0]), "{old:?}");
    for (pop, address) in [
        ("eu", "192.0.2.1"),
        ("us", "192.0.2.3"),
        ("ap", "192.0.2.4"),
    ] {
        check(&steering, pop, address, true);
    }
    report(
        &steering,
        r#"{"node":"ns2","views":[{"pop":"us","up":true},{"pop":"ap","up":true}]}"#,
    );
    check(&steering, "us", "192.0.2.3", false);
    assert!(steering.notices(Instant::now()).is_empty(), "one of three");
    check(&steering, "ap", "192.0.2.4", false);
    let told = steering.notices(Instant::now());
    assert_eq!(told, [Notice::Distrusted]);
    assert!(told[0].to_string().contains("own network"));
    check(&steering, "us", "192.0.2.3", true);
    assert!(steering.notices(Instant::now()).is_empty());
}

#[test]
fn what_a_compiled_map_may_answer_is_signed_before_it_is_in_use() {
    let metrics = dnssec::Metrics::new(&Registry::new());
    let key = Key::generate(Algorithm::EcdsaP256).unwrap();
    let key = Key::from_pkcs8(&key, Role::Csk).unwrap();
    let keys = ZoneKeys {
        zone: Name::from_ascii("go.test.").unwrap(),
        keys: vec![(key, dnssec::State::Active)],
        delete_ds: false,
    };
    let terms = dnssec::Terms {
        validity: 7 * 86_400,
        rate: 0,
        cache: 0,
    };
    let signing = Arc::new(Signing::new(vec![keys], terms, metrics.clone()));
    let mut zones = crate::zone::build::zones(&Config::default(), &[]).unwrap();
    dnssec::publish(&mut zones, &signing);
    let settings = Settings {
        signing: Some(signing),
        ..Settings::plain(1232)
    };
    let steering = steering(None);
    let responder = Responder::new(Arc::new(Zones::new(zones)), settings);
    let map = steering.snapshot();
    steering.published().replace(Snapshot { responder, map });

    let near = r#"{"pop":"us","samples":[{"prefix":"198.51.100.0/24","ms":20,"n":50},
        {"prefix":"198.51.100.0/24","pop":"ap","ms":21,"n":50}]}"#;
    report(&steering, near);
    steering.compile();
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(
        Name::from_ascii("go.test.").unwrap(),
        RecordType::A,
    ));
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    query.set_edns(edns);
    let ask = Ask {
        peer: [198, 51, 100, 9].into(),
        transport: Transport::Udp,
        at: Moment::now(),
    };
    let (now, mut out) = (steering.published().load_full(), Vec::new());
    let note = now
        .respond(&query.to_vec().unwrap(), &ask, &mut out)
        .unwrap();
    let choice = note.choice.unwrap();
    assert_eq!(now.map.answer(choice.answer).name, "us+ap");
    let answer = Message::from_vec(&out).unwrap();
    let kinds: Vec<_> = answer.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::A, RecordType::A, RecordType::RRSIG]);
    assert_eq!(metrics.made().1, 0, "signed while answering");
}
