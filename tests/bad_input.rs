//! Hostile and broken requests: PROMISES.md, "Bad input (HTTP)", over HTTP/1.1 by hand and HTTP/2.
//! None of them may reach the origin.

mod harness;

use std::time::Duration;

use harness::certificate::Certificate;
use harness::http::Client;
use harness::modules::{LARGE, Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{Metrics, access_log, accesses};
use harness::raw::{self, RawReply, h2};
use harness::scratch::Scratch;
use harness::{ports, until_true};

/// How long a server may take to close a connection by itself: below every time limit of ours.
const SOON: Duration = Duration::from_secs(8);

/// An edge that serves two names, and its origin.
struct Pop {
    origin: Node,
    edge: Node,
}

impl Pop {
    fn start() -> Pop {
        let origin = Node::origin(&Modules::fetch().url(), "");
        let edge = Node::edge(&origin, "hosts: [127.0.0.1, go.test]");
        Pop { origin, edge }
    }

    /// GET lines with a right Host, then `headers`.
    fn get(&self, target: &str, headers: &str) -> Vec<u8> {
        let host = self.edge.address();
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").into_bytes()
    }

    fn send(&self, bytes: &[u8]) -> RawReply {
        raw::exchange(self.edge.address(), bytes, SOON)
    }

    /// Each on a connection of its own, all at once: a server that refuses lingers for a moment.
    fn send_each(&self, requests: &[Vec<u8>]) -> Vec<RawReply> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = requests
                .iter()
                .map(|bytes| scope.spawn(|| self.send(bytes)))
                .collect();
            asked
                .into_iter()
                .map(|asked| asked.join().expect("an exchange"))
                .collect()
        })
    }

    /// Requests that the origin has seen, after those under way have been logged.
    fn forwarded(&self) -> usize {
        access_log(&self.origin.access_log()).len()
    }

    /// It answers as ever.
    fn works(&self) {
        let path = format!("{UPPER_CASE}.mod");
        for client in [Client::h1(self.edge.url()), Client::h2(self.edge.url())] {
            assert_eq!(client.get(&path).ok().body, Modules::fetch().read(&path));
        }
    }

    /// It answers as ever, and nothing but the good request has reached the origin.
    fn was_spared(&self) {
        let path = format!("{UPPER_CASE}.mod");
        self.works();
        until_true("the good request in the origin's access log", || {
            !accesses(&self.origin.access_log(), &path).is_empty()
        });
        let forwarded: Vec<String> = access_log(&self.origin.access_log())
            .iter()
            .map(|access| access.field("path"))
            .filter(|forwarded| *forwarded != path)
            .collect();
        assert!(
            forwarded.is_empty(),
            "forwarded to the origin: {forwarded:?}"
        );
    }
}

/// Outside the grammar (PROTOCOL.md): 400, never cached, never forwarded.
const BAD_PATHS: &[&str] = &[
    "/",
    "/github.com/BurntSushi/toml/@v/list",
    "/github.com/!burnt!sushi/toml/@v/v1.3.2.zip?x=1",
    "/github.com/!burnt!sushi/toml/@v/v1.3.2.zip?",
    "/github.com/!burnt!sushi/toml/@v/v1.3.2.zip;x",
    "/github.com/!!burnt/toml/@v/list",
    "/github.com/!Burnt/toml/@v/list",
    "/github.com/burnt!/toml/@v/list",
    "/github.com%2Fburnt/toml/@v/list",
    "/github.com/%2521burnt/toml/@v/list",
    "/github.com/../etc/passwd/@v/list",
    "/github.com/%2e%2e/passwd/@v/list",
    "/github.com/./toml/@v/list",
    "//github.com/pkg/errors/@v/list",
    "/github.com//errors/@v/list",
    "/github.com/pkg/errors/@v/",
    "/github.com/pkg/errors/@v/list/",
    "/github.com/pkg/errors/@v/v0.9.1.exe",
    "/github.com/pkg/errors/@v/v0.9.1.ZIP",
    "/github.com/pkg/errors/@v/v0.9.zip",
    "/github.com/pkg/errors/@v/0.9.1.mod",
    "/github.com/pkg/errors/@v/..%2f..%2fsecret.info",
    "/github.com/pkg/errors/@latest/x",
    "/github.com/pkg/errors/v0/@v/list",
    "/example.com/m/v2/@v/v1.0.0.zip",
    "/github.com/pkg/err%00ors/@v/list",
    "/github.com/pkg/err%ffors/@v/list",
    "/github.com/pkg/err%20ors/@v/list",
    "/github.com/pkg/err%zzors/@v/list",
    "/github.com/pkg/errors/%40v/lis%",
    "/nodot/errors/@v/list",
    "/sumdb/sum.golang.org/tile/8/0/1",
    "/sumdb/sum.golang.org/nothing",
    "/.git/config",
];

#[test]
fn paths_outside_the_grammar_are_400_over_both_protocols() {
    let pop = Pop::start();
    let h2 = Client::h2(pop.edge.url());
    for path in BAD_PATHS {
        let reply = pop.send(&pop.get(path, "Connection: close\r\n"));
        assert_eq!(
            reply.status(),
            Some(400),
            "{path} over HTTP/1.1: {}",
            shown(&reply)
        );
        let answer = h2.get(path);
        assert_eq!(answer.status, 400, "{path} over HTTP/2: {}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(
            answer.header("content-type"),
            "text/plain; charset=utf-8",
            "{path}"
        );
    }
    for raw_path in [
        &b"/github.com/\xc3\xa4/@v/list"[..],
        b"/github.com/\xff/@v/list",
    ] {
        let mut bytes = b"GET ".to_vec();
        bytes.extend(raw_path);
        bytes.extend(format!(" HTTP/1.1\r\nHost: {}\r\n\r\n", pop.edge.address()).bytes());
        assert_eq!(pop.send(&bytes).status(), Some(400), "{raw_path:?}");
    }
    pop.was_spared();
}

#[test]
fn all_spellings_of_a_path_are_one_object() {
    let pop = Pop::start();
    let client = Client::h1(pop.edge.url());
    let path = format!("{UPPER_CASE}.zip");
    let encoded = [
        path.replace('!', "%21"),
        path.replace("toml", "%74oml"),
        path.clone(),
    ];
    for spelling in &encoded {
        assert!(
            client.get(spelling).ok().body == Modules::fetch().read(&path),
            "{spelling}"
        );
    }
    until_true("the request in the origin's access log", || {
        pop.forwarded() > 0
    });
    assert_eq!(pop.forwarded(), 1);
}

#[test]
fn ambiguous_framing_is_a_400_and_a_close() {
    let pop = Pop::start();
    let host = pop.edge.address().to_owned();
    let path = format!("{UPPER_CASE}.info");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    let smuggled = format!("GET {LARGE}.info HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let cases = [
        (
            "CL and TE",
            format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "two CLs",
            format!("{head}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
        ),
        (
            "a list of CLs",
            format!("{head}Content-Length: 0, 5\r\n\r\n"),
        ),
        ("a signed CL", format!("{head}Content-Length: +0\r\n\r\n")),
        (
            "an odd TE",
            format!("{head}Transfer-Encoding: xchunked\r\n\r\n"),
        ),
        (
            "TE not ending in chunked",
            format!("{head}Transfer-Encoding: chunked, gzip\r\n\r\n"),
        ),
        (
            "two TEs",
            format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"),
        ),
        (
            "HTTP/1.0 and TE",
            format!(
                "GET {path} HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("obs-fold", format!("{head}X-A: b\r\n c\r\n\r\n")),
        (
            "a bare LF",
            format!("GET {path} HTTP/1.1\nHost: {host}\n\n"),
        ),
        (
            "a bare LF in the header",
            format!("{head}X-A: b\nX-B: c\r\n\r\n"),
        ),
        ("a bare CR", format!("{head}X-A: b\rX-B: c\r\n\r\n")),
        ("NUL", format!("{head}X-A: b\0c\r\n\r\n")),
        ("a space before the colon", format!("{head}X-A : b\r\n\r\n")),
        ("no Host", format!("GET {path} HTTP/1.1\r\n\r\n")),
        ("two Hosts", format!("{head}Host: {host}\r\n\r\n")),
        (
            "two different Hosts",
            format!("{head}Host: evil.example\r\n\r\n"),
        ),
        (
            "an empty Host",
            format!("GET {path} HTTP/1.1\r\nHost:\r\n\r\n"),
        ),
    ];
    // What follows is on the same connection: it must not be taken for a second request.
    let sent = cases
        .each_ref()
        .map(|(_, request)| format!("{request}{smuggled}").into_bytes());
    for ((what, _), reply) in cases.iter().zip(pop.send_each(&sent)) {
        assert_eq!(reply.status(), Some(400), "{what}: {}", shown(&reply));
        assert!(reply.closed, "{what}: the connection was left open");
        assert_eq!(reply.answers(), 1, "{what}: {}", shown(&reply));
    }
    pop.was_spared();
}

#[test]
fn other_methods_are_405() {
    let pop = Pop::start();
    let host = pop.edge.address();
    let path = format!("{UPPER_CASE}.mod");
    let methods = [
        ("POST", path.as_str()),
        ("PUT", &path),
        ("DELETE", &path),
        ("OPTIONS", &path),
        ("PURGE", &path),
        ("TRACE", &path),
        ("CONNECT", "evil.example:443"),
    ];
    let sent = methods.map(|(method, target)| {
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    });
    for ((method, _), reply) in methods.iter().zip(pop.send_each(&sent)) {
        assert_eq!(reply.status(), Some(405), "{method}: {}", shown(&reply));
    }
    let h2 = Client::h2(pop.edge.url());
    for method in [
        http::Method::POST,
        http::Method::DELETE,
        http::Method::TRACE,
    ] {
        let answer = h2.send(&method, &path, &[]).expect("an answer");
        assert_eq!(answer.status, 405, "{method}: {}", answer.text());
    }
    pop.was_spared();
}

#[test]
fn another_host_is_421() {
    let pop = Pop::start();
    let path = format!("{UPPER_CASE}.mod");
    let own = pop.edge.address();
    for request in [
        format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
        format!(
            "GET http://evil.example{path} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
        ),
        format!(
            "GET http://evil.example{path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        ),
    ] {
        let reply = pop.send(request.as_bytes());
        assert_eq!(reply.status(), Some(421), "{request}{}", shown(&reply));
    }
    let misled = Client::h2(pop.edge.url()).calling_it("evil.example");
    assert_eq!(misled.get(&path).status, 421);
    pop.was_spared();
}

#[test]
fn headers_that_claim_another_request_have_no_effect() {
    let pop = Pop::start();
    let path = format!("{UPPER_CASE}.zip");
    let right = Modules::fetch().read(&path);
    for client in [Client::h1(pop.edge.url()), Client::h2(pop.edge.url())] {
        for (name, value) in [
            ("x-http-method-override", "DELETE"),
            ("x-http-method", "POST"),
            ("x-method-override", "PURGE"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "gopher"),
            ("x-original-url", "/example.com/evil/@v/list"),
            ("x-rewrite-url", "/example.com/evil/@v/list"),
            ("forwarded", "host=evil.example"),
            ("accept-encoding", "gzip, br"),
            ("cache-control", "no-cache"),
            ("pragma", "no-cache"),
            ("accept", "text/html"),
        ] {
            let answer = client.get_with(&path, &[(name, value)]).ok();
            assert!(answer.body == right, "{name}: {value} changed the bytes");
            assert_eq!(answer.header("content-encoding"), "", "{name}");
        }
    }
    until_true("the request in the origin's access log", || {
        pop.forwarded() > 0
    });
    assert_eq!(pop.forwarded(), 1, "none of them makes the edge ask again");
}

#[test]
fn too_much_header_is_431_and_too_long_a_path_414() {
    let pop = Pop::start();
    let path = format!("{UPPER_CASE}.mod");
    let large = format!("X-Large: {}\r\n", "x".repeat(64 * 1024));
    let many: String = (0..300)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    for (what, headers) in [("64 KiB", &large), ("300 headers", &many)] {
        let reply = pop.send(&pop.get(&path, headers));
        assert_eq!(reply.status(), Some(431), "{what}: {}", shown(&reply));
        assert!(reply.closed, "{what}: the connection was left open");
    }
    let h2 = Client::h2(pop.edge.url());
    let large = "x".repeat(64 * 1024);
    if let Ok(answer) = h2.send(&http::Method::GET, &path, &[("x-large", &large)]) {
        assert_eq!(answer.status, 431, "{}", answer.text());
    }
    let headers: Vec<String> = (0..300).map(|number| format!("x-{number}")).collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|name| (name.as_str(), "y")).collect();
    // A server may refuse them as a connection's fault, too; but never answer as if all were well.
    if let Ok(answer) = h2.send(&http::Method::GET, &path, &headers) {
        assert_eq!(answer.status, 431, "{}", answer.text());
    }
    let long = format!("/example.com/{}/@v/list", "x".repeat(20_000));
    let reply = pop.send(&pop.get(&long, "Connection: close\r\n"));
    assert_eq!(reply.status(), Some(414), "{}", shown(&reply));
    assert_eq!(Client::h2(pop.edge.url()).get(&long).status, 414);
    pop.was_spared();
}

#[test]
fn ranges_are_one_range_416_or_the_full_body() {
    let pop = Pop::start();
    let path = format!("{LARGE}.zip");
    let right = Modules::fetch().read(&path);
    let length = right.len();
    for client in [Client::h1(pop.edge.url()), Client::h2(pop.edge.url())] {
        client.get(&path).ok();
        for (range, start, end) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=5-99".to_owned(), 5, 100),
            (format!("bytes={}-", length - 7), length - 7, length),
            ("bytes=-9".to_owned(), length - 9, length),
            (format!("bytes=10-{}", u64::MAX), 10, length),
        ] {
            let answer = client.get_with(&path, &[("range", &range)]);
            assert_eq!(answer.status, 206, "{range}: {:?}", answer.headers);
            assert!(
                answer.complete && answer.body == right[start..end],
                "{range}"
            );
            let expected = format!("bytes {start}-{}/{length}", end - 1);
            assert_eq!(answer.header("content-range"), expected);
        }
        for range in [format!("bytes={length}-"), "bytes=999999999999-".to_owned()] {
            let answer = client.get_with(&path, &[("range", &range)]);
            assert_eq!(answer.status, 416, "{range}: {:?}", answer.headers);
            assert_eq!(answer.header("content-range"), format!("bytes */{length}"));
        }
        let many = format!("bytes={}", vec!["0-1"; 500].join(","));
        for range in [
            "bytes=5-1",
            "bytes=a-b",
            "bytes=0-0,5-9",
            "lines=0-1",
            "bytes=",
            &many,
        ] {
            let answer = client.get_with(&path, &[("range", range)]);
            assert_eq!(answer.status, 200, "{range}: {:?}", answer.headers);
            assert!(answer.complete && answer.body == right, "{range}");
        }
        let other = [("range", "bytes=0-9"), ("if-range", "\"another\"")];
        let answer = client.get_with(&path, &other).ok();
        assert_eq!(
            answer.body.len(),
            length,
            "If-Range that doesn't match: the full body"
        );
    }
}

#[test]
fn a_cold_range_is_answered_and_the_whole_is_kept() {
    let pop = Pop::start();
    let path = format!("{LARGE}.zip");
    let right = Modules::fetch().read(&path);
    let client = Client::h1(pop.edge.url());
    let answer = client.get_with(&path, &[("range", "bytes=100-199")]);
    let whole_or_part = answer.status == 200 && answer.body == right;
    assert!(whole_or_part || answer.status == 206 && answer.body == right[100..200]);
    assert!(client.get(&path).ok().body == right, "other bytes");
    until_true("the request in the origin's access log", || {
        pop.forwarded() > 0
    });
    assert_eq!(pop.forwarded(), 1);
}

#[test]
fn http2_attacks_cost_their_own_connection_and_nobody_elses() {
    let pop = Pop::start();
    let authority = pop.edge.address();
    let path = format!("{UPPER_CASE}.mod");
    pop.works();
    let resets: Vec<u8> = (0..3000_u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let mut frames = h2::get(stream, authority, &path);
            frames.extend(h2::frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            frames
        })
        .collect();
    // HEADERS without END_HEADERS, then CONTINUATION without an end.
    let block = h2::block(&[("x-bomb", &"b".repeat(8000))]);
    let mut endless = h2::frame(h2::HEADERS, h2::END_STREAM, 1, &block);
    for _ in 0..3000 {
        endless.extend(h2::frame(h2::CONTINUATION, 0, 1, &block));
    }
    // One entry put into the dynamic table, then named thousands of times (HPACK bomb).
    let mut bomb = vec![0x40, 1, b'x', 0x7f];
    // 4000 as a 7-bit-prefix integer (RFC 7541, section 5.1).
    bomb.extend([0xa1, 0x1e]);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 12_000]);
    let bomb = h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &bomb);
    let frames = h2::exchange(authority, &bomb, SOON, h2::Frames::has_ended_a_stream);
    assert!(
        frames.has_ended_a_stream() && !frames.has_a_200(),
        "{:?}",
        frames.kinds()
    );
    pop.works();
    for (what, frames) in [
        ("rapid reset", resets),
        ("endless CONTINUATION", endless),
        ("DATA on an idle stream", h2::frame(h2::DATA, 0, 7, b"x")),
        (
            "HEADERS on an even stream",
            h2::frame(h2::HEADERS, 5, 2, &h2::block(&[(":method", "GET")])),
        ),
        (
            "a frame larger than allowed",
            h2::frame(h2::DATA, 0, 1, &vec![0; 20_000]),
        ),
        ("garbage", vec![0xff; 100]),
    ] {
        let frames = h2::exchange(authority, &frames, SOON, h2::Frames::gave_up);
        assert!(
            frames.gave_up(),
            "{what}: the connection was left open, {:?}",
            frames.kinds()
        );
        pop.works();
    }
}

#[test]
fn http2_floods_close_their_connection() {
    let pop = Pop::start();
    let authority = pop.edge.address();
    let path = format!("{UPPER_CASE}.mod");
    pop.works();
    let many = |frame: Vec<u8>| frame.repeat(4000);
    let opened = |frame: Vec<u8>| {
        let mut frames = h2::get(1, authority, &path);
        frames.extend(many(frame));
        frames
    };
    // A stream error that is the client's fault makes the server reset a stream it works for.
    let made_you_reset: Vec<u8> = (0..3000_u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let mut frames = h2::get(stream, authority, &path);
            frames.extend(h2::frame(h2::WINDOW_UPDATE, 0, stream, &[0; 4]));
            frames
        })
        .collect();
    for (what, frames, counted) in [
        (
            "PING",
            many(h2::frame(h2::PING, 0, 0, &[7; 8])),
            Some("ping"),
        ),
        (
            "SETTINGS",
            many(h2::frame(h2::SETTINGS, 0, 0, &[])),
            Some("settings"),
        ),
        ("empty DATA", opened(h2::frame(h2::DATA, 0, 1, &[])), None),
        (
            "PRIORITY",
            many(h2::frame(h2::PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
            Some("priority"),
        ),
        (
            "WINDOW_UPDATE",
            many(h2::frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
            Some("window-update"),
        ),
        ("MadeYouReset", made_you_reset, None),
    ] {
        let frames = h2::exchange(authority, &frames, SOON, h2::Frames::gave_up);
        assert!(
            frames.gave_up(),
            "{what}: the connection was left open, {:?}",
            frames.kinds()
        );
        if let Some(kind) = counted {
            until_true(what, || {
                let metrics = Metrics::scrape(pop.edge.admin());
                metrics.value("modcdn_edge_h2_floods_total", &[("frame", kind)]) >= 1.0
            });
        }
        pop.works();
    }
    let metrics = Metrics::scrape(pop.edge.admin());
    assert_eq!(metrics.value("modcdn_edge_all_panics_total", &[]), 0.0);
}

#[test]
fn another_host_than_the_one_tls_was_told_is_421() {
    let scratch = Scratch::new("tls");
    let certificate = Certificate::in_folder(scratch.path());
    let address = format!("127.0.0.1:{}", ports::free());
    let origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, &format!("tls: {}", certificate.section(&address)));
    let url = format!("https://{address}");
    let (path, ca) = (format!("{UPPER_CASE}.mod"), certificate.file());
    let host = [("host", "evil.example")];
    let named = || Client::tls_h1(&url, &ca).calling_it("go.test");
    named().get(&path).ok();
    assert_eq!(named().get_with(&path, &host).status, 421);
    let named = Client::tls_h2(&url, &ca).calling_it("go.test");
    named.get(&path).ok();
    assert_eq!(named.get_with(&path, &host).status, 400, "two authorities");
    drop(edge);
}

#[test]
fn slow_and_silent_clients_meet_their_deadlines() {
    let scratch = Scratch::new("tls");
    let certificate = Certificate::in_folder(scratch.path());
    let address = format!("127.0.0.1:{}", ports::free());
    let origin = Node::origin(&Modules::fetch().url(), "");
    let tls = certificate.section(&address);
    let limits = "timeouts: {handshake: 1s, header: 1s, keep_alive: 1s}";
    let edge = Node::edge(&origin, &format!("tls: {tls}\n{limits}"));
    let path = format!("{UPPER_CASE}.mod");
    let header = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", edge.address());
    let dripped = raw::drip(edge.address(), header.as_bytes(), b"X-A: b\r\n", SOON);
    assert_eq!(dripped.status(), Some(408), "{}", shown(&dripped));
    assert!(dripped.closed, "a header without an end");
    let silent = raw::exchange(&address, b"", SOON);
    assert!(silent.closed && silent.bytes.is_empty(), "TLS in silence");
    let half = raw::exchange(&address, b"\x16\x03\x01\x02\x00", SOON);
    assert!(half.closed, "half a ClientHello");
    let preface = raw::exchange(edge.address(), &h2::preface()[..20], SOON);
    assert!(preface.closed, "half a preface");
    Client::h1(edge.url()).get(&path).ok();
}

#[test]
fn malformed_http2_requests_are_refused() {
    let pop = Pop::start();
    let authority = pop.edge.address();
    let path = format!("{UPPER_CASE}.info");
    let good = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", &path),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut headers = good.to_vec();
        headers.extend(more);
        h2::block(&headers)
    };
    pop.works();
    let known = h2::get(1, authority, &format!("{UPPER_CASE}.mod"));
    assert!(h2::exchange(authority, &known, SOON, h2::Frames::has_ended_a_stream).has_a_200());
    for (what, block) in [
        ("an upper-case name", with(&[("X-Upper", "1")])),
        ("a connection header", with(&[("connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("two paths", with(&[(":path", "/example.com/m/@v/list")])),
        (
            "a pseudo-header behind the others",
            with(&[("x-a", "b"), (":scheme", "https")]),
        ),
        ("an unknown pseudo-header", with(&[(":evil", "1")])),
        ("a line end in a value", with(&[("x-a", "b\r\nhost: evil")])),
        ("no path", h2::block(&good[..3])),
        ("another host", with(&[("host", "evil.example")])),
        (
            "a body of another length",
            with(&[("content-length", "10")]),
        ),
    ] {
        let request = h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &block);
        let frames = h2::exchange(authority, &request, SOON, h2::Frames::has_ended_a_stream);
        assert!(frames.has_ended_a_stream(), "{what}: {:?}", frames.kinds());
        assert!(!frames.has_a_200(), "{what}: answered as if all were well");
    }
    pop.was_spared();
}

#[test]
fn two_requests_in_one_packet_get_two_answers_in_order() {
    let pop = Pop::start();
    let first = format!("{UPPER_CASE}.mod");
    let second = format!("{UPPER_CASE}.info");
    let mut bytes = pop.get(&first, "");
    bytes.extend(pop.get(&second, "Connection: close\r\n"));
    let reply = pop.send(&bytes);
    assert_eq!(reply.answers(), 2, "{}", shown(&reply));
    let text = String::from_utf8_lossy(&reply.bytes).into_owned();
    let info = String::from_utf8_lossy(&Modules::fetch().read(&second)).into_owned();
    assert!(text.ends_with(&info), "{text}");
}

fn shown(reply: &RawReply) -> String {
    let bytes = &reply.bytes[..reply.bytes.len().min(600)];
    format!("closed={} {}", reply.closed, String::from_utf8_lossy(bytes))
}
