//! An edge put together, started, and ended.
//!
//! Start: everything that can fail fails before the first connection is taken: files are read, the
//! store is opened, sockets are bound. Then Pingora's server runs in a thread of its own, and the
//! caller's thread runs the admin listener and waits for a signal.
//!
//! In between, SIGHUP reloads the configuration, and the certificate's files are looked at
//! (`reload`).
//!
//! End, at SIGTERM or SIGINT: `/-/healthz` and `/readyz` say 503, listeners close, connections
//! finish what is in flight. When the last one is gone, or after `timeouts.shutdown`, [`run`]
//! returns; a second signal makes it return at once. Pingora's own ending (a fixed sleep) is never
//! waited for: its threads end with the process.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use modcdn_core::admin::{self, Admin};
use modcdn_core::telemetry::{AccessLog, watch_panics};

use crate::access::Access;
use crate::config::Config;
use crate::descriptors;
use crate::engine::Engine;
use crate::engine::config::EngineConfig;
use crate::engine::metrics::EngineMetrics;
use crate::exchange::{Answer, Asked};
use crate::front::Front;
use crate::front::certificate::{Certificates, TlsError};
use crate::front::clients::Clients;
use crate::front::drain::Drain;
use crate::front::listen::{Bound, ListenError, bind, bind_one};
use crate::front::service::{Answers, Service, Settings};
use crate::front::tls::Acceptor;
use crate::metrics::Metrics;
use crate::origin::Client;
use crate::purge::PurgeEndpoint;
use crate::reload::{self, Loader, Reload};

/// How long the access log's writer may take for the last lines.
const LAST_LINES: Duration = Duration::from_millis(50);

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
    /// The system gave no threads or signal handlers.
    #[error("cannot start: {0}")]
    Threads(#[source] io::Error),
}

/// Runs an edge until SIGTERM or SIGINT, then ends it gracefully. At SIGHUP the configuration is read
/// again with `again` and takes the place of `config`, whole or not at all.
///
/// # Errors
/// Why it can't start. Nothing was served then.
pub fn run(config: &Config, again: &Loader<'_>) -> Result<(), Error> {
    // Pingora would install ring: first come, first served. The binary may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let registry = Registry::new();
    let metrics = Metrics::new(&registry);
    watch_panics(metrics.all_panics.clone());
    let listeners = Listeners::bind(config)?;
    let certificates = reload::files(config)
        .map(|files| Certificates::open(files, &metrics))
        .transpose()?;
    let connections = descriptors::connection_limit(config.limits.connections);
    let drain = Drain::new(connections, &metrics);
    let fills = fill_runtime(config.fill_threads).map_err(Error::Threads)?;
    let engine = open_engine(config, &fills, &metrics, &registry)?;
    let service = Arc::new(Service {
        answers: Arc::clone(&engine),
        clients: Clients::new(&metrics, Instant::now()),
        access: open_access_log(config, metrics)?,
        drain,
        settings: ArcSwap::from_pointee(Settings::of(config)),
    });
    let acceptor = certificates.clone().map(Acceptor::new);
    let admin_socket = listeners.start(&service, acceptor, config.timeouts.shutdown.get())?;
    let purge = PurgeEndpoint::new(Arc::clone(&engine), config.purge.token_file.clone());
    let admin = Admin::with("edge", registry, vec![Box::new(purge)]);
    let asked = Arc::clone(&engine);
    admin.set_notice(Box::new(move || {
        let why = asked.health().admission_stopped?;
        Some(format!("nothing is stored at present: {why}"))
    }));
    let reload = Reload {
        config: config.clone(),
        again,
        service,
        certificates,
    };
    let ended = supervise(reload, admin_socket, &admin).map_err(Error::Threads);
    // The index reaches the disk; a process that ends without it loses nothing either.
    let _ = fills.block_on(async { timeout(LAST_WRITES, engine.shutdown()).await });
    fills.shutdown_background();
    ended
}

/// The engine, as the front door knows it.
impl Answers for Arc<Engine> {
    fn answer(&self, asked: Asked) -> impl Future<Output = Answer> + Send {
        Engine::answer(self, asked)
    }
}

/// Everything that is bound before anything is started.
struct Listeners {
    clear: Vec<Bound>,
    tls: Vec<Bound>,
    admin: TcpListener,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Listeners, Error> {
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let bind_all = |addresses: &[_]| {
            addresses
                .iter()
                .map(|address| bind(*address, threads))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Listeners {
            clear: bind_all(&config.listen)?,
            tls: bind_all(&config.tls.listen)?,
            admin: bind_one(config.admin)?,
        })
    }

    /// Starts Pingora's server with a service for each socket; hands the admin's socket back.
    fn start(
        self,
        service: &Arc<Service<Arc<Engine>>>,
        acceptor: Option<Acceptor>,
        grace: Duration,
    ) -> Result<TcpListener, Error> {
        let mut server = Server::new_with_opt_and_conf(None, server_conf(grace));
        server.bootstrap();
        let mut add = |bounds: Vec<Bound>, name: &str, acceptor: Option<Acceptor>| {
            for bound in bounds {
                tracing::info!(address = %bound.address, protocol = name, "listening");
                let front = Front::new(Arc::clone(service), acceptor.clone());
                for listening in bound.into_services(name, || front.clone()) {
                    server.add_service(listening);
                }
            }
        };
        add(self.clear, "http", None);
        add(self.tls, "https", acceptor);
        let ending = Ending(service.drain.clone());
        thread::Builder::new()
            .name("pingora".to_owned())
            .spawn(move || {
                server.run(RunArgs {
                    shutdown_signal: Box::new(ending),
                });
            })
            .map_err(Error::Threads)?;
        Ok(self.admin)
    }
}

/// Pingora is told to stop when we begin to drain: it handles no signals of its own.
struct Ending(Drain);

#[async_trait]
impl ShutdownSignalWatch for Ending {
    async fn recv(&self) -> ShutdownSignal {
        self.0.begun().await;
        ShutdownSignal::GracefulTerminate
    }
}

fn server_conf(grace: Duration) -> ServerConf {
    ServerConf {
        threads: 1,
        // One thread a service: nothing to steal from, and stealing costs.
        work_stealing: false,
        grace_period_seconds: Some(grace.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn fill_runtime(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("fills")
        .enable_all()
        .build()
}

fn open_engine(
    config: &Config,
    fills: &Runtime,
    metrics: &Metrics,
    registry: &Registry,
) -> Result<Arc<Engine>, Error> {
    let client = Client::new(
        &config.origin,
        fills.handle().clone(),
        metrics.origin.clone(),
    )
    .map_err(Error::Origin)?;
    let engine = EngineConfig {
        name: config.name.clone(),
        store: config.store.clone(),
        freshness: config.freshness.clone(),
        fill: config.fill.clone(),
        purge: config.purge.clone(),
    };
    let engine_metrics = EngineMetrics::new(registry);
    Engine::open(
        &engine,
        Arc::new(client),
        fills.handle().clone(),
        engine_metrics,
    )
    .map_err(|error| Error::Store {
        dir: config.store.dir.display().to_string(),
        error,
    })
}

fn open_access_log(config: &Config, metrics: Metrics) -> Result<Access, Error> {
    let log = AccessLog::open(&config.access_log).map_err(|error| Error::AccessLog {
        target: config.access_log.to_string(),
        error,
    })?;
    Ok(Access::new(log, metrics, &config.name))
}

/// Runs the admin listener, reloads, and waits for the end.
fn supervise<A: Answers>(
    mut reload: Reload<'_, A>,
    socket: TcpListener,
    admin: &Arc<Admin>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        let forever = std::future::pending();
        tokio::spawn(admin::serve(listener, Arc::clone(admin), forever));
        admin.readiness().set_ready();
        tracing::info!("edge is ready");
        until_told(&mut signals, &mut reload).await;
        admin.readiness().set_unready("going down");
        let grace = reload.config.timeouts.shutdown.get();
        end(&mut signals, &reload.service.drain, grace).await;
        sleep(LAST_LINES).await;
        Ok(())
    })
}

/// What an operator tells the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reloads when told and looks at the certificate now and then, until the end is wanted.
async fn until_told<A: Answers>(signals: &mut Signals, reload: &mut Reload<'_, A>) {
    loop {
        let pause = reload.config.tls.reload.get();
        tokio::select! {
            _ = signals.hangup.recv() => reload.run(SystemTime::now()),
            () = sleep(pause) => reload.look_at_certificate(SystemTime::now()),
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
        }
    }
}

/// Drains: until nothing is open, `grace` is over, or a second signal comes.
async fn end(signals: &mut Signals, drain: &Drain, grace: Duration) {
    drain.begin();
    tracing::info!("draining");
    tokio::select! {
        ended = timeout(grace, drain.finished()) => {
            if ended.is_err() {
                tracing::warn!("requests were still in flight after timeouts.shutdown");
            }
        }
        () = signals.end() => {}
    }
}
