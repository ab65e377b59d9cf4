//! The way of one request through the cache of a plain HTTP mount.
//!
//! ```text
//! GET, HEAD ─▶ look up ─┬─ may be given (fresh, or stale and allowed) ─▶ answer
//!                       ├─ GET ──▶ share one exchange, wait for its first word ─▶ answer
//!                       └─ HEAD ─▶ pass through, and freshen what is stored
//! anything else ─▶ pass through, and invalidate what it may have changed
//! ```

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use modcdn_core::refusal::{Reason, Refusal};

use super::directives::{RequestControl, ResponseControl};
use super::fields::pass_forward;
use super::freshness::{Trouble, Verdict, covers, is_failure, judge};
use super::lookup::Found;
use super::validate::is_for_the_origin;
use crate::engine::Engine;
use crate::engine::cache_status::{CacheStatus, Forward};
use crate::engine::reply::Fate;
use crate::engine::store::entry::Entry;
use crate::exchange::{Answer, Body, Cached, HttpAsked};

/// How often one request starts over because what it was about to answer with was not for it.
pub(super) const ATTEMPTS: usize = 5;

pub(super) const ORIGIN_FAILED: &str = "origin-failed";

/// A request, read.
pub(super) struct Ask {
    pub(super) asked: HttpAsked,
    pub(super) control: RequestControl,
    /// The URL's key.
    pub(super) key: Arc<str>,
}

impl Ask {
    fn new(asked: HttpAsked) -> Self {
        let control = RequestControl::of(&asked.headers);
        let key = asked.target.as_str().into();
        Self {
            asked,
            control,
            key,
        }
    }

    pub(super) fn head(&self) -> bool {
        self.asked.method == Method::HEAD
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.asked.headers
    }

    /// Why the cache has no part in it, if so.
    fn bypasses(&self, has_body: bool) -> Option<Forward> {
        match self.asked.method {
            Method::GET | Method::HEAD if has_body => Some(Forward::Bypass),
            Method::GET | Method::HEAD if is_for_the_origin(self.headers()) => {
                Some(Forward::Bypass)
            }
            Method::GET | Method::HEAD => None,
            _ => Some(Forward::Method),
        }
    }
}

/// What the look-up found, for a request that has to go forward.
pub(super) struct Held {
    /// The key that the answer is expected under.
    pub(super) key: Arc<str>,
    /// An answer that may be confirmed, or stand in for a failure.
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) forward: Forward,
    pub(super) detail: Option<&'static str>,
    /// It waits for nobody, and nobody for it.
    pub(super) alone: bool,
}

impl Held {
    fn nothing(found: Found) -> Self {
        let (key, forward) = (found.key, found.forward);
        Self {
            key,
            stale: None,
            forward,
            detail: None,
            alone: false,
        }
    }

    fn stale(entry: Arc<Entry>, forward: Forward) -> Self {
        let key = entry.key.clone();
        Self {
            key,
            stale: Some(entry),
            forward,
            detail: None,
            alone: false,
        }
    }

    pub(super) fn useless(entry: &Entry, detail: &'static str) -> Self {
        Self {
            key: entry.key.clone(),
            stale: None,
            forward: Forward::Miss,
            detail: Some(detail),
            alone: true,
        }
    }

    pub(super) fn fate(&self, cached: Cached, collapsed: bool) -> Fate {
        let (forward, detail) = (Some(self.forward), self.detail);
        let status = CacheStatus {
            forward,
            collapsed,
            detail,
            ..CacheStatus::default()
        };
        Fate { cached, status }
    }
}

/// What comes after an exchange's first word.
pub(super) enum Next {
    Answer(Answer),
    /// Not with a shared answer.
    Through(Fate),
    /// From the look-up on; alone, if nothing can be shared.
    Again {
        alone: bool,
    },
}

impl Engine {
    /// Answers one request to a plain HTTP mount. Every wait in here is bounded by the limits of the
    /// mount's client. Dropping the future breaks off what passes through, and no shared exchange.
    pub async fn pass(self: &Arc<Self>, mut asked: HttpAsked) -> Answer {
        let upload = asked.upload.take();
        if asked.method == Method::OPTIONS && !pass_forward(&mut asked.headers) {
            return end_of_the_way();
        }
        let ask = Ask::new(asked);
        if let Some(forward) = ask.bypasses(upload.is_some()) {
            let status = CacheStatus {
                forward: Some(forward),
                ..CacheStatus::default()
            };
            let fate = Fate {
                cached: Cached::Bypass,
                status,
            };
            return Box::pin(self.through(&ask, upload, fate, None)).await;
        }
        match self.consult(&ask).await {
            Ok(answer) => answer,
            Err(held) => Box::pin(self.forward(ask, held)).await,
        }
    }

    /// Answers from the store, if that may be done without asking the origin first.
    async fn consult(self: &Arc<Self>, ask: &Ask) -> Result<Answer, Held> {
        let mut found = self.select_stored(&ask.key, ask.headers()).await;
        let Some(entry) = found.entry.take() else {
            return Err(Held::nothing(found));
        };
        let now = self.clock.now();
        let age = entry.age(now);
        let forbids_stale = || ResponseControl::of(&entry.meta.headers).forbids_stale();
        let verdict = if self.store.is_stale(&entry) {
            Verdict::Validate { fresh: false }
        } else {
            judge(&entry.lifetime, age, forbids_stale, &ask.control)
        };
        match verdict {
            Verdict::Fresh => self.give(ask, &entry, Cached::Hit, None).await,
            Verdict::Accepted => {
                self.give(ask, &entry, Cached::Stale, Some("max-stale"))
                    .await
            }
            Verdict::Revalidating if entry.rests(now) => {
                self.give(ask, &entry, Cached::Stale, Some(ORIGIN_FAILED))
                    .await
            }
            Verdict::Revalidating => {
                self.revalidate(ask, &entry);
                self.give(ask, &entry, Cached::Stale, Some("revalidating"))
                    .await
            }
            Verdict::Validate { fresh: false }
                if entry.rests(now) && self.may_stand_in(ask, &entry, Trouble::Unreachable) =>
            {
                self.give(ask, &entry, Cached::Stale, Some(ORIGIN_FAILED))
                    .await
            }
            Verdict::Validate { fresh: true } => Err(Held::stale(entry, Forward::Request)),
            Verdict::Validate { fresh: false } => Err(Held::stale(entry, Forward::Stale)),
        }
    }

    pub(super) fn may_stand_in(&self, ask: &Ask, entry: &Entry, trouble: Trouble) -> bool {
        let age = entry.age(self.clock.now());
        let forbids_stale = || ResponseControl::of(&entry.meta.headers).forbids_stale();
        let settings = self.settings.load();
        let (control, bounds) = (&ask.control, &settings.config.http);
        covers(
            &entry.lifetime,
            age,
            forbids_stale,
            control,
            trouble,
            bounds,
        )
    }

    async fn forward(self: &Arc<Self>, ask: Ask, mut held: Held) -> Answer {
        self.metrics.misses.inc();
        if ask.control.only_if_cached {
            let text = "nothing stored may be given, and only that was asked for";
            let refusal = Refusal::new(Reason::OnlyIfCached, &*ask.key, text);
            return self.turn_down(&ask, held.fate(Cached::Miss, false), &refusal);
        }
        if ask.head() {
            return self.forward_head(&ask, &held).await;
        }
        for _ in 0..ATTEMPTS {
            match self.take_part(&ask, &held).await {
                Next::Answer(answer) => return answer,
                Next::Through(fate) => return self.through(&ask, None, fate, None).await,
                Next::Again { alone } => match self.consult(&ask).await {
                    Ok(answer) => return answer,
                    Err(found) => {
                        held = Held {
                            alone: alone || found.alone,
                            ..found
                        }
                    }
                },
            }
        }
        self.through(&ask, None, held.fate(Cached::Miss, false), None)
            .await
    }

    /// A `HEAD` that the store can't answer. A stale answer stands in as it does for `GET`.
    async fn forward_head(self: &Arc<Self>, ask: &Ask, held: &Held) -> Answer {
        let fate = held.fate(Cached::Miss, false);
        let answer = self.through(ask, None, fate, held.stale.clone()).await;
        let trouble = match answer.reason {
            Some(_) => Trouble::Unreachable,
            None if is_failure(answer.status) => Trouble::Failing,
            None => return answer,
        };
        let detail = answer.reason.map_or(ORIGIN_FAILED, Reason::name);
        let stand_in = self.substitute(ask, held, trouble, Some(detail)).await;
        stand_in.unwrap_or(answer)
    }
}

/// The answer to an `OPTIONS` that goes no further (RFC 9110 §7.6.2).
fn end_of_the_way() -> Answer {
    Answer {
        status: StatusCode::NO_CONTENT,
        headers: HeaderMap::new(),
        body: Body::Empty,
        cache: Cached::Bypass,
        reason: None,
    }
}
