//! The checksum database: what it proves, what it refuses to, and what clients are given of it.

mod harness;

use harness::sumdb::{NAME, SumDb};
use harness::zip::zip_of;
use harness::{Answer, Case, Client, Reply, Upstream, collect, read_some, until};
use modcdn_core::units::Period;
use modcdn_origin::Config;
use modcdn_origin::config::{SumDb as Section, Unreachable, Verify};

const MODULE: &str = "a.example/m";
const VERSION: &str = "v1.0.0";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
/// Another version, of which there is a go.mod only.
const OTHER: &str = "/a.example/m/@v/v1.1.0.mod";
const GO_MOD: &str = "module a.example/m\n";
/// Bytes of the zip.
const LEN: usize = 300_000;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const ALARMS: &str = "modcdn_origin_sumdb_alarms_total";

/// Versions that have a go.mod only.
fn mod_only() -> impl Iterator<Item = String> {
    (0..60).map(|n| format!("/a.example/m/@v/v1.{n}.7.mod"))
}

/// An upstream with one module, and a database for what is really in it.
async fn world() -> (Upstream, SumDb) {
    let (upstream, truth) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&upstream, &truth] {
        upstream.on_text(MOD, GO_MOD);
        upstream.on(ZIP, Reply::Body(zip_of(ZIP, LEN), vec![]));
        for path in mod_only().chain([OTHER.to_owned()]) {
            upstream.on_text(&path, GO_MOD);
        }
    }
    let url = truth.url();
    let db = tokio::task::spawn_blocking(move || SumDb::start(&url));
    (upstream, db.await.unwrap())
}

fn section(db: &SumDb) -> Section {
    Section {
        key: db.key().parse().unwrap(),
        url: Some(db.url().parse().unwrap()),
        timeout: Period::secs(5),
        ..Section::default()
    }
}

async fn origin(upstream: &Upstream, section: Section) -> Case {
    let name = |config: &mut Config| config.mounts[0].sumdb = section;
    Case::with(&upstream.url(), name).await
}

fn call(call: &str) -> String {
    format!("/sumdb/{NAME}/{call}")
}

fn lookup() -> String {
    call(&format!("lookup/{MODULE}@{VERSION}"))
}

#[track_caller]
fn refused(answer: &Answer, status: u16, reason: &str) {
    let found = (answer.status, answer.header("modcdn-reason"));
    assert_eq!(found, (status, reason), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
}

fn alarms(case: &Case, cause: &str) -> f64 {
    case.metric(ALARMS, &[("cause", cause)])
}

/// Waits for the one body in quarantine, which comes there after its readers were told; its size.
async fn quarantined(case: &Case) -> u64 {
    let dir = case.dir.path().join(".quarantine");
    let bodies = || -> Vec<u64> {
        let entries = dir.read_dir().into_iter().flatten().flatten();
        let is_body = |entry: &std::fs::DirEntry| {
            let name = entry.file_name();
            !name.to_string_lossy().ends_with(".reason")
        };
        let bodies = entries.filter(is_body);
        bodies
            .map(|entry| entry.metadata().unwrap().len())
            .collect()
    };
    until(|| !bodies().is_empty()).await;
    let bodies = bodies();
    assert_eq!(bodies.len(), 1);
    bodies[0]
}

fn is_stored(case: &Case, path: &str) -> bool {
    case.dir.path().join(&path[1..]).exists()
}

#[tokio::test]
async fn a_proven_go_mod_is_served_and_kept() {
    let (upstream, db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    for _ in 0..2 {
        let answer = case.get(MOD).await;
        assert_eq!((answer.status, answer.text()), (200, GO_MOD));
        assert_eq!(answer.header("cache-control"), IMMUTABLE);
        assert_eq!(answer.header("modcdn-unverified"), "");
    }
    case.has(&MOD[1..]).await;
    assert!(is_stored(&case, &lookup()));
    let verified = case.metric("modcdn_origin_verified_bodies_total", &[("kind", "mod")]);
    assert_eq!(verified, 1.0);
    assert_eq!(case.metric(ALARMS, &[]), 0.0);
}

#[tokio::test]
async fn another_go_mod_than_the_proven_one_is_refused_and_not_kept() {
    let (upstream, mut db) = world().await;
    db.tell(&format!("wrong-mod {MODULE}@{VERSION}"));
    let case = origin(&upstream, section(&db)).await;
    let answer = case.get(MOD).await;
    refused(&answer, 502, "sum-mismatch");
    assert!(
        answer.text().contains("SECURITY ERROR"),
        "{}",
        answer.text()
    );
    assert!(!is_stored(&case, MOD));
    assert_eq!(alarms(&case, "mismatch"), 1.0);
    assert_eq!(quarantined(&case).await, GO_MOD.len() as u64);
}

#[tokio::test]
async fn a_proven_zip_is_served_and_kept_with_its_sum() {
    let (upstream, db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    let first = case.get(ZIP).await;
    assert_eq!((first.status, first.complete), (200, true));
    assert_eq!(first.body, zip_of(ZIP, LEN));
    assert_eq!(first.header("cache-control"), IMMUTABLE);
    let record = case.get(&lookup()).await;
    let sum = record.text().split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(first.trailers["modcdn-sum"], sum.as_str());
    let second = case.get(ZIP).await;
    assert_eq!(second.header("modcdn-sum"), sum);
    assert_eq!(second.header("modcdn-unverified"), "");
    let ziphash = case.dir.path().join("a.example/m/@v/v1.0.0.ziphash");
    assert_eq!(std::fs::read_to_string(ziphash).unwrap(), sum);
    let verified = case.metric("modcdn_origin_verified_bodies_total", &[("kind", "zip")]);
    assert_eq!(verified, 1.0);
}

#[tokio::test]
async fn another_zip_than_the_proven_one_never_completes_and_is_set_aside() {
    for over_h2 in [true, false] {
        let (upstream, mut db) = world().await;
        db.tell(&format!("wrong-zip {MODULE}@{VERSION}"));
        let case = origin(&upstream, section(&db)).await;
        let client = if over_h2 {
            Client::h2(case.address()).await
        } else {
            Client::h1(case.address()).await
        };
        let gate = upstream.gate_instead(ZIP, LEN as u64);
        let zip = zip_of(ZIP, LEN);
        gate.send(Ok(zip.slice(..LEN / 2))).unwrap();
        let response = client.head("GET", ZIP, &[]).await;
        assert_eq!(response.status(), 200);
        gate.send(Ok(zip.slice(LEN / 2..))).unwrap();
        let answer = collect(response).await;
        assert!(!answer.complete && answer.body.len() < LEN);
        // Who asks now is told why, and upstream isn't asked again at once.
        refused(&case.get(ZIP).await, 502, "sum-mismatch");
        assert_eq!(upstream.asked(ZIP), 1);
        assert!(!is_stored(&case, ZIP));
        assert_eq!(alarms(&case, "mismatch"), 1.0);
        assert_eq!(quarantined(&case).await, LEN as u64);
    }
}

/// A zip so small that all of it waits for the proof.
#[tokio::test]
async fn a_small_wrong_zip_is_a_502() {
    let (upstream, mut db) = world().await;
    upstream.only(ZIP, Reply::Body(zip_of(ZIP, 1000), vec![]));
    db.tell(&format!("wrong-zip {MODULE}@{VERSION}"));
    let case = origin(&upstream, section(&db)).await;
    refused(&case.get(ZIP).await, 502, "sum-mismatch");
    assert_eq!(quarantined(&case).await, 1000);
}

#[tokio::test]
async fn the_last_bytes_of_a_zip_wait_for_the_proof_and_the_first_do_not() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    db.tell("stall");
    let client = Client::h2(case.address()).await;
    let (head, mut body) = client.head("GET", ZIP, &[]).await.into_parts();
    assert_eq!(head.status, 200);
    let first = read_some(&mut body, LEN - 10_000).await;
    assert!(first.len() < LEN, "the last bytes came without a proof");
    assert!(!is_stored(&case, ZIP));
    db.tell("honest");
    // What stalled breaks now, and is asked for once more.
    let rest = http_body_util::BodyExt::collect(body).await.unwrap();
    assert_eq!([&first[..], &rest.to_bytes()].concat(), zip_of(ZIP, LEN));
}

#[tokio::test]
async fn a_zip_without_a_proof_is_cut_off_or_marked_as_configured() {
    let (upstream, mut db) = world().await;
    db.tell("fail 500");
    let strict = origin(&upstream, section(&db)).await;
    assert!(!strict.get(ZIP).await.complete);
    assert!(!is_stored(&strict, ZIP));
    assert_eq!(strict.metric(ALARMS, &[]), 0.0);
    let lenient = Section {
        unreachable: Unreachable::Serve,
        ..section(&db)
    };
    let lenient = origin(&upstream, lenient).await;
    let first = lenient.get(ZIP).await;
    assert_eq!(first.body, zip_of(ZIP, LEN));
    // Nobody may keep for ever what may turn out wrong.
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    let second = lenient.get(ZIP).await;
    assert_eq!(second.header("modcdn-unverified"), "unreachable");
    assert_eq!(second.header("cache-control"), "public, max-age=60");
}

#[tokio::test]
async fn a_module_cache_as_store_is_proven_at_its_first_use() {
    for wrong in [false, true] {
        let (upstream, mut db) = world().await;
        if wrong {
            db.tell(&format!("wrong-zip {MODULE}@{VERSION}"));
        }
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(&ZIP[1..]);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, zip_of(ZIP, LEN)).unwrap();
        let mut config = harness::config(dir.path(), "off");
        config.mounts[0].sumdb = section(&db);
        let origin = modcdn_origin::Origin::start(config).await.unwrap();
        let case = Case { dir, origin };
        let answer = case.get(ZIP).await;
        if wrong {
            // Out of the tree; and nobody may be asked for another one.
            refused(&answer, 403, "off");
            assert_eq!(quarantined(&case).await, LEN as u64);
            assert_eq!(alarms(&case, "mismatch"), 1.0);
        } else {
            assert_eq!(answer.body, zip_of(ZIP, LEN));
            assert_eq!(answer.header("cache-control"), IMMUTABLE);
        }
        assert_eq!(is_stored(&case, ZIP), !wrong);
        drop(upstream);
    }
}

#[tokio::test]
async fn an_unreachable_database_is_503_for_what_is_new_and_nothing_for_what_is_stored() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    case.get(MOD).await;
    db.tell("fail 500");
    refused(&case.get(OTHER).await, 503, "sumdb-unreachable");
    assert!(!is_stored(&case, OTHER));
    drop(db);
    refused(&case.get(OTHER).await, 503, "sumdb-unreachable");
    assert_eq!(case.get(MOD).await.text(), GO_MOD);
    assert_eq!(case.metric(ALARMS, &[]), 0.0);
}

#[tokio::test]
async fn a_database_that_says_nothing_is_given_up_within_its_time() {
    let (upstream, mut db) = world().await;
    let impatient = Section {
        timeout: Period::millis(100),
        rest: Period::millis(1),
        ..section(&db)
    };
    let case = origin(&upstream, impatient).await;
    db.tell("stall");
    refused(&case.get(MOD).await, 503, "sumdb-unreachable");
    db.tell("honest");
    let mut answer = case.get(MOD).await;
    while answer.status != 200 {
        refused(&answer, 503, "sumdb-unreachable");
        answer = case.get(MOD).await;
    }
    assert_eq!(answer.text(), GO_MOD);
}

#[tokio::test]
async fn a_database_that_stays_silent_is_left_alone_for_a_while() {
    let (upstream, mut db) = world().await;
    let impatient = Section {
        timeout: Period::millis(50),
        ..section(&db)
    };
    let case = origin(&upstream, impatient).await;
    db.tell("stall");
    for _ in 0..3 {
        refused(&case.get(MOD).await, 503, "sumdb-unreachable");
    }
    let asked = db.requests();
    for _ in 0..20 {
        refused(&case.get(MOD).await, 503, "sumdb-unreachable");
    }
    assert_eq!(db.requests(), asked);
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_never_a_404() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    db.tell("fail 404");
    refused(&case.get(MOD).await, 403, "sumdb-unknown");
    // For who asks the database itself, it is its own word.
    let answer = case.get(&lookup()).await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (404, "not-found")
    );
}

#[tokio::test]
async fn serving_without_a_proof_is_marked_counted_and_not_for_ever() {
    for (verify, unreachable) in [
        (Verify::Required, Unreachable::Serve),
        (Verify::Warn, Unreachable::Refuse),
    ] {
        let (upstream, mut db) = world().await;
        let lenient = Section {
            verify,
            unreachable,
            ..section(&db)
        };
        let case = origin(&upstream, lenient).await;
        db.tell("fail 500");
        let answer = case.get(MOD).await;
        assert_eq!((answer.status, answer.text()), (200, GO_MOD));
        assert_eq!(answer.header("modcdn-unverified"), "unreachable");
        assert_eq!(answer.header("cache-control"), "public, max-age=60");
        let labels = [("kind", "mod"), ("cause", "unreachable")];
        let counted = case.metric("modcdn_origin_unverified_bodies_total", &labels);
        assert_eq!(counted, 1.0);
    }
}

#[tokio::test]
async fn what_was_served_without_a_proof_is_verified_once_there_is_one() {
    let (upstream, mut db) = world().await;
    let lenient = Section {
        unreachable: Unreachable::Serve,
        ..section(&db)
    };
    let name = |config: &mut Config| {
        config.mounts[0].sumdb = lenient.clone();
        config.freshness.mutable = Period::millis(1);
    };
    db.tell("fail 500");
    let case = Case::with(&upstream.url(), name).await;
    case.get(MOD).await;
    db.tell("honest");
    // A new run has no memory of the failure.
    let Case { dir, origin } = case;
    origin.stop().await;
    let mut config = harness::config(dir.path(), "off");
    name(&mut config);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    let answer = case.get(MOD).await;
    assert_eq!(
        (answer.text(), answer.header("modcdn-unverified")),
        (GO_MOD, "")
    );
    assert!(is_stored(&case, &lookup()));
}

#[tokio::test]
async fn a_stored_body_that_is_proven_wrong_is_taken_away() {
    let (upstream, mut db) = world().await;
    db.tell(&format!("wrong-mod {MODULE}@{VERSION}"));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join(&MOD[1..]);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, GO_MOD).unwrap();
    let mut config = harness::config(dir.path(), &upstream.url());
    config.mounts[0].sumdb = section(&db);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    refused(&case.get(MOD).await, 502, "sum-mismatch");
    assert!(!is_stored(&case, MOD));
    assert!(
        case.dir
            .path()
            .join(".quarantine")
            .read_dir()
            .unwrap()
            .count()
            > 0
    );
}

/// Someone who may write to the store writes down what he likes to be proven.
#[tokio::test]
async fn a_record_that_came_into_the_store_by_another_way_proves_nothing() {
    let (upstream, db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    let record = case.get(&lookup()).await;
    let zip_sum = record.text().split_whitespace().nth(3).unwrap();
    let mod_sum = record.text().split_whitespace().nth(6).unwrap();
    let forged = record.text().replace(mod_sum, zip_sum);
    let Case { dir, origin } = case;
    origin.stop().await;
    let place = dir.path().join(&lookup()[1..]);
    let sum = modcdn_core::digest::Sha256::of(forged.as_bytes());
    std::fs::write(
        format!("{}.sha256", place.display()),
        format!("{sum} {}\n", forged.len()),
    )
    .unwrap();
    std::fs::write(&place, forged).unwrap();
    let mut config = harness::config(dir.path(), &upstream.url());
    config.mounts[0].sumdb = section(&db);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    assert_eq!(case.get(MOD).await.text(), GO_MOD);
    assert_eq!(case.get(&lookup()).await.body, record.body);
}

#[tokio::test]
async fn who_wants_only_what_is_stored_spoils_nothing_for_others() {
    let (_upstream, db) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join(&MOD[1..]);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, GO_MOD).unwrap();
    let mut config = harness::config(dir.path(), "off");
    config.mounts[0].sumdb = section(&db);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    let only = [("disable-module-fetch", "true")];
    let unasked = case.get_with(MOD, &only).await;
    assert_eq!(
        (unasked.text(), unasked.header("modcdn-unverified")),
        (GO_MOD, "unreachable")
    );
    let asked = case.get(MOD).await;
    assert_eq!(
        (asked.text(), asked.header("modcdn-unverified")),
        (GO_MOD, "")
    );
}

#[tokio::test]
async fn warn_serves_what_is_proven_wrong_and_raises_the_alarm() {
    let (upstream, mut db) = world().await;
    db.tell(&format!("wrong-mod {MODULE}@{VERSION}"));
    let lenient = Section {
        verify: Verify::Warn,
        ..section(&db)
    };
    let case = origin(&upstream, lenient).await;
    let answer = case.get(MOD).await;
    assert_eq!(answer.header("modcdn-unverified"), "mismatch");
    assert_eq!(alarms(&case, "mismatch"), 1.0);
}

#[tokio::test]
async fn forged_and_empty_answers_are_refused_and_raise_the_alarm() {
    for (lie, reason, cause) in [
        ("flip 0", "sumdb-forged", "forged"),
        ("flip 1", "sumdb-forged", "forged"),
        ("unrelated", "sumdb-forged", "forged"),
        ("empty", "sumdb-content", "malformed"),
    ] {
        let (upstream, mut db) = world().await;
        let case = origin(&upstream, section(&db)).await;
        db.tell(lie);
        refused(&case.get(MOD).await, 502, reason);
        refused(&case.get(&lookup()).await, 502, reason);
        assert!(!is_stored(&case, MOD) && !is_stored(&case, &lookup()));
        assert!(alarms(&case, cause) >= 1.0, "{lie}");
        // Nothing of it stays.
        db.tell("honest");
        assert_eq!(case.get(MOD).await.text(), GO_MOD, "{lie}");
    }
}

#[tokio::test]
async fn a_forked_and_a_shrunken_tree_are_refused_and_raise_the_alarm() {
    for lie in ["fork", "shrink 300"] {
        let (upstream, mut db) = world().await;
        let case = origin(&upstream, section(&db)).await;
        case.get(MOD).await;
        let before = case.get(&call("latest")).await.body;
        db.tell(lie);
        refused(&case.get(OTHER).await, 502, "sumdb-forged");
        assert!(alarms(&case, "forged") >= 1.0, "{lie}");
        assert_eq!(case.get(MOD).await.text(), GO_MOD, "what is proven stays");
        assert_eq!(case.get(&call("latest")).await.body, before);
    }
}

#[tokio::test]
async fn our_head_survives_a_restart() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    case.get(MOD).await;
    let Case { dir, origin } = case;
    origin.stop().await;
    // Everything but the head is gone; so is the database's history.
    std::fs::remove_dir_all(dir.path().join("sumdb")).unwrap();
    std::fs::remove_dir_all(dir.path().join("a.example")).unwrap();
    db.tell("fork");
    let mut config = harness::config(dir.path(), &upstream.url());
    config.mounts[0].sumdb = section(&db);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    refused(&case.get(MOD).await, 502, "sumdb-forged");
}

#[tokio::test]
async fn a_head_that_cant_be_read_is_put_aside_loudly() {
    let (upstream, db) = world().await;
    let dir = tempfile::tempdir().unwrap();
    let head = dir.path().join(".sumdb").join(NAME).join("head");
    std::fs::create_dir_all(head.parent().unwrap()).unwrap();
    std::fs::write(&head, "junk").unwrap();
    let mut config = harness::config(dir.path(), &upstream.url());
    config.mounts[0].sumdb = section(&db);
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    assert_eq!(alarms(&case, "head"), 1.0);
    assert!(head.with_extension("unusable").exists());
    assert_eq!(case.get(MOD).await.text(), GO_MOD);
    assert!(
        std::fs::read(&head)
            .unwrap()
            .starts_with(b"go.sum database tree\n")
    );
}

#[tokio::test]
async fn private_modules_are_refused_before_anyone_is_asked() {
    let (upstream, mut db) = world().await;
    let named = section(&db);
    let private = |config: &mut Config| {
        config.mounts[0].sumdb = named;
        config.mounts[0].private = "a.example,*.corp.example".parse().unwrap();
        config.mounts[0].private_upstream = config.mounts[0].upstream.clone();
    };
    let case = Case::with(&upstream.url(), private).await;
    for module in ["a.example/m", "a.example/!x/y", "git.corp.example/x"] {
        let answer = case.get(&call(&format!("lookup/{module}@{VERSION}"))).await;
        refused(&answer, 403, "private-module");
        assert!(
            answer.text().contains("go env -w GONOSUMDB="),
            "{}",
            answer.text()
        );
        // Another database isn't told either.
        let other = format!("/sumdb/sum.other.example/lookup/{module}@{VERSION}");
        refused(&case.get(&other).await, 403, "private-module");
    }
    // Its own upstream is, and nobody vouches for it.
    let answer = case.get(MOD).await;
    assert_eq!(
        (answer.text(), answer.header("modcdn-unverified")),
        (GO_MOD, "")
    );
    assert_eq!(db.requests(), 0);
    assert_eq!(upstream.asked(MOD), 1);
}

#[tokio::test]
async fn the_database_is_passed_on_and_answers_stay_when_all_is_down() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    let supported = case.get(&call("supported")).await;
    assert_eq!((supported.status, supported.body.len()), (200, 0));
    let record = case.get(&lookup()).await;
    let latest = case.get(&call("latest")).await;
    assert!(
        record.text().starts_with("600\na.example/m v1.0.0 h1:"),
        "{}",
        record.text()
    );
    assert!(record.body.ends_with(&latest.body));
    let tiles = [
        ("tile/8/0/000", "public, max-age=31536000, immutable"),
        ("tile/8/0/001", "public, max-age=31536000, immutable"),
        ("tile/8/0/002.p/89", "public, max-age=86400"),
        ("tile/8/0/000.p/7", "public, max-age=86400"),
        ("tile/8/1/000.p/2", "public, max-age=86400"),
        ("tile/8/data/000", "public, max-age=31536000, immutable"),
        ("tile/8/data/002.p/89", "public, max-age=86400"),
    ];
    let mut bodies = Vec::new();
    for (tile, caching) in tiles {
        let answer = case.get(&call(tile)).await;
        assert_eq!(answer.status, 200, "{tile}");
        assert_eq!(answer.header("cache-control"), caching, "{tile}");
        bodies.push(answer.body);
    }
    for missing in ["tile/8/0/002", "tile/8/0/002.p/90", "tile/8/2/000.p/1"] {
        assert_eq!(case.get(&call(missing)).await.status, 404, "{missing}");
    }
    refused(&case.get(&call("tile/4/0/000")).await, 400, "bad-request");
    let asked = db.requests();
    case.get(&lookup()).await;
    assert_eq!(db.requests(), asked, "what is stored is not asked for");
    let Case { dir, origin } = case;
    origin.stop().await;
    let mut config = harness::config(dir.path(), &upstream.url());
    config.mounts[0].sumdb = section(&db);
    drop((db, upstream));
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    assert_eq!(case.get(&call("supported")).await.status, 200);
    assert_eq!(case.get(&lookup()).await.body, record.body);
    assert_eq!(case.get(&call("latest")).await.body, latest.body);
    for ((tile, _), body) in tiles.iter().zip(bodies) {
        assert_eq!(case.get(&call(tile)).await.body, body, "{tile}");
    }
}

#[tokio::test]
async fn a_partial_tile_goes_once_a_wider_one_is_stored_and_is_served_from_that() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    let partials = |level: &str| -> Vec<String> {
        let folder = format!("sumdb/{NAME}/tile/8/{level}/002.p");
        let entries = std::fs::read_dir(case.dir.path().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    case.get(&lookup()).await;
    let narrow = ["tile/8/0/002.p/89", "tile/8/data/002.p/89"];
    let mut right = Vec::new();
    for tile in narrow {
        let answer = case.get(&call(tile)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        right.push(answer.body);
    }
    assert_eq!(partials("0"), ["89", "89.sha256"]);
    // A record more, in a longer log.
    db.tell("grow 10");
    assert_eq!(case.get(OTHER).await.status, 200);
    assert_eq!(partials("0"), ["100", "100.sha256"]);
    assert_eq!(partials("data"), ["89", "89.sha256"], "it has no wider one");
    let narrow_as_before = async || {
        for (tile, right) in narrow.iter().zip(&right) {
            for headers in [&[][..], &[("disable-module-fetch", "true")]] {
                let answer = case.get_with(&call(tile), headers).await;
                assert_eq!(answer.body, right, "{tile}: {}", answer.text());
            }
        }
    };
    db.tell("fail 500");
    narrow_as_before().await;
    db.tell("honest");
    db.tell("grow 500");
    for full in ["tile/8/0/002", "tile/8/data/002"] {
        let answer = case.get(&call(full)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(partials("0").is_empty() && partials("data").is_empty());
    db.tell("fail 500");
    narrow_as_before().await;
}

#[tokio::test]
async fn latest_is_never_older_than_what_was_served() {
    let (upstream, mut db) = world().await;
    let named = section(&db);
    let at_once = |config: &mut Config| {
        config.mounts[0].sumdb = named;
        config.freshness.mutable = Period::millis(1);
        config.freshness.stale_while_revalidate = Period::millis(1);
    };
    let case = Case::with(&upstream.url(), at_once).await;
    let small = case.get(&call("latest")).await.body;
    db.tell("grow 500");
    let mut large = small.clone();
    while large == small {
        large = case.get(&call("latest")).await.body;
    }
    assert!(large.starts_with(b"go.sum database tree\n1100\n"));
    // A copy that lags behind.
    db.tell("shrink 600");
    for _ in 0..3 {
        assert_eq!(case.get(&call("latest")).await.body, large);
    }
}

#[tokio::test]
async fn other_databases_are_not_passed_on() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    for call in [
        "supported",
        "latest",
        "tile/8/0/000",
        "lookup/x.example/y@v1.0.0",
    ] {
        let answer = case.get(&format!("/sumdb/sum.other.example/{call}")).await;
        let found = (answer.status, answer.header("modcdn-reason"));
        assert_eq!(found, (404, "unknown-database"), "{call}");
        assert_eq!(answer.header("cache-control"), "public, max-age=60");
    }
    assert_eq!(db.requests(), 0);
}

/// As the go command: the first upstream that says `supported`, and nobody else from then on.
#[tokio::test]
async fn an_upstream_that_passes_the_database_on_is_asked_for_all_of_it() {
    let (upstream, db) = world().await;
    let proxy = Upstream::start().await;
    let supported = call("supported");
    for (before, separator, works) in [
        (None, ",", true),
        (Some(Reply::Status(404, "no")), ",", true),
        (Some(Reply::Status(500, "oh")), "|", true),
        (Some(Reply::Status(500, "oh")), ",", false),
    ] {
        if let Some(reply) = before {
            proxy.only(&supported, reply);
        }
        let chain = format!("{}{separator}{},{}", proxy.url(), db.url(), upstream.url());
        let by_upstream = Section {
            url: None,
            direct: false,
            ..section(&db)
        };
        let name = |config: &mut Config| config.mounts[0].sumdb = by_upstream;
        let case = Case::with(&chain, name).await;
        let answer = case.get(&supported).await;
        let found = case.get(MOD).await;
        if works {
            assert_eq!((answer.status, found.text()), (200, GO_MOD));
        } else {
            refused(&answer, 503, "sumdb-unreachable");
            refused(&found, 503, "sumdb-unreachable");
        }
    }
}

#[tokio::test]
async fn where_nobody_passes_it_on_clients_are_sent_to_the_database_itself() {
    let (upstream, db) = world().await;
    let by_upstream = Section {
        url: None,
        direct: false,
        ..section(&db)
    };
    for chain in [
        upstream.url(),
        "off".to_owned(),
        format!("{},off", upstream.url()),
    ] {
        let named = by_upstream.clone();
        let name = |config: &mut Config| config.mounts[0].sumdb = named;
        let case = Case::with(&chain, name).await;
        let answer = case.get(&call("supported")).await;
        let found = (answer.status, answer.header("modcdn-reason"));
        assert_eq!(found, (404, "unknown-database"), "{chain}");
    }
    let case = origin(&upstream, by_upstream).await;
    let answer = case.get(MOD).await;
    refused(&answer, 503, "sumdb-unreachable");
    assert!(answer.text().contains("sumdb.url"), "{}", answer.text());
}

#[tokio::test]
async fn only_what_is_stored_is_given_to_who_wants_nothing_else() {
    let (upstream, mut db) = world().await;
    let case = origin(&upstream, section(&db)).await;
    let only = [("disable-module-fetch", "true")];
    for path in [lookup(), call("latest"), call("tile/8/0/000")] {
        let answer = case.get_with(&path, &only).await;
        refused(&answer, 404, "not-stored");
    }
    assert_eq!(db.requests(), 0);
    case.get(&lookup()).await;
    for path in [lookup(), call("latest")] {
        assert_eq!(case.get_with(&path, &only).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn many_new_modules_at_once_share_what_proves_them() {
    let (upstream, mut db) = world().await;
    let paths: Vec<String> = mod_only().collect();
    let case = origin(&upstream, section(&db)).await;
    let client = harness::Client::h2(case.address()).await;
    let asks = paths.iter().map(|path| client.get(path, &[]));
    for answer in futures::future::join_all(asks).await {
        assert_eq!(
            (answer.status, answer.text()),
            (200, GO_MOD),
            "{}",
            answer.text()
        );
    }
    // A lookup each, and the few tiles that are new with each head.
    assert!(db.requests() < 60 * 6, "{}", db.requests());
}
