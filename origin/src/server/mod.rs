//! The origin as a running thing: listeners, connections, readiness, shutdown.

mod activity;
mod connection;
mod handler;
mod sniff;
mod socket;
mod tls;
mod tracked;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use modcdn_core::admin::{self, Admin};
use modcdn_core::telemetry::AccessLog;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::connection::Server;
use self::handler::Handler;
use crate::changes::Changes;
use crate::config::{Config, Freshness, Mount};
use crate::disk;
use crate::fetch::{Engine, Refresher, Shared};
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::mounts::{Mounts, Unusable};
use crate::policy::announce::{self, Announcer};
use crate::policy::sight::{self, Sight};
use crate::purges::endpoint::{Appending, Reading};
use crate::purges::{self, PurgeLog, Purger};
use crate::reload::{self, Loader, ReloadError};
use crate::retention;
use crate::store::tree::Tree;
use crate::store::work::is_read_only;
use crate::upstream::SetupError;

/// How often the store is tried for being writable.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How often what was seen is written down, and edges are told of rules that ended.
const KEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long a listener rests after the system refused it a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why an origin doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be listened on.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The store's folder can't be used.
    #[error("can't use the store in {dir}: {error}", dir = dir.display())]
    Store {
        /// Which folder.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The access log can't be written.
    #[error("can't open the access log {target}: {error}")]
    AccessLog {
        /// Which one.
        target: String,
        /// What the system said.
        error: io::Error,
    },
    /// A file that the configuration names can't be used.
    #[error("{path}: {fault}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The client for upstreams can't be set up.
    #[error("can't set up the client for upstreams: {0}")]
    Client(reqwest::Error),
    /// The system lacks something that every program needs.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

impl From<SetupError> for Error {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Client(error) => Self::Client(error),
            SetupError::File { path, fault } => Self::File { path, fault },
        }
    }
}

/// A running origin. Dropped without [`Origin::stop`], it ends at once.
pub struct Origin {
    listen: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    admin_address: SocketAddr,
    admin: Arc<Admin>,
    stop: watch::Sender<bool>,
    mounts: Arc<Mounts>,
    announcer: Arc<Announcer>,
    sight: Arc<Sight>,
    metrics: Metrics,
    config: Config,
    /// Taken while a connection lives; all back means all ended.
    places: Arc<Semaphore>,
    connections: u32,
    /// Those who write down what they know when the origin goes down.
    keepers: Vec<JoinHandle<()>>,
    shutdown: Duration,
}

/// Runs an origin until SIGTERM or SIGINT, then lets what is under way finish. At SIGHUP the
/// configuration is read again with `again`, and the mounts' policies take the place of those of
/// `config`, whole or not at all.
///
/// # Errors
/// If it can't start. Nothing that happens later ends it.
pub fn run(config: Config, again: &Loader<'_>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("origin")
        .build()?;
    let shutdown = config.timeouts.shutdown.get();
    let result = runtime.block_on(async {
        let (mut terminate, mut interrupt, mut hangup) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        );
        let mut origin = Origin::start(config).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    // What went wrong is logged and counted there.
                    let _ = origin.reload(again).await;
                }
            }
        }
        tracing::info!("stopping");
        origin.stop().await;
        Ok(())
    });
    // A blocked disk must not hold the process.
    runtime.shutdown_timeout(shutdown);
    result
}

impl Origin {
    /// Starts an origin on the current runtime; it serves when this returns.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let log = open_purge_log(&config).await?;
        let purger = Arc::new(Purger::new(log.clone(), metrics.clone()));
        let sight = open_sight(&config).await?;
        let (mounts, refresher) = open_mounts(&config, &purger, &sight, &metrics).await?;
        let announcer = open_announcer(&config, &purger).await?;
        announce(&announcer, &mounts).await;
        let appending = Appending {
            purger: purger.clone(),
            tokens: config.purges.token_file.clone(),
        };
        let purges = Reading {
            log,
            edges: config.purges.edges.clone(),
        };
        let admin = Admin::with("origin", registry, vec![Box::new(appending)]);
        let changes = mounts.changes().clone();
        let trees: Vec<_> = mounts.engines().iter().map(|e| e.tree.clone()).collect();
        let log = AccessLog::open(&config.access_log).map_err(|error| Error::AccessLog {
            target: config.access_log.to_string(),
            error,
        })?;
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listeners = bind_all(&config.listen).await?;
        let tls_addresses = config.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
        let tls_listeners = bind_all(tls_addresses).await?;
        let admin_listener = bind(config.admin).await?;
        let (stop, stopped) = watch::channel(false);
        let connections = u32::try_from(config.limits.connections).unwrap_or(u32::MAX);
        let mut origin = Self {
            listen: addresses(&listeners)?,
            tls: addresses(&tls_listeners)?,
            admin_address: admin_listener.local_addr()?,
            admin: admin.clone(),
            mounts: mounts.clone(),
            announcer: announcer.clone(),
            sight: sight.clone(),
            metrics: metrics.clone(),
            config: config.clone(),
            stop,
            places: Arc::new(Semaphore::new(connections as usize)),
            connections,
            keepers: Vec::new(),
            shutdown: config.timeouts.shutdown.get(),
        };
        let handler = Arc::new(Handler {
            hooks: Hooks::new(&config.hooks, mounts.clone(), metrics.clone()),
            mounts,
            purges,
            freshness: config.freshness.clone(),
            metrics,
            log,
            name: config.name.clone(),
            max_headers: config.limits.max_headers,
        });
        let server = Arc::new(Server {
            handler,
            timeouts: config.timeouts,
            limits: config.limits,
            stop: stopped.clone(),
        });
        for listener in listeners {
            origin.spawn_accept(listener, None, server.clone());
        }
        for listener in tls_listeners {
            origin.spawn_accept(listener, acceptor.clone(), server.clone());
        }
        let until_dropped = dropped(stopped.clone());
        tokio::spawn(admin::serve(admin_listener, admin.clone(), until_dropped));
        admin.readiness().set_ready();
        tokio::spawn(refresher.run(stopped.clone()));
        tokio::spawn(tell_edges(changes, purger, stopped.clone()));
        tokio::spawn(watch_store(trees, admin, stopped.clone()));
        origin.keepers = keep_stores_small(&config.mounts, &server.handler, &stopped);
        let keeping = keep(sight, announcer, origin.mounts.clone(), stopped.clone());
        tokio::spawn(keeping);
        let pause = config.sight.heads.get();
        tokio::spawn(look_at_logs(origin.mounts.clone(), pause, stopped));
        tracing::info!(
            listen = ?origin.listen, tls = ?origin.tls, admin = %origin.admin_address,
            store = %config.store.dir.display(), "origin is up"
        );
        for mount in &config.mounts {
            tracing::info!(prefix = %mount.prefix, upstream = %mount.upstream, "mounted");
        }
        Ok(origin)
    }

    /// The clear-text addresses, ports filled in.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The TLS addresses, ports filled in.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// The admin listener's address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Metrics and readiness.
    #[must_use]
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// Reads the configuration again and takes up the mounts' policies, if it can be.
    ///
    /// # Errors
    /// It can't: everything is as it was.
    pub async fn reload(&mut self, again: &Loader<'_>) -> Result<(), ReloadError> {
        let config = again().map_err(ReloadError::from);
        let config = config.and_then(|new| reload::check(&self.config, &new).map(|()| new));
        let outcome = if config.is_ok() { "ok" } else { "refused" };
        self.metrics.reloads.with_label_values(&[outcome]).inc();
        let config = config.inspect_err(
            |why| tracing::error!(%why, "configuration not reloaded, the old one stays"),
        )?;
        for (engine, mount) in self.mounts.engines().iter().zip(&config.mounts) {
            engine.governor.adopt(mount.policy.clone());
        }
        self.config = config;
        tracing::info!("policies reloaded");
        announce(&self.announcer, &self.mounts).await;
        Ok(())
    }

    /// Takes no more connections, lets requests under way finish within `timeouts.shutdown`, and
    /// ends.
    pub async fn stop(self) {
        self.admin.readiness().set_unready("stopping");
        self.stop.send_replace(true);
        let all_ended = self.places.acquire_many(self.connections);
        if timeout(self.shutdown, all_ended).await.is_err() {
            tracing::warn!("some requests were still under way and are cut off");
        }
        write_down(self.sight).await;
        let all_kept = join_all(self.keepers);
        if timeout(self.shutdown, all_kept).await.is_err() {
            tracing::warn!("what was used when could not be written down in time");
        }
    }

    fn spawn_accept(&self, listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>) {
        let (places, mut stop) = (self.places.clone(), server.stop.clone());
        tokio::spawn(async move {
            let accept = accept_all(listener, tls, server, places);
            tokio::select! {
                () = accept => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

async fn open_mounts(
    config: &Config,
    purger: &Arc<Purger>,
    sight: &Arc<Sight>,
    metrics: &Metrics,
) -> Result<(Arc<Mounts>, Refresher), Error> {
    let (read, counted) = (config.clone(), metrics.clone());
    let (purger, sight) = (purger.clone(), sight.clone());
    let setup = move || Shared::new(&read, purger, sight, counted);
    let shared = tokio::task::spawn_blocking(setup).await;
    let shared = shared.map_err(io::Error::other)??;
    let mounts = Mounts::open(config, &shared).await;
    let mounts = mounts.map_err(|Unusable { dir, error }| Error::Store { dir, error })?;
    for engine in mounts.engines() {
        tokio::spawn(sweep(engine.clone(), config.freshness.clone()));
    }
    let mounts = Arc::new(mounts);
    Ok((mounts.clone(), Refresher::new(mounts, &shared)))
}

/// Writes what is said to have changed to the purge log.
async fn tell_edges(changes: Arc<Changes>, purger: Arc<Purger>, mut stop: watch::Receiver<bool>) {
    loop {
        let changed = tokio::select! {
            changed = changes.next() => changed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        for purge in changed {
            let purger = purger.clone();
            // A log that can't be written is noted there; edges ask again when they must.
            let _ = disk::blocking(move || purger.purge(purge, SystemTime::now())).await;
        }
    }
}

async fn open_sight(config: &Config) -> Result<Arc<Sight>, Error> {
    let most = config.sight.versions;
    open_record(config, sight::FILE, move |path| Sight::open(path, most)).await
}

/// Begins the retention of those mounts that have one.
fn keep_stores_small(
    mounts: &[Mount],
    handler: &Handler,
    stop: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut keepers = Vec::new();
    for (mount, engine) in mounts.iter().zip(handler.mounts.engines()) {
        let (Some(retention), Some(uses)) = (&mount.retention, engine.uses()) else {
            continue;
        };
        keepers.push(tokio::spawn(retention::keep_up(
            mount.clone(),
            retention.clone(),
            engine.tree.shelf().clone(),
            uses.clone(),
            handler.metrics.clone(),
            stop.clone(),
        )));
    }
    keepers
}

async fn open_purge_log(config: &Config) -> Result<Arc<PurgeLog>, Error> {
    let purges = config.purges.clone();
    // Where it is a new one after each start, edges confirm everything then.
    open_record(config, purges::FILE, move |path| {
        PurgeLog::open(path, &purges)
    })
    .await
}

/// Opens a record that the origin keeps for itself. Where its store may only be read, the record lasts
/// until the origin's end.
async fn open_record<T: Send + 'static>(
    config: &Config,
    name: &'static str,
    open: impl Fn(&Path) -> io::Result<T> + Send + 'static,
) -> Result<Arc<T>, Error> {
    let dir = config.store.dir.clone();
    let path = dir.join(name);
    let opening = disk::blocking(move || {
        open(&path).or_else(|error| {
            if !is_read_only(&error) {
                return Err(error);
            }
            tracing::warn!(record = name, %error, "not remembered across a restart");
            let folder = format!("modcdn-origin-{}", std::process::id());
            open(&env::temp_dir().join(folder).join(name))
        })
    });
    let opened = opening.await.map_err(|error| Error::Store { dir, error })?;
    Ok(Arc::new(opened))
}

/// Removes, once, answers that are too old for any use.
async fn sweep(engine: Arc<Engine>, freshness: Freshness) {
    let longest = freshness.mutable.get().max(freshness.lookup.get());
    let after = freshness
        .stale_if_error
        .get()
        .max(freshness.stale_while_revalidate.get());
    let sweeper = engine.clone();
    let swept = disk::blocking(move || sweeper.mutables.sweep(longest + after)).await;
    if let Err(error) = swept {
        engine.tree.note("sweep", &error);
    }
}

async fn open_announcer(config: &Config, purger: &Arc<Purger>) -> Result<Arc<Announcer>, Error> {
    let purger = purger.clone();
    let open = move |path: &Path| Announcer::open(path, purger.clone());
    open_record(config, announce::FILE, open).await
}

/// Tells edges of policies that changed. What can't be told now is told later.
async fn announce(announcer: &Arc<Announcer>, mounts: &Mounts) {
    let policies: Vec<_> = mounts
        .engines()
        .iter()
        .map(|engine| (engine.governor.prefix().clone(), engine.governor.policy()))
        .collect();
    let announcer = announcer.clone();
    let announcing = move || announcer.announce(&policies, SystemTime::now());
    if let Err(error) = disk::blocking(announcing).await {
        tracing::error!(%error, "edges can't be told of a policy yet");
    }
}

/// Writes down what was seen, and tells edges of rules that ended, until the end.
async fn keep(
    sight: Arc<Sight>,
    announcer: Arc<Announcer>,
    mounts: Arc<Mounts>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tick = interval(KEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        write_down(sight.clone()).await;
        announce(&announcer, &mounts).await;
    }
}

/// Sees how long the logs of checksum databases are, now and then.
async fn look_at_logs(mounts: Arc<Mounts>, pause: Duration, mut stop: watch::Receiver<bool>) {
    let mut tick = interval(pause);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        for engine in mounts.engines() {
            engine.governor.look_at_log().await;
        }
    }
}

async fn write_down(sight: Arc<Sight>) {
    if let Err(error) = disk::blocking(move || sight.flush()).await {
        tracing::warn!(%error, "what was seen when can't be written down yet");
    }
}

/// Keeps readiness true to whether the store can be written.
async fn watch_store(trees: Vec<Arc<Tree>>, admin: Arc<Admin>, mut stop: watch::Receiver<bool>) {
    let mut tick = interval(PROBE_INTERVAL);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match probe_all(&trees).await {
            Ok(()) if !*stop.borrow() => admin.readiness().set_ready(),
            Ok(()) => {}
            Err(error) => {
                let why = format!("the store can't be written: {error}");
                admin.readiness().set_unready(why);
            }
        }
    }
}

async fn probe_all(trees: &[Arc<Tree>]) -> io::Result<()> {
    for tree in trees {
        let probe = tree.probe().await;
        probe.inspect_err(|error| tree.note("probe", error))?;
    }
    Ok(())
}

/// Resolves when the origin is gone, not when it is told to stop: metrics outlive requests.
async fn dropped(mut stop: watch::Receiver<bool>) {
    while stop.changed().await.is_ok() {}
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        listeners.push(bind(address).await?);
    }
    Ok(listeners)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Listen { address, error })
}

fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Accepts for ever; connections beyond the limit are closed at once.
async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    places: Arc<Semaphore>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    server.shed("limit");
                    continue;
                };
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    server.serve(stream, client, tls).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
