//! Bodies that lie in files: sent by the kernel over HTTP/1.1 in clear text, read elsewhere.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use http::Method;
use modcdn_core::units::{ByteSize, Period};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::over_h2::{ask, over, whole};
use super::*;
use crate::exchange::FileSpan;

/// Where the body begins in its file.
const OFFSET: u64 = 1000;
const GET: &str = "GET /filed.test/m/@v/list HTTP/1.1\r\nHost: go.test\r\n\r\n";
const LENGTH: &str = "content-length: 2097152\r\n";

/// More than the buffers of two sockets take.
pub(super) const VAST: u64 = 64 << 20;

/// A body in a file, offered in spans of up to 600,000 bytes.
pub(super) struct Filed {
    file: Arc<File>,
    at: u64,
    length: u64,
}

impl Filed {
    /// [`big`] in a file that lacks so many bytes at its end.
    pub(super) fn lacking(bytes: u64) -> Filed {
        Filed::of(BIG as u64, OFFSET + BIG as u64 - bytes)
    }

    /// [`VAST`] bytes, most of them zero.
    pub(super) fn vast() -> Filed {
        Filed::of(VAST, OFFSET + VAST)
    }

    fn of(length: u64, file_length: u64) -> Filed {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&big(), OFFSET).unwrap();
        file.set_len(file_length).unwrap();
        Filed {
            file: Arc::new(file),
            at: 0,
            length,
        }
    }
}

#[async_trait]
impl BodyStream for Filed {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        if self.file.metadata().unwrap().len() < OFFSET + BIG as u64 {
            return Err(Aborted {
                reason: Reason::Store,
            });
        }
        let at = usize::try_from(self.at).unwrap();
        let piece = big().slice(at..BIG.min(at + 100_000));
        self.advance(piece.len() as u64);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    fn lies_in_file(&self) -> bool {
        self.at < self.length
    }

    fn span(&mut self) -> Option<FileSpan> {
        let left = self.length - self.at;
        (left > 0).then(|| FileSpan {
            file: self.file.clone(),
            offset: OFFSET + self.at,
            length: left.min(600_000),
        })
    }

    fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

/// Reads a head and at least so many bytes after it; fewer if the connection ends before.
async fn response(stream: &mut TcpStream, length: usize) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    let end = |all: &[u8]| all.windows(4).position(|at| at == b"\r\n\r\n");
    let mut body = None;
    while body.is_none_or(|begin| all.len() < begin + length) {
        match stream.read_buf(&mut all).await {
            Ok(1..) => body = body.or_else(|| Some(end(&all)? + 4)),
            Ok(0) | Err(_) => break,
        }
    }
    let rest = all.split_off(body.unwrap_or(all.len()));
    let head = String::from_utf8(all).unwrap().to_ascii_lowercase();
    (head, rest)
}

#[tokio::test]
async fn a_body_in_a_file_arrives_whole_and_the_connection_goes_on() {
    let door = door(|_| {}).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    for _ in 0..3 {
        // Two requests at once: the second answer follows on the last byte of the file.
        let both = format!("{GET}{}", GET.replace("filed", "whole"));
        stream.write_all(both.as_bytes()).await.unwrap();
        let (head, mut body) = response(&mut stream, BIG).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let mut next = body.split_off(BIG);
        assert!(body == big());
        while !next.ends_with(b"v1.0.0\n") {
            assert!(stream.read_buf(&mut next).await.unwrap() > 0);
        }
        assert!(next.starts_with(b"HTTP/1.1 200 "));
    }
}

/// A client whose socket takes little.
async fn narrow(door: &Door) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(door.address).await.unwrap()
}

#[tokio::test]
async fn a_client_that_stalls_gets_all_of_a_file_once_it_reads() {
    let door = door(|_| {}).await;
    let mut stream = narrow(&door).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    // Long enough for the buffers of both sockets to be full; the bytes don't depend on it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, body) = response(&mut stream, BIG).await;
    assert!(body == big());
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_file_is_cut_off() {
    let door = door(|config| {
        config.timeouts.write = Period::millis(100);
        config.limits.send_rate = ByteSize::gib(100);
    })
    .await;
    let mut stream = narrow(&door).await;
    let request = GET.replace("filed", "vast");
    stream.write_all(request.as_bytes()).await.unwrap();
    let cut_off = async {
        while door.metrics.aborted.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), cut_off).await;
    waited.expect("a client that takes nothing must be given up");
    let vast = usize::try_from(VAST).unwrap();
    let (_, body) = response(&mut stream, vast).await;
    assert!(body.len() < vast, "{} bytes", body.len());
}

#[tokio::test]
async fn a_file_that_has_become_shorter_is_cut_off_visibly() {
    let door = door(|_| {}).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    let request = GET.replace("filed", "shrunk");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, body) = response(&mut stream, BIG).await;
    assert!(head.contains(LENGTH), "{head}");
    assert_eq!(body.len(), BIG - 500_000);
    assert_eq!(door.metrics.aborted.get(), 1);
}

#[tokio::test]
async fn over_http2_a_body_in_a_file_is_read() {
    let door = door(|_| {}).await;
    let stream = TcpStream::connect(door.address).await.unwrap();
    let (sender, _connection) = over(stream).await;
    let url = "http://go.test/filed.test/m/@v/list";
    let response = ask(&sender, Method::GET, url).await.unwrap();
    assert!(whole(response).await.unwrap() == big());
}
