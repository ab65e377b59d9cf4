use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const LONG: Duration = Duration::from_secs(30);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";

fn question(url: String, target: SocketAddr) -> Question {
    Question {
        target,
        url: HealthUrl::try_from(url).unwrap(),
        authorities: Authorities::default(),
    }
}

async fn answering(answer: &'static str) -> Question {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer_once(stream, answer).await;
        }
    });
    question(format!("http://{address}/-/healthz"), address)
}

async fn answer_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn only_success_is_healthy() {
    let result = async |answer| answering(answer).await.ask(LONG).await.result;
    assert_eq!(result(OK).await, Ok(()));
    assert_eq!(result("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
    let sick = "HTTP/1.1 503 Sick\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(result(sick).await, Err("status 503".to_owned()));
    assert!(result("").await.is_err());
    assert!(result("nonsense\r\n\r\n").await.is_err());
}

#[tokio::test]
async fn nobody_listening_and_nobody_answering_are_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = question(format!("http://{address}/"), address);
    let silent = asked.ask(Duration::from_millis(50)).await;
    let why = silent.result.unwrap_err();
    assert!(why.starts_with("no answer within"), "{why}");
    drop(listener);
    assert!(asked.ask(LONG).await.result.is_err());
}

/// A server with a certificate for `eu.test` until 2100, and a file with that certificate.
async fn over_tls(folder: &Path) -> (SocketAddr, std::path::PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["eu.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_once(stream, OK).await;
            }
        }
    });
    (address, file)
}

/// A configuration with one PoP, checked at that URL.
fn config(url: &str, ca: Option<&Path>) -> Config {
    let pop = format!(
        "pops: [{{name: eu, addresses: [127.0.0.1], latitude: 0, longitude: 0, health: '{url}'}}]"
    );
    let mut config: Config = modcdn_core::config::parse("dns.yaml", &pop).unwrap();
    config.checks.ca = ca.map(Path::to_owned);
    config
}

#[tokio::test]
async fn a_certificate_is_proven_by_name_and_authority_and_its_end_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (address, ca) = over_tls(folder.path()).await;
    let ask = async |name: &str, ca: &Path| {
        let url = format!("https://{name}:{}/", address.port());
        let config = config(&url, Some(ca));
        let asked = Question {
            authorities: Authorities::load(&config).unwrap(),
            ..question(url, address)
        };
        asked.ask(LONG).await
    };
    let good = ask("eu.test", &ca).await;
    assert_eq!(good.result, Ok(()));
    let end = good.expires.unwrap();
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(end.as_secs(), 4_102_444_800, "the first of January 2100");
    let why = ask("us.test", &ca).await.result.unwrap_err();
    assert!(why.contains("certificate"), "{why}");
    let other = tempfile::tempdir().unwrap();
    let (_, stranger) = over_tls(other.path()).await;
    let why = ask("eu.test", &stranger).await.result.unwrap_err();
    assert!(why.contains("certificate"), "{why}");
}

#[test]
fn authorities_are_read_only_where_they_are_needed() {
    let missing = Path::new("/nonexistent/ca.pem");
    assert!(Authorities::load(&config("http://127.0.0.1/", Some(missing))).is_ok());
    let error = Authorities::load(&config("https://eu.test/", Some(missing)));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = Authorities::load(&config("https://eu.test/", Some(empty.path())));
    assert!(error.err().unwrap().to_string().contains("no certificate"));
}

#[test]
fn jitter_stays_within_a_tenth() {
    let second = Duration::from_secs(1);
    for random in [0, 1, 1000, 2000, 2001, u64::MAX] {
        let spread = spread(second, random);
        assert!(
            spread >= second * 9 / 10 && spread <= second * 11 / 10,
            "{spread:?}"
        );
    }
}
