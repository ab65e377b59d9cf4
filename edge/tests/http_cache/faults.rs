//! Origins that fail as a whole: the promises F1 to F3 at plain HTTP mounts.

use std::net::Ipv4Addr;
use std::thread;

use modcdn_core::digest::Sha256;
use modcdn_core::units::Period;
use modcdn_edge::config::mounts::default_mounts;

use crate::dns::{Dns, Says};
use crate::harness::{Gate, Got, Origin, Page, Reply, World, ago, until};

const FRESH: &str = "Cache-Control: max-age=60";
const STALE: &str = "Cache-Control: max-age=60\nAge: 70\nETag: \"1\"";

fn reason(got: &Got) -> String {
    got.field("modcdn-reason").unwrap_or_default()
}

/// Asks for many things at once that nothing is known of.
fn misses(world: &World, origin: &Origin, folder: &str, fields: &str) -> Vec<Got> {
    let pages: Vec<Page> = (0..30)
        .map(|n| world.page(origin, &format!("{folder}{n}")))
        .collect();
    thread::scope(|scope| {
        let asking: Vec<_> = pages
            .iter()
            .map(|page| scope.spawn(|| page.get(fields)))
            .collect();
        asking.into_iter().map(|got| got.join().unwrap()).collect()
    })
}

/// Two addresses of one origin, the first of which is tried first.
fn at_two_addresses() -> (Origin, Origin, World) {
    let one = Origin::start();
    let port = one.address.port();
    let two = Origin::at(&format!("127.0.0.2:{port}"));
    let addresses = vec![Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let dns = Dns::start(Says::Addresses(addresses, 60));
    let world = World::start(&[("/", &one)], |config| {
        config.mounts[0].origin = Some(format!("http://origin.example:{port}"));
        config.origin.resolvers = vec![dns.address];
        config.http.suspicion = Period::secs(600);
        config.http.suspicion_max = Period::secs(600);
    });
    (one, two, world)
}

/// F3: an address where something went wrong is used only where there is no other.
#[test]
fn f3_an_address_where_a_body_broke_off_is_avoided() {
    let (one, two, world) = at_two_addresses();
    let head = "HTTP/1.1 200 OK\nContent-Length: 10";
    one.otherwise(Reply::raw(head, "0123").then_closes());
    two.otherwise(Reply::new(200, "", "well"));
    assert!(!world.page(&one, "/1").get("").complete);
    assert_eq!(world.page(&two, "/2").get("").body, "well");
    assert_eq!((one.asked(), two.asked()), (1, 1));
    assert_eq!(world.metric("modcdn_edge_mount_addresses{mount=\"/\"}"), 2);
}

/// F1: a DNS that fails, or forgets the name, costs nothing while the origin stays where it was.
#[test]
fn f1_an_origin_whose_name_is_lost_is_still_found() {
    let origin = Origin::start();
    origin.otherwise(Reply::new(200, "Cache-Control: no-store", "well").then_closes());
    let dns = Dns::start(Says::Addresses(vec![Ipv4Addr::LOCALHOST], 1));
    let world = World::start(&[("/", &origin)], |config| {
        config.mounts[0].origin = Some(format!("http://origin.example:{}", origin.address.port()));
        config.origin.resolvers = vec![dns.address];
    });
    let page = world.page(&origin, "/page");
    let is_well = || page.get("").body == "well";
    assert!(is_well());
    for says in [Says::Failure, Says::NoSuchName] {
        let asked = dns.asked();
        dns.now_says(says);
        until(|| {
            assert!(is_well());
            dns.asked() > asked
        });
        assert!(is_well());
    }
}

/// F2: the breaker, one a mount; F1: what is stored is given meanwhile, if that isn't forbidden.
#[test]
fn f2_a_mounts_origin_that_never_answers_is_left_alone_and_nobody_else_is() {
    let (silent, sound) = (Origin::start(), Origin::start());
    sound.otherwise(Reply::new(200, "Cache-Control: no-store", "well"));
    let world = World::start(&[("/a/", &silent), ("/b/", &sound)], |config| {
        config.mounts.extend(default_mounts());
        config.http.first_byte_timeout = Period::millis(200);
        config.http.connect_timeout = Period::millis(200);
        config.http.retry = Period::secs(0);
        config.http.breaker.failures = 10;
        config.http.breaker.pause = Period::secs(600);
        config.http.breaker.pause_max = Period::secs(600);
    });
    let [fresh, stale, strict] =
        ["fresh", "stale", "strict"].map(|name| world.page(&silent, &format!("/a/{name}")));
    fresh.answers(200, FRESH, "kept");
    stale.answers(200, STALE, "old");
    strict.answers(
        200,
        &format!("{STALE}\nCache-Control: must-revalidate"),
        "old",
    );
    for page in [&fresh, &stale, &strict] {
        assert_eq!(page.get("").status, 200);
    }
    silent.falls_silent();
    for got in misses(&world, &silent, "/a/first/", "") {
        assert!(matches!(got.status, 503 | 504), "{got:?}");
    }
    let asked = silent.asked();
    for got in misses(&world, &silent, "/a/then/", "") {
        assert_eq!((got.status, &*reason(&got)), (503, "origin-suspended"));
    }
    assert!(fresh.get("").is_hit());
    let got = stale.get("");
    assert_eq!((got.status, got.body.as_str()), (200, "old"));
    assert!(
        got.cache().contains("detail=origin-suspended"),
        "{}",
        got.cache()
    );
    assert_eq!(reason(&strict.get("")), "origin-suspended");
    for method in ["HEAD", "POST"] {
        let got = world.page(&silent, "/a/other").ask(method, "", "");
        assert_eq!(
            (got.status, &*reason(&got)),
            (503, "origin-suspended"),
            "{method}"
        );
    }
    assert_eq!(silent.asked(), asked, "nobody asked");
    // The others' ways are their own.
    assert_eq!(world.page(&sound, "/b/page").get("").body, "well");
    let module = world.page(&sound, "/example.com/m/@v/v1.0.0.info").get("");
    assert_eq!(reason(&module), "origin-unreachable");
    let state = |mount| {
        world.metric(&format!(
            "modcdn_edge_mount_breaker_state{{mount=\"{mount}\"}}"
        ))
    };
    assert_eq!((state("/a/"), state("/b/")), (2, 0));
    let opened = |mount| format!("modcdn_edge_mount_breaker_opened_total{{mount=\"{mount}\"}}");
    assert_eq!(world.metric(&opened("/a/")), 1);
    let rejected = "modcdn_edge_mount_rejected_total{cause=\"breaker\",mount=\"/a/\"}";
    assert!(world.metric(rejected) >= 33);
}

/// F2: it recovers by itself.
#[test]
fn f2_a_mounts_origin_that_answers_again_is_used_again() {
    let origin = Origin::start();
    origin.otherwise(Reply::new(200, FRESH, "well"));
    let world = World::start(&[("/", &origin)], |config| {
        config.http.first_byte_timeout = Period::millis(200);
        config.http.connect_timeout = Period::millis(200);
        config.http.breaker.failures = 5;
        config.http.breaker.pause = Period::millis(100);
        config.http.breaker.pause_max = Period::millis(100);
    });
    origin.falls_silent();
    misses(&world, &origin, "/first/", "");
    let opened = "modcdn_edge_mount_breaker_opened_total{mount=\"/\"}";
    assert!(world.metric(opened) >= 1);
    origin.speaks_again();
    let page = world.page(&origin, "/page");
    until(|| page.get("").status == 200);
    assert_eq!(
        world.metric("modcdn_edge_mount_breaker_state{mount=\"/\"}"),
        0
    );
    for got in misses(&world, &origin, "/then/", "") {
        assert_eq!(got.body, "well");
    }
}

/// F2: uploads that clients break off, and statuses of any kind, say nothing about the origin.
#[test]
fn f2_what_clients_do_and_what_the_origin_says_opens_no_breaker() {
    let origin = Origin::start();
    origin.otherwise(Reply::new(503, "Cache-Control: no-store", "busy"));
    let world = World::start(&[("/", &origin)], |config| {
        config.http.breaker.failures = 1;
        config.http.breaker.pause = Period::secs(600);
        config.http.breaker.pause_max = Period::secs(600);
    });
    let page = world.page(&origin, "/page");
    for _ in 0..5 {
        page.break_off_upload();
    }
    let through = "modcdn_edge_mount_exchanges{mount=\"/\"}";
    until(|| world.metric(through) == 0);
    for _ in 0..5 {
        assert_eq!(page.get("").body, "busy");
    }
}

/// F2, promise 4: so many at once, so many more wait, the rest is refused.
#[test]
fn f2_requests_to_a_mount_wait_in_a_bounded_queue() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |config| {
        config.http.requests = 1;
        config.http.queue = 1;
        config.http.queue_wait = Period::secs(60);
    });
    let gate = Gate::default();
    let [first, second, third] = ["/1", "/2", "/3"].map(|path| world.page(&origin, path));
    first.will(Reply::new(200, FRESH, "one").behind(&gate));
    second.answers(200, FRESH, "two");
    let queue = "modcdn_edge_mount_queue{mount=\"/\"}";
    thread::scope(|scope| {
        let one = scope.spawn(|| first.get(""));
        first.wait_asked(1);
        let two = scope.spawn(|| second.get(""));
        until(|| world.metric(queue) == 1);
        let got = third.get("");
        assert_eq!((got.status, &*reason(&got)), (503, "overloaded"));
        assert_eq!(second.asked(), 0);
        gate.open();
        assert_eq!(one.join().unwrap().body, "one");
        assert_eq!(two.join().unwrap().body, "two");
    });
    assert_eq!((world.metric(queue), third.asked()), (0, 0));
    let full = "modcdn_edge_mount_rejected_total{cause=\"queue-full\",mount=\"/\"}";
    assert_eq!(world.metric(full), 1);
}

/// A body that no part can be mistaken for another of.
fn body(len: usize) -> String {
    (0..)
        .flat_map(|n| format!("{n} ").into_bytes())
        .take(len)
        .map(char::from)
        .collect()
}

/// The start of a 200 with a body of 200,000 bytes, of which the first `len` come.
fn begun(fields: &str, len: usize) -> Reply {
    let head = format!("HTTP/1.1 200 OK\nContent-Length: 200000\n{FRESH}\n{fields}");
    Reply::raw(&head, &body(200_000)[..len]).then_closes()
}

/// The rest of it.
fn rest(fields: &str, from: usize) -> Reply {
    let range = format!("Content-Range: bytes {from}-199999/200000");
    Reply::new(206, &format!("{range}\n{fields}"), &body(200_000)[from..])
}

const TAG: &str = "ETag: \"1\"";

fn taken(world: &World) -> u64 {
    world.metric("modcdn_edge_fill_bytes_total")
}

/// F3: whatever stops a body in its midst, its readers notice nothing, and no byte comes twice.
#[test]
fn f3_a_body_that_breaks_off_is_continued() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |config| {
        config.http.stall_timeout = Period::millis(300);
    });
    let chunked = |len: usize| {
        let head = format!("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n{FRESH}\n{TAG}");
        Reply::raw(&head, &format!("{len:x}\r\n{}\r\n", &body(200_000)[..len])).then_closes()
    };
    let modified = format!("Date: {}\nLast-Modified: {}", ago(10), ago(100));
    let breaks = [
        ("/closed", begun(TAG, 150_000), TAG, 150_000),
        ("/short", begun(TAG, 10), TAG, 10),
        ("/stalled", begun(TAG, 150_000).then_stalls(), TAG, 150_000),
        ("/chunked", chunked(150_000), TAG, 150_000),
        (
            "/dated",
            begun(&modified, 150_000),
            modified.as_str(),
            150_000,
        ),
    ];
    for (path, reply, fields, from) in breaks {
        let (page, before) = (world.page(&origin, path), taken(&world));
        page.will(reply).will(rest(fields, from));
        let got = page.get("");
        assert!(
            got.complete && got.body == body(200_000),
            "{path}: {}",
            got.body.len()
        );
        let seen = &page.seen()[1];
        assert_eq!(
            seen.field("range"),
            Some(format!("bytes={from}-")),
            "{path}"
        );
        let if_range = fields.lines().last().unwrap().split_once(": ").unwrap().1;
        assert_eq!(seen.field("if-range").as_deref(), Some(if_range), "{path}");
        assert_eq!(seen.field("if-none-match"), None);
        let got = page.get("Range: bytes=149998-150001");
        assert!(
            got.is_hit() && got.body == body(200_000)[149_998..=150_001],
            "{path}"
        );
        assert_eq!(taken(&world) - before, 200_000, "{path}");
    }
}

/// F3: again and again, each time from where it broke.
#[test]
fn f3_a_body_is_continued_as_often_as_that_is_allowed() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |config| {
        config.fill.resumes = 3;
        config.fill.resume_pause = Period::millis(1);
    });
    let page = world.page(&origin, "/page");
    page.will(begun(TAG, 100_000));
    for (from, to) in [(100_000, 120_000), (120_000, 120_001)] {
        let head = format!(
            "HTTP/1.1 206 X\nContent-Range: bytes {from}-199999/200000\n{TAG}\nContent-Length: {}",
            200_000 - from
        );
        page.will(Reply::raw(&head, &body(200_000)[from..to]).then_closes());
    }
    page.will(rest(TAG, 120_001));
    assert_eq!(page.get("").body, body(200_000));
    assert_eq!((page.asked(), taken(&world)), (4, 200_000));
    // An origin that sends a part of what was asked for, complete in itself, is asked for more.
    let page = world.page(&origin, "/parts");
    page.will(begun(TAG, 100_000));
    let part = "Content-Range: bytes 100000-149999/200000\nETag: \"1\"";
    page.answers(206, part, &body(200_000)[100_000..150_000]);
    page.will(rest(TAG, 150_000));
    assert_eq!(page.get("").body, body(200_000));
    // More breaks than tries: cut off, and nothing is kept.
    let page = world.page(&origin, "/hopeless");
    page.will(begun(TAG, 100_000));
    for _ in 0..3 {
        page.answers(503, "", "busy");
    }
    let got = page.get("");
    assert!(got.status == 200 && !got.complete);
    assert_eq!(page.asked(), 4);
    page.answers(200, FRESH, "whole");
    assert_eq!(page.get("").body, "whole");
}

/// F3: at another address of the origin.
#[test]
fn f3_a_body_is_continued_at_another_address() {
    let (one, two, world) = at_two_addresses();
    one.otherwise(begun(TAG, 150_000));
    two.otherwise(rest(TAG, 150_000));
    assert_eq!(world.page(&one, "/page").get("").body, body(200_000));
    assert_eq!((one.asked(), two.asked()), (1, 1));
}

/// RFC 9110 §15.3.7.3: parts are joined only under the same strong validator. Anything else than the
/// rest of this very body ends in a visible break, and nothing is kept.
#[test]
fn f3_what_is_not_the_rest_of_the_body_is_not_appended() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |_| {});
    let tail = &body(200_000)[150_000..];
    let part = |fields: &str| Reply::new(206, fields, tail);
    let range = "Content-Range: bytes 150000-199999/200000";
    let wrong = [
        (
            "/changed",
            Reply::new(200, &format!("{FRESH}\nETag: \"2\""), "other"),
        ),
        (
            "/same-whole",
            Reply::new(200, &format!("{FRESH}\n{TAG}"), &body(200_000)),
        ),
        ("/tag", part(&format!("{range}\nETag: \"2\""))),
        ("/weak", part(&format!("{range}\nETag: W/\"1\""))),
        ("/no-tag", part(range)),
        (
            "/start",
            part(&format!("Content-Range: bytes 140000-189999/200000\n{TAG}")),
        ),
        (
            "/length",
            part(&format!("Content-Range: bytes 150000-199999/200001\n{TAG}")),
        ),
        (
            "/lies",
            part(&format!("Content-Range: bytes 150000-189999/200000\n{TAG}")),
        ),
        ("/no-range", part(TAG)),
        ("/not-found", Reply::new(404, "", "gone")),
        ("/not-modified", Reply::new(304, TAG, "")),
    ];
    for (path, reply) in wrong {
        let page = world.page(&origin, path);
        page.will(begun(TAG, 150_000)).will(reply);
        let got = page.get("");
        assert!(got.status == 200 && !got.complete, "{path}");
        assert_eq!(page.asked(), 2, "{path}");
        page.answers(200, FRESH, "whole");
        assert_eq!(page.get("").body, "whole", "{path}");
    }
}

/// RFC 9110 §13.1.5: without a strong validator nothing is asked for.
#[test]
fn f3_a_body_without_a_strong_validator_is_not_continued() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |_| {});
    let now = ago(0);
    let weak = [
        ("/none", String::new()),
        ("/weak", "ETag: W/\"1\"".to_owned()),
        ("/same-second", format!("Date: {now}\nLast-Modified: {now}")),
        ("/undated", format!("Last-Modified: {}", ago(100))),
        ("/no-ranges", format!("{TAG}\nAccept-Ranges: none")),
    ];
    for (path, fields) in weak {
        let page = world.page(&origin, path);
        page.will(begun(&fields, 150_000));
        assert!(!page.get("").complete, "{path}");
        assert_eq!(page.asked(), 1, "{path}");
    }
}

/// RFC 9530: a digest is that of the whole, whichever answers it came in.
#[test]
fn f4_a_continued_body_has_the_digest_that_was_announced() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |_| {});
    let digest = |of: &str| {
        let digest = Sha256::of(of.as_bytes()).repr_digest();
        format!("{TAG}\nRepr-Digest: {}", digest.to_str().unwrap())
    };
    let (right, wrong) = (digest(&body(200_000)), digest("another"));
    for (path, first, second, complete) in [
        ("/right", right.as_str(), right.as_str(), true),
        ("/first-wrong", &wrong, TAG, false),
        ("/second-wrong", TAG, &wrong, false),
    ] {
        let page = world.page(&origin, path);
        page.will(begun(first, 150_000)).will(rest(second, 150_000));
        let got = page.get("");
        assert_eq!(got.complete, complete, "{path}");
        page.answers(200, FRESH, "new");
        assert_eq!(page.get("").is_hit(), complete, "{path}");
    }
}

/// F2: an exchange without an answer is not repeated for each who wanted it, for a moment.
#[test]
fn f2_an_exchange_that_got_no_answer_is_not_repeated_at_once() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |config| {
        config.http.first_byte_timeout = Period::millis(200);
        config.http.connect_timeout = Period::millis(200);
        config.http.retry = Period::secs(0);
        config.fill.failed_memory = Period::secs(600);
        config.fill.failed_memory_max = Period::secs(600);
    });
    let silent = world.page(&origin, "/silent");
    origin.falls_silent();
    let together = thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| silent.get(""))).collect();
        let got = asking.into_iter().map(|got| got.join().unwrap());
        got.collect::<Vec<_>>()
    });
    origin.speaks_again();
    for got in together.iter().chain([&silent.get("")]) {
        assert_eq!((got.status, &*reason(got)), (504, "origin-timeout"));
    }
    assert_eq!(
        silent.get("").cache(),
        "fwd=uri-miss; detail=failed-recently"
    );
    assert_eq!(silent.asked(), 1);
    // Who wants the origin asked has it asked, and what comes is news for all.
    silent.answers(200, FRESH, "well");
    assert_eq!(silent.get("Cache-Control: no-cache").body, "well");
    assert!(silent.get("").is_hit());

    // Nobody may stand between a change and those who ask afterwards.
    let changed = world.page(&origin, "/changed");
    assert_eq!(reason(&changed.get("")), "origin-broken");
    let asked = changed.asked();
    assert_eq!(reason(&changed.get("")), "origin-broken");
    assert_eq!(changed.asked(), asked);
    changed.answers(204, "", "").answers(200, FRESH, "well");
    assert_eq!(changed.ask("POST", "", "x").status, 204);
    assert_eq!(changed.get("").body, "well");

    // What is given stale meanwhile isn't asked for again each time either.
    let stale = world.page(&origin, "/stale");
    let fields = "Cache-Control: max-age=60, stale-while-revalidate=600\nAge: 70";
    stale.answers(200, fields, "old");
    stale.get("");
    assert_eq!(stale.get("").body, "old");
    stale.wait_asked(3);
    let is_quiet = || world.metric("modcdn_edge_fills_running") == 0;
    until(is_quiet);
    let asked = stale.asked();
    for _ in 0..3 {
        assert_eq!(stale.get("").body, "old");
    }
    until(is_quiet);
    assert_eq!(stale.asked(), asked);
}

/// F2: what the origin did answer says itself how long it is good for.
#[test]
fn f2_an_answer_of_the_origin_is_never_remembered_as_a_failure() {
    let origin = Origin::start();
    let world = World::start(&[("/", &origin)], |config| {
        config.fill.failed_memory = Period::secs(600);
        config.fill.failed_memory_max = Period::secs(600);
    });
    let zeros = "Repr-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    let answers = [
        ("/no-store", 503, "Cache-Control: no-store"),
        ("/silent", 500, ""),
        ("/too-many", 429, ""),
        ("/wrong", 200, &*format!("{FRESH}\n{zeros}")),
    ];
    for (path, status, fields) in answers {
        let page = world.page(&origin, path);
        page.answers(status, fields, "no")
            .answers(200, FRESH, "well");
        assert_ne!(page.get("").body, "well", "{path}");
        assert_eq!(page.get("").body, "well", "{path}");
    }
    let kept = world.page(&origin, "/kept");
    kept.answers(503, FRESH, "busy").answers(200, FRESH, "well");
    for _ in 0..2 {
        assert_eq!(kept.get("").body, "busy", "as long as it says");
    }
}

/// F10: clients that don't read what passes through keep nobody from the origin but each other, and of
/// them there are no more than may be.
#[test]
fn f10_slow_clients_of_what_passes_through_hold_no_place_that_others_need() {
    let origin = Origin::start();
    // More than sockets take in.
    let long = "x".repeat(32 << 20);
    let world = World::start(&[("/", &origin)], |config| {
        config.http.requests = 1;
        config.http.relays = 3;
        config.http.queue_wait = Period::millis(200);
    });
    let kept = world.page(&origin, "/kept");
    for n in 0..20 {
        kept.answers(200, &format!("{FRESH}\nVary: X-{n}"), "kept");
    }
    let running = |kind| format!("modcdn_edge_mount_{kind}_running{{mount=\"/\"}}");
    let mut slow = Vec::new();
    for n in 0..3 {
        // The first of each URL is known to be one client's only when its head is here.
        let page = world.page(&origin, &format!("/slow/{}", n / 2));
        page.answers(200, "Cache-Control: no-store", &long);
        let (status, stream) = page.get_and_read_nothing();
        assert_eq!(status, 200, "{n}");
        slow.push(stream);
        assert_eq!(kept.get("Cache-Control: no-cache").body, "kept", "{n}");
    }
    assert_eq!(
        (
            world.metric(&running("relays")),
            world.metric(&running("requests"))
        ),
        (3, 0)
    );
    for method in ["GET", "POST"] {
        let page = world.page(&origin, &format!("/more/{method}"));
        page.answers(200, "Cache-Control: no-store", "more");
        let got = page.ask(method, "", "");
        assert_eq!(
            (got.status, &*reason(&got)),
            (503, "overloaded"),
            "{method}"
        );
        assert_eq!(kept.get("Cache-Control: no-cache").body, "kept", "{method}");
    }
    let posted = world.page(&origin, "/more/POST");
    assert_eq!(
        posted.asked(),
        0,
        "what has effects is not refused afterwards"
    );
    drop(slow);
    until(|| world.metric(&running("relays")) == 0);
    assert_eq!(posted.ask("POST", "", "").body, "more");
}

/// F10: the same of clients that are slow to send.
#[test]
fn f10_slow_uploads_hold_no_place_that_others_need() {
    let origin = Origin::start();
    origin.otherwise(Reply::new(200, FRESH, "well"));
    let world = World::start(&[("/", &origin)], |config| config.http.requests = 1);
    let page = world.page(&origin, "/page");
    let uploads: Vec<_> = (0..5).map(|_| page.begin_upload()).collect();
    until(|| world.metric("modcdn_edge_mount_relays_running{mount=\"/\"}") == 5);
    assert_eq!(page.get("").body, "well");
    drop(uploads);
}
