use modcdn_core::units::{ByteSize, Period};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::metrics::Shed;

/// Sends `request` and reads until the connection ends.
async fn raw(door: &Door, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut all = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all));
    let _ = reading.await.expect("the connection must end");
    all
}

async fn text(door: &Door, request: &str) -> String {
    String::from_utf8_lossy(&raw(door, request.as_bytes()).await).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n")
}

fn status(response: &str) -> u16 {
    let status = response
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_whole_answer_has_its_headers_and_its_body() {
    let door = door(|_| {}).await;
    let response = text(&door, &get(LIST)).await;
    assert_eq!((status(&response), body(&response)), (200, "v1.0.0\n"));
    let lower = response.to_ascii_lowercase();
    for header in [
        "content-length: 7\r\n",
        "connection: close\r\n",
        "\r\ndate: ",
    ] {
        assert!(lower.contains(header), "{header:?} in {response}");
    }
}

#[tokio::test]
async fn head_is_the_head_of_get() {
    let door = door(|_| {}).await;
    let response = text(&door, &get(LIST).replace("GET", "HEAD")).await;
    assert_eq!((status(&response), body(&response)), (200, ""));
    assert!(
        response
            .to_ascii_lowercase()
            .contains("content-length: 7\r\n")
    );
    let response = text(
        &door,
        &get("/aborted.test/m/@v/list").replace("GET", "HEAD"),
    )
    .await;
    assert_eq!((status(&response), body(&response)), (200, ""));
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let door = door(|_| {}).await;
    let response = raw(&door, get("/big.test/m/@v/list").as_bytes()).await;
    assert!(response.ends_with(&big()), "{} bytes", response.len());
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_pipelined_ones_in_order() {
    let door = door(|_| {}).await;
    let one = format!("GET {LIST} HTTP/1.1\r\nHost: go.test\r\n\r\n");
    let slow = one.replace("whole", "slow");
    let response = text(&door, &format!("{slow}{one}{one}{}", get("/-/healthz"))).await;
    let bodies: Vec<_> = response
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(body)
        .collect();
    assert_eq!(bodies, ["abcdefghi", "v1.0.0\n", "v1.0.0\n", "ok\n"]);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_chunked_and_ends() {
    let door = door(|_| {}).await;
    let response = text(&door, &get("/unknown.test/m/@v/list")).await;
    assert!(
        response
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked\r\n")
    );
    assert_eq!(body(&response), "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_body_that_cannot_be_finished_is_visibly_cut_off() {
    let door = door(|_| {}).await;
    for module in ["aborted", "short"] {
        let response = text(&door, &get(&format!("/{module}.test/m/@v/list"))).await;
        assert!(
            response
                .to_ascii_lowercase()
                .contains("content-length: 9\r\n")
        );
        assert_eq!(body(&response), "abc", "{module}");
    }
    let response = text(&door, &get("/cut.test/m/@v/list")).await;
    assert_eq!(body(&response), "3\r\nabc\r\n", "no last chunk");
    assert_eq!(door.metrics.aborted.get(), 3);
}

#[tokio::test]
async fn http10_gets_the_body_until_the_close_and_a_reset_if_it_is_cut() {
    let door = door(|_| {}).await;
    let ask = |module: &str| format!("GET /{module}.test/m/@v/list HTTP/1.0\r\nHost: a\r\n\r\n");
    let response = text(&door, &ask("unknown")).await;
    assert!(!response.to_ascii_lowercase().contains("chunked"));
    assert_eq!(body(&response), "abcdef");
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream.write_all(ask("cut").as_bytes()).await.unwrap();
    let ended = stream.read_to_end(&mut Vec::new()).await;
    assert!(ended.is_err(), "a clean end would look like a whole body");
}

#[tokio::test]
async fn a_panic_breaks_off_its_connection_only() {
    let door = door(|_| {}).await;
    assert_eq!(text(&door, &get("/panic.test/m/@v/list")).await, "");
    assert_eq!(door.metrics.panics.get(), 1);
    assert_eq!(status(&text(&door, &get(LIST)).await), 200);
}

#[tokio::test]
async fn bad_input_is_refused_and_the_connection_closed() {
    let door = door(|_| {}).await;
    let lists = |fields: &str| format!("GET {LIST} HTTP/1.1\r\n{fields}\r\n");
    let many = format!("Host: a\r\n{}", "X: y\r\n".repeat(300));
    let large = format!("Host: a\r\nX: {}\r\n", "y".repeat(65 << 10));
    for (request, expected) in [
        (
            lists("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (
            lists("Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n"),
            400,
        ),
        (lists("Host: a\r\nTransfer-Encoding: xchunked\r\n"), 400),
        (lists("Host: a\r\nTransfer-Encoding : chunked\r\n"), 400),
        (lists("Host: a\r\nContent-Length: 5\r\n") + "hello", 400),
        (
            format!("GET {LIST} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400,
        ),
        (lists("Host: a\r\n folded: x\r\n"), 400),
        (lists(""), 400),
        (lists("Host:\r\n"), 400),
        (lists("Host: a\r\nHost: b\r\n"), 400),
        (lists("Host: a\r\nX: \0\r\n"), 400),
        (format!("GET {LIST} HTTP/1.1\nHost: a\n\n"), 400),
        (format!("GET {LIST} HTTP/1.1\r\nHost: a\r\nX: y\n\r\n"), 400),
        (format!("GET {LIST} HTTP/3.0\r\nHost: a\r\n\r\n"), 400),
        (format!("GET {LIST}\r\n\r\n"), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned(), 400),
        (get("http://other.test/whole.test/m/@v/list"), 421),
        (get(LIST).replace("GET", "POST"), 405),
        (get(LIST).replace("GET", "TRACE"), 405),
        (
            "CONNECT go.test:443 HTTP/1.1\r\nHost: go.test:443\r\nConnection: close\r\n\r\n".into(),
            405,
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n".into(),
            405,
        ),
        (lists(&many), 431),
        (lists(&large), 431),
    ] {
        let response = text(&door, &request).await;
        let shown: String = request.chars().take(120).collect();
        assert_eq!(status(&response), expected, "{shown:?} got {response}");
        let lower = response.to_ascii_lowercase();
        assert!(
            lower.contains("connection: close\r\n"),
            "{shown:?} got {response}"
        );
        assert!(
            lower.contains("cache-control: no-store\r\n"),
            "{shown:?} got {response}"
        );
        assert_eq!(
            expected == 405,
            lower.contains("\r\nallow: get, head\r\n"),
            "{response}"
        );
    }
}

#[tokio::test]
async fn paths_outside_the_grammar_are_refused() {
    let door = door(|config| config.hosts = vec!["go.test".to_owned()]).await;
    for (path, expected) in [
        ("/", 400),
        ("/whole.test/m/@v/list?x=y", 400),
        ("/whole.test/M/@v/list", 400),
        ("/whole.test/m/@v/../list", 400),
        ("//whole.test/m/@v/list", 400),
        ("/whole.test%2Fm/@v/list", 400),
        ("/whole.test/m/@v/list;x", 400),
        ("/-/purge", 404),
        ("/-/healthz", 200),
        ("http://go.test/whole.test/m/@v/list", 200),
    ] {
        let response = text(&door, &get(path)).await;
        assert_eq!(status(&response), expected, "{path}: {response}");
    }
    let long = format!("/{}/@v/list", "a".repeat(9000));
    assert_eq!(status(&text(&door, &get(&long)).await), 414);
    let other = get(LIST).replace("go.test", "other.test");
    assert_eq!(status(&text(&door, &other).await), 421);
}

#[tokio::test]
async fn headers_of_other_worlds_have_no_effect() {
    let door = door(|_| {}).await;
    let plain = text(&door, &get(LIST)).await;
    for field in [
        "X-HTTP-Method-Override: POST",
        "X-Forwarded-Host: evil.test",
        "X-Original-URL: /-/healthz",
        "Forwarded: host=evil.test",
        "Upgrade: h2c",
        "Expect: 100-continue",
    ] {
        let request = get(LIST).replace("Host:", &format!("{field}\r\nHost:"));
        let response = text(&door, &request).await;
        assert_eq!(body(&response), body(&plain), "{field}");
        assert!(!response.contains("evil"), "{response}");
    }
}

#[tokio::test]
async fn a_header_that_drips_meets_one_deadline() {
    let door = door(|config| config.timeouts.header = Period::millis(200)).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut response = Vec::new();
    tokio::select! {
        () = dripping => {}
        _ = reader.read_to_end(&mut response) => {}
    }
    assert_eq!(status(&String::from_utf8_lossy(&response)), 408);
}

#[tokio::test]
async fn silence_is_closed() {
    let door = door(|config| config.timeouts.keep_alive = Period::millis(100)).await;
    assert_eq!(text(&door, "").await, "");
    let one = format!("GET {LIST} HTTP/1.1\r\nHost: go.test\r\n\r\n");
    assert_eq!(body(&text(&door, &one).await), "v1.0.0\n");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let door = door(|config| config.timeouts.write = Period::millis(100)).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream
        .write_all(get("/endless.test/m/@v/list").as_bytes())
        .await
        .unwrap();
    while door.metrics.aborted.get() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    door.drain.finished().await;
}

#[tokio::test]
async fn a_request_has_a_bound_whatever_happens() {
    let door = door(|config| config.timeouts.request = Period::millis(100)).await;
    assert_eq!(text(&door, &get("/never.test/m/@v/list")).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let door = door(|config| config.limits.connections = 1).await;
    let held = TcpStream::connect(door.address).await.unwrap();
    while door.metrics.connections_open.get() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(door.address).await.unwrap();
    let read = second.read_to_end(&mut Vec::new()).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    assert_eq!(door.metrics.shed(Shed::All).get(), 1);
    drop(held);
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_closes_the_rest() {
    let door = door(|_| {}).await;
    let mut idle = TcpStream::connect(door.address).await.unwrap();
    let mut busy = TcpStream::connect(door.address).await.unwrap();
    let request = "GET /slow.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\n\r\n";
    busy.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1];
    busy.read_exact(&mut first).await.unwrap();
    door.drain.begin();
    let mut rest = String::new();
    busy.read_to_string(&mut rest).await.unwrap();
    assert_eq!(body(&rest), "abcdefghi");
    assert_eq!(idle.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    tokio::time::timeout(Duration::from_secs(5), door.drain.finished())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_limits_of_the_header_are_the_configured_ones() {
    let door = door(|config| {
        config.limits.header_fields = 2;
        config.limits.header_size = ByteSize::kib(1);
    })
    .await;
    let request = get(LIST).replace("Host:", "X: y\r\nHost:");
    assert_eq!(status(&text(&door, &request).await), 431);
    let request = get(LIST).replace("go.test", &"a".repeat(1100));
    assert_eq!(status(&text(&door, &request).await), 431);
}
