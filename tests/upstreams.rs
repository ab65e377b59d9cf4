//! How a running origin asks its upstreams: what only a process' environment can show.

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::go::Go;
use harness::http::Client;
use harness::node::Node;
use harness::observe::Metrics;
use harness::until_true;
use harness::upstream::Upstream;

/// Zips without end: each connection gets as much as it takes.
struct Endless {
    url: String,
    sent: Arc<AtomicU64>,
}

impl Endless {
    fn start() -> Endless {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || pour(stream, &counted));
            }
        });
        Endless { url, sent }
    }
}

fn pour(mut stream: TcpStream, sent: &AtomicU64) {
    const PIECE: usize = 1 << 16;
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut chunk = format!("{PIECE:x}\r\n").into_bytes();
    chunk.extend(std::iter::repeat_n(b'x', PIECE));
    chunk.extend(b"\r\n");
    while stream.write_all(&chunk).is_ok() {
        sent.fetch_add(PIECE as u64, Ordering::Relaxed);
    }
}

/// The most memory that a process ever had, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.expect("VmHWM").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") / 1024
}

const LIST: &str = "/example.com/m/@v/list";

/// What an origin with that environment answers for a list of `http://up.invalid`.
fn status(environment: &[(&str, &str)], overrides: &str) -> u16 {
    let origin = Node::origin_in(environment, "http://up.invalid", overrides);
    Client::h1(origin.url()).get(LIST).status
}

#[test]
fn the_environments_proxy_is_used_unless_it_is_switched_off() {
    let proxy = Upstream::start();
    proxy.body(LIST, "v1.0.0\n");
    let url = proxy.url();
    let by_way = ("HTTP_PROXY", url.as_str());
    for (environment, overrides, expected) in [
        (vec![by_way], "", 200),
        (vec![by_way, ("NO_PROXY", "up.invalid")], "", 502),
        (vec![by_way], "upstreams: {proxy: off}", 502),
    ] {
        assert_eq!(
            status(&environment, overrides),
            expected,
            "{environment:?} {overrides}"
        );
    }
    assert_eq!(proxy.requests(LIST), 1);
}

#[test]
fn probing_every_prefix_of_a_package_costs_upstream_nothing_the_second_time() {
    let upstream = Upstream::start();
    upstream.module("example.com/deep/module", &["v1.0.0"], b"");
    let origin = Node::origin(&upstream.url(), "");
    let get = || {
        let go = Go::with_proxy(origin.url());
        let package = "example.com/deep/module/a/b/c";
        let stderr = go.ask(&["get", package]).fails();
        assert!(stderr.contains("does not contain package"), "{stderr}");
    };
    get();
    let before = upstream.all_requests();
    assert!(before > 5, "go asks for every prefix");
    get();
    assert_eq!(upstream.all_requests(), before);
}

#[test]
fn zips_without_end_are_cut_at_the_limit_in_flat_memory() {
    const LIMIT: u64 = 128;
    let upstream = Endless::start();
    let mut origin = Node::origin(
        &upstream.url,
        &format!("limits: {{max_zip: {LIMIT}MiB, ahead: 0}}"),
    );
    let pid = origin.pid();
    let before = peak_memory(pid);
    for n in 0..4 {
        // Whoever asks for the head alone doesn't end the fetch.
        let path = format!("/example.com/m/@v/v1.0.{n}.zip");
        let _ = Client::h1(origin.url()).head(&path);
    }
    let spooled = || {
        let metrics = Metrics::scrape(origin.admin());
        metrics.value("modcdn_origin_spool_bytes", &[])
    };
    until_true("all to be cut", || {
        let sent = upstream.sent.load(Ordering::Relaxed) >> 20;
        sent > 4 * LIMIT && spooled() == 0.0
    });
    let sent = upstream.sent.load(Ordering::Relaxed) >> 20;
    assert!(sent < 4 * (LIMIT + 32), "{sent} MiB were sent");
    let grown = peak_memory(pid) - before;
    assert!(grown < 64, "{grown} MiB more than {before}");
}
