//! Start and stop: from a configuration to bound sockets and running tasks.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use modcdn_core::admin::{self, Admin, Endpoint, Notice};
use modcdn_core::config::{Config as _, Problem};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::Answerer;
use crate::config::Config;
use crate::cookie::SecretError;
use crate::dnssec;
use crate::dnssec::file::FileError;
use crate::dynamic::{Dynamic, StoreError, TxtEndpoint};
use crate::explain::ExplainEndpoint;
use crate::fast::Fast;
use crate::metrics::Metrics;
use crate::probe::{FirstRound, Probes, TlsError};
use crate::reload::{Loader, ReloadError, changes};
use crate::reports::endpoint::{DrainEndpoint, PopsEndpoint, ReportsEndpoint};
use crate::reports::file::ReportsFile;
use crate::snapshot::Snapshot;
use crate::sockets::{BindError, Bound, bind};
use crate::steer::{GeoError, Map};
use crate::steering::known::{Account, Known};
use crate::steering::{self, Steering};
use crate::zone::Zones;
use crate::{tcp, udp, zone};

use open::{Before, open, put_in_use, zones};

mod open;
mod setup;

#[cfg(test)]
pub(crate) use setup::of as setup;

/// Why a DNS server can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(Problem),
    /// An address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin address can't be bound.
    #[error("cannot listen on {address} (admin): {error}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The geo database can't be used.
    #[error("geo database {}: {error}", path.display())]
    Geo {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: GeoError,
    },
    /// Https checks can't be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What is kept of the zones can't be used.
    #[error(transparent)]
    Dynamic(#[from] StoreError),
    /// There are no secrets for cookies.
    #[error(transparent)]
    Cookies(#[from] SecretError),
    /// A zone's key can't be used.
    #[error("dnssec: {0}")]
    Key(#[from] FileError),
    /// The access log can't be written.
    #[error("access log {target}: {error}")]
    AccessLog {
        /// Where it should go.
        target: String,
        /// What the system said.
        error: io::Error,
    },
    /// The system gives us no threads, timers or signals.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs a DNS server until SIGTERM or SIGINT. At SIGHUP the configuration is read again with `again`
/// and takes the place of `config`, whole or not at all.
///
/// # Errors
/// If it can't start.
pub fn run(config: Config, again: &Loader<'_>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("dns")
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut dns = Dns::start(config).await?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    // What went wrong is logged and counted there.
                    let _ = dns.reload(again).await;
                }
            }
        }
        dns.stop().await;
        Ok(())
    })
}

/// A running DNS server. Dropped without [`Dns::stop`], it ends at once.
pub struct Dns {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    admin: Arc<Admin>,
    answerer: Arc<Answerer>,
    steering: Arc<Steering>,
    dynamic: Arc<Dynamic>,
    /// Of whatever signs.
    signing: dnssec::Metrics,
    stop: watch::Sender<bool>,
    /// The configuration in use.
    config: Config,
    /// What answers queries: ends by itself once told to stop.
    serving: JoinSet<()>,
    /// Maps, what is kept, and the admin listener: end when dropped.
    watching: JoinSet<()>,
    /// What a reload replaces: ends when dropped.
    probes: Probes,
    reports: JoinSet<()>,
}

impl Dns {
    /// Binds all addresses and starts answering; readiness follows when every PoP was checked.
    ///
    /// # Errors
    /// If the configuration makes no sense, an address can't be bound or a file can't be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.check().map_err(first)?;
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let signing = dnssec::Metrics::new(&registry);
        let (of_keys, of_map) = (signing.clone(), steering::Metrics::new(&registry));
        let (opened, config) =
            blocking(move || Ok((open(&config, None, of_keys)?, config))).await?;
        let (setup, dir) = (opened.setup, config.state.dir.clone());
        let steering = blocking(move || Ok(Arc::new(Steering::open(setup, dir, of_map)))).await?;
        let published = steering.published().clone();
        let bound = bind_all(&config)?;
        let addresses: Vec<_> = bound.iter().map(|bound| bound.address).collect();
        let settings = opened.settings;
        let zones = zones(&config, &addresses, settings.signing.as_deref())?;
        let dynamic = Dynamic::open(config.dynamic.clone(), published.clone())?;
        let admin = Admin::with("dns", registry, endpoints(&steering, &dynamic));
        let admin_listener = bind_admin(config.admin).await?;
        let admin_address = admin_listener.local_addr()?;
        let answerer = Arc::new(Answerer {
            published: published.clone(),
            metrics,
            access_log: ArcSwap::from_pointee(opened.access_log),
            fast: Fast::default(),
        });
        let (config, dynamic) = blocking(move || {
            let map = published.load().map.clone();
            put_in_use(
                (&config, &dynamic),
                zones,
                settings,
                &map.clone(),
                |responder| {
                    published.replace(Snapshot { responder, map });
                },
            );
            Ok((config, dynamic))
        })
        .await?;
        let (stop, stopped) = watch::channel(false);
        let (probes, first_round) = Probes::start(&config, &opened.authorities, &steering);
        let mut dns = Self {
            addresses,
            admin_address,
            admin,
            answerer,
            steering,
            dynamic,
            signing,
            stop,
            config,
            serving: JoinSet::new(),
            watching: JoinSet::new(),
            probes,
            reports: JoinSet::new(),
        };
        dns.serve(bound, &stopped)?;
        dns.watch(admin_listener, first_round);
        dns.read_reports();
        tracing::info!(addresses = ?dns.addresses, zone = %dns.config.zone, "answering");
        Ok(dns)
    }

    /// Reads the configuration again and applies it, whole or not at all: what went wrong is logged
    /// and counted.
    ///
    /// # Errors
    /// Why everything stays as it was.
    pub async fn reload(&mut self, again: &Loader<'_>) -> Result<(), ReloadError> {
        let reloaded = self.try_reload(again).await;
        self.steering.metrics().reloaded(reloaded.is_ok());
        match &reloaded {
            Ok(changed) => tracing::info!(?changed, "configuration reloaded"),
            Err(why) => tracing::error!(%why, "configuration not reloaded, the old one stays"),
        }
        reloaded.map(drop)
    }

    async fn try_reload(&mut self, again: &Loader<'_>) -> Result<Vec<String>, ReloadError> {
        let config = again()?;
        let changed = changes(&self.config, &config)?;
        let (old, addresses) = (self.config.clone(), self.addresses.clone());
        let (steering, dynamic) = (self.steering.clone(), self.dynamic.clone());
        let (answerer, metrics) = (self.answerer.clone(), self.signing.clone());
        let (config, authorities) = blocking(move || {
            let published = steering.published();
            let current = published.load_full();
            let before = Before {
                config: &old,
                settings: current.responder.settings(),
            };
            let opened = open(&config, Some(&before), metrics)?;
            let settings = opened.settings;
            let zones = zones(&config, &addresses, settings.signing.as_deref())?;
            let map = steering.prepare(&opened.setup);
            // From here on nothing can fail.
            put_in_use((&config, &dynamic), zones, settings, &map, |responder| {
                let publish = |map| published.replace(Snapshot { responder, map });
                steering.adopt(opened.setup, &map, publish);
            });
            answerer.access_log.store(Arc::new(opened.access_log));
            Ok((config, opened.authorities))
        })
        .await?;
        let (probes, _) = Probes::start(&config, &authorities, &self.steering);
        self.probes = probes;
        let before = std::mem::replace(&mut self.config, config).reports;
        if !self.config.reports.reads_as(&before) {
            self.read_reports();
        }
        Ok(changed)
    }

    /// The addresses bound, each for UDP and TCP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin listener's address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Readiness and metrics.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The map in use.
    #[must_use]
    pub fn map(&self) -> Arc<Map> {
        self.steering.snapshot()
    }

    /// Stops accepting, answers what has arrived, lets TCP connections end within the grace period.
    pub async fn stop(mut self) {
        self.admin.readiness().set_unready("stopping");
        // Nobody left to be told is fine too.
        let _ = self.stop.send(true);
        let ended = async { while self.serving.join_next().await.is_some() {} };
        if timeout(*self.config.grace, ended).await.is_err() {
            tracing::warn!("some connections were cut off at the end of the grace period");
        }
        self.serving.shutdown().await;
        let steering = self.steering.clone();
        let _ = tokio::task::spawn_blocking(move || steering.keep_all()).await;
    }

    fn serve(&mut self, bound: Vec<Bound>, stopped: &watch::Receiver<bool>) -> io::Result<()> {
        let (config, answerer) = (&self.config, &self.answerer);
        let clients = Arc::<tcp::Clients>::default();
        for Bound { tcp, udp, .. } in bound {
            for (index, socket) in udp.into_iter().enumerate() {
                let setup = udp::Setup {
                    batch: config.udp.batch,
                    core: config.udp.pin.then_some(index),
                };
                let serving = udp::start(socket, setup, answerer.clone(), stopped.clone())?;
                self.serving.spawn(serving);
            }
            let serving = tcp::serve(tcp, answerer.clone(), clients.clone(), stopped.clone());
            self.serving.spawn(serving);
        }
        Ok(())
    }

    fn watch(&mut self, listener: TcpListener, first_round: FirstRound) {
        if self.config.pops.is_empty() {
            tracing::warn!("no pops are configured: the steered name has no addresses");
        }
        let admin = self.admin.clone();
        let notices = notices(&self.steering);
        let first = "checking the pops for the first time";
        admin.readiness().set_unready(match notices() {
            Some(notice) => format!("{first}\nwarning: {notice}"),
            None => first.to_owned(),
        });
        admin.set_notice(notices);
        self.watching.spawn(async move {
            first_round.over().await;
            admin.readiness().set_ready();
        });
        let steering = self.steering.clone();
        self.watching.spawn(steering.compile_for_ever());
        let steering = self.steering.clone();
        self.watching.spawn(steering.tick_for_ever());
        let steering = self.steering.clone();
        self.watching.spawn(steering.keep_for_ever());
        let published = self.steering.published().clone();
        let keeping = dnssec::keep(published, self.signing.clone());
        self.watching.spawn(keeping);
        self.watching.spawn(self.dynamic.clone().keep_expiring());
        let admin = self.admin.clone();
        self.watching
            .spawn(admin::serve(listener, admin, std::future::pending()));
    }

    /// Reads the file of reports from now on, if there is one.
    fn read_reports(&mut self) {
        self.reports = JoinSet::new();
        let reports = &self.config.reports;
        if let Some(path) = &reports.file {
            let file = ReportsFile::new(path, reports.file_size.as_u64());
            let reading = file.watch(self.steering.clone(), *reports.look);
            self.reports.spawn(reading);
        }
    }
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

/// What a configuration comes to without a server that runs.
pub struct Offline {
    /// Its zones.
    pub zones: Zones,
    /// Its map. It has no version: nobody published it.
    pub map: Map,
    /// What the map was made of besides the configuration.
    pub account: Account,
}

/// Makes what a server of this configuration would make, knowing what is `known`. Reads the files that
/// the configuration names.
///
/// # Errors
/// If the configuration makes no sense or a file can't be used.
pub fn offline(config: &Config, known: &Known) -> Result<Offline, Error> {
    config.check().map_err(first)?;
    let bound: Vec<_> = config.listen.iter().map(SocketAddr::ip).collect();
    let zones = zone::build::zones(config, &bound).map_err(Error::Config)?;
    let setup = setup::of(config)?;
    let map = known.map(&setup, Instant::now());
    Ok(Offline {
        zones: Zones::new(zones),
        account: known.account(map.states()),
        map: map.numbered(0),
    })
}

fn first(problems: Vec<Problem>) -> Error {
    let problem = problems.into_iter().next();
    Error::Config(problem.unwrap_or_else(|| Problem::new("", "unusable")))
}

fn endpoints(steering: &Arc<Steering>, dynamic: &Arc<Dynamic>) -> Vec<Box<dyn Endpoint>> {
    vec![
        Box::new(ReportsEndpoint(steering.clone())),
        Box::new(DrainEndpoint(steering.clone())),
        Box::new(PopsEndpoint(steering.clone())),
        Box::new(TxtEndpoint::new(dynamic.clone())),
        Box::new(ExplainEndpoint::new(steering.published().clone())),
    ]
}

fn notices(steering: &Arc<Steering>) -> Notice {
    let steering = steering.clone();
    Box::new(move || {
        let notices = steering.notices(Instant::now());
        let texts: Vec<_> = notices.iter().map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("\nwarning: "))
    })
}

fn bind_all(config: &Config) -> Result<Vec<Bound>, BindError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sockets = if config.udp.sockets == 0 {
        cores
    } else {
        config.udp.sockets
    };
    let buffer = usize::try_from(config.udp.receive_buffer.as_u64()).unwrap_or(usize::MAX);
    let addresses = config.listen.iter();
    addresses
        .map(|address| bind(*address, sockets, buffer))
        .collect()
}

async fn bind_admin(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Admin { address, error })
}
