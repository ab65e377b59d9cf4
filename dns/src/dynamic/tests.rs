use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use modcdn_core::admin::Endpoint;

use super::*;
use crate::steer::ViewId;
use crate::zone::{Authority, Nameserver, Ttls};

const NOW: u64 = 1_700_000_000;
const TOKEN: &str = "a-token-of-24-characters";

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn zone(origin: &str) -> Zone {
    let second = Duration::from_secs(1);
    let authority = Authority {
        contact: name("hostmaster.go.test."),
        serial: 0,
        refresh: second,
        retry: second,
        expire: second,
        negative_ttl: second,
    };
    let ttls = Ttls {
        steered: second,
        fixed: second,
    };
    let nameserver = Nameserver {
        name: name("ns.example."),
        v4: vec![],
        v6: vec![],
    };
    let mut zone = Zone::new(name(origin), vec![nameserver], &authority, ttls);
    zone.steer(&name(origin), ViewId::default(), None);
    zone
}

fn start(dir: &Path, now: u64) -> Arc<Dynamic> {
    let config = config::Dynamic {
        file: Some(dir.join("dynamic.json")),
        token_file: Some(dir.join("tokens")),
        values: 3,
        ..config::Dynamic::default()
    };
    let zones = vec![zone("go.test."), zone("in.go.test.")];
    start_with(config, zones, now).unwrap()
}

fn start_with(
    config: config::Dynamic,
    zones: Vec<Zone>,
    now: u64,
) -> Result<Arc<Dynamic>, StoreError> {
    let dynamic = Dynamic::open(config.clone(), Arc::default())?;
    replace(&dynamic, config, zones, now);
    Ok(dynamic)
}

/// Puts other zones in use.
fn replace(dynamic: &Dynamic, config: config::Dynamic, zones: Vec<Zone>, now: u64) {
    let staged = dynamic.stage(config, zones, now);
    let zones = staged.zones().clone();
    staged.commit(|| dynamic.published.set_zones(zones));
}

fn values(dynamic: &Dynamic, at: &str) -> Vec<String> {
    let (zones, name) = (dynamic.published.zones(), name(at));
    let records = match zones.find(&name, RecordType::TXT) {
        Found::Node(_, node) => node.records(RecordType::TXT, &name),
        _ => vec![],
    };
    records
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

fn serial(dynamic: &Dynamic, origin: &str) -> u32 {
    let zones = dynamic.published.zones();
    let mut all = zones.all().iter();
    all.find(|zone| *zone.origin() == name(origin))
        .unwrap()
        .serial()
}

const CHALLENGE: &str = "_acme-challenge.go.test.";

#[test]
fn values_stand_side_by_side_and_the_serial_moves_with_each() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    let first = serial(&dynamic, "go.test.");
    assert_eq!(u64::from(first), NOW);
    dynamic.set(&name(CHALLENGE), "one", None, NOW).unwrap();
    dynamic
        .set(&name("_ACME-challenge.Go.test."), "two", None, NOW)
        .unwrap();
    assert_eq!(values(&dynamic, CHALLENGE), ["one", "two"]);
    assert_eq!(serial(&dynamic, "go.test."), first + 2);
    assert_eq!(serial(&dynamic, "in.go.test."), first, "another zone");
    assert_eq!(
        dynamic.clear(&name(CHALLENGE), Some("one"), NOW).unwrap(),
        1
    );
    assert_eq!(values(&dynamic, CHALLENGE), ["two"]);
    assert_eq!(dynamic.clear(&name(CHALLENGE), None, NOW).unwrap(), 1);
    assert_eq!(values(&dynamic, CHALLENGE), [""; 0]);
    assert_eq!(serial(&dynamic, "go.test."), first + 4);
    assert_eq!(dynamic.clear(&name(CHALLENGE), None, NOW).unwrap(), 0);
    assert_eq!(serial(&dynamic, "go.test."), first + 4, "nothing moved");
}

#[test]
fn a_name_in_a_nested_zone_is_that_zones() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    let nested = "_acme-challenge.in.go.test.";
    dynamic.set(&name(nested), "one", None, NOW).unwrap();
    assert_eq!(values(&dynamic, nested), ["one"]);
    assert_eq!(u64::from(serial(&dynamic, "go.test.")), NOW);
    assert_eq!(u64::from(serial(&dynamic, "in.go.test.")), NOW + 1);
}

#[test]
fn a_restart_keeps_records_and_serials_and_a_change_while_away_raises_them() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    dynamic.set(&name(CHALLENGE), "one", None, NOW).unwrap();
    let before = serial(&dynamic, "go.test.");
    drop(dynamic);
    // The clock of the machine that comes back is behind.
    let dynamic = start(dir.path(), NOW - 5000);
    assert_eq!(values(&dynamic, CHALLENGE), ["one"]);
    assert_eq!(serial(&dynamic, "go.test."), before);
    let mut other = zone("go.test.");
    other.add(
        &name("go.test."),
        None,
        RData::TXT(TXT::new(vec!["new".to_owned()])),
    );
    let config = config::Dynamic::default();
    replace(&dynamic, config, vec![other], NOW - 5000);
    assert_eq!(serial(&dynamic, "go.test."), before + 1);
    assert_eq!(values(&dynamic, CHALLENGE), ["one"]);
}

#[test]
fn records_end_and_say_when_the_next_does() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    assert_eq!(
        dynamic
            .set(&name(CHALLENGE), "one", minutes(1), NOW)
            .unwrap(),
        NOW + 60
    );
    dynamic
        .set(&name(CHALLENGE), "two", minutes(5), NOW)
        .unwrap();
    assert_eq!(dynamic.expire(NOW + 20), Some(Duration::from_secs(40)));
    let before = serial(&dynamic, "go.test.");
    assert_eq!(dynamic.expire(NOW + 60), Some(Duration::from_secs(240)));
    assert_eq!(values(&dynamic, CHALLENGE), ["two"]);
    assert!(serial(&dynamic, "go.test.") > before);
    dynamic
        .set(&name(CHALLENGE), "two", minutes(10), NOW + 60)
        .unwrap();
    assert_eq!(
        dynamic.expire(NOW + 300),
        Some(Duration::from_secs(360)),
        "renewed"
    );
    assert_eq!(dynamic.expire(NOW + 900), None);
    assert_eq!(values(&dynamic, CHALLENGE), [""; 0]);
}

#[test]
fn every_no_is_named_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    let day = Some(Duration::from_secs(86_401));
    for (at, value, lifetime, no) in [
        ("go.test.", "x", None, "not-a-challenge"),
        ("_acme-challenge.example.", "x", None, "outside"),
        (CHALLENGE, "", None, "value"),
        (CHALLENGE, &"x".repeat(256), None, "value"),
        (CHALLENGE, "x", day, "lifetime"),
        (CHALLENGE, "x", Some(Duration::ZERO), "lifetime"),
    ] {
        let error = dynamic.set(&name(at), value, lifetime, NOW).unwrap_err();
        assert_eq!(error.name(), no, "{at}: {error}");
    }
    for value in ["1", "2", "3", "3"] {
        dynamic.set(&name(CHALLENGE), value, None, NOW).unwrap();
    }
    let full = dynamic.set(&name(CHALLENGE), "4", None, NOW).unwrap_err();
    assert_eq!(
        (full.name(), values(&dynamic, CHALLENGE).len()),
        ("full", 3)
    );
    let off = start_with(config::Dynamic::default(), vec![zone("go.test.")], NOW).unwrap();
    assert_eq!(
        off.set(&name(CHALLENGE), "x", None, NOW)
            .unwrap_err()
            .name(),
        "off"
    );
    let any = config::Dynamic {
        any_name: true,
        file: Some(dir.path().join("any.json")),
        ..config::Dynamic::default()
    };
    let any = start_with(any, vec![zone("go.test.")], NOW).unwrap();
    any.set(&name("x.go.test."), "x", None, NOW).unwrap();
    assert_eq!(
        any.set(&name("why.go.test."), "x", None, NOW)
            .unwrap_err()
            .name(),
        "taken"
    );
}

#[test]
fn what_cannot_be_kept_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = start(dir.path(), NOW);
    let file = dir.path().join("dynamic.json");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let no = dynamic.set(&name(CHALLENGE), "x", None, NOW).unwrap_err();
    assert_eq!((no.name(), values(&dynamic, CHALLENGE).len()), ("disk", 0));
}

#[test]
fn a_file_that_holds_something_else_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dynamic.json");
    std::fs::write(&file, "{\"zones\": 7}").unwrap();
    let config = config::Dynamic {
        file: Some(file),
        ..config::Dynamic::default()
    };
    let error = start_with(config, vec![], NOW).err().unwrap().to_string();
    assert!(
        error.contains("dynamic.json") && error.contains("move it away"),
        "{error}"
    );
}

async fn post(dynamic: &Arc<Dynamic>, token: &str, body: &'static str) -> (StatusCode, String) {
    let request = Request::post(TXT_PATH)
        .header("authorization", format!("Bearer {token}"))
        .body(Bytes::from_static(body.as_bytes()))
        .unwrap();
    let response = TxtEndpoint::new(dynamic.clone()).answer(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn only_who_has_a_token_changes_records() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens"), TOKEN).unwrap();
    let dynamic = start(dir.path(), NOW);
    let set = r#"{"set":{"name":"_acme-challenge.go.test.","value":"v","seconds":60}}"#;
    let (status, said) = post(&dynamic, "another-token-of-some-length", set).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
    assert_eq!(values(&dynamic, CHALLENGE), [""; 0]);
    let (status, said) = post(&dynamic, TOKEN, set).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert!(said.starts_with(r#"{"set":{"ends":"#), "{said}");
    assert_eq!(values(&dynamic, CHALLENGE), ["v"]);
    let clear = r#"{"clear":{"name":"_acme-challenge.go.test."}}"#;
    let (status, said) = post(&dynamic, TOKEN, clear).await;
    assert_eq!(
        (status, said.as_str()),
        (StatusCode::OK, "{\"cleared\":{\"values\":1}}\n")
    );
    for (body, expected) in [
        ("{}", StatusCode::BAD_REQUEST),
        (r#"{"clear":{"name":"go.test"}}"#, StatusCode::BAD_REQUEST),
        (r#"{"clear":{"name":"go.test."}}"#, StatusCode::FORBIDDEN),
    ] {
        assert_eq!(post(&dynamic, TOKEN, body).await.0, expected, "{body}");
    }
    std::fs::write(dir.path().join("tokens"), "short").unwrap();
    let (status, _) = post(&dynamic, TOKEN, set).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn without_a_token_file_nobody_may() {
    let dynamic = start_with(config::Dynamic::default(), vec![zone("go.test.")], NOW).unwrap();
    let set = r#"{"set":{"name":"_acme-challenge.go.test.","value":"v"}}"#;
    let (status, said) = post(&dynamic, TOKEN, set).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
    assert!(said.contains("dynamic.token_file"), "{said}");
}
