//! SIGHUP: the configuration is read again and applied, whole or not at all.
//!
//! Everything that can fail is done first: the file is read and checked, what may not change is
//! compared, certificate and access log are opened, a new origin's client is made. Only then
//! anything is changed. Failure rule: an error is logged (with file, line and column where the file
//! is at fault) and counted, and the edge goes on as if there had been no signal.
//!
//! Connections keep the settings with which they began, fills theirs and the origin that they asked.
//! The access log's file is opened anew each time, so that it can be rotated.

use std::sync::Arc;
use std::time::SystemTime;

use modcdn_core::config::{ConfigError, changed, is_within};
use modcdn_core::telemetry::AccessLog;

use crate::config::Config;
use crate::descriptors;
use crate::front::certificate::{Certificates, Files, Loaded, TlsError};
use crate::front::service::{Answers, Service, Settings};

/// Reads the configuration again.
pub type Loader<'a> = dyn Fn() -> Result<Config, ConfigError> + 'a;

/// Makes ready what changes in the engine between two configurations, and gives what does it.
/// Whatever can fail is in the first part; the text says what did.
pub(crate) type ChangeEngine = dyn Fn(&Config, &Config) -> Result<Change, String>;

/// A change that can't fail.
type Change = Box<dyn FnOnce()>;

/// Keys, and sections with all their keys, that may change while an edge runs. What isn't named
/// here needs a restart: a key that nobody thought of is refused, not ignored.
const LIVE: &[&str] = &[
    "access_log",
    "fill",
    "freshness",
    "hosts",
    "limits",
    "origin",
    "proxy_protocol",
    "purge",
    "timeouts",
    "tls.certificate",
    "tls.key",
    "tls.reload",
];

/// Why a reload was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}: needs a restart", keys.join(", "))]
    Restart { keys: Vec<String> },
    #[error("origin: {0}")]
    Origin(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("access log {target}: {error}")]
    AccessLog {
        target: String,
        error: std::io::Error,
    },
}

/// What a running edge needs to be changed.
pub(crate) struct Reload<'a, A> {
    pub(crate) config: Config,
    pub(crate) again: &'a Loader<'a>,
    pub(crate) service: Arc<Service<A>>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) change_engine: Box<ChangeEngine>,
}

/// A reload that can't fail any more.
struct Prepared {
    config: Config,
    changed: Vec<String>,
    certificate: Option<Loaded>,
    log: AccessLog,
    engine: Change,
}

impl<A: Answers> Reload<'_, A> {
    /// Reads the configuration again and applies it, if it can be.
    pub(crate) fn run(&mut self, now: SystemTime) {
        let prepared = self.prepare(now);
        self.service.access.metrics.reload(prepared.is_ok());
        match prepared {
            Ok(prepared) => self.apply(prepared, now),
            Err(why) => tracing::error!(%why, "configuration not reloaded, the old one stays"),
        }
    }

    /// Takes up a changed certificate.
    pub(crate) fn look_at_certificate(&self, now: SystemTime) {
        if let Some(certificates) = &self.certificates {
            certificates.look(now);
        }
    }

    fn prepare(&self, now: SystemTime) -> Result<Prepared, Refused> {
        let config = (self.again)()?;
        let changed = changed(&self.config, &config, &[]);
        let fixed: Vec<String> = changed
            .iter()
            .filter(|key| !is_within(key, LIVE))
            .cloned()
            .collect();
        if !fixed.is_empty() {
            return Err(Refused::Restart { keys: fixed });
        }
        let certificate = match (&self.certificates, files(&config)) {
            (Some(certificates), Some(files)) => certificates.prepare(&files, now)?,
            _ => None,
        };
        let log = AccessLog::open(&config.access_log).map_err(|error| Refused::AccessLog {
            target: config.access_log.to_string(),
            error,
        })?;
        // Last: a new origin is connected to.
        let engine = (self.change_engine)(&self.config, &config).map_err(Refused::Origin)?;
        Ok(Prepared {
            config,
            changed,
            certificate,
            log,
            engine,
        })
    }

    fn apply(&mut self, prepared: Prepared, now: SystemTime) {
        let service = &self.service;
        service.access.redirect(prepared.log);
        (prepared.engine)();
        let most = descriptors::connection_limit(prepared.config.limits.connections);
        service.drain.set_most(most);
        service
            .settings
            .store(Arc::new(Settings::of(&prepared.config)));
        if let (Some(certificates), Some(loaded)) = (&self.certificates, prepared.certificate) {
            certificates.adopt(loaded, now);
        }
        self.config = prepared.config;
        tracing::info!(changed = ?prepared.changed, "configuration reloaded");
    }
}

/// The files of the certificate, where there is a TLS listener.
pub(crate) fn files(config: &Config) -> Option<Files> {
    let tls = &config.tls;
    (!tls.listen.is_empty()).then_some(())?;
    Some(Files {
        certificate: tls.certificate.clone()?,
        key: tls.key.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use modcdn_core::config::parse;
    use prometheus::Registry;

    use super::*;
    use crate::access::Access;
    use crate::exchange::{Answer, Answering, Asked, HttpAsked};
    use crate::front::clients::Clients;
    use crate::front::drain::Drain;
    use crate::front::mounts::Mounts;
    use crate::metrics::Metrics;

    struct Nobody;

    /// An engine that notes the origin's resolvers, and takes no more than one.
    fn change_engine(noted: &Rc<Cell<usize>>) -> Box<ChangeEngine> {
        let noted = Rc::clone(noted);
        Box::new(move |_, new| {
            let (noted, resolvers) = (Rc::clone(&noted), new.origin.resolvers.len());
            match resolvers {
                0 | 1 => Ok(Box::new(move || noted.set(resolvers))),
                _ => Err("too many".to_owned()),
            }
        })
    }

    impl Answers for Nobody {
        fn answer(&self, _asked: Asked) -> Answering {
            Answering::Later(Box::pin(std::future::pending()))
        }

        async fn pass(&self, asked: HttpAsked) -> Answer {
            panic!("nobody is asked for {}", asked.target)
        }
    }

    fn service(config: &Config) -> Arc<Service<Nobody>> {
        let metrics = Metrics::new(&Registry::new());
        Arc::new(Service {
            answers: Nobody,
            clients: Clients::new(&metrics, std::time::Instant::now()),
            drain: Drain::new(config.limits.connections, &metrics),
            access: Access::new(AccessLog::off(), metrics, "edge"),
            settings: arc_swap::ArcSwap::from_pointee(Settings::of(config)),
            mounts: Mounts::default(),
        })
    }

    #[test]
    fn a_reload_is_whole_or_not_at_all() {
        let text = RefCell::new("access_log: off");
        let again = || parse::<Config>("edge.yaml", *text.borrow());
        let config = again().unwrap();
        let noted = Rc::new(Cell::new(9));
        let mut reload = Reload {
            service: service(&config),
            config,
            again: &again,
            certificates: None,
            change_engine: change_engine(&noted),
        };
        let reloaded = |new: &'static str, reload: &mut Reload<'_, Nobody>| {
            *text.borrow_mut() = new;
            reload.run(SystemTime::now());
            let settings = reload.service.settings.load();
            let header = *settings.timeouts.header;
            (settings.hosts.clone(), header, noted.get())
        };
        let header = *crate::config::DEFAULT_HEADER;
        let good = "access_log: off\nhosts: [Go.test]\ntimeouts: {header: 3s}\n\
                    origin: {resolvers: ['127.0.0.1:53']}\n";
        let three = std::time::Duration::from_secs(3);
        let applied = (vec!["go.test".to_owned()], three, 1);
        assert_eq!(reloaded(good, &mut reload), applied);
        for bad in [
            "hosts: [other.test]\nthreads: 7\n",
            "hosts: [other.test]\naccess_log: /no/such/folder/access.log\n",
            "hosts: [other.test]\ntimeouts: {header: 0s}\n",
            "hosts: [other.test\n",
            "access_log: off\nhosts: [other.test]\n\
             origin: {resolvers: ['127.0.0.1:53', '127.0.0.2:53']}\n",
        ] {
            assert_eq!(reloaded(bad, &mut reload), applied, "{bad}");
        }
        let defaults = (vec![], header, 0);
        assert_eq!(reloaded("access_log: off", &mut reload), defaults);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let new = "access_log: off\nthreads: 3\nstore: {dir: /elsewhere}\nhosts: [a.test]\n\
                   tls: {reload: 5s}\n";
        let again = || parse::<Config>("edge.yaml", new);
        let config = parse::<Config>("edge.yaml", "access_log: off").unwrap();
        let reload = Reload {
            service: service(&config),
            config,
            again: &again,
            certificates: None,
            change_engine: change_engine(&Rc::default()),
        };
        let refused = reload.prepare(SystemTime::now()).err().unwrap();
        assert_eq!(refused.to_string(), "store.dir, threads: needs a restart");
    }

    #[test]
    fn live_keys_exist() {
        let all = serde_json::to_value(Config::default()).unwrap();
        for key in LIVE {
            let mut value = &all;
            for part in key.split('.') {
                value = value.get(part).unwrap_or_else(|| panic!("no key {key}"));
            }
        }
    }
}
