//! What an admin listener answers: `/metrics`, `/healthz`, `/readyz`, and what a role adds to them
//! as an [`Endpoint`].
//!
//! The admin listener is never the public one. A role binds it and hands it to [`serve`].

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A request's header must be here within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a request to an [`Endpoint`]: bytes, and the time for all of them.
pub const MAX_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection lives no longer than this: scrapers come back.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);

/// Admin connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Whether a node wants traffic, and why not.
#[derive(Debug)]
pub struct Readiness(Mutex<Result<(), String>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(Err("starting".to_owned())))
    }
}

impl Readiness {
    /// From now on the node wants traffic.
    pub fn set_ready(&self) {
        *self.0.lock() = Ok(());
    }

    /// From now on it doesn't; `why` is shown on `/readyz`.
    pub fn set_unready(&self, why: impl Into<String>) {
        *self.0.lock() = Err(why.into());
    }

    /// The state now.
    ///
    /// # Errors
    /// Why the node doesn't want traffic.
    pub fn get(&self) -> Result<(), String> {
        self.0.lock().clone()
    }
}

/// Something that a role can be asked to do on its admin listener.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// The one method.
    fn method(&self) -> Method;

    /// The path, such as `/purge`.
    fn path(&self) -> &'static str;

    /// Does it. The body is all there, and no longer than [`MAX_BODY`].
    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>>;
}

/// What an operator should know although the node wants traffic; `None` if all is well.
pub type Notice = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What the admin listener of one node speaks of.
pub struct Admin {
    role: &'static str,
    registry: Registry,
    readiness: Readiness,
    endpoints: Vec<Box<dyn Endpoint>>,
    notice: OnceLock<Notice>,
}

impl Admin {
    /// The admin side of a node that isn't ready yet.
    #[must_use]
    pub fn new(role: &'static str, registry: Registry) -> Arc<Self> {
        Self::with(role, registry, Vec::new())
    }

    /// As [`Self::new`], with what the role adds.
    #[must_use]
    pub fn with(
        role: &'static str,
        registry: Registry,
        endpoints: Vec<Box<dyn Endpoint>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            role,
            registry,
            readiness: Readiness::default(),
            endpoints,
            notice: OnceLock::new(),
        })
    }

    /// From now on `/readyz` of a node that is ready also shows what `notice` says. Only the first
    /// call counts.
    pub fn set_notice(&self, notice: Notice) {
        let _ = self.notice.set(notice);
    }

    /// Whether the node wants traffic.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where the role registers its metrics.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The answer to one request, by the role's endpoint if there is one of that path.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let Some(endpoint) = self.endpoints.iter().find(|other| other.path() == path) else {
            return self.answer(request.method(), path);
        };
        let method = endpoint.method();
        if *request.method() != method {
            return only(&method);
        }
        let (head, body) = request.into_parts();
        match read(body).await {
            Ok(body) => endpoint.answer(Request::from_parts(head, body)).await,
            Err(refused) => refused,
        }
    }

    /// The answer to one request for what every role has.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.readiness.get() {
                Ok(()) => text(StatusCode::OK, self.ready()),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, self.overview()),
        }
    }

    fn overview(&self) -> String {
        let mut overview = format!(
            "modcdn {}: there are /metrics, /healthz, /readyz",
            self.role
        );
        for endpoint in &self.endpoints {
            overview += &format!(", {} {}", endpoint.method(), endpoint.path());
        }
        overview + " here\n"
    }

    fn ready(&self) -> String {
        match self.notice.get().and_then(|notice| notice()) {
            Some(notice) => format!("ready\nwarning: {notice}\n"),
            None => "ready\n".to_owned(),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let encoder = TextEncoder::new();
        let mut body = Vec::new();
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut body) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
        }
        let version = HeaderValue::from_static("text/plain; version=0.0.4");
        with_field(text(StatusCode::OK, body), CONTENT_TYPE, version)
    }
}

/// All of a request's body, or the answer that refuses it.
async fn read<B>(body: B) -> Result<Bytes, Response<Full<Bytes>>>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reading = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {MAX_BODY} bytes\n"),
        )),
        Ok(Err(error)) => Err(text(StatusCode::BAD_REQUEST, format!("body: {error}\n"))),
        Err(_) => Err(text(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {BODY_TIMEOUT:?}\n"),
        )),
    }
}

fn only(method: &Method) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {method}\n"));
    if let Ok(value) = HeaderValue::from_str(method.as_str()) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// An answer in plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// The same with one more field.
#[must_use]
pub fn with_field(
    mut response: Response<Full<Bytes>>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value);
    response
}

/// A line of JSON, 200. What can't be said as JSON (a map whose keys are no texts, say) is a mistake of
/// ours, and a 500.
pub fn json(said: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(said) {
        Ok(mut body) => {
            body.push(b'\n');
            let json = HeaderValue::from_static("application/json");
            with_field(text(StatusCode::OK, body), CONTENT_TYPE, json)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Answers on a bound listener until `stop` resolves.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = admin.clone();
                    tokio::spawn(async move {
                        let _ =
                            tokio::time::timeout(CONNECTION_LIFETIME, talk(stream, admin)).await;
                        drop(place);
                    });
                }
                Err(error) => pause_after(&error).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
}

/// Out of file descriptors and the like: waiting a moment beats spinning.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "admin listener can't accept");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn talk(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.respond(request).await) }
    });
    // A client that breaks off is no news.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn readiness_starts_closed_and_says_why() {
        let admin = Admin::new("edge", Registry::new());
        let status = || admin.answer(&Method::GET, "/readyz").status();
        assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
        admin.readiness().set_ready();
        assert_eq!(status(), StatusCode::OK);
        admin.readiness().set_unready("draining");
        assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(admin.readiness().get(), Err("draining".to_owned()));
    }

    #[test]
    fn a_notice_is_shown_and_changes_nothing_else() {
        let admin = Admin::new("edge", Registry::new());
        admin.set_notice(Box::new(|| Some("nothing is stored: disk full".to_owned())));
        admin.readiness().set_ready();
        let answer = admin.answer(&Method::GET, "/readyz");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            admin.ready(),
            "ready\nwarning: nothing is stored: disk full\n"
        );
    }

    #[test]
    fn only_reading_is_possible() {
        let admin = Admin::new("edge", Registry::new());
        let status = |method, path| admin.answer(method, path).status();
        assert_eq!(
            status(&Method::POST, "/metrics"),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(status(&Method::GET, "/"), StatusCode::NOT_FOUND);
        assert_eq!(status(&Method::GET, "/healthz"), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_line_of_json_says_that_it_is_one() {
        let response = json(&[1, 2]);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"[1,2]\n");
        let unsayable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(json(&unsayable).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    struct Echo;

    #[async_trait]
    impl Endpoint for Echo {
        fn method(&self) -> Method {
            Method::POST
        }

        fn path(&self) -> &'static str {
            "/echo"
        }

        async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
            text(StatusCode::OK, request.into_body())
        }
    }

    #[tokio::test]
    async fn an_endpoint_has_one_method_and_a_bounded_body() {
        let admin = Admin::with("edge", Registry::new(), vec![Box::new(Echo)]);
        let ask = async |method: Method, path: &str, body: Vec<u8>| {
            let request = Request::builder().method(method).uri(path);
            let response = admin
                .respond(request.body(Full::new(Bytes::from(body))).unwrap())
                .await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        let hello = ask(Method::POST, "/echo", b"hello".to_vec()).await;
        assert_eq!(hello, (200, "hello".to_owned()));
        let long = ask(Method::POST, "/echo", vec![0; MAX_BODY + 1]).await;
        assert_eq!(long.0, 413);
        let get = ask(Method::GET, "/echo", Vec::new()).await;
        assert_eq!(get, (405, "only POST\n".to_owned()));
        assert_eq!(ask(Method::POST, "/metrics", Vec::new()).await.0, 405);
        let lost = ask(Method::GET, "/", Vec::new()).await;
        assert!(lost.1.contains("POST /echo"), "{}", lost.1);
    }

    #[tokio::test]
    async fn metrics_are_served_over_a_socket() {
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("modcdn_test_total", "help");
        crate::telemetry::register(&registry, counter).inc();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin::new("edge", registry);
        tokio::spawn(serve(listener, admin, std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\nmodcdn_test_total 1\n"), "{answer}");
    }
}
