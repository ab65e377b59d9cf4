//! Start and stop: from a configuration to bound sockets and running tasks.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use crate::dynamic::{Dynamic, StoreError, TxtEndpoint, unix_now};
use crate::explain::ExplainEndpoint;
use crate::fast::Fast;
use crate::health::Rule;
use crate::metrics::Metrics;
use crate::querylog::QueryLog;
use crate::rates::Rates;
use crate::respond::{Responder, Settings};
use crate::sockets::{BindError, Bound, bind};
use crate::steer::{Asns, GeoError, Inputs, Map, Places, Point, Pop, compile};
use crate::steering::Steering;
use crate::zone::Zones;
use crate::zone::build::families;
use crate::{probe, tcp, udp, zone};

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
    /// What is kept of the zones can't be used.
    #[error(transparent)]
    Dynamic(#[from] StoreError),
    /// There are no secrets for cookies.
    #[error(transparent)]
    Cookies(#[from] SecretError),
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

/// Runs a DNS server until SIGTERM or SIGINT.
///
/// # Errors
/// If it can't start.
pub fn run(config: Config) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("dns")
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let dns = Dns::start(config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
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
    steering: Arc<Steering>,
    stop: watch::Sender<bool>,
    grace: Duration,
    /// What answers queries: ends by itself once told to stop.
    serving: JoinSet<()>,
    /// Checks and the admin listener: end when dropped.
    watching: JoinSet<()>,
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
        let steering = Arc::new(Steering::new(
            inputs(&config)?,
            config.steering.constants(),
            rule(&config),
            metrics.clone(),
        ));
        let bound = bind_all(&config)?;
        let addresses: Vec<_> = bound.iter().map(|bound| bound.address).collect();
        let dynamic = start_dynamic(&config, &addresses)?;
        let endpoints: Vec<Box<dyn Endpoint>> = vec![
            Box::new(TxtEndpoint::new(dynamic.clone())),
            Box::new(ExplainEndpoint::new(&steering, dynamic.published())),
        ];
        let admin = Admin::with("dns", registry, endpoints);
        let admin_listener = bind_admin(config.admin).await?;
        let admin_address = admin_listener.local_addr()?;
        let answerer = Arc::new(Answerer {
            node: config.name.clone(),
            responder: Responder::new(dynamic.published(), settings(&config)?),
            steering: steering.clone(),
            metrics,
            access_log: open_access_log(&config)?,
            fast: Fast::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut dns = Self {
            addresses,
            admin_address,
            admin,
            steering,
            stop,
            grace: *config.grace,
            serving: JoinSet::new(),
            watching: JoinSet::new(),
        };
        dns.serve(bound, &answerer, &config, &stopped)?;
        dns.watch(admin_listener, &config);
        dns.watching.spawn(dynamic.keep_expiring());
        tracing::info!(addresses = ?dns.addresses, zone = %config.zone, "answering");
        Ok(dns)
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
        if timeout(self.grace + STOP_MARGIN, ended).await.is_err() {
            tracing::warn!("some connections were cut off at the end of the grace period");
        }
    }

    fn serve(
        &mut self,
        bound: Vec<Bound>,
        answerer: &Arc<Answerer>,
        config: &Config,
        stopped: &watch::Receiver<bool>,
    ) -> io::Result<()> {
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

    fn watch(&mut self, listener: TcpListener, config: &Config) {
        if config.pops.is_empty() {
            tracing::warn!("no pops are configured: the steered name has no addresses");
        }
        let mut first_round = probe::start(config, &self.steering, &mut self.watching);
        let admin = self.admin.clone();
        admin
            .readiness()
            .set_unready("checking the pops for the first time");
        self.watching.spawn(async move {
            // Nothing is ever sent; the channel ends with the last first check.
            let _ = first_round.recv().await;
            admin.readiness().set_ready();
        });
        let admin = self.admin.clone();
        self.watching
            .spawn(admin::serve(listener, admin, std::future::pending()));
    }
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
    let (map, _) = compile(
        &inputs(config)?,
        None,
        &config.steering.constants(),
        Instant::now(),
    );
    Ok((Zones::new(zones), map))
}

fn first(problems: Vec<Problem>) -> Error {
    let problem = problems.into_iter().next();
    Error::Config(problem.unwrap_or_else(|| Problem::new("", "unusable")))
}

fn rule(config: &Config) -> Rule {
    Rule {
        fall: config.checks.fall,
        rise: config.checks.rise,
    }
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

fn start_dynamic(config: &Config, bound: &[SocketAddr]) -> Result<Arc<Dynamic>, Error> {
    let bound: Vec<_> = bound.iter().map(SocketAddr::ip).collect();
    let zones = zone::build::zones(config, &bound).map_err(Error::Config)?;
    Ok(Dynamic::start(config.dynamic.clone(), zones, unix_now())?)
}

fn settings(config: &Config) -> Result<Settings, Error> {
    let cookies = match (&config.cookies.enabled, &config.cookies.secret_file) {
        (false, _) => None,
        (true, Some(path)) => Some(Jar::open(path)?),
        (true, None) => Some(Jar::random()?),
    };
    let limits = config.rates.is_on().then(|| config.rates.limits());
    Ok(Settings {
        payload: config.udp.payload,
        identity: Some(config.name.clone()),
        idle: *config.tcp.idle,
        cookies,
        rates: limits.map(|limits| Rates::new(limits, Instant::now())),
    })
}

fn inputs(config: &Config) -> Result<Inputs, Error> {
    let index = |name: &String| config.pop_index(name);
    let pins = config.pins.iter();
    let systems = config.asn_pins.iter();
    let bias = |pop: &crate::config::Pop| config.steering.bias.get(&pop.name).copied();
    Ok(Inputs {
        views: config.views(),
        pops: config.pops.iter().map(pop).collect(),
        order: config.order.iter().filter_map(index).collect(),
        pins: pins
            .filter_map(|(prefix, name)| Some((*prefix, index(name)?)))
            .collect(),
        asn_pins: Arc::new(
            systems
                .filter_map(|(asn, name)| Some((*asn, index(name)?)))
                .collect(),
        ),
        geo: open(config.geo.database.as_ref(), Places::open)?,
        asns: open(config.geo.asn.as_ref(), Asns::open)?,
        bias: config
            .pops
            .iter()
            .map(|pop| bias(pop).unwrap_or(0.0))
            .collect(),
        ..Inputs::default()
    })
}

fn open<T>(
    path: Option<&PathBuf>,
    read: impl Fn(&Path) -> Result<T, GeoError>,
) -> Result<Option<Arc<T>>, Error> {
    let opened = path.map(|path| {
        read(path).map(Arc::new).map_err(|error| Error::Geo {
            path: path.clone(),
            error,
        })
    });
    opened.transpose()
}

fn pop(pop: &crate::config::Pop) -> Pop {
    let (v4, v6) = families(pop.addresses.iter().copied());
    Pop {
        name: pop.name.clone(),
        v4,
        v6,
        at: Point {
            latitude: pop.latitude,
            longitude: pop.longitude,
        },
    }
}
