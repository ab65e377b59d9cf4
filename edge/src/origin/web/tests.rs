//! A mount's client against servers that speak TLS, over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use modcdn_core::units::Period;
use prometheus::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::metrics::WebMetrics;
use super::*;
use crate::config::mounts::MountKind;

/// A server under a name of its own, vouched for by an authority of its own.
struct Secure {
    dir: tempfile::TempDir,
    port: u16,
    connections: Arc<AtomicUsize>,
}

async fn secure(alpn: &[u8]) -> Secure {
    let dir = tempfile::tempdir().unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["files.test".to_owned()]).unwrap();
    let issuer = Issuer::from_ca_cert_der(ca.der(), &ca_key).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::<AtomicUsize>::default();
    let accepted = Arc::clone(&connections);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                tokio::spawn(over_h2(stream));
            } else {
                tokio::spawn(over_h1(stream));
            }
        }
    });
    Secure {
        dir,
        port,
        connections,
    }
}

/// Answers with what it was asked for.
async fn over_h2(stream: TlsStream<TcpStream>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut body = respond
            .send_response(http::Response::new(()), false)
            .unwrap();
        body.send_data(request.uri().to_string().into(), true)
            .unwrap();
    }
}

async fn over_h1(mut stream: TlsStream<TcpStream>) {
    let mut head = vec![0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut head).await {
        let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
        let host = head
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}",
            host.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

impl Secure {
    fn web(&self, host: Option<&str>, ca: bool) -> Web {
        let mount = MountConfig {
            prefix: "/".to_owned(),
            kind: MountKind::Http,
            origin: Some(format!("https://127.0.0.1:{}", self.port)),
            host: host.map(str::to_owned),
            ca: ca.then(|| self.dir.path().join("ca.pem")),
        };
        let config = HttpConfig {
            connect_timeout: Period::secs(5),
            ..HttpConfig::default()
        };
        let metrics = WebMetrics::new(&Registry::new()).of("/");
        Web::new(&mount, &[], &config, metrics).unwrap()
    }
}

/// Protocol and body.
async fn get(web: &Web) -> Result<String, OriginError> {
    let request = WebRequest {
        method: Method::GET,
        target: PathAndQuery::from_static("/a?b"),
        headers: HeaderMap::new(),
        upload: None,
        relay: false,
    };
    let mut response = web.send(request).await?;
    assert!(response.framed);
    let mut body = Vec::new();
    while let Some(piece) = response.body.next().await? {
        body.extend_from_slice(&piece);
    }
    let body = String::from_utf8(body).unwrap();
    Ok(format!("{} {body}", response.protocol))
}

#[tokio::test]
async fn a_name_of_its_own_is_in_tls_and_in_the_request() {
    let server = secure(b"h2").await;
    let web = server.web(Some("files.test"), true);
    for _ in 0..3 {
        assert_eq!(get(&web).await.unwrap(), "HTTP/2 https://files.test/a?b");
    }
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        1,
        "one connection for all"
    );
}

#[tokio::test]
async fn an_origin_without_http_2_is_spoken_to_by_http_1() {
    let server = secure(b"http/1.1").await;
    let web = server.web(Some("files.test"), true);
    for _ in 0..3 {
        assert_eq!(get(&web).await.unwrap(), "HTTP/1.1 files.test");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "kept alive");
}

#[tokio::test]
async fn an_origin_that_nobody_vouches_for_is_not_asked() {
    let server = secure(b"h2").await;
    for web in [
        server.web(Some("files.test"), false),
        server.web(None, true),
    ] {
        let error = get(&web).await.unwrap_err();
        assert!(matches!(error, OriginError::Connect { .. }), "{error}");
    }
}
