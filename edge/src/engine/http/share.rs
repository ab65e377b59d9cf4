//! A request's part in an exchange that others may share: it leads, follows, or turns away.

use std::sync::Arc;

use http::HeaderMap;
use modcdn_core::refusal::Refusal;
use tokio::sync::oneshot;

use super::answer::{Ask, Held, Next, ORIGIN_FAILED};
use super::directives::ResponseControl;
use super::fill::Fill;
use super::flight::{Flight, Hand, Handed, Joined};
use super::freshness::{Trouble, Verdict, is_failure, judge, may_share};
use super::validate::is_plain;
use super::vary::Selecting;
use crate::engine::Engine;
use crate::engine::cache_status::CacheStatus;
use crate::engine::failed::Failed;
use crate::engine::fill::hint;
use crate::engine::growing::{Growing, Outcome};
use crate::engine::reply::Fate;
use crate::engine::store::entry::{Entry, Meta};
use crate::exchange::{Answer, Cached};

/// How a request takes part in an exchange.
enum Flown {
    /// It doesn't.
    Instead(Instead),
    Followed(Arc<Flight>),
    Led(Arc<Flight>, Hand),
}

/// What answers in place of an exchange.
enum Instead {
    /// There is an answer now.
    Stored(Arc<Entry>),
    /// There was no answer a moment ago.
    Failed(Arc<Refusal>),
}

impl Engine {
    /// Joins the exchange that is running for the key, or begins one, and answers as it says.
    pub(super) async fn take_part(self: &Arc<Self>, ask: &Ask, held: &Held) -> Next {
        let joined = self.fly(ask, &held.key, held.stale.as_ref(), held.alone);
        match joined {
            Flown::Instead(Instead::Stored(entry)) => {
                or_again(self.give(ask, &entry, Cached::Hit, None).await)
            }
            Flown::Instead(Instead::Failed(refusal)) => {
                self.metrics.failed_remembered.inc();
                let mut fate = held.fate(Cached::Miss, false);
                fate.status.detail = Some("failed-recently");
                Next::Answer(self.stand_in_or_turn_down(ask, held, fate, &refusal).await)
            }
            Flown::Followed(flight) => {
                self.metrics.collapsed.inc();
                self.follow(ask, held, &flight, None).await
            }
            Flown::Led(flight, hand) => self.follow(ask, held, &flight, Some(hand)).await,
        }
    }

    /// Has a stale answer confirmed; nobody waits for it.
    pub(super) fn revalidate(self: &Arc<Self>, ask: &Ask, entry: &Arc<Entry>) {
        drop(self.fly(ask, &entry.key, Some(entry), false));
    }

    fn fly(
        self: &Arc<Self>,
        ask: &Ask,
        key: &Arc<str>,
        stale: Option<&Arc<Entry>>,
        alone: bool,
    ) -> Flown {
        let flights = &self.http.flights;
        let make = || {
            let growing = Growing::new(self.memory.clone());
            let awaited = self.store.awaited();
            Flight::new(ask.key.clone(), ask.headers().clone(), growing, awaited)
        };
        let own = ask.control.no_cache || ask.control.no_store || alone;
        let now = self.clock.now();
        let flight = if own || !flights.is_shared(&ask.key, now) {
            Arc::new(make())
        } else {
            let instead = || {
                let stored = self.just_stored_for(ask, stale).map(Instead::Stored);
                stored.or_else(|| self.failed_just_now(key).map(Instead::Failed))
            };
            match flights.join(key, instead, make) {
                Joined::Instead(instead) => return Flown::Instead(instead),
                Joined::Running(flight) => return Flown::Followed(flight),
                Joined::Made(flight) => flight,
            }
        };
        let (hand, handed) = oneshot::channel();
        let fill = Fill {
            engine: self.clone(),
            origin: self.http.origins[ask.asked.mount].clone(),
            target: ask.asked.target.clone(),
            key: key.clone(),
            flight: flight.clone(),
            upstream: self.forwarded(ask, ask.headers().clone(), false),
            // Nothing of the answer to such a request may be kept: nothing is confirmed by it.
            stale: stale.filter(|_| !ask.control.no_store).cloned(),
            hand: Some(hand),
            relay: flights.is_relayed(&ask.key, now),
        };
        self.fills.spawn(fill.run());
        Flown::Led(flight, handed)
    }

    /// The answer of an exchange that ended since the look-up: it stores before it is over.
    fn just_stored_for(&self, ask: &Ask, stale: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        let entry = self.select_warm(&ask.key, ask.headers())?;
        let is_news = stale.is_none_or(|stale| !Arc::ptr_eq(stale, &entry));
        let verdict = judge(
            &entry.lifetime,
            entry.age(self.clock.now()),
            || true,
            &ask.control,
        );
        let usable = verdict == Verdict::Fresh && !self.store.is_stale(&entry);
        (is_news && usable).then_some(entry)
    }

    /// How the exchange failed that ended since the look-up, or a moment ago.
    fn failed_just_now(&self, key: &str) -> Option<Arc<Refusal>> {
        match self.http.failed.lock().recent(key, self.clock.now())? {
            Failed::Refused(refusal) => Some(refusal),
            Failed::Passed(_) => None,
        }
    }

    async fn stand_in_or_turn_down(
        self: &Arc<Self>,
        ask: &Ask,
        held: &Held,
        fate: Fate,
        refusal: &Refusal,
    ) -> Answer {
        let detail = Some(refusal.reason.name());
        let trouble = Trouble::Unreachable;
        let stand_in = self.substitute(ask, held, trouble, detail).await;
        stand_in.unwrap_or_else(|| self.turn_down(ask, fate, refusal))
    }

    async fn follow(
        self: &Arc<Self>,
        ask: &Ask,
        held: &Held,
        flight: &Arc<Flight>,
        hand: Option<Hand>,
    ) -> Next {
        let collapsed = hand.is_none();
        let fate = held.fate(Cached::Miss, collapsed);
        let outcome = flight.growing.outcome().await;
        let is_mine = |meta: &Meta| {
            let selecting = Selecting::of(&meta.headers);
            !collapsed || selecting.alike(&flight.request, ask.headers())
        };
        let for_one = |outcome: &Outcome| collapsed && !self.may_have(ask, outcome);
        let withheld = match collapsed {
            true => HeaderMap::new(),
            false => flight.withheld.lock().clone(),
        };
        match outcome {
            outcome if for_one(&outcome) => Next::Again { alone: true },
            Outcome::Arriving(head) if is_mine(&head.meta) => {
                Next::Answer(self.give_arriving(ask, flight, &head, withheld, fate))
            }
            Outcome::Complete(entry, bytes) if is_mine(&entry.meta) => {
                Next::Answer(self.give_complete(ask, &entry, &bytes, withheld, fate))
            }
            Outcome::Confirmed(entry) if is_mine(&entry.meta) => {
                let fate = fate.confirmed();
                or_again(self.give_stored(ask, &entry, fate, withheld).await)
            }
            Outcome::Refused(refusal) => {
                Next::Answer(self.stand_in_or_turn_down(ask, held, fate, &refusal).await)
            }
            Outcome::Relay => match hand {
                Some(hand) => self.take_handed(ask, held, fate, hand).await,
                None => Next::Again { alone: true },
            },
            Outcome::Arriving(_)
            | Outcome::Complete(..)
            | Outcome::Confirmed(_)
            | Outcome::Passed(_) => Next::Again { alone: false },
        }
    }

    /// Whether one who waited may have what another asked for, if that is an answer.
    fn may_have(&self, ask: &Ask, outcome: &Outcome) -> bool {
        let (meta, lifetime) = match outcome {
            Outcome::Arriving(head) => {
                let meta = &head.meta;
                (meta, self.lifetime(meta.status, &meta.headers))
            }
            Outcome::Complete(entry, _) | Outcome::Confirmed(entry) => {
                (&entry.meta, entry.lifetime)
            }
            Outcome::Passed(_) | Outcome::Refused(_) | Outcome::Relay => return true,
        };
        let age = self.clock.now().saturating_sub(meta.validated);
        let forbids_stale = || ResponseControl::of(&meta.headers).forbids_stale();
        may_share(&lifetime, age, forbids_stale, &ask.control)
    }

    /// The leader's own answer, which nobody else gets.
    async fn take_handed(self: &Arc<Self>, ask: &Ask, held: &Held, fate: Fate, hand: Hand) -> Next {
        let Handed { response, why } = match hand.await {
            Ok(Ok(handed)) => handed,
            Ok(Err(error)) => {
                let target = ask.asked.target.as_str();
                let refusal = Refusal::new(error.reason(), target, error.to_string());
                let refusal = refusal.hint(hint(error.reason()));
                return Next::Answer(self.stand_in_or_turn_down(ask, held, fate, &refusal).await);
            }
            Err(_) => return Next::Again { alone: true },
        };
        if is_failure(response.status) {
            let detail = Some(ORIGIN_FAILED);
            if let Some(answer) = self.substitute(ask, held, Trouble::Failing, detail).await {
                return Next::Answer(answer);
            }
        }
        let detail = fate.status.detail.or(Some(why.name()));
        let fate = Fate {
            status: CacheStatus {
                detail,
                ..fate.status
            },
            ..fate
        };
        if response.status.is_success() && !is_plain(ask.headers()) {
            // It was asked for as a whole, to be stored; the client wants something else of it.
            return Next::Through(fate);
        }
        self.metrics.relays.inc();
        Next::Answer(self.hand_on(ask, fate, response))
    }
}

fn or_again(answered: Result<Answer, Held>) -> Next {
    answered.map_or_else(|held| Next::Again { alone: held.alone }, Next::Answer)
}
