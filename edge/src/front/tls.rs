//! TLS at the front door: our own acceptor, because Pingora's gives no access to the settings.
//!
//! TLS 1.2 and 1.3 by rustls with aws-lc-rs, ALPN `h2` before `http/1.1`, session tickets (their
//! keys live in this process only and change every six hours), no early data. The handshake has
//! one deadline for all of it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::IO;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::tls_stream::TlsStream;

/// What stands in front of the bytes of a TLS listener.
#[derive(Clone)]
pub(crate) struct Acceptor {
    acceptor: TlsAcceptor,
    limit: Duration,
}

/// A finished handshake.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream,
    /// The name the client asked for, lower case.
    pub(crate) sni: Option<String>,
    /// ALPN chose HTTP/2.
    pub(crate) h2: bool,
}

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct TlsError {
    file: String,
    why: String,
}

impl TlsError {
    fn new(file: &Path, why: &impl ToString) -> TlsError {
        TlsError {
            file: file.display().to_string(),
            why: why.to_string(),
        }
    }
}

impl Acceptor {
    /// Reads the PEM files of a certificate chain and its key.
    ///
    /// # Errors
    /// Which file can't be used and why.
    pub(crate) fn load(
        certificate: &Path,
        key: &Path,
        limit: Duration,
    ) -> Result<Acceptor, TlsError> {
        let chain = read_chain(certificate)?;
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::new(key, &error))?;
        let config =
            server_config(chain, secret).map_err(|error| TlsError::new(certificate, &error))?;
        Ok(Acceptor {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            limit,
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The client's fault, or [`io::ErrorKind::TimedOut`].
    pub(crate) async fn accept(&self, stream: Box<dyn IO>) -> io::Result<Accepted> {
        let shaken = timeout(self.limit, self.acceptor.accept(stream)).await??;
        let (io, session) = shaken.into_inner();
        let sni = session.server_name().map(str::to_ascii_lowercase);
        let h2 = session.alpn_protocol() == Some(b"h2");
        let stream = TlsStream::new(io, session);
        Ok(Accepted { stream, sni, h2 })
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| TlsError::new(file, &error))?
        .collect();
    let chain = chain.map_err(|error| TlsError::new(file, &error))?;
    if chain.is_empty() {
        return Err(TlsError::new(file, &"holds no certificate"));
    }
    Ok(chain)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let absent = dir.path().join("absent.pem");
        for (file, why) in [(&empty, "holds no certificate"), (&absent, "absent.pem")] {
            let Err(error) = Acceptor::load(file, &empty, Duration::from_secs(1)) else {
                panic!("{} is no certificate", file.display());
            };
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
