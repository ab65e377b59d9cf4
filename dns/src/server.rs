//! Start and stop: from a configuration to bound sockets and running tasks.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use modcdn_core::admin::{self, Admin, Endpoint};
use modcdn_core::config::{Config as _, Problem};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::Answerer;
use crate::config::Config;
use crate::cookie::{Jar, SecretError};
use crate::dnssec::file::FileError;
use crate::dnssec::{self, Signing};
use crate::dynamic::{Dynamic, StoreError, TxtEndpoint, unix_now};
use crate::explain::ExplainEndpoint;
use crate::fast::Fast;
use crate::metrics::Metrics;
use crate::probe::{Authorities, FirstRound, Probes, TlsError};
use crate::querylog::QueryLog;
use crate::rates::Rates;
use crate::reload::{Loader, ReloadError, changes};
use crate::reports::endpoint::{DrainEndpoint, PopsEndpoint, ReportsEndpoint};
use crate::reports::file::ReportsFile;
use crate::respond::{Moment, Responder, Settings};
use crate::sockets::{BindError, Bound, bind};
use crate::steer::{GeoError, Map, compile};
use crate::steering::{self, Setup, Steering};
use crate::zone::{Zone, Zones};
use crate::{tcp, udp, zone};

mod setup;

/// On top of the grace period, for tasks to notice that it is over.
const STOP_MARGIN: Duration = Duration::from_secs(1);

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
    dynamic: Arc<Dynamic>,
    /// Of zones that have keys.
    signing: Option<Arc<Signing>>,
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

/// What a configuration names, opened.
struct Opened {
    authorities: Authorities,
    access_log: QueryLog,
    setup: Setup,
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
        let (opened, config) = blocking(move || Ok((open(&config)?, config))).await?;
        let (dir, of_map) = (config.state.dir.clone(), steering::Metrics::new(&registry));
        let setup = opened.setup;
        let steering = blocking(move || Ok(Arc::new(Steering::open(setup, dir, of_map)))).await?;
        let bound = bind_all(&config)?;
        let addresses: Vec<_> = bound.iter().map(|bound| bound.address).collect();
        let signing = dnssec::load(&config.dnssec, dnssec::Metrics::new(&registry))?;
        let signing = signing.map(Arc::new);
        let dynamic = Dynamic::start(
            config.dynamic.clone(),
            zones(&config, &addresses, signing.as_deref())?,
            unix_now(),
        )?;
        let admin = Admin::with("dns", registry, endpoints(&steering, &dynamic));
        let admin_listener = bind_admin(config.admin).await?;
        let admin_address = admin_listener.local_addr()?;
        let answerer = Arc::new(Answerer {
            node: config.name.clone(),
            responder: Responder::new(dynamic.published(), settings(&config, signing.clone())?),
            steering: steering.clone(),
            metrics,
            access_log: ArcSwap::from_pointee(opened.access_log),
            fast: Fast::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (probes, first_round) = Probes::start(&config, &opened.authorities, &steering);
        let mut dns = Self {
            addresses,
            admin_address,
            admin,
            answerer,
            dynamic,
            stop,
            serving: JoinSet::new(),
            watching: JoinSet::new(),
            probes,
            reports: JoinSet::new(),
            signing,
            config,
        };
        if let Some(signing) = &dns.signing {
            signing.prepare(
                &dns.answerer.responder.zones(),
                &dns.map(),
                Moment::now().unix,
            );
            let (zones, steering) = (dns.dynamic.published(), dns.steering().clone());
            let keeping = dnssec::keep(signing.clone(), zones, steering);
            dns.watching.spawn(keeping);
        }
        dns.serve(bound, &stopped)?;
        dns.watch(admin_listener, first_round);
        dns.read_reports();
        dns.watching.spawn(dns.dynamic.clone().keep_expiring());
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
        self.steering().metrics().reloaded(reloaded.is_ok());
        match &reloaded {
            Ok(changed) => tracing::info!(?changed, "configuration reloaded"),
            Err(why) => tracing::error!(%why, "configuration not reloaded, the old one stays"),
        }
        reloaded.map(drop)
    }

    async fn try_reload(&mut self, again: &Loader<'_>) -> Result<Vec<String>, ReloadError> {
        let config = again()?;
        let changed = changes(&self.config, &config)?;
        let zones = zones(&config, &self.addresses, self.signing.as_deref())?;
        let steering = self.steering().clone();
        let (opened, map, config) = blocking(move || {
            let opened = open(&config)?;
            let map = steering.prepare(&opened.setup);
            Ok((opened, map, config))
        })
        .await?;
        // From here on nothing can fail.
        self.steering().adopt(opened.setup, &map);
        self.dynamic.replace(zones, unix_now());
        self.answerer.access_log.store(Arc::new(opened.access_log));
        let (probes, _) = Probes::start(&config, &opened.authorities, self.steering());
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
        self.steering().snapshot()
    }

    fn steering(&self) -> &Arc<Steering> {
        &self.answerer.steering
    }

    /// Stops accepting, answers what has arrived, lets TCP connections end within the grace period.
    pub async fn stop(mut self) {
        self.admin.readiness().set_unready("stopping");
        // Nobody left to be told is fine too.
        let _ = self.stop.send(true);
        let ended = async { while self.serving.join_next().await.is_some() {} };
        if timeout(*self.config.grace + STOP_MARGIN, ended)
            .await
            .is_err()
        {
            tracing::warn!("some connections were cut off at the end of the grace period");
        }
        let steering = self.steering().clone();
        let _ = tokio::task::spawn_blocking(move || steering.keep_all()).await;
    }

    fn serve(&mut self, bound: Vec<Bound>, stopped: &watch::Receiver<bool>) -> io::Result<()> {
        let (config, answerer) = (&self.config, &self.answerer);
        let limits = tcp::Limits::new(&config.tcp, *config.grace);
        for Bound { tcp, udp, .. } in bound {
            for (index, socket) in udp.into_iter().enumerate() {
                let setup = udp::Setup {
                    batch: config.udp.batch,
                    core: config.udp.pin.then_some(index),
                };
                let serving = udp::start(socket, setup, answerer.clone(), stopped.clone())?;
                self.serving.spawn(serving);
            }
            let serving = tcp::serve(tcp, answerer.clone(), limits.clone(), stopped.clone());
            self.serving.spawn(serving);
        }
        Ok(())
    }

    fn watch(&mut self, listener: TcpListener, first_round: FirstRound) {
        if self.config.pops.is_empty() {
            tracing::warn!("no pops are configured: the steered name has no addresses");
        }
        let admin = self.admin.clone();
        admin
            .readiness()
            .set_unready("checking the pops for the first time");
        self.watching.spawn(async move {
            first_round.over().await;
            admin.readiness().set_ready();
        });
        let steering = self.steering().clone();
        self.watching.spawn(steering.compile_for_ever());
        let steering = self.steering().clone();
        self.watching.spawn(steering.tick_for_ever());
        let steering = self.steering().clone();
        self.watching
            .spawn(steering.keep_for_ever(self.config.state.clone()));
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
            let reading = file.watch(self.answerer.steering.clone(), *reports.look);
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

/// Opens the files that a configuration names. Blocks.
fn open(config: &Config) -> Result<Opened, Error> {
    Ok(Opened {
        authorities: Authorities::load(config)?,
        access_log: open_access_log(config)?,
        setup: setup::of(config)?,
    })
}

/// What a configuration comes to without a server: its zones, and the map with every PoP up and
/// nothing measured. Reads the files that it names.
///
/// # Errors
/// If the configuration makes no sense or a file can't be used.
pub fn offline(config: &Config) -> Result<(Zones, Map), Error> {
    config.check().map_err(first)?;
    let bound: Vec<_> = config.listen.iter().map(SocketAddr::ip).collect();
    let zones = zone::build::zones(config, &bound).map_err(Error::Config)?;
    let setup = setup::of(config)?;
    let (map, _) = compile(&setup.inputs, None, &setup.constants, Instant::now());
    Ok((Zones::new(zones), map))
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
        Box::new(ExplainEndpoint::new(steering, dynamic.published())),
    ]
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

fn open_access_log(config: &Config) -> Result<QueryLog, Error> {
    QueryLog::open(&config.access_log, config.access_log_sample).map_err(|error| Error::AccessLog {
        target: config.access_log.to_string(),
        error,
    })
}

fn zones(
    config: &Config,
    bound: &[SocketAddr],
    signing: Option<&Signing>,
) -> Result<Vec<Zone>, Error> {
    let bound: Vec<_> = bound.iter().map(SocketAddr::ip).collect();
    let mut zones = zone::build::zones(config, &bound).map_err(Error::Config)?;
    if let Some(signing) = signing {
        dnssec::publish(&mut zones, signing);
    }
    Ok(zones)
}

fn settings(config: &Config, signing: Option<Arc<Signing>>) -> Result<Settings, Error> {
    let cookies = match (&config.cookies.enabled, &config.cookies.secret_file) {
        (false, _) => None,
        (true, Some(path)) => Some(Jar::open(path)?),
        (true, None) => Some(Jar::random()?),
    };
    let limits = config.rates.is_on().then(|| config.rates.clone());
    Ok(Settings {
        payload: config.udp.payload,
        identity: Some(config.name.clone()),
        idle: *config.tcp.idle,
        cookies,
        rates: limits.map(|limits| Rates::new(limits, Instant::now())),
        signing,
    })
}
