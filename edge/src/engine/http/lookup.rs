//! What is stored for a request, and the bookkeeping of variants.

use std::sync::Arc;

use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::fields::Fields;
use super::flight::Flight;
use super::vary::{self, Names, Selecting};
use crate::engine::Engine;
use crate::engine::cache_status::Forward;
use crate::engine::store::entry::{BodyHasher, Entry, Headers, Meta, Rules};
use crate::engine::store::{Arrival, Payload};

/// What the look-up found.
pub(super) struct Found {
    /// Where this request's answer lies, as far as is known: the URL's key or a variant's.
    pub(super) key: Arc<str>,
    /// The answer.
    pub(super) entry: Option<Arc<Entry>>,
    /// Why the request has to go forward if there is none.
    pub(super) forward: Forward,
}

/// What the URL's key alone tells.
enum Step {
    Found(Found),
    /// There are variants: look under this key, whose answers differ by these fields.
    Variant(Arc<str>, Names),
}

fn first_step(key: &Arc<str>, request: &HeaderMap, entry: Option<Arc<Entry>>) -> Step {
    let found = |entry, forward| {
        let key = key.clone();
        Step::Found(Found {
            key,
            entry,
            forward,
        })
    };
    let Some(entry) = entry else {
        return found(None, Forward::UriMiss);
    };
    match entry.meta.rules {
        Rules::Http if varies_by(&entry, None) => found(Some(entry), Forward::Miss),
        Rules::Http => found(None, Forward::VaryMiss),
        Rules::Variants => match names_in(&entry) {
            Some(names) => {
                let key = variant_key(key, &names, request, entry.meta.stored);
                Step::Variant(key, names)
            }
            None => found(None, Forward::UriMiss),
        },
        Rules::Immutable | Rules::Mutable => found(None, Forward::UriMiss),
    }
}

impl Engine {
    /// The stored answer that a request selects (RFC 9111 §4). Waits for the disk only if there is
    /// something and it isn't warm.
    pub(super) async fn select_stored(&self, key: &Arc<str>, request: &HeaderMap) -> Found {
        match first_step(key, request, self.look_up(key).await) {
            Step::Found(found) => found,
            Step::Variant(key, names) => {
                let entry = self.look_up(&key).await;
                let entry = entry.filter(|entry| varies_by(entry, Some(&names)));
                let forward = Forward::VaryMiss;
                Found {
                    key,
                    entry,
                    forward,
                }
            }
        }
    }

    /// The same among what was used lately: what was just stored is.
    pub(super) fn select_warm(&self, key: &Arc<str>, request: &HeaderMap) -> Option<Arc<Entry>> {
        match first_step(key, request, self.store.warm(key)) {
            Step::Found(found) => found.entry,
            Step::Variant(key, names) => {
                let entry = self.store.warm(&key);
                entry.filter(|entry| varies_by(entry, Some(&names)))
            }
        }
    }

    /// The key under which the answer that a flight brings is to be stored, if it varies so. Notes
    /// that the URL's answers vary, if that isn't known. `joinable`: the flight is found under that
    /// key from then on, and before: who learns of the variants finds it. Blocks.
    pub(super) fn key_for(
        &self,
        flight: &Arc<Flight>,
        selecting: &Selecting,
        joinable: bool,
    ) -> Arc<str> {
        let Selecting::By(names) = selecting else {
            return flight.key.clone();
        };
        let mut last = self.http.generation.lock();
        let known = self.store.find(&flight.key);
        let known = known.filter(|entry| entry.meta.rules == Rules::Variants);
        let known = known.filter(|entry| names_in(entry).as_ref() == Some(names));
        let generation = match &known {
            Some(entry) => entry.meta.stored,
            None => self.clock.now().max(*last + 1),
        };
        let key = variant_key(&flight.key, names, &flight.request, generation);
        if joinable && !flight.is_void() {
            self.http.flights.also(&key, flight);
        }
        if known.is_none() {
            *last = generation;
            self.note_variants(flight, names, generation);
        }
        key
    }

    fn note_variants(&self, flight: &Flight, names: &Names, generation: u64) {
        let text = HeaderValue::try_from(vary::list(names));
        let headers = HeaderMap::from_iter(text.map(|text| (VARY, text)));
        let mut hasher = BodyHasher::new();
        hasher.block(b"");
        self.store.put(Arrival {
            key: flight.key.clone(),
            meta: Meta {
                status: StatusCode::OK,
                headers: Headers::all(&headers),
                rules: Rules::Variants,
                stored: generation,
                validated: generation,
                epoch: flight.awaited.epoch(),
            },
            object: Arc::new(hasher.finish()),
            body: Payload::Ram(Bytes::new()),
        });
    }
}

/// Whether an answer still depends on what its key was made of: a 304 may have changed that.
fn varies_by(entry: &Entry, names: Option<&Names>) -> bool {
    let is_so = match (Selecting::of(&entry.meta.headers), names) {
        (Selecting::Nothing, None) => true,
        (Selecting::By(found), Some(names)) => found == *names,
        _ => false,
    };
    is_so && entry.meta.rules == Rules::Http
}

fn names_in(entry: &Entry) -> Option<Names> {
    vary::parse(entry.meta.headers.first(&VARY)?.to_str().ok()?)
}

fn variant_key(key: &str, names: &Names, request: &HeaderMap, generation: u64) -> Arc<str> {
    format!("{key}\t{}", names.variant(request, generation)).into()
}
