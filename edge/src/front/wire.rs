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
//! An HTTP/1.x answer is written with [`Wire::send`], which waits inside. Several HTTP/2 answers share
//! a wire, and their frames must stay whole: each waits with [`Wire::poll_room`] and then puts frames
//! in with [`Wire::push_frames`] or [`Wire::push`], which take all of it.
//!
//! So everything that writes to a wire must run inside its `drive`. The buffer is taken from the
//! thread's stock when the first byte is written and given back when the last one has left: an
//! idle connection has none. A write error ends the connection: `drive` gives its future up.
//!
//! Over TLS the buffer never holds more than one record: what fills one is sealed straight from the
//! writer's memory, behind the little that is waiting, so records are full and a body is copied once,
//! by the cipher. In clear text long writes go from the writer's memory to the socket.
//!
//! Over a socket, in clear text, bytes that lie in a file are sent by the kernel (`outlet`).
//!
//! A wire also reads ahead: the HTTP/1.1 loop looks at a whole header before it takes it off.

mod outlet;
mod stock;
mod transport;

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use pingora::protocols::{SocketDigest, UniqueIDType};
use tokio::io::{AsyncWrite, ReadBuf};
use tokio::time::timeout;

use self::outlet::Outlet;
use self::stock::{from_stock, give_back};
pub(crate) use self::transport::Transport;
use super::tls_stream::RECORD;
use crate::exchange::FileSpan;

/// Most bytes collected before they are written out, and most that one write may add to them.
const CAPACITY: usize = 256 << 10;

/// In clear text longer writes pass by the buffer: copying them would save nothing.
const DIRECT: usize = 64 << 10;

/// Slices of one write that are looked at; the writer comes again with the others.
const SLICES: usize = 7;

/// `memcpy` above this length uses `rep movsb`, which is very slow on some machines when the
/// pages alias: copying in pieces took 1 MiB answers from 981 to 389 µs in the prototype.
pub(super) const COPY_PIECE: usize = 2 << 10;

/// How much is read at once when reading ahead.
const READ_PIECE: usize = 16 << 10;

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
    /// Writers that were told to wait.
    starved: Vec<Waker>,
    /// The error that ended the write side.
    broken: Option<io::ErrorKind>,
    /// Read, not yet handed out.
    ahead: BytesMut,
    /// Grows whenever bytes came or left.
    activity: u64,
    /// The way of files, once one was sent.
    outlet: Option<Box<Outlet>>,
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
            starved: Vec::new(),
            broken: None,
            ahead: BytesMut::new(),
            activity: 0,
            outlet: None,
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
        if let Some(socket) = self.shared.socket() {
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether files can be sent from where they lie.
    pub(crate) fn takes_files(&self) -> bool {
        let inner = self.shared.inner.lock();
        matches!(inner.transport, Transport::Plain(_)) && self.shared.socket().is_some()
    }

    /// Sends from a file what the socket takes at once, after everything that was written before.
    /// `ask` is asked for the span whenever the socket has room, after any wait. Answers how many bytes
    /// left; none if there is no span, or no longer as many bytes in the file.
    ///
    /// # Errors
    /// Those of the connection, now or before, and of the file.
    pub(crate) async fn send_file(
        &self,
        mut ask: impl FnMut() -> Option<FileSpan>,
    ) -> io::Result<usize> {
        let send = |cx: &mut Context<'_>| self.shared.poll_send_file(cx, &mut ask);
        poll_fn(send).await
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
        poll_fn(|cx| self.poll_read_ahead(cx)).await
    }

    /// The same, once.
    pub(crate) fn poll_read_ahead(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.shared.inner.lock().poll_read_ahead(cx)
    }

    /// Writes all of it. Waits only while both the buffer and the socket are full.
    ///
    /// # Errors
    /// Those of the connection, now or before.
    pub(crate) async fn send(&self, slices: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let write = |cx: &mut Context<'_>| self.shared.inner.lock().poll_write(cx, slices);
            let taken = poll_fn(write).await?;
            IoSlice::advance_slices(&mut slices, taken);
        }
        Ok(())
    }

    /// Whether less is waiting than a writer has to wait for.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.inner.lock().pending() < CAPACITY
    }

    /// Waits for room, which one [`Self::push`] may exceed by what it brings.
    ///
    /// # Errors
    /// Those of the connection, now or before.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.inner.lock();
        inner.check()?;
        if inner.pending() < CAPACITY {
            return Poll::Ready(Ok(()));
        }
        let room = inner.poll_write_out(cx);
        if room.is_pending() {
            inner.starved.push(cx.waker().clone());
        }
        room
    }

    /// Puts up to [`SLICES`] slices behind everything that was written before, whole. On a connection
    /// that is broken they are lost, as all others are; `drive` ends it.
    pub(crate) fn push(&self, slices: &[&[u8]]) {
        let mut all = [IoSlice::new(&[]); SLICES];
        for (place, slice) in all.iter_mut().zip(slices) {
            *place = IoSlice::new(slice);
        }
        debug_assert!(slices.len() <= SLICES);
        self.shared
            .inner
            .lock()
            .take_all(&all[..slices.len().min(SLICES)]);
    }

    /// Puts frames, heads and contents, behind everything that was written before. Over TLS each content
    /// is encrypted from where it lies, with the head of the next frame behind it in one record: no
    /// content may be longer than a record less a head.
    pub(crate) fn push_frames<'a, const HEAD: usize>(
        &self,
        frames: impl Iterator<Item = ([u8; HEAD], &'a [u8])>,
    ) {
        self.shared.inner.lock().take_frames(frames);
    }

    /// Has a little put behind everything that was written before, without a copy in between.
    pub(crate) fn write_with(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.shared.inner.lock();
        if inner.out.capacity() == 0 {
            inner.out = from_stock();
        }
        write(&mut inner.out);
        inner.take_all(&[]);
    }

    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.inner.lock();
        let before = (inner.pending(), inner.unflushed);
        let drained = inner.poll_drain(cx);
        let moved = before != (inner.pending(), inner.unflushed);
        if moved && inner.pending() <= CAPACITY / 2 {
            inner.starved.drain(..).for_each(Waker::wake);
        }
        drained
    }
}

impl Shared {
    /// The socket below, if there is one.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        if self.id < 0 || self.digest.is_none() {
            return None;
        }
        // SAFETY: with a digest the id is a socket's descriptor. It belongs to the transport inside
        // `self`, which stays there as long as `self` is borrowed.
        Some(unsafe { BorrowedFd::borrow_raw(self.id) })
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        ask: &mut impl FnMut() -> Option<FileSpan>,
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.lock();
        ready!(inner.poll_write_out(cx))?;
        let outlet = match (&mut inner.outlet, self.socket()) {
            (Some(outlet), _) => outlet,
            (none, Some(socket)) => match Outlet::of(socket) {
                Ok(outlet) => none.insert(Box::new(outlet)),
                // No descriptor is left: the file can still be read.
                Err(_) => return Poll::Ready(Ok(0)),
            },
            (None, None) => return Poll::Ready(Ok(0)),
        };
        let sent = ready!(outlet.poll_send(cx, ask));
        inner.activity += 1;
        Poll::Ready(sent.map_err(|error| inner.fail(error)))
    }
}

impl Inner {
    /// Bytes that were taken and have not left.
    fn pending(&self) -> usize {
        let sealed = match &self.transport {
            Transport::Plain(_) => 0,
            Transport::Tls(tls) => tls.sealed(),
        };
        self.out.len() - self.sent + sealed
    }

    fn check(&self) -> io::Result<()> {
        match self.broken {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    /// Hands everything collected to the socket.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let written = match &self.transport {
            Transport::Plain(_) => ready!(self.poll_write_plain(cx)),
            Transport::Tls(_) => ready!(self.poll_write_tls(cx)),
        };
        Poll::Ready(written.map_err(|error| self.fail(error)))
    }

    fn poll_write_plain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            ready!(self.poll_socket(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Transport::Tls(tls) = &mut self.transport else {
            return Poll::Ready(Ok(()));
        };
        if !self.out.is_empty() {
            tls.seal(&[IoSlice::new(&self.out)])?;
            give_back(std::mem::take(&mut self.out));
        }
        while tls.wants_to_send() {
            ready!(tls.poll_send(cx))?;
            self.unflushed = true;
            self.activity += 1;
        }
        Poll::Ready(Ok(()))
    }

    /// One clear-text write of what was collected and of `more`. Answers how much of `more` left.
    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        more: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Transport::Plain(io) = &mut self.transport else {
            return Poll::Ready(Ok(0));
        };
        let collected = &self.out[self.sent..];
        let mut all = [IoSlice::new(&[]); SLICES + 1];
        all[0] = IoSlice::new(collected);
        all[1..=more.len()].copy_from_slice(more);
        let from = usize::from(collected.is_empty());
        let n = ready!(Pin::new(io).poll_write_vectored(cx, &all[from..=more.len()]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        (self.unflushed, self.activity) = (true, self.activity + 1);
        let of_more = n.saturating_sub(collected.len());
        self.sent += n - of_more;
        if self.sent == self.out.len() {
            self.sent = 0;
            give_back(std::mem::take(&mut self.out));
        }
        Poll::Ready(Ok(of_more))
    }

    /// Hands everything to the transport and flushes it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        if self.unflushed {
            match ready!(self.transport.poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.broken = Some(error.kind());
        self.sent = 0;
        give_back(std::mem::take(&mut self.out));
        error
    }

    /// Takes some of it, at least one byte unless there are none.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let slices = &slices[..slices.len().min(SLICES)];
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let polled = match &self.transport {
            _ if length == 0 => return Poll::Ready(Ok(0)),
            Transport::Plain(_) if length >= DIRECT => self.poll_write_direct(cx, slices),
            _ => self.poll_take(cx, slices, length),
        };
        if polled.is_pending() {
            self.starved.push(cx.waker().clone());
        }
        polled
    }

    fn poll_write_direct(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_socket(cx, slices)) {
                // Only what was waiting has left.
                Ok(0) => {}
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if self.pending() >= CAPACITY {
            ready!(self.poll_write_out(cx))?;
        }
        match &self.transport {
            Transport::Plain(_) => {
                let taken = length.min(CAPACITY - self.pending());
                self.collect(slices, 0, taken);
                Poll::Ready(Ok(taken))
            }
            Transport::Tls(_) => {
                let taken = length.min(CAPACITY);
                self.take(slices, taken)?;
                Poll::Ready(Ok(taken))
            }
        }
    }

    /// Takes all of it, however much is waiting.
    fn take_all(&mut self, slices: &[IoSlice<'_>]) {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.check().is_ok() {
            // What is wrong now is what everybody meets from now on.
            let _ = self.take(slices, length);
        }
    }

    fn take_frames<'a, const HEAD: usize>(
        &mut self,
        frames: impl Iterator<Item = ([u8; HEAD], &'a [u8])>,
    ) {
        let mut frames = frames.peekable();
        if let (Ok(()), Some((head, _))) = (self.check(), frames.peek()) {
            // The first head goes with what was collected.
            self.append(head);
        }
        while let (Ok(()), Some((_, content))) = (self.check(), frames.next()) {
            let next = frames.peek().map_or(&[][..], |(head, _)| head);
            // What is wrong now is what everybody meets from now on.
            let _ = self.take_content(content, next);
        }
    }

    fn take_content(&mut self, content: &[u8], next: &[u8]) -> io::Result<()> {
        let Transport::Tls(tls) = &mut self.transport else {
            self.append(content);
            self.append(next);
            return Ok(());
        };
        let mut sealed = Ok(());
        if !self.out.is_empty() {
            sealed = tls.seal(&[IoSlice::new(&self.out)]);
            self.out.clear();
        }
        let sealed = sealed.and_then(|()| tls.seal_pair(content, next));
        sealed.map_err(|error| self.fail(error))
    }

    /// Takes the first `taken` bytes: whole records are sealed from where they lie, the rest is
    /// collected.
    fn take(&mut self, slices: &[IoSlice<'_>], taken: usize) -> io::Result<()> {
        let sealed = self.seal_records(slices, taken);
        let sealed = sealed.map_err(|error| self.fail(error))?;
        self.collect(slices, sealed, taken);
        Ok(())
    }

    /// Over TLS, seals what fills whole records: what was collected and the first of `slices`.
    /// Answers how many bytes of them.
    fn seal_records(&mut self, slices: &[IoSlice<'_>], taken: usize) -> io::Result<usize> {
        let Transport::Tls(tls) = &mut self.transport else {
            return Ok(0);
        };
        let full = (self.out.len() + taken) / RECORD * RECORD;
        if full == 0 {
            return Ok(0);
        }
        let collected = self.out.len().min(full);
        let of_slices = full - collected;
        let mut all = [IoSlice::new(&[]); SLICES + 1];
        all[0] = IoSlice::new(&self.out[..collected]);
        let mut left = of_slices;
        for (place, slice) in all[1..].iter_mut().zip(slices) {
            *place = IoSlice::new(&slice[..slice.len().min(left)]);
            left -= place.len();
        }
        tls.seal(&all)?;
        self.out.drain(..collected);
        Ok(of_slices)
    }

    /// Collects the bytes `from..to` of `slices`.
    fn collect(&mut self, slices: &[IoSlice<'_>], from: usize, to: usize) {
        let (mut skip, mut left) = (from, to - from);
        for slice in slices {
            let skipped = skip.min(slice.len());
            let n = (slice.len() - skipped).min(left);
            self.append(&slice[skipped..skipped + n]);
            (skip, left) = (skip - skipped, left - n);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.out.capacity() == 0 && !bytes.is_empty() {
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

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [std::mem::MaybeUninit::uninit(); READ_PIECE];
        let mut buf = ReadBuf::uninit(&mut piece);
        ready!(self.transport.poll_read(cx, &mut buf))?;
        self.activity += 1;
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }
}

#[cfg(test)]
mod tests;
