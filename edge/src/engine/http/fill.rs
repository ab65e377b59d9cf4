//! One exchange with a mount's origin for all who wait for it: a task of its own that belongs to
//! nobody.
//!
//! ```text
//!   ask ─┬─ 304 about what is stored ─▶ confirmed (fields merged, age counted anew)
//!        ├─ 304 about anything else ──▶ ask again, without conditions
//!        ├─ not for sharing ──────────▶ handed to the leader; the others ask for themselves
//!        ├─ no answer ────────────────▶ refused
//!        └─ to be stored ─▶ receive ─┬─ complete ─▶ committed
//!                                    └─ broken off for good, too long, another digest ─▶ failed
//! ```
//! A body that breaks off is continued as those of modules are, if it has a strong validator.
//! A body of at most [`PROMPT`] bytes is announced only when it is committed: what is wrong with it
//! becomes a clean error. A longer one that fails breaks every reader off.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{IF_RANGE, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::oneshot;

use super::age::{Exchange, born};
use super::directives::{RequestControl, ResponseControl};
use super::fields::{Fields, from_origin, http_date, length, via};
use super::flight::{Flight, Handed, Unsharing};
use super::freshness::{is_failure, lifetime, may_share};
use super::merge::{merged, withhold};
use super::storing::{Asking, Unstorable, may_store};
use super::validate::{confirms, has_validator, ours, to_continue};
use super::vary::Selecting;
use crate::engine::Engine;
use crate::engine::announced::{Announced, Failure};
use crate::engine::clock::{Millis, millis};
use crate::engine::failed::Failed;
#[cfg(doc)]
use crate::engine::fill::PROMPT;
use crate::engine::fill::hint;
use crate::engine::freshness::Lifetime;
use crate::engine::growing::{End, Outcome};
use crate::engine::intake::{Finished, Intake};
use crate::engine::receive::{Reception, Source};
use crate::engine::store::entry::{Entry, Headers, Meta, Rules};
use crate::engine::store::{Arrival, Payload};
use crate::origin::web::{WebOrigin, WebRequest, WebResponse};
use crate::origin::{OriginBody, OriginError, OriginResponse, Resume};

/// An exchange that has not begun.
pub(super) struct Fill {
    pub(super) engine: Arc<Engine>,
    pub(super) origin: Arc<dyn WebOrigin>,
    pub(super) target: PathAndQuery,
    /// The key under which the flight was begun.
    pub(super) key: Arc<str>,
    pub(super) flight: Arc<Flight>,
    /// What is sent, conditions apart.
    pub(super) upstream: HeaderMap,
    /// What is to be confirmed.
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) hand: Option<oneshot::Sender<Result<Handed, OriginError>>>,
    /// What comes is one client's, as far as is known.
    pub(super) relay: bool,
}

impl Fill {
    /// Runs to the end, which is the fill's name in the metrics.
    pub(super) async fn run(mut self) {
        let guard = Guard::new(&self);
        let end = match self.advance().await {
            Ok(end) => end,
            Err(failure) => self.fail(&failure),
        };
        self.engine.metrics.fill_ended(end);
        drop(guard);
    }

    async fn advance(&mut self) -> Result<&'static str, Failure> {
        let (exchange, response) = self.ask(self.stale.clone().as_deref()).await?;
        let (exchange, response) = match (response.status, self.stale.clone()) {
            (StatusCode::NOT_MODIFIED, Some(stale)) => {
                match self.renewed(&stale, exchange, &response) {
                    Some(fields) => {
                        let validated = born(&response.headers, exchange);
                        return self.confirm(&stale, validated, fields).await;
                    }
                    None => self.ask(None).await?,
                }
            }
            _ => (exchange, response),
        };
        if response.status == StatusCode::NOT_MODIFIED {
            let text = "the origin answered 304 to a request without conditions";
            return Err(Failure::new(Reason::OriginContent, text));
        }
        self.take(exchange, response).await
    }

    async fn ask(&self, stale: Option<&Entry>) -> Result<(Exchange, WebResponse), Failure> {
        let asked = self.engine.clock.now();
        let request = WebRequest {
            method: Method::GET,
            target: self.target.clone(),
            headers: ours(&self.upstream, stale.map(|stale| &stale.meta.headers)),
            upload: None,
            relay: self.relay,
        };
        let response = self.origin.send(request).await?;
        self.engine.http.failed.lock().forget(&self.key);
        let answered = self.engine.clock.now();
        Ok((Exchange { asked, answered }, response))
    }

    /// The stored answer's fields as a 304 has them (RFC 9111 §4.3.4). None: it is about another answer,
    /// or makes this one what may not be kept (§3), so that its fields can't be either.
    fn renewed(
        &self,
        stale: &Entry,
        exchange: Exchange,
        response: &WebResponse,
    ) -> Option<HeaderMap> {
        let held = &stale.meta.headers;
        if !has_validator(held) || !confirms(held, &response.headers) {
            return None;
        }
        let mut update = response.headers.clone();
        let date = http_date(exchange.answered / 1000);
        let via = self.engine.via(response.protocol);
        from_origin(&mut update, &date, &via);
        let merged = merged(held, &update);
        let may_be_kept = self
            .engine
            .may_store(&self.flight.request, stale.meta.status, &merged);
        may_be_kept.is_ok().then_some(merged)
    }

    /// 304: the stored answer is right. `merged`: its fields from now on.
    async fn confirm(
        &self,
        stale: &Arc<Entry>,
        validated: Millis,
        merged: HeaderMap,
    ) -> Result<&'static str, Failure> {
        self.note_sharing(&self.engine.lifetime(stale.meta.status, &merged), validated);
        let (kept, withheld) = withhold(&merged, &ResponseControl::of(&merged));
        *self.flight.withheld.lock() = withheld;
        let headers = Headers::all(&kept);
        let (engine, entry) = (self.engine.clone(), stale.clone());
        let epoch = self.flight.awaited.epoch();
        let renewed = self
            .engine
            .storing(move || engine.store.refresh(&entry, headers, validated, epoch))
            .await?;
        self.engine.metrics.revalidated("confirmed");
        self.leave(&self.key, Outcome::Confirmed(renewed));
        Ok("confirmed")
    }

    /// Any other answer: it is stored, or it is the leader's alone.
    async fn take(
        &mut self,
        exchange: Exchange,
        mut response: WebResponse,
    ) -> Result<&'static str, Failure> {
        let born = born(&response.headers, exchange);
        // Before a missing Date is filled in: by our clock it proves nothing.
        let validator = to_continue(response.status, &response.headers);
        let date = http_date(exchange.answered / 1000);
        let via = self.engine.via(response.protocol);
        from_origin(&mut response.headers, &date, &via);
        let control = ResponseControl::of(&response.headers);
        if let Err(why) = self.may_keep(&response) {
            return self.hand_over(response, why).await;
        }
        let selecting = Selecting::of(&response.headers);
        let (engine, flight) = (self.engine.clone(), self.flight.clone());
        let joinable = self.is_joinable();
        let key = self
            .engine
            .storing(move || engine.key_for(&flight, &selecting, joinable))
            .await?;
        self.note_sharing(
            &self.engine.lifetime(response.status, &response.headers),
            born,
        );
        let (kept, withheld) = withhold(&response.headers, &control);
        *self.flight.withheld.lock() = withheld;
        let meta = Meta {
            status: response.status,
            headers: Headers::all(&kept),
            rules: Rules::Http,
            stored: self.engine.clock.now(),
            validated: born,
            epoch: self.flight.awaited.epoch(),
        };
        let mut announced = Announced::new(meta, &response.headers);
        announced.validator = validator;
        self.receive(&key, announced, response.body).await
    }

    /// Whether others may have the answer, and whether there is room for it.
    fn may_keep(&self, response: &WebResponse) -> Result<(), Unstorable> {
        let (status, headers) = (response.status, &response.headers);
        let settings = self.engine.settings.load();
        let config = &settings.config.http;
        self.engine
            .may_store(&self.flight.request, status, headers)?;
        if is_failure(status) && self.stale.is_some() {
            // What we have is better, as long as it may stand in.
            return Err(Unstorable::Useless);
        }
        if !response.framed {
            return Err(Unstorable::Unframed);
        }
        let size = length(headers);
        let known_long = size.is_none() && self.is_known_long();
        if known_long || size.is_some_and(|size| size > config.body.as_u64()) {
            return Err(Unstorable::TooLong);
        }
        let fits = size.is_none_or(|size| size <= settings.config.ram_body());
        if fits || self.engine.store.is_admitting() {
            Ok(())
        } else {
            Err(Unstorable::TooLong)
        }
    }

    /// The answer goes to the leader, if that is still there; the others ask for themselves.
    async fn hand_over(
        &mut self,
        mut response: WebResponse,
        why: Unstorable,
    ) -> Result<&'static str, Failure> {
        if is_failure(response.status) {
            self.rest_if_covered();
        } else if why.is_of_the_resource() {
            let now = self.engine.clock.now();
            let (flights, why) = (&self.engine.http.flights, Unsharing::OneClients);
            flights.unshared(&self.flight.key, now, why);
            self.drop_stale().await?;
        }
        if let Some(hand) = self.hand.take() {
            let relayed = response.body.relay();
            // An error says that the leader has left: nobody wants it.
            let _ = hand.send(relayed.map(|()| Handed { response, why }));
        }
        self.leave(&self.key, Outcome::Relay);
        Ok("relayed")
    }

    /// Whether those who come now wait for each other at this URL: not where each use of the answer has
    /// to be confirmed, for none of them could have another's.
    fn note_sharing(&self, lifetime: &Lifetime, born: Millis) {
        let (flights, now) = (&self.engine.http.flights, self.engine.clock.now());
        let nobody = RequestControl::default();
        if may_share(lifetime, now.saturating_sub(born), || true, &nobody) {
            flights.shared(&self.flight.key);
        } else {
            flights.unshared(&self.flight.key, now, Unsharing::ToBeConfirmed);
        }
    }

    /// What is stored was answered otherwise, and what came can't take its place.
    async fn drop_stale(&self) -> Result<(), Failure> {
        let Some(stale) = self.stale.clone() else {
            return Ok(());
        };
        let store = self.engine.store.clone();
        self.engine.storing(move || store.remove(&stale.key)).await
    }

    async fn receive(
        &self,
        key: &Arc<str>,
        mut announced: Announced,
        body: Box<dyn OriginBody>,
    ) -> Result<&'static str, Failure> {
        let (engine, settings) = (&self.engine, self.engine.settings.load_full());
        let (growing, store) = (self.flight.growing.clone(), engine.store.clone());
        let mut intake = Intake::new(growing, store, engine.memory.clone(), engine.fills.clone());
        let reception = Reception {
            engine,
            config: &settings.config.fill,
            source: self,
            growing: &self.flight.growing,
            longest: settings.config.http.body.as_u64(),
        };
        // Trailers are not passed on, so none of them counts.
        if let Err(failure) = reception.receive(&mut announced, body, &mut intake).await {
            if intake.len() > reception.longest {
                self.note_too_long();
            }
            engine.http.flights.ended(&self.flight, &[key]);
            return Err(failure);
        }
        self.commit(key, &announced, intake).await
    }

    /// A body of unknown length that proved too long is given up, and passed through next time.
    fn note_too_long(&self) {
        let now = self.engine.clock.now();
        let flights = &self.engine.http.flights;
        flights.unshared(&self.flight.key, now, Unsharing::TooLong);
    }

    /// The body is all there: compare it with its digest, if it came with one, and store it.
    async fn commit(
        &self,
        key: &Arc<str>,
        announced: &Announced,
        intake: Intake,
    ) -> Result<&'static str, Failure> {
        let ram_body = self.engine.settings.load().config.ram_body();
        let finished = intake.finish(ram_body).await;
        let finished =
            finished.map_err(|reason| Failure::new(reason, "there is no room for its end"))?;
        let Finished {
            object,
            digests,
            payload,
            whole,
        } = finished;
        if announced.head.meta.status == StatusCode::OK {
            announced.verify(object.digest, None)?;
        }
        let end = End::Committed {
            digest: object.digest,
            size: object.size,
        };
        let spooled = matches!(payload, Payload::Spool(..));
        let meta = announced.head.meta.clone();
        let (engine, flight, key_of_it) = (self.engine.clone(), self.flight.clone(), key.clone());
        let entry = self
            .engine
            .storing(move || {
                let body = if flight.is_void() {
                    Payload::Nowhere
                } else {
                    payload
                };
                let key = key_of_it.clone();
                let entry = engine.store.put(Arrival {
                    key,
                    meta,
                    object,
                    body,
                });
                if flight.is_void() {
                    engine.store.remove(&key_of_it);
                }
                entry
            })
            .await?;
        match &whole {
            Some(whole) => self.flight.growing.adopt(whole),
            None if spooled && !self.flight.is_void() && self.engine.store.is_readable() => {
                self.flight.growing.unload(&digests);
            }
            None => {}
        }
        self.engine.http.flights.ended(&self.flight, &[key]);
        if let Some(whole) = whole {
            self.leave(&self.key, Outcome::Complete(entry, whole));
        }
        if self.stale.is_some() {
            self.engine.metrics.revalidated("replaced");
        }
        self.flight.growing.finish(end);
        Ok("committed")
    }

    fn fail(&self, failure: &Failure) -> &'static str {
        let (reason, error) = (failure.reason, &failure.text);
        tracing::debug!(target = %self.target, reason = reason.name(), %error, "fill failed");
        self.rest();
        let refusal = Refusal::new(reason, self.target.as_str(), failure.text.clone());
        let refusal = Arc::new(refusal.hint(hint(reason)));
        // Without an answer only: one that the origin gave says itself how long it is good for.
        if self.is_joinable() && is_of_the_line(reason) {
            let (failed, now) = (Failed::Refused(refusal.clone()), self.engine.clock.now());
            let mut memory = self.engine.http.failed.lock();
            memory.remember(&self.key, failed, now);
        }
        self.leave(&self.key, Outcome::Refused(refusal));
        self.flight.growing.finish(End::Failed(reason));
        reason.name()
    }

    /// Says the last word. The flight leaves the running ones first, so that whoever heard it and
    /// asks again is not told the same by it.
    fn leave(&self, key: &Arc<str>, outcome: Outcome) {
        self.engine.http.flights.ended(&self.flight, &[key]);
        self.flight.growing.announce(outcome);
    }

    /// After a 5xx that, if the origin allows it.
    fn rest_if_covered(&self) {
        let now = self.engine.clock.now();
        let covers = |stale: &Arc<Entry>| stale.lifetime.covers_failure(stale.age(now));
        if self.stale.as_ref().is_some_and(covers) {
            self.rest();
        }
    }

    /// After a failure the stale answer is given without asking again, for a while.
    fn rest(&self) {
        if let Some(stale) = &self.stale {
            self.engine.metrics.revalidated("failed");
            let pause = millis(self.engine.settings.load().config.http.retry.get());
            stale.retry_at(self.engine.clock.now() + pause);
        }
    }

    fn is_known_long(&self) -> bool {
        self.engine
            .http
            .flights
            .is_long(&self.flight.key, self.engine.clock.now())
    }

    /// Whether others find the flight under its key.
    fn is_joinable(&self) -> bool {
        self.engine.http.flights.has(&self.key, &self.flight)
    }
}

impl Engine {
    /// Whether the answer to a `GET` may be stored by its header alone.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_store(
        &self,
        request: &HeaderMap,
        status: StatusCode,
        response: &HeaderMap,
    ) -> Result<(), Unstorable> {
        let asking = Asking::of(request, &RequestControl::of(request));
        let control = ResponseControl::of(response);
        let lifetime = self.lifetime(status, response);
        may_store(asking, status, response, &control, &lifetime)
    }

    /// How long it may be used.
    pub(super) fn lifetime(&self, status: StatusCode, response: &impl Fields) -> Lifetime {
        let bounds = &self.settings.load().config.http;
        lifetime(status, response, &ResponseControl::of(response), bounds)
    }

    /// Our member of `Via` for a message that came by `protocol` (RFC 9110 §7.6.3).
    pub(super) fn via(&self, protocol: &str) -> HeaderValue {
        via(protocol, &self.settings.load().config.name)
    }
}

#[async_trait]
impl Source for Fill {
    async fn rest(&self, resume: Resume) -> Result<OriginResponse, OriginError> {
        let mut headers = ours(&self.upstream, None::<&Headers>);
        headers.insert(RANGE, resume.range());
        headers.insert(IF_RANGE, resume.if_range);
        let request = WebRequest {
            method: Method::GET,
            target: self.target.clone(),
            headers,
            upload: None,
            relay: false,
        };
        let response = self.origin.send(request).await?;
        Ok(OriginResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
        })
    }
}

/// The line broke, or there was none: nothing was answered, or not all of it.
fn is_of_the_line(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::OriginUnreachable | Reason::OriginTimeout | Reason::OriginBroken
    )
}

/// Ends the flight at its fill's end, also if that panics.
struct Guard {
    engine: Arc<Engine>,
    key: Arc<str>,
    flight: Arc<Flight>,
}

impl Guard {
    fn new(fill: &Fill) -> Self {
        fill.engine.metrics.fills_running.inc();
        Self {
            engine: fill.engine.clone(),
            key: fill.key.clone(),
            flight: fill.flight.clone(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.engine.metrics.fills_running.dec();
        self.engine.http.flights.ended(&self.flight, &[&self.key]);
        self.flight.growing.abandon(&self.flight.key);
    }
}
