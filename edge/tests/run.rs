//! A whole edge in this process: started, asked, drained by a signal.
//!
//! One test, because the signal is for the whole process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use modcdn_core::digest::Sha256;
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::ByteSize;
use modcdn_edge::config::{Config, OriginConfig, StoreConfig};
use modcdn_edge::{Error, Start, run};

const INFO: &str = "/example.com/m/@v/v1.0.0.info";
const BODY: &str = r#"{"Version":"v1.0.0"}"#;

/// An origin that knows one `.info`, and how many requests it got.
fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counted)));
            }
        });
    });
    (address, requests)
}

async fn serve(stream: tokio::net::TcpStream, requests: Arc<AtomicUsize>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        requests.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.uri().path(), INFO);
        let digest = Sha256::of(BODY.as_bytes());
        let head = Response::builder()
            .header("content-type", "application/json")
            .header("content-length", BODY.len())
            .header("etag", digest.etag())
            .header("repr-digest", digest.repr_digest())
            .header("cache-control", "public, max-age=31536000, immutable");
        let mut body = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        body.send_data(Bytes::from_static(BODY.as_bytes()), true)
            .unwrap();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn config(origin: SocketAddr, dir: &tempfile::TempDir) -> Config {
    Config {
        listen: vec![free_port()],
        admin: free_port(),
        access_log: AccessTarget::File(dir.path().join("access.log")),
        threads: 2,
        origin: OriginConfig {
            url: format!("http://{origin}"),
            ..OriginConfig::default()
        },
        store: StoreConfig {
            dir: dir.path().join("store"),
            disk: ByteSize::mib(16),
            ram: ByteSize::mib(16),
            ..StoreConfig::default()
        },
        ..Config::default()
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: go.test\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

fn wait_until_ready(admin: SocketAddr) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !get(admin, "/readyz").is_ok_and(|response| response.contains(" 200 ")) {
        assert!(Instant::now() < patience, "the edge does not become ready");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_edge_serves_from_its_cache_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (origin, requests) = origin();
    let config = config(origin, &dir);
    let (public, admin) = (config.listen[0], config.admin);
    let running = thread::spawn({
        let config = config.clone();
        move || run(&config, Start::Fresh, &|| Ok(config.clone()))
    });
    wait_until_ready(admin);

    let second = Config {
        admin: free_port(),
        ..config.clone()
    };
    let error = run(&second, Start::Fresh, &|| Ok(second.clone())).unwrap_err();
    assert!(matches!(error, Error::Listen(_)), "{error}");
    assert!(error.to_string().contains(&public.to_string()), "{error}");

    assert!(get(public, "/-/healthz").unwrap().ends_with("ok\n"));
    for _ in 0..20 {
        let response = get(public, INFO).unwrap();
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with(BODY),
            "{response}"
        );
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    let metrics = get(admin, "/metrics").unwrap();
    let hits = r#"modcdn_edge_requests_total{cache="hit",kind="info",status="200"} 19"#;
    assert!(metrics.contains(hits), "{metrics}");

    let idle = TcpStream::connect(public).unwrap();
    let told = Instant::now();
    let pid = std::process::id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    running.join().unwrap().unwrap();
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "an idle edge ends at once"
    );
    drop(idle);
    assert!(
        TcpStream::connect(public).is_err(),
        "nobody listens any more"
    );
    let log = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    assert_eq!(log.lines().count(), 20, "health checks are not logged");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["cache"], &last["status"]),
        (&"hit".into(), &200.into())
    );
}
