//! The origin of a plain HTTP mount: any HTTP server of the operator's choice.
//!
//! hyper's client, HTTP/1.1 for `http`, HTTP/2 or HTTP/1.1 by ALPN for `https`. It follows no
//! redirects, decodes nothing and adds nothing but framing. Informational answers (1xx) are dropped. A
//! request without a body whose kept-alive connection turns out dead is sent once more, if its
//! method has no effect. A connection where an answer was too late, or a body broke off, takes no new
//! requests, and its address is used only where there is no other, for a while. Each mount has a gate of its own, so that one's trouble is nobody else's.
//! Failure rule as for the other origin: every wait is bounded, and a body
//! that ends any other way than its framing says is an error, never an end.

pub mod metrics;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{
    CaptureConnection, HttpConnector, HttpInfo, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant as Deadline, timeout, timeout_at};
use tower_service::Service;

use self::metrics::{MountMetrics, Ongoing};
use super::directory::Directory;
use super::gate::{Gate, Place};
use super::resolve::Resolve;
use super::{Endpoint, OriginBody, OriginError, Stage};
use crate::backoff::chance;
use crate::config::mounts::MountConfig;
use crate::engine::http::config::HttpConfig;
use crate::exchange::{Aborted, Upload};

/// The largest HTTP/2 window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Fields of an answer's header: more are refused.
const MAX_FIELDS: usize = 128;

/// One request to a mount's origin. `Host` is not among the headers.
#[derive(Debug)]
pub struct WebRequest {
    /// Any method but `CONNECT`.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// End-to-end fields.
    pub headers: HeaderMap,
    /// The body, if there is one.
    pub upload: Option<Upload>,
    /// Its answer goes to one client, at that client's pace.
    pub relay: bool,
}

/// The head of the answer, and its body to be read.
pub struct WebResponse {
    /// A final status.
    pub status: StatusCode,
    /// The headers as sent.
    pub headers: HeaderMap,
    /// The protocol that it came by: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Whether the end of the body can be told from a broken connection (RFC 9112 §6.3: it has a
    /// length, or chunks, or HTTP/2 frames).
    pub framed: bool,
    /// The body; dropping it early closes the connection or resets the stream.
    pub body: Box<dyn OriginBody>,
}

/// Somebody who answers [`WebRequest`]s.
#[async_trait]
pub trait WebOrigin: Send + Sync + 'static {
    /// Sends one request and waits for the head of the answer.
    ///
    /// # Errors
    /// Only if no answer came: an error status is an answer.
    async fn send(&self, request: WebRequest) -> Result<WebResponse, OriginError>;

    /// The host, with its port if it has one, that this origin is asked for.
    fn authority(&self) -> &str;
}

type HttpClient = Client<HttpsConnector<HttpConnector<Addresses>>, Outgoing>;

/// The real origin of a mount.
pub struct Web {
    client: HttpClient,
    /// For relays: over HTTP/2 they don't use up the streams that others need.
    relays: HttpClient,
    scheme: Scheme,
    authority: Authority,
    directory: Arc<Directory>,
    gate: Arc<Gate>,
    config: HttpConfig,
    metrics: MountMetrics,
}

impl Web {
    /// The client of a mount; connects only when first asked. Names are asked of `resolvers`, or of
    /// the system's if there are none.
    ///
    /// # Errors
    /// A text, if the mount's origin is no URL or its authorities can't be read.
    pub fn new(
        mount: &MountConfig,
        resolvers: &[SocketAddr],
        config: &HttpConfig,
        metrics: MountMetrics,
    ) -> Result<Web, String> {
        let endpoint = Endpoint::parse(mount.origin.as_deref().unwrap_or_default())?;
        let authority = mount.host.as_ref().unwrap_or(&endpoint.authority);
        let authority: Authority = authority
            .parse()
            .map_err(|error| format!("{authority} is no host: {error}"))?;
        let resolve = Resolve::new(&endpoint.host, endpoint.port, resolvers);
        let suspicion = config.exchange().suspicion();
        let directory = Directory::new(resolve, suspicion, metrics.directory.clone());
        let directory = Arc::new(directory);
        let mut tcp = HttpConnector::new_with_resolver(Addresses(Arc::clone(&directory)));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout.get()));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(mount.ca.as_deref())?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(Web {
            client: client(config).build(connector.clone()),
            relays: client(config).build(connector),
            scheme: if endpoint.tls {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            gate: Arc::new(Gate::new(
                authority.as_str(),
                config.exchange().bounds(),
                metrics.gate.clone(),
            )),
            authority,
            directory,
            config: config.clone(),
            metrics,
        })
    }

    async fn exchange(&self, request: WebRequest) -> Result<WebResponse, OriginError> {
        let relay = match request.relay {
            true => Some(self.gate.relay().await?),
            false => None,
        };
        let mut entered = self.gate.enter().await?;
        let uploads = request.upload.is_some();
        if uploads && relay.is_some() {
            // It comes at its client's pace, too.
            entered.give_place_back();
        }
        match self.try_until_headed(request).await {
            Ok(Headed { mut body, head }) => {
                let place = entered.answered();
                body.relays = relay.is_some();
                body.place = relay.or(place);
                Ok(WebResponse {
                    status: head.status,
                    protocol: protocol(head.version),
                    framed: body.framed,
                    headers: head.headers,
                    body: Box::new(body),
                })
            }
            Err(error) => {
                // An upload comes at its client's pace and may end with it: once connected, that it
                // failed says nothing about the origin.
                if !uploads || matches!(error, OriginError::Connect { .. }) {
                    entered.failed(&error);
                }
                Err(error)
            }
        }
    }

    async fn try_until_headed(&self, request: WebRequest) -> Result<Headed, OriginError> {
        let ongoing = self.metrics.begin();
        let ends = Deadline::now() + self.config.total_timeout.get();
        let WebRequest {
            method,
            target,
            headers,
            upload,
            relay,
        } = request;
        let client = if relay { &self.relays } else { &self.client };
        let is_head = method == Method::HEAD;
        let again = upload.is_none() && matches!(method, Method::GET | Method::HEAD);
        let head = |body| {
            let mut request = Request::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = self.uri(&target);
            *request.headers_mut() = headers.clone();
            request
        };
        let outgoing = upload.map_or(Outgoing::Empty, Outgoing::Pieces);
        let (response, line) = match self.ask(client, head(outgoing)).await {
            Err(OriginError::Broken { .. }) if again => {
                self.metrics.retries.inc();
                self.ask(client, head(Outgoing::Empty)).await?
            }
            answered => answered?,
        };
        self.check_header(response.headers())?;
        let version = response.version();
        let (head, incoming) = response.into_parts();
        let framed = is_head
            || version >= Version::HTTP_2
            || head.headers.contains_key(CONTENT_LENGTH)
            || head.headers.contains_key(TRANSFER_ENCODING)
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        let body = WebBody {
            incoming,
            line,
            framed,
            ends,
            config: self.config.clone(),
            gate: Arc::clone(&self.gate),
            place: None,
            relays: false,
            _ongoing: ongoing,
        };
        Ok(Headed { head, body })
    }

    async fn ask(
        &self,
        client: &HttpClient,
        mut request: Request<Outgoing>,
    ) -> Result<(http::Response<Incoming>, Line), OriginError> {
        let line = Line {
            connection: capture_connection(&mut request),
            directory: Arc::clone(&self.directory),
        };
        let limit = match request.body() {
            // The connection's share is bounded by the connector, but for TLS; this bounds both.
            Outgoing::Empty => {
                self.config.connect_timeout.get() + self.config.first_byte_timeout.get()
            }
            // The head may wait for the whole body, which comes at the client's pace.
            Outgoing::Pieces(_) => self.config.total_timeout.get(),
        };
        match timeout(limit, client.request(request)).await {
            Ok(Ok(response)) => {
                line.connected();
                Ok((response, line))
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                line.strike();
                Err(OriginError::Timeout {
                    stage: Stage::FirstByte,
                    limit,
                })
            }
        }
    }

    /// hyper bounds its buffer, which is not quite the same.
    fn check_header(&self, headers: &HeaderMap) -> Result<(), OriginError> {
        let most = self.config.header_size.as_u64();
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
        let size: usize = headers.iter().map(line).sum();
        if size as u64 <= most {
            return Ok(());
        }
        let why = format!("a header of more than {most} bytes, the configured limit");
        Err(OriginError::Invalid { why })
    }

    fn failed(&self, error: &legacy::Error) -> OriginError {
        let why = told(error);
        if error.is_connect() {
            return OriginError::Connect {
                to: self.authority.to_string(),
                why,
            };
        }
        let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<hyper::Error>());
        if cause.is_some_and(hyper::Error::is_parse) {
            return OriginError::Invalid { why };
        }
        OriginError::Broken { why }
    }

    fn uri(&self, target: &PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.clone());
        Uri::from_parts(parts).unwrap_or_default()
    }
}

#[async_trait]
impl WebOrigin for Web {
    async fn send(&self, request: WebRequest) -> Result<WebResponse, OriginError> {
        let (started, target) = (Instant::now(), request.target.clone());
        let result = self.exchange(request).await;
        match &result {
            Ok(response) => self.metrics.answered(response.status, started.elapsed()),
            Err(error) => {
                self.metrics.failed(error.name());
                tracing::debug!(%target, origin = %self.authority, %error, "the origin did not answer");
            }
        }
        result
    }

    fn authority(&self) -> &str {
        self.authority.as_str()
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn client(config: &HttpConfig) -> legacy::Builder {
    let header = config.header_size.as_u64();
    let window = u32::try_from(config.stream_window.as_u64()).unwrap_or(u32::MAX);
    let streams = u32::try_from(config.requests.max(config.relays)).unwrap_or(u32::MAX);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(config.idle_timeout.get())
        .pool_max_idle_per_host(config.requests)
        .http1_max_buf_size(usize::try_from(header).unwrap_or(usize::MAX))
        .http1_max_headers(MAX_FIELDS)
        .http2_max_header_list_size(u32::try_from(header).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(window)
        .http2_initial_connection_window_size(window.saturating_mul(streams).min(MAX_WINDOW));
    builder
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(ca) = ca else {
        let builder = builder.with_native_roots();
        let builder = builder.map_err(|error| format!("the system's authorities: {error}"))?;
        return Ok(builder.with_no_client_auth());
    };
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| failed(&e))? {
        let certificate = certificate.map_err(|e| failed(&e))?;
        roots.add(certificate).map_err(|e| failed(&e))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes: hyper's own text names none.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The connection that a request was sent on, and the address at its other end.
struct Line {
    /// Knows nothing until there is one.
    connection: CaptureConnection,
    directory: Arc<Directory>,
}

impl Line {
    fn address(&self) -> Option<SocketAddr> {
        let mut extras = http::Extensions::new();
        self.connection
            .connection_metadata()
            .as_ref()?
            .get_extras(&mut extras);
        extras.get::<HttpInfo>().map(HttpInfo::remote_addr)
    }

    /// An answer came.
    fn connected(&self) {
        if let Some(address) = self.address() {
            self.directory.addresses().connected(address);
        }
    }

    /// Something went wrong: the connection takes no further requests, and other addresses are used
    /// for a while, if there are any.
    fn strike(&self) {
        if let Some(connection) = self.connection.connection_metadata().as_ref() {
            connection.poison();
        }
        if let Some(address) = self.address() {
            let now = Instant::now();
            let mut addresses = self.directory.addresses();
            addresses.strike(address, now, chance());
            tracing::debug!(%address, "an address of a mount's origin is suspect");
        }
    }

    /// A body came whole.
    fn clear(&self) {
        if let Some(address) = self.address() {
            self.directory.addresses().clear(address);
        }
    }
}

/// The addresses of the one host that a client is for, whatever name it is asked by: the best first.
#[derive(Clone)]
struct Addresses(Arc<Directory>);

impl Addresses {
    async fn look_up(self) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        self.0.refresh().await.map_err(io::Error::other)?;
        let addresses = self.0.addresses().in_order(Instant::now());
        Ok(addresses.into_iter())
    }
}

impl Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        Box::pin(self.clone().look_up())
    }
}

/// A request's body.
enum Outgoing {
    Empty,
    Pieces(Upload),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Pieces(upload) => upload
                .poll_recv(cx)
                .map(|piece| Some(piece?.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// The head of an answer, and its body to be read.
struct Headed {
    head: Parts,
    body: WebBody,
}

/// A body on its way in.
struct WebBody {
    incoming: Incoming,
    line: Line,
    framed: bool,
    ends: Deadline,
    config: HttpConfig,
    gate: Arc<Gate>,
    /// Held for as long as the body is read, among the requests or the relays.
    place: Option<Place>,
    /// Which of them.
    relays: bool,
    _ongoing: Ongoing,
}

#[async_trait]
impl OriginBody for WebBody {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let (stall, total) = (
            self.config.stall_timeout.get(),
            self.config.total_timeout.get(),
        );
        loop {
            let next = timeout(stall, self.incoming.frame());
            let frame = match timeout_at(self.ends, next).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(_)) => {
                    self.line.strike();
                    return Err(OriginError::Timeout {
                        stage: Stage::Stall,
                        limit: stall,
                    });
                }
                Err(_) => {
                    return Err(OriginError::Timeout {
                        stage: Stage::Total,
                        limit: total,
                    });
                }
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => {
                    self.line.clear();
                    return Ok(None);
                }
                Some(Err(error)) => {
                    self.line.strike();
                    return Err(OriginError::Broken { why: told(&error) });
                }
                Some(Ok(Ok(bytes))) if !bytes.is_empty() => return Ok(Some(bytes)),
                // Nothing, or trailers: those may be dropped (RFC 9110 §6.5.1).
                Some(Ok(_)) => {}
            }
        }
    }

    fn relay(&mut self) -> Result<(), OriginError> {
        if !self.relays {
            self.place = Some(self.gate.relay_now()?);
            self.relays = true;
        }
        Ok(())
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
