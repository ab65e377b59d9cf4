//! Answers with bodies: stored ones, short ones that have just come, and those that are arriving.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::answer::{ATTEMPTS, Ask, Held};
use super::flight::Flight;
use super::freshness::Trouble;
use super::reply::Told;
use super::validate::select;
use crate::engine::Engine;
use crate::engine::answer::part;
use crate::engine::cache_status::CacheStatus;
use crate::engine::growing::{FillHead, Follower};
use crate::engine::metrics::Tier;
use crate::engine::reply::Fate;
use crate::engine::select::Selected;
use crate::engine::store::Damage;
use crate::engine::store::entry::{Entry, Meta};
use crate::exchange::{Answer, Body, Cached};

impl Engine {
    /// The answer with a stored body. What proves to be damaged is dropped.
    pub(super) async fn give(
        self: &Arc<Self>,
        ask: &Ask,
        entry: &Arc<Entry>,
        cached: Cached,
        detail: Option<&'static str>,
    ) -> Result<Answer, Held> {
        let ttl = Some(entry.lifetime.ttl(entry.age(self.clock.now())));
        let status = CacheStatus {
            ttl,
            detail,
            ..CacheStatus::default()
        };
        if cached == Cached::Stale {
            self.metrics.stale_served.inc();
        }
        self.give_stored(ask, entry, Fate { cached, status }, HeaderMap::new())
            .await
    }

    pub(super) async fn give_stored(
        self: &Arc<Self>,
        ask: &Ask,
        entry: &Arc<Entry>,
        fate: Fate,
        withheld: HeaderMap,
    ) -> Result<Answer, Held> {
        let mut entry = entry.clone();
        for _ in 0..ATTEMPTS {
            match self.try_stored(ask, &entry, fate, withheld.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(damage) => match Box::pin(self.instead(&entry, damage)).await {
                    Ok(other) => entry = other,
                    Err(detail) => return Err(Held::useless(&entry, detail)),
                },
            }
        }
        Box::pin(self.condemn(&entry)).await;
        Err(Held::useless(&entry, "damaged"))
    }

    async fn try_stored(
        self: &Arc<Self>,
        ask: &Ask,
        entry: &Arc<Entry>,
        fate: Fate,
        withheld: HeaderMap,
    ) -> Result<Answer, Damage> {
        let size = entry.object.size;
        let selected = choose(ask, &entry.meta, Some(size));
        let told = self.told(entry, withheld, true);
        let Some((start, end)) = span(ask, selected, size) else {
            self.metrics.hit(Tier::Head);
            return Ok(self.tell(ask, fate, &told, selected, None));
        };
        let body = self.stored_body(None, entry, start, end).await?;
        Ok(self.tell(ask, fate, &told, selected, Some(body)))
    }

    fn told<'a>(&self, entry: &'a Entry, withheld: HeaderMap, stored: bool) -> Told<'a> {
        Told {
            meta: &entry.meta,
            withheld,
            size: Some(entry.object.size),
            age: entry.age(self.clock.now()),
            stored,
        }
    }

    /// The stale answer in place of a failure, while it may be.
    pub(super) async fn substitute(
        self: &Arc<Self>,
        ask: &Ask,
        held: &Held,
        trouble: Trouble,
        detail: Option<&'static str>,
    ) -> Option<Answer> {
        let entry = held.stale.as_ref()?;
        if !self.may_stand_in(ask, entry, trouble) {
            return None;
        }
        self.give(ask, entry, Cached::Stale, detail).await.ok()
    }

    /// Answers with a body that has just come, short and complete.
    pub(super) fn give_complete(
        &self,
        ask: &Ask,
        entry: &Arc<Entry>,
        bytes: &Bytes,
        withheld: HeaderMap,
        fate: Fate,
    ) -> Answer {
        let size = entry.object.size;
        let selected = choose(ask, &entry.meta, Some(size));
        let body = span(ask, selected, size).map(|(start, end)| part(bytes, start, end));
        let body = body.filter(|bytes| !bytes.is_empty()).map(Body::Whole);
        let stored = self.store.holds(entry);
        let status = CacheStatus {
            stored,
            ..fate.status
        };
        let told = self.told(entry, withheld, false);
        self.tell(ask, Fate { status, ..fate }, &told, selected, body)
    }

    /// Answers with a body that is arriving.
    pub(super) fn give_arriving(
        &self,
        ask: &Ask,
        flight: &Flight,
        head: &FillHead,
        withheld: HeaderMap,
        fate: Fate,
    ) -> Answer {
        let selected = choose(ask, &head.meta, head.size);
        let follow = |start, end| {
            let growing = flight.growing.clone();
            Body::Stream(Box::new(Follower::new(
                growing,
                start,
                end,
                self.fills.clone(),
            )))
        };
        let body = match selected {
            Selected::Full => Some(follow(0, head.size)),
            Selected::Part { start, end } => Some(follow(start, Some(end))),
            Selected::NotModified | Selected::Unsatisfiable => None,
        };
        let stored = self.store.is_admitting() && !flight.is_void();
        let status = CacheStatus {
            stored,
            ..fate.status
        };
        let told = Told {
            meta: &head.meta,
            withheld,
            size: head.size,
            age: self.clock.now().saturating_sub(head.meta.validated),
            stored: false,
        };
        self.tell(ask, Fate { status, ..fate }, &told, selected, body)
    }
}

/// Which part answers.
fn choose(ask: &Ask, meta: &Meta, size: Option<u64>) -> Selected {
    select(ask.head(), ask.headers(), meta.status, &meta.headers, size)
}

/// The bytes that are due; None: no body is.
fn span(ask: &Ask, selected: Selected, size: u64) -> Option<(u64, u64)> {
    match selected {
        _ if ask.head() => None,
        Selected::Full => Some((0, size)),
        Selected::Part { start, end } => Some((start, end)),
        Selected::NotModified | Selected::Unsatisfiable => None,
    }
}
