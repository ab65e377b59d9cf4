use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use modcdn_core::units::{ByteSize, Period};
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::origin::Resume;
use crate::origin::dns::{Dns, Says};

/// An origin made of bare HTTP/2, whose paths say how it behaves.
struct Fake {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    restarts: Arc<Notify>,
}

impl Fake {
    /// Every connection is closed at once.
    fn restart(&self) {
        self.restarts.notify_waiters();
    }

    async fn start() -> Fake {
        Fake::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None)
    }

    fn on(listener: TcpListener, tls: Option<tokio_rustls::TlsAcceptor>) -> Fake {
        let fake = Fake {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            restarts: Arc::default(),
        };
        let (connections, requests) = (Arc::clone(&fake.connections), Arc::clone(&fake.requests));
        let restarts = Arc::clone(&fake.restarts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, tls) = (Arc::clone(&requests), tls.clone());
                let restarts = Arc::clone(&restarts);
                let restarted = restarts.clone().notified_owned();
                connections.fetch_add(1, Ordering::SeqCst);
                let talking = async move {
                    match tls {
                        None => talk(stream, requests).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else {
                                return;
                            };
                            talk(stream, requests).await;
                        }
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        () = talking => {}
                        () = restarted => {}
                    }
                });
            }
        });
        fake
    }

    fn client(&self, change: impl FnOnce(&mut OriginConfig)) -> Client {
        let mut config = OriginConfig {
            url: format!("http://{}", self.address),
            ..OriginConfig::default()
        };
        change(&mut config);
        client(&config)
    }
}

fn client(config: &OriginConfig) -> Client {
    Client::new(
        config,
        Handle::current(),
        OriginMetrics::new(&Registry::new()),
    )
    .unwrap()
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, requests: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let nth = requests.fetch_add(1, Ordering::SeqCst);
        match path.as_str() {
            // The whole connection is gone, at once.
            "/drop-first" if nth == 0 => return,
            "/last" => connection.graceful_shutdown(),
            _ => {}
        }
        tokio::spawn(answer(path, nth, request, respond));
    }
}

async fn answer(
    path: String,
    nth: usize,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = |status: u16| Response::builder().status(status).body(()).unwrap();
    match path.as_str() {
        "/silent" => std::future::pending().await,
        "/at-work" if nth < 2 && request.headers().contains_key(PREFER) => {
            let mut body = respond.send_response(response(202), false).unwrap();
            body.send_data("still at it".into(), true).unwrap();
        }
        "/always-at-work" => {
            respond.send_response(response(202), true).unwrap();
        }
        "/bad-gateway" => {
            respond.send_response(response(502), true).unwrap();
        }
        "/slow" => {
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data("slow ".into(), false).unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            body.send_data("and whole".into(), true).unwrap();
        }
        "/missing" => {
            respond.send_response(response(404), true).unwrap();
        }
        "/stall" => {
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data("some".into(), false).unwrap();
            std::future::pending::<()>().await;
        }
        "/broken" => {
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data("some".into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        "/short" => {
            let head = Response::builder()
                .header("content-length", 10)
                .body(())
                .unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data("some".into(), true).unwrap();
        }
        "/echo" => {
            let mut text = format!("{}\n", request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data(text.into(), true).unwrap();
        }
        "/big" => big(respond).await,
        _ => {
            let mut body = respond.send_response(response(200), false).unwrap();
            body.send_data("hello".into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("repr-digest", HeaderValue::from_static("sha-256=:x:"));
            body.send_trailers(trailers).unwrap();
        }
    }
}

const BIG: usize = 3 << 20;

async fn big(mut respond: SendResponse<Bytes>) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    let mut left = Bytes::from(vec![7; BIG]);
    while !left.is_empty() {
        body.reserve_capacity(left.len());
        let granted = std::future::poll_fn(|cx| body.poll_capacity(cx))
            .await
            .unwrap()
            .unwrap();
        let piece = left.split_to(granted.min(left.len()));
        body.send_data(piece, left.is_empty()).unwrap();
    }
}

async fn whole(response: &mut OriginResponse) -> Result<Vec<u8>, OriginError> {
    let mut all = Vec::new();
    while let Some(piece) = response.body.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn get(client: &Client, path: &str) -> Result<Vec<u8>, OriginError> {
    whole(&mut client.send(OriginRequest::get(path)).await?).await
}

#[test]
fn urls_are_taken_apart() {
    let plain = Endpoint::parse("http://[::1]:8081").unwrap();
    assert_eq!(
        (plain.tls, plain.host.as_str(), plain.port),
        (false, "[::1]", 8081)
    );
    let tls = Endpoint::parse("https://origin.example/").unwrap();
    assert_eq!(
        (tls.tls, tls.port, tls.authority.as_str()),
        (true, 443, "origin.example")
    );
    for url in [
        "",
        "origin",
        "ftp://x",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://u:p@a",
    ] {
        assert!(Endpoint::parse(url).is_err(), "{url}");
    }
}

#[tokio::test]
async fn body_and_trailers_arrive() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    let mut response = client.send(OriginRequest::get("/hello")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(whole(&mut response).await.unwrap(), b"hello");
    let trailers = response.body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["repr-digest"], "sha-256=:x:");
}

#[tokio::test]
async fn an_error_status_is_an_answer() {
    let fake = Fake::start().await;
    let mut response = fake
        .client(|_| {})
        .send(OriginRequest::get("/missing"))
        .await
        .unwrap();
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert!(whole(&mut response).await.unwrap().is_empty());
    assert!(response.body.trailers().await.unwrap().is_none());
}

#[tokio::test]
async fn the_request_says_what_was_asked_for() {
    let fake = Fake::start().await;
    let request = OriginRequest {
        path: "/echo".to_owned(),
        if_none_match: Some(HeaderValue::from_static("\"a\"")),
        resume: Some(Resume {
            from: 42,
            if_range: HeaderValue::from_static("\"b\""),
        }),
        no_fetch: true,
        relay: true,
        authorization: Some(HeaderValue::from_static("Bearer c")),
        patient: true,
    };
    let mut response = fake.client(|_| {}).send(request).await.unwrap();
    let text = String::from_utf8(whole(&mut response).await.unwrap()).unwrap();
    for line in [
        "accept-encoding: identity",
        "authorization: Bearer c",
        "if-none-match: \"a\"",
        "range: bytes=42-",
        "if-range: \"b\"",
        "disable-module-fetch: true",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains(&format!("{}/echo", fake.address)), "{text}");
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    let bodies = join_all((0..200).map(|_| get(&client, "/hello"))).await;
    assert!(bodies.into_iter().all(|body| body.unwrap() == b"hello"));
    let connections = fake.connections.load(Ordering::SeqCst);
    assert!((1..=3).contains(&connections), "{connections} connections");
}

#[tokio::test]
async fn a_full_pool_makes_requests_wait_their_turn() {
    let fake = Fake::start().await;
    let client = fake.client(|config| {
        config.connections = 2;
        config.streams_per_connection = 3;
    });
    let bodies = join_all((0..100).map(|_| get(&client, "/hello"))).await;
    assert!(bodies.into_iter().all(|body| body.unwrap() == b"hello"));
    assert!(fake.connections.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_pool_that_stays_full_is_overloaded() {
    let fake = Fake::start().await;
    let client = fake.client(|config| {
        config.connections = 1;
        config.streams_per_connection = 1;
        config.connect_timeout = Period::millis(200);
    });
    let _held = client.send(OriginRequest::get("/stall")).await.unwrap();
    let error = get(&client, "/hello").await.unwrap_err();
    assert!(matches!(error, OriginError::Overloaded { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_that_dies_under_a_request_costs_nothing() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    assert_eq!(get(&client, "/drop-first").await.unwrap(), b"hello");
    assert_eq!(fake.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_goes_away_is_replaced() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    for _ in 0..3 {
        assert_eq!(get(&client, "/last").await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn a_silent_origin_is_a_timeout_and_its_connection_is_left() {
    let fake = Fake::start().await;
    let client = fake.client(|config| config.first_byte_timeout = Period::millis(100));
    let error = get(&client, "/silent").await.unwrap_err();
    assert!(
        matches!(
            error,
            OriginError::Timeout {
                stage: Stage::FirstByte,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
    assert_eq!(fake.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let fake = Fake::start().await;
    let client = fake.client(|config| config.stall_timeout = Period::millis(100));
    let error = get(&client, "/stall").await.unwrap_err();
    assert!(
        matches!(
            error,
            OriginError::Timeout {
                stage: Stage::Stall,
                ..
            }
        ),
        "{error}"
    );
    let client = fake.client(|config| config.total_timeout = Period::millis(100));
    let error = get(&client, "/stall").await.unwrap_err();
    assert!(
        matches!(
            error,
            OriginError::Timeout {
                stage: Stage::Total,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_short_is_never_complete() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    for path in ["/broken", "/short"] {
        let error = get(&client, path).await.unwrap_err();
        assert!(
            matches!(error, OriginError::Broken { .. }),
            "{path}: {error}"
        );
    }
    assert_eq!(
        get(&client, "/hello").await.unwrap(),
        b"hello",
        "the connection goes on"
    );
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bodies_larger_than_the_windows_arrive_whole() {
    let fake = Fake::start().await;
    let client = fake.client(|config| {
        config.stream_window = ByteSize::kib(64);
        config.connection_window = ByteSize::kib(256);
    });
    let bodies = join_all((0..3).map(|_| get(&client, "/big"))).await;
    assert!(bodies.into_iter().all(|body| body.unwrap() == vec![7; BIG]));
}

#[tokio::test]
async fn nobody_listening_is_unreachable_until_somebody_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&OriginConfig {
        url: format!("http://{address}"),
        ..OriginConfig::default()
    });
    let error = get(&client, "/hello").await.unwrap_err();
    assert!(matches!(error, OriginError::Connect { .. }), "{error}");
    let _fake = Fake::on(TcpListener::bind(address).await.unwrap(), None);
    assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_listener_that_never_speaks_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = client(&OriginConfig {
        url: format!("https://{address}"),
        connect_timeout: Period::millis(200),
        ..OriginConfig::default()
    });
    let error = get(&client, "/hello").await.unwrap_err();
    assert!(
        matches!(
            error,
            OriginError::Timeout {
                stage: Stage::Connect,
                ..
            }
        ),
        "{error}"
    );
    let _: (TcpStream, _) = listener.accept().await.unwrap();
}

/// Two origins on one port of two addresses, and a DNS that names both, the first one first.
async fn twins() -> (Fake, Fake, Dns, OriginConfig) {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = one.local_addr().unwrap().port();
    let two = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let dns = Dns::start(Says::Addresses(vec![Ipv4Addr::LOCALHOST, TWO], 60));
    let config = OriginConfig {
        url: format!("http://origin.example:{port}"),
        resolvers: vec![dns.address],
        ..OriginConfig::default()
    };
    (Fake::on(one, None), Fake::on(two, None), dns, config)
}

const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

#[tokio::test]
async fn an_answer_that_is_late_at_one_address_is_asked_for_at_the_next() {
    let (one, two, _dns, mut config) = twins().await;
    config.first_byte_timeout = Period::millis(300);
    let client = client(&config);
    assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
    assert!(get(&client, "/silent").await.is_err(), "both are silent");
    let asked = [&one, &two].map(|fake| fake.requests.load(Ordering::SeqCst));
    assert_eq!(asked, [2, 1]);
    assert_eq!(
        get(&client, "/hello").await.unwrap(),
        b"hello",
        "suspects are used if need be"
    );
}

#[tokio::test]
async fn a_body_that_stalls_sends_the_next_request_to_another_address() {
    let (one, two, _dns, mut config) = twins().await;
    config.stall_timeout = Period::millis(200);
    let client = client(&config);
    assert!(get(&client, "/stall").await.is_err());
    assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
    let asked = [&one, &two].map(|fake| fake.requests.load(Ordering::SeqCst));
    assert_eq!(asked, [1, 1]);
}

#[tokio::test]
async fn an_address_where_nobody_listens_costs_one_try() {
    let (_one, two, dns, config) = twins().await;
    dns.now_says(Says::Addresses(vec![Ipv4Addr::new(127, 0, 0, 3), TWO], 60));
    assert_eq!(get(&client(&config), "/hello").await.unwrap(), b"hello");
    assert_eq!(two.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_to_an_address_that_left_dns_drain() {
    let (_one, two, dns, config) = twins().await;
    dns.now_says(Says::Addresses(vec![Ipv4Addr::LOCALHOST], 1));
    let client = client(&config);
    let under_way = client.send(OriginRequest::get("/slow")).await.unwrap();
    dns.now_says(Says::Addresses(vec![TWO], 60));
    while two.requests.load(Ordering::SeqCst) == 0 {
        assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut under_way = under_way;
    assert_eq!(whole(&mut under_way).await.unwrap(), b"slow and whole");
}

#[tokio::test]
async fn a_connection_is_kept_warm_before_and_after_the_origin_restarts() {
    let fake = Fake::start().await;
    let _client = fake.client(|config| config.idle_timeout = Period::millis(1));
    for opened in 1..=3 {
        until(|| fake.connections.load(Ordering::SeqCst) == opened).await;
        fake.restart();
    }
    assert_eq!(fake.requests.load(Ordering::SeqCst), 0, "nobody asked");
}

#[tokio::test]
async fn an_origin_that_is_gone_is_left_alone_and_used_again_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&OriginConfig {
        url: format!("http://{address}"),
        breaker: crate::config::BreakerConfig {
            pause: Period::secs(600),
            pause_max: Period::secs(600),
            ..Default::default()
        },
        ..OriginConfig::default()
    });
    let mut refused = 0;
    let suspended = loop {
        match get(&client, "/hello").await.unwrap_err() {
            OriginError::Connect { .. } => refused += 1,
            error => break error,
        }
    };
    assert!(
        matches!(suspended, OriginError::Suspended { .. }),
        "{suspended}"
    );
    assert_eq!(refused, crate::config::DEFAULT_BREAKER_FAILURES);
    let fake = Fake::on(TcpListener::bind(address).await.unwrap(), None);
    // The keeper finds it, long before the breaker's pause is over.
    until(|| fake.connections.load(Ordering::SeqCst) > 0).await;
    while let Err(error) = get(&client, "/hello").await {
        assert!(matches!(error, OriginError::Suspended { .. }), "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn as_many_as_may_be_are_with_the_origin_and_the_rest_wait() {
    let fake = Fake::start().await;
    let client = fake.client(|config| {
        config.requests = 1;
        config.queue = 1;
    });
    let held = client.send(OriginRequest::get("/stall")).await.unwrap();
    let mut second = Box::pin(get(&client, "/hello"));
    assert!(futures::poll!(&mut second).is_pending());
    let third = get(&client, "/hello").await.unwrap_err();
    assert!(matches!(third, OriginError::Overloaded { .. }), "{third}");
    drop(held);
    assert_eq!(second.await.unwrap(), b"hello");
}

#[tokio::test]
async fn statuses_never_open_the_breaker() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    for _ in 0..50 {
        let response = client
            .send(OriginRequest::get("/bad-gateway"))
            .await
            .unwrap();
        assert_eq!(response.status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
}

/// Waits for something to become true.
async fn until(is_true: impl Fn() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it never came");
}

mod tls {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;

    struct Authority {
        dir: tempfile::TempDir,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Authority {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let dir = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
            Authority {
                dir,
                issuer: Issuer::new(params, key),
            }
        }

        fn file(&self) -> Option<std::path::PathBuf> {
            Some(self.dir.path().join("ca.pem"))
        }

        fn acceptor(&self, name: &str, alpn: &[u8]) -> tokio_rustls::TlsAcceptor {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let secret = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let mut config = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], secret)
                .unwrap();
            config.alpn_protocols = vec![alpn.to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        }

        async fn fake(&self, name: &str, alpn: &[u8]) -> Fake {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Fake::on(listener, Some(self.acceptor(name, alpn)))
        }
    }

    fn over_tls(fake: &Fake, ca: Option<std::path::PathBuf>) -> Client {
        let url = format!("https://{}", fake.address);
        client(&OriginConfig {
            url,
            ca,
            ..OriginConfig::default()
        })
    }

    #[tokio::test]
    async fn an_origin_vouched_for_is_spoken_to() {
        let authority = Authority::new();
        let fake = authority.fake("127.0.0.1", b"h2").await;
        let client = over_tls(&fake, authority.file());
        assert_eq!(get(&client, "/hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn strangers_wrong_names_and_http1_are_refused() {
        let (authority, stranger) = (Authority::new(), Authority::new());
        for (fake, why) in [
            (stranger.fake("127.0.0.1", b"h2").await, "unknown authority"),
            (authority.fake("other.test", b"h2").await, "another name"),
            (authority.fake("127.0.0.1", b"http/1.1").await, "no HTTP/2"),
        ] {
            let client = over_tls(&fake, authority.file());
            let error = get(&client, "/hello").await.unwrap_err();
            assert!(
                matches!(error, OriginError::Connect { .. }),
                "{why}: {error}"
            );
            assert_eq!(fake.requests.load(Ordering::SeqCst), 0, "{why}");
        }
    }

    #[test]
    fn a_bad_file_of_authorities_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for ca in [file, dir.path().join("absent.pem")] {
            let config = OriginConfig {
                url: "https://origin.test".to_owned(),
                ca: Some(ca),
                ..OriginConfig::default()
            };
            let made = Client::new(
                &config,
                runtime.handle().clone(),
                OriginMetrics::new(&Registry::new()),
            );
            assert!(made.is_err_and(|error| error.contains(".pem")));
        }
    }
}

fn patiently(path: &str) -> OriginRequest {
    OriginRequest {
        patient: true,
        ..OriginRequest::get(path)
    }
}

#[tokio::test]
async fn an_origin_that_says_it_is_at_work_is_asked_again() {
    let fake = Fake::start().await;
    let client = fake.client(|config| config.first_byte_timeout = Period::secs(2));
    let mut response = client.send(patiently("/at-work")).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(whole(&mut response).await.unwrap(), b"hello");
    assert_eq!(fake.requests.load(Ordering::SeqCst), 3);
    assert_eq!(client.metrics.at_work.get(), 2);
    // All on one connection: none of them is taken for dead.
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_origin_that_is_at_work_for_too_long_is_given_up() {
    let fake = Fake::start().await;
    let client = fake.client(|config| {
        config.first_byte_timeout = Period::secs(2);
        config.total_timeout = Period::millis(1500);
    });
    let error = client.send(patiently("/always-at-work")).await.unwrap_err();
    let OriginError::Timeout {
        stage: Stage::Total,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(fake.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_has_something_else_to_give_does_not_wait_for_an_origin_at_work() {
    let fake = Fake::start().await;
    let client = fake.client(|_| {});
    let response = client.send(OriginRequest::get("/always-at-work")).await;
    assert_eq!(response.unwrap().status, StatusCode::ACCEPTED);
    let text = get(&client, "/echo").await.unwrap();
    assert!(!String::from_utf8(text).unwrap().contains("prefer:"));
}

#[tokio::test]
async fn a_refused_connection_is_told_in_one_sentence() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = client(&OriginConfig {
        url: format!("http://{address}"),
        ..OriginConfig::default()
    });
    let error = client.send(OriginRequest::get("/x")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot connect to {address}: Connection refused (os error 111)")
    );
}
