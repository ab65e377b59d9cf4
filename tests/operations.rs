//! What an operator does to a running edge, and what goes wrong with it: PROMISES.md, F17 to F22.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use harness::certificate::Certificate;
use harness::go::Go;
use harness::http::Client;
use harness::modules::{LARGE, Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{Metrics, accesses};
use harness::raw;
use harness::scratch::Scratch;
use harness::{ports, until_true};

/// The value of a metric of an edge.
fn metric(edge: &Node, name: &str, labels: &[(&str, &str)]) -> f64 {
    Metrics::scrape(edge.admin()).value(name, labels)
}

#[test]
fn f17_a_broken_certificate_is_refused_and_a_good_one_is_taken_up() {
    let scratch = Scratch::new("certificate");
    let certificate = Certificate::in_folder(&scratch.folder("tls"));
    let old = scratch.path().join("old.pem");
    fs::copy(certificate.file(), &old).expect("a copy");
    let address = format!("127.0.0.1:{}", ports::free());
    let origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, &format!("tls: {}", certificate.section(&address)));
    let url = format!("https://{address}");
    let path = format!("{UPPER_CASE}.mod");
    let connected = Client::tls_h2(&url, &old);
    connected.get(&path).ok();
    let failures = || metric(&edge, "modcdn_edge_certificate_reload_failures_total", &[]);
    let refused = |what: &str| {
        let before = failures();
        until_true(what, || failures() > before);
        Client::tls_h1(&url, &old).get(&path).ok();
    };
    certificate.renew(2020, 2021);
    refused("an expired certificate to be refused");
    certificate.renew(2099, 2100);
    refused("a certificate of the future to be refused");
    fs::write(certificate.file(), "garbage").expect("the certificate can be written");
    refused("garbage to be refused");

    certificate.renew(2020, 2100);
    until_true("the new certificate in handshakes", || {
        let client = Client::tls_h1(&url, &certificate.file());
        client.send(&http::Method::GET, &path, &[]).is_ok()
    });
    connected.get(&path).ok();
    let days = Metrics::scrape(edge.admin()).expect("modcdn_edge_certificate_days_left", &[]);
    assert!((20_000.0..40_000.0).contains(&days), "{days}");
}

#[test]
fn f18_a_reload_with_an_error_is_refused_whole_and_says_where() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{UPPER_CASE}.mod");
    let before = Client::h2(edge.url());
    before.get(&path).ok();
    let outcome =
        |edge: &Node, outcome| metric(edge, "modcdn_edge_reloads_total", &[("outcome", outcome)]);
    let good = fs::read_to_string(edge.config()).expect("the configuration");

    edge.write_config(&format!(
        "{good}\nhosts: [other.test]\nlimits:\n  conections: 7\n"
    ));
    edge.signal(libc::SIGHUP);
    until_true("the refusal", || outcome(&edge, "refused") == 1.0);
    let lines = good.lines().count();
    let place = format!("edge.yaml:{}:3: ", lines + 4);
    assert!(edge.log().contains(&place), "{place} in {}", edge.log());

    edge.write_config(&format!("{good}\nhosts: [other.test]\nthreads: 7\n"));
    edge.signal(libc::SIGHUP);
    until_true("the refusal", || outcome(&edge, "refused") == 2.0);
    assert!(
        edge.log().contains("threads: needs a restart"),
        "{}",
        edge.log()
    );
    Client::h1(edge.url()).get(&path).ok();

    edge.write_config(&format!("{good}\nhosts: [other.test]\n"));
    edge.signal(libc::SIGHUP);
    until_true("the reload", || outcome(&edge, "applied") == 1.0);
    assert_eq!(Client::h1(edge.url()).get(&path).status, 421);
    let named = Client::h1(edge.url());
    let host = [("host", "other.test")];
    named.get_with(&path, &host).ok();
    before.get(&path).ok();
}

#[test]
fn another_origin_is_asked_after_a_reload_and_no_request_fails() {
    let first = Node::origin(&Modules::fetch().url(), "");
    let second = Node::origin(&Modules::fetch().url(), "");
    // Bodies are long and nothing is stored for long: the origin is asked all the time.
    let mut edge = Node::edge(
        &first,
        "freshness: {max: 0s, stale_while_revalidate: 0s, stale_if_error: 0s}",
    );
    let good = fs::read_to_string(edge.config()).expect("the configuration");
    let path = format!("{UPPER_CASE}.mod");
    let list = format!("{}/@v/list", UPPER_CASE.split("/@v/").next().unwrap_or(""));
    let url = edge.url().to_owned();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let client = Client::h2(&url);
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                client.get(&list).ok();
                asked += 1;
            }
            asked
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for (times, origin) in [(1.0, &second), (2.0, &first), (3.0, &second)] {
            edge.write_config(&good.replace(first.address(), origin.address()));
            edge.signal(libc::SIGHUP);
            let applied = [("outcome", "applied")];
            until_true("the reload", || {
                metric(&edge, "modcdn_edge_reloads_total", &applied) == times
            });
            let before = accesses(&origin.access_log(), &list).len();
            until_true("requests at the new origin", || {
                accesses(&origin.access_log(), &list).len() > before
            });
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(
                client
                    .join()
                    .expect("a client whose requests all were right")
                    > 0
            );
        }
    });
    drop(first);
    Client::h1(edge.url()).get(&path).ok();
}

#[test]
fn a_rotated_access_log_goes_on_in_a_new_file() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{UPPER_CASE}.mod");
    Client::h1(edge.url()).get(&path).ok();
    let log = edge.access_log();
    until_true("the request in the log", || {
        accesses(&log, &path).len() == 1
    });
    let rotated = log.with_extension("1");
    fs::rename(&log, &rotated).expect("the log can be renamed");
    Client::h1(edge.url()).get(&path).ok();
    until_true("the request in the renamed log", || {
        accesses(&rotated, &path).len() == 2
    });
    edge.signal(libc::SIGHUP);
    let applied = [("outcome", "applied")];
    until_true("the reload", || {
        metric(&edge, "modcdn_edge_reloads_total", &applied) == 1.0
    });
    Client::h1(edge.url()).get(&path).ok();
    until_true("the request in the new log", || {
        accesses(&log, &path).len() == 1
    });
    assert_eq!(accesses(&rotated, &path).len(), 2);
}

#[test]
fn f20_without_descriptors_new_connections_are_shed_and_all_else_goes_on() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "threads: 1");
    edge.stop();
    edge.start_with_open_files(256);
    let mut early = TcpStream::connect(edge.address()).expect("a connection");
    let crowd: Vec<TcpStream> = (0..600)
        .filter_map(|_| TcpStream::connect(edge.address()).ok())
        .collect();
    let shed = || metric(&edge, "modcdn_edge_connections_shed_total", &[]);
    until_true("connections to be shed", || shed() > 300.0);
    // A miss: it needs descriptors for the origin and for the store.
    let path = format!("{UPPER_CASE}.zip");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        edge.address()
    );
    early
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    early.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    early.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert!(answer.ends_with(&Modules::fetch().read(&path)));
    drop(crowd);
    until_true("service as ever", || {
        let answer = Client::h1(edge.url()).send(&http::Method::GET, &path, &[]);
        answer.is_ok_and(|answer| answer.status == 200)
    });
    assert_eq!(metric(&edge, "modcdn_edge_all_panics_total", &[]), 0.0);
}

#[test]
fn behind_a_balancer_the_log_names_the_client() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, "proxy_protocol: {trusted: [127.0.0.0/8]}");
    let path = format!("{UPPER_CASE}.mod");
    let request = format!(
        "PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n\
         GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        edge.address()
    );
    let answer = raw::exchange(edge.address(), request.as_bytes(), Duration::from_secs(20));
    assert_eq!(answer.status(), Some(200));
    until_true("the client in the access log", || {
        let lines = accesses(&edge.access_log(), &path);
        lines.iter().any(|line| line.field("client") == "192.0.2.7")
    });
    let bare = Client::h1(edge.url()).send(&http::Method::GET, &path, &[]);
    assert!(bare.is_err(), "a balancer must say who it speaks for");
    let failures = metric(&edge, "modcdn_edge_proxy_protocol_failures_total", &[]);
    assert!(failures >= 1.0, "{failures}");
}

/// Asks for a path again and again until told to stop; says how often, and what went wrong.
fn load(client: &Client, path: &str, stop: &AtomicBool) -> (u32, Vec<String>) {
    let right = Modules::fetch().read(path);
    let (mut asked, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        let mut answer = client.send(&http::Method::GET, path, &[]);
        if answer.as_ref().is_err_and(|error| never_sent(error)) {
            answer = client.send(&http::Method::GET, path, &[]);
        }
        match answer {
            Ok(answer) if answer.status == 200 && answer.complete && answer.body == right => {}
            Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => failures.push(error),
        }
    }
    (asked, failures)
}

/// Whether an HTTP/2 client found its connection told to go (GOAWAY without an error) before the
/// request was on it. Every client then uses a new connection (RFC 9113 §6.8); ours is a bare one.
fn never_sent(error: &str) -> bool {
    error == "operation was canceled: connection closed"
        || error == "http2 error: connection error received: not a result of an error"
}

/// Runs `during` while clients of both protocols ask; none of their requests may fail.
fn without_a_failed_request(edge: &mut Node, during: impl FnOnce(&mut Node)) {
    let url = edge.url().to_owned();
    let stop = AtomicBool::new(false);
    let paths = [format!("{UPPER_CASE}.mod"), format!("{LARGE}.zip")];
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        for path in &paths {
            for client in [Client::h1(&url), Client::h2(&url), Client::h1(&url)] {
                let stop = &stop;
                clients.push(scope.spawn(move || load(&client, path, stop)));
            }
        }
        during(edge);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let (asked, failures) = client.join().expect("a client");
            assert!(asked > 0);
            assert!(failures.is_empty(), "of {asked} requests: {failures:?}");
        }
    });
}

#[test]
fn f22_an_upgrade_fails_no_request_and_keeps_what_is_stored() {
    let mut origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "threads: 2");
    let client = Client::h1(edge.url());
    let stored = [format!("{UPPER_CASE}.mod"), format!("{LARGE}.zip")];
    for path in &stored {
        client.get(path).ok();
    }
    without_a_failed_request(&mut edge, |edge| {
        for _ in 0..3 {
            edge.upgrade();
        }
    });
    // What the first process stored, the fourth one has; and it stores.
    let new = format!("{UPPER_CASE}.zip");
    client.get(&new).ok();
    origin.kill();
    for path in [&stored[0], &stored[1], &new] {
        let answer = client.get(path).ok();
        assert!(answer.header("cache-status").contains("hit"), "{path}");
    }
    let ready = Client::h1(&format!("http://{}", edge.admin())).get("/readyz");
    assert_eq!(ready.ok().text(), "ready\n");
    edge.stop();
}

#[test]
fn f22_a_real_go_notices_nothing_of_upgrades() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "threads: 2");
    let url = edge.url().to_owned();
    let stop = AtomicBool::new(false);
    let downloads = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                Go::with_proxy(&url).run(&["mod", "download"]).succeeds();
                downloads.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..3 {
            let before = downloads.load(Ordering::Relaxed);
            edge.upgrade();
            until_true("a whole download since", || {
                user.is_finished() || downloads.load(Ordering::Relaxed) > before + 1
            });
        }
        stop.store(true, Ordering::Relaxed);
        user.join().expect("every download succeeds");
    });
}

#[test]
fn f22_an_upgrade_that_fails_leaves_the_old_process_serving() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let good = fs::read_to_string(edge.config()).expect("the configuration");
    let pid = edge.pid();
    without_a_failed_request(&mut edge, |edge| {
        // It fails before it has asked for the store.
        edge.write_config(&format!("{good}\ntls: {{listen: ['127.0.0.1:1']}}\n"));
        let status = edge.try_upgrade().wait("the end of a wrong configuration");
        assert!(!status.success());
        edge.write_config(&good.replace("access.log", "no/such/folder/access.log"));
        let mut failing = edge.try_upgrade();
        let status = failing.wait("the end of an upgrade that can't be");
        assert!(!status.success() && failing.log().contains("access log"));
        edge.write_config(&good.replace("origin:", "origin:\n  ca: /no/such/file.pem"));
        let mut failing = edge.try_upgrade();
        let status = failing.wait("the end of an upgrade without its authorities");
        assert!(!status.success() && failing.log().contains("/no/such/file.pem"));
    });
    edge.write_config(&good);
    assert_eq!(edge.pid(), pid);
    let path = format!("{UPPER_CASE}.zip");
    Client::h1(edge.url()).get(&path).ok();
    assert!(
        Client::h1(edge.url())
            .get(&path)
            .ok()
            .header("cache-status")
            .contains("hit")
    );
}

#[test]
fn f22_sigusr2_starts_the_new_process() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let mut edge = Node::edge(&origin, "");
    let path = format!("{UPPER_CASE}.mod");
    Client::h1(edge.url()).get(&path).ok();
    without_a_failed_request(&mut edge, |edge| {
        edge.signal(libc::SIGUSR2);
        edge.wait();
    });
    // The successor is no child of ours: one that is takes its place.
    let mut heir = edge.try_upgrade();
    until_true("the heir to serve", || heir.log().contains("edge is ready"));
    heir.signal(libc::SIGTERM);
    assert!(heir.wait("a graceful end").success());
}
