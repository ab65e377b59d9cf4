//! The coalescing stream between TLS (or TCP) and the HTTP session.
//!
//! HTTP/2 flushes after every frame and HTTP/1.1 after every head: each flush would be a TLS
//! record and a `write`. So a [`Wire`] collects what is written, answers flushes with "done", and
//! writes everything at once when the connection's task has run out of work. That moment is the
//! end of each poll of the connection's future, and [`Wire::drive`] is what polls it:
//!
//! - after every poll the collected bytes are written out;
//! - if the socket takes only part of them, the task's waker waits for the socket, so it is polled
//!   again and goes on: no byte is left lying without somebody to be woken for it;
//! - a full buffer is written out at once, and if the socket is full too, the writer waits; it is
//!   woken when half of the buffer is free again.
//!
//! So everything that writes to a wire must run inside its `drive`. The buffer is taken from the
//! thread's stock when the first byte is written and given back when the last one has left: an
//! idle connection has none. A write error ends the connection: `drive` gives its future up.
//!
//! A wire also reads ahead: the HTTP/1.1 loop looks at a whole header before the session sees it,
//! and bounds what the session may read, so that it never takes bytes of the next request.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// Most bytes collected before they are written out.
pub(crate) const CAPACITY: usize = 128 << 10;

/// Longer writes pass by the buffer: copying them would save nothing.
const DIRECT: usize = 64 << 10;

/// `memcpy` above this length uses `rep movsb`, which is very slow on some machines when the
/// pages alias: copying in pieces took 1 MiB answers from 981 to 389 µs in the prototype.
const COPY_PIECE: usize = 2 << 10;

/// Buffers kept by each thread for its next busy connection.
const STOCK: usize = 16;

/// How much is read at once when reading ahead.
const READ_PIECE: usize = 4 << 10;

/// What a wire writes to.
pub(crate) enum Transport {
    /// Clear text.
    Plain(Box<dyn IO>),
    /// TLS over it.
    Tls(Box<TlsStream<Box<dyn IO>>>),
}

impl Transport {
    fn io(&self) -> &dyn IO {
        match self {
            Transport::Plain(io) => io.as_ref(),
            Transport::Tls(tls) => tls.get_ref().0.as_ref(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A handle to one connection's stream. Sessions own clones; the connection's loop keeps one.
#[derive(Clone)]
pub(crate) struct Wire {
    shared: Arc<Shared>,
}

struct Shared {
    id: UniqueIDType,
    digest: Option<Arc<SocketDigest>>,
    /// Never contended: only the connection's task touches it. It satisfies `Sync`.
    inner: Mutex<Inner>,
}

struct Inner {
    transport: Transport,
    /// Collected, not yet written; `sent` of it has left.
    out: Vec<u8>,
    sent: usize,
    /// The transport was written to since its last flush.
    unflushed: bool,
    /// A writer that was told to wait.
    starved: Option<Waker>,
    /// The error that ended the write side.
    broken: Option<io::ErrorKind>,
    /// Read, not yet handed out.
    ahead: BytesMut,
    /// What sessions may read of it; beyond that they see nothing.
    allowed: Option<usize>,
    /// Grows whenever bytes came or left.
    activity: u64,
}

impl Wire {
    /// A wire over `transport`.
    pub(crate) fn new(transport: Transport) -> Wire {
        let io = transport.io();
        let (id, digest) = (io.id(), io.get_socket_digest());
        let inner = Mutex::new(Inner {
            transport,
            out: Vec::new(),
            sent: 0,
            unflushed: false,
            starved: None,
            broken: None,
            ahead: BytesMut::new(),
            allowed: None,
            activity: 0,
        });
        Wire {
            shared: Arc::new(Shared { id, digest, inner }),
        }
    }

    /// Runs a connection's future to its end, writing out after every poll of it, and then what is
    /// left within `linger`. `None` if the connection broke first.
    pub(crate) async fn drive<F: Future>(&self, linger: Duration, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let output = poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            match (polled, self.poll_drain(cx)) {
                (Poll::Ready(output), _) => Poll::Ready(Some(output)),
                (Poll::Pending, Poll::Ready(Err(_))) => Poll::Ready(None),
                (Poll::Pending, _) => Poll::Pending,
            }
        })
        .await;
        if output.is_some() {
            let _ = timeout(linger, poll_fn(|cx| self.poll_drain(cx))).await;
        }
        output
    }

    /// Writes out and closes the write side: TLS says good-bye, TCP sends its FIN.
    pub(crate) async fn close(&self, linger: Duration) {
        let _ = timeout(
            linger,
            poll_fn(|cx| self.shared.inner.lock().poll_shutdown(cx)),
        )
        .await;
    }

    /// Makes the close a reset: the peer can't take what it got for a complete answer.
    pub(crate) fn reset_on_close(&self) {
        if self.shared.id < 0 || self.shared.digest.is_none() {
            return;
        }
        // SAFETY: with a digest the id is a socket's descriptor. The descriptor belongs to the transport inside `self`, which outlives this call.
        let socket = unsafe { BorrowedFd::borrow_raw(self.shared.id) };
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }

    /// The peer's address, if it is a socket's.
    pub(crate) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.shared.digest.as_ref()?.peer_addr()?.as_inet().copied()
    }

    /// The socket behind it, for sessions' digests.
    pub(crate) fn socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.shared.digest.clone()
    }

    /// A number that grows whenever bytes came or left.
    pub(crate) fn activity(&self) -> u64 {
        self.shared.inner.lock().activity
    }

    /// Whether there are bytes that were read and not handed out.
    pub(crate) fn has_ahead(&self) -> bool {
        !self.shared.inner.lock().ahead.is_empty()
    }

    /// Looks at what was read ahead, and may take from its front.
    pub(crate) fn with_ahead<R>(&self, look: impl FnOnce(&mut BytesMut) -> R) -> R {
        look(&mut self.shared.inner.lock().ahead)
    }

    /// Reads some more ahead. Answers how many bytes came; 0 is the peer's end.
    ///
    /// # Errors
    /// The transport's.
    pub(crate) async fn read_ahead(&self) -> io::Result<usize> {
        poll_fn(|cx| self.shared.inner.lock().poll_read_ahead(cx)).await
    }

    /// Sessions may read `bytes` more of what was read ahead and nothing beyond; `None` lifts it.
    pub(crate) fn allow(&self, bytes: Option<usize>) {
        self.shared.inner.lock().allowed = bytes;
    }

    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.inner.lock();
        let before = (inner.pending(), inner.unflushed);
        let drained = inner.poll_drain(cx);
        let moved = before != (inner.pending(), inner.unflushed);
        if moved && inner.pending() <= CAPACITY / 2 {
            inner.starved.take().into_iter().for_each(Waker::wake);
        }
        drained
    }
}

impl Inner {
    fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    fn check(&self) -> io::Result<()> {
        match self.broken {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    /// Hands everything collected to the transport.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        while self.sent < self.out.len() {
            match ready!(self.transport.poll_write(cx, &self.out[self.sent..])) {
                Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
                Ok(n) => self.sent += n,
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            self.unflushed = true;
            self.activity += 1;
        }
        self.sent = 0;
        give_back(std::mem::take(&mut self.out));
        Poll::Ready(Ok(()))
    }

    /// Hands everything to the transport and flushes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.out.is_empty() {
            ready!(self.poll_write_out(cx))?;
        }
        if self.unflushed {
            if let Err(error) = ready!(self.transport.poll_flush(cx)) {
                return Poll::Ready(Err(self.fail(error)));
            }
            self.unflushed = false;
        }
        Poll::Ready(self.check())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.broken = Some(error.kind());
        self.sent = 0;
        give_back(std::mem::take(&mut self.out));
        error
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        if buf.len() >= DIRECT {
            return self.poll_write_direct(cx, buf);
        }
        if self.pending() >= CAPACITY && self.poll_make_room(cx)?.is_pending() {
            return Poll::Pending;
        }
        self.starved = None;
        let taken = buf.len().min(CAPACITY - self.pending());
        self.collect(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_direct(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_make_room(cx)?.is_pending() {
            return Poll::Pending;
        }
        match self.transport.poll_write(cx, buf) {
            Poll::Ready(Ok(n)) => {
                self.unflushed = true;
                self.starved = None;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            Poll::Pending => {
                self.starved = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_make_room(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.poll_write_out(cx) {
            Poll::Ready(result) => result.map(Poll::Ready),
            Poll::Pending => {
                self.starved = Some(cx.waker().clone());
                Ok(Poll::Pending)
            }
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.poll_write(cx, slice) {
                Poll::Ready(Ok(n)) => {
                    total += n;
                    if n < slice.len() {
                        break;
                    }
                }
                // What was taken counts; the wait or the error comes with the next write.
                _ if total > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn collect(&mut self, bytes: &[u8]) {
        if self.out.capacity() == 0 {
            self.out = from_stock();
        }
        if self.out.len() + bytes.len() > self.out.capacity() {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        for piece in bytes.chunks(COPY_PIECE) {
            self.out.extend_from_slice(piece);
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.transport.poll_shutdown(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = self.allowed.unwrap_or(usize::MAX).min(buf.remaining());
        let n = self.ahead.len().min(allowed);
        if n > 0 {
            buf.put_slice(&self.ahead[..n]);
            self.ahead.advance(n);
            if let Some(allowed) = &mut self.allowed {
                *allowed -= n;
            }
            return Poll::Ready(Ok(()));
        }
        if self.allowed.is_some() {
            // A session that reads beyond its request sees the end, not the next one's bytes.
            return Poll::Ready(Ok(()));
        }
        let read = self.transport.poll_read(cx, buf);
        self.activity += u64::from(read.is_ready());
        read
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [std::mem::MaybeUninit::uninit(); READ_PIECE];
        let mut buf = ReadBuf::uninit(&mut piece);
        ready!(self.transport.poll_read(cx, &mut buf))?;
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn from_stock() -> Vec<u8> {
    SPARE
        .try_with(|spare| spare.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(CAPACITY))
}

fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() < CAPACITY {
        return;
    }
    buffer.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < STOCK {
            spare.push(buffer);
        }
    });
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.inner.lock().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.inner.lock().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.inner.lock().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Swallowed: [`Wire::drive`] flushes at the end of the poll.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.inner.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.inner.lock().poll_shutdown(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("id", &self.shared.id)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        let _ = poll_fn(|cx| self.shared.inner.lock().poll_shutdown(cx)).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.shared.id
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.shared.digest.clone()
    }
}

#[cfg(test)]
mod tests;
