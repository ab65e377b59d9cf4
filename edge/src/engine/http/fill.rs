//! One exchange with a mount's origin for all who wait for it: a task of its own that belongs to
//! nobody.
//!
//! ```text
//!   ask ─┬─ 304 about what is stored ─▶ confirmed (fields merged, age counted anew)
//!        ├─ 304 about anything else ──▶ ask again, without conditions
//!        ├─ not for sharing ──────────▶ handed to the leader; the others ask for themselves
//!        ├─ no answer ────────────────▶ refused
//!        └─ to be stored ─▶ receive ─┬─ complete ─▶ committed
//!                                    └─ broken off, too long, another digest ─▶ failed
//! ```
//! A body of at most [`PROMPT`] bytes is announced only when it is committed: what is wrong with it
//! becomes a clean error. A longer one that fails breaks every reader off.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::poll;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::oneshot;

use super::age::{Exchange, born};
use super::directives::{RequestControl, ResponseControl};
use super::fields::{from_origin, http_date, length};
use super::flight::{Flight, Handed};
use super::freshness::{is_failure, lifetime};
use super::merge::{merged, withhold};
use super::storing::{Asking, Unstorable, may_store};
use super::validate::{confirms, has_validator, ours};
use super::vary::Selecting;
use crate::engine::Engine;
use crate::engine::announced::{Announced, Failure};
use crate::engine::clock::millis;
use crate::engine::fill::{PROMPT, hint};
use crate::engine::growing::{End, Outcome};
use crate::engine::intake::{Finished, Intake};
use crate::engine::store::entry::{Entry, Headers, Meta, Rules};
use crate::engine::store::{Arrival, Payload};
use crate::origin::web::{WebOrigin, WebRequest, WebResponse};
use crate::origin::{OriginBody, OriginError};

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
    pub(super) hand: Option<oneshot::Sender<Handed>>,
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
            (StatusCode::NOT_MODIFIED, Some(stale))
                if has_validator(&stale.meta.headers)
                    && confirms(&stale.meta.headers, &response.headers) =>
            {
                return self.confirm(&stale, exchange, response.headers).await;
            }
            (StatusCode::NOT_MODIFIED, Some(_)) => self.ask(None).await?,
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
        };
        let response = self.origin.send(request).await?;
        let answered = self.engine.clock.now();
        Ok((Exchange { asked, answered }, response))
    }

    /// 304: the stored answer is right (RFC 9111 §4.3.4).
    async fn confirm(
        &self,
        stale: &Arc<Entry>,
        exchange: Exchange,
        mut update: HeaderMap,
    ) -> Result<&'static str, Failure> {
        let validated = born(&update, exchange);
        let (date, via) = (http_date(exchange.answered / 1000), self.engine.via());
        from_origin(&mut update, &date, &via);
        let merged = merged(&stale.meta.headers, &update);
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
        let (date, via) = (http_date(exchange.answered / 1000), self.engine.via());
        from_origin(&mut response.headers, &date, &via);
        let control = ResponseControl::of(&response.headers);
        if let Err(why) = self.may_keep(&response, &control) {
            return self.hand_over(response, why).await;
        }
        let selecting = Selecting::of(&response.headers);
        let (engine, flight) = (self.engine.clone(), self.flight.clone());
        let joinable = self.is_joinable();
        let key = self
            .engine
            .storing(move || engine.key_for(&flight, &selecting, joinable))
            .await?;
        self.engine.http.flights.shared(&self.flight.key);
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
        let announced = Announced::new(meta, &response.headers);
        self.receive(&key, &announced, response.body.as_mut()).await
    }

    /// Whether others may have the answer, and whether there is room for it.
    fn may_keep(
        &self,
        response: &WebResponse,
        control: &ResponseControl,
    ) -> Result<(), Unstorable> {
        let (status, headers) = (response.status, &response.headers);
        let settings = self.engine.settings.load();
        let config = &settings.config.http;
        let request = &self.flight.request;
        let asking = Asking::of(request, &RequestControl::of(request));
        let lifetime = lifetime(status, headers, control, config);
        may_store(asking, status, headers, control, &lifetime)?;
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
        let fits = size.is_none_or(|size| size <= self.engine.settings.load().config.ram_body());
        if fits || self.engine.store.is_admitting() {
            Ok(())
        } else {
            Err(Unstorable::TooLong)
        }
    }

    /// The answer goes to the leader, if that is still there; the others ask for themselves.
    async fn hand_over(
        &mut self,
        response: WebResponse,
        why: Unstorable,
    ) -> Result<&'static str, Failure> {
        if is_failure(response.status) {
            self.rest_if_covered();
        } else if why.is_of_the_resource() {
            let now = self.engine.clock.now();
            self.engine
                .http
                .flights
                .unshared(&self.flight.key, now, false);
            self.drop_stale().await?;
        }
        if let Some(hand) = self.hand.take() {
            // The leader has left: nobody wants it.
            let _ = hand.send(Handed { response, why });
        }
        self.leave(&self.key, Outcome::Relay);
        Ok("relayed")
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
        announced: &Announced,
        body: &mut dyn OriginBody,
    ) -> Result<&'static str, Failure> {
        let engine = &self.engine;
        let (growing, store) = (self.flight.growing.clone(), engine.store.clone());
        let mut intake = Intake::new(growing, store, engine.memory.clone(), engine.fills.clone());
        self.announce_if_long(announced, announced.head.size.unwrap_or(0));
        let drained = self.drain(body, &mut intake, announced).await;
        if let Err(failure) = drained {
            engine.http.flights.ended(&self.flight, &[key]);
            return Err(failure);
        }
        self.commit(key, announced, intake).await
    }

    /// Reads to the end of the body.
    async fn drain(
        &self,
        body: &mut dyn OriginBody,
        intake: &mut Intake,
        announced: &Announced,
    ) -> Result<(), Failure> {
        let size = announced.head.size;
        while let Some(piece) = self.next(body).await? {
            self.engine.metrics.fill_bytes.inc_by(piece.len() as u64);
            let taken = intake.take(piece).await;
            taken.map_err(|reason| Failure::new(reason, "there is no room for the body"))?;
            self.announce_if_long(announced, intake.len());
            self.check_length(intake.len())?;
        }
        if size.is_some_and(|size| size != intake.len()) {
            let text = format!("the origin broke off after {} bytes", intake.len());
            return Err(Failure::new(Reason::OriginBroken, text));
        }
        Ok(())
    }

    /// The next piece. Followers are woken when the origin makes us wait, not for every piece.
    async fn next(&self, body: &mut dyn OriginBody) -> Result<Option<Bytes>, OriginError> {
        let mut next = body.next();
        match poll!(&mut next) {
            Poll::Ready(piece) => {
                self.flight.growing.publish_if_behind();
                piece
            }
            Poll::Pending => {
                self.flight.growing.publish();
                next.await
            }
        }
    }

    /// A body of unknown length that proves too long is given up, and passed through next time.
    fn check_length(&self, len: u64) -> Result<(), Failure> {
        let most = self.engine.settings.load().config.http.body.as_u64();
        if len <= most {
            return Ok(());
        }
        let now = self.engine.clock.now();
        self.engine
            .http
            .flights
            .unshared(&self.flight.key, now, true);
        let text = format!("the body is longer than {most} bytes, the configured limit");
        Err(Failure::new(Reason::OriginContent, text))
    }

    fn announce_if_long(&self, announced: &Announced, len: u64) {
        if len > PROMPT && !self.flight.growing.is_announced() {
            let head = announced.head.clone();
            self.flight.growing.announce(Outcome::Arriving(head));
        }
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
        let refusal = refusal.hint(hint(reason));
        self.leave(&self.key, Outcome::Refused(Arc::new(refusal)));
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
    /// Our member of `Via` (RFC 9110 §7.6.3).
    pub(super) fn via(&self) -> HeaderValue {
        let is_token = |c: &char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(*c);
        let settings = self.settings.load();
        let name = settings
            .config
            .name
            .chars()
            .filter(is_token)
            .collect::<String>();
        let name = if name.is_empty() { "edge" } else { &name };
        HeaderValue::try_from(format!("1.1 {name}"))
            .unwrap_or_else(|_| HeaderValue::from_static("1.1 edge"))
    }
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
