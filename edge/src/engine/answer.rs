//! The way of one request through the cache.
//!
//! ```text
//! look up ─┬─ fresh ───────────────────────────────────────▶ answer (hit)
//!          ├─ stale, may be given at once ─▶ background fill, answer (stale)
//!          ├─ stale, to be confirmed ─┐
//!          └─ absent or damaged ──────┴▶ join or begin the key's fill, wait for its first word
//! ```
//! A failure while a stale answer is in its stale-if-error window is answered with that.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use modcdn_core::goproxy::Request;
use modcdn_core::refusal::{Reason, Refusal};

use super::cache_status::{CacheStatus, Forward};
use super::disk_body::DiskBody;
use super::failed::Failed;
use super::fill::{hint, is_failure};
use super::freshness::Judgement;
use super::growing::{End, FillHead, Follower, Growing, Outcome, Passed};
use super::metrics::Tier;
use super::reply::{Described, Fate, whole};
use super::select::{Selected, not_modified, select, select_early};
use super::store::entry::{Entry, Validators};
use super::store::{Damage, Look};
use super::{Engine, Joined};
use crate::exchange::{Answer, Answering, Asked, Body, Cached};

/// How often one request starts over because what it was about to answer with was gone.
const ATTEMPTS: usize = 4;

/// What the look-up found, for a request that has to go forward.
struct Held {
    /// An answer that may be confirmed, or stand in for a failure.
    stale: Option<Arc<Entry>>,
    /// An answer that must not be used.
    avoid: Option<Arc<Entry>>,
    forward: Forward,
    detail: Option<&'static str>,
}

impl Held {
    const NOTHING: Self = Self {
        stale: None,
        avoid: None,
        forward: Forward::UriMiss,
        detail: None,
    };

    fn stale(entry: Arc<Entry>) -> Self {
        Self {
            stale: Some(entry),
            forward: Forward::Stale,
            ..Self::NOTHING
        }
    }

    fn useless(entry: Arc<Entry>, detail: &'static str) -> Self {
        let (avoid, detail) = (Some(entry), Some(detail));
        Self {
            stale: None,
            avoid,
            forward: Forward::Miss,
            detail,
        }
    }

    fn fate(&self, cached: Cached, collapsed: bool) -> Fate {
        let (forward, detail) = (Some(self.forward), self.detail);
        Fate {
            cached,
            status: CacheStatus {
                forward,
                collapsed,
                detail,
                ..CacheStatus::default()
            },
        }
    }
}

/// What to do once the fill has said its first word.
enum Next {
    Answer(Answer),
    Relay(Fate),
    Again(Held),
}

impl Engine {
    /// Answers one request: at once if the answer is fresh and in RAM. Every wait in here is bounded by
    /// the origin client's limits.
    ///
    /// Dropping the future stops nothing but this answer: a fill that it began goes on.
    pub fn answer(self: &Arc<Self>, asked: Asked) -> Answering {
        let look = self.store.look(&asked.path);
        if let Look::Warm(entry) = &look
            && let Some(answer) = self.answer_from_ram(&asked, entry)
        {
            return Answering::Now(answer);
        }
        let engine = self.clone();
        Answering::Later(Box::pin(async move {
            let path = asked.path.as_str().into();
            engine.answer_later(asked, path, look).await
        }))
    }

    /// The answer, if nothing has to be waited for.
    fn answer_from_ram(&self, asked: &Asked, entry: &Arc<Entry>) -> Option<Answer> {
        if self.judge(entry) != Judgement::Fresh {
            return None;
        }
        let described = Described::entry(entry, Some(entry.age(self.clock.now())));
        let selected = self.select(asked, &described);
        let fate = self.hit(entry, Cached::Hit, None);
        let Some((start, end)) = span(asked, selected, entry.object.size) else {
            self.metrics.hit(Tier::Head);
            return Some(self.reply(asked, fate, &described, selected, None));
        };
        let bytes = self.store.in_ram(entry)?;
        self.metrics.hit(self.store.ram_tier(entry));
        let body = in_ram(part(&bytes, start, end));
        Some(self.reply(asked, fate, &described, selected, Some(body)))
    }

    async fn answer_later(self: &Arc<Self>, asked: Asked, path: Arc<str>, look: Look) -> Answer {
        let held = match self.looked_up(&path, look).await {
            None => Held::NOTHING,
            Some(entry) => match self.answer_held(&asked, entry).await {
                Ok(answer) => return answer,
                Err(held) => held,
            },
        };
        self.metrics.misses.inc();
        if asked.no_fetch {
            let held = Held {
                forward: Forward::Bypass,
                ..held
            };
            let fate = held.fate(Cached::Bypass, false);
            return self.relay(asked, fate).await;
        }
        self.go_forward(asked, path, held).await
    }

    /// Answers from the store, if that may be done without asking the origin first.
    async fn answer_held(
        self: &Arc<Self>,
        asked: &Asked,
        entry: Arc<Entry>,
    ) -> Result<Answer, Held> {
        let now = self.clock.now();
        let (cached, detail) = match self.judge(&entry) {
            Judgement::Fresh => (Cached::Hit, None),
            _ if asked.no_fetch => return Err(Held::stale(entry)),
            Judgement::StaleWhileRevalidate if entry.rests(now) => (Cached::Stale, ORIGIN_FAILED),
            Judgement::StaleWhileRevalidate => {
                self.join(&asked.request, &entry.key, Some(&entry), None);
                (Cached::Stale, Some("revalidating"))
            }
            Judgement::StaleIfError if entry.rests(now) => (Cached::Stale, ORIGIN_FAILED),
            // There is nothing to confirm in a "not found".
            Judgement::Expired if entry.meta.status != StatusCode::OK => {
                return Err(Held::useless(entry, "expired"));
            }
            Judgement::StaleIfError | Judgement::Expired => return Err(Held::stale(entry)),
        };
        self.answer_stored(asked, &entry, self.hit(&entry, cached, detail))
            .await
    }

    fn hit(&self, entry: &Entry, cached: Cached, detail: Option<&'static str>) -> Fate {
        let mut ttl = entry.lifetime.ttl(entry.age(self.clock.now()));
        if self.store.is_stale(entry) {
            ttl = ttl.min(0);
        }
        let ttl = Some(ttl);
        Fate {
            cached,
            status: CacheStatus {
                ttl,
                detail,
                ..CacheStatus::default()
            },
        }
    }

    /// The answer with a stored body. What proves to be damaged is dropped.
    async fn answer_stored(
        self: &Arc<Self>,
        asked: &Asked,
        entry: &Arc<Entry>,
        fate: Fate,
    ) -> Result<Answer, Held> {
        let mut entry = entry.clone();
        for _ in 0..ATTEMPTS {
            match self.try_store(asked, &entry, fate).await {
                Ok(answer) => {
                    if fate.cached == Cached::Stale {
                        self.metrics.stale_served.inc();
                    }
                    return Ok(answer);
                }
                Err(damage) => match Box::pin(self.instead(&entry, damage)).await {
                    Ok(other) => entry = other,
                    Err(detail) => return Err(Held::useless(entry, detail)),
                },
            }
        }
        Box::pin(self.condemn(&entry)).await;
        Err(Held::useless(entry, "damaged"))
    }

    async fn try_store(
        self: &Arc<Self>,
        asked: &Asked,
        entry: &Arc<Entry>,
        fate: Fate,
    ) -> Result<Answer, Damage> {
        let described = Described::entry(entry, Some(entry.age(self.clock.now())));
        let selected = self.select(asked, &described);
        let Some((start, end)) = span(asked, selected, entry.object.size) else {
            self.metrics.hit(Tier::Head);
            return Ok(self.reply(asked, fate, &described, selected, None));
        };
        let request = Some(&asked.request);
        let body = self.stored_body(request, entry, start, end).await?;
        Ok(self.reply(asked, fate, &described, selected, Some(body)))
    }

    /// The bytes `start..end` of a stored body; `request` fetches it anew if it is damaged.
    pub(super) async fn stored_body(
        self: &Arc<Self>,
        request: Option<&Request>,
        entry: &Arc<Entry>,
        start: u64,
        end: u64,
    ) -> Result<Body, Damage> {
        if let Some(bytes) = self.store.in_ram(entry) {
            self.metrics.hit(self.store.ram_tier(entry));
            return Ok(in_ram(part(&bytes, start, end)));
        }
        let body = if self.store.loads(entry) {
            let loaded = Box::pin(self.load(entry)).await?;
            in_ram(part(&loaded, start, end))
        } else {
            let body = Box::pin(DiskBody::open(self, request, entry, start, end)).await?;
            Body::Stream(Box::new(body))
        };
        self.metrics.hit(Tier::Disk);
        Ok(body)
    }

    /// Loads a body into RAM; those who come meanwhile wait for the one who began.
    async fn load(&self, entry: &Arc<Entry>) -> Result<Bytes, Damage> {
        let _alone = entry.object.loading.lock().await;
        if let Some(bytes) = self.store.in_ram(entry) {
            return Ok(bytes);
        }
        let (store, entry) = (self.store.clone(), entry.clone());
        self.blocking(move || store.load(&entry)).await
    }

    /// Joins the key's fill and answers as it says.
    async fn go_forward(self: &Arc<Self>, asked: Asked, key: Arc<str>, mut held: Held) -> Answer {
        for _ in 0..ATTEMPTS {
            match self.try_forward(&asked, &key, held).await {
                Next::Answer(answer) => return answer,
                Next::Relay(fate) => return self.relay(asked, fate).await,
                Next::Again(found) => held = found,
            }
        }
        let text = "what was stored could not be read, again and again";
        let refusal = Refusal::new(Reason::Store, key.trim_start_matches('/'), text);
        self.refuse(&asked, Held::NOTHING.fate(Cached::Miss, false), &refusal)
    }

    async fn try_forward(self: &Arc<Self>, asked: &Asked, key: &Arc<str>, held: Held) -> Next {
        let (stale, avoid) = (held.stale.as_ref(), held.avoid.as_ref());
        let (growing, collapsed) = match self.join(&asked.request, key, stale, avoid) {
            Joined::Fill { growing, collapsed } => (growing, collapsed),
            Joined::Stored(entry) => {
                let fate = self.hit(&entry, Cached::Hit, None);
                return or_again(self.answer_stored(asked, &entry, fate).await);
            }
            Joined::Failed(failed) => {
                return Next::Answer(self.answer_failed(asked, &held, &failed).await);
            }
        };
        let fate = held.fate(Cached::Miss, collapsed);
        match growing.outcome().await {
            Outcome::Relay => Next::Relay(fate),
            Outcome::Arriving(head) => {
                self.answer_growing(asked, &growing, &head, &held, fate)
                    .await
            }
            Outcome::Complete(entry, bytes) => self.answer_complete(asked, &entry, &bytes, fate),
            Outcome::Confirmed(entry) => {
                let fate = fate.confirmed();
                or_again(self.answer_stored(asked, &entry, fate).await)
            }
            Outcome::Passed(passed) => {
                Next::Answer(self.stand_in_or_pass(asked, &held, fate, &passed).await)
            }
            Outcome::Refused(refusal) => {
                Next::Answer(self.stand_in_or_refuse(asked, &held, fate, &refusal).await)
            }
        }
    }

    /// The stale answer in place of a failure, while it may be (RFC 5861 §4).
    async fn stand_in(
        self: &Arc<Self>,
        asked: &Asked,
        held: &Held,
        detail: Option<&'static str>,
    ) -> Option<Answer> {
        let entry = held.stale.as_ref()?;
        if !entry.lifetime.covers_failure(entry.age(self.clock.now())) {
            return None;
        }
        self.answer_stored(asked, entry, self.hit(entry, Cached::Stale, detail))
            .await
            .ok()
    }

    /// What was said a moment ago, when the key's fill failed.
    async fn answer_failed(
        self: &Arc<Self>,
        asked: &Asked,
        held: &Held,
        failed: &Failed,
    ) -> Answer {
        let mut fate = held.fate(Cached::Miss, false);
        fate.status.detail = Some("failed-recently");
        match failed {
            Failed::Passed(passed) => self.stand_in_or_pass(asked, held, fate, passed).await,
            Failed::Refused(refusal) => self.stand_in_or_refuse(asked, held, fate, refusal).await,
        }
    }

    async fn stand_in_or_pass(
        self: &Arc<Self>,
        asked: &Asked,
        held: &Held,
        fate: Fate,
        passed: &Passed,
    ) -> Answer {
        let stand_in = if is_failure(passed.status) {
            self.stand_in(asked, held, ORIGIN_FAILED).await
        } else {
            None
        };
        stand_in.unwrap_or_else(|| self.pass_on(asked, fate, passed))
    }

    async fn stand_in_or_refuse(
        self: &Arc<Self>,
        asked: &Asked,
        held: &Held,
        fate: Fate,
        refusal: &Refusal,
    ) -> Answer {
        let stand_in = self
            .stand_in(asked, held, Some(refusal.reason.name()))
            .await;
        stand_in.unwrap_or_else(|| self.refuse(asked, fate, refusal))
    }

    /// Answers with a body that has just come, short and complete.
    fn answer_complete(
        &self,
        asked: &Asked,
        entry: &Arc<Entry>,
        bytes: &Bytes,
        fate: Fate,
    ) -> Next {
        let described = Described::entry(entry, None);
        let selected = self.select(asked, &described);
        let span = span(asked, selected, entry.object.size);
        let body = span.map(|(start, end)| whole(asked, part(bytes, start, end)));
        let status = CacheStatus {
            stored: self.store.holds(entry),
            ..fate.status
        };
        let fate = Fate { status, ..fate };
        Next::Answer(self.reply(asked, fate, &described, selected, body))
    }

    /// Answers with a body that is arriving.
    async fn answer_growing(
        self: &Arc<Self>,
        asked: &Asked,
        growing: &Arc<Growing>,
        head: &FillHead,
        held: &Held,
        fate: Fate,
    ) -> Next {
        let (mut size, mut digest) = (head.size, head.digest);
        let early = size.is_none().then(|| select_early(asked)).flatten();
        if size.is_none() && asked.range.is_some() && !asked.head {
            match reached(growing, early).await {
                None => {}
                Some(End::Committed {
                    digest: known,
                    size: len,
                }) => (size, digest) = (Some(len), Some(known)),
                Some(End::Failed(reason)) => {
                    let asked_for = asked.path.trim_start_matches('/');
                    let text = "the body broke off and could not be continued";
                    let refusal = Refusal::new(reason, asked_for, text);
                    let refusal = refusal.hint(hint(reason));
                    let answer = self.stand_in_or_refuse(asked, held, fate, &refusal).await;
                    return Next::Answer(answer);
                }
            }
        }
        let validators = digest.as_ref().map(Validators::of);
        let described = Described::arriving(head, validators.as_ref(), size);
        let selected = match early {
            Some(part) if size.is_none() => part,
            _ => self.select(asked, &described),
        };
        let follow = |start, end| {
            let follower = Follower::new(growing.clone(), start, end, self.fills.clone());
            Body::Stream(Box::new(follower))
        };
        let body = match selected {
            Selected::Full => Some(follow(0, size)),
            Selected::Part { start, end } => Some(follow(start, Some(end))),
            Selected::NotModified | Selected::Unsatisfiable => None,
        };
        let status = CacheStatus {
            stored: self.store.is_admitting(),
            ..fate.status
        };
        let fate = Fate { status, ..fate };
        Next::Answer(self.reply(asked, fate, &described, selected, body))
    }

    /// Which part answers: always all of what isn't a 200.
    fn select(&self, asked: &Asked, described: &Described<'_>) -> Selected {
        let etag: Option<&HeaderValue> = described.validators.map(|validators| &validators.etag);
        match described.size {
            _ if described.meta.status != StatusCode::OK => Selected::Full,
            Some(size) => select(asked, etag, size),
            None if not_modified(asked, etag) => Selected::NotModified,
            None => Selected::Full,
        }
    }
}

const ORIGIN_FAILED: Option<&str> = Some("origin-failed");

/// Waits until a range of a body of unknown length can be answered: until the part is there, which
/// is None, or else for the body's end.
async fn reached(growing: &Growing, part: Option<Selected>) -> Option<End> {
    match part {
        Some(Selected::Part { end, .. }) => growing.reaches(end).await,
        _ => Some(growing.end().await),
    }
}

fn or_again(answered: Result<Answer, Held>) -> Next {
    answered.map_or_else(Next::Again, Next::Answer)
}

/// The bytes that are due; None: no body is.
fn span(asked: &Asked, selected: Selected, size: u64) -> Option<(u64, u64)> {
    match selected {
        _ if asked.head => None,
        Selected::Full => Some((0, size)),
        Selected::Part { start, end } => Some((start, end)),
        Selected::NotModified | Selected::Unsatisfiable => None,
    }
}

fn in_ram(bytes: Bytes) -> Body {
    if bytes.is_empty() {
        Body::Empty
    } else {
        Body::Whole(bytes)
    }
}

pub(super) fn part(bytes: &Bytes, start: u64, end: u64) -> Bytes {
    let at = |offset: u64| {
        usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    bytes.slice(at(start)..at(end))
}
