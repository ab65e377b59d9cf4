//! From a configuration to what answers by it: files opened, keys read, zones made and signed ahead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Error, setup};
use crate::config::Config;
use crate::cookie::{Jar, SecretError};
use crate::dnssec::file::FileError;
use crate::dnssec::{self, Signing};
use crate::dynamic::{Dynamic, unix_now};
use crate::probe::Authorities;
use crate::querylog::QueryLog;
use crate::rates::Rates;
use crate::respond::{Moment, Responder, Settings};
use crate::steer::Map;
use crate::steering::Setup;
use crate::zone::Zone;
use crate::zone::build;

/// What a configuration names, opened.
pub(super) struct Opened {
    pub(super) authorities: Authorities,
    pub(super) access_log: QueryLog,
    pub(super) setup: Setup,
    pub(super) settings: Settings,
}

/// What answers already.
pub(super) struct Before<'a> {
    pub(super) config: &'a Config,
    pub(super) settings: &'a Settings,
}

/// Opens the files that a configuration names. What may be the same as before stays the same: who had
/// how much, what was signed, the cookies' secret if it is this process's own. Blocks.
pub(super) fn open(
    config: &Config,
    before: Option<&Before<'_>>,
    metrics: dnssec::Metrics,
) -> Result<Opened, Error> {
    Ok(Opened {
        authorities: Authorities::load(config)?,
        access_log: open_access_log(config)?,
        setup: setup::of(config)?,
        settings: Settings {
            payload: config.udp.payload,
            identity: Some(config.name.clone()),
            tcp: config.tcp,
            cookies: cookies(config, before)?,
            rates: rates(config, before),
            signing: signing(config, before, metrics)?,
        },
    })
}

/// The zones of a configuration, with what their keys add to them.
pub(super) fn zones(
    config: &Config,
    bound: &[SocketAddr],
    signing: Option<&Signing>,
) -> Result<Vec<Zone>, Error> {
    let bound: Vec<_> = bound.iter().map(SocketAddr::ip).collect();
    let mut zones = build::zones(config, &bound).map_err(Error::Config)?;
    if let Some(signing) = signing {
        dnssec::publish(&mut zones, signing);
    }
    Ok(zones)
}

/// Signs ahead all that these zones answer with this map, and only then has them put in use by
/// `publish`: no first answer waits for a signature. Records that are set meanwhile wait. Blocks.
pub(super) fn put_in_use(
    (config, dynamic): (&Config, &Dynamic),
    zones: Vec<Zone>,
    settings: Settings,
    map: &Map,
    publish: impl FnOnce(Responder),
) {
    let staged = dynamic.stage(config.dynamic.clone(), zones, unix_now());
    if let Some(signing) = &settings.signing {
        signing.prepare(staged.zones(), &[map], Moment::now().unix);
    }
    let responder = Responder::new(staged.zones().clone(), settings);
    staged.commit(|| publish(responder));
}

fn open_access_log(config: &Config) -> Result<QueryLog, Error> {
    QueryLog::open(&config.access_log, config.access_log_sample).map_err(|error| Error::AccessLog {
        target: config.access_log.to_string(),
        error,
    })
}

/// A file of secrets is read anew each time: it may hold others by now.
fn cookies(config: &Config, before: Option<&Before<'_>>) -> Result<Option<Jar>, SecretError> {
    if !config.cookies.enabled {
        return Ok(None);
    }
    let own = before.filter(|before| before.config.cookies.secret_file.is_none());
    match (&config.cookies.secret_file, own) {
        (Some(path), _) => Jar::open(path).map(Some),
        (None, Some(Before { settings, .. })) if settings.cookies.is_some() => {
            Ok(settings.cookies.clone())
        }
        (None, _) => Jar::random().map(Some),
    }
}

fn rates(config: &Config, before: Option<&Before<'_>>) -> Option<Arc<Rates>> {
    match before {
        Some(before) if before.config.rates == config.rates => before.settings.rates.clone(),
        _ if config.rates.is_on() => {
            Some(Arc::new(Rates::new(config.rates.clone(), Instant::now())))
        }
        _ => None,
    }
}

fn signing(
    config: &Config,
    before: Option<&Before<'_>>,
    metrics: dnssec::Metrics,
) -> Result<Option<Arc<Signing>>, FileError> {
    let Some(signing) = dnssec::load(&config.dnssec, metrics)? else {
        return Ok(None);
    };
    let before = before.and_then(|before| before.settings.signing.as_deref());
    Ok(Some(Arc::new(match before {
        Some(before) => signing.knowing(before),
        None => signing,
    })))
}
