use h2::client::{self, SendRequest};
use http::{Method, Request, Response};
use modcdn_core::units::Period;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

type Connected = (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>);

/// A client by prior knowledge, and its connection's end.
async fn connect(door: &Door) -> Connected {
    over(TcpStream::connect(door.address).await.unwrap()).await
}

pub(super) async fn over<S>(stream: S) -> Connected
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = client::Builder::new();
    // So that a stream that isn't read blocks no other.
    builder.initial_connection_window_size(16 << 20);
    // As Go's client does until it has seen our settings.
    builder.initial_max_send_streams(100);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

pub(super) async fn ask(
    sender: &SendRequest<Bytes>,
    method: Method,
    url: &str,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    let request = Request::builder().method(method).uri(url).body(()).unwrap();
    let mut sender = sender.clone().ready().await?;
    sender.send_request(request, true)?.0.await
}

pub(super) async fn whole(response: Response<h2::RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn get(sender: &SendRequest<Bytes>, path: &str) -> Result<(u16, Vec<u8>), h2::Error> {
    let response = ask(sender, Method::GET, &format!("http://go.test{path}")).await?;
    let status = response.status().as_u16();
    Ok((status, whole(response).await?))
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let asked = (0..500).map(|_| get(&sender, LIST));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap(), (200, b"v1.0.0\n".to_vec()));
    }
    assert_eq!(door.metrics.connections_open.get(), 1);
}

#[tokio::test]
async fn large_bodies_and_streams_arrive_whole_side_by_side() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let (one, two, three) = tokio::join!(
        get(&sender, "/big.test/m/@v/list"),
        get(&sender, "/unknown.test/m/@v/list"),
        get(&sender, "/big.test/m/@v/list"),
    );
    assert!(one.unwrap().1 == big() && three.unwrap().1 == big());
    assert_eq!(two.unwrap(), (200, b"abcdef".to_vec()));
}

#[tokio::test]
async fn head_is_the_head_of_get() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let response = ask(&sender, Method::HEAD, &format!("http://go.test{LIST}"))
        .await
        .unwrap();
    assert_eq!(response.headers()["content-length"], "7");
    assert!(response.headers().contains_key("date"));
    assert!(whole(response).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_cannot_be_finished_is_reset() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    for module in ["aborted", "cut", "short"] {
        let error = get(&sender, &format!("/{module}.test/m/@v/list"))
            .await
            .unwrap_err();
        assert!(error.is_reset(), "{module}: {error}");
    }
    assert_eq!(
        get(&sender, LIST).await.unwrap().0,
        200,
        "the connection goes on"
    );
}

#[tokio::test]
async fn a_panic_resets_its_stream_only() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    assert!(
        get(&sender, "/panic.test/m/@v/list")
            .await
            .unwrap_err()
            .is_reset()
    );
    assert_eq!(get(&sender, LIST).await.unwrap().0, 200);
    assert_eq!(door.metrics.panics.get(), 1);
}

#[tokio::test]
async fn bad_input_is_refused() {
    let door = door(|config| config.hosts = vec!["go.test".to_owned()]).await;
    let (sender, _connection) = connect(&door).await;
    let url = format!("http://go.test{LIST}");
    for (method, url, expected) in [
        (Method::POST, url.clone(), 405),
        (Method::TRACE, url.clone(), 405),
        (Method::GET, format!("{url}?x=y"), 400),
        (Method::GET, "http://go.test/".to_owned(), 400),
        (Method::GET, "http://go.test/-/x".to_owned(), 404),
        (Method::GET, "http://go.test/-/healthz".to_owned(), 200),
        (Method::GET, url.replace("go.test", "other.test"), 421),
        (
            Method::GET,
            format!("http://go.test/{}", "a".repeat(5000)),
            414,
        ),
    ] {
        let response = ask(&sender, method.clone(), &url).await.unwrap();
        assert_eq!(response.status(), expected, "{method} {url}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_refused() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let request = Request::get(format!("http://go.test{LIST}"))
        .body(())
        .unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (response, _body) = sender.send_request(request, false).unwrap();
    assert_eq!(response.await.unwrap().status(), 400);
}

#[tokio::test]
async fn too_many_or_too_large_fields_are_431() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    for (fields, length) in [(200, 1), (60, 2000)] {
        let mut request = Request::get(format!("http://go.test{LIST}"));
        for n in 0..fields {
            request = request.header(format!("x-{n}"), "y".repeat(length));
        }
        let mut sender = sender.clone().ready().await.unwrap();
        let response = sender
            .send_request(request.body(()).unwrap(), true)
            .unwrap()
            .0;
        assert_eq!(
            response.await.unwrap().status(),
            431,
            "{fields} fields of {length}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_request() {
    let door = door(|_| {}).await;
    let (sender, connection) = connect(&door).await;
    let mut sender = sender.ready().await.unwrap();
    let request = Request::get("http://go.test/never.test/m/@v/list")
        .body(())
        .unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    while door.metrics.requests_in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    drop(response);
    while door.metrics.requests_in_flight.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!connection.is_finished());
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_given_up_and_its_siblings_go_on() {
    let door = door(|config| config.timeouts.write = Period::millis(100)).await;
    let (sender, _connection) = connect(&door).await;
    let url = "http://go.test/endless.test/m/@v/list";
    let unread = ask(&sender, Method::GET, url).await.unwrap();
    while door.metrics.aborted.get() == 0 {
        assert_eq!(get(&sender, "/-/healthz").await.unwrap().0, 200);
    }
    assert!(whole(unread).await.unwrap_err().is_reset());
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let door = door(|config| config.timeouts.h2_idle = Period::millis(50)).await;
    let (sender, connection) = connect(&door).await;
    assert_eq!(get(&sender, LIST).await.unwrap().0, 200);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_says_goaway() {
    let door = door(|_| {}).await;
    let (sender, connection) = connect(&door).await;
    let url = "http://go.test/slow.test/m/@v/list";
    let slow = ask(&sender, Method::GET, url).await.unwrap();
    door.drain.begin();
    assert_eq!(whole(slow).await.unwrap(), b"abcdefghi");
    connection.await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(5), door.drain.finished())
        .await
        .unwrap();
}

#[tokio::test]
async fn health_says_503_while_draining() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let held = ask(&sender, Method::GET, "http://go.test/slow.test/m/@v/list")
        .await
        .unwrap();
    let mut ready = sender.clone().ready().await.unwrap();
    door.drain.begin();
    let request = Request::get("http://go.test/-/healthz").body(()).unwrap();
    let health = ready.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(health.status(), 503);
    drop(held);
}

#[tokio::test]
async fn rapid_resets_close_the_connection() {
    let door = door(|_| {}).await;
    let (sender, connection) = connect(&door).await;
    let mut refused = false;
    for _ in 0..20_000 {
        let Ok(mut ready) = sender.clone().ready().await else {
            refused = true;
            break;
        };
        let request = Request::get("http://go.test/never.test/m/@v/list")
            .body(())
            .unwrap();
        let Ok((response, mut body)) = ready.send_request(request, true) else {
            refused = true;
            break;
        };
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
    }
    // Either the flood was answered with GOAWAY, or every request was freed as it was reset.
    if !refused {
        while door.metrics.requests_in_flight.get() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!connection.is_finished() || connection.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_preface_that_never_comes_meets_the_deadline() {
    let door = door(|config| {
        config.timeouts.handshake = Period::millis(100);
        config.timeouts.keep_alive = Period::millis(100);
    })
    .await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn draining_lets_a_slow_reader_have_the_rest() {
    let door = door(|_| {}).await;
    let (sender, _connection) = connect(&door).await;
    let url = "http://go.test/big.test/m/@v/list";
    let response = ask(&sender, Method::GET, url).await.unwrap();
    door.drain.begin();
    let (mut body, mut got) = (response.into_body(), 0);
    while let Some(piece) = body.data().await {
        let length = piece.unwrap().len();
        got += length;
        // The rest waits in the connection's buffer: its request is long over.
        if BIG - got < 200 << 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        body.flow_control().release_capacity(length).unwrap();
    }
    assert_eq!(got, BIG);
}
