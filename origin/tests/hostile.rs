//! Upstreams that mean ill: bodies without end, wrong lengths, encodings nobody asked for, drips and
//! floods. What HTTP libraries would not send is written to the socket by hand.

mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{Answer, Case, until};
use modcdn_core::units::{ByteSize, Period};
use modcdn_origin::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIST: &str = "/a.example/m/@v/list";
const INFO: &str = "/a.example/m/@v/v1.0.0.info";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
const TEN_GIB: u64 = 10 << 30;
/// What sockets and libraries may have in hand when a body is cut.
const IN_HAND: u64 = 24 << 20;

/// What is sent after the head.
#[derive(Clone)]
enum Then {
    /// These bytes, then the end.
    End(Vec<u8>),
    /// These bytes again and again.
    Again(Vec<u8>),
    /// These bytes again and again, a moment apart.
    Drip(Vec<u8>),
}

/// An upstream that says the same to everybody.
struct Hostile {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

impl Hostile {
    async fn start(head: &str, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sent, asked) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (counted, head) = ((sent.clone(), asked.clone()), head.replace('\n', "\r\n"));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.1.fetch_add(1, Ordering::Relaxed);
                let (head, then, sent) = (head.clone(), then.clone(), counted.0.clone());
                tokio::spawn(async move { say(stream, &head, then, &sent).await });
            }
        });
        Self {
            address,
            sent,
            asked,
        }
    }

    async fn case(&self, change: impl FnOnce(&mut Config)) -> Case {
        Case::with(&format!("http://{}", self.address), |config| {
            config.timeouts.stall = Period::secs(1);
            change(config);
        })
        .await
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Says its piece until the other side has had enough.
async fn say(mut stream: TcpStream, head: &str, then: Then, sent: &AtomicU64) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(head.as_bytes()).await;
    match then {
        Then::End(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Then::Again(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {
                sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        }
        Then::Drip(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {
                sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

fn chunk(len: usize) -> Vec<u8> {
    let mut chunk = format!("{len:x}\r\n").into_bytes();
    chunk.extend(std::iter::repeat_n(b'v', len));
    chunk.extend(b"\r\n");
    chunk
}

fn assert_refused(answer: &Answer, reason: &str) {
    let shown = format!("{} {:?}", answer.status, answer.headers);
    assert!(matches!(answer.status, 502 | 504), "{shown}");
    assert_eq!(answer.header("modcdn-reason"), reason, "{shown}");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn ten_gibibytes_that_are_announced_are_not_even_begun() {
    let head = format!("HTTP/1.1 200 OK\ncontent-length: {TEN_GIB}\n\n");
    let upstream = Hostile::start(&head, Then::Again(vec![b'v'; 1 << 16])).await;
    let case = upstream.case(|_| ()).await;
    for path in [LIST, INFO, MOD, ZIP] {
        assert_refused(&case.get(path).await, "upstream-too-large");
    }
    assert!(upstream.sent() < IN_HAND * 4, "{}", upstream.sent());
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_its_limit() {
    let head = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n";
    for path in [LIST, INFO, MOD] {
        let upstream = Hostile::start(head, Then::Again(chunk(1 << 16))).await;
        let case = upstream.case(|_| ()).await;
        assert_refused(&case.get(path).await, "upstream-too-large");
        assert!(
            upstream.sent() < (16 << 20) + IN_HAND,
            "{path}: {}",
            upstream.sent()
        );
    }
}

#[tokio::test]
async fn a_zip_without_end_is_cut_visibly_and_leaves_nothing() {
    let head = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n";
    let upstream = Hostile::start(head, Then::Again(chunk(1 << 16))).await;
    let small = |config: &mut Config| config.limits.max_zip = ByteSize::mib(4);
    let case = upstream.case(small).await;
    let answer = case.get(ZIP).await;
    assert!(!answer.complete, "{} {:?}", answer.status, answer.headers);
    assert!(answer.body.len() as u64 <= 4 << 20);
    assert!(upstream.sent() < (4 << 20) + IN_HAND, "{}", upstream.sent());
    until(|| case.metric("modcdn_origin_spool_bytes", &[]) == 0.0).await;
    assert!(!case.dir.path().join(&ZIP[1..]).exists());
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_fetch() {
    let head = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n";
    let upstream = Hostile::start(head, Then::Drip(chunk(1))).await;
    let brief = |config: &mut Config| config.timeouts.request = Period::millis(300);
    let case = upstream.case(brief).await;
    for path in [LIST, MOD] {
        assert_refused(&case.get(path).await, "upstream-timeout");
    }
}

#[tokio::test]
async fn a_head_without_end_is_no_head() {
    let drip = Hostile::start("HTTP/1.1 200 OK\n", Then::Drip(b"x: y\r\n".to_vec())).await;
    let brief = |config: &mut Config| {
        config.timeouts.connect = Period::millis(200);
        config.timeouts.first_byte = Period::millis(200);
    };
    let case = drip.case(brief).await;
    let answer = case.get(LIST).await;
    assert!(matches!(answer.status, 502 | 504), "{}", answer.text());

    let flood = Hostile::start("HTTP/1.1 200 OK\n", Then::Again(b"x: y\r\n".repeat(1000))).await;
    let case = flood.case(|_| ()).await;
    assert_refused(&case.get(LIST).await, "upstream-unreachable");
    // It is tried twice, like all that breaks before a head.
    assert!(flood.sent() < 2 * IN_HAND, "{}", flood.sent());
}

#[tokio::test]
async fn wrong_lengths_are_no_bodies() {
    let list = b"v1.0.0\n".to_vec();
    for (head, body, reason) in [
        // Longer than what comes.
        ("content-length: 20", list.clone(), "upstream-broken"),
        // Chunks that end too early, or are none.
        (
            "transfer-encoding: chunked",
            b"7\r\nv1.0.0\n".to_vec(),
            "upstream-broken",
        ),
        (
            "transfer-encoding: chunked",
            b"junk\r\n".to_vec(),
            "upstream-broken",
        ),
        (
            "transfer-encoding: chunked",
            b"ffffffffffffffff\r\n".to_vec(),
            "upstream-broken",
        ),
        // Neither: nobody can tell where it ends.
        ("x: y", list.clone(), "upstream-content"),
        ("content-length: -7", list.clone(), "upstream-unreachable"),
        (
            "content-length: 7\ncontent-length: 8",
            list.clone(),
            "upstream-unreachable",
        ),
    ] {
        let head = format!("HTTP/1.1 200 OK\n{head}\n\n");
        let upstream = Hostile::start(&head, Then::End(body)).await;
        let case = upstream.case(|_| ()).await;
        let answer = case.get(LIST).await;
        assert_eq!(
            answer.header("modcdn-reason"),
            reason,
            "{head}: {}",
            answer.text()
        );
        assert!(matches!(answer.status, 502 | 504), "{head}");
    }
}

#[tokio::test]
async fn bytes_behind_a_bodys_end_are_nobodys() {
    let head = "HTTP/1.1 200 OK\ncontent-length: 7\n\n";
    let upstream = Hostile::start(
        head,
        Then::End(b"v1.0.0\nHTTP/1.1 200 OK\r\n\r\nv6.6.6\n".to_vec()),
    );
    let upstream = upstream.await;
    let case = upstream.case(|_| ()).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    let other = case.get("/a.example/n/@v/list").await;
    assert_eq!(other.text(), "v1.0.0\n", "on a connection of its own");
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 2);
}

/// 1 GiB of zeros, twice compressed, begins like this; nobody here ever reads further.
const BOMB: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3];

#[tokio::test]
async fn encodings_that_nobody_asked_for_are_refused_and_never_decoded() {
    for field in [
        "content-encoding: gzip",
        "content-encoding: identity\ncontent-encoding: gzip",
        "content-encoding: br, gzip",
        "content-encoding: identity, gzip",
    ] {
        let head = format!(
            "HTTP/1.1 200 OK\n{field}\ncontent-length: {}\n\n",
            BOMB.len()
        );
        let upstream = Hostile::start(&head, Then::End(BOMB.to_vec())).await;
        let case = upstream.case(|_| ()).await;
        for path in [LIST, MOD, ZIP] {
            assert_refused(&case.get(path).await, "upstream-content");
        }
    }
    let mut chunked = format!("{:x}\r\n", BOMB.len()).into_bytes();
    chunked.extend(BOMB);
    chunked.extend(b"\r\n0\r\n\r\n");
    let head = "HTTP/1.1 200 OK\ntransfer-encoding: gzip, chunked\n\n";
    let upstream = Hostile::start(head, Then::End(chunked)).await;
    let case = upstream.case(|_| ()).await;
    assert_refused(&case.get(MOD).await, "upstream-content");
    // What doesn't say that it is encoded is no list and no JSON.
    let head = format!("HTTP/1.1 200 OK\ncontent-length: {}\n\n", BOMB.len());
    let upstream = Hostile::start(&head, Then::End(BOMB.to_vec())).await;
    let case = upstream.case(|_| ()).await;
    for path in [LIST, INFO] {
        assert_refused(&case.get(path).await, "upstream-content");
    }
}

#[tokio::test]
async fn nothing_is_asked_for_encoded() {
    let upstream = harness::Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = Case::start(&upstream.url()).await;
    case.get(LIST).await;
    assert_eq!(upstream.last(LIST)["accept-encoding"], "identity");
}

#[tokio::test]
async fn an_errors_text_without_end_is_not_waited_for() {
    let head = "HTTP/1.1 500 Trouble\ncontent-type: text/plain\ntransfer-encoding: chunked\n\n";
    let upstream = Hostile::start(head, Then::Again(chunk(1 << 16))).await;
    let case = upstream.case(|_| ()).await;
    let answer = case.get(LIST).await;
    assert_refused(&answer, "upstream-status");
    assert!(answer.body.len() < 700, "{}", answer.body.len());
    assert!(upstream.sent() < IN_HAND, "{}", upstream.sent());
}
