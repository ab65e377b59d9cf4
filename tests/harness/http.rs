//! HTTP clients: HTTP/1.1 on a new connection each time, HTTP/2 over one that is kept; in clear
//! text or over TLS. Nothing is retried, followed or decoded: a test sees what was sent.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use ::http::header::HeaderName;
use ::http::{HeaderMap, Method, Request, Version};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::PATIENCE;

/// The runtime of the harness' own clients and servers; tests themselves are plain threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a tokio runtime"))
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The protocol it came over.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it came.
    pub body: Bytes,
    /// The trailers.
    pub trailers: HeaderMap,
    /// Whether the body ended as its framing says, and not by a close or reset.
    pub complete: bool,
}

impl Reply {
    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status 200 and a complete body, or the test fails.
    pub fn ok(self) -> Reply {
        assert_eq!(self.status, 200, "{}\n{:?}", self.text(), self.headers);
        assert!(
            self.complete,
            "the body broke off after {} bytes",
            self.body.len()
        );
        self
    }
}

/// Speaks to one server.
pub struct Client {
    address: SocketAddr,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    http2: Option<Mutex<Option<http2::SendRequest<Empty<Bytes>>>>>,
}

impl Client {
    /// HTTP/1.1 in clear text, a connection for each request. `base` is `http://ADDRESS:PORT`.
    pub fn h1(base: &str) -> Client {
        let (address, authority) = split(base);
        Client {
            address,
            authority,
            tls: None,
            http2: None,
        }
    }

    /// HTTP/2 in clear text by prior knowledge, over one connection.
    pub fn h2(base: &str) -> Client {
        Client {
            http2: Some(Mutex::new(None)),
            ..Client::h1(base)
        }
    }

    /// HTTP/1.1 over TLS, trusting only `ca`.
    pub fn tls_h1(base: &str, ca: &Path) -> Client {
        let mut client = Client::h1(base);
        client.tls = Some(trusting(
            ca,
            client.address,
            b"http/1.1",
            rustls::ALL_VERSIONS,
        ));
        client
    }

    /// HTTP/2 by ALPN over TLS, trusting only `ca`, over one connection.
    pub fn tls_h2(base: &str, ca: &Path) -> Client {
        let mut client = Client::h2(base);
        client.tls = Some(trusting(ca, client.address, b"h2", rustls::ALL_VERSIONS));
        client
    }

    /// HTTP/2 over TLS 1.2 and nothing newer.
    pub fn tls_1_2(base: &str, ca: &Path) -> Client {
        let mut client = Client::h2(base);
        client.tls = Some(trusting(
            ca,
            client.address,
            b"h2",
            &[&rustls::version::TLS12],
        ));
        client
    }

    /// Calls the server by another name than its address: in its requests, and in TLS.
    pub fn calling_it(mut self, name: &str) -> Client {
        name.clone_into(&mut self.authority);
        if let Some((_, expected)) = &mut self.tls {
            *expected = ServerName::try_from(name.to_owned()).expect("a DNS name");
        }
        self
    }

    /// GET; the transport must work.
    pub fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[])
    }

    /// GET with headers; the transport must work.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(&Method::GET, path, headers)
            .unwrap_or_else(|error| panic!("GET {path} at {}: {error}", self.authority))
    }

    /// HEAD.
    pub fn head(&self, path: &str) -> Reply {
        self.send(&Method::HEAD, path, &[])
            .unwrap_or_else(|error| panic!("HEAD {path} at {}: {error}", self.authority))
    }

    /// Any method; an error if no head of an answer came.
    pub fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Reply, String> {
        runtime().block_on(self.bounded(method, path, headers))
    }

    /// GET whose body, which must be whole, is read and forgotten, however long it takes.
    pub fn drain(&self, path: &str) {
        let request = self
            .request(&Method::GET, path, &[])
            .expect("a valid request");
        runtime().block_on(async {
            let response = self.exchange(request).await.expect("an answer");
            assert_eq!(response.status(), 200, "{path}");
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.expect("more of the body");
            }
        });
    }

    /// GET whose body is read bit by bit.
    pub fn follow(&self, path: &str) -> Following {
        let request = self
            .request(&Method::GET, path, &[])
            .expect("a valid request");
        let response = runtime().block_on(self.exchange(request));
        let response = response.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        Following {
            response,
            body: BytesMut::new(),
        }
    }

    /// All at once, answers in the order of the paths.
    pub fn get_all(&self, paths: &[String]) -> Vec<Reply> {
        let requests = paths
            .iter()
            .map(|path| self.bounded(&Method::GET, path, &[]));
        let replies = runtime().block_on(futures::future::join_all(requests));
        let paths = paths.iter();
        replies
            .into_iter()
            .zip(paths)
            .map(|(reply, path)| reply.unwrap_or_else(|error| panic!("GET {path}: {error}")))
            .collect()
    }

    async fn bounded(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Reply, String> {
        let request = self.request(method, path, headers)?;
        let asked = async { Ok(receive(self.exchange(request).await?, BytesMut::new()).await) };
        let answer = tokio::time::timeout(PATIENCE * 2, asked).await;
        answer.map_err(|_| format!("no answer within {:?}", PATIENCE * 2))?
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> Result<Response, String> {
        let sent = match &self.http2 {
            None => self.connect_h1().await?.send_request(request).await,
            Some(_) => self.connection_h2().await?.send_request(request).await,
        };
        sent.map_err(|error| describe(&error))
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Request<Empty<Bytes>>, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = match self.http2 {
            None => path.to_owned(),
            Some(_) => format!("{scheme}://{}{path}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if self.http2.is_none() && !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", &self.authority);
        }
        for (name, value) in headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            request = request.header(name, *value);
        }
        request
            .body(Empty::new())
            .map_err(|error| error.to_string())
    }

    async fn connect_h1(&self) -> Result<http1::SendRequest<Empty<Bytes>>, String> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|error| describe(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// The kept connection, made at first use and again when the server has closed it.
    async fn connection_h2(&self) -> Result<http2::SendRequest<Empty<Bytes>>, String> {
        let kept = self.http2.as_ref().ok_or("not an HTTP/2 client")?;
        let usable = |kept: &Option<http2::SendRequest<_>>| {
            kept.as_ref()
                .filter(|sender: &&http2::SendRequest<_>| !sender.is_closed())
                .cloned()
        };
        if let Some(sender) = usable(&kept.lock().expect("no panic with the connection in hand")) {
            return Ok(sender);
        }
        let io = TokioIo::new(self.connect().await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20);
        let (sender, connection) = builder
            .handshake(io)
            .await
            .map_err(|error| describe(&error))?;
        tokio::spawn(connection);
        *kept.lock().expect("no panic with the connection in hand") = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let tcp = TcpStream::connect(self.address)
            .await
            .map_err(|error| error.to_string())?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let tls = connector
            .connect(name.clone(), tcp)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Box::new(tls))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Response = ::http::Response<Incoming>;

/// An answer whose body is still coming.
pub struct Following {
    response: Response,
    body: BytesMut,
}

impl Following {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Waits until that many bytes have come.
    pub fn read_at_least(&mut self, bytes: usize) {
        let read = async {
            while self.body.len() < bytes {
                let frame = self.response.body_mut().frame().await;
                let data = frame
                    .and_then(Result::ok)
                    .and_then(|frame| frame.into_data().ok());
                self.body
                    .extend_from_slice(&data.expect("more of the body"));
            }
        };
        let read = runtime().block_on(async { tokio::time::timeout(PATIENCE, read).await });
        assert!(
            read.is_ok(),
            "only {} of {bytes} bytes in {PATIENCE:?}",
            self.body.len()
        );
    }

    /// The whole answer.
    pub fn finish(self) -> Reply {
        runtime().block_on(receive(self.response, self.body))
    }
}

/// Reads the rest of a body of which `body` is there already.
async fn receive(response: Response, mut body: BytesMut) -> Reply {
    let (head, mut incoming) = response.into_parts();
    let (mut trailers, mut complete) = (HeaderMap::new(), true);
    while let Some(frame) = incoming.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => body.extend_from_slice(&data),
            Ok(Err(other)) => trailers.extend(other.into_trailers().unwrap_or_default()),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    Reply {
        status: head.status.as_u16(),
        version: head.version,
        headers: head.headers,
        body: body.freeze(),
        trailers,
        complete,
    }
}

fn split(base: &str) -> (SocketAddr, String) {
    let authority = base
        .split_once("://")
        .map_or(base, |(_, rest)| rest)
        .trim_end_matches('/');
    let address = authority
        .parse()
        .unwrap_or_else(|_| panic!("{base} is not scheme://ip:port"));
    (address, authority.to_owned())
}

fn trusting(
    ca: &Path,
    address: SocketAddr,
    protocol: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> (TlsConnector, ServerName<'static>) {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("a readable CA file") {
        roots
            .add(certificate.expect("a certificate"))
            .expect("a usable certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    (
        TlsConnector::from(Arc::new(config)),
        ServerName::from(address.ip()),
    )
}

/// An error with its causes: hyper says the interesting part in them.
fn describe(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
