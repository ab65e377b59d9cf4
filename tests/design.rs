//! The design's own sentences, measured at the wire, in metrics and in access logs.

mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::cluster::Cluster;
use harness::http::Client;
use harness::modules::{INCOMPATIBLE, LARGE, Modules, PSEUDO, UPPER_CASE};
use harness::node::{Node, files};
use harness::observe::{Metrics, access_log, accesses};
use harness::upstream::{Answer, BlackHole, Gate, Upstream};
use harness::{until, until_true};

/// An edge that waits a second for its origin, whichever way that is silent.
const EDGE_BOUND_1S: &str = "origin: {connect_timeout: 1s, first_byte_timeout: 1s}";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

#[test]
fn versioned_files_are_immutable_and_byte_for_byte_those_of_the_upstream() {
    let cluster = Cluster::start();
    let edge = cluster.node("eu").http();
    let clients = [
        Client::h1(edge),
        Client::h2(edge),
        Client::h1(cluster.node("origin").http()),
    ];
    for version in [UPPER_CASE, INCOMPATIBLE, PSEUDO, LARGE] {
        for kind in ["info", "mod", "zip"] {
            let path = format!("{version}.{kind}");
            for client in &clients {
                let answer = client.get(&path).ok();
                assert_eq!(answer.header("cache-control"), IMMUTABLE, "{path}");
                assert!(
                    answer.body == Modules::fetch().read(&path),
                    "{path} has other bytes"
                );
            }
        }
    }
}

#[test]
fn headers_name_the_body_and_the_cache() {
    let cluster = Cluster::start();
    let path = format!("{LARGE}.zip");
    let digest = modcdn_core::digest::Sha256::of(&Modules::fetch().read(&path));
    let client = Client::h2(cluster.node("eu").http());
    client.get(&path).ok();
    let hit = client.get(&path).ok();
    assert_eq!(hit.header("etag"), format!("\"{digest}\""));
    assert_eq!(hit.headers["repr-digest"], digest.repr_digest());
    assert_eq!(hit.header("content-length"), hit.body.len().to_string());
    assert_eq!(hit.header("content-type"), "application/zip");
    assert!(
        hit.header("cache-status").contains("hit"),
        "{:?}",
        hit.headers
    );
    assert!(
        hit.header("age").parse::<u64>().is_ok(),
        "{:?}",
        hit.headers
    );

    let head = client.head(&path);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), hit.body.len().to_string());
    let unchanged = client.get_with(&path, &[("if-none-match", hit.header("etag"))]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

#[test]
fn two_hundred_cold_zips_cost_the_origin_few_connections_all_http2() {
    const ZIPS: usize = 200;
    let upstream = Upstream::start();
    let mut paths = Vec::new();
    for number in 0..ZIPS {
        let module = format!("example.com/many/m{number:03}");
        upstream.module(&module, &["v1.0.0"], &vec![b'x'; 20_000 + number]);
        paths.push(format!("/{module}/@v/v1.0.0.zip"));
    }
    let origin = Node::origin(&upstream.url(), "");
    let edge = Node::edge(&origin, "");
    for (answer, path) in Client::h1(edge.url())
        .get_all(&paths)
        .into_iter()
        .zip(&paths)
    {
        let length = answer.ok().body.len();
        assert!(length > 20_000, "{path}: {length} bytes");
    }

    let metrics = Metrics::scrape(origin.admin());
    let requests = metrics.expect(
        "modcdn_origin_protocol_requests_total",
        &[("protocol", "HTTP/2")],
    );
    let connections = metrics.expect("modcdn_origin_connections_total", &[("protocol", "HTTP/2")]);
    assert!(requests >= ZIPS as f64, "{requests} requests");
    assert!(
        connections <= ZIPS as f64 / 10.0,
        "{connections} connections for {requests} requests"
    );
    let older = metrics.value(
        "modcdn_origin_protocol_requests_total",
        &[("protocol", "HTTP/1.1")],
    );
    assert!(older == 0.0, "{older} requests over HTTP/1.1");

    let log = until("all requests in the origin's access log", || {
        let log = access_log(&origin.access_log());
        (log.len() >= ZIPS).then_some(log)
    });
    let protocols: BTreeSet<String> = log.iter().map(|access| access.field("protocol")).collect();
    assert_eq!(protocols, BTreeSet::from(["HTTP/2".to_owned()]));
    // Our edge's count agrees with the origin's.
    let opened = Metrics::scrape(edge.admin()).expect("modcdn_edge_origin_connections_total", &[]);
    assert!(opened <= ZIPS as f64 / 10.0, "{opened} connections opened");
}

#[test]
fn a_list_past_its_freshness_is_revalidated_by_a_304_without_a_body() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0", "v1.1.0"], b"");
    let origin = Node::origin(
        &upstream.url(),
        "freshness: {mutable: 1s, stale_while_revalidate: 1s, stale_if_error: 1h}",
    );
    let edge = Node::edge(&origin, "");
    let client = Client::h1(edge.url());
    let path = "/example.com/m/@v/list";
    let first = client.get(path).ok();
    assert!(
        first.header("cache-control").contains("max-age=1,"),
        "{:?}",
        first.headers
    );

    let revalidation = until("a 304 in the origin's access log", || {
        assert_eq!(client.get(path).ok().body, first.body);
        let log = accesses(&origin.access_log(), path);
        log.into_iter()
            .find(|access| access.number("status") == Some(304))
    });
    assert_eq!(revalidation.number("bytes"), Some(0));
    until_true("the edge to be fresh again", || {
        let answer = client.get(path).ok();
        answer.header("age") == "0" && answer.header("cache-status").contains("hit")
    });

    upstream.body(path, "v1.0.0\nv1.1.0\nv1.2.0\n");
    until_true("the new tag at the edge", || {
        client.get(path).ok().text().contains("v1.2.0")
    });
}

#[test]
fn a_black_holed_origin_is_a_504_with_a_text_within_the_bound() {
    let hole = BlackHole::open();
    let bound = Duration::from_secs(1);
    let edge = Node::edge_at(&hole.address().to_string(), EDGE_BOUND_1S);
    let client = Client::h1(edge.url());
    for path in [format!("{LARGE}.zip"), "/example.com/m/@v/list".to_owned()] {
        let start = Instant::now();
        let answer = client.get(&path);
        let took = start.elapsed();
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(
            took < bound + Duration::from_secs(1),
            "{path} took {took:?}"
        );
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("modcdn-reason"), "origin-timeout");
        assert!(answer.text().lines().count() <= 8 && answer.body.len() <= 648);
        assert!(answer.text().contains("origin"), "{}", answer.text());
    }
    assert!(hole.connections() > 0, "the edge did try");
}

#[test]
fn a_hundred_clients_asking_for_one_cold_zip_make_one_origin_request() {
    let upstream = Upstream::start();
    upstream.module("example.com/big", &["v1.0.0"], b"");
    let path = "/example.com/big/@v/v1.0.0.zip";
    let blob: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 2])
        .collect();
    let zip = harness::zip::module_zip("example.com/big", "v1.0.0", &[("blob", &blob)]);
    let gate = Gate::closed();
    upstream.answer(
        path,
        Answer::Gated(zip.clone().into(), zip.len() / 2, gate.clone()),
    );
    let origin = Node::origin(&upstream.url(), "");
    let edge = Node::edge(&origin, "");

    let paths = vec![path.to_owned(); 100];
    let client = Client::h1(edge.url());
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.get_all(&paths));
        until_true("all hundred at the edge", || {
            let in_flight =
                Metrics::scrape(edge.admin()).value("modcdn_edge_requests_in_flight", &[]);
            in_flight >= 100.0
        });
        gate.open();
        asking.join().expect("all were answered")
    });
    for answer in answers {
        assert!(answer.ok().body == zip, "other bytes");
    }
    assert_eq!(upstream.requests(path), 1);
    until_true("the request in the origin's access log", || {
        !accesses(&origin.access_log(), path).is_empty()
    });
    assert_eq!(accesses(&origin.access_log(), path).len(), 1);
}

#[test]
fn the_first_bytes_reach_the_client_before_the_last_leave_the_upstream() {
    let upstream = Upstream::start();
    let zip = harness::zip::module_zip("example.com/s", "v1.0.0", &[("blob", &[7; 4_000_000])]);
    let gate = Gate::closed();
    let path = "/example.com/s/@v/v1.0.0.zip";
    upstream.answer(
        path,
        Answer::Gated(zip.clone().into(), zip.len() / 2, gate.clone()),
    );
    let origin = Node::origin(&upstream.url(), "");
    let edge = Node::edge(&origin, "");
    let mut following = Client::h1(edge.url()).follow(path);
    assert_eq!(following.status(), 200);
    following.read_at_least(zip.len() / 4);
    gate.open();
    let answer = following.finish().ok();
    assert!(answer.body == zip, "other bytes");
}

#[test]
fn only_stored_things_are_asked_for_without_a_fetch() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0"], b"");
    let origin = Node::origin(&upstream.url(), "");
    let edge = Node::edge(&origin, "");
    let client = Client::h1(edge.url());
    let path = "/example.com/m/@v/v1.0.0.mod";
    let stored_only = [("disable-module-fetch", "true")];
    assert_eq!(client.get_with(path, &stored_only).status, 404);
    assert_eq!(upstream.all_requests(), 0);
    // That 404 says nothing about the module, so it isn't remembered.
    client.get(path).ok();
    client.get_with(path, &stored_only).ok();
}

#[test]
fn access_logs_have_the_documented_fields() {
    let origin = Node::origin(&Modules::fetch().url(), "name: far");
    let edge = Node::edge(&origin, "name: near");
    let path = format!("{UPPER_CASE}.mod");
    let body = Client::h2(edge.url()).get(&path).ok().body;
    Client::h1(edge.url()).get("/nothing");
    for (node, role, name) in [(&edge, "edge", "near"), (&origin, "origin", "far")] {
        let line = until("the request in the access log", || {
            accesses(&node.access_log(), &path).pop()
        });
        for (field, value) in [
            ("role", role),
            ("name", name),
            ("method", "GET"),
            ("protocol", "HTTP/2"),
            ("status", "200"),
            ("bytes", &body.len().to_string()),
            ("cache", if role == "edge" { "miss" } else { "" }),
            ("reason", ""),
        ] {
            assert_eq!(line.field(field), value, "{field} of {role}: {line:?}");
        }
        assert!(line.field("client").starts_with("127.0.0.1"), "{line:?}");
        assert!(
            line.field("ts").contains('T') && !line.field("ms").is_empty(),
            "{line:?}"
        );
    }
    let refused = until("the refusal in the access log", || {
        access_log(&edge.access_log())
            .into_iter()
            .find(|line| line.number("status") == Some(400))
    });
    assert_eq!(refused.field("reason"), "bad-request");
}

#[test]
fn the_cache_stays_within_its_bounds_and_right() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let bounds = "store: {disk: 2MiB, ram: 1MiB, ram_body: 512KiB, loose: 64KiB}";
    let edge = Node::edge(&origin, bounds);
    let client = Client::h1(edge.url());
    for _ in 0..3 {
        for path in Modules::fetch().zips() {
            let answer = client.get(&path).ok();
            assert!(
                answer.body == Modules::fetch().read(&path),
                "{path} has other bytes"
            );
        }
    }
    until_true("the store to be within its bound", || {
        let bytes: u64 = files(&edge.store()).iter().map(|(_, size)| size).sum();
        bytes <= 2 << 20
    });
}
