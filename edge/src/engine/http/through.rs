//! What passes through: one exchange with the origin for one client, at that client's pace, in
//! either direction.
//!
//! Nothing is withheld here: an answer that the origin breaks off is broken off towards the client
//! as well, for its framing is passed on with its end.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, FORWARDED};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use modcdn_core::refusal::Refusal;
use std::sync::Arc;
use tokio::task::JoinHandle;

use super::age::{Exchange, born};
use super::answer::Ask;
use super::directives::ResponseControl;
use super::fields::{from_origin, http_date};
use super::invalidate::invalidated;
use super::merge::{is_same, merged, withhold};
use crate::engine::Engine;
use crate::engine::clock::Millis;
use crate::engine::fill::hint;
use crate::engine::reply::Fate;
use crate::engine::store::entry::{Entry, Headers};
use crate::exchange::{Aborted, Answer, Body, BodyStream, Upload};
use crate::origin::web::{WebRequest, WebResponse};
use crate::origin::{OriginBody, OriginError};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Engine {
    /// Asks the origin for this client alone. `held`: a stored answer to `GET` that a `HEAD` may
    /// freshen or show to be outdated.
    pub(super) async fn through(
        self: &Arc<Self>,
        ask: &Ask,
        upload: Option<Upload>,
        fate: Fate,
        held: Option<Arc<Entry>>,
    ) -> Answer {
        self.metrics.relays.inc();
        let request = WebRequest {
            method: ask.asked.method.clone(),
            target: ask.asked.target.clone(),
            headers: self.forwarded(ask, ask.asked.headers.clone(), true),
            upload,
            relay: true,
        };
        let asked = self.clock.now();
        match self.exchange(ask, request).await {
            Ok(mut response) => {
                let exchange = Exchange {
                    asked,
                    answered: self.clock.now(),
                };
                let (status, as_sent) = (response.status, response.headers.clone());
                let date = http_date(exchange.answered / 1000);
                let via = self.via(response.protocol);
                from_origin(&mut response.headers, &date, &via);
                let told = Told {
                    born: born(&as_sent, exchange),
                    as_sent,
                    passed: &response.headers,
                };
                self.learn(ask, status, told, held).await;
                self.hand_on(ask, fate, response)
            }
            Err(error) => {
                let target = ask.asked.target.as_str();
                let refusal = Refusal::new(error.reason(), target, error.to_string());
                self.turn_down(ask, fate, &refusal.hint(hint(error.reason())))
            }
        }
    }

    /// Sends a request where connections to origins live; given up, it is broken off.
    async fn exchange(&self, ask: &Ask, request: WebRequest) -> Result<WebResponse, OriginError> {
        let origin = self.http.origins[ask.asked.mount].clone();
        let mut task = Exchanging(self.fills.spawn(async move { origin.send(request).await }));
        let ended = (&mut task.0).await;
        ended.unwrap_or_else(|error| {
            Err(OriginError::Broken {
                why: error.to_string(),
            })
        })
    }

    /// What the stored answers are to learn from this exchange.
    async fn learn(
        self: &Arc<Self>,
        ask: &Ask,
        status: StatusCode,
        told: Told<'_>,
        held: Option<Arc<Entry>>,
    ) {
        if let Some(held) = held.filter(|_| status == StatusCode::OK) {
            self.learn_from_head(ask, held, &told).await;
        }
        let authority = self.http.origins[ask.asked.mount].authority();
        let targets = invalidated(
            &ask.asked.method,
            &ask.asked.target,
            status,
            &told.as_sent,
            &[&ask.asked.host, authority],
        );
        for target in targets {
            self.invalidate(target.as_str().into()).await;
        }
    }

    /// RFC 9111 §4.3.5.
    async fn learn_from_head(self: &Arc<Self>, ask: &Ask, held: Arc<Entry>, told: &Told<'_>) {
        if !is_same(&held.meta.headers, held.object.size, &told.as_sent) {
            return self.invalidate(held.key.clone()).await;
        }
        let merged = merged(&held.meta.headers, told.passed);
        match self.may_store(ask.headers(), held.meta.status, &merged) {
            Ok(()) => {}
            // It became what may not be kept.
            Err(why) if why.is_of_the_resource() => {
                return self.invalidate(held.key.clone()).await;
            }
            Err(_) => return,
        }
        let (kept, _) = withhold(&merged, &ResponseControl::of(&merged));
        let headers = Headers::all(&kept);
        let (engine, validated) = (self.clone(), told.born);
        let refreshing = move || {
            let epoch = held.meta.epoch;
            engine.store.refresh(&held, headers, validated, epoch)
        };
        // An error is a panic in there, which the runtime has reported.
        let _ = self.fills.spawn_blocking(refreshing).await;
    }

    /// Forgets what is stored under a URL's key, all variants, and what is on its way there.
    async fn invalidate(self: &Arc<Self>, key: Arc<str>) {
        self.http.flights.void(&key);
        let is_variant = |found: &str| {
            let rest = found.strip_prefix(&*key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\t'))
        };
        self.http.failed.lock().forget_all(is_variant);
        let engine = self.clone();
        let _ = self
            .fills
            .spawn_blocking(move || engine.store.remove(&key))
            .await;
    }

    /// An answer of the origin as it comes, but for the fields that end here.
    pub(super) fn hand_on(&self, ask: &Ask, fate: Fate, response: WebResponse) -> Answer {
        let WebResponse {
            status,
            mut headers,
            body,
            ..
        } = response;
        self.note(&mut headers, fate);
        let empty = headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length == "0");
        let bodiless = matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
        );
        let body = if ask.head() || bodiless || empty {
            Body::Empty
        } else {
            Body::Stream(Box::new(Through(body)))
        };
        Answer {
            status,
            headers,
            body,
            cache: fate.cached,
            reason: None,
        }
    }

    /// The fields that a proxy adds to a request (RFC 9110 §7.6.3, and those that applications
    /// know). The client's host and scheme are told only where the answer is for this client alone:
    /// they are not part of the key.
    pub(super) fn forwarded(&self, ask: &Ask, mut headers: HeaderMap, alone: bool) -> HeaderMap {
        for name in [
            X_FORWARDED_FOR,
            X_FORWARDED_HOST,
            X_FORWARDED_PROTO,
            FORWARDED,
        ] {
            headers.remove(name);
        }
        headers.append(http::header::VIA, self.via(ask.asked.protocol));
        let mut set = |name, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        };
        let client = ask.asked.client.map(|client| client.to_string());
        set(
            X_FORWARDED_FOR,
            client.and_then(|client| client.try_into().ok()),
        );
        let shared = !alone || matches!(ask.asked.method, Method::GET | Method::HEAD);
        if !shared {
            let proto = if ask.asked.tls { "https" } else { "http" };
            set(X_FORWARDED_PROTO, Some(HeaderValue::from_static(proto)));
            set(
                X_FORWARDED_HOST,
                HeaderValue::from_str(&ask.asked.host).ok(),
            );
        }
        headers
    }
}

/// What an answer's header says.
struct Told<'a> {
    /// When the answer was new, by our clock.
    born: Millis,
    as_sent: HeaderMap,
    /// As it is passed on.
    passed: &'a HeaderMap,
}

/// A request on its way; dropped, it is broken off.
struct Exchanging(JoinHandle<Result<WebResponse, OriginError>>);

impl Drop for Exchanging {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body on its way through.
struct Through(Box<dyn OriginBody>);

#[async_trait]
impl BodyStream for Through {
    async fn next(&mut self) -> Result<Option<Bytes>, Aborted> {
        let piece = self.0.next().await;
        piece.map_err(|error| Aborted {
            reason: error.reason(),
        })
    }
}
