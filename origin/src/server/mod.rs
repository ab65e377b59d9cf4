//! The origin as a running thing: listeners, connections, readiness, shutdown.

mod activity;
mod chores;
mod connection;
mod handler;
mod listen;
mod records;
mod sniff;
mod socket;
mod tls;
mod tracked;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::join_all;
use modcdn_core::admin::{self, Admin};
use modcdn_core::telemetry::AccessLog;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use self::connection::Server;
use self::handler::Handler;
use crate::config::Config;
use crate::fetch::{Refresher, Shared};
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::mounts::{Mounts, Unusable};
use crate::policy::announce::Announcer;
use crate::policy::sight::Sight;
use crate::purges::Purger;
use crate::purges::endpoint::{Appending, Reading};
use crate::reload::{self, Loader, ReloadError};
use crate::upstream::SetupError;

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
        let log = records::purge_log(&config).await?;
        let purger = Arc::new(Purger::new(log.clone(), metrics.clone()));
        let sight = records::sight(&config).await?;
        let (mounts, refresher) = open_mounts(&config, &purger, &sight, &metrics).await?;
        let announcer = records::announcer(&config, &purger).await?;
        chores::announce(&announcer, &mounts).await;
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
        let listeners = listen::bind_all(&config.listen).await?;
        let tls_addresses = config.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
        let tls_listeners = listen::bind_all(tls_addresses).await?;
        let admin_listener = listen::bind(config.admin).await?;
        let (stop, stopped) = watch::channel(false);
        let connections = u32::try_from(config.limits.connections).unwrap_or(u32::MAX);
        let mut origin = Self {
            listen: listen::addresses(&listeners)?,
            tls: listen::addresses(&tls_listeners)?,
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
        tokio::spawn(chores::tell_edges(changes, purger, stopped.clone()));
        tokio::spawn(chores::watch_store(trees, admin, stopped.clone()));
        origin.keepers = chores::keep_stores_small(&config.mounts, &server.handler, &stopped);
        let keeping = chores::keep(sight, announcer, origin.mounts.clone(), stopped.clone());
        tokio::spawn(keeping);
        let pause = config.sight.heads.get();
        tokio::spawn(chores::look_at_logs(origin.mounts.clone(), pause, stopped));
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
        chores::announce(&self.announcer, &self.mounts).await;
        Ok(())
    }

    /// Takes no more connections, lets requests under way finish, and what was fetched get into the
    /// store, within `timeouts.shutdown`, and ends.
    pub async fn stop(self) {
        self.admin.readiness().set_unready("stopping");
        self.stop.send_replace(true);
        let patience = self.config.timeouts.shutdown.get();
        let until = Instant::now() + patience;
        let all_ended = self.places.acquire_many(self.connections);
        if timeout_at(until, all_ended).await.is_err() {
            tracing::warn!("some requests were still under way and are cut off");
        }
        if timeout_at(until, self.mounts.all_landed()).await.is_err() {
            tracing::warn!("some bodies were not in the store yet, and will be fetched again");
        }
        chores::write_down(self.sight).await;
        let all_kept = join_all(self.keepers);
        if timeout(patience, all_kept).await.is_err() {
            tracing::warn!("what was used when could not be written down in time");
        }
    }

    fn spawn_accept(&self, listener: TcpListener, tls: Option<TlsAcceptor>, server: Arc<Server>) {
        let (places, mut stop) = (self.places.clone(), server.stop.clone());
        tokio::spawn(async move {
            let accept = listen::accept_all(listener, tls, server, places);
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
        tokio::spawn(chores::sweep(engine.clone(), config.freshness.clone()));
    }
    let mounts = Arc::new(mounts);
    Ok((mounts.clone(), Refresher::new(mounts, &shared)))
}

/// Resolves when the origin is gone, not when it is told to stop: metrics outlive requests.
async fn dropped(mut stop: watch::Receiver<bool>) {
    while stop.changed().await.is_ok() {}
}
