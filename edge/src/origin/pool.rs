//! Connections to the origin, shared by many requests each.
//!
//! A request takes a stream on the first open connection that has a free one, to an address that
//! isn't under suspicion if there is such a one; only when none has, a new connection is dialled,
//! one for as many waiters as it will carry. Dialling is a task of its own on the fills' runtime
//! (the connection's driver lives where it was dialled), so a request that gives up stops nothing.
//!
//! Connections that are closed or going away are dropped from the list before every look at it.
//! Some are always kept, however idle: their PINGs tell whether they live. A task, the keeper, sees
//! to it that they are there before anybody asks, and that connections to addresses that left DNS
//! take no more requests.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::connectors::http::v2::ConnectionRef;
use pingora::protocols::http::v2::client::Http2Session;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant as Deadline, sleep, timeout, timeout_at};

use super::directory::Directory;
use super::gate::Gate;
use super::metrics::{OriginMetrics, show};
use super::{OriginError, Stage};
use crate::backoff::{Backoff, chance};

/// How often the keeper looks. A look costs one lock.
const KEEPER_TICK: Duration = Duration::from_millis(250);

/// Pauses between dials for warmth that fail.
const WARM_PAUSE: Backoff = Backoff {
    first: KEEPER_TICK,
    longest: Duration::from_secs(2),
};

/// Opens one connection.
#[async_trait]
pub(crate) trait Dial: Send + Sync + 'static {
    /// Bounded in time by the implementation.
    async fn dial(&self) -> Result<Dialled, OriginError>;
}

/// A connection that was opened.
pub(crate) struct Dialled {
    pub(crate) connection: ConnectionRef,
    /// Where to.
    pub(crate) address: SocketAddr,
}

/// Bounds of a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// So many are kept open, used or not.
    pub(crate) warm: usize,
    pub(crate) idle: Duration,
    pub(crate) wait: Duration,
}

/// The connections.
pub(crate) struct Pool {
    dial: Box<dyn Dial>,
    directory: Arc<Directory>,
    gate: Arc<Gate>,
    bounds: Bounds,
    runtime: Handle,
    metrics: OriginMetrics,
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
    /// Failed since one succeeded.
    failing: u32,
    /// Until then no connection is dialled for warmth.
    rests: Option<Instant>,
}

struct Member {
    connection: ConnectionRef,
    address: SocketAddr,
    opened: Instant,
    used: Instant,
}

/// One stream of one connection; gives it back when dropped.
pub(crate) struct Lease {
    session: Option<Http2Session>,
    address: SocketAddr,
    pool: Arc<Pool>,
}

impl Lease {
    fn new(session: Http2Session, address: SocketAddr, pool: &Arc<Pool>) -> Self {
        pool.metrics.streams.inc();
        Lease {
            session: Some(session),
            address,
            pool: Arc::clone(pool),
        }
    }

    /// The stream.
    pub(crate) fn session(&mut self) -> &mut Http2Session {
        self.session.as_mut().expect("taken only by drop")
    }

    /// Takes no further requests on this stream's connection; those under way go on.
    pub(crate) fn retire_connection(&mut self) {
        self.session().conn.mark_shutdown();
    }

    /// Something went wrong at the address: others are used for a while, if there are any.
    pub(crate) fn strike(&self) {
        let now = Instant::now();
        let mut addresses = self.pool.directory.addresses();
        addresses.strike(self.address, now, chance());
        tracing::debug!(address = %self.address, "the origin's address is suspect");
    }

    /// All is well at the address.
    pub(crate) fn clear(&self) {
        self.pool.directory.addresses().clear(self.address);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.session.take());
        self.pool.metrics.streams.dec();
        self.pool.changed.notify_one();
    }
}

impl Pool {
    /// A pool, and its keeper, which ends when the pool is dropped.
    pub(crate) fn new(
        dial: Box<dyn Dial>,
        directory: Arc<Directory>,
        gate: Arc<Gate>,
        bounds: Bounds,
        runtime: Handle,
        metrics: OriginMetrics,
    ) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            dial,
            directory,
            gate,
            bounds,
            runtime,
            metrics,
            state: Mutex::default(),
            changed: Notify::new(),
        });
        pool.runtime.spawn(keep(Arc::downgrade(&pool)));
        pool
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
            if let Some((connection, address)) = self.choose(fresh) {
                // Bounded: the peer may have lowered its stream limit since we looked.
                match timeout_at(deadline, connection.spawn_stream()).await {
                    Ok(Ok(Some(session))) => return Ok(Lease::new(session, address, self)),
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) => connection.mark_shutdown(),
                    Err(_) => return Err(self.waited_in_vain()),
                }
                continue;
            }
            self.wait_for_change(fresh, deadline).await?;
        }
    }

    /// A connection with a free stream. None also if there are only such to suspect addresses,
    /// while a sound one is known and there is room for a connection to it.
    fn choose(&self, fresh: Option<Instant>) -> Option<(ConnectionRef, SocketAddr)> {
        let mut state = self.state.lock();
        self.prune(&mut state);
        let room = state.open.len() < self.bounds.connections;
        let (now, addresses) = (Instant::now(), self.directory.addresses());
        let free = state.open.iter_mut().filter(|member| {
            fresh.is_none_or(|since| member.opened >= since)
                && member.connection.free_stream_slots() > 0
        });
        let member = free.min_by_key(|member| addresses.is_suspect(member.address, now))?;
        if addresses.is_suspect(member.address, now) && room && addresses.has_sound(now) {
            return None;
        }
        member.used = now;
        Some((member.connection.clone(), member.address))
    }

    /// Drops what is closed, going away, or idle beyond its time.
    fn prune(&self, state: &mut State) {
        let Bounds { idle, warm, .. } = self.bounds;
        let (mut kept, mut unused) = (0, 0);
        state.open.retain_mut(|member| {
            let connection = &member.connection;
            if connection.is_closed() || connection.is_shutting_down() {
                if connection.ping_timedout() {
                    self.metrics.pings_lost.inc();
                }
                return false;
            }
            if !connection.is_idle() {
                member.used = Instant::now();
            }
            let keep = kept < warm.max(1) || member.used.elapsed() < idle;
            kept += usize::from(keep);
            unused += usize::from(keep && connection.is_idle());
            keep
        });
        show(&self.metrics.connections_open, state.open.len());
        show(&self.metrics.connections_idle, unused);
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
        if self.choose(fresh).is_some() {
            return Ok(());
        }
        let waiting = Waiting::new(self);
        let failures_before = self.dial_if_needed();
        if timeout_at(deadline, changed).await.is_err() {
            return Err(self.waited_in_vain());
        }
        drop(waiting);
        // A dial that failed made its addresses suspect: what is open is good enough now.
        if self.choose(fresh).is_some() {
            return Ok(());
        }
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
            self.begin_dial(&mut state);
        }
        state.failures
    }

    fn begin_dial(self: &Arc<Self>, state: &mut State) {
        state.dialling += 1;
        let pool = Arc::clone(self);
        self.runtime.spawn(async move {
            let dialled = Dialling(&pool);
            let started = Instant::now();
            let result = pool.dial.dial().await;
            dialled.ended(result, started.elapsed());
        });
    }

    /// Dials what is missing of the connections that are kept warm, unless that has just failed.
    fn warm(self: &Arc<Self>) {
        let mut state = self.state.lock();
        self.prune(&mut state);
        let wanted = self.bounds.warm.min(self.bounds.connections);
        let rests = state.rests.is_some_and(|until| Instant::now() < until);
        if state.open.len() + state.dialling < wanted && !rests {
            self.begin_dial(&mut state);
        }
    }

    /// Connections to addresses that left DNS take no more requests.
    fn retire_departed(&self) {
        let state = self.state.lock();
        let addresses = self.directory.addresses();
        let departed = |member: &&Member| !addresses.holds(member.address);
        for member in state.open.iter().filter(departed) {
            tracing::info!(address = %member.address, "the origin left this address");
            member.connection.mark_shutdown();
        }
        show(
            &self.metrics.addresses_suspect,
            addresses.suspects(Instant::now()),
        );
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

/// The keeper.
async fn keep(pool: Weak<Pool>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        pool.warm();
        // An error is told to whoever needs an address and has none.
        if let Ok(Ok(())) = timeout(pool.bounds.wait, pool.directory.refresh()).await {
            pool.retire_departed();
        }
        drop(pool);
        sleep(KEEPER_TICK).await;
    }
}

/// Counts a waiter for as long as it waits.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.state.lock().waiting += 1;
        pool.metrics.waiting.inc();
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
        self.0.metrics.waiting.dec();
    }
}

/// A dial under way; one that panics counts as failed.
struct Dialling<'a>(&'a Pool);

impl Dialling<'_> {
    fn ended(self, result: Result<Dialled, OriginError>, took: Duration) {
        let (metrics, mut state) = (&self.0.metrics, self.0.state.lock());
        let now = Instant::now();
        match result {
            Ok(Dialled {
                connection,
                address,
            }) => {
                metrics.connections.inc();
                metrics.connect_seconds.observe(took.as_secs_f64());
                (state.failing, state.rests) = (0, None);
                state.open.push(Member {
                    connection,
                    address,
                    opened: now,
                    used: now,
                });
                drop(state);
                self.0.gate.reachable();
            }
            Err(error) => {
                metrics.connect_failures.inc();
                state.failures += 1;
                state.failing = state.failing.saturating_add(1);
                state.rests = Some(now + WARM_PAUSE.pause(state.failing, chance()));
                tracing::warn!(%error, in_a_row = state.failing, "no connection to the origin");
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
