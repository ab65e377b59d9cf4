//! The origin over HTTP/2: Pingora's transport connector and HTTP/2 client under our pool.
//!
//! `http` URLs are spoken to by prior knowledge, `https` ones by TLS and ALPN; an origin that
//! doesn't speak HTTP/2 is an error. A request whose connection turns out dead before the head of
//! its answer is here is sent again on a fresh one: all our requests are GETs. A connection on
//! which an answer was too late takes no new requests, for it may be a black hole.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Uri};
use parking_lot::Mutex;
use pingora::connectors::http::v2::{ConnectionRef, H2HandshakeSettings, handshake};
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::Handle;
use tokio::time::{Instant as Deadline, timeout, timeout_at};

use modcdn_core::headers::DISABLE_MODULE_FETCH;

use super::pool::{Bounds, Dial, Lease, Pool};
use super::resolve::Resolve;
use super::{Origin, OriginBody, OriginError, OriginRequest, OriginResponse, Stage};
use crate::config::OriginConfig;
use crate::metrics::Metrics;

/// How often a request is sent again because its connection had died.
const MAX_RETRIES: u32 = 2;

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

/// The real origin.
pub struct Client {
    pool: Arc<Pool>,
    authority: HeaderValue,
    config: OriginConfig,
    metrics: Metrics,
}

impl Client {
    /// Makes a client; connects only when first asked. Connections live on `runtime`.
    ///
    /// # Errors
    /// A text, if the URL is none or the file of authorities can't be read.
    pub fn new(config: &OriginConfig, runtime: Handle, metrics: Metrics) -> Result<Client, String> {
        let endpoint = Endpoint::parse(&config.url)?;
        let authority =
            HeaderValue::try_from(&endpoint.authority).map_err(|error| error.to_string())?;
        let dialler = Dialler::new(config, &endpoint)?;
        let bounds = Bounds {
            connections: config.connections,
            streams: config.streams_per_connection,
            idle: config.idle_timeout.get(),
            wait: config.connect_timeout.get(),
        };
        let pool = Pool::new(Arc::new(dialler), bounds, runtime, metrics.clone());
        Ok(Client {
            pool,
            authority,
            config: config.clone(),
            metrics,
        })
    }

    async fn exchange(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        let ends = Deadline::now() + self.config.total_timeout.get();
        let mut fresh = None;
        let mut retries = 0;
        loop {
            let lease = self.pool.lease(fresh).await?;
            match self.attempt(lease, request, ends).await {
                Err(Failed { dead: true, .. }) if retries < MAX_RETRIES => {
                    self.metrics.origin_retries.inc();
                    retries += 1;
                    fresh = Some(Instant::now());
                }
                Err(failed) => return Err(failed.error),
                Ok(response) => return Ok(response),
            }
        }
    }

    async fn attempt(
        &self,
        mut lease: Lease,
        request: &OriginRequest,
        ends: Deadline,
    ) -> Result<OriginResponse, Failed> {
        let header = self.header(request)?;
        let session = lease.session();
        if let Err(error) = session.write_request_header(Box::new(header), true) {
            return Err(failed(&mut lease, &error));
        }
        let limit = self.config.first_byte_timeout.get();
        match timeout(limit, session.read_response_header()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(&mut lease, &error)),
            Err(_) => {
                lease.retire_connection();
                return Err(OriginError::Timeout {
                    stage: Stage::FirstByte,
                    limit,
                }
                .into());
            }
        }
        let Some(head) = lease.session().response_header() else {
            return Err(OriginError::Invalid {
                why: "no head".to_owned(),
            }
            .into());
        };
        let (status, headers) = (head.status, head.headers.clone());
        let (stall, total) = (
            self.config.stall_timeout.get(),
            self.config.total_timeout.get(),
        );
        let body = Box::new(ClientBody {
            lease,
            stall,
            total,
            ends,
        });
        Ok(OriginResponse {
            status,
            headers,
            body,
        })
    }

    fn header(&self, request: &OriginRequest) -> Result<RequestHeader, OriginError> {
        let invalid = |error: Box<pingora::Error>| OriginError::Invalid {
            why: error.to_string(),
        };
        let mut header = RequestHeader::build_no_case("GET", request.path.as_bytes(), Some(6))
            .map_err(invalid)?;
        let mut set = |name, value: HeaderValue| header.insert_header(name, value).map_err(invalid);
        set(HOST, self.authority.clone())?;
        set(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
        if let Some(etags) = &request.if_none_match {
            set(IF_NONE_MATCH, etags.clone())?;
        }
        if let Some(resume) = &request.resume {
            let range = format!("bytes={}-", resume.from);
            set(
                RANGE,
                HeaderValue::try_from(range).expect("digits are visible ASCII"),
            )?;
            set(IF_RANGE, resume.if_range.clone())?;
        }
        if request.no_fetch {
            set(DISABLE_MODULE_FETCH, HeaderValue::from_static("true"))?;
        }
        Ok(header)
    }
}

#[async_trait]
impl Origin for Client {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let started = Instant::now();
        let result = self.exchange(&request).await;
        match &result {
            Ok(response) => self
                .metrics
                .origin_answered(response.status, started.elapsed()),
            Err(error) => {
                self.metrics.origin_failed(error.name());
                tracing::warn!(path = request.path, %error, "the origin did not answer");
            }
        }
        result
    }
}

/// An attempt that got no head.
struct Failed {
    /// The connection is of no use any more: worth a try on another.
    dead: bool,
    error: OriginError,
}

impl From<OriginError> for Failed {
    fn from(error: OriginError) -> Failed {
        Failed { dead: false, error }
    }
}

/// Tells a dead connection from an origin that refuses this one request.
fn failed(lease: &mut Lease, error: &pingora::Error) -> Failed {
    let broken = OriginError::Broken {
        why: error.to_string(),
    };
    let connection = &lease.session().conn;
    let closed = connection.is_closed() || connection.ping_timedout();
    let dead = closed
        || error.retry()
        || error
            .root_cause()
            .downcast_ref::<h2::Error>()
            .is_some_and(|error| {
                let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
                error.is_io() || error.is_go_away() || (error.is_reset() && refused)
            });
    if dead {
        lease.retire_connection();
    }
    Failed {
        dead,
        error: broken,
    }
}

struct ClientBody {
    lease: Lease,
    stall: Duration,
    total: Duration,
    ends: Deadline,
}

impl ClientBody {
    /// The wait for the next piece: when it ends, and what it is called.
    fn bound(&self) -> (Deadline, OriginError) {
        let stalled = Deadline::now() + self.stall;
        if stalled < self.ends {
            (
                stalled,
                OriginError::Timeout {
                    stage: Stage::Stall,
                    limit: self.stall,
                },
            )
        } else {
            (
                self.ends,
                OriginError::Timeout {
                    stage: Stage::Total,
                    limit: self.total,
                },
            )
        }
    }
}

#[async_trait]
impl OriginBody for ClientBody {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let (deadline, late) = self.bound();
        loop {
            // Pingora gives the flow-control window back as it hands the bytes out.
            match timeout_at(deadline, self.lease.session().read_response_body()).await {
                Ok(Ok(Some(piece))) if piece.is_empty() => {}
                Ok(Ok(piece)) => return Ok(piece),
                Ok(Err(error)) => {
                    return Err(OriginError::Broken {
                        why: error.to_string(),
                    });
                }
                Err(_) => return Err(late),
            }
        }
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        let (deadline, late) = self.bound();
        match timeout_at(deadline, self.lease.session().read_trailers()).await {
            Ok(Ok(trailers)) => Ok(trailers),
            Ok(Err(error)) => Err(OriginError::Broken {
                why: error.to_string(),
            }),
            Err(_) => Err(late),
        }
    }
}

/// Opens connections: name, TCP, TLS, HTTP/2, all within one deadline.
struct Dialler {
    connector: TransportConnector,
    resolve: Resolve,
    template: HttpPeer,
    settings: H2HandshakeSettings,
    tls: bool,
    authority: String,
    limit: Duration,
    /// The address that answered last is tried first.
    last_good: Mutex<Option<SocketAddr>>,
}

impl Dialler {
    fn new(config: &OriginConfig, endpoint: &Endpoint) -> Result<Dialler, String> {
        let mut settings = H2HandshakeSettings::new();
        settings.max_streams = config.streams_per_connection;
        settings.ping_interval = Some(config.ping.get());
        settings.stream_window_size = u32::try_from(config.stream_window.as_u64()).ok();
        settings.connection_window_size = u32::try_from(config.connection_window.as_u64()).ok();
        let limit = config.connect_timeout.get();
        Ok(Dialler {
            connector: TransportConnector::new(Some(connector_options(config, endpoint)?)),
            resolve: Resolve::new(&endpoint.host, endpoint.port),
            template: peer_template(endpoint, limit)?,
            settings,
            tls: endpoint.tls,
            authority: endpoint.authority.clone(),
            limit,
            last_good: Mutex::default(),
        })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, OriginError> {
        let mut addresses = self
            .resolve
            .addresses()
            .await
            .map_err(|why| self.unreachable(why))?;
        let last_good = *self.last_good.lock();
        addresses.sort_by_key(|address| Some(*address) != last_good);
        Ok(addresses)
    }

    /// The addresses one after the other, each with its share of the time left.
    async fn connect(&self, deadline: Deadline) -> Result<ConnectionRef, OriginError> {
        let addresses = self.addresses().await?;
        let mut last = self.unreachable("the name has no addresses".to_owned());
        for (n, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Deadline::now());
            let share = left / u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
            match timeout(share.max(MIN_TRY), self.connect_to(*address)).await {
                Ok(Ok(connection)) => {
                    *self.last_good.lock() = Some(*address);
                    return Ok(connection);
                }
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = OriginError::Timeout {
                        stage: Stage::Connect,
                        limit: self.limit,
                    }
                }
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<ConnectionRef, OriginError> {
        let failed = |error: Box<pingora::Error>| OriginError::Connect {
            to: address.to_string(),
            why: error.to_string(),
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
}

#[async_trait]
impl Dial for Dialler {
    async fn dial(&self) -> Result<ConnectionRef, OriginError> {
        let deadline = Deadline::now() + self.limit;
        timeout_at(deadline, self.connect(deadline))
            .await
            .unwrap_or(Err(OriginError::Timeout {
                stage: Stage::Connect,
                limit: self.limit,
            }))
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

#[cfg(test)]
mod tests;
