//! One connection: TLS or not, HTTP/1.1 or HTTP/2, until it ends or its time is up.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Verdict};
use super::handler::Handler;
use super::sniff::sniff;
use super::socket::Socket;
use crate::config::{Limits, Timeouts};

/// How logs and metrics call the two.
pub(crate) const HTTP_1: &str = "HTTP/1.1";
pub(crate) const HTTP_2: &str = "HTTP/2";

/// How often an HTTP/2 client is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Receive windows. Requests have no bodies, so they only bound what a hostile client can make us hold;
/// the windows of our bodies are the client's to choose.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a stream may hold ready for its client.
const SEND_BUFFER: usize = 1 << 20;

/// The longest time between two looks at a connection's activity.
const LOOK: Duration = Duration::from_secs(5);

/// What connections are served with.
pub(crate) struct Server {
    pub(crate) handler: Arc<Handler>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    /// True once the origin is going down.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Server {
    /// Serves a connection to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) {
        // Small answers must not wait for acknowledgements.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream);
        match tls {
            Some(tls) => self.serve_tls(socket.clone(), client, &tls).await,
            None => self.serve_sniffed(socket.clone(), client).await,
        }
        socket.linger().await;
    }

    async fn serve_tls(self: Arc<Self>, socket: Socket, client: SocketAddr, tls: &TlsAcceptor) {
        match timeout(self.timeouts.handshake.get(), tls.accept(socket)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.serve_http2(stream, client).await;
            }
            Ok(Ok(stream)) => self.serve_http1(stream, client).await,
            Ok(Err(error)) => {
                tracing::debug!(%client, %error, "tls handshake failed");
                self.shed("handshake");
            }
            Err(_) => self.shed("handshake-timeout"),
        }
    }

    async fn serve_sniffed(self: Arc<Self>, socket: Socket, client: SocketAddr) {
        match timeout(self.timeouts.header.get(), sniff(socket)).await {
            Ok(Ok((true, stream))) => self.serve_http2(stream, client).await,
            Ok(Ok((false, stream))) => self.serve_http1(stream, client).await,
            // Came and went without a word: a port scan, a health check.
            Ok(Err(_)) => self.shed("silent"),
            Err(_) => self.shed("header-timeout"),
        }
    }

    async fn serve_http1<S>(self: Arc<Self>, stream: S, client: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let (handler, seen) = (self.handler.clone(), activity.clone());
        let service =
            service_fn(move |request| handler.clone().handle(client, seen.clone(), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.header.get())
            .max_headers(self.limits.max_headers)
            .max_buf_size(self.header_bytes())
            .serve_connection(TokioIo::new(stream), service);
        self.drive(connection, &activity, HTTP_1).await;
    }

    async fn serve_http2<S>(self: Arc<Self>, stream: S, client: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let (handler, seen) = (self.handler.clone(), activity.clone());
        let service =
            service_fn(move |request| handler.clone().handle(client, seen.clone(), request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(u32::try_from(self.header_bytes()).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(connection, &activity, HTTP_2).await;
    }

    /// Runs a connection until it ends, goes idle, stalls, or the origin goes down.
    async fn drive<C>(&self, connection: C, activity: &Activity, protocol: &'static str)
    where
        C: GracefulConnection,
        C::Error: std::fmt::Display,
    {
        let _open = self.opened(protocol);
        let (idle, stall) = (self.timeouts.idle.get(), self.timeouts.client_stall.get());
        let mut stop = self.stop.clone();
        let mut look = interval(
            LOOK.min(idle / 2)
                .min(stall / 2)
                .max(Duration::from_millis(1)),
        );
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = pin!(connection);
        let mut closing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, protocol, "connection broke");
                    }
                    return;
                }
                _ = stop.wait_for(|stop| *stop), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = look.tick() => match activity.verdict(idle, stall) {
                    Verdict::Keep => {}
                    Verdict::Idle if closing => return self.shed("idle"),
                    Verdict::Idle => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Stalled => return self.shed("stalled"),
                },
            }
        }
    }

    fn opened(&self, protocol: &'static str) -> Open {
        let metrics = &self.handler.metrics;
        metrics.connections.with_label_values(&[protocol]).inc();
        let gauge = metrics.open_connections.with_label_values(&[protocol]);
        gauge.inc();
        Open(gauge)
    }

    /// Counts a connection that the origin gave up.
    pub(crate) fn shed(&self, cause: &str) {
        let counter = &self.handler.metrics.shed_connections;
        counter.with_label_values(&[cause]).inc();
    }

    fn header_bytes(&self) -> usize {
        usize::try_from(self.limits.max_header_bytes.as_u64()).unwrap_or(usize::MAX)
    }
}

/// Counts an open connection until dropped.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
