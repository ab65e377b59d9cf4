//! An edge, and clients of it.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, Response, StatusCode};
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::ByteSize;
use modcdn_edge::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A running edge.
pub(crate) struct Edge {
    address: SocketAddr,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Edge {
    /// Starts an edge with an empty store, and waits until it is ready.
    pub(crate) fn start(origin: &str, change: impl FnOnce(&mut Config)) -> Edge {
        let dir = tempfile::tempdir().unwrap();
        let (address, admin) = (free_port(), free_port());
        let mut config = Config {
            listen: vec![address],
            admin,
            access_log: AccessTarget::Off,
            threads: 1,
            ..Config::default()
        };
        config.origin.url = origin.to_owned();
        config.store.dir = dir.path().join("store");
        config.store.disk = ByteSize::mib(64);
        config.store.ram = ByteSize::mib(16);
        change(&mut config);
        thread::spawn(move || {
            modcdn_edge::run(&config, modcdn_edge::Start::Fresh, &|| Ok(config.clone())).unwrap();
        });
        let edge = Edge {
            address,
            admin,
            _dir: dir,
        };
        let patience = Instant::now() + Duration::from_secs(30);
        while !edge
            .admin("/readyz")
            .is_ok_and(|answer| answer.contains(" 200 "))
        {
            assert!(Instant::now() < patience, "the edge does not become ready");
            thread::sleep(Duration::from_millis(10));
        }
        edge
    }

    fn admin(&self, path: &str) -> std::io::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.admin)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.admin("/metrics").unwrap();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    /// A connection to it.
    pub(crate) async fn client(&self) -> Client {
        self.client_with_windows(4 << 20, 16 << 20).await
    }

    /// The same, with room for so many bytes that it hasn't read: of a stream, and of all.
    pub(crate) async fn client_with_windows(&self, stream: u32, all: u32) -> Client {
        let (each, stream) = (stream, TcpStream::connect(self.address).await.unwrap());
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(each)
            .initial_connection_window_size(all)
            .handshake(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        Client(send)
    }

    /// How long a body was to be, and how much of it came.
    pub(crate) async fn over_http_1(&self, path: &str) -> (usize, usize) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // An error is a way of cutting off, too.
        let _ = stream.read_to_end(&mut all).await;
        let head = all
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .unwrap();
        let text = std::str::from_utf8(&all[..head]).unwrap().to_lowercase();
        let mut lines = text.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        (length.unwrap().parse().unwrap(), all.len() - head - 4)
    }
}

/// An answer that wasn't the body.
#[derive(Debug)]
#[allow(dead_code, reason = "fields are shown when an assertion fails")]
pub(crate) enum Cut {
    /// Broken off after so many bytes.
    Off(usize),
    /// Another status, with this text.
    Refused(u16, String),
    /// No answer.
    None(h2::Error),
}

/// A client's HTTP/2 connection.
pub(crate) struct Client(SendRequest<Bytes>);

impl Client {
    /// A whole body, or why there is none.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, Cut> {
        let request = Request::get(format!("http://edge{path}")).body(()).unwrap();
        let mut send = self.0.clone().ready().await.map_err(Cut::None)?;
        let (response, _) = send.send_request(request, true).map_err(Cut::None)?;
        let response = response.await.map_err(Cut::None)?;
        let status = response.status();
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|_| Cut::Off(all.len()))?;
            let _ = body.flow_control().release_capacity(piece.len());
            all.extend_from_slice(&piece);
        }
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&all).into_owned();
            return Err(Cut::Refused(status.as_u16(), text));
        }
        Ok(all.freeze())
    }

    /// The head of an answer that is not to be cached, whose body nobody reads.
    pub(crate) async fn begin(&self, path: &str) -> Response<h2::RecvStream> {
        let request = Request::get(format!("http://edge{path}"));
        let request = request.header("disable-module-fetch", "true");
        let mut send = self.0.clone().ready().await.unwrap();
        let (response, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
        response.await.unwrap()
    }

    /// An answer's status.
    pub(crate) async fn status(&self, path: String) -> u16 {
        match self.get(&path).await {
            Ok(_) => 200,
            Err(Cut::Refused(status, _)) => status,
            Err(cut) => panic!("{path}: {cut:?}"),
        }
    }
}
