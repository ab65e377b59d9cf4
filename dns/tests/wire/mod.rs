//! What tests say to a server over its sockets, and hear from it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long anything may take before a test is given up.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The next message of a connection, without its length.
pub(crate) async fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let length = timeout(LONG, stream.read_u16()).await.unwrap().unwrap();
    let mut message = vec![0; usize::from(length)];
    timeout(LONG, stream.read_exact(&mut message))
        .await
        .unwrap()
        .unwrap();
    message
}

/// The answer to a query over UDP, from where it was sent to.
pub(crate) async fn over_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(query, server).await.unwrap();
    let mut answer = vec![0; 4096];
    let (length, from) = timeout(LONG, socket.recv_from(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(from, server);
    answer.truncate(length);
    answer
}

/// Asks on an admin listener, `head` being method and path; the whole answer as text.
pub(crate) async fn admin(server: SocketAddr, head: &str, token: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    over_http(server, &request).await
}

/// Sends a request, written out; the whole answer as text.
pub(crate) async fn over_http(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}
