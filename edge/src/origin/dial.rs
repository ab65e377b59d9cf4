//! Opening a connection to the origin: name, TCP, TLS, HTTP/2, all within one deadline.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Uri;
use pingora::ErrorType;
use pingora::connectors::http::v2::{ConnectionRef, H2HandshakeSettings, handshake};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant as Deadline, timeout, timeout_at};

use super::directory::Directory;
use super::pool::{Dial, Dialled};
use super::{OriginError, Stage};
use crate::backoff::chance;
use crate::config::OriginConfig;

/// Of the time for a connection, the least that each of several addresses is given.
const MIN_TRY: Duration = Duration::from_millis(500);

/// An origin's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// A name or an IP literal; IPv6 in brackets.
    pub host: String,
    /// The port, given or the scheme's.
    pub port: u16,
    /// What `Host` and `:authority` say.
    pub authority: String,
}

impl Endpoint {
    /// Takes `http://HOST[:PORT]` or `https://…` apart.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not carry a user or password".to_owned());
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("must not have a path or query".to_owned());
        }
        if authority.host().is_empty() {
            return Err("names no host".to_owned());
        }
        Ok(Endpoint {
            tls,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
        })
    }
}

/// Opens connections.
pub(crate) struct Dialler {
    connector: TransportConnector,
    directory: Arc<Directory>,
    template: HttpPeer,
    settings: H2HandshakeSettings,
    tls: bool,
    authority: String,
    limit: Duration,
}

impl Dialler {
    pub(crate) fn new(
        config: &OriginConfig,
        endpoint: &Endpoint,
        directory: Arc<Directory>,
    ) -> Result<Dialler, String> {
        let mut settings = H2HandshakeSettings::new();
        settings.max_streams = config.streams_per_connection;
        settings.ping_interval = Some(config.ping.get());
        settings.stream_window_size = u32::try_from(config.stream_window.as_u64()).ok();
        settings.connection_window_size = u32::try_from(config.connection_window.as_u64()).ok();
        let limit = config.connect_timeout.get();
        Ok(Dialler {
            connector: TransportConnector::new(Some(connector_options(config, endpoint)?)),
            directory,
            template: peer_template(endpoint, limit)?,
            settings,
            tls: endpoint.tls,
            authority: endpoint.authority.clone(),
            limit,
        })
    }

    /// The addresses one after the other, each with its share of the time left.
    async fn connect(&self, deadline: Deadline) -> Result<Dialled, OriginError> {
        let ready = self.directory.ready().await;
        ready.map_err(|why| self.unreachable(why))?;
        let addresses = self.directory.addresses().in_order(Instant::now());
        let mut last = self.unreachable("the name has no addresses".to_owned());
        for (n, address) in addresses.iter().copied().enumerate() {
            let left = deadline.saturating_duration_since(Deadline::now());
            let share = left / u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
            match timeout(share.max(MIN_TRY), self.connect_to(address)).await {
                Ok(Ok(connection)) => {
                    self.directory.addresses().connected(address);
                    return Ok(Dialled {
                        connection,
                        address,
                    });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = self.too_late(),
            }
            let now = Instant::now();
            self.directory.addresses().strike(address, now, chance());
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<ConnectionRef, OriginError> {
        // The connector has the same limit as we, and may come first.
        let failed = |error: Box<pingora::Error>| match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => self.too_late(),
            _ => OriginError::Connect {
                to: address.to_string(),
                why: error.root_cause().to_string(),
            },
        };
        let mut peer = self.template.clone();
        peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
        let stream = self.connector.new_stream(&peer).await.map_err(failed)?;
        if self.tls && stream.selected_alpn_proto() != Some(ALPN::H2) {
            let why = "does not speak HTTP/2 (ALPN h2)".to_owned();
            return Err(OriginError::Connect {
                to: address.to_string(),
                why,
            });
        }
        handshake(stream, self.settings.clone())
            .await
            .map_err(failed)
    }

    fn unreachable(&self, why: String) -> OriginError {
        OriginError::Connect {
            to: self.authority.clone(),
            why,
        }
    }

    fn too_late(&self) -> OriginError {
        OriginError::Timeout {
            stage: Stage::Connect,
            limit: self.limit,
        }
    }
}

#[async_trait]
impl Dial for Dialler {
    async fn dial(&self) -> Result<Dialled, OriginError> {
        let deadline = Deadline::now() + self.limit;
        timeout_at(deadline, self.connect(deadline))
            .await
            .unwrap_or_else(|_| Err(self.too_late()))
    }
}

/// Checks the file of authorities first: the connector panics on a bad one.
fn connector_options(
    config: &OriginConfig,
    endpoint: &Endpoint,
) -> Result<ConnectorOptions, String> {
    let mut options = ConnectorOptions::new(config.connections);
    options.ca_file = match &config.ca {
        Some(path) => {
            check_authorities(path)?;
            Some(
                path.to_str()
                    .ok_or("origin.ca: not a UTF-8 path")?
                    .to_owned(),
            )
        }
        None if endpoint.tls => None,
        // Clear text needs no roots, and loading the system's is slow and may fail.
        None => Some("/dev/null".to_owned()),
    };
    Ok(options)
}

fn check_authorities(path: &Path) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| named(&error))? {
        let certificate = certificate.map_err(|error| named(&error))?;
        roots.add(certificate).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&"holds no certificate"));
    }
    Ok(())
}

/// Everything about the peer but its address.
fn peer_template(endpoint: &Endpoint, limit: Duration) -> Result<HttpPeer, String> {
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    if endpoint.tls && host.is_empty() {
        // Pingora verifies nothing when the SNI is empty.
        return Err("an https origin needs a host name".to_owned());
    }
    let unset = SocketAddr::from(([0, 0, 0, 0], endpoint.port));
    let mut peer = HttpPeer::new(unset, endpoint.tls, host.to_owned());
    peer.options.set_http_version(2, 2);
    peer.options.connection_timeout = Some(limit);
    peer.options.total_connection_timeout = Some(limit);
    peer.options.verify_cert = true;
    peer.options.verify_hostname = true;
    Ok(peer)
}
