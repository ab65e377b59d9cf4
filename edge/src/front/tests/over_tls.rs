use std::path::PathBuf;
use std::sync::Arc;

use http::Method;
use modcdn_core::units::Period;
use prometheus::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::certificate::{Certificates, Files};
use super::super::tls::Acceptor;
use super::over_h2::{ask, over, whole};
use super::*;
use crate::metrics::Metrics;

pub(super) struct Secure {
    pub(super) door: Door,
    root: CertificateDer<'static>,
    _dir: tempfile::TempDir,
}

pub(super) async fn secure(change: impl FnOnce(&mut Config)) -> Secure {
    let mut config = Config::default();
    change(&mut config);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = KeyPair::generate().unwrap();
    let names = vec!["go.test".to_owned(), "other.test".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let files = Files {
        certificate: file("cert.pem", certificate.pem()),
        key: file("key.pem", key.serialize_pem()),
    };
    let certificates = Certificates::open(files, &Metrics::new(&Registry::new())).unwrap();
    let door = Door::open(Engine, &config, Some(Acceptor::new(certificates))).await;
    Secure {
        door,
        root: certificate.der().clone(),
        _dir: dir,
    }
}

impl Secure {
    async fn connect(
        &self,
        version: &'static SupportedProtocolVersion,
        alpn: &[u8],
    ) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.door.address).await.unwrap();
        self.shake_hands(stream, version, alpn).await
    }

    pub(super) async fn shake_hands(
        &self,
        stream: TcpStream,
        version: &'static SupportedProtocolVersion,
        alpn: &[u8],
    ) -> TlsStream<TcpStream> {
        self.shake_hands_by(default_provider(), stream, version, alpn)
            .await
    }

    async fn shake_hands_by(
        &self,
        provider: CryptoProvider,
        stream: TcpStream,
        version: &'static SupportedProtocolVersion,
        alpn: &[u8],
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("go.test").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn every_suite_of_both_versions_serves_both_protocols() {
    let secure = secure(|_| {}).await;
    let suites = default_provider().cipher_suites.into_iter();
    // The certificate is one of elliptic curves.
    for suite in suites.filter(|suite| !format!("{:?}", suite.suite()).contains("_RSA_")) {
        let connect = async |alpn| {
            let provider = CryptoProvider {
                cipher_suites: vec![suite],
                ..default_provider()
            };
            let stream = TcpStream::connect(secure.door.address).await.unwrap();
            secure
                .shake_hands_by(provider, stream, suite.version(), alpn)
                .await
        };
        let (sender, _connection) = over(connect(b"h2").await).await;
        let url = "https://go.test/big.test/m/@v/list";
        let response = ask(&sender, Method::GET, url).await.unwrap();
        assert!(whole(response).await.unwrap() == big(), "{suite:?}");

        let mut stream = connect(b"http/1.1").await;
        let request =
            "GET /big.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(&big()), "{suite:?}");
    }
}

#[tokio::test]
async fn a_host_other_than_the_sni_is_misdirected() {
    let secure = secure(|_| {}).await;
    let (sender, _connection) = over(secure.connect(&rustls::version::TLS13, b"h2").await).await;
    for (host, expected) in [("go.test", 200), ("go.test:8443", 200), ("other.test", 421)] {
        let response = ask(&sender, Method::GET, &format!("https://{host}{LIST}"))
            .await
            .unwrap();
        assert_eq!(response.status(), expected, "{host}");
    }
}

#[tokio::test]
async fn a_cut_body_has_no_last_chunk_over_tls_either() {
    let secure = secure(|_| {}).await;
    let mut stream = secure.connect(&rustls::version::TLS13, b"http/1.1").await;
    let request = "GET /cut.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let ended = stream.read_to_end(&mut all).await;
    assert!(
        ended.is_err(),
        "no close_notify: rustls calls that an unexpected end"
    );
    assert!(all.ends_with(b"3\r\nabc\r\n"));
}

#[tokio::test]
async fn a_silent_client_meets_the_deadline() {
    let secure = secure(|config| config.timeouts.handshake = Period::millis(100)).await;
    let mut stream = TcpStream::connect(secure.door.address).await.unwrap();
    let ended = stream.read_to_end(&mut Vec::new()).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(secure.door.metrics.handshake_failures.get(), 1);
}

#[tokio::test]
async fn clear_text_on_a_tls_port_is_a_failed_handshake() {
    let secure = secure(|_| {}).await;
    let mut stream = TcpStream::connect(secure.door.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: go.test\r\n\r\n")
        .await
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    tokio::time::timeout(Duration::from_secs(5), secure.door.drain.finished())
        .await
        .unwrap();
    assert_eq!(secure.door.metrics.handshake_failures.get(), 1);
}

#[tokio::test]
async fn the_records_of_a_large_body_are_full() {
    let secure = secure(|_| {}).await;
    let mut stream = secure.connect(&rustls::version::TLS13, b"http/1.1").await;
    let request = "GET /big.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut sealed = Vec::new();
    let (socket, _) = stream.get_mut();
    socket.read_to_end(&mut sealed).await.unwrap();
    let (mut records, mut rest) = (0, &sealed[..]);
    while let [_, _, _, high, low, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records += 1;
        rest = &rest[5 + length..];
    }
    // Beside the full ones: tickets, the end of a poll here and there, and the good-bye.
    let full = BIG / (16 << 10);
    assert!(
        records <= full + full / 4,
        "{records} records, {full} would do"
    );
}
