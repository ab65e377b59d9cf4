//! What a client may not do, and who a client is.

use http::Method;
use modcdn_core::units::{ByteSize, Period};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::over_h2::{ask, over, whole};
use super::over_tls::secure;
use super::*;
use crate::metrics::Shed;

const REQUEST: &str = "GET /whole.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\n\r\n";

async fn behind_a_balancer(change: impl FnOnce(&mut Config)) -> Door {
    door(|config| {
        config.proxy_protocol.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        change(config);
    })
    .await
}

/// Sends bytes and reads what comes until the body of [`REQUEST`]'s answer, or the end.
async fn answer(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"v1.0.0\n") {
        match stream.read_buf(&mut all).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8(all).unwrap()
}

async fn connect(door: &Door) -> TcpStream {
    TcpStream::connect(door.address).await.unwrap()
}

#[tokio::test]
async fn a_trusted_balancer_says_whose_connection_it_is() {
    let door = behind_a_balancer(|config| config.limits.connections_per_address = 1).await;
    let ask = async |client: &str| {
        let mut stream = connect(&door).await;
        let bytes = format!("PROXY TCP4 {client} 10.0.0.1 5000 80\r\n{REQUEST}");
        let answer = answer(&mut stream, bytes.as_bytes()).await;
        (stream, answer)
    };
    let (_one, first) = ask("192.0.2.1").await;
    let (_two, second) = ask("192.0.2.2").await;
    let (_three, third) = ask("192.0.2.1").await;
    assert!(first.starts_with("HTTP/1.1 200 ") && second.starts_with("HTTP/1.1 200 "));
    assert_eq!(third, "", "the first client has its one connection");
    assert_eq!(door.metrics.shed(Shed::Address).get(), 1);
}

#[tokio::test]
async fn a_balancer_without_a_header_is_closed() {
    let door = behind_a_balancer(|config| config.timeouts.handshake = Period::millis(200)).await;
    assert_eq!(
        answer(&mut connect(&door).await, REQUEST.as_bytes()).await,
        ""
    );
    assert_eq!(
        answer(&mut connect(&door).await, b"PROXY TCP4 192.").await,
        ""
    );
    assert_eq!(door.metrics.proxy_failures.get(), 2);
}

#[tokio::test]
async fn a_header_from_elsewhere_is_garbage() {
    let door = door(|_| {}).await;
    let bytes = format!("PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n{REQUEST}");
    let answer = answer(&mut connect(&door).await, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let trusted = vec!["127.0.0.1/32".parse().unwrap()];
    let secure = secure(|config| config.proxy_protocol.trusted = trusted).await;
    let mut stream = TcpStream::connect(secure.door.address).await.unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 0x01, 0xbb]);
    stream.write_all(&header).await.unwrap();
    let tls = secure
        .shake_hands(stream, &rustls::version::TLS13, b"h2")
        .await;
    let (sender, _connection) = over(tls).await;
    let response = ask(&sender, Method::GET, &format!("https://go.test{LIST}")).await;
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_above_the_rate_wait_and_are_then_refused_over_both_protocols() {
    let door = door(|config| {
        config.limits.rate.requests_per_second = 2;
        config.limits.rate.burst = 1;
        config.limits.rate.queue_wait = Period::millis(600);
    })
    .await;
    let mut stream = connect(&door).await;
    assert!(
        answer(&mut stream, REQUEST.as_bytes())
            .await
            .contains(" 200 OK")
    );
    // Half a second's wait each: one finds a place in the queue, of the others at least one doesn't.
    let (sender, _connection) = over(connect(&door).await).await;
    let url = format!("http://go.test{LIST}");
    let asked = (0..4).map(|_| ask(&sender, Method::GET, &url));
    let answers = futures::future::join_all(asked).await;
    let mut refused = 0;
    for response in answers.into_iter().map(Result::unwrap) {
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            assert_eq!(response.headers()["modcdn-reason"], "rate-limited");
            let text = String::from_utf8(whole(response).await.unwrap()).unwrap();
            assert!(text.contains("more than 2 requests a second"), "{text}");
            refused += 1;
        }
    }
    assert!((1..=3).contains(&refused), "{refused}");
    assert!(door.metrics.requests_delayed.get() >= 1);
    let health = ask(&sender, Method::GET, "http://go.test/-/healthz").await;
    assert_eq!(health.unwrap().status(), 200, "health checks have no rate");
}

#[tokio::test]
async fn a_flood_is_answered_with_goaway_and_counted() {
    let door = door(|config| config.limits.h2_frames.pings = 10).await;
    let mut stream = connect(&door).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..11 {
        bytes.extend(b"\0\0\x08\x06\0\0\0\0\0pingping");
    }
    stream.write_all(&bytes).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let calm = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
    assert!(all.ends_with(calm), "{all:x?}");
    let flood = r#"modcdn_edge_h2_floods_total{frame="ping"} 1"#;
    assert!(door.shows(flood), "{flood}");
}

/// A rate that nobody reaches, and little grace.
async fn impatient() -> Door {
    door(|config| {
        config.limits.send_rate = ByteSize::gib(100);
        config.timeouts.write = Period::millis(150);
    })
    .await
}

#[tokio::test]
async fn a_trickle_is_cut_off_although_it_never_stalls() {
    let door = impatient().await;
    let mut stream = connect(&door).await;
    let request = "GET /endless.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(door.metrics.aborted.get(), 1);

    let (sender, _connection) = over(connect(&door).await).await;
    let url = "http://go.test/endless.test/m/@v/list";
    let mut body = ask(&sender, Method::GET, url).await.unwrap().into_body();
    let ended = loop {
        match body.data().await {
            Some(Ok(piece)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            Some(Err(error)) => break error,
            None => panic!("an endless body has ended"),
        }
    };
    assert!(ended.is_reset(), "{ended}");
    assert_eq!(door.metrics.aborted.get(), 2);
}

#[tokio::test]
async fn a_slow_origin_is_not_held_against_the_client() {
    let door = door(|config| {
        config.limits.send_rate = ByteSize::gib(100);
        config.timeouts.write = Period::millis(20);
    })
    .await;
    let (sender, _connection) = over(connect(&door).await).await;
    let url = "http://go.test/slow.test/m/@v/list";
    let response = ask(&sender, Method::GET, url).await.unwrap();
    assert_eq!(whole(response).await.unwrap(), b"abcdefghi");
}
