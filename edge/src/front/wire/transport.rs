//! What a wire writes to and reads from.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::IO;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::front::tls_stream::TlsStream;

/// What a wire writes to.
pub(crate) enum Transport {
    /// Clear text.
    Plain(Box<dyn IO>),
    /// TLS over it.
    Tls(Box<TlsStream>),
}

impl Transport {
    pub(super) fn io(&self) -> &dyn IO {
        match self {
            Transport::Plain(io) => io.as_ref(),
            Transport::Tls(tls) => tls.io(),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Transport::Tls(tls) => tls.poll_read(cx, buf),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_flush(cx),
            Transport::Tls(tls) => tls.poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Transport::Tls(tls) => tls.poll_shutdown(cx),
        }
    }
}
