//! Requests that share one exchange with the origin.
//!
//! One request leads, the others follow. The exchange belongs to none of them (`fill`). Whether
//! its answer may be shared is known only when its head is here: if it may not, the leader is handed
//! the answer and the others ask for themselves; and for a while nobody waits for anybody at that
//! URL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::storing::Unstorable;
use crate::engine::clock::Millis;
use crate::engine::growing::Growing;
use crate::engine::purge::Subject;
use crate::engine::purge::bans::{Awaited, Bans};
use crate::origin::OriginError;
use crate::origin::web::WebResponse;

/// How long requests for a URL don't wait for each other after its answer could not be shared.
const UNSHARED_FOR: Millis = 60_000;

/// URLs of which that is remembered.
const MAX_UNSHARED: usize = 10_000;

/// One exchange with the origin, and what it brings.
pub(super) struct Flight {
    /// The URL's key.
    pub(super) key: Arc<str>,
    /// The fields of the request that leads.
    pub(super) request: HeaderMap,
    pub(super) growing: Arc<Growing>,
    /// Its answer is on its way, and which purge was the newest when it was asked for.
    pub(super) awaited: Awaited,
    /// Something happened to the resource meanwhile: what comes answers those who wait, and is not
    /// kept.
    void: AtomicBool,
    /// Fields of the answer that are the leader's alone.
    pub(super) withheld: Mutex<HeaderMap>,
}

/// What the leader is handed where others get nothing.
pub(super) struct Handed {
    pub(super) response: WebResponse,
    pub(super) why: Unstorable,
}

/// Where the leader waits for that.
pub(super) type Hand = oneshot::Receiver<Result<Handed, OriginError>>;

impl Flight {
    pub(super) fn new(
        key: Arc<str>,
        request: HeaderMap,
        growing: Growing,
        awaited: Awaited,
    ) -> Self {
        Self {
            key,
            request,
            growing: Arc::new(growing),
            awaited,
            void: AtomicBool::new(false),
            withheld: Mutex::default(),
        }
    }

    pub(super) fn is_void(&self) -> bool {
        self.void.load(Ordering::SeqCst)
    }
}

/// The exchanges that others may join.
#[derive(Default)]
pub(super) struct Flights(Mutex<State>);

#[derive(Default)]
struct State {
    /// By the key of the answer that they are expected to bring; one may have two.
    running: HashMap<Arc<str>, Arc<Flight>>,
    /// URLs at which nobody waits for anybody.
    unshared: HashMap<Arc<str>, Unshared>,
}

/// What is remembered of a URL whose answer could not be shared.
#[derive(Clone, Copy)]
struct Unshared {
    until: Millis,
    /// Answers there go to one client each.
    relayed: bool,
    /// Until then its body, of unknown length, counts as longer than may be stored: it proved so.
    long_until: Millis,
}

/// Why requests for a URL don't wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsharing {
    /// Its answers are one client's each.
    OneClients,
    /// The same, for its body, of unknown length, proved longer than may be stored.
    TooLong,
    /// They are stored, but have to be confirmed for each.
    ToBeConfirmed,
}

/// What [`Flights::join`] found.
pub(super) enum Joined<T> {
    /// One that is running already.
    Running(Arc<Flight>),
    /// The one that was just made.
    Made(Arc<Flight>),
    /// There is no need.
    Instead(T),
}

impl Flights {
    /// The running flight under a key, or a new one, made under the lock (a purge finds it, or is
    /// older); unless `instead`, asked when none is running,
    /// knows better.
    pub(super) fn join<T>(
        &self,
        key: &Arc<str>,
        instead: impl FnOnce() -> Option<T>,
        make: impl FnOnce() -> Flight,
    ) -> Joined<T> {
        let mut state = self.0.lock();
        if let Some(running) = state.running.get(key) {
            return Joined::Running(running.clone());
        }
        if let Some(instead) = instead() {
            return Joined::Instead(instead);
        }
        let made = Arc::new(make());
        state.running.insert(key.clone(), made.clone());
        Joined::Made(made)
    }

    /// Lets a flight be found under a further key, if none is there.
    pub(super) fn also(&self, key: &Arc<str>, flight: &Arc<Flight>) {
        self.0
            .lock()
            .running
            .entry(key.clone())
            .or_insert_with(|| flight.clone());
    }

    /// The flight is over.
    pub(super) fn ended(&self, flight: &Arc<Flight>, keys: &[&Arc<str>]) {
        let mut state = self.0.lock();
        for key in keys {
            if state
                .running
                .get(*key)
                .is_some_and(|running| Arc::ptr_eq(running, flight))
            {
                state.running.remove(*key);
            }
        }
    }

    /// What runs for this URL is not kept, and nobody joins it any more.
    pub(super) fn void(&self, key: &str) {
        self.0.lock().running.retain(|_, flight| {
            let concerned = &*flight.key == key;
            if concerned {
                flight.void.store(true, Ordering::SeqCst);
            }
            !concerned
        });
    }

    /// Nobody joins what was purged any more. How many there were.
    pub(super) fn detach_purged(&self, bans: &Bans) -> usize {
        let mut state = self.0.lock();
        let before = state.running.len();
        state.running.retain(|_, flight| {
            let epoch = flight.awaited.epoch();
            bans.judge(&Subject::awaited(&flight.key), epoch).is_none()
        });
        before - state.running.len()
    }

    /// Notes that a URL's answer could not be shared.
    pub(super) fn unshared(&self, key: &Arc<str>, now: Millis, why: Unsharing) {
        let unshared = &mut self.0.lock().unshared;
        if unshared.len() >= MAX_UNSHARED {
            unshared.retain(|_, noted| noted.until > now);
        }
        if unshared.len() >= MAX_UNSHARED {
            unshared.clear();
        }
        let until = now + UNSHARED_FOR;
        let noted = unshared.get(key).map_or(0, |noted| noted.long_until);
        let long_until = match why {
            Unsharing::TooLong => until,
            Unsharing::OneClients | Unsharing::ToBeConfirmed => noted,
        };
        let noted = Unshared {
            until,
            relayed: why != Unsharing::ToBeConfirmed,
            long_until,
        };
        unshared.insert(key.clone(), noted);
    }

    /// Whether requests for a URL wait for each other.
    pub(super) fn is_shared(&self, key: &Arc<str>, now: Millis) -> bool {
        self.0
            .lock()
            .unshared
            .get(key)
            .is_none_or(|noted| noted.until <= now)
    }

    /// Whether the next answer there goes to one client, as far as is known.
    pub(super) fn is_relayed(&self, key: &Arc<str>, now: Millis) -> bool {
        let state = self.0.lock();
        let noted = state.unshared.get(key);
        noted.is_some_and(|noted| noted.relayed && noted.until > now)
    }

    /// Whether the body there is known to be longer than may be stored.
    pub(super) fn is_long(&self, key: &Arc<str>, now: Millis) -> bool {
        let state = self.0.lock();
        state
            .unshared
            .get(key)
            .is_some_and(|noted| noted.long_until > now)
    }

    /// Whether this flight is found under that key.
    pub(super) fn has(&self, key: &Arc<str>, flight: &Arc<Flight>) -> bool {
        self.0
            .lock()
            .running
            .get(key)
            .is_some_and(|running| Arc::ptr_eq(running, flight))
    }

    /// Notes that a URL's answer was shared.
    pub(super) fn shared(&self, key: &Arc<str>) {
        self.0.lock().unshared.remove(key);
    }

    /// How many are running.
    pub(super) fn len(&self) -> usize {
        self.0.lock().running.len()
    }
}
