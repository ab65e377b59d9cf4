//! Health checks over HTTP/1.1: one task a PoP, one connection a check.
//!
//! Any 2xx within the timeout is a success; the body is not read. A check begins every interval,
//! give or take a tenth, so that several servers don't fall into step.

use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::{Checks, Config, HealthUrl};
use crate::steering::Steering;

/// The part of the interval by which a check may be early or late: one in this many.
const JITTER: u64 = 10;

/// Starts checking every PoP that has a health URL. What comes back ends when each of them was
/// checked once.
pub(crate) fn start(
    config: &Config,
    steering: &Arc<Steering>,
    tasks: &mut JoinSet<()>,
) -> mpsc::Receiver<()> {
    let (first_round, done) = mpsc::channel(1);
    for (index, pop) in config.pops.iter().enumerate() {
        let Some(url) = pop.health.clone() else {
            continue;
        };
        let watch = Watch {
            steering: steering.clone(),
            index,
            url,
            checks: config.checks.clone(),
        };
        tasks.spawn(watch.run(first_round.clone()));
    }
    done
}

struct Watch {
    steering: Arc<Steering>,
    index: usize,
    url: HealthUrl,
    checks: Checks,
}

impl Watch {
    async fn run(self, first_round: mpsc::Sender<()>) {
        let jitter = RandomState::new();
        let mut first_round = Some(first_round);
        for round in 0u64.. {
            let next = Instant::now() + spread(*self.checks.interval, jitter.hash_one(round));
            let outcome = check(&self.url, *self.checks.timeout).await;
            self.steering.observe(self.index, &outcome);
            // The receiver sees the end when the last of these is dropped.
            first_round.take();
            sleep_until(next).await;
        }
    }
}

/// The interval, moved by up to a tenth either way.
fn spread(interval: Duration, random: u64) -> Duration {
    let tenth = interval / u32::try_from(JITTER).unwrap_or(u32::MAX);
    let part = (random % 2001) as f64 / 1000.0;
    interval - tenth + tenth.mul_f64(part)
}

/// Fetches a health URL once.
async fn check(url: &HealthUrl, limit: Duration) -> Result<(), String> {
    match timeout(limit, fetch(url)).await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(format!("status {}", status.as_u16())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn fetch(url: &HealthUrl) -> Result<http::StatusCode, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(url.address()).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path())
        .header(HOST, url.address().to_string())
        .header(
            USER_AGENT,
            concat!("modcdn-dns/", env!("CARGO_PKG_VERSION")),
        )
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    // The connection is driven here and not by a task, so that a check leaves nothing behind. Once
    // it has ended, the response is there or never will be.
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    };
    Ok(response?.status())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static str) -> HealthUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/-/healthz", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        HealthUrl::try_from(url).unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn only_success_is_healthy() {
        let ok = answering("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").await;
        assert_eq!(check(&ok, LONG).await, Ok(()));
        let empty = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(check(&empty, LONG).await, Ok(()));
        let sick = answering("HTTP/1.1 503 Sick\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(check(&sick, LONG).await, Err("status 503".to_owned()));
        assert!(check(&answering("").await, LONG).await.is_err());
        assert!(
            check(&answering("nonsense\r\n\r\n").await, LONG)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn nobody_listening_and_nobody_answering_are_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let url = HealthUrl::try_from(url).unwrap();
        let silent = check(&url, Duration::from_millis(50)).await.unwrap_err();
        assert!(silent.starts_with("no answer within"), "{silent}");
        drop(listener);
        assert!(check(&url, LONG).await.is_err());
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
}
