//! TLS of the origin's own listeners, and deadlines of connections.

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::{Case, Client, Upstream};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use modcdn_core::units::Period;
use modcdn_origin::config::Tls;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MOD: &str = "/a.example/m/@v/v1.0.0.mod";

/// Writes a certificate for `origin.test` and says how to listen with it.
fn certificate(dir: &Path) -> (Tls, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["origin.test".to_owned()]).unwrap();
    let tls = Tls {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        certificate: dir.join("certificate.pem"),
        key: dir.join("key.pem"),
    };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    (tls, made.cert.der().clone())
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("origin.test").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn alpn_chooses_the_protocol_over_both_tls_versions() {
    let upstream = Upstream::start().await;
    upstream.on_text(MOD, "module a.example/m\n");
    let dir = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(dir.path());
    let case = Case::with(&upstream.url(), |config| config.tls = Some(tls)).await;
    let address = case.origin.tls_addresses()[0];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = connect(address, &trusted, version, &[b"h2", b"http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let answer = Client::H2(sender).get(MOD, &[]).await;
        assert_eq!(answer.text(), "module a.example/m\n");

        for alpn in [&[&b"http/1.1"[..]][..], &[]] {
            let io = TokioIo::new(connect(address, &trusted, version, alpn).await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let request = http::Request::get(MOD).header("host", "origin.test");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
        }
    }
    let connections =
        |protocol| case.metric("modcdn_origin_connections_total", &[("protocol", protocol)]);
    assert_eq!((connections("HTTP/2"), connections("HTTP/1.1")), (2.0, 4.0));
}

#[tokio::test]
async fn a_bad_certificate_is_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(dir.path());
    std::fs::write(&tls.certificate, "no certificate").unwrap();
    let mut config = harness::config(dir.path(), "off");
    config.tls = Some(tls);
    let error = modcdn_origin::Origin::start(config).await.err().unwrap();
    assert!(error.to_string().contains("certificate.pem"), "{error}");
}

/// Reads until the other side closes; how it closes doesn't matter.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn silent_and_dripping_clients_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(dir.path());
    let case = Case::with("off", |config| {
        config.tls = Some(tls);
        config.timeouts.handshake = Period::millis(30);
        config.timeouts.header = Period::millis(30);
        config.timeouts.idle = Period::millis(30);
    })
    .await;
    for (address, first) in [
        (case.origin.tls_addresses()[0], &b""[..]),
        (case.address(), b""),
        (case.address(), b"PRI * HTTP/2"),
        (case.address(), b"GET / HTTP/1.1\r\nhost: x\r\n"),
        // The preface and empty settings, then nothing.
        (
            case.address(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_shed_and_come_back() {
    let case = Case::with("off", |config| config.limits.connections = 1).await;
    let first = Client::h2(case.address()).await;
    assert_eq!(first.get("/-/healthz", &[]).await.status, 200);
    let mut second = TcpStream::connect(case.address()).await.unwrap();
    closed(&mut second).await;
    let labels = [("cause", "limit")];
    assert_eq!(
        case.metric("modcdn_origin_shed_connections_total", &labels),
        1.0
    );
    drop(first);
    let open = || case.metric("modcdn_origin_open_connections", &[]);
    harness::until(|| open() == 0.0).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = Client::h2(case.address()).await;
    assert_eq!(third.get("/-/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
    let upstream = Upstream::start().await;
    upstream.on(
        ZIP,
        harness::Reply::Body(harness::zip::zip_of(ZIP, 20 << 20), vec![]),
    );
    let case = Case::with(&upstream.url(), |config| {
        config.timeouts.client_stall = Period::millis(100);
    })
    .await;
    let mut stream = TcpStream::connect(case.address()).await.unwrap();
    let request = format!("GET {ZIP} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let labels = [("cause", "stalled")];
    let dropped = || case.metric("modcdn_origin_shed_connections_total", &labels);
    harness::until(|| dropped() == 1.0).await;
    assert!(case.get(ZIP).await.complete, "others are served");
}

#[tokio::test]
async fn stopping_lets_requests_finish() {
    const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
    let upstream = Upstream::start().await;
    let case = Case::with(&upstream.url(), |config| {
        config.timeouts.shutdown = Period::secs(10);
    })
    .await;
    let gate = upstream.gate(ZIP, Some(1_000_000));
    let zip = harness::zip::zip_of(ZIP, 1_000_000);
    gate.send(Ok(zip.slice(..500_000))).unwrap();
    let client = Client::h2(case.address()).await;
    let response = client.head("GET", ZIP, &[]).await;
    let address = case.address();
    let stop = tokio::spawn(case.origin.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    gate.send(Ok(zip.slice(500_000..))).unwrap();
    let answer = harness::collect(response).await;
    assert!(answer.complete && answer.body.len() == 1_000_000);
    stop.await.unwrap();
}
