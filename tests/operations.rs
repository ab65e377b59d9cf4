//! What an operator does to a running edge, and what goes wrong with it: PROMISES.md, F17 to F22.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use harness::certificate::Certificate;
use harness::http::Client;
use harness::modules::{Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{Metrics, accesses};
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
    until_true("a new log", || log.exists());
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
