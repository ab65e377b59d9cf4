//! An origin in this process, a scripted upstream, and clients for both HTTP versions.

#![allow(dead_code, reason = "each test file uses its part of the harness")]

pub(crate) mod judge;
#[path = "../../../tests/harness/random.rs"]
pub(crate) mod random;
pub(crate) mod reference;
#[allow(unreachable_pub, reason = "other packages' tests share it")]
#[path = "../../../tests/harness/sumdb.rs"]
pub(crate) mod sumdb;
pub(crate) mod zip;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::Period;
use modcdn_origin::config::{Mount, SumDb};
use modcdn_origin::{Config, Origin};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The other end of a scripted body: pieces, or an error that breaks it off.
pub(crate) type Gate = mpsc::UnboundedSender<io::Result<Bytes>>;

/// What the upstream does with the next request for a path.
pub(crate) enum Reply {
    /// A status and a plain text.
    Status(u16, &'static str),
    /// A status with an extra header field.
    Refused(u16, &'static str, &'static str),
    /// A redirect.
    Redirect(u16, String),
    /// 200 with a body of known length, and extra header fields.
    Body(Bytes, Vec<(&'static str, &'static str)>),
    /// 200 with a body that a gate lets through; its length announced or not.
    Gated(Option<u64>, mpsc::UnboundedReceiver<io::Result<Bytes>>),
}

/// A scripted upstream. A path without a script is a 404.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Replies by path; the last one of a path is given for ever.
    replies: HashMap<String, Vec<Reply>>,
    asked: Vec<(String, HeaderMap)>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::listen("127.0.0.1", None).await
    }

    /// Over TLS, by that acceptor.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::listen("127.0.0.1", Some(acceptor)).await
    }

    /// On an address of its own: another host than that of [`Upstream::start`].
    pub(crate) async fn start_at(host: &str) -> Self {
        Self::listen(host, None).await
    }

    async fn listen(host: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return serve(stream, state).await;
                    };
                    // A client that doesn't trust the certificate is no concern here.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often anything was asked for.
    pub(crate) fn all_asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    /// Adds a reply for a path.
    pub(crate) fn on(&self, path: &str, reply: Reply) {
        let mut state = self.state.lock().unwrap();
        state
            .replies
            .entry(path.to_owned())
            .or_default()
            .push(reply);
    }

    pub(crate) fn on_text(&self, path: &str, text: &'static str) {
        self.on(
            path,
            Reply::Body(Bytes::from_static(text.as_bytes()), vec![]),
        );
    }

    /// Replaces all replies for a path.
    pub(crate) fn only(&self, path: &str, reply: Reply) {
        self.state.lock().unwrap().replies.remove(path);
        self.on(path, reply);
    }

    /// Adds a body that the returned gate lets through.
    pub(crate) fn gate(&self, path: &str, len: Option<u64>) -> Gate {
        let (gate, pieces) = mpsc::unbounded_channel();
        self.on(path, Reply::Gated(len, pieces));
        gate
    }

    /// The same in place of all replies for the path.
    pub(crate) fn gate_instead(&self, path: &str, len: u64) -> Gate {
        self.state.lock().unwrap().replies.remove(path);
        self.gate(path, Some(len))
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state
            .asked
            .iter()
            .filter(|(asked, _)| asked == path)
            .count()
    }

    /// The header of the last request for a path.
    pub(crate) fn last(&self, path: &str) -> HeaderMap {
        let state = self.state.lock().unwrap();
        let mut asked = state.asked.iter().rev();
        asked.find(|(asked, _)| asked == path).unwrap().1.clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = reply(&state, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that leaves is no concern here.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn reply(state: &Mutex<State>, request: &Request<Incoming>) -> Response<Body> {
    let mut state = state.lock().unwrap();
    let path = request.uri().path().to_owned();
    state.asked.push((path.clone(), request.headers().clone()));
    let Some(replies) = state.replies.get_mut(&path) else {
        return text(StatusCode::NOT_FOUND, "no script for this path\n");
    };
    let gated = matches!(replies[0], Reply::Gated(..));
    if gated || replies.len() > 1 {
        let reply = replies.remove(0);
        if replies.is_empty() {
            state.replies.remove(&path);
        }
        return response(&reply_parts(reply), request);
    }
    match &replies[0] {
        Reply::Status(status, said) => text(StatusCode::from_u16(*status).unwrap(), said),
        Reply::Body(body, headers) => response(
            &reply_parts(Reply::Body(body.clone(), headers.clone())),
            request,
        ),
        Reply::Redirect(status, to) => {
            response(&reply_parts(Reply::Redirect(*status, to.clone())), request)
        }
        Reply::Refused(status, name, value) => {
            response(&reply_parts(Reply::Refused(*status, name, value)), request)
        }
        Reply::Gated(..) => unreachable!("taken above"),
    }
}

type Parts = (Mutex<Option<Body>>, StatusCode, HeaderMap);

fn reply_parts(reply: Reply) -> Parts {
    let mut headers = HeaderMap::new();
    let (body, status) = match reply {
        Reply::Status(status, said) => {
            headers.insert("content-type", "text/plain".parse().unwrap());
            (
                full(Bytes::from(said)),
                StatusCode::from_u16(status).unwrap(),
            )
        }
        Reply::Refused(status, name, value) => {
            headers.insert(name, value.parse().unwrap());
            (full(Bytes::new()), StatusCode::from_u16(status).unwrap())
        }
        Reply::Redirect(status, to) => {
            headers.insert("location", to.parse().unwrap());
            (full(Bytes::new()), StatusCode::from_u16(status).unwrap())
        }
        Reply::Body(body, extra) => {
            for (name, value) in extra {
                headers.insert(name, value.parse().unwrap());
            }
            (full(body), StatusCode::OK)
        }
        Reply::Gated(len, pieces) => {
            if let Some(len) = len {
                headers.insert("content-length", len.into());
            }
            let pieces = stream::unfold(pieces, |mut pieces| async move {
                pieces.recv().await.map(|piece| (piece, pieces))
            });
            let frames = pieces.map(|piece| piece.map(Frame::data));
            (StreamBody::new(frames).boxed_unsync(), StatusCode::OK)
        }
    };
    (Mutex::new(Some(body)), status, headers)
}

fn response((body, status, headers): &Parts, request: &Request<Incoming>) -> Response<Body> {
    let etag = headers.get("etag");
    if etag.is_some() && request.headers().get("if-none-match") == etag {
        return text(StatusCode::NOT_MODIFIED, "");
    }
    let mut response = Response::new(body.lock().unwrap().take().unwrap());
    *response.status_mut() = *status;
    *response.headers_mut() = headers.clone();
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", "text/plain; charset=utf-8".parse().unwrap());
    response
}

/// A mount whose modules nobody vouches for.
pub(crate) fn mount(prefix: &str, upstream: &str) -> Mount {
    Mount {
        prefix: prefix.parse().unwrap(),
        sumdb: SumDb::off(),
        ..Mount::at_root(upstream.parse().unwrap())
    }
}

/// A configuration for free ports and quick failures.
pub(crate) fn config(dir: &Path, upstream: &str) -> Config {
    let mut config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        access_log: AccessTarget::Off,
        mounts: vec![mount("/", upstream)],
        ..Config::default()
    };
    config.store.dir = dir.to_owned();
    config.store.durable = false;
    // What is asked of an upstream is what a test asks for, where it doesn't say otherwise.
    config.limits.ahead = 0;
    config.timeouts.connect = Period::secs(2);
    config.timeouts.first_byte = Period::secs(2);
    config.timeouts.shutdown = Period::millis(100);
    config
}

/// An origin with its store, and a client each for HTTP/1.1 and HTTP/2.
pub(crate) struct Case {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) origin: Origin,
}

impl Case {
    pub(crate) async fn start(upstream: &str) -> Self {
        Self::with(upstream, |_| ()).await
    }

    pub(crate) async fn with(upstream: &str, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), upstream);
        change(&mut config);
        let origin = Origin::start(config).await.unwrap();
        Self { dir, origin }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.addresses()[0]
    }

    /// One GET over a new HTTP/2 connection.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// Waits until a file is in the store: bodies are put there after they were answered.
    pub(crate) async fn has(&self, place: &str) {
        let file = self.dir.path().join(place);
        until(|| file.exists()).await;
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        Client::h2(self.address()).await.get(path, headers).await
    }

    /// The sum of a metric's series whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.origin.admin().registry().gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family
            .map(prometheus::proto::MetricFamily::get_metric)
            .unwrap_or_default();
        metrics
            .iter()
            .filter(|metric| {
                labels.iter().all(|(name, value)| {
                    let mut pairs = metric.get_label().iter();
                    pairs.any(|pair| pair.name() == *name && pair.value() == *value)
                })
            })
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// What came, and whether it ended well.
    pub(crate) body: Bytes,
    pub(crate) complete: bool,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    fn broken() -> Self {
        Self {
            status: 0,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            complete: false,
            trailers: HeaderMap::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection.
#[derive(Clone)]
pub(crate) enum Client {
    H1(Arc<tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<Empty<Bytes>>>>),
    H2(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    pub(crate) async fn h1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self::H1(Arc::new(tokio::sync::Mutex::new(sender)))
    }

    pub(crate) async fn h2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self::H2(sender)
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        match self.try_head(method, path, headers).await {
            Ok(response) => collect(response).await,
            // A body that breaks at once may take its head along.
            Err(_) => Answer::broken(),
        }
    }

    /// A response's head; the body is still to come.
    pub(crate) async fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        self.try_head(method, path, headers).await.unwrap()
    }

    async fn try_head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match self {
            Self::H1(sender) => {
                let request = request.header("host", "origin.test").uri(path);
                let sent = {
                    let mut sender = sender.lock().await;
                    sender.ready().await.unwrap();
                    sender.send_request(request.body(Empty::new()).unwrap())
                };
                sent.await
            }
            Self::H2(sender) => {
                let request = request.uri(format!("http://origin.test{path}"));
                let mut sender = sender.clone();
                let sent = sender.send_request(request.body(Empty::new()).unwrap());
                sent.await
            }
        }
    }
}

/// Reads a response to its end or break.
pub(crate) async fn collect(response: Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut answer = Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: Bytes::new(),
        complete: true,
        trailers: HeaderMap::new(),
    };
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(frame)) => answer.trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => {
                answer.complete = false;
                break;
            }
        }
    }
    answer.body = bytes.into();
    answer
}

/// Reads until at least that many bytes are there.
pub(crate) async fn read_some(body: &mut Incoming, least: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < least {
        let frame = body.frame().await.unwrap().unwrap();
        bytes.extend_from_slice(&frame.into_data().unwrap());
    }
    bytes
}

/// Bytes that differ from their neighbours.
pub(crate) fn pattern(len: usize) -> Bytes {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// Waits, without a limit of its own, until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
