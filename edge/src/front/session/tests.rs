//! Bodies of requests, over both protocols. Answers are tested where clients meet them.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::config::LimitConfig;
use crate::front::h2::limits;
use crate::front::h2::link::Link;
use crate::front::head::Bounds;
use crate::front::request::Request;
use crate::front::wire::{Transport, Wire};

const LONG: Duration = Duration::from_secs(20);
const BOUNDS: Bounds = Bounds {
    bytes: 4096,
    fields: 100,
};

/// A session for a `PUT` with these fields, and the client's end of its connection.
fn put(fields: &str) -> (Session, Wire, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    let wire = Wire::new(Transport::Plain(Box::new(ours)));
    let header = format!("PUT /a HTTP/1.1\r\nHost: go.test\r\n{fields}\r\n\r\n");
    let (request, framing) = Request::of_h1(&Bytes::from(header), BOUNDS).unwrap();
    (Session::H1(H1::new(&wire, &request, framing)), wire, theirs)
}

async fn read_all(session: &mut Session) -> Result<Vec<u8>, Aborted> {
    let mut all = Vec::new();
    while let Some(piece) = session.read_body(LONG).await? {
        assert!(!piece.is_empty());
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

fn h1(session: &Session) -> &H1 {
    match session {
        Session::H1(h1) => h1,
        Session::H2(_) => panic!("not HTTP/1.1"),
    }
}

#[tokio::test]
async fn a_body_is_what_its_framing_says_and_the_rest_is_the_next_request() {
    for (fields, sent) in [
        ("Content-Length: 5", "helloGET"),
        (
            "Transfer-Encoding: chunked",
            "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nGET",
        ),
    ] {
        let (mut session, wire, mut client) = put(fields);
        client.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(read_all(&mut session).await.unwrap(), b"hello", "{fields}");
        assert!(h1(&session).was_read());
        wire.with_ahead(|ahead| assert_eq!(&ahead[..], b"GET", "{fields}"));
        assert_eq!(session.read_body(LONG).await, Ok(None), "still over");
    }
}

#[tokio::test]
async fn a_body_broken_off_or_malformed_is_an_error_for_good() {
    for (fields, sent) in [
        ("Content-Length: 5", "hel"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello!\r\n0\r\n\r\n"),
    ] {
        let (mut session, _wire, mut client) = put(fields);
        client.write_all(sent.as_bytes()).await.unwrap();
        drop(client);
        let aborted = read_all(&mut session).await.unwrap_err();
        assert_eq!(aborted.reason, Reason::BadRequest, "{sent:?}");
        assert!(session.read_body(LONG).await.is_err());
        assert!(!h1(&session).was_read());
    }
}

#[tokio::test]
async fn a_silent_client_meets_the_deadline_of_a_piece() {
    let (mut session, _wire, _client) = put("Content-Length: 5");
    let started = Instant::now();
    let aborted = session.read_body(Duration::from_millis(50)).await;
    assert_eq!(aborted.unwrap_err().reason, Reason::RequestTimeout);
    assert!(started.elapsed() < LONG);
}

#[tokio::test]
async fn a_client_that_waits_for_it_is_told_to_continue_once() {
    let (mut session, wire, mut client) = put("Content-Length: 10\r\nExpect: 100-continue");
    let asking = tokio::spawn(async move {
        let mut told = [0; 25];
        client.read_exact(&mut told).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(b"again").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        (told, rest)
    });
    let read = wire.drive(LONG, read_all(&mut session)).await.unwrap();
    assert_eq!(read.unwrap(), b"helloagain");
    wire.close(LONG).await;
    let (told, rest) = asking.await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(rest.is_empty(), "told once");
}

#[tokio::test]
async fn an_unread_body_closes_the_connection_after_the_answer() {
    let (mut session, wire, mut client) = put("Content-Length: 5");
    let answering = session.write_head(StatusCode::OK, HeaderMap::new(), true);
    answering.await.unwrap();
    assert!(h1(&session).complete() && !h1(&session).reusable());
    wire.close(LONG).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    for field in ["connection: close\r\n", "content-length: 0\r\n"] {
        assert!(answer.contains(field), "{answer}");
    }
}

#[tokio::test]
async fn an_upload_gets_every_piece_and_then_its_end() {
    let (mut session, _wire, mut client) = put("Transfer-Encoding: chunked");
    let (sender, mut upload) = mpsc::channel(1);
    let feeding = tokio::spawn(async move { session.feed(sender, LONG).await });
    let mut got = Vec::new();
    for text in ["5\r\nhello\r\n", "1\r\n!\r\n"] {
        client.write_all(text.as_bytes()).await.unwrap();
        got.extend_from_slice(&upload.recv().await.unwrap().unwrap());
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(upload.recv().await.is_none());
    assert_eq!(got, b"hello!");
    assert!(!feeding.is_finished(), "HTTP/1.1 clients never give up");
    feeding.abort();
}

#[tokio::test]
async fn a_broken_upload_is_no_short_one() {
    let (mut session, _wire, mut client) = put("Content-Length: 5");
    let (sender, mut upload) = mpsc::channel(1);
    let feeding = tokio::spawn(async move { session.feed(sender, LONG).await });
    client.write_all(b"hel").await.unwrap();
    assert_eq!(upload.recv().await.unwrap().unwrap(), "hel");
    drop(client);
    assert!(upload.recv().await.unwrap().is_err());
    feeding.abort();
}

#[tokio::test]
async fn a_body_over_h2_is_read_and_its_window_given_back() {
    const LENGTH: usize = 300_000;
    let (ours, theirs) = duplex(1 << 16);
    let client = tokio::spawn(async move {
        let (mut sender, connection) = h2::client::handshake(theirs).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = http::Request::put("http://go.test/a").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![7; LENGTH]), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 204);
        drop((sender, body));
        driving.await.unwrap().unwrap();
    });
    let wire = Wire::new(Transport::Plain(Box::new(ours)));
    let link = Arc::new(Link::new(&wire, limits(&LimitConfig::default())));
    let served = wire.drive(LONG, async {
        let mut taken = 0;
        let arrival = poll_fn(|cx| link.poll_arrival(cx, &mut taken)).await;
        let arrival = arrival.unwrap();
        link.open(&arrival);
        let mut session = Session::H2(H2::new(&link, arrival.stream));
        let serving = async move {
            let all = read_all(&mut session).await.unwrap();
            let head = session.write_head(StatusCode::NO_CONTENT, HeaderMap::new(), true);
            head.await.unwrap();
            all.len()
        };
        let end = poll_fn(|cx| link.poll_arrival(cx, &mut taken));
        tokio::join!(serving, end).0
    });
    assert_eq!(served.await, Some(LENGTH));
    client.await.unwrap();
}
