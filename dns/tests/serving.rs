//! A whole server on loopback: UDP and TCP, limits, health, stopping.
//!
//! Waits here are bounds for a test that would otherwise hang, never what is asserted.

mod wire;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::Period;
use modcdn_dns::config::{Config, HealthUrl, Pop};
use modcdn_dns::{Dns, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use wire::LONG;

fn config() -> Config {
    let pop = |name: &str, last: u8, longitude| Pop {
        name: name.to_owned(),
        addresses: vec![IpAddr::from([127, 0, 0, last])],
        latitude: 0.0,
        longitude,
        health: None,
    };
    Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        pops: vec![
            pop("eu", 11, 8.0),
            pop("us", 12, -77.0),
            pop("ap", 13, 103.0),
        ],
        pins: [
            ("192.0.2.0/24".parse().unwrap(), "eu".to_owned()),
            ("198.51.100.0/24".parse().unwrap(), "us".to_owned()),
        ]
        .into(),
        order: vec!["ap".to_owned()],
        ..Config::default()
    }
}

fn query(name: &str, kind: RecordType, subnet: Option<&[u8]>) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(data) = subnet {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut()
            .insert(EdnsOption::Unknown(8, data.to_vec()));
        message.set_edns(edns);
    }
    message
}

async fn over_udp(server: SocketAddr, query: &Message) -> Message {
    let answer = wire::over_udp(server, &query.to_vec().unwrap()).await;
    Message::from_vec(&answer).unwrap()
}

fn framed(query: &Message) -> Vec<u8> {
    let bytes = query.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], &bytes].concat()
}

async fn read_framed(stream: &mut TcpStream) -> Message {
    Message::from_vec(&wire::read_framed(stream).await).unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    match timeout(LONG, stream.read_u8()).await.unwrap() {
        Ok(_) => false,
        Err(error) => {
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            )
        }
    }
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

const EU: &[u8] = &[0, 1, 24, 0, 192, 0, 2];

#[tokio::test]
async fn udp_and_tcp_answer_alike() {
    let dns = Dns::start(config()).await.unwrap();
    let server = dns.addresses()[0];
    for (subnet, address) in [
        (Some(EU), "127.0.0.11"),
        (Some(&[0, 1, 24, 0, 198, 51, 100][..]), "127.0.0.12"),
        (None, "127.0.0.13"),
    ] {
        let asked = query("go.test.", RecordType::A, subnet);
        let udp = over_udp(server, &asked).await;
        assert_eq!(addresses(&udp), [address]);
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(&framed(&asked)).await.unwrap();
        assert_eq!(read_framed(&mut stream).await, udp);
    }
    let all = over_udp(server, &query("all.go.test.", RecordType::A, None)).await;
    assert_eq!(all.answers.len(), 3);
    dns.stop().await;
}

#[tokio::test]
async fn each_query_of_a_burst_is_answered_once_whatever_the_batch() {
    for (listen, batch, pin) in [("127.0.0.1:0", 64, false), ("[::1]:0", 3, true)] {
        let mut config = config();
        config.listen = vec![listen.parse().unwrap()];
        config.udp.batch = batch;
        config.udp.pin = pin;
        let dns = Dns::start(config).await.unwrap();
        let server = dns.addresses()[0];
        let socket = UdpSocket::bind(listen).await.unwrap();
        for id in 0..100 {
            let mut asked = query("go.test.", RecordType::A, Some(EU));
            asked.metadata.id = id;
            socket
                .send_to(&asked.to_vec().unwrap(), server)
                .await
                .unwrap();
        }
        let mut left: HashSet<u16> = (0..100).collect();
        let mut answer = [0; 512];
        while !left.is_empty() {
            let received = timeout(LONG, socket.recv_from(&mut answer)).await.unwrap();
            let (length, from) = received.unwrap();
            let message = Message::from_vec(&answer[..length]).unwrap();
            assert_eq!(
                (from, addresses(&message)),
                (server, vec!["127.0.0.11".to_owned()])
            );
            assert!(left.remove(&message.metadata.id), "answered twice");
        }
        let text = metrics(&dns).await;
        let counted = r#"modcdn_dns_queries_total{rcode="NOERROR",transport="udp",type="A"} 100"#;
        assert!(text.contains(counted), "{counted} is not in\n{text}");
        dns.stop().await;
    }
}

#[tokio::test]
async fn pipelined_queries_are_answered_in_order_and_pieces_are_put_together() {
    let dns = Dns::start(config()).await.unwrap();
    let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    let mut bytes = Vec::new();
    for id in 0..2000 {
        let mut asked = query("go.test.", RecordType::A, Some(EU));
        asked.metadata.id = id;
        bytes.extend(framed(&asked));
    }
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        for piece in bytes.chunks(777) {
            writer.write_all(piece).await.unwrap();
        }
    };
    let reading = async {
        for id in 0..2000 {
            let length = reader.read_u16().await.unwrap();
            let mut answer = vec![0; usize::from(length)];
            reader.read_exact(&mut answer).await.unwrap();
            assert_eq!(Message::from_vec(&answer).unwrap().metadata.id, id);
        }
    };
    timeout(LONG, async { tokio::join!(writing, reading) })
        .await
        .unwrap();
    dns.stop().await;
}

#[tokio::test]
async fn bad_bytes_leave_the_server_answering() {
    let dns = Dns::start(config()).await.unwrap();
    let server = dns.addresses()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for junk in [&[][..], &[0], &[0xff; 12], &[0xff; 3000], &[0; 12]] {
        socket.send_to(junk, server).await.unwrap();
    }
    let mut answer = [0; 512];
    let (length, _) = timeout(LONG, socket.recv_from(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let message = Message::from_vec(&answer[..length]).unwrap();
    assert_eq!(
        message.metadata.response_code,
        ResponseCode::FormErr,
        "the all-zero header"
    );
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(&[0xff, 0xff]).await.unwrap();
    assert!(is_closed(&mut stream).await, "no query is that long");
    let asked = query("go.test.", RecordType::A, Some(EU));
    assert_eq!(addresses(&over_udp(server, &asked).await), ["127.0.0.11"]);
    dns.stop().await;
}

#[tokio::test]
async fn silent_and_dripping_connections_are_closed() {
    let mut config = config();
    config.tcp.idle = Period::millis(50);
    config.tcp.stall = Period::millis(50);
    let dns = Dns::start(config).await.unwrap();
    let mut silent = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    assert!(is_closed(&mut silent).await);
    let mut dripping = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    let (mut reader, mut writer) = dripping.split();
    let drip = async {
        // A query of 256 bytes, one at a time: never silent, never whole.
        while writer.write_all(&[1]).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = async {
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    };
    timeout(LONG, async {
        tokio::select! { () = drip => {}, () = ended => {} }
    })
    .await
    .unwrap();
    dns.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_at_once() {
    let mut config = config();
    config.tcp.connections = 1;
    let dns = Dns::start(config).await.unwrap();
    let asked = framed(&query("go.test.", RecordType::A, None));
    let mut first = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    first.write_all(&asked).await.unwrap();
    read_framed(&mut first).await;
    let mut second = TcpStream::connect(dns.addresses()[0]).await.unwrap();
    assert!(is_closed(&mut second).await);
    drop(first);
    // The place is free once the server has seen the end of the first.
    let third = async {
        loop {
            let mut stream = TcpStream::connect(dns.addresses()[0]).await.unwrap();
            if stream.write_all(&asked).await.is_ok() && stream.read_u16().await.is_ok() {
                return;
            }
        }
    };
    timeout(LONG, third).await.unwrap();
    dns.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let dns = Dns::start(config()).await.unwrap();
    let taken = dns.addresses()[0];
    let again = Config {
        listen: vec![taken],
        ..config()
    };
    let error = Dns::start(again).await.err().unwrap();
    assert!(matches!(error, Error::Bind(_)));
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let admin = Config {
        admin: dns.admin_address(),
        ..config()
    };
    let error = Dns::start(admin).await.err().unwrap().to_string();
    assert!(
        error.contains(&dns.admin_address().to_string()) && error.contains("admin"),
        "{error}"
    );
    dns.stop().await;
}

#[tokio::test]
async fn a_geo_database_that_is_none_is_an_error_that_names_it() {
    let mut config = config();
    config.geo.database = Some("/nowhere/places.mmdb".into());
    let error = Dns::start(config).await.err().unwrap().to_string();
    assert!(error.contains("/nowhere/places.mmdb"), "{error}");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_frees_the_port() {
    let dns = Dns::start(config()).await.unwrap();
    let server = dns.addresses()[0];
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream
        .write_all(&framed(&query("go.test.", RecordType::A, None)))
        .await
        .unwrap();
    read_framed(&mut stream).await;
    dns.stop().await;
    assert!(is_closed(&mut stream).await);
    let again = Config {
        listen: vec![server],
        ..config()
    };
    Dns::start(again).await.unwrap().stop().await;
}

/// An edge as far as a health check sees it.
async fn edge(address: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    (address, serving)
}

async fn until_answered(server: SocketAddr, name: &str, expected: &[&str]) {
    let asked = query(name, RecordType::A, Some(EU));
    let moved = async {
        while addresses(&over_udp(server, &asked).await) != expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, moved)
        .await
        .unwrap_or_else(|_| panic!("{name} never became {expected:?}"));
}

#[tokio::test]
async fn a_dead_pop_leaves_the_answers_and_comes_back() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (address, serving) = edge(any).await;
    let mut config = config();
    let url = format!("http://{address}/-/healthz");
    config.pops[0].health = Some(HealthUrl::try_from(url).unwrap());
    config.checks.interval = Period::millis(20);
    let dns = Dns::start(config).await.unwrap();
    let server = dns.addresses()[0];
    timeout(LONG, async {
        while dns.admin().readiness().get().is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    until_answered(server, "go.test.", &["127.0.0.11"]).await;
    serving.abort();
    until_answered(server, "go.test.", &["127.0.0.12"]).await;
    until_answered(server, "all.go.test.", &["127.0.0.12", "127.0.0.13"]).await;
    assert!(
        metrics(&dns)
            .await
            .contains("modcdn_dns_pop_healthy{pop=\"eu\"} 0")
    );
    let (_, serving) = edge(address).await;
    until_answered(server, "go.test.", &["127.0.0.11"]).await;
    assert!(
        metrics(&dns)
            .await
            .contains("modcdn_dns_pop_healthy{pop=\"eu\"} 1")
    );
    serving.abort();
    dns.stop().await;
}

#[tokio::test]
async fn with_every_pop_down_every_pop_is_answered() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let mut config = config();
    for pop in &mut config.pops {
        pop.health = Some(HealthUrl::try_from(url.clone()).unwrap());
    }
    let dns = Dns::start(config).await.unwrap();
    let all = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];
    until_answered(dns.addresses()[0], "go.test.", &all).await;
    until_answered(dns.addresses()[0], "all.go.test.", &all).await;
    dns.stop().await;
}

async fn metrics(dns: &Dns) -> String {
    get(dns, "/metrics").await
}

async fn get(dns: &Dns, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    wire::over_http(dns.admin_address(), &request).await
}

#[tokio::test]
async fn queries_are_counted_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut config = config();
    config.access_log = AccessTarget::File(path.clone());
    let dns = Dns::start(config).await.unwrap();
    let asked = query("go.test.", RecordType::A, Some(EU));
    over_udp(dns.addresses()[0], &asked).await;
    let malformed = query("go.test.", RecordType::A, Some(&[0, 3, 24, 0, 192, 0, 2]));
    over_udp(dns.addresses()[0], &malformed).await;
    let text = metrics(&dns).await;
    for line in [
        r#"modcdn_dns_queries_total{rcode="NOERROR",transport="udp",type="A"} 1"#,
        r#"modcdn_dns_queries_total{rcode="FORMERR",transport="udp",type="A"} 1"#,
        r#"modcdn_dns_answers_total{pop="eu"} 1"#,
        r#"modcdn_dns_client_subnets_total{state="given"} 1"#,
        r#"modcdn_dns_client_subnets_total{state="invalid"} 1"#,
        r#"modcdn_dns_pop_healthy{pop="us"} 1"#,
        "modcdn_dns_map_version 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let lines = timeout(LONG, lines_of(&path, 2)).await.unwrap();
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    for (key, value) in [
        ("role", "dns"),
        ("name", "dns"),
        ("client", "127.0.0.1"),
        ("protocol", "udp"),
        ("subnet", "192.0.2.0/24"),
        ("query", "go.test."),
        ("type", "A"),
        ("rcode", "NOERROR"),
        ("pop", "eu"),
        ("why", "pin"),
        ("via", "subnet"),
    ] {
        assert_eq!(line[key], value, "{key} of {line}");
    }
    assert_eq!((&line["scope"], &line["map"]), (&24.into(), &1.into()));
    assert!(line.get("sample").is_none(), "{line}");
    dns.stop().await;
}

async fn lines_of(path: &Path, count: usize) -> Vec<String> {
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') {
            return lines;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_choice_is_explained_on_the_admin_listener() {
    let dns = Dns::start(config()).await.unwrap();
    let json = get(&dns, "/explain?ip=192.0.2.9").await;
    assert!(json.starts_with("HTTP/1.1 200"), "{json}");
    let body = json.split("\r\n\r\n").nth(1).unwrap();
    let said: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&said["answer"], &said["source"]),
        (&"eu".into(), &"pin".into())
    );
    assert_eq!(
        (&said["scope"], &said["name"]),
        (&24.into(), &"go.test.".into())
    );
    let table = get(&dns, "/explain?ip=192.0.2.9&format=text").await;
    assert!(table.contains("answer     eu: 127.0.0.11"), "{table}");
    for (path, code) in [("/explain", 400), ("/explain?ip=192.0.2.9&name=x.", 404)] {
        let answer = get(&dns, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
    dns.stop().await;
}

/// The server's cookie in an answer to one that shows `shown`.
async fn cookie(server: SocketAddr, shown: &[u8]) -> Vec<u8> {
    let mut asked = query("go.test.", RecordType::A, Some(EU));
    let option = EdnsOption::Unknown(10, shown.to_vec());
    let edns = asked.edns.as_mut().unwrap();
    edns.options_mut().insert(option);
    let answer = over_udp(server, &asked).await;
    let edns = answer.edns.as_ref().unwrap();
    match edns.option(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, data)) => data.clone(),
        other => panic!("{other:?}"),
    }
}

async fn set_txt(dns: &Dns, token: &str) -> String {
    let body = r#"{"set":{"name":"_acme-challenge.go.test.","value":"v"}}"#;
    let head = format!(
        "host: x\r\nconnection: close\r\ncontent-length: {}",
        body.len()
    );
    let request =
        format!("POST /dns/txt HTTP/1.1\r\n{head}\r\nauthorization: Bearer {token}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(dns.admin_address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[9..]).into_owned()
}

#[tokio::test]
async fn limits_secrets_and_tokens_are_taken_up_by_a_reload() {
    const TOKENS: [&str; 2] = ["a-token-of-the-first-file", "a-token-of-the-second-file"];
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut config = config();
    config.dynamic.file = Some(folder.path().join("dynamic.json"));
    config.dynamic.token_file = Some(file("one", TOKENS[0]));
    let mut dns = Dns::start(config.clone()).await.unwrap();
    let server = dns.addresses()[0];
    let valid = |count: usize| format!("cookies_total{{state=\"valid\"}} {count}\n");
    let own = cookie(server, b"a client").await;
    assert_eq!(set_txt(&dns, TOKENS[0]).await, "200");
    config.dynamic.token_file = Some(file("two", TOKENS[1]));
    config.tcp.connections = 1;
    dns.reload(&|| Ok(config.clone())).await.unwrap();
    assert_eq!(set_txt(&dns, TOKENS[0]).await, "401");
    assert_eq!(set_txt(&dns, TOKENS[1]).await, "200");
    let asked = framed(&query("go.test.", RecordType::A, None));
    let mut first = TcpStream::connect(server).await.unwrap();
    first.write_all(&asked).await.unwrap();
    read_framed(&mut first).await;
    let second = &mut TcpStream::connect(server).await.unwrap();
    assert!(is_closed(second).await, "one connection at once");
    cookie(server, &own).await;
    assert!(metrics(&dns).await.contains(&valid(1)));

    // A secret in a file; then another one in the same file, the first as its second line.
    let secrets = ["5".repeat(32), "7".repeat(32)];
    config.cookies.secret_file = Some(file("secrets", &secrets[0]));
    dns.reload(&|| Ok(config.clone())).await.unwrap();
    cookie(server, &own).await;
    assert!(metrics(&dns).await.contains(&valid(1)));
    let of_the_file = cookie(server, b"a client").await;
    file("secrets", &format!("{}\n{}\n", secrets[1], secrets[0]));
    dns.reload(&|| Ok(config.clone())).await.unwrap();
    assert_ne!(cookie(server, &of_the_file).await, of_the_file);
    assert!(metrics(&dns).await.contains(&valid(2)));

    config.rates.answers = 1;
    config.rates.burst = 1;
    config.rates.exempt.clear();
    dns.reload(&|| Ok(config.clone())).await.unwrap();
    let asked = query("go.test.", RecordType::A, None).to_vec().unwrap();
    let limited = async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        while !metrics(&dns).await.contains("modcdn_dns_limited_total{") {
            socket.send_to(&asked, server).await.unwrap();
        }
    };
    timeout(LONG, limited).await.unwrap();
    dns.stop().await;
}
