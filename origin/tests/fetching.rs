//! Bodies while they come: streaming, single flight, breaks, parts.

mod harness;

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use harness::zip::zip_of;
use harness::{Case, Client, Reply, Upstream, collect, pattern, read_some, until};
use http_body_util::BodyExt;
use modcdn_core::digest::Sha256;
use modcdn_core::units::{ByteSize, Period};

const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const LEN: usize = 1_000_000;

/// The zip that is asked for.
fn zip() -> Bytes {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| zip_of(ZIP, LEN));
    BODY.clone()
}

#[tokio::test]
async fn first_bytes_arrive_before_the_last_ones_are_sent() {
    for announced in [None, Some(LEN as u64)] {
        let upstream = Upstream::start().await;
        let case = Case::start(&upstream.url()).await;
        for client in [
            Client::h2(case.address()).await,
            Client::h1(case.address()).await,
        ] {
            std::fs::remove_dir_all(case.dir.path().join("a.example")).unwrap_or_default();
            let gate = upstream.gate(ZIP, announced);
            gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
            let (head, mut body) = client
                .head("GET", ZIP, &[("te", "trailers")])
                .await
                .into_parts();
            let provisional = head.headers["etag"].to_str().unwrap().to_owned();
            assert!(provisional.starts_with("\"spool-"), "{provisional}");
            assert!(!head.headers.contains_key("repr-digest"));
            let length = head.headers.get("content-length");
            let length = length.map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(length, announced.map(|len| len.to_string()));
            let mut got = read_some(&mut body, LEN / 2 - 10_000).await;
            gate.send(Ok(zip().slice(LEN / 2..))).unwrap();
            drop(gate);
            let rest = body.collect().await.unwrap();
            if matches!(client, Client::H2(_)) || announced.is_none() {
                let trailers = rest.trailers().unwrap();
                assert_eq!(trailers["repr-digest"], Sha256::of(&zip()).repr_digest());
                assert_eq!(trailers["etag"], Sha256::of(&zip()).etag());
            }
            got.extend_from_slice(&rest.to_bytes());
            assert_eq!(got, zip());
            let cut = case.metric("modcdn_origin_unfinished_responses_total", &[]);
            assert_eq!(cut, 0.0);
        }
    }
}

#[tokio::test]
async fn a_hundred_askers_make_one_upstream_request() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    let gate = upstream.gate(ZIP, Some(LEN as u64));
    let client = Client::h2(case.address()).await;
    let asks = (0..100).map(|_| client.get(ZIP, &[]));
    let feed = async {
        let joined = || case.metric("modcdn_origin_joins_total", &[("kind", "zip")]);
        gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
        until(|| joined() >= 99.0).await;
        gate.send(Ok(zip().slice(LEN / 2..))).unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(asks), feed);
    for answer in answers {
        assert!(answer.complete);
        assert_eq!(answer.body, zip());
    }
    assert_eq!(upstream.asked(ZIP), 1);
}

#[tokio::test]
async fn the_first_askers_leaving_does_not_stop_the_fetch() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    let gate = upstream.gate(ZIP, Some(LEN as u64));
    gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
    let client = Client::h2(case.address()).await;
    drop(client.head("GET", ZIP, &[]).await);
    drop(client);
    gate.send(Ok(zip().slice(LEN / 2..))).unwrap();
    until(|| case.dir.path().join(&ZIP[1..]).exists()).await;
    assert_eq!(case.get(ZIP).await.body, zip());
    assert_eq!(upstream.asked(ZIP), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_never_completes_and_is_not_stored() {
    for announced in [None, Some(LEN as u64)] {
        let upstream = Upstream::start().await;
        let case = Case::start(&upstream.url()).await;
        for client in [
            Client::h1(case.address()).await,
            Client::h2(case.address()).await,
        ] {
            let gate = upstream.gate(ZIP, announced);
            gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
            let response = client.head("GET", ZIP, &[]).await;
            assert_eq!(response.status(), 200);
            gate.send(Err(io::Error::other("cable pulled"))).unwrap();
            let answer = collect(response).await;
            assert!(!answer.complete && answer.body.len() < LEN);
            assert!(!case.dir.path().join(&ZIP[1..]).exists());
        }
        upstream.on(ZIP, Reply::Body(zip(), vec![]));
        assert_eq!(case.get(ZIP).await.body, zip());
    }
}

#[tokio::test]
async fn a_stalled_body_is_given_up_within_its_time() {
    let upstream = Upstream::start().await;
    let stall = |config: &mut modcdn_origin::Config| config.timeouts.stall = Period::millis(50);
    let case = Case::with(&upstream.url(), stall).await;
    let gate = upstream.gate(ZIP, Some(LEN as u64));
    gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
    let answer = case.get(ZIP).await;
    assert!(!answer.complete);
    let mod_gate = upstream.gate(MOD, Some(100));
    let answer = case.get(MOD).await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (504, "upstream-timeout")
    );
    drop((gate, mod_gate));
}

#[tokio::test]
async fn a_connection_lost_before_the_first_byte_is_tried_once_more() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    for (path, body) in [(ZIP, zip_of(ZIP, 1000)), (MOD, pattern(1000))] {
        let gate = upstream.gate(path, Some(1000));
        gate.send(Err(io::Error::other("cable pulled"))).unwrap();
        upstream.on(path, Reply::Body(body.clone(), vec![]));
        assert_eq!(case.get(path).await.body, body, "{path}");
        assert_eq!(upstream.asked(path), 2);
    }
}

#[tokio::test]
async fn parts_of_a_growing_body() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    let gate = upstream.gate(ZIP, Some(LEN as u64));
    gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
    let client = Client::h2(case.address()).await;
    let whole = client.head("GET", ZIP, &[]).await;
    let provisional = whole.headers()["etag"].to_str().unwrap().to_owned();
    let from = LEN / 4;
    let range = format!("bytes={from}-");
    let resume = [
        ("range", range.as_str()),
        ("if-range", provisional.as_str()),
    ];
    let part = client.head("GET", ZIP, &resume).await;
    assert_eq!(part.status(), 206);
    let content_range = format!("bytes {from}-{}/{LEN}", LEN - 1);
    assert_eq!(part.headers()["content-range"], content_range);
    let other = [("range", range.as_str()), ("if-range", "\"other\"")];
    assert_eq!(client.head("GET", ZIP, &other).await.status(), 200);
    let behind = client
        .head("GET", ZIP, &[("range", "bytes=1000000-")])
        .await;
    assert_eq!(behind.status(), 416);
    gate.send(Ok(zip().slice(LEN / 2..))).unwrap();
    let part = collect(part).await;
    assert_eq!(part.body, zip().slice(from..));
    assert_eq!(
        part.trailers["repr-digest"],
        Sha256::of(&zip()).repr_digest()
    );
    assert!(collect(whole).await.complete);
    // The provisional tag stays good after the commit.
    let resumed = client.get(ZIP, &resume).await;
    assert_eq!((resumed.status, &resumed.body), (206, &zip().slice(from..)));
    assert_eq!(resumed.headers["etag"], Sha256::of(&zip()).etag());
    let known = client.get(ZIP, &[("if-none-match", &provisional)]).await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn a_part_of_a_body_without_length_waits_for_the_end() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    let gate = upstream.gate(ZIP, None);
    gate.send(Ok(zip())).unwrap();
    let client = Client::h2(case.address()).await;
    let ask = client.get(ZIP, &[("range", "bytes=-10")]);
    let mut ask = std::pin::pin!(ask);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut ask).await;
    assert!(early.is_err());
    drop(gate);
    let part = ask.await;
    assert_eq!((part.status, part.body), (206, zip().slice(LEN - 10..)));
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_refused_and_not_stored() {
    const INFO: &str = "/a.example/m/@v/v1.0.0.info";
    let upstream = Upstream::start().await;
    let limits = |config: &mut modcdn_origin::Config| {
        config.limits.max_zip = ByteSize::b(1000);
        config.limits.max_mod = ByteSize::b(1000);
    };
    let case = Case::with(&upstream.url(), limits).await;
    let html = vec![("content-type", "text/html; charset=utf-8")];
    let gzip = vec![("content-encoding", "gzip")];
    for (path, body, headers, reason) in [
        (
            INFO,
            Bytes::from(r#"{"Version":"v1.0.1"}"#),
            vec![],
            "upstream-content",
        ),
        (INFO, Bytes::from("{"), vec![], "upstream-content"),
        (MOD, Bytes::new(), vec![], "upstream-content"),
        (MOD, pattern(1001), vec![], "upstream-too-large"),
        (MOD, pattern(10), html, "upstream-content"),
        (ZIP, pattern(10), gzip, "upstream-content"),
        (ZIP, pattern(1001), vec![], "upstream-too-large"),
        (ZIP, Bytes::new(), vec![], "upstream-content"),
    ] {
        upstream.only(path, Reply::Body(body, headers));
        let answer = case.get(path).await;
        assert_eq!(
            (answer.status, answer.header("modcdn-reason")),
            (502, reason),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.text().contains("127.0.0.1"), "{}", answer.text());
        assert!(!case.dir.path().join(&path[1..]).exists());
    }
    // Without an announced length the limit is noticed on the way.
    upstream.only(ZIP, Reply::Status(500, ""));
    let gate = upstream.gate(ZIP, None);
    upstream.only(ZIP, Reply::Status(500, ""));
    drop(gate);
    let gate = upstream.gate("/a.example/m/@v/v1.0.1.zip", None);
    gate.send(Ok(pattern(800))).unwrap();
    gate.send(Ok(pattern(800))).unwrap();
    let answer = case.get("/a.example/m/@v/v1.0.1.zip").await;
    assert!(answer.status == 502 || !answer.complete);
    assert!(!case.dir.path().join("a.example/m/@v/v1.0.1.zip").exists());
}

#[tokio::test]
async fn a_body_nobody_can_tell_the_end_of_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nmodule a.example/m\n")
                .await;
        }
    });
    let case = Case::start(&url).await;
    let answer = case.get(MOD).await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (502, "upstream-content")
    );
}

#[tokio::test]
async fn a_full_spool_is_503_and_empties_again() {
    let upstream = Upstream::start().await;
    let limits = |config: &mut modcdn_origin::Config| {
        config.limits.max_zip = ByteSize::b(1_500_000);
        config.limits.spool = ByteSize::b(1_500_000);
    };
    let case = Case::with(&upstream.url(), limits).await;
    let gate = upstream.gate(ZIP, Some(LEN as u64));
    gate.send(Ok(zip().slice(..LEN / 2))).unwrap();
    let client = Client::h2(case.address()).await;
    let first = client.head("GET", ZIP, &[]).await;
    let other = "/a.example/m/@v/v1.0.1.zip";
    upstream.on(other, Reply::Body(zip_of(other, LEN), vec![]));
    let refused = case.get(other).await;
    assert_eq!(
        (refused.status, refused.header("modcdn-reason")),
        (503, "overloaded")
    );
    gate.send(Ok(zip().slice(LEN / 2..))).unwrap();
    assert!(collect(first).await.complete);
    until(|| case.metric("modcdn_origin_spool_bytes", &[]) == 0.0).await;
    assert_eq!(case.get(other).await.body, zip_of(other, LEN));
}

#[tokio::test]
async fn http_1_0_gets_no_body_whose_end_it_could_not_tell() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    for breaks in [true, false] {
        let gate = upstream.gate(ZIP, None);
        gate.send(Ok(zip())).unwrap();
        if breaks {
            gate.send(Err(io::Error::other("cable pulled"))).unwrap();
        }
        drop(gate);
        let mut stream = tokio::net::TcpStream::connect(case.address())
            .await
            .unwrap();
        let request = format!("GET {ZIP} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = String::from_utf8_lossy(answer.get(..600).unwrap_or(&answer));
        let expected = if breaks { " 502 " } else { " 200 " };
        assert!(head.contains(expected), "{head}");
        assert!(head.contains("content-length: "), "{head}");
    }
}
