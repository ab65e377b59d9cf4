//! An edge put together, started, and ended.
//!
//! Start: everything that can fail fails before the first connection is taken: files are read, the
//! store is opened, sockets are bound. Then Pingora's server runs in a thread of its own, and the
//! caller's thread runs the admin listener and waits for a signal.
//!
//! What follows is in [`supervise`]: reloads, an upgrade, the end. [`listeners`] has the sockets.

mod listeners;
mod supervise;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use modcdn_core::admin::Admin;
use modcdn_core::telemetry::{AccessLog, watch_panics};

use self::listeners::Listeners;
use self::supervise::Running;
use crate::access::Access;
use crate::config::Config;
use crate::config::mounts::{MountConfig, http_mounts};
use crate::descriptors;
use crate::engine::config::EngineConfig;
use crate::engine::metrics::EngineMetrics;
use crate::engine::{Engine, Origins};
use crate::exchange::{Answer, Answering, Asked, HttpAsked};
use crate::follow::{self, FollowMetrics, Follower};
use crate::front::certificate::{Certificates, TlsError};
use crate::front::clients::Clients;
use crate::front::drain::Drain;
use crate::front::listen::ListenError;
use crate::front::mounts::Mounts;
use crate::front::service::{Answers, Service, Settings};
use crate::front::tls::Acceptor;
use crate::metrics::Metrics;
use crate::origin::web::metrics::WebMetrics;
use crate::origin::web::{Web, WebOrigin};
use crate::origin::{Client, Origin};
use crate::purge::PurgeEndpoint;
use crate::reload::{self, Loader, Reload};
use crate::threads;
use crate::upgrade::{Handover, Takeover, UpgradeError};

/// How long the store may take to write its index through.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// Why an edge can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The origin's configuration can't be used.
    #[error("origin: {0}")]
    Origin(String),
    /// The store can't be opened.
    #[error("store {dir}: {error}")]
    Store {
        /// Its folder.
        dir: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The access log can't be opened.
    #[error("access log {target}: {error}")]
    AccessLog {
        /// The file.
        target: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A running edge can't be taken over from.
    #[error("upgrade: {0}")]
    Upgrade(#[from] UpgradeError),
    /// The system gave no threads or signal handlers.
    #[error("cannot start: {0}")]
    Threads(#[source] io::Error),
}

/// How an edge comes to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It binds them.
    Fresh,
    /// It takes them, and the store, over from the edge that is running.
    Upgrade,
}

/// Runs an edge until SIGTERM or SIGINT, or until a new process has taken over, then ends it
/// gracefully. At SIGHUP the configuration is read again with `again` and takes the place of
/// `config`, whole or not at all.
///
/// # Errors
/// Why it can't start. Nothing was served then, and a running edge that was to be taken over from
/// goes on.
pub fn run(config: &Config, start: Start, again: &Loader<'_>) -> Result<(), Error> {
    // Pingora would install ring: first come, first served. The binary may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let registry = Registry::new();
    let metrics = Metrics::new(&registry);
    watch_panics(metrics.all_panics.clone());
    let mut takeover = match start {
        Start::Fresh => None,
        Start::Upgrade => Some(Takeover::begin(
            &config.upgrade_socket(),
            config.upgrade.wait.get(),
        )?),
    };
    let listeners = Listeners::bind(config, takeover.as_mut())?;
    let certificates = reload::files(config)
        .map(|files| Certificates::open(files, &metrics))
        .transpose()?;
    let connections = descriptors::connection_limit(config.limits.connections);
    let drain = Drain::new(connections, &metrics);
    let access = open_access_log(config, metrics.clone())?;
    let fills = fill_runtime(config).map_err(Error::Threads)?;
    let origins = open_origins(config, &fills, &metrics, &registry)?;
    // From here on little can fail: the old process may let go of the store.
    if let Some(takeover) = &takeover {
        takeover.retire_old()?;
    }
    let engine = open_engine(config, origins, &fills, &registry)?;
    let follow = follow_purges(config, &engine, &fills, &registry);
    let handover = Handover {
        sockets: listeners.second_handles().map_err(Error::Threads)?,
        retire: retire(&engine),
        wait: config.upgrade.wait.get(),
    };
    let service = Arc::new(Service {
        answers: Arc::clone(&engine),
        clients: Clients::new(&metrics, Instant::now()),
        access,
        drain,
        settings: ArcSwap::from_pointee(Settings::of(config)),
        mounts: Mounts::new(&config.mounts),
    });
    let acceptor = certificates.clone().map(Acceptor::new);
    let admin_socket = listeners.start(&service, acceptor, config.timeouts.shutdown.get())?;
    let running = Running {
        reload: Reload {
            config: config.clone(),
            again,
            service,
            certificates,
            change_engine: change_engine(&engine, &fills, &metrics, follow),
        },
        admin: open_admin(registry, &engine),
        admin_socket,
        takeover,
        handover,
    };
    let ended = running.supervise().map_err(Error::Threads);
    // The index reaches the disk; a process that ends without it loses nothing either.
    let _ = fills.block_on(async { timeout(LAST_WRITES, engine.shutdown()).await });
    fills.shutdown_background();
    ended
}

fn retire(engine: &Arc<Engine>) -> Box<dyn Fn() -> io::Result<()> + Send> {
    let engine = Arc::clone(engine);
    Box::new(move || engine.retire())
}

fn open_admin(registry: Registry, engine: &Arc<Engine>) -> Arc<Admin> {
    let purge = PurgeEndpoint::new(Arc::clone(engine));
    let admin = Admin::with("edge", registry, vec![Box::new(purge)]);
    let engine = Arc::clone(engine);
    admin.set_notice(Box::new(move || {
        let why = engine.health().admission_stopped?;
        Some(format!("nothing is stored at present: {why}"))
    }));
    admin
}

/// The engine, as the front door knows it.
impl Answers for Arc<Engine> {
    fn answer(&self, asked: Asked) -> Answering {
        Engine::answer(self, asked)
    }

    fn pass(&self, asked: HttpAsked) -> impl Future<Output = Answer> + Send {
        Engine::pass(self, asked)
    }
}

fn fill_runtime(config: &Config) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(config.fill_threads)
        .max_blocking_threads(config.disk_threads)
        .thread_name("fills")
        .on_thread_start(threads::fills)
        .enable_all()
        .build()
}

fn open_origins(
    config: &Config,
    fills: &Runtime,
    metrics: &Metrics,
    registry: &Registry,
) -> Result<Origins, Error> {
    let client = Client::new(
        &config.origin,
        fills.handle().clone(),
        metrics.origin.clone(),
    )
    .map_err(Error::Origin)?;
    Ok(Origins {
        modules: Arc::new(client),
        mounts: open_mounts(config, registry)?,
    })
}

fn open_engine(
    config: &Config,
    origins: Origins,
    fills: &Runtime,
    registry: &Registry,
) -> Result<Arc<Engine>, Error> {
    let engine = engine_config(config);
    let engine_metrics = EngineMetrics::new(registry);
    Engine::open(&engine, origins, fills.handle().clone(), engine_metrics).map_err(|error| {
        Error::Store {
            dir: config.store.dir.display().to_string(),
            error,
        }
    })
}

/// Follows the origin's purge log, for as long as the fills' runtime lives. What is given back changes
/// how.
fn follow_purges(
    config: &Config,
    engine: &Arc<Engine>,
    fills: &Runtime,
    registry: &Registry,
) -> Arc<ArcSwap<follow::Settings>> {
    let settings = follow::Settings::of(&config.origin);
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let metrics = FollowMetrics::new(registry);
    let (engine, following) = (Arc::clone(engine), Arc::clone(&settings));
    let follower = Follower::new(engine, following, &config.store.dir, metrics);
    fills.spawn(follower.run());
    settings
}

/// A client for each plain HTTP mount.
fn open_mounts(config: &Config, registry: &Registry) -> Result<Vec<Arc<dyn WebOrigin>>, Error> {
    let metrics = WebMetrics::new(registry);
    let open = |mount: &MountConfig| {
        let resolvers = &config.origin.resolvers;
        let counted = metrics.of(&mount.prefix);
        let web = Web::new(mount, resolvers, &config.http, counted);
        let web = web.map_err(|error| Error::Origin(format!("{}: {error}", mount.prefix)))?;
        Ok(Arc::new(web) as Arc<dyn WebOrigin>)
    };
    http_mounts(&config.mounts).map(open).collect()
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        name: config.name.clone(),
        store: config.store.clone(),
        freshness: config.freshness.clone(),
        fill: config.fill.clone(),
        purge: config.purge.clone(),
        http: config.http.clone(),
    }
}

/// How a reload reaches the engine. A client of a new origin stands before anything is changed; its
/// connections live on `fills`, as those of the first.
fn change_engine(
    engine: &Arc<Engine>,
    fills: &Runtime,
    metrics: &Metrics,
    follow: Arc<ArcSwap<follow::Settings>>,
) -> Box<reload::ChangeEngine> {
    let (engine, fills) = (Arc::clone(engine), fills.handle().clone());
    let metrics = metrics.origin.clone();
    Box::new(move |old, new| {
        let mounts = http_mounts(&old.mounts).next().is_some();
        if mounts && old.origin.resolvers != new.origin.resolvers {
            return Err("resolvers: needs a restart while there are plain HTTP mounts".to_owned());
        }
        let origin: Option<Arc<dyn Origin>> = if old.origin == new.origin {
            None
        } else {
            let client = Client::new(&new.origin, fills.clone(), metrics.clone())?;
            Some(Arc::new(client))
        };
        let (engine, config) = (Arc::clone(&engine), engine_config(new));
        let (follow, following) = (Arc::clone(&follow), follow::Settings::of(&new.origin));
        Ok(Box::new(move || {
            engine.adopt(config, origin);
            follow.store(Arc::new(following));
        }))
    })
}

fn open_access_log(config: &Config, metrics: Metrics) -> Result<Access, Error> {
    let log = AccessLog::open(&config.access_log).map_err(|error| Error::AccessLog {
        target: config.access_log.to_string(),
        error,
    })?;
    Ok(Access::new(log, metrics, &config.name))
}
