//! Checks over TLS: whom we trust, and until when a certificate is good.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Config;

/// Whom https checks trust. Empty where nothing is checked over TLS: loading the system's
/// authorities is slow and may fail.
#[derive(Clone, Default)]
pub(crate) struct Authorities(Option<TlsConnector>);

/// Why https checks can't be made.
#[derive(Debug, thiserror::Error)]
#[error("authorities of https checks, {from}: {error}")]
pub struct TlsError {
    from: Source,
    error: String,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system's"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Authorities {
    /// Reads those that a configuration needs. Blocks.
    ///
    /// # Errors
    /// If they can't be read, or there are none.
    pub(crate) fn load(config: &Config) -> Result<Self, TlsError> {
        let urls = config.pops.iter().filter_map(|pop| pop.health.as_ref());
        if urls.filter_map(|url| url.server()).next().is_none() {
            return Ok(Self::default());
        }
        let ca = config.checks.ca.as_deref();
        let from = ca.map_or(Source::System, |path| Source::File(path.to_owned()));
        let mut client = client(ca).map_err(|error| TlsError { from, error })?;
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Some(TlsConnector::from(Arc::new(client)))))
    }

    /// Shakes hands with a server of that name.
    pub(super) async fn connect(
        &self,
        server: &ServerName<'static>,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        match &self.0 {
            Some(connector) => connector.connect(server.clone(), stream).await,
            None => Err(io::Error::other("no authorities are loaded")),
        }
    }
}

fn client(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let told = |error: &dyn fmt::Display| error.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| told(&error))?;
    let Some(ca) = ca else {
        let builder = builder.with_native_roots().map_err(|error| told(&error))?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| told(&error))? {
        let certificate = certificate.map_err(|error| told(&error))?;
        roots.add(certificate).map_err(|error| told(&error))?;
    }
    if roots.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// When the server's certificate ends.
pub(super) fn expiry(stream: &TlsStream<TcpStream>) -> Option<SystemTime> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let seconds = u64::try_from(seconds).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
