//! TXT records that come and go while the server runs (ACME DNS-01, RFC 8555 §8.4), and the serials of
//! zones whose content moves with them.
//!
//! Layout: one JSON file, written whole and durably before a change is answered or served: after a
//! crash there is what was said to be there. If it can't be written, nothing changes. Without a file
//! no record can be set, and at a start every serial is the time.
//!
//! Times are handed in, in seconds since 1970: they must mean the same after a restart.

mod endpoint;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordType};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config;
use crate::snapshot::Published;
use crate::zone::{Found, Role, Zone, Zones, next_serial};

pub use endpoint::{Change, Changed, TXT_PATH, TxtEndpoint};
pub use store::StoreError;
use store::{Kept, Serial, Value};

/// The label of names that answer challenges (RFC 8555 §8.4).
pub const CHALLENGE_LABEL: &str = "_acme-challenge";

/// A value's longest length in bytes: one string of a TXT record.
pub const MAX_VALUE: usize = 255;

/// Why a record isn't set or cleared.
#[derive(Debug, thiserror::Error)]
pub enum No {
    /// There is no file to keep it in.
    #[error("no records can be set here: set dynamic.file in the configuration")]
    Off,
    /// The name lies in none of our zones.
    #[error("{0} lies in none of the zones here")]
    Outside(Name),
    /// The name isn't one that answers a challenge.
    #[error("{0} doesn't begin with {CHALLENGE_LABEL}: set dynamic.any_name to allow other names")]
    NotAChallenge(Name),
    /// The name is answered by steering.
    #[error("{0} is answered with what steering says of it")]
    Taken(Name),
    /// The value is empty or too long.
    #[error("a value has 1 to {MAX_VALUE} bytes")]
    Value,
    /// The lifetime isn't one.
    #[error("a lifetime is from 1s to {0:?}")]
    Lifetime(Duration),
    /// There are too many.
    #[error("{0} records are set already: clear some, or raise dynamic.values")]
    Full(usize),
    /// It can't be kept.
    #[error("it can't be kept: {0}")]
    Disk(#[from] io::Error),
}

impl No {
    /// Its name in logs and answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Outside(_) => "outside",
            Self::NotAChallenge(_) => "not-a-challenge",
            Self::Taken(_) => "taken",
            Self::Value => "value",
            Self::Lifetime(_) => "lifetime",
            Self::Full(_) => "full",
            Self::Disk(_) => "disk",
        }
    }
}

/// The records, and the zones that are made of them.
pub struct Dynamic {
    file: Option<PathBuf>,
    published: Arc<Published>,
    /// Held while a change is written and published, so that serials only rise.
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    config: config::Dynamic,
    /// The zones as configured.
    base: Vec<Zone>,
    kept: Kept,
}

/// Other zones, made and not yet in use; until they are, nothing else changes.
pub struct Staged<'a> {
    dynamic: &'a Dynamic,
    state: MutexGuard<'a, State>,
    next: State,
    zones: Arc<Zones>,
}

impl Dynamic {
    /// Takes what was kept. There are no zones until some are [staged](Self::stage).
    ///
    /// # Errors
    /// The file can't be read or holds something else. That it can't be written is only logged:
    /// answers matter more than serials.
    pub fn open(
        config: config::Dynamic,
        published: Arc<Published>,
    ) -> Result<Arc<Self>, StoreError> {
        let kept = match &config.file {
            Some(path) => store::load(path)?,
            None => Kept::default(),
        };
        Ok(Arc::new(Self {
            file: config.file.clone(),
            published,
            state: Mutex::new(State {
                config,
                base: Vec::new(),
                kept,
            }),
            changed: Notify::new(),
        }))
    }

    /// A file with the tokens of those who may change records.
    pub(crate) fn token_file(&self) -> Option<PathBuf> {
        self.state.lock().config.token_file.clone()
    }

    /// Makes the zones of another configuration, with the records that are set; its file is that of
    /// [`Self::open`] all the same.
    pub fn stage(&self, config: config::Dynamic, base: Vec<Zone>, now: u64) -> Staged<'_> {
        let state = self.state.lock();
        let (kept, zones) = make(&config, &base, state.kept.clone(), now);
        Staged {
            dynamic: self,
            zones: Arc::new(zones),
            next: State { config, base, kept },
            state,
        }
    }

    /// Sets a value at a name for a while, beside others there; one that is there already gets the
    /// new end. Blocks. Returns when it ends.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn set(
        &self,
        name: &Name,
        value: &str,
        lifetime: Option<Duration>,
        now: u64,
    ) -> Result<u64, No> {
        let mut state = self.state.lock();
        let most = *state.config.lifetime;
        let lifetime = lifetime.unwrap_or(most);
        if lifetime.as_secs() == 0 || lifetime > most {
            return Err(No::Lifetime(most));
        }
        if !(1..=MAX_VALUE).contains(&value.len()) {
            return Err(No::Value);
        }
        self.may(&state.config, name)?;
        let mut kept = state.kept.clone();
        kept.txt.retain(|other| other.ends > now);
        let key = name.to_lowercase().to_ascii();
        kept.txt
            .retain(|other| other.name != key || other.value != value);
        if kept.txt.len() >= state.config.values {
            return Err(No::Full(state.config.values));
        }
        let ends = now + lifetime.as_secs();
        kept.txt.push(Value {
            name: key,
            value: value.to_owned(),
            ends,
        });
        self.commit(&mut state, kept, now)?;
        Ok(ends)
    }

    /// Clears a value at a name, or all of them. Blocks. Returns how many there were.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn clear(&self, name: &Name, value: Option<&str>, now: u64) -> Result<usize, No> {
        let mut state = self.state.lock();
        self.may(&state.config, name)?;
        let mut kept = state.kept.clone();
        let before = kept.txt.len();
        let key = name.to_lowercase().to_ascii();
        kept.txt
            .retain(|other| other.name != key || value.is_some_and(|value| value != other.value));
        let cleared = before - kept.txt.len();
        if cleared > 0 {
            self.commit(&mut state, kept, now)?;
        }
        Ok(cleared)
    }

    /// Takes out what has ended. Blocks. Returns the seconds until the next ends.
    pub fn expire(&self, now: u64) -> Option<Duration> {
        let mut state = self.state.lock();
        let mut kept = state.kept.clone();
        kept.txt.retain(|value| value.ends > now);
        if kept.txt.len() < state.kept.txt.len()
            && let Err(error) = self.commit(&mut state, kept, now)
        {
            tracing::error!(%error, "records that have ended can't be taken out");
            return Some(Duration::from_secs(60));
        }
        let ends = state.kept.txt.iter().map(|value| value.ends).min()?;
        Some(Duration::from_secs(ends.saturating_sub(now)))
    }

    /// Takes out records as they end, for ever.
    pub async fn keep_expiring(self: Arc<Self>) {
        loop {
            let dynamic = self.clone();
            let expiring = tokio::task::spawn_blocking(move || dynamic.expire(unix_now()));
            let wait = expiring.await.ok().flatten();
            let changed = self.changed.notified();
            match wait {
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn may(&self, config: &config::Dynamic, name: &Name) -> Result<(), No> {
        if self.file.is_none() {
            return Err(No::Off);
        }
        let label = name.iter().next().unwrap_or_default();
        if !config.any_name && !label.eq_ignore_ascii_case(CHALLENGE_LABEL.as_bytes()) {
            return Err(No::NotAChallenge(name.clone()));
        }
        match self.published.zones().find(name, RecordType::TXT) {
            Found::Outside => Err(No::Outside(name.clone())),
            Found::Node(_, node) if matches!(node.role(), Role::Why(_)) => {
                Err(No::Taken(name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Writes what is to be kept, then serves it.
    fn commit(&self, state: &mut State, kept: Kept, now: u64) -> io::Result<()> {
        let (kept, zones) = make(&state.config, &state.base, kept, now);
        self.keep(&state.kept, &kept)?;
        state.kept = kept;
        self.published.set_zones(Arc::new(zones));
        self.changed.notify_one();
        Ok(())
    }

    fn keep(&self, before: &Kept, kept: &Kept) -> io::Result<()> {
        match &self.file {
            Some(path) if kept != before => store::save(path, kept),
            _ => Ok(()),
        }
    }
}

impl Staged<'_> {
    /// The zones.
    #[must_use]
    pub fn zones(&self) -> &Arc<Zones> {
        &self.zones
    }

    /// Keeps their serials, and has the zones put in use by `publish`, whether or not they could be
    /// kept. Blocks.
    pub fn commit(mut self, publish: impl FnOnce()) {
        if let Err(error) = self.dynamic.keep(&self.state.kept, &self.next.kept) {
            tracing::error!(%error, "the zones' serials can't be kept");
        }
        *self.state = self.next;
        publish();
        self.dynamic.changed.notify_one();
    }
}

/// The zones with the records that are set, and what is to be kept of them.
fn make(config: &config::Dynamic, base: &[Zone], mut kept: Kept, now: u64) -> (Kept, Zones) {
    let zones = with_values(base, &kept.txt, config);
    let zones = with_serials(zones, &mut kept.zones, now);
    (kept, Zones::new(zones))
}

fn with_values(base: &[Zone], values: &[Value], config: &config::Dynamic) -> Vec<Zone> {
    let mut zones = base.to_vec();
    let ttl = u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX);
    for value in values {
        let Ok(name) = Name::from_ascii(&value.name) else {
            continue;
        };
        let text = RData::TXT(TXT::new(vec![value.value.clone()]));
        let holding = zones.iter_mut().filter(|zone| zone.origin().zone_of(&name));
        // The deepest: what lies below a nested zone is that zone's.
        if let Some(zone) = holding.max_by_key(|zone| zone.origin().iter().len()) {
            zone.add(&name, Some(ttl), text);
        }
    }
    zones
}

/// Gives a new serial to zones whose content has moved. What is kept of zones that are no longer ours
/// stays: they may come back.
fn with_serials(mut zones: Vec<Zone>, kept: &mut BTreeMap<String, Serial>, now: u64) -> Vec<Zone> {
    for zone in &mut zones {
        let key = zone.origin().to_lowercase().to_ascii();
        let digest = zone.digest().to_string();
        let before = kept.get(&key);
        let serial = match before {
            Some(before) if before.digest == digest => before.serial,
            // Serials count modulo 2³².
            _ => next_serial(before.map(|before| before.serial), now as u32),
        };
        zone.set_serial(serial);
        kept.insert(key, Serial { serial, digest });
    }
    zones
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
