//! Is a node ready? Asks its admin listener: `GET /readyz`, one small HTTP/1.1 exchange.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// A question is answered within this time, or asked again.
const ANSWER_BOUND: Duration = Duration::from_secs(1);

/// More of an answer isn't read.
const ANSWER_BYTES: u64 = 4096;

/// Returns once the node says that it is ready.
pub(crate) async fn wait(admin: SocketAddr) {
    while ask(admin).await.is_err() {
        sleep(PAUSE).await;
    }
}

/// Asks once.
///
/// # Errors
/// Why it isn't ready, in its own words where it has any.
pub(crate) async fn ask(admin: SocketAddr) -> Result<(), String> {
    let answer = match timeout(ANSWER_BOUND, exchange(admin)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{admin}: {error}")),
        Err(_) => {
            return Err(format!(
                "{admin}: no answer within {} s",
                ANSWER_BOUND.as_secs()
            ));
        }
    };
    verdict(&String::from_utf8_lossy(&answer))
}

async fn exchange(admin: SocketAddr) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(admin).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection
        .take(ANSWER_BYTES)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn verdict(answer: &str) -> Result<(), String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status_line = head.lines().next().unwrap_or_default();
    if status_line.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body = body.trim();
    Err(if body.is_empty() { status_line } else { body }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_means_ready() {
        assert_eq!(verdict("HTTP/1.1 200 OK\r\n\r\nok\n"), Ok(()));
        let starting = "HTTP/1.1 503 Service Unavailable\r\n\r\nstarting\n";
        assert_eq!(verdict(starting), Err("starting".to_owned()));
        assert_eq!(
            verdict("HTTP/1.1 404 Not Found\r\n\r\n"),
            Err("HTTP/1.1 404 Not Found".into())
        );
        assert_eq!(verdict(""), Err(String::new()));
    }
}
