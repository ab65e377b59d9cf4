//! A small upstream, in the test's own process, that says what it is told to: modules with tags and
//! branches (which a GOMODCACHE tree lacks), broken answers, and a count of requests for each path.
//!
//! It speaks HTTP/1.1 and, by prior knowledge, HTTP/2: it can stand in for an origin as well.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use super::http::runtime;
use super::zip::module_zip;

/// What the upstream says when asked for one path.
#[derive(Clone)]
pub enum Answer {
    /// 200 with this body.
    Body(Bytes),
    /// Another status and a text.
    Status(u16, &'static str),
    /// 200 that announces the whole body and breaks off after some bytes.
    Truncated(Bytes, usize),
    /// 200 whose first bytes come at once, and the rest when the gate is opened.
    Gated(Bytes, usize, Gate),
    /// Nothing, ever.
    Hang,
}

/// Holds a body back until it is opened; clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed one.
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    /// Lets every body behind it go on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, Answer>,
    counts: HashMap<String, usize>,
}

/// The server; it stops when dropped.
pub struct Upstream {
    address: SocketAddr,
    scheme: &'static str,
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
}

impl Upstream {
    /// An upstream that knows nothing yet: every path is a 404.
    pub fn start() -> Upstream {
        Upstream::serve(None)
    }

    /// The same over TLS, where HTTP/2 is chosen.
    pub fn over_tls(certificate: &Certificate) -> Upstream {
        Upstream::serve(Some(certificate.acceptor()))
    }

    fn serve(tls: Option<TlsAcceptor>) -> Upstream {
        let script = Arc::new(Mutex::new(Script::default()));
        let (listener, address) = listen();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = runtime().spawn(accept(listener, tls, Arc::clone(&script)));
        Upstream {
            address,
            scheme,
            script,
            serving,
        }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// From now on `path` (decoded: `!`, not `%21`) is answered like this.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.lock().answers.insert(path.to_owned(), answer);
    }

    /// From now on `path` has this body.
    pub fn body(&self, path: &str, body: impl Into<Bytes>) {
        self.answer(path, Answer::Body(body.into()));
    }

    /// Adds a lower-case module: tags in `list`, and `.info`, `.mod`, `.zip` of each of them; the
    /// last is `@latest`. `blob` is a file in the zip, to give it a size.
    pub fn module(&self, path: &str, tags: &[&str], blob: &[u8]) {
        self.body(&format!("/{path}/@v/list"), tags.join("\n") + "\n");
        for version in tags {
            self.version(path, version, blob);
        }
        if let Some(latest) = tags.last() {
            self.body(&format!("/{path}/@latest"), info(latest));
        }
    }

    /// Adds a branch: `branch.info` names the pseudo-version, whose files exist too.
    pub fn branch(&self, path: &str, branch: &str, pseudo: &str) {
        self.version(path, pseudo, b"");
        self.body(&format!("/{path}/@v/{branch}.info"), info(pseudo));
    }

    /// How often `path` was asked for.
    pub fn requests(&self, path: &str) -> usize {
        self.lock().counts.get(path).copied().unwrap_or_default()
    }

    /// How often anything was.
    pub fn all_requests(&self) -> usize {
        self.lock().counts.values().sum()
    }

    fn version(&self, path: &str, version: &str, blob: &[u8]) {
        let go_mod = format!("module {path}\n\ngo 1.22\n");
        let files = [
            ("go.mod", go_mod.as_bytes()),
            ("doc.go", b"package doc\n"),
            ("blob", blob),
        ];
        let base = format!("/{path}/@v/{version}");
        self.body(&format!("{base}.info"), info(version));
        self.body(&format!("{base}.zip"), module_zip(path, version, &files));
        self.body(&format!("{base}.mod"), go_mod);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script
            .lock()
            .expect("no panic with the script in hand")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A `.info` body.
pub fn info(version: &str) -> String {
    format!("{{\"Version\":\"{version}\",\"Time\":\"2024-05-06T07:08:09Z\"}}")
}

/// A listener that accepts connections, keeps them open and never says a word.
pub struct BlackHole {
    address: SocketAddr,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl BlackHole {
    /// Opens it; it stays until the test process ends.
    pub fn open() -> BlackHole {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let held = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                keep.lock()
                    .expect("no panic with the connections in hand")
                    .push(stream);
            }
        });
        BlackHole { address, held }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many have fallen in.
    pub fn connections(&self) -> usize {
        self.held
            .lock()
            .expect("no panic with the connections in hand")
            .len()
    }
}

fn listen() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener
        .set_nonblocking(true)
        .expect("it can be non-blocking");
    let address = listener.local_addr().expect("it is bound");
    let _entered = runtime().enter();
    (
        tokio::net::TcpListener::from_std(listener).expect("a tokio listener"),
        address,
    )
}

async fn accept(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    script: Arc<Mutex<Script>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        let service = service_fn(move |request| respond(Arc::clone(&script), request));
        let tls = tls.clone();
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that leaves, or a body that is broken off as scripted, is no concern here.
            match tls {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}

type Pieces = BoxStream<'static, io::Result<Frame<Bytes>>>;
type Reply = Response<StreamBody<Pieces>>;

async fn respond(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let path = request.uri().path().replace("%21", "!");
    let answer = {
        let mut script = script.lock().expect("no panic with the script in hand");
        *script.counts.entry(path.clone()).or_default() += 1;
        script.answers.get(&path).cloned()
    };
    let _ = request.into_body().collect().await;
    let absent = Answer::Status(404, "not found: no such thing upstream\n");
    Ok(match answer.unwrap_or(absent) {
        Answer::Body(body) => reply(200, &path, body.len(), whole(body)),
        Answer::Status(status, text) => reply(
            status,
            "",
            text.len(),
            whole(Bytes::from_static(text.as_bytes())),
        ),
        Answer::Truncated(body, sent) => {
            let broken = async {
                // hyper drops what it hasn't written yet when a body fails.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(io::Error::other("broken off"))
            };
            reply(200, &path, body.len(), in_two(body.slice(..sent), broken))
        }
        Answer::Gated(body, first, gate) => {
            let rest = body.slice(first..);
            let rest = async move {
                gate.passed().await;
                Ok(rest)
            };
            reply(200, &path, body.len(), in_two(body.slice(..first), rest))
        }
        Answer::Hang => std::future::pending().await,
    })
}

fn reply(status: u16, path: &str, len: usize, body: Pieces) -> Reply {
    let content_type = match path.rsplit('.').next() {
        Some("zip") => "application/zip",
        Some("info") => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("content-length", len)
        .body(StreamBody::new(body))
        .expect("a valid response")
}

fn whole(body: Bytes) -> Pieces {
    stream::once(async { Ok(Frame::data(body)) }).boxed()
}

fn in_two(first: Bytes, rest: impl Future<Output = io::Result<Bytes>> + Send + 'static) -> Pieces {
    let rest = stream::once(rest.map(|rest| rest.map(Frame::data)));
    stream::iter([Ok(Frame::data(first))]).chain(rest).boxed()
}
