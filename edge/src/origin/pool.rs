//! Connections to the origin, shared by many requests each.
//!
//! A request takes a stream on the first open connection that has a free one; only when none has,
//! a new connection is dialled, one for as many waiters as it will carry. Dialling is a task of
//! its own on the fills' runtime (the connection's driver lives where it was dialled), so a
//! request that gives up stops nothing.
//!
//! Connections that are closed or going away are dropped from the list before every look at it.
//! One is always kept, however idle: its PINGs tell whether it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::connectors::http::v2::ConnectionRef;
use pingora::protocols::http::v2::client::Http2Session;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant as Deadline, timeout_at};

use super::{OriginError, Stage};
use crate::metrics::Metrics;

/// Opens one connection.
#[async_trait]
pub(crate) trait Dial: Send + Sync + 'static {
    /// Bounded in time by the implementation.
    async fn dial(&self) -> Result<ConnectionRef, OriginError>;
}

/// Bounds of a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) idle: Duration,
    pub(crate) wait: Duration,
}

/// The connections.
pub(crate) struct Pool {
    dial: Arc<dyn Dial>,
    bounds: Bounds,
    runtime: Handle,
    metrics: Metrics,
    state: Mutex<State>,
    /// Told when a stream comes free (one waiter) or a dial ends (all).
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: Vec<Member>,
    dialling: usize,
    waiting: usize,
    /// Dials that failed so far, and how the last one did.
    failures: u64,
    last_failure: Option<OriginError>,
}

struct Member {
    connection: ConnectionRef,
    opened: Instant,
    used: Instant,
}

/// One stream of one connection; gives it back when dropped.
pub(crate) struct Lease {
    session: Option<Http2Session>,
    pool: Arc<Pool>,
}

impl Lease {
    /// The stream.
    pub(crate) fn session(&mut self) -> &mut Http2Session {
        self.session.as_mut().expect("taken only by drop")
    }

    /// Takes no further requests on this stream's connection; those under way go on.
    pub(crate) fn retire_connection(&mut self) {
        self.session().conn.mark_shutdown();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.session.take());
        self.pool.changed.notify_one();
    }
}

impl Pool {
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        bounds: Bounds,
        runtime: Handle,
        metrics: Metrics,
    ) -> Arc<Pool> {
        Arc::new(Pool {
            dial,
            bounds,
            runtime,
            metrics,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A stream, on a connection opened after `fresh` if that is given.
    ///
    /// # Errors
    /// What the dial said, or [`Stage::Connect`] / `Overloaded` after `bounds.wait`.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        fresh: Option<Instant>,
    ) -> Result<Lease, OriginError> {
        let deadline = Deadline::now() + self.bounds.wait;
        loop {
            if let Some(connection) = self.free_connection(fresh) {
                // Bounded: the peer may have lowered its stream limit since we looked.
                match timeout_at(deadline, connection.spawn_stream()).await {
                    Ok(Ok(Some(session))) => {
                        return Ok(Lease {
                            session: Some(session),
                            pool: Arc::clone(self),
                        });
                    }
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) => connection.mark_shutdown(),
                    Err(_) => return Err(self.waited_in_vain()),
                }
                continue;
            }
            self.wait_for_change(fresh, deadline).await?;
        }
    }

    fn free_connection(&self, fresh: Option<Instant>) -> Option<ConnectionRef> {
        let mut state = self.state.lock();
        self.prune(&mut state);
        let member = state.open.iter_mut().find(|member| {
            fresh.is_none_or(|since| member.opened >= since)
                && member.connection.free_stream_slots() > 0
        })?;
        member.used = Instant::now();
        Some(member.connection.clone())
    }

    /// Drops what is closed, going away, or idle beyond its time.
    fn prune(&self, state: &mut State) {
        let idle = self.bounds.idle;
        let mut kept = 0;
        state.open.retain_mut(|member| {
            if member.connection.is_closed() || member.connection.is_shutting_down() {
                return false;
            }
            if !member.connection.is_idle() {
                member.used = Instant::now();
            }
            let keep = kept == 0 || member.used.elapsed() < idle;
            kept += usize::from(keep);
            keep
        });
        let open = i64::try_from(state.open.len()).unwrap_or(i64::MAX);
        self.metrics.origin_connections_open.set(open);
    }

    /// Waits until a stream may have come free or a dial has ended; dials if need be.
    async fn wait_for_change(
        self: &Arc<Self>,
        fresh: Option<Instant>,
        deadline: Deadline,
    ) -> Result<(), OriginError> {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed, whatever happens before the await.
        changed.as_mut().enable();
        if self.free_connection(fresh).is_some() {
            return Ok(());
        }
        let waiting = Waiting::new(self);
        let failures_before = self.dial_if_needed();
        if timeout_at(deadline, changed).await.is_err() {
            return Err(self.waited_in_vain());
        }
        drop(waiting);
        let state = self.state.lock();
        match &state.last_failure {
            Some(error) if state.failures > failures_before => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// One dial for as many waiters as a connection carries, within the bound on connections.
    fn dial_if_needed(self: &Arc<Self>) -> u64 {
        let mut state = self.state.lock();
        let promised = state.dialling * self.bounds.streams;
        let room = state.open.len() + state.dialling < self.bounds.connections;
        if promised < state.waiting && room {
            state.dialling += 1;
            let pool = Arc::clone(self);
            self.runtime.spawn(async move {
                let dialled = Dialling(&pool);
                let result = pool.dial.dial().await;
                dialled.ended(result);
            });
        }
        state.failures
    }

    fn waited_in_vain(&self) -> OriginError {
        let state = self.state.lock();
        if state.dialling == 0 && state.open.len() >= self.bounds.connections {
            let why = format!(
                "all {} connections to the origin are full",
                state.open.len()
            );
            return OriginError::Overloaded { why };
        }
        OriginError::Timeout {
            stage: Stage::Connect,
            limit: self.bounds.wait,
        }
    }
}

/// Counts a waiter for as long as it waits.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.state.lock().waiting += 1;
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

/// A dial under way; one that panics counts as failed.
struct Dialling<'a>(&'a Pool);

impl Dialling<'_> {
    fn ended(self, result: Result<ConnectionRef, OriginError>) {
        let mut state = self.0.state.lock();
        match result {
            Ok(connection) => {
                self.0.metrics.origin_connections.inc();
                let now = Instant::now();
                state.open.push(Member {
                    connection,
                    opened: now,
                    used: now,
                });
            }
            Err(error) => {
                self.0.metrics.origin_connect_failures.inc();
                tracing::warn!(%error, "no connection to the origin");
                state.failures += 1;
                state.last_failure = Some(error);
            }
        }
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.dialling -= 1;
        if std::thread::panicking() {
            state.failures += 1;
            state.last_failure = Some(OriginError::Invalid {
                why: "dial panicked".to_owned(),
            });
        }
        drop(state);
        self.0.changed.notify_waiters();
    }
}
