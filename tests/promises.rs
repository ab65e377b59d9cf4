//! PROMISES.md, with the fault injected for real.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::http::{Client, Reply};
use harness::modules::{LARGE, Modules, UPPER_CASE};
use harness::node::{Node, files};
use harness::observe::accesses;
use harness::upstream::{Answer, Gate, Upstream};
use harness::{until, until_true};

/// An answer is right, or visibly none: never complete with other bytes.
fn never_wrong(answer: &Reply, right: &[u8]) {
    let wrong = answer.status == 200 && answer.complete && answer.body != right;
    assert!(
        !wrong,
        "a complete answer of {} wrong bytes",
        answer.body.len()
    );
}

#[test]
fn f1_with_the_origin_down_hits_are_served_and_misses_fail_with_a_text() {
    let mut origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, "");
    let client = Client::h1(edge.url());
    let hits = [
        format!("{LARGE}.zip"),
        format!("{UPPER_CASE}.mod"),
        format!("{UPPER_CASE}.info"),
    ];
    for path in &hits {
        client.get(path).ok();
    }
    origin.kill();
    for path in &hits {
        let answer = client.get(path).ok();
        assert!(
            answer.body == Modules::fetch().read(path),
            "{path} has other bytes"
        );
        assert!(
            answer.header("cache-status").contains("hit"),
            "{:?}",
            answer.headers
        );
    }
    for path in [
        format!("{UPPER_CASE}.zip"),
        "/example.com/m/@v/list".to_owned(),
    ] {
        let answer = client.get(&path);
        assert!(
            [502, 504].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.text()
        );
        assert!(
            answer.header("modcdn-reason").starts_with("origin-"),
            "{:?}",
            answer.headers
        );
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.body.is_empty(), "a person needs a text");
    }
}

#[test]
fn f1_with_the_origin_down_mutable_answers_are_served_stale_and_say_so() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0"], b"");
    let short = "freshness: {mutable: 1s, stale_while_revalidate: 1s, stale_if_error: 1h}";
    let mut origin = Node::origin(&upstream.url(), short);
    let edge = Node::edge(&origin, "");
    let client = Client::h1(edge.url());
    let path = "/example.com/m/@v/list";
    let fresh = client.get(path).ok();
    origin.kill();
    let stale = until("an answer past its freshness", || {
        let answer = client.get(path).ok();
        let age: u64 = answer.header("age").parse().unwrap_or_default();
        // Past max-age and stale-while-revalidate together.
        (age > 2).then_some(answer)
    });
    assert_eq!(stale.body, fresh.body);
    let status = stale.header("cache-status");
    assert!(
        status.contains("ttl=-") || status.contains("stale"),
        "{status}"
    );
    until_true("`stale` in the edge's access log", || {
        accesses(&edge.access_log(), path)
            .iter()
            .any(|access| access.field("cache") == "stale")
    });
}

#[test]
fn f1_a_dead_origin_that_comes_back_is_used_again() {
    let mut origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, "");
    let client = Client::h1(edge.url());
    let path = format!("{LARGE}.zip");
    client.get(&format!("{UPPER_CASE}.mod")).ok();
    origin.kill();
    assert_ne!(client.get(&path).status, 200);
    origin.start();
    let answer = until("a success", || {
        let answer = client.get(&path);
        (answer.status == 200).then_some(answer)
    });
    assert!(
        answer.ok().body == Modules::fetch().read(&path),
        "other bytes"
    );
}

#[test]
fn f5_a_byte_flipped_on_disk_is_found_and_the_object_fetched_again() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{LARGE}.zip");
    let right = Modules::fetch().read(&path);
    Client::h1(edge.url()).get(&path).ok();
    let object = until("the object in the store", || object_of(&edge, right.len()));
    edge.stop();
    let mut bytes = fs::read(&object).expect("the object");
    assert!(bytes == right, "a body is stored as it is");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&object, &bytes).expect("the object can be written");
    edge.start();

    let before = accesses(&origin.access_log(), &path).len();
    let client = Client::h1(edge.url());
    until_true("the right bytes again", || {
        let answer = client.get(&path);
        never_wrong(&answer, &right);
        answer.status == 200 && answer.complete
    });
    until_true("a second fetch from the origin", || {
        accesses(&origin.access_log(), &path).len() > before
    });
}

#[test]
fn f5_a_range_of_a_damaged_object_is_never_complete_with_wrong_bytes() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{LARGE}.zip");
    let right = Modules::fetch().read(&path);
    Client::h1(edge.url()).get(&path).ok();
    let object = until("the object in the store", || object_of(&edge, right.len()));
    edge.stop();
    let mut bytes = right.clone();
    bytes[1000] ^= 0x01;
    fs::write(&object, &bytes).expect("the object can be written");
    edge.start();

    let client = Client::h1(edge.url());
    until_true("the right range", || {
        let answer = client.get_with(&path, &[("range", "bytes=900-1099")]);
        if !answer.complete || answer.status != 206 {
            return false;
        }
        assert!(
            answer.body == right[900..1100],
            "a complete range of wrong bytes"
        );
        true
    });
}

#[test]
fn f5_a_byte_flipped_in_a_small_packed_body_is_found_too() {
    let mut origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{UPPER_CASE}.info");
    let right = Modules::fetch().read(&path);
    Client::h1(edge.url()).get(&path).ok();
    edge.stop();
    let flipped = files(&edge.store())
        .into_iter()
        .any(|(file, _)| flip_in(&file, &right));
    assert!(flipped, "the body is nowhere in the store");
    edge.start();
    origin.kill();
    let answer = Client::h1(edge.url()).get(&path);
    never_wrong(&answer, &right);
    assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
    origin.start();
    until_true("the right bytes again", || {
        let answer = Client::h1(edge.url()).get(&path);
        never_wrong(&answer, &right);
        answer.status == 200 && answer.complete
    });
}

/// Flips a bit of `body` where it stands in `file`, if it does.
fn flip_in(file: &Path, body: &[u8]) -> bool {
    let mut bytes = fs::read(file).expect("a readable store");
    let Some(at) = bytes.windows(body.len()).position(|window| window == body) else {
        return false;
    };
    bytes[at + body.len() / 2] ^= 0x04;
    fs::write(file, bytes).expect("a writable store");
    true
}

#[test]
fn f6_garbage_in_the_index_costs_fetches_and_nothing_else() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let paths = [
        format!("{LARGE}.zip"),
        format!("{LARGE}.mod"),
        format!("{UPPER_CASE}.info"),
    ];
    for path in &paths {
        Client::h1(edge.url()).get(path).ok();
    }
    edge.stop();
    for (file, size) in files(&edge.store()) {
        if !file.starts_with(edge.store().join("objects")) && size > 0 {
            let garbage: Vec<u8> = (0..size)
                .map(|n| (n.wrapping_mul(167) >> 3) as u8)
                .collect();
            fs::write(file, garbage).expect("the index can be written");
        }
    }
    edge.start();
    for path in &paths {
        let answer = Client::h1(edge.url()).get(path).ok();
        assert!(
            answer.body == Modules::fetch().read(path),
            "{path} has other bytes"
        );
    }
}

#[test]
fn f7_after_kill_9_in_mid_fill_the_object_is_absent_or_whole_and_nothing_is_left_over() {
    let upstream = Upstream::start();
    let blob: Vec<u8> = (0..6_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let zip = harness::zip::module_zip("example.com/big", "v1.0.0", &[("blob", &blob)]);
    let path = "/example.com/big/@v/v1.0.0.zip";
    let gate = Gate::closed();
    upstream.answer(
        path,
        Answer::Gated(zip.clone().into(), zip.len() / 2, gate.clone()),
    );
    let origin = Node::origin(&upstream.url(), "");
    let mut edge = Node::edge(&origin, "");
    let empty = total(&edge);

    let mut following = Client::h1(edge.url()).follow(path);
    following.read_at_least(zip.len() / 4);
    until_true("bytes of the fill on disk", || {
        total(&edge) > empty + (1 << 20)
    });
    edge.kill();
    let cut = following.finish();
    assert!(!cut.complete, "the kill must be visible to the client");

    edge.start();
    let leftovers = files(&edge.store().join("spool"));
    assert!(leftovers.is_empty(), "{leftovers:?}");
    assert!(object_of(&edge, zip.len()).is_none(), "it was never whole");
    gate.open();
    let client = Client::h1(edge.url());
    let answer = until("the whole object", || {
        let answer = client.get(path);
        never_wrong(&answer, &zip);
        (answer.status == 200 && answer.complete).then_some(answer)
    });
    assert!(answer.body == zip, "other bytes");
}

#[test]
fn what_was_cached_before_a_kill_9_is_served_after_it() {
    let mut origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let paths = [
        format!("{LARGE}.zip"),
        format!("{LARGE}.mod"),
        format!("{UPPER_CASE}.info"),
    ];
    for path in &paths {
        Client::h1(edge.url()).get(path).ok();
    }
    until("the object in the store", || {
        object_of(&edge, Modules::fetch().read(&paths[0]).len())
    });
    edge.stop();
    origin.kill();
    edge.start();
    edge.kill();
    edge.start();
    for path in &paths {
        let answer = Client::h1(edge.url()).get(path).ok();
        assert!(
            answer.body == Modules::fetch().read(path),
            "{path} has other bytes"
        );
    }
}

#[test]
fn a_body_that_the_upstream_breaks_off_is_never_complete_and_never_stored() {
    let upstream = Upstream::start();
    let zip = harness::zip::module_zip("example.com/cut", "v1.0.0", &[("blob", &[9; 3_000_000])]);
    let path = "/example.com/cut/@v/v1.0.0.zip";
    upstream.answer(path, Answer::Truncated(zip.clone().into(), zip.len() / 2));
    let origin = Node::origin(&upstream.url(), "");
    let edge = Node::edge(&origin, "");
    for base in [edge.url(), origin.url()] {
        for client in [Client::h1(base), Client::h2(base)] {
            // A reset before the head is as visible as one after it.
            let Ok(answer) = client.send(&http::Method::GET, path, &[]) else {
                continue;
            };
            assert!(
                answer.status != 200 || !answer.complete,
                "a complete answer"
            );
            assert!(![404, 410].contains(&answer.status), "a failure is no 404");
        }
    }
    upstream.body(path, zip.clone());
    let answer = until("the whole zip", || {
        let answer = Client::h1(edge.url()).get(path);
        never_wrong(&answer, &zip);
        (answer.status == 200 && answer.complete).then_some(answer)
    });
    assert!(answer.body == zip, "other bytes");
}

#[test]
fn failures_of_the_upstream_are_no_404s_and_not_stored() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0"], b"");
    let path = "/example.com/m/@v/v1.0.0.info";
    let origin = Node::origin(&upstream.url(), "timeouts: {first_byte: 1s}");
    let edge = Node::edge(&origin, "fill: {failed_memory: 0s}");
    let client = Client::h1(edge.url());
    for (failure, statuses) in [
        (Answer::Status(500, "no\n"), &[502][..]),
        (Answer::Status(403, "not for you\n"), &[502, 403]),
        (Answer::Body("{\"Version\":\"v9.9.9\"}".into()), &[502]),
        (Answer::Body("not json".into()), &[502]),
        (Answer::Hang, &[504]),
        // The last, since the upstream isn't asked for a moment after that.
        (Answer::Status(429, "slow down\n"), &[502, 503]),
    ] {
        upstream.answer(path, failure);
        let answer = client.get(path);
        assert!(
            statuses.contains(&answer.status),
            "{} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    upstream.body(path, harness::upstream::info("v1.0.0"));
    until_true("the right answer", || client.get(path).status == 200);
}

/// The file of the store's objects with that many bytes.
fn object_of(edge: &Node, length: usize) -> Option<PathBuf> {
    let objects = files(&edge.store().join("objects"));
    objects
        .into_iter()
        .find(|(_, size)| *size == length as u64)
        .map(|(file, _)| file)
}

/// The bytes in the edge's store.
fn total(edge: &Node) -> u64 {
    files(&edge.store()).iter().map(|(_, size)| size).sum()
}
