//! The way of one request through the cache of a plain HTTP mount.
//!
//! ```text
//! GET, HEAD ─▶ look up ─┬─ may be given (fresh, or stale and allowed) ─▶ answer
//!                       ├─ GET ──▶ share one exchange, wait for its first word ─▶ answer
//!                       └─ HEAD ─▶ pass through, and freshen what is stored
//! anything else ─▶ pass through, and invalidate what it may have changed
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::oneshot;

use super::directives::{RequestControl, ResponseControl};
use super::fields::pass_forward;
use super::fill::Fill;
use super::flight::{Flight, Hand, Handed, Joined};
use super::freshness::{Trouble, Verdict, covers, is_failure, judge};
use super::lookup::Found;
use super::reply::Told;
use super::validate::{is_for_the_origin, is_plain, select};
use super::vary::Selecting;
use crate::engine::Engine;
use crate::engine::answer::part;
use crate::engine::cache_status::{CacheStatus, Forward};
use crate::engine::growing::{FillHead, Follower, Growing, Outcome};
use crate::engine::metrics::Tier;
use crate::engine::reply::Fate;
use crate::engine::select::Selected;
use crate::engine::store::Damage;
use crate::engine::store::entry::{Entry, Meta};
use crate::exchange::{Answer, Body, Cached, HttpAsked};

/// How often one request starts over because what it was about to answer with was not for it.
const ATTEMPTS: usize = 5;

const ORIGIN_FAILED: &str = "origin-failed";

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

    fn headers(&self) -> &HeaderMap {
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
struct Held {
    /// The key that the answer is expected under.
    key: Arc<str>,
    /// An answer that may be confirmed, or stand in for a failure.
    stale: Option<Arc<Entry>>,
    forward: Forward,
    detail: Option<&'static str>,
    /// It waits for nobody, and nobody for it.
    alone: bool,
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

    fn useless(entry: &Entry, detail: &'static str) -> Self {
        Self {
            key: entry.key.clone(),
            stale: None,
            forward: Forward::Miss,
            detail: Some(detail),
            alone: true,
        }
    }

    fn fate(&self, cached: Cached, collapsed: bool) -> Fate {
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
enum Next {
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

    fn may_stand_in(&self, ask: &Ask, entry: &Entry, trouble: Trouble) -> bool {
        let age = entry.age(self.clock.now());
        let forbids_stale = || ResponseControl::of(&entry.meta.headers).forbids_stale();
        let (control, bounds) = (&ask.control, &self.config.http);
        covers(
            &entry.lifetime,
            age,
            forbids_stale,
            control,
            trouble,
            bounds,
        )
    }

    /// The answer with a stored body. What proves to be damaged is dropped.
    async fn give(
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

    async fn give_stored(
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
                Err(Damage::Unreadable(error)) => {
                    tracing::warn!(key = %entry.key, %error, "stored body can't be read now");
                    return Err(Held::useless(&entry, "unreadable"));
                }
                Err(Damage::Corrupt) => break,
                Err(Damage::Moved) => {
                    let now_at = Box::pin(self.look_up(&entry.key)).await;
                    match now_at.filter(|now_at| !Arc::ptr_eq(now_at, &entry)) {
                        Some(now_at) => entry = now_at,
                        None => break,
                    }
                }
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

    /// Joins the exchange that is running for the key, or begins one, and answers as it says.
    async fn take_part(self: &Arc<Self>, ask: &Ask, held: &Held) -> Next {
        let joined = self.fly(ask, &held.key, held.stale.as_ref(), held.alone);
        match joined {
            Flown::Instead(entry) => or_again(self.give(ask, &entry, Cached::Hit, None).await),
            Flown::Followed(flight) => {
                self.metrics.collapsed.inc();
                self.follow(ask, held, &flight, None).await
            }
            Flown::Led(flight, hand) => self.follow(ask, held, &flight, Some(hand)).await,
        }
    }

    /// Has a stale answer confirmed; nobody waits for it.
    fn revalidate(self: &Arc<Self>, ask: &Ask, entry: &Arc<Entry>) {
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
        let flight = if own || !flights.is_shared(&ask.key, self.clock.now()) {
            Arc::new(make())
        } else {
            match flights.join(key, || self.just_stored_for(ask, stale), make) {
                Joined::Instead(entry) => return Flown::Instead(entry),
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
            stale: stale.cloned(),
            hand: Some(hand),
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
        let withheld = match collapsed {
            true => HeaderMap::new(),
            false => flight.withheld.lock().clone(),
        };
        match outcome {
            Outcome::Arriving(head) if is_mine(&head.meta) => {
                Next::Answer(self.give_arriving(ask, flight, &head, withheld, fate))
            }
            Outcome::Complete(entry, bytes) if is_mine(&entry.meta) => {
                Next::Answer(self.give_complete(ask, &entry, &bytes, withheld, fate))
            }
            Outcome::Confirmed(entry) if is_mine(&entry.meta) => {
                let forward_status = Some(StatusCode::NOT_MODIFIED.as_u16());
                let status = CacheStatus {
                    forward_status,
                    ..fate.status
                };
                let fate = Fate {
                    cached: Cached::Revalidated,
                    status,
                };
                or_again(self.give_stored(ask, &entry, fate, withheld).await)
            }
            Outcome::Refused(refusal) => {
                let detail = Some(refusal.reason.name());
                let stand_in = self
                    .substitute(ask, held, Trouble::Unreachable, detail)
                    .await;
                Next::Answer(stand_in.unwrap_or_else(|| self.turn_down(ask, fate, &refusal)))
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

    /// The leader's own answer, which nobody else gets.
    async fn take_handed(self: &Arc<Self>, ask: &Ask, held: &Held, fate: Fate, hand: Hand) -> Next {
        let Ok(Handed { response, why }) = hand.await else {
            return Next::Again { alone: true };
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

    /// The stale answer in place of a failure, while it may be.
    async fn substitute(
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
    fn give_complete(
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
    fn give_arriving(
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

/// How a request takes part in an exchange.
enum Flown {
    /// It doesn't: there is an answer now.
    Instead(Arc<Entry>),
    Followed(Arc<Flight>),
    Led(Arc<Flight>, Hand),
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

fn or_again(answered: Result<Answer, Held>) -> Next {
    answered.map_or_else(|held| Next::Again { alone: held.alone }, Next::Answer)
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
