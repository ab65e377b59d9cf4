//! Health checks over HTTP/1.1, in clear text or over TLS: one task an address, one connection a
//! check.
//!
//! Any 2xx within the timeout is a success; the body is not read. A check begins every interval,
//! give or take a tenth, so that several servers don't fall into step.

mod tls;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

pub(crate) use tls::{Authorities, TlsError};

use crate::config::{Checks, Config, HealthUrl};

/// The part of the interval by which a check may be early or late: one in this many.
const JITTER: u32 = 10;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Whether it was a success, and if not, why.
    pub result: Result<(), String>,
    /// When the certificate that was shown ends.
    pub expires: Option<SystemTime>,
}

/// Who takes outcomes of checks.
pub(crate) trait Observe: Send + Sync + 'static {
    /// One address of a PoP was checked.
    fn observe(&self, pop: &str, target: SocketAddr, outcome: &Outcome);
}

/// The checks of a configuration; they end when this is dropped.
pub(crate) struct Probes {
    _tasks: JoinSet<()>,
}

/// The first check of each address.
pub(crate) struct FirstRound(mpsc::Receiver<()>);

impl FirstRound {
    /// Waits until every address was checked once.
    pub(crate) async fn over(mut self) {
        // Nothing is ever sent; the channel ends with the last first check.
        let _ = self.0.recv().await;
    }
}

impl Probes {
    /// Starts checking every address of every PoP that has a health URL.
    pub(crate) fn start(
        config: &Config,
        authorities: &Authorities,
        observer: &Arc<impl Observe>,
    ) -> (Self, FirstRound) {
        let (done, first_round) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for pop in &config.pops {
            let Some(url) = &pop.health else {
                continue;
            };
            for target in url.targets(&pop.addresses) {
                let watch = Watch {
                    pop: pop.name.clone(),
                    question: Question {
                        target,
                        url: url.clone(),
                        authorities: authorities.clone(),
                    },
                    checks: config.checks.clone(),
                };
                tasks.spawn(watch.run(observer.clone(), done.clone()));
            }
        }
        (Self { _tasks: tasks }, FirstRound(first_round))
    }
}

struct Watch {
    pop: String,
    question: Question,
    checks: Checks,
}

impl Watch {
    async fn run(self, observer: Arc<impl Observe>, first_round: mpsc::Sender<()>) {
        let jitter = RandomState::new();
        let mut first_round = Some(first_round);
        for round in 0u64.. {
            let next = Instant::now() + spread(*self.checks.interval, jitter.hash_one(round));
            let outcome = self.question.ask(*self.checks.timeout).await;
            observer.observe(&self.pop, self.question.target, &outcome);
            // The receiver sees the end when the last of these is dropped.
            first_round.take();
            sleep_until(next).await;
        }
    }
}

/// The interval, moved by up to a tenth either way.
fn spread(interval: Duration, random: u64) -> Duration {
    let tenth = interval / JITTER;
    let part = (random % 2001) as f64 / 1000.0;
    interval - tenth + tenth.mul_f64(part)
}

/// What is asked at one address.
struct Question {
    target: SocketAddr,
    url: HealthUrl,
    authorities: Authorities,
}

impl Question {
    /// Asks once.
    async fn ask(&self, limit: Duration) -> Outcome {
        let mut expires = None;
        let result = match timeout(limit, self.fetch(&mut expires)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(format!("status {}", status.as_u16())),
            Ok(Err(error)) => Err(told(&*error)),
            Err(_) => Err(format!("no answer within {limit:?}")),
        };
        Outcome { result, expires }
    }

    async fn fetch(
        &self,
        expires: &mut Option<SystemTime>,
    ) -> Result<http::StatusCode, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(self.target).await?;
        let Some(server) = self.url.server() else {
            return self.get(stream).await;
        };
        let stream = self.authorities.connect(server, stream).await?;
        *expires = tls::expiry(&stream);
        self.get(stream).await
    }

    async fn get(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<http::StatusCode, Box<dyn std::error::Error>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(self.url.path())
            .header(HOST, self.url.authority())
            .header(
                USER_AGENT,
                concat!("modcdn-dns/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        // The connection is driven here and not by a task, so that a check leaves nothing behind.
        // Once it has ended, the response is there or never will be.
        let mut response = pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut response => response,
            _ = connection => response.await,
        };
        Ok(response?.status())
    }
}

/// An error with its causes: hyper's own text names none.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests;
