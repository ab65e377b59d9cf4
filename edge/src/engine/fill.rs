//! One fill: a task of its own that belongs to nobody. It asks the origin, reads at the origin's
//! pace, and ends by itself, whoever waits, reads or has left.
//!
//! ```text
//!   ask ─┬─ 304 ─────────▶ confirmed (times and headers renewed)
//!        ├─ 404, 410 ────▶ kept for a short while, in RAM
//!        ├─ other error ─▶ passed on
//!        ├─ no answer ───▶ refused
//!        └─ 200 ─▶ receive ─┬─ all there ─▶ verify ─▶ committed
//!                     ▲     ├─ wrong or too long ───▶ failed
//!                     │     └─ broken off ─▶ resume ─▶ failed, when the tries are used up
//!                     └────────────────────────┘ 206 from where it broke
//! ```
//! A body of at most [`PROMPT`] bytes is announced only when it is committed: what is wrong with it
//! becomes a clean error. Committed means: length and SHA-256 are what the origin announced, in a
//! header or (for a body that was growing there too) in a trailer; where it announces no digest,
//! the framing must have been complete.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL};
use http::{HeaderMap, StatusCode};

use modcdn_core::refusal::{Reason, Refusal};

use super::Engine;
use super::announced::{Announced, Blame, Failure, read_text};
use super::clock::{Millis, millis};
use super::failed::Failed;
use super::freshness::{CacheControl, Judgement};
use super::growing::{End, Growing, Outcome, Passed};
use super::intake::{Finished, Intake};
use super::memory::Held;
use super::purge::bans::Awaited;
use super::receive::{Reception, Source};
use super::settings::Settings;
use super::store::entry::{BodyHasher, Entry, Headers, Meta, Rules};
use super::store::{Arrival, Payload};
use crate::origin::{OriginError, OriginRequest, OriginResponse, Resume};

/// Bodies up to this length are answered only once they are committed.
pub(crate) const PROMPT: u64 = 64 * 1024;
/// A fill that has not begun.
pub(super) struct Fill {
    pub(super) engine: Arc<Engine>,
    pub(super) key: Arc<str>,
    pub(super) rules: Rules,
    /// The answer that is to be confirmed.
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) growing: Arc<Growing>,
    /// When it began, as purges count.
    pub(super) awaited: Awaited,
    /// As they were when it began.
    pub(super) settings: Arc<Settings>,
}

impl Fill {
    /// Runs to the end, which is the fill's name in the metrics.
    pub(super) async fn run(self) {
        let guard = Guard::new(&self);
        let end = match self.advance().await {
            Ok(end) => end,
            Err(failure) => self.fail(&failure),
        };
        self.engine.metrics.fill_ended(end);
        drop(guard);
    }

    async fn advance(&self) -> Result<&'static str, Failure> {
        let mut request = OriginRequest::get(&*self.key);
        request.if_none_match = self
            .stale
            .as_ref()
            .map(|e| e.object.validators().etag.clone());
        request.patient = !self.has_stand_in();
        let response = self.settings.origin.send(request).await?;
        self.compare_clocks(&response.headers);
        match (response.status, &self.stale) {
            (StatusCode::OK, _) => self.receive(response).await,
            (StatusCode::NOT_MODIFIED, Some(stale)) => self.confirm(stale, response.headers).await,
            (status, _) if status.as_u16() >= 400 => self.pass(response).await,
            (status, _) => {
                let text = format!("the origin answered {status} to a plain request");
                Err(Failure::new(Reason::OriginContent, text))
            }
        }
    }

    /// Whether there is a stale answer to give if the origin has none soon.
    fn has_stand_in(&self) -> bool {
        let now = self.engine.clock.now();
        let stale = self.stale.as_ref();
        stale.is_some_and(|stale| stale.lifetime.covers_failure(stale.age(now)))
    }

    fn compare_clocks(&self, headers: &HeaderMap) {
        let bound = millis(self.settings.config.freshness.clock_offset.get());
        let now = self.engine.clock.now();
        self.engine.origin_clock.compare(headers, now, bound);
    }

    /// 304: the stored answer is right.
    async fn confirm(
        &self,
        stale: &Arc<Entry>,
        headers: HeaderMap,
    ) -> Result<&'static str, Failure> {
        let now = self.validated(&headers);
        let merged = stale.meta.headers.merged(&Headers::keep(&headers));
        drop(headers);
        let (store, entry) = (self.engine.store.clone(), stale.clone());
        let epoch = self.awaited.epoch();
        let renewed = self
            .engine
            .storing(move || store.refresh(&entry, merged, now, epoch))
            .await?;
        self.engine.metrics.revalidated("confirmed");
        self.engine.forget_failure(&self.key);
        self.leave(Outcome::Confirmed(renewed));
        Ok("confirmed")
    }

    /// An error: kept for a while if it is a true "not found", else only passed on.
    async fn pass(&self, mut response: OriginResponse) -> Result<&'static str, Failure> {
        let body = read_text(response.body.as_mut()).await?;
        let meta = self.meta(&response);
        let control = CacheControl::parse(response.headers.get_all(CACHE_CONTROL));
        let negative = matches!(meta.status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let lives = self.engine.store.lifetime(&meta).judge(0) == Judgement::Fresh;
        if negative && lives && control.may_store() {
            let entry = self.keep(meta, body.clone()).await?;
            self.engine.forget_failure(&self.key);
            self.leave(Outcome::Complete(entry, body));
            return Ok("negative");
        }
        let failure = is_failure(meta.status);
        let passed = Arc::new(Passed {
            status: meta.status,
            headers: meta.headers,
            body,
        });
        if failure {
            self.rest();
            self.remember(Failed::Passed(passed.clone()));
        }
        self.leave(Outcome::Passed(passed));
        Ok("passed")
    }

    async fn keep(&self, meta: Meta, body: Bytes) -> Result<Arc<Entry>, Failure> {
        let mut hasher = BodyHasher::new();
        hasher.block(&body);
        let object = Arc::new(hasher.finish());
        let arrival = Arrival {
            key: self.key.clone(),
            meta,
            object,
            body: Payload::Ram(body),
        };
        let store = self.engine.store.clone();
        self.engine.storing(move || store.put(arrival)).await
    }

    /// 200: a body is arriving.
    async fn receive(&self, response: OriginResponse) -> Result<&'static str, Failure> {
        let mut announced = Announced::new(self.meta(&response), &response.headers);
        let reception = self.reception();
        reception.check_length(0, &announced)?;
        let Some(room) = self.room(&announced) else {
            self.leave(Outcome::Relay);
            return Ok("relayed");
        };
        let engine = &self.engine;
        let (growing, store) = (self.growing.clone(), engine.store.clone());
        let mut intake = Intake::new(growing, store, engine.memory.clone(), engine.fills.clone())
            .with_held(room.held());
        let body = response.body;
        let trailers = reception.receive(&mut announced, body, &mut intake).await?;
        self.commit(announced, intake, trailers.as_ref()).await
    }

    fn reception(&self) -> Reception<'_> {
        let config = &self.settings.config.fill;
        Reception {
            engine: &self.engine,
            config,
            source: self,
            growing: &self.growing,
            longest: config.body.as_u64(),
        }
    }

    /// Where the body can be while it grows; None: nowhere, or others may not have it. While the
    /// disk takes nothing, a long body needs room for all of it in RAM.
    fn room(&self, announced: &Announced) -> Option<Room> {
        let (meta, size) = (&announced.head.meta, announced.head.size);
        let control = CacheControl::parse(meta.headers.get_all(&CACHE_CONTROL));
        if !control.may_store() {
            return None;
        }
        let short = |size| size <= self.settings.config.ram_body();
        match size {
            Some(size) if !short(size) && !self.engine.store.is_admitting() => {
                self.engine.memory.hold(size).map(Room::Held)
            }
            _ => Some(Room::AsItComes),
        }
    }

    /// The body is all there: verify, store, let the last bytes go.
    async fn commit(
        &self,
        announced: Announced,
        intake: Intake,
        trailers: Option<&HeaderMap>,
    ) -> Result<&'static str, Failure> {
        let no_room = |reason| Failure::new(reason, "there is no room for the body's end");
        let ram_body = self.settings.config.ram_body();
        let finished = intake.finish(ram_body).await.map_err(no_room)?;
        announced.verify(finished.object.digest, trailers)?;
        let Finished {
            object,
            digests,
            payload,
            whole,
        } = finished;
        let spooled = matches!(payload, Payload::Spool(..));
        let mut meta = announced.head.meta.clone();
        meta.headers = meta.headers.with_trailers(trailers);
        let end = End::Committed {
            digest: object.digest,
            size: object.size,
        };
        let arrival = Arrival {
            key: self.key.clone(),
            meta,
            object,
            body: payload,
        };
        let store = self.engine.store.clone();
        let entry = self.engine.storing(move || store.put(arrival)).await?;
        match &whole {
            Some(whole) => self.growing.adopt(whole),
            // Who follows would have to read it.
            None if spooled && self.engine.store.is_readable() => self.growing.unload(&digests),
            None => {}
        }
        self.engine.forget_failure(&self.key);
        self.engine.fill_ended(&self.key, &self.growing);
        if let Some(whole) = whole {
            self.growing.announce(Outcome::Complete(entry, whole));
        }
        if self.stale.is_some() {
            self.engine.metrics.revalidated("replaced");
        }
        self.growing.finish(end);
        Ok("committed")
    }

    fn fail(&self, failure: &Failure) -> &'static str {
        let (key, reason, error) = (&self.key, failure.reason.name(), &failure.text);
        match failure.reason {
            // A dead origin is the access log's and the metrics' business, once a request.
            Reason::OriginUnreachable
            | Reason::OriginTimeout
            | Reason::OriginSuspended
            | Reason::Overloaded => {
                tracing::debug!(%key, reason, %error, "fill failed");
            }
            _ => tracing::warn!(%key, reason, %error, "fill failed"),
        }
        self.rest();
        let refusal = Refusal::new(failure.reason, self.asked(), failure.text.clone());
        let refusal = Arc::new(refusal.hint(hint(failure.reason)));
        if failure.blame == Blame::Object {
            self.remember(Failed::Refused(refusal.clone()));
        }
        self.leave(Outcome::Refused(refusal));
        self.growing.finish(End::Failed(failure.reason));
        failure.reason.name()
    }

    /// Says the last word. The fill leaves the running ones first, so that whoever heard it and
    /// asks again is not told the same by this fill.
    fn leave(&self, outcome: Outcome) {
        self.engine.fill_ended(&self.key, &self.growing);
        self.growing.announce(outcome);
    }

    /// After a failure the stale answer is given without asking again, for a while.
    fn rest(&self) {
        if let Some(stale) = &self.stale {
            self.engine.metrics.revalidated("failed");
            let pause = millis(self.settings.config.freshness.retry.get());
            stale.retry_at(self.engine.clock.now() + pause);
        }
    }

    /// Those who ask again at once are told the same, without the origin being asked.
    fn remember(&self, failed: Failed) {
        let now = self.engine.clock.now();
        self.engine.failed.lock().remember(&self.key, failed, now);
    }

    fn asked(&self) -> &str {
        self.key.trim_start_matches('/')
    }

    fn meta(&self, response: &OriginResponse) -> Meta {
        Meta {
            status: response.status,
            headers: Headers::keep(&response.headers),
            rules: self.rules,
            stored: self.engine.clock.now(),
            validated: self.validated(&response.headers),
            epoch: self.awaited.epoch(),
        }
    }

    /// When the answer was last known to be right: now, less the age it came with.
    fn validated(&self, headers: &HeaderMap) -> Millis {
        let age = headers
            .get(AGE)
            .and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
        self.engine
            .clock
            .now()
            .saturating_sub(age.unwrap_or(0).saturating_mul(1000))
    }
}

#[async_trait]
impl Source for Fill {
    async fn rest(&self, resume: Resume) -> Result<OriginResponse, OriginError> {
        let mut request = OriginRequest::get(&*self.key);
        request.resume = Some(resume);
        self.settings.origin.send(request).await
    }
}

/// Where a body is while it grows.
enum Room {
    /// In RAM as long as there is any, and on the disk.
    AsItComes,
    /// In RAM, which is set aside.
    Held(Held),
}

impl Room {
    fn held(self) -> Option<Held> {
        match self {
            Self::AsItComes => None,
            Self::Held(held) => Some(held),
        }
    }
}

/// Takes the fill out of the running ones at its end, also if it panics.
struct Guard {
    engine: Arc<Engine>,
    key: Arc<str>,
    growing: Arc<Growing>,
}

impl Guard {
    fn new(fill: &Fill) -> Self {
        fill.engine.metrics.fills_running.inc();
        let (engine, key) = (fill.engine.clone(), fill.key.clone());
        Self {
            engine,
            key,
            growing: fill.growing.clone(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.engine.metrics.fills_running.dec();
        self.engine.fill_ended(&self.key, &self.growing);
        self.growing.abandon(&self.key);
    }
}

/// A status that says "not now", for which a stale answer may stand in (RFC 5861 §4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// What a person can do about it.
pub(super) fn hint(reason: Reason) -> &'static str {
    match reason {
        Reason::OriginUnreachable | Reason::OriginTimeout | Reason::OriginBroken => {
            "try again; what this PoP has stored is served meanwhile"
        }
        Reason::DigestMismatch | Reason::OriginContent => {
            "nothing of it was stored; the origin's log says what it sent"
        }
        Reason::Overloaded | Reason::OriginSuspended => "try again in a moment",
        _ => "",
    }
}
