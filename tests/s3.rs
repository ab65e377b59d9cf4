//! An origin whose bodies lie in a bucket, before a real S3 server that dies, stalls, lies and comes
//! back.

mod harness;

use bytes::Bytes;
use harness::http::{Client, Reply};
use harness::node::{Node, UNVERIFIED, files};
use harness::observe::Metrics;
use harness::process::send_signal;
use harness::s3::{Fault, S3};
use harness::sumdb::SumDb;
use harness::upstream::{Answer, Upstream};
use harness::zip::module_zip;
use harness::{until, until_true};

const MODULE: &str = "example.com/m";
const INFO: &str = "/example.com/m/@v/v1.0.0.info";
const MOD: &str = "/example.com/m/@v/v1.0.0.mod";
const ZIP: &str = "/example.com/m/@v/v1.0.0.zip";
/// Parts are 5 MiB here.
const IN_PARTS: usize = 12 << 20;
/// One part at a time.
const ONE_BY_ONE: &str = ", upload_memory: 5MiB";
/// Longer than what is read at once.
const IN_ONE: usize = 300_000;

struct Rig {
    upstream: Upstream,
    s3: S3,
    origin: Node,
}

impl Rig {
    fn new(zip: usize) -> Rig {
        Rig::with(zip, "")
    }

    /// With more settings of `store.s3`, each led by a comma.
    fn with(zip: usize, more: &str) -> Rig {
        let upstream = Upstream::start();
        upstream.module(MODULE, &["v1.0.0"], &noise(zip));
        let s3 = S3::start();
        let origin = Node::origin(&upstream.url(), &s3.store(more));
        Rig {
            upstream,
            s3,
            origin,
        }
    }

    fn get(&self, path: &str) -> Reply {
        Client::h2(self.origin.url()).get(path)
    }

    fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let client = Client::h1(self.origin.url());
        client
            .send(&http::Method::GET, path, headers)
            .expect("an answer")
    }

    /// The right bytes of what was stored before.
    fn stores(&self, path: &str) -> Bytes {
        let first = self.get(path).ok().body;
        until_true(path, || self.s3.object(path).exists());
        first
    }

    fn restart(&mut self) {
        self.origin.kill();
        self.origin.start();
    }

    fn admin(&self, path: &str) -> String {
        let admin = Client::h1(&format!("http://{}", self.origin.admin()));
        admin.get(path).text()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        Metrics::scrape(self.origin.admin()).value(name, labels)
    }

    fn upstream_is_gone(&self) {
        for path in [INFO, MOD, ZIP] {
            self.upstream.answer(path, Answer::Status(500, "gone"));
        }
    }
}

/// Bytes that no two parts have in common.
fn noise(len: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

#[test]
fn bodies_lie_in_the_bucket_and_come_back_from_it() {
    let mut rig = Rig::new(IN_PARTS);
    let right = [INFO, MOD, ZIP].map(|path| rig.stores(path));
    until_true("no part to be left", || rig.s3.parts() == 0);
    rig.upstream_is_gone();
    rig.restart();
    for (path, right) in [INFO, MOD, ZIP].into_iter().zip(&right) {
        for _ in 0..2 {
            let answer = rig.get(path).ok();
            assert!(answer.body == *right, "{path}: other bytes");
            assert_eq!(answer.header("content-length"), right.len().to_string());
        }
    }
    // A part, before and behind what came with the head.
    let etag = rig.get(ZIP).ok().header("etag").to_owned();
    for (from, to) in [(0, 9), (60_000, 70_000), (8 << 20, right[2].len() - 1)] {
        let range = format!("bytes={from}-{to}");
        let part = rig.ask(ZIP, &[("range", &range), ("if-range", &etag)]);
        assert_eq!((part.status, part.complete), (206, true));
        assert!(part.body == right[2][from..=to], "{range}");
    }
    let held = files(&rig.origin.store());
    assert!(held.iter().all(|(_, len)| *len < 10_000), "{held:?}");
    assert_eq!(rig.admin("/readyz"), "ready\n");
}

#[test]
fn a_part_of_an_unread_body_is_checked_first() {
    let mut rig = Rig::new(IN_PARTS);
    let right = rig.stores(ZIP);
    rig.restart();
    let part = rig.ask(ZIP, &[("range", "bytes=100-199")]);
    assert!(part.status == 206 && part.body == right[100..200]);

    rig.restart();
    rig.s3.spoil(ZIP, 9 << 20);
    let part = rig.ask(ZIP, &[("range", "bytes=100-199")]);
    assert!(part.status == 206 && part.body == right[100..200]);
    assert_eq!(
        rig.upstream.requests(ZIP),
        2,
        "what was spoilt is fetched anew"
    );
    assert_eq!(rig.metric("modcdn_origin_corrupt_objects_total", &[]), 1.0);
}

#[test]
fn what_others_put_into_the_bucket_is_taken_over() {
    let rig = Rig::new(IN_ONE);
    let zip = module_zip(
        MODULE,
        "v1.1.0",
        &[("go.mod", b"module example.com/m\n"), ("x", &noise(IN_ONE))],
    );
    let path = "/example.com/m/@v/v1.1.0.zip";
    put_by_others(&rig.s3, path, &zip);
    for _ in 0..2 {
        assert!(rig.get(path).ok().body == zip);
    }
    assert!(rig.s3.object(&format!("{path}.sha256")).exists());
    // An empty file is nobody's.
    put_by_others(&rig.s3, MOD, b"");
    assert_eq!(
        rig.get(MOD).ok().text(),
        "module example.com/m\n\ngo 1.22\n"
    );
    assert_eq!(rig.upstream.requests(MOD), 1);
}

/// As any tool that keeps a GOPROXY tree does it: bodies, and nothing beside them.
fn put_by_others(s3: &S3, path: &str, body: &[u8]) {
    let object = s3.object(path);
    std::fs::create_dir_all(object.parent().expect("a folder")).expect("made");
    std::fs::write(object, body).expect("written");
}

#[test]
fn what_others_put_into_the_bucket_is_verified_before_it_is_served() {
    let versions = ["v1.0.0", "v1.1.0", "v1.2.0"];
    let [proven, upstream] = [(), ()].map(|()| Upstream::start());
    for upstream in [&proven, &upstream] {
        upstream.module(MODULE, &versions, &noise(IN_ONE));
    }
    let db = SumDb::start(&proven.url());
    let s3 = S3::start();
    let path = |version: &str, file: &str| format!("/{MODULE}/@v/{version}.{file}");
    let right = |path: &str| Client::h1(&upstream.url()).get(path).ok().body;
    for file in ["info", "mod", "zip"] {
        let path = path("v1.0.0", file);
        put_by_others(&s3, &path, &right(&path));
    }
    // By all rules a module zip, of another content than the database has; none at all; another go.mod.
    let go_mod: &[u8] = b"module example.com/m\n\ngo 1.22\n";
    let other = module_zip(
        MODULE,
        "v1.1.0",
        &[("go.mod", go_mod), ("blob", &noise(IN_ONE + 1))],
    );
    let wrong = [
        path("v1.1.0", "zip"),
        path("v1.2.0", "zip"),
        path("v1.1.0", "mod"),
    ];
    put_by_others(&s3, &wrong[0], &other);
    put_by_others(&s3, &wrong[1], &noise(IN_ONE));
    put_by_others(&s3, &wrong[2], b"module example.com/m\n\ngo 1.21\n");

    let asked = |path: &str| upstream.requests(path);
    let before = asked(ZIP);
    let mounts = format!(
        "mounts: [{{prefix: /, upstream: '{}', sumdb: {{key: '{}', url: '{}'}}}}]\n",
        upstream.url(),
        db.key(),
        db.url()
    );
    let origin = Node::origin("off", &format!("{mounts}{}", s3.store("")));
    let client = Client::h2(origin.url());
    for path in [INFO, MOD, ZIP] {
        assert!(client.get(path).ok().body == right(path), "{path}");
    }
    assert_eq!(asked(ZIP), before + 1, "only this test asked for it");
    let lookup = format!("/sumdb/sum.test/lookup/{MODULE}@v1.0.0");
    until_true("the proof", || s3.object(&lookup).exists());
    for path in &wrong {
        let answer = client.get(path).ok();
        assert_eq!(asked(path), 1, "{path} is fetched");
        assert!(answer.body == right(path), "{path}");
    }
    let count = |is: fn(&String) -> bool| s3.keys().iter().filter(|key| is(key)).count();
    until_true("the wrong ones to be set aside", || {
        let kept = |key: &String| key.contains("/.quarantine/") && !key.ends_with(".reason");
        count(kept) == wrong.len()
    });
    until_true("the narrower tiles to be gone", || {
        count(|key| key.contains("/tile/8/0/002.p/")) == 1
    });
    let metrics = Metrics::scrape(origin.admin());
    let mismatches = [("cause", "mismatch")];
    assert_eq!(
        metrics.value("modcdn_origin_sumdb_alarms_total", &mismatches),
        2.0
    );
}

#[test]
fn wrong_bytes_are_cut_off_and_quarantined() {
    let mut rig = Rig::new(IN_PARTS);
    let right = [MOD, ZIP].map(|path| rig.stores(path));
    rig.restart();
    rig.s3.spoil(MOD, 3);
    rig.s3.spoil(ZIP, 11 << 20);
    assert!(
        rig.get(MOD).ok().body == right[0],
        "a small one is fetched anew at once"
    );
    let broken = rig.get(ZIP);
    assert!(!broken.complete && broken.body.len() < right[1].len());
    until_true("the zip to be set aside", || !rig.s3.object(ZIP).exists());
    let aside = |key: &String| key.contains("a/b/.quarantine/");
    let kept = rig.s3.keys().iter().filter(|key| aside(key)).count();
    assert_eq!(kept, 4, "both, with their reasons");
    assert!(rig.get(ZIP).ok().body == right[1]);
}

/// Everything is 503 while it lasts, nothing is asked of upstream, and all is well afterwards.
fn lives_through(mut begin: impl FnMut(&mut S3), mut end: impl FnMut(&mut S3)) {
    let mut rig = Rig::new(IN_ONE);
    let right = rig.stores(ZIP);
    rig.upstream.module("example.com/other", &["v1.0.0"], b"");
    let other = "/example.com/other/@v/v1.0.0.mod";
    begin(&mut rig.s3);
    for path in [ZIP, INFO, other] {
        let answer = rig.get(path);
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert_eq!(answer.header("modcdn-reason"), "store-unavailable");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(rig.upstream.requests(other), 0);
    until_true("readyz to say so", || {
        rig.admin("/readyz").contains("store")
    });
    assert_eq!(rig.admin("/healthz"), "ok\n");
    end(&mut rig.s3);
    until_true("what is stored", || rig.get(ZIP).status == 200);
    assert!(rig.get(ZIP).ok().body == right);
    assert_eq!(rig.get(other).ok().status, 200);
    assert_eq!(rig.upstream.requests(ZIP), 1, "it was there all the time");
    until_true("readyz", || rig.admin("/readyz") == "ready\n");
}

#[test]
fn a_dead_server_makes_stored_bodies_unavailable_not_absent() {
    lives_through(S3::kill, S3::restart);
}

#[test]
fn so_does_one_that_never_answers() {
    lives_through(
        |s3| s3.line().set(Fault::Stalls),
        |s3| s3.line().set(Fault::None),
    );
}

#[test]
fn so_does_one_that_only_fails() {
    lives_through(
        |s3| s3.line().set(Fault::Errors),
        |s3| s3.line().set(Fault::None),
    );
}

#[test]
fn so_does_a_line_that_is_closed() {
    lives_through(
        |s3| s3.line().set(Fault::Closed),
        |s3| s3.line().set(Fault::None),
    );
}

#[test]
fn a_line_that_breaks_or_stalls_in_a_body_is_taken_up_again() {
    let rig = Rig::new(IN_PARTS);
    let right = rig.stores(ZIP);
    let after = 1 << 20;
    for fault in [
        Fault::Cut { after, times: 2 },
        Fault::StallsAfter { after, times: 1 },
    ] {
        rig.s3.line().set(fault);
        assert!(rig.get(ZIP).ok().body == right, "{fault:?}");
    }
    rig.s3.line().set(Fault::Cut {
        after: 200_000,
        times: usize::MAX,
    });
    let broken = rig.get(ZIP);
    assert!(
        !broken.complete,
        "one that breaks for ever is cut off visibly"
    );
    rig.s3.line().set(Fault::None);
    assert!(rig.get(ZIP).ok().body == right, "and was not blamed for it");
}

#[test]
fn nobody_waits_for_the_bucket() {
    let rig = Rig::new(IN_PARTS);
    rig.s3.line().set(Fault::TakesOnly(6 << 20));
    let right = rig.get(ZIP).ok().body;
    until_true("the upload to be stuck", || rig.s3.line().stalls());
    // Whoever asks meanwhile has it from whom it came with.
    assert!(rig.get(ZIP).ok().body == right && !rig.s3.object(ZIP).exists());
    rig.s3.line().set(Fault::None);
    until_true("the zip in the bucket", || rig.s3.object(ZIP).exists());
    assert!(rig.get(ZIP).ok().body == right);
    assert_eq!(rig.upstream.requests(ZIP), 1);
}

#[test]
fn a_kill_in_the_middle_of_an_upload_leaves_nothing() {
    let mut rig = Rig::with(IN_PARTS, ONE_BY_ONE);
    let pid = rig.origin.pid();
    rig.s3.line().set(Fault::TakesOnly(11 << 20));
    rig.get(ZIP).ok();
    until_true("the upload to be stuck", || rig.s3.line().stalls());
    until_true("a part", || rig.s3.parts() > 0);
    send_signal(pid, libc::SIGKILL);
    assert!(!rig.s3.object(ZIP).exists());
    rig.s3.line().set(Fault::None);
    rig.restart();
    until_true("its parts to be taken back", || rig.s3.parts() == 0);
    rig.stores(ZIP);
    until_true("no part to be left", || rig.s3.parts() == 0);
    until("no note left", || {
        let notes = files(&rig.origin.store().join(".uploads"));
        notes.is_empty().then_some(())
    });
}

#[test]
fn the_parts_of_an_upload_that_failed_are_taken_back() {
    let rig = Rig::with(IN_PARTS, &format!("{ONE_BY_ONE}, upload_timeout: 1s"));
    rig.s3.line().set(Fault::TakesOnly(11 << 20));
    rig.get(ZIP).ok();
    until_true("a part", || rig.s3.parts() > 0);
    until_true("the upload to be given up", || {
        rig.metric(
            "modcdn_origin_store_errors_total",
            &[("operation", "commit")],
        ) > 0.0
    });
    assert!(!rig.s3.object(ZIP).exists());
    rig.s3.line().set(Fault::None);
    until_true("its parts to be taken back", || rig.s3.parts() == 0);
    rig.stores(ZIP);
}

#[test]
fn lists_outlive_the_origins_own_folder() {
    let mut rig = Rig::new(0);
    let paths = [format!("/{MODULE}/@v/list"), format!("/{MODULE}/@latest")];
    let right = paths.each_ref().map(|path| rig.get(path).ok().body);
    let copies = |s3: &S3| {
        let keys = s3.keys().into_iter();
        keys.filter(|key| key.contains("a/b/.mutable/")).count()
    };
    until_true("both to be copied", || copies(&rig.s3) == 2);
    let begins_anew = |rig: &mut Rig, upstream: u16| {
        for path in &paths {
            rig.upstream.answer(path, Answer::Status(upstream, "gone"));
        }
        rig.origin.kill();
        std::fs::remove_dir_all(rig.origin.store()).expect("it can be removed");
        rig.origin.start();
    };
    begins_anew(&mut rig, 500);
    for (path, right) in paths.iter().zip(&right) {
        let answer = rig.get(path).ok();
        assert!(answer.body == *right, "{path}: {}", answer.text());
    }
    let copied = [("cause", "copy")];
    assert_eq!(
        rig.metric("modcdn_origin_stale_answers_total", &copied),
        2.0
    );
    // What upstream denies is no more, whatever was copied.
    begins_anew(&mut rig, 404);
    for path in &paths {
        assert_eq!(rig.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_mount_has_its_own_keys() {
    let upstream = Upstream::start();
    upstream.module(MODULE, &["v1.0.0"], b"");
    let s3 = S3::start();
    let mounts = format!(
        "mounts: [{{prefix: /}}, {{prefix: /team-a/, upstream: '{}', {UNVERIFIED}}}]\n",
        upstream.url()
    );
    let origin = Node::origin("off", &format!("{mounts}{}", s3.store("")));
    let client = Client::h2(origin.url());
    client.get(&format!("/team-a{MOD}")).ok();
    let object = s3.object(&format!("/team-a{MOD}"));
    until_true("the mount's object", || object.exists());
    assert_eq!(
        client.get(MOD).status,
        403,
        "it is none of the other mount's"
    );
}
