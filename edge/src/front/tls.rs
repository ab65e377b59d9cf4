//! TLS at the front door: our own acceptor, because Pingora's gives no access to the settings.
//!
//! TLS 1.2 and 1.3 by rustls with aws-lc-rs, ALPN `h2` before `http/1.1`, session tickets (their
//! keys live in this process only and change every six hours), no early data. The handshake has
//! one deadline for all of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::IO;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificates;
use super::tls_stream::TlsStream;

/// What stands in front of the bytes of a TLS listener.
#[derive(Clone)]
pub(crate) struct Acceptor {
    certificates: Arc<Certificates>,
}

/// A finished handshake.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream,
    /// The name the client asked for, lower case.
    pub(crate) sni: Option<String>,
    /// ALPN chose HTTP/2.
    pub(crate) h2: bool,
}

impl Acceptor {
    pub(crate) fn new(certificates: Arc<Certificates>) -> Acceptor {
        Acceptor { certificates }
    }

    /// Shakes hands within `limit`.
    ///
    /// # Errors
    /// The client's fault, or [`io::ErrorKind::TimedOut`].
    pub(crate) async fn accept(
        &self,
        stream: Box<dyn IO>,
        limit: Duration,
    ) -> io::Result<Accepted> {
        let acceptor = TlsAcceptor::from(self.certificates.server());
        let shaken = timeout(limit, acceptor.accept(stream)).await??;
        let (io, session) = shaken.into_inner();
        let sni = session.server_name().map(str::to_ascii_lowercase);
        let h2 = session.alpn_protocol() == Some(b"h2");
        let stream = TlsStream::new(io, session);
        Ok(Accepted { stream, sni, h2 })
    }
}
