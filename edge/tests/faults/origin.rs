//! An origin over HTTP/2 that knows every object, and fails as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE, TRAILER};
use http::{HeaderMap, Request, Response};
use modcdn_core::digest::Sha256;
use modcdn_core::headers::REPR_DIGEST;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Half of the body comes, then nothing.
    Stall,
    /// Half of it, then RST_STREAM.
    Reset,
    /// Half of it, then the connection is gone.
    Die,
    /// As `Die`, and nobody listens any more.
    Close,
    /// Half of it, then its end, though more was announced.
    Short,
    /// Half of a body of unknown length, then its end, without trailers.
    ShortUndescribed,
    /// More comes than was announced.
    Long,
    /// The digest in the head is another body's.
    WrongDigest,
    /// The digest in the trailers is.
    WrongTrailer,
    /// It comes in small pieces, with pauses.
    Slow,
    /// GOAWAY in the midst of it.
    GoAway,
    /// The stream is refused.
    Refuse,
    /// No answer comes.
    Silent,
    /// The connection is taken, and bytes that aren't HTTP/2 are sent.
    Garbage,
    /// The connection is taken, and nothing is sent.
    BlackHole,
}

/// The right body of a path.
pub(crate) fn zip(path: &str) -> Bytes {
    let len = if path.ends_with(".zip") {
        2_000_000
    } else {
        200
    };
    let seed = path.bytes().map(usize::from).sum::<usize>();
    let byte = |at: usize| at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(7) ^ seed;
    (0..len).map(|at| byte(at) as u8).collect()
}

/// The origin.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    requests: AtomicUsize,
    /// For the next requests, one each.
    once: Mutex<VecDeque<Fault>>,
    /// For all others, and for connections.
    always: Mutex<Option<Fault>>,
    kill: Notify,
    close: Notify,
}

impl Origin {
    pub(crate) async fn start(address: &str) -> Origin {
        let listener = TcpListener::bind(address).await.unwrap();
        let origin = Origin {
            address: listener.local_addr().unwrap(),
            inner: Arc::default(),
        };
        let inner = Arc::clone(&origin.inner);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = inner.close.notified() => return,
                };
                tokio::spawn(connection(stream, Arc::clone(&inner)));
            }
        });
        origin
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request meets it.
    pub(crate) fn will(&self, fault: Fault) {
        self.inner.once.lock().push_back(fault);
    }

    /// From now on every request and connection meets it.
    pub(crate) fn be(&self, fault: Option<Fault>) {
        *self.inner.always.lock() = fault;
    }

    pub(crate) fn kill_connections(&self) {
        self.inner.kill.notify_waiters();
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::SeqCst)
    }
}

async fn connection(mut stream: TcpStream, inner: Arc<Inner>) {
    let killed = inner.kill.notified();
    let fault = *inner.always.lock();
    match fault {
        Some(Fault::Garbage) => {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        }
        Some(Fault::BlackHole) => killed.await,
        _ => {
            let serving = serve(stream, Arc::clone(&inner));
            tokio::select! {
                () = serving => {}
                () = killed => {}
            }
        }
    }
}

async fn serve(stream: TcpStream, inner: Arc<Inner>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        inner.requests.fetch_add(1, Ordering::SeqCst);
        let fault = inner.once.lock().pop_front();
        let fault = fault.or(*inner.always.lock());
        if fault == Some(Fault::GoAway) {
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond, fault, Arc::clone(&inner)));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    fault: Option<Fault>,
    inner: Arc<Inner>,
) {
    match fault {
        Some(Fault::Silent) => return std::future::pending().await,
        Some(Fault::Refuse) => return respond.send_reset(Reason::REFUSED_STREAM),
        _ => {}
    }
    let whole = zip(request.uri().path());
    let from = resumes_at(request.headers());
    let head = head(&whole, from, fault);
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    let body = whole.slice(from..);
    // A client that leaves ends the answer.
    let _ = send(&mut stream, &whole, body, fault, &inner).await;
}

/// Where the request wants the body from.
fn resumes_at(headers: &HeaderMap) -> usize {
    let range = headers.get(RANGE).map(|range| range.to_str().unwrap());
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    from.map_or(0, |from| from.parse().unwrap())
}

fn head(whole: &Bytes, from: usize, fault: Option<Fault>) -> Response<()> {
    let head = Response::builder()
        .header(CACHE_CONTROL, "public, max-age=31536000, immutable")
        .header(ETAG, Sha256::of(whole).etag());
    let undescribed = matches!(fault, Some(Fault::ShortUndescribed | Fault::WrongTrailer));
    let head = match fault {
        _ if undescribed => head.header(TRAILER, "repr-digest"),
        Some(Fault::WrongDigest) => head.header(REPR_DIGEST, Sha256::of(b"another").repr_digest()),
        _ => head.header(REPR_DIGEST, Sha256::of(whole).repr_digest()),
    };
    let len = whole.len();
    let head = if undescribed {
        head
    } else {
        head.header(CONTENT_LENGTH, len - from)
    };
    if from == 0 {
        return head.body(()).unwrap();
    }
    let range = format!("bytes {from}-{}/{len}", len - 1);
    head.status(206)
        .header(CONTENT_RANGE, range)
        .body(())
        .unwrap()
}

async fn send(
    stream: &mut SendStream<Bytes>,
    whole: &Bytes,
    body: Bytes,
    fault: Option<Fault>,
    inner: &Inner,
) -> Result<(), h2::Error> {
    let half = body.slice(..body.len() / 2);
    match fault {
        Some(Fault::Stall) => {
            pieces(stream, half).await?;
            std::future::pending::<()>().await;
        }
        Some(Fault::Reset) => {
            pieces(stream, half).await?;
            arrived().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        Some(Fault::Die | Fault::Close) => {
            pieces(stream, half).await?;
            arrived().await;
            if fault == Some(Fault::Close) {
                inner.close.notify_one();
            }
            inner.kill.notify_waiters();
        }
        Some(Fault::Short | Fault::ShortUndescribed) => {
            pieces(stream, half).await?;
            stream.send_data(Bytes::new(), true)?;
        }
        Some(Fault::Long) => {
            pieces(stream, body).await?;
            stream.send_data(Bytes::from_static(b"and more"), true)?;
        }
        Some(Fault::WrongTrailer) => {
            pieces(stream, body).await?;
            stream.send_trailers(digest(b"another"))?;
        }
        Some(Fault::Slow) => {
            for piece in body.chunks((body.len() / 10).max(1)) {
                pieces(stream, Bytes::copy_from_slice(piece)).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            stream.send_trailers(digest(whole))?;
        }
        _ => {
            pieces(stream, body).await?;
            stream.send_trailers(digest(whole))?;
        }
    }
    Ok(())
}

fn digest(body: &[u8]) -> HeaderMap {
    HeaderMap::from_iter([(REPR_DIGEST, Sha256::of(body).repr_digest())])
}

/// Time for what was sent to be read: a connection that dies takes what is on its way with it.
async fn arrived() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

async fn pieces(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(64 * 1024));
        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let granted = granted.unwrap_or(Err(Reason::CANCEL.into()))?;
        let piece = bytes.split_to(granted.min(bytes.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}
