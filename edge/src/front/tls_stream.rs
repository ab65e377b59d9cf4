//! TLS records over a connection, written when the wire says so and not before.
//!
//! A stream like any other would turn every write into a record and every record into a `write`.
//! Here sealing and sending are two steps: [`TlsStream::seal`] makes records of what it is given
//! and keeps them; [`TlsStream::poll_send`] hands all of them to the socket at once. The handshake is
//! over when this begins.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::IO;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::COPY_PIECE;

/// The most plaintext that fits into one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 << 10;

/// Pieces of one record: as many as fill it, and some for where slices meet.
const PIECES: usize = RECORD / COPY_PIECE + 16;

/// A connection and what TLS knows of it.
pub(crate) struct TlsStream {
    io: Box<dyn IO>,
    session: ServerConnection,
    /// Bytes of plaintext whose records may not all have left.
    sealed: usize,
    said_goodbye: bool,
}

impl TlsStream {
    /// After the handshake.
    pub(crate) fn new(io: Box<dyn IO>, mut session: ServerConnection) -> TlsStream {
        // The wire bounds what is sealed and unsent.
        session.set_buffer_limit(None);
        TlsStream {
            io,
            session,
            sealed: 0,
            said_goodbye: false,
        }
    }

    /// The connection below.
    pub(crate) fn io(&self) -> &dyn IO {
        self.io.as_ref()
    }

    /// Bytes that were sealed since everything had left.
    pub(crate) fn sealed(&self) -> usize {
        self.sealed
    }

    /// Makes records of all of it, as long as they can be.
    ///
    /// # Errors
    /// If the session has failed.
    pub(crate) fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let (mut record, mut pieces, mut length) = ([IoSlice::new(&[]); PIECES], 0, 0);
        for slice in slices {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() {
                if length == 0
                    && let Some((full, behind)) = rest.split_at_checked(RECORD)
                {
                    // In one piece: it is encrypted from where it lies.
                    self.seal_record(&[IoSlice::new(full)], RECORD)?;
                    rest = behind;
                    continue;
                }
                let (piece, behind) =
                    rest.split_at(rest.len().min(COPY_PIECE).min(RECORD - length));
                record[pieces] = IoSlice::new(piece);
                (pieces, length, rest) = (pieces + 1, length + piece.len(), behind);
                if length == RECORD || pieces == PIECES {
                    self.seal_record(&record[..pieces], length)?;
                    (pieces, length) = (0, 0);
                }
            }
        }
        self.seal_record(&record[..pieces], length)
    }

    /// Makes one record of a long slice and the little that stands behind it, at most [`RECORD`] bytes
    /// together: it is encrypted from where it lies (see `sealing`).
    ///
    /// # Errors
    /// If the session has failed.
    pub(crate) fn seal_pair(&mut self, long: &[u8], little: &[u8]) -> io::Result<()> {
        let pair = [IoSlice::new(long), IoSlice::new(little)];
        let slices = if little.is_empty() { &pair[..1] } else { &pair };
        self.seal_record(slices, long.len() + little.len())
    }

    fn seal_record(&mut self, pieces: &[IoSlice<'_>], length: usize) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let sealed = self.session.writer().write_vectored(pieces)?;
        self.sealed += sealed;
        if sealed == length {
            return Ok(());
        }
        // Only if the keys are used up, or the peer has been told good-bye.
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Whether there is something to send: records, tickets, alerts.
    pub(crate) fn wants_to_send(&self) -> bool {
        self.session.wants_write()
    }

    /// Sends what there is, as much as the socket takes. Answers how many bytes left.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Blocking {
            io: &mut self.io,
            cx,
        };
        let sent = match self.session.write_tls(&mut socket) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if !self.session.wants_write() {
            self.sealed = 0;
        }
        Poll::Ready(Ok(sent))
    }

    /// Flushes the connection below.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads plaintext; an end without `close_notify` is an error.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let n = plain.len().min(buf.remaining());
                    buf.put_slice(&plain[..n]);
                    reader.consume(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Reads some ciphertext and opens it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Blocking {
            io: &mut self.io,
            cx,
        };
        match self.session.read_tls(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        if let Err(error) = self.session.process_new_packets() {
            // The alert, if the socket takes it at once.
            let _ = self.poll_send(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }

    /// Says good-bye and closes the write side. Everything else must have been sent.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.said_goodbye {
            self.session.send_close_notify();
            self.said_goodbye = true;
        }
        while self.wants_to_send() {
            ready!(self.poll_send(cx))?;
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A socket as `rustls` wants it: what would wait says so.
struct Blocking<'a, 'b> {
    io: &'a mut Box<dyn IO>,
    cx: &'a mut Context<'b>,
}

fn blocking<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        blocking(Pin::new(&mut *self.io).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.io).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        blocking(Pin::new(&mut *self.io).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
