//! Plain HTTP mounts: a shared cache as RFC 9111 has it, before any HTTP server.
//!
//! The rules are pure functions, a module each:
//!
//! - [`uri`]: paths in their normal form; `fields`: lists, and which fields end here.
//! - `directives`: `Cache-Control` of requests and responses, `CDN-Cache-Control`.
//! - `storing`: what may be stored. `freshness` and `age`: how long it may be used, and by whom.
//! - `vary`: which variant answers. `validate`: conditions, the client's and ours.
//! - `merge`: what a 304 changes. `invalidate`: what an unsafe method does.
//!
//! What acts by them, on the engine's store and growing bodies:
//!
//! - `answer`: the way of one request. `lookup`: what is stored for it. `give` and `reply`: answers
//!   and their heads.
//! - `share`: a request's part in an exchange; `flight`: those who share one; `fill`: the exchange.
//! - `through`: what is not shared.
//!
//! Keys: a URL's answer lies under its normal path and query. If it varies, what lies there is an
//! entry of [`Rules::Variants`], and each variant under the same key, a tab, and a digest of the
//! request fields that select it. Dropping that entry drops all variants: a later one has another
//! generation, and so other digests.
//!
//! Failure rules: those of the engine. An answer whose end can't be told from a broken connection
//! passes through and is never stored. An exchange that got no answer is told, for a moment, to those
//! who would have shared it; whatever the origin did answer is not.

mod age;
mod answer;
pub mod config;
mod directives;
pub(crate) mod fields;
mod fill;
mod flight;
mod freshness;
mod give;
mod invalidate;
mod lookup;
mod merge;
mod reply;
mod share;
mod storing;
mod through;
pub(crate) mod uri;
mod validate;
mod vary;

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;

use self::config::HttpConfig;
use self::directives::ResponseControl;
use self::flight::Flights;
use super::config::FillConfig;
use super::failed::FailedFills;
use super::freshness::Lifetime;
use super::purge::bans::Bans;
use super::store::entry::Headers;
#[cfg(doc)]
use super::store::entry::Rules;
use crate::origin::web::WebOrigin;

/// What the engine knows of plain HTTP mounts beside the store.
pub(super) struct Mounts {
    origins: Vec<Arc<dyn WebOrigin>>,
    flights: Flights,
    /// The last generation of variants that was begun. Held while one is begun.
    generation: Mutex<u64>,
    /// Exchanges that got no answer, or not all of it, a moment ago; by the key of the answer that
    /// was expected.
    failed: Mutex<FailedFills>,
}

impl Mounts {
    pub(super) fn new(origins: Vec<Arc<dyn WebOrigin>>, config: &FillConfig) -> Self {
        Self {
            origins,
            flights: Flights::default(),
            generation: Mutex::new(0),
            failed: Mutex::new(FailedFills::new(config.failed_lines())),
        }
    }

    /// Other bounds, for failures to come.
    pub(super) fn adjust(&self, config: &FillConfig) {
        self.failed.lock().adjust(config.failed_lines());
    }

    /// Whoever asks now has the origin asked.
    pub(super) fn forget_failures(&self) {
        self.failed.lock().clear();
    }

    /// Nobody joins what was purged any more. How many exchanges there were.
    pub(super) fn detach_purged(&self, bans: &Bans) -> usize {
        self.flights.detach_purged(bans)
    }

    /// Exchanges that others may join.
    pub(super) fn running(&self) -> usize {
        self.flights.len()
    }
}

/// How long a stored answer may be used.
pub(super) fn lifetime(status: StatusCode, headers: &Headers, bounds: &HttpConfig) -> Lifetime {
    freshness::lifetime(status, headers, &ResponseControl::of(headers), bounds)
}
