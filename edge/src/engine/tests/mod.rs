//! The engine against an origin that does as it is told.

mod bounds;
mod faults;
mod fills;
mod freshness;
mod handover;
mod model;
mod mounts;
mod purge;
mod ranges;
mod settings;
mod spans;
mod store;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{Prefix, Request};
use modcdn_core::headers::{CACHE_STATUS, MODCDN_REASON, MODCDN_SUM, REPR_DIGEST};
use modcdn_core::units::{ByteSize, Period};

use super::Engine;
use super::clock::Clock;
use super::config::EngineConfig;
use super::metrics::EngineMetrics;
use crate::exchange::{Aborted, Answer, Asked, Body};
use crate::origin::{Origin, OriginBody, OriginError, OriginRequest, OriginResponse, Stage};

const ZIP: &str = "/example.com/m/@v/v1.0.0.zip";
const INFO: &str = "/example.com/m/@v/v1.0.0.info";
const LIST: &str = "/example.com/m/@v/list";

/// What the origin says of mutable answers.
const MUTABLE: &str = "public, max-age=60, stale-while-revalidate=300, stale-if-error=86400";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Bytes without a pattern that a mistake could hit by luck; of each length other ones.
fn bytes(len: usize) -> Bytes {
    let byte = |at: usize| at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(7) ^ len ^ (len >> 8);
    (0..len).map(|at| byte(at) as u8).collect()
}

/// A step of a scripted body.
enum Step {
    Bytes(Bytes),
    /// The stream breaks off.
    Break,
    /// The framing's end, and the trailers.
    End(HeaderMap),
}

/// One scripted answer.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: mpsc::UnboundedReceiver<Step>,
}

/// The hand that feeds a scripted body. Dropped, the body breaks off.
struct Feed(mpsc::UnboundedSender<Step>);

impl Feed {
    fn bytes(&self, bytes: &Bytes) {
        // In pieces as HTTP/2 has them.
        for piece in bytes.chunks(16 * 1024) {
            let _ = self.0.send(Step::Bytes(Bytes::copy_from_slice(piece)));
        }
    }

    fn end(&self) {
        let _ = self.0.send(Step::End(HeaderMap::new()));
    }

    fn end_with_digest(&self, digest: Sha256) {
        self.end_with(HeaderMap::from_iter([(REPR_DIGEST, digest.repr_digest())]));
    }

    fn end_with(&self, trailers: HeaderMap) {
        let _ = self.0.send(Step::End(trailers));
    }

    fn break_off(&self) {
        let _ = self.0.send(Step::Break);
    }
}

impl Reply {
    /// A head whose body is fed by hand.
    fn fed(status: u16, headers: &[(HeaderName, &str)]) -> (Self, Feed) {
        let (sender, body) = mpsc::unbounded_channel();
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let headers = headers
            .iter()
            .map(|(name, text)| (name.clone(), value(text)))
            .collect();
        (
            Self {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body,
            },
            Feed(sender),
        )
    }

    /// As the origin answers for a stored body.
    fn stored(body: &Bytes, cache_control: &str) -> Self {
        let (mut reply, feed) = Self::fed(200, &[(CACHE_CONTROL, cache_control)]);
        reply
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
        reply.describe(body);
        feed.bytes(body);
        feed.end();
        reply
    }

    fn describe(&mut self, body: &Bytes) {
        let digest = Sha256::of(body);
        self.headers.insert(CONTENT_LENGTH, body.len().into());
        self.headers.insert(ETAG, digest.etag());
        self.headers.insert(REPR_DIGEST, digest.repr_digest());
    }

    /// A stored body, fed by hand.
    fn described(body: &Bytes) -> (Self, Feed) {
        let (mut reply, feed) = Self::fed(200, &[(CACHE_CONTROL, IMMUTABLE)]);
        reply.describe(body);
        (reply, feed)
    }

    /// As the origin answers while a body grows there: the digest follows as a trailer.
    fn growing() -> (Self, Feed) {
        let headers = [
            (CACHE_CONTROL, IMMUTABLE),
            (ETAG, "\"spool-1\""),
            (TRAILER, "Repr-Digest"),
        ];
        Self::fed(200, &headers)
    }

    fn error(status: u16, cache_control: &str, reason: &str) -> Self {
        let headers = [(CACHE_CONTROL, cache_control), (MODCDN_REASON, reason)];
        let (reply, feed) = Self::fed(status, &headers);
        feed.bytes(&Bytes::from_static(b"no\n"));
        feed.end();
        reply
    }

    fn not_modified(cache_control: &str) -> Self {
        let (reply, feed) = Self::fed(304, &[(CACHE_CONTROL, cache_control)]);
        feed.end();
        reply
    }
}

/// An origin that gives the answers it was handed, in order; without one it can't be reached.
#[derive(Default)]
struct Script {
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    seen: Mutex<Vec<OriginRequest>>,
    /// The next answer for a path waits for this.
    held: Mutex<HashMap<String, oneshot::Receiver<()>>>,
    panics: Mutex<bool>,
}

impl Script {
    fn will(&self, path: &str, reply: Reply) {
        self.replies
            .lock()
            .entry(path.into())
            .or_default()
            .push_back(reply);
    }

    /// Gives that answer, but not before it is told to.
    fn hold(&self, path: &str, reply: Reply) -> oneshot::Sender<()> {
        let (gate, opened) = oneshot::channel();
        self.held.lock().insert(path.into(), opened);
        self.will(path, reply);
        gate
    }

    /// Waits until it was asked that often.
    async fn until_asked(&self, times: usize) {
        while self.asked() < times {
            tokio::task::yield_now().await;
        }
    }

    fn seen(&self) -> Vec<OriginRequest> {
        self.seen.lock().clone()
    }

    fn asked(&self) -> usize {
        self.seen.lock().len()
    }
}

#[async_trait]
impl Origin for Script {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let reply = self
            .replies
            .lock()
            .get_mut(&request.path)
            .and_then(VecDeque::pop_front);
        let held = self.held.lock().remove(&request.path);
        self.seen.lock().push(request);
        if let Some(opened) = held {
            let _ = opened.await;
        }
        assert!(!*self.panics.lock(), "told to panic");
        let limit = Duration::from_secs(5);
        let reply = reply.ok_or(OriginError::Timeout {
            stage: Stage::FirstByte,
            limit,
        })?;
        let body = Box::new(Scripted {
            steps: reply.body,
            trailers: None,
        });
        Ok(OriginResponse {
            status: reply.status,
            headers: reply.headers,
            body,
        })
    }
}

struct Scripted {
    steps: mpsc::UnboundedReceiver<Step>,
    trailers: Option<HeaderMap>,
}

#[async_trait]
impl OriginBody for Scripted {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        match self.steps.recv().await {
            Some(Step::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Step::End(trailers)) => {
                self.trailers = Some(trailers);
                Ok(None)
            }
            Some(Step::Break) | None => Err(OriginError::Broken {
                why: "told to".into(),
            }),
        }
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        Ok(self.trailers.take())
    }
}

/// An engine, its origin, its clock and its folder.
struct Rig {
    dir: Arc<TempDir>,
    config: EngineConfig,
    origin: Arc<Script>,
    clock: Arc<Clock>,
    engine: Arc<Engine>,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = EngineConfig {
            name: "eu".into(),
            ..EngineConfig::default()
        };
        config.store.dir = dir.path().join("store");
        config.store.disk = ByteSize::mib(64);
        config.fill.resume_pause = Period::millis(0);
        config.fill.failed_memory = Period::millis(0);
        change(&mut config);
        let origin = Arc::new(Script::default());
        let clock = Arc::new(Clock::standing(1_800_000_000_000));
        let engine = open(&config, &origin, &clock);
        Self {
            dir,
            config,
            origin,
            clock,
            engine,
        }
    }

    /// The same folder, opened anew. The old engine is not shut down.
    fn reopened(&self) -> Self {
        let engine = open(&self.config, &self.origin, &self.clock);
        Self {
            dir: self.dir.clone(),
            config: self.config.clone(),
            origin: self.origin.clone(),
            clock: self.clock.clone(),
            engine,
        }
    }

    /// As [`Rig::reopened`], by a process that reads another time.
    fn reopened_at(&self, at: u64) -> Self {
        let clock = Arc::new(Clock::standing(at));
        Self {
            engine: open(&self.config, &self.origin, &clock),
            dir: self.dir.clone(),
            config: self.config.clone(),
            origin: self.origin.clone(),
            clock,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.engine.answer(asked(path)).await
    }

    /// The answer's status, its `Cache-Status` and its body.
    async fn got(&self, path: &str) -> (u16, String, Bytes) {
        let answer = self.get(path).await;
        let status = header(&answer, &CACHE_STATUS);
        (
            answer.status.as_u16(),
            status,
            read(answer.body).await.unwrap(),
        )
    }

    /// Moves the time on, once what was going on has come to its end.
    async fn advance(&self, secs: u64) {
        self.settle().await;
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Lets what runs in the background come to its end.
    async fn settle(&self) {
        // A fill is among the running ones before its task is, and its task outlives that.
        let fills = &self.engine.metrics.fills_running;
        while self.engine.health().fills > 0 || fills.get() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn open(config: &EngineConfig, origin: &Arc<Script>, clock: &Arc<Clock>) -> Arc<Engine> {
    let metrics = EngineMetrics::new(&prometheus::Registry::new());
    let origin: Arc<dyn Origin> = origin.clone();
    let engine =
        Engine::open_at(config, origin, Handle::current(), metrics, clock.clone()).unwrap();
    engine.store.wait_loaded();
    engine
}

fn asked(path: &str) -> Asked {
    let (mount, rest) = Prefix::split(path);
    let mount = format!("{mount}/").parse().unwrap();
    Asked::get(&mount, Request::parse(rest).unwrap())
}

fn ranged(path: &str, range: &str) -> Asked {
    Asked {
        range: Some(HeaderValue::from_str(range).unwrap()),
        ..asked(path)
    }
}

fn header(answer: &Answer, name: &HeaderName) -> String {
    answer
        .headers
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

async fn read(body: Body) -> Result<Bytes, Aborted> {
    match body {
        Body::Empty => Ok(Bytes::new()),
        Body::Whole(bytes) => Ok(bytes),
        Body::Stream(mut stream) => {
            let mut all = Vec::new();
            while let Some(piece) = stream.next().await? {
                assert!(!piece.is_empty());
                all.extend_from_slice(&piece);
            }
            Ok(all.into())
        }
    }
}

/// Everything that can be read without the fill getting on: the body, up to where it waits.
async fn read_what_is_there(body: &mut Body) -> Bytes {
    let Body::Stream(stream) = body else {
        panic!("not a stream")
    };
    let mut all = Vec::new();
    for _ in 0..200 {
        let mut next = stream.next();
        match futures::poll!(&mut next) {
            std::task::Poll::Ready(piece) => {
                drop(next);
                all.extend_from_slice(&piece.unwrap().expect("not at its end"));
            }
            std::task::Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    all.into()
}
