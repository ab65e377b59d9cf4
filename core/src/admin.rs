//! What an admin listener answers: `/metrics`, `/healthz`, `/readyz`.
//!
//! The admin listener is never the public one. A role binds it and hands it to [`serve`].

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A request's header must be here within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

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

/// What the admin listener of one node speaks of.
#[derive(Debug)]
pub struct Admin {
    role: &'static str,
    registry: Registry,
    readiness: Readiness,
}

impl Admin {
    /// The admin side of a node that isn't ready yet.
    #[must_use]
    pub fn new(role: &'static str, registry: Registry) -> Arc<Self> {
        Arc::new(Self {
            role,
            registry,
            readiness: Readiness::default(),
        })
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

    /// The answer to one request.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.readiness.get() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" => self.metrics(),
            _ => text(
                StatusCode::NOT_FOUND,
                format!(
                    "modcdn {}: there are /metrics, /healthz and /readyz here\n",
                    self.role
                ),
            ),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let encoder = TextEncoder::new();
        let mut body = Vec::new();
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut body) {
            return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
        }
        let mut response = text(StatusCode::OK, body);
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4"),
        );
        response
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
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
        let response = admin.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
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
