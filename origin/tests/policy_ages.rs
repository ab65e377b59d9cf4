//! How old versions are, by the checksum database: a record's place in the log, and when we saw it.

mod harness;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::sumdb::{NAME, SumDb};
use harness::{Case, Client, Reply, Upstream, config};
use modcdn_core::digest::Sha256;
use modcdn_core::units::Period;
use modcdn_origin::config::SumDb as Section;
use modcdn_origin::{Config, Origin};

const LIST: &str = "/a.example/m/@v/list";
/// In the order of their records.
const VERSIONS: [&str; 3] = ["v1.0.0", "v1.1.0", "v1.2.0"];

fn at(version: &str, file: &str) -> String {
    format!("/a.example/m/@v/{version}.{file}")
}

/// An upstream, and a database that has taken its versions in their order, and `more` after them; and
/// the number of the first one's record.
async fn world(more: usize) -> (Upstream, SumDb, u64) {
    let upstream = Upstream::start().await;
    upstream.on(LIST, Reply::Status(200, VERSIONS.join("\n").leak()));
    let others = (0..more).map(|n| format!("v0.{n}.0"));
    let versions: Vec<String> = VERSIONS
        .map(str::to_owned)
        .into_iter()
        .chain(others)
        .collect();
    for version in &versions {
        let info = format!("{{\"Version\":\"{version}\"}}");
        upstream.on(&at(version, "info"), Reply::Status(200, info.leak()));
        upstream.on_text(&at(version, "mod"), "module a.example/m\n");
    }
    let url = upstream.url();
    let db = tokio::task::spawn_blocking(move || SumDb::start(&url));
    let db = db.await.unwrap();
    let address: SocketAddr = db.url().trim_start_matches("http://").parse().unwrap();
    let mut first = None;
    for version in &versions {
        let path = format!("/lookup/a.example/m@{version}");
        let answer = Client::h1(address).await.get(&path, &[]).await;
        let number = answer
            .text()
            .lines()
            .next()
            .and_then(|line| line.parse().ok());
        first = first.or(number);
    }
    (upstream, db, first.expect("a record's number"))
}

fn set(db: &SumDb) -> impl FnOnce(&mut Config) + use<> {
    let section = Section {
        key: db.key().parse().unwrap(),
        url: Some(db.url().parse().unwrap()),
        timeout: Period::secs(5),
        ..Section::default()
    };
    move |config| {
        config.mounts[0].sumdb = section;
        config.mounts[0].policy.min_age = Period::secs(7 * 24 * 3600);
        config.freshness.mutable = Duration::ZERO.into();
        config.freshness.stale_while_revalidate = Duration::ZERO.into();
    }
}

/// Writes down that the database had so many records so many days ago.
fn saw_head(dir: &Path, days: u64, size: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now.as_secs() - days * 24 * 3600;
    let text = format!("h {then} {size} {NAME}");
    let digest = Sha256::of(text.as_bytes()).to_string();
    let path = dir.join(".sight/log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{} {text}\n", &digest[..16])).unwrap();
}

#[tokio::test]
async fn a_record_is_as_old_as_our_first_sight_of_a_log_that_holds_it() {
    let (upstream, db, first) = world(0).await;
    let dir = tempfile::tempdir().unwrap();
    saw_head(dir.path(), 8, first + 2);
    let mut config = config(dir.path(), &upstream.url());
    set(&db)(&mut config);
    let origin = Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
    assert_eq!(case.get(&at("v1.1.0", "info")).await.status, 200);
    let young = case.get(&at("v1.2.0", "info")).await;
    assert_eq!(young.header("modcdn-reason"), "policy-cool-down");
    let text = young.text();
    assert!(
        text.contains("in the checksum database for less than a minute"),
        "{text}"
    );
    assert!(text.contains("go get a.example/m@v1.1.0 "), "{text}");
    assert_eq!(case.get(&at("v1.2.0", "mod")).await.status, 200);

    // The database's own growth since is part of the history.
    let Case { dir, origin } = case;
    origin.stop().await;
    let log = fs::read_to_string(dir.path().join(".sight/log")).unwrap();
    assert!(log.contains(&format!(" {} {NAME}\n", first + 3)), "{log}");
}

#[tokio::test]
async fn a_new_origin_is_not_blind_to_what_is_old() {
    // Three records of ours, then eight others: with one a day, ours are 8, 9 and 10 days old.
    let (upstream, db, _) = world(8).await;
    let (set_young, set_old) = (set(&db), set(&db));
    let case = Case::with(&upstream.url(), |config: &mut Config| {
        set_old(config);
        config.sight.records_a_day = 1;
    })
    .await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\nv1.2.0\n");
    let young = case.get(&at("v0.4.0", "info")).await;
    assert_eq!(young.header("modcdn-reason"), "policy-cool-down");
    assert!(
        young.text().contains("database for 3days"),
        "{}",
        young.text()
    );
    // As many a day as the public database takes: nobody can tell how old these few are.
    let case = Case::with(&upstream.url(), set_young).await;
    assert_eq!(case.get(LIST).await.text(), "");
}

#[tokio::test]
async fn an_age_that_cannot_be_found_out_is_a_503_and_no_line_in_a_list() {
    let (upstream, mut db, _) = world(8).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &upstream.url());
    set(&db)(&mut config);
    config.sight.records_a_day = 1;
    config.sight.lookups = 1;
    let origin = Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    // One look-up for each list, the newest first; what is known stays known.
    assert_eq!(case.get(LIST).await.text(), "v1.2.0\n");
    assert_eq!(case.get(LIST).await.text(), "v1.1.0\nv1.2.0\n");
    db.tell("fail 500");
    assert_eq!(case.get(LIST).await.text(), "v1.1.0\nv1.2.0\n");
    let unknown = case.get(&at("v1.0.0", "info")).await;
    assert_eq!(unknown.status, 503, "{}", unknown.text());
    assert_eq!(unknown.header("modcdn-reason"), "policy-undecided");
    assert_eq!(case.get(&at("v1.1.0", "info")).await.status, 200);
    let counted = [("fact", "age")];
    assert!(case.metric("modcdn_origin_policy_unknown_total", &counted) > 0.0);
}

#[tokio::test]
async fn private_modules_need_not_cool_down() {
    let (upstream, db, _) = world(0).await;
    let set = set(&db);
    let case = Case::with(&upstream.url(), |config: &mut Config| {
        set(config);
        config.mounts[0].private = "a.example".parse().unwrap();
        config.mounts[0].private_upstream = upstream.url().parse().unwrap();
    })
    .await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\nv1.2.0\n");
    assert_eq!(case.get(&at("v1.2.0", "info")).await.status, 200);
}
