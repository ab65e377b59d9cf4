//! A whole server on loopback: what a connection may do, and records that come and go.
//!
//! Waits here are bounds for a test that would otherwise hang, never what is asserted.

mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use modcdn_core::units::Period;
use modcdn_dns::Dns;
use modcdn_dns::config::{Config, Pop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use wire::{LONG, read_framed};

const TOKEN: &str = "a-token-of-24-characters";

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        pops: vec![Pop {
            name: "eu".to_owned(),
            addresses: vec![IpAddr::from([127, 0, 0, 11])],
            latitude: 0.0,
            longitude: 8.0,
            health: None,
        }],
        ..Config::default()
    }
}

/// A query with its length before it.
fn framed(id: u16, name: &str, kind: u8, opt: &[u8]) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())]);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, kind, 0, 1]);
    query.extend(opt);
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    [&length[..], &query].concat()
}

async fn connect_from(last: u8, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from = Ipv4Addr::new(127, 0, 0, last);
    socket.bind((from, 0).into()).unwrap();
    socket.connect(server).await.unwrap()
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    let asked = framed(1, "go.test", 1, &[]);
    let asking =
        async { stream.write_all(&asked).await.is_ok() && stream.read_u16().await.is_ok() };
    timeout(LONG, asking).await.unwrap()
}

/// Asks on the admin listener; the whole answer as text.
async fn admin(dns: &Dns, head: &str, body: &str) -> String {
    wire::admin(dns.admin_address(), head, TOKEN, body).await
}

async fn until_counted(dns: &Dns, line: &str) {
    let counted = async {
        while !admin(dns, "GET /metrics", "").await.contains(line) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, counted).await.expect(line);
}

#[tokio::test]
async fn one_client_has_so_many_connections_and_others_have_theirs() {
    let mut config = config();
    config.tcp.per_client = 1;
    let dns = Dns::start(config).await.unwrap();
    let server = dns.addresses()[0];
    let mut first = connect_from(2, server).await;
    assert!(is_answered(&mut first).await);
    assert!(!is_answered(&mut connect_from(2, server).await).await);
    assert!(is_answered(&mut connect_from(3, server).await).await);
    until_counted(&dns, "modcdn_dns_tcp_cut_total{reason=\"per-client\"} 1").await;
    drop(first);
    let again = async { while !is_answered(&mut connect_from(2, server).await).await {} };
    timeout(LONG, again).await.unwrap();
    dns.stop().await;
}

#[tokio::test]
async fn who_reads_only_after_asking_a_lot_gets_every_answer_in_order() {
    let dns = Dns::start(config()).await.unwrap();
    let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    let count = 20_000_u16;
    let asked: Vec<u8> = (0..count)
        .flat_map(|id| framed(id, "go.test", 1, &[]))
        .collect();
    let (mut reader, mut writer) = stream.split();
    // The end of what is asked isn't the end of what is answered.
    let asking = async {
        writer.write_all(&asked).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        // Answers wait in buffers until these are full, and then in the server.
        sleep(Duration::from_millis(50)).await;
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    };
    let ((), all) = timeout(LONG, async { tokio::join!(asking, reading) })
        .await
        .unwrap();
    let mut rest = &all[..];
    for id in 0..count {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        assert_eq!(rest[2..4], id.to_be_bytes());
        rest = &rest[2 + length..];
    }
    assert!(rest.is_empty());
    dns.stop().await;
}

#[tokio::test]
async fn who_never_reads_is_cut_off() {
    let mut config = config();
    config.tcp.stall = Period::millis(50);
    let dns = Dns::start(config).await.unwrap();
    let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    let asked = framed(7, "why.go.test", 16, &[]).repeat(1000);
    let asking = async { while stream.write_all(&asked).await.is_ok() {} };
    timeout(LONG, asking).await.expect("the server closes");
    until_counted(&dns, "modcdn_dns_tcp_cut_total{reason=\"not-read\"} 1").await;
    dns.stop().await;
}

#[tokio::test]
async fn lengths_that_are_none_end_their_connection_alone() {
    let dns = Dns::start(config()).await.unwrap();
    let server = dns.addresses()[0];
    let mut good = TcpStream::connect(server).await.unwrap();
    assert!(is_answered(&mut good).await);
    for (bytes, reason) in [
        (&[0x10, 0x01][..], "too-long"),
        (&[0, 0], "not-a-query"),
        (&[0, 3, 1, 2, 3], "not-a-query"),
    ] {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"", "{reason}");
        until_counted(&dns, reason).await;
    }
    let mut half = TcpStream::connect(server).await.unwrap();
    half.write_all(&framed(1, "go.test", 1, &[])[..9])
        .await
        .unwrap();
    half.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(LONG, half.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"", "a query that ends halfway");
    dns.stop().await;
}

#[tokio::test]
async fn a_connection_that_asks_is_told_how_long_it_may_be_idle() {
    let mut config = config();
    config.tcp.idle = Period::secs(30);
    let dns = Dns::start(config).await.unwrap();
    let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0];
    stream
        .write_all(&framed(1, "go.test", 1, &opt))
        .await
        .unwrap();
    let answer = read_framed(&mut stream).await;
    assert!(answer.ends_with(&[0, 11, 0, 2, 0x01, 0x2c]), "{answer:?}");
    dns.stop().await;
}

fn with_records(folder: &Path) -> Config {
    let mut config = config();
    std::fs::write(folder.join("tokens"), TOKEN).unwrap();
    config.dynamic.token_file = Some(folder.join("tokens"));
    config.dynamic.file = Some(folder.join("dynamic.json"));
    config
}

async fn text_at(dns: &Dns, name: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    stream.write_all(&framed(1, name, 16, &[])).await.unwrap();
    read_framed(&mut stream).await
}

const CHALLENGE: &str = "_acme-challenge.go.test";

#[tokio::test]
async fn a_record_that_was_set_is_answered_after_a_restart_too_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start(with_records(folder.path())).await.unwrap();
    let set = |value: &str, seconds: u32| {
        format!(r#"{{"set":{{"name":"{CHALLENGE}.","value":"{value}","seconds":{seconds}}}}}"#)
    };
    let answer = admin(&dns, "POST /dns/txt", &set("kept", 3600)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    dns.stop().await;

    let dns = Dns::start(with_records(folder.path())).await.unwrap();
    let answer = text_at(&dns, CHALLENGE).await;
    assert_eq!(answer[3] & 15, 0);
    assert!(answer.ends_with(b"\x04kept"), "{answer:?}");
    let answer = admin(&dns, "POST /dns/txt", &set("short", 1)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let ended = async {
        while text_at(&dns, CHALLENGE).await[7] != 1 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, ended).await.expect("one of two is left");
    let clear = format!(r#"{{"clear":{{"name":"{CHALLENGE}."}}}}"#);
    admin(&dns, "POST /dns/txt", &clear).await;
    assert_eq!(text_at(&dns, CHALLENGE).await[3] & 15, 3, "NXDOMAIN");
    dns.stop().await;
}
