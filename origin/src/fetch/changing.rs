//! Finding an answer that may change: fresh, stale or asked for again; and refreshing it before
//! anybody has to wait.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use modcdn_core::goproxy::Request;
use modcdn_core::refusal::Refusal;
use modcdn_core::units::Period;
use tokio::time::timeout;

use super::flight::Landing;
use super::{Engine, Found, News, crashed, not_stored};
use crate::store::mutable::{Answer, Known, Since, Use};
use crate::upstream::{Ask, Fetched};

/// What is said to have changed is asked for again after this time at the earliest, if upstream fails.
const EARLIEST_RETRY: Duration = Duration::from_secs(1);

/// How often a refresh is begun anew because what came was asked for before the change.
const TRIES: usize = 3;

/// What came of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    Ok,
    Absent,
    Failed,
}

impl Refreshed {
    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Failed => "failed",
        }
    }
}

impl Engine {
    pub(super) async fn find_answer(
        self: &Arc<Self>,
        request: &Request,
        only_stored: bool,
    ) -> News {
        let path = request.path();
        let lifetime = self.freshness.lifetime(request);
        let known = self.mutables.ask(&path, lifetime).await;
        let usage = known
            .as_ref()
            .map_or(Use::Never, |known| self.usage(&path, known, lifetime));
        let is_unknown = known.is_none();
        let (engine, asked) = (self.clone(), request.clone());
        let fly = |landing| async move { engine.fly_for_answer(&asked, landing).await };
        match (known, usage) {
            (Some(known), Use::Fresh) => Ok(Found::Answer(known)),
            (Some(known), usage) if only_stored && usage != Use::Never => Ok(Found::Answer(known)),
            (Some(known), Use::WhileRevalidating) => {
                self.count_stale("revalidating");
                self.flights.start(&path, fly);
                Ok(Found::Answer(known))
            }
            _ if only_stored => {
                let copy = self.copied(request, lifetime).await;
                copy.ok_or_else(|| not_stored(request))
            }
            (Some(known), Use::IfError) => {
                let newer = self.flights.join(&path, fly);
                let Ok(joined) = timeout(self.timeouts.refresh.get(), newer).await else {
                    self.count_stale("slow");
                    return Ok(Found::Answer(known));
                };
                match self.news(request, joined) {
                    Err(refusal) if !refusal.reason.is_negative() => {
                        self.count_stale("error");
                        Ok(Found::Answer(known))
                    }
                    news => news,
                }
            }
            _ => {
                if let Some(refusal) = self.absent(&path) {
                    return Err(refusal);
                }
                let joined = self.flights.join(&path, fly).await;
                match self.news(request, joined) {
                    Err(refusal) if is_unknown && !refusal.reason.is_negative() => {
                        self.copied(request, lifetime).await.ok_or(refusal)
                    }
                    news => news,
                }
            }
        }
    }

    /// What an earlier run copied to where it outlives the folder, if it is still of use.
    async fn copied(&self, request: &Request, lifetime: Period) -> Option<Found> {
        let known = self.mutables.recall(request, lifetime).await?;
        if self.usage(&request.path(), &known, lifetime) == Use::Never {
            return None;
        }
        self.count_stale("copy");
        Some(Found::Answer(known))
    }

    /// What is said to have changed is asked for first, however young it is.
    fn usage(&self, path: &str, known: &Known, lifetime: Period) -> Use {
        let age = known.answer.confirmed.age();
        let usage = self.freshness.usage(lifetime, age);
        let usage = self.after_purges(path, age, usage);
        match known.changed {
            Some(_) => usage.max(Use::IfError),
            None => usage,
        }
    }

    /// Asks for an answer again, and sees to it that it is asked for again later if that fails.
    pub(crate) async fn refresh(self: &Arc<Self>, request: &Request) -> Refreshed {
        let path = request.path();
        let mut changed = None;
        for _ in 0..TRIES {
            let (engine, asked) = (self.clone(), request.clone());
            let fly = |landing| async move { engine.fly_for_answer(&asked, landing).await };
            let joined = self.flights.join(&path, fly).await;
            match self.news(request, joined) {
                Ok(Found::Answer(known)) if known.changed.is_some() => changed = known.changed,
                Ok(_) => return Refreshed::Ok,
                Err(refusal) if refusal.reason.is_negative() => return Refreshed::Absent,
                Err(_) => break,
            }
        }
        let lifetime = self.freshness.lifetime(request);
        if let Some(known) = self.mutables.peek(&path, lifetime).await {
            changed = known.changed.or(changed);
        }
        self.mutables.again(&path, retry(changed, lifetime));
        Refreshed::Failed
    }

    async fn fly_for_answer(self: &Arc<Self>, request: &Request, landing: Landing<String, News>) {
        let news = match self.place(request).await {
            Ok(_place) => self.ask_again(request).await,
            Err(refusal) => Err(refusal),
        };
        let answer = match &news {
            Ok(Found::Answer(known)) => Some(known.answer.clone()),
            _ => None,
        };
        landing.say(news);
        if let Some(answer) = answer {
            self.mutables.copy(request, &answer).await;
        }
    }

    /// Asks upstreams for an answer that may be known already.
    async fn ask_again(&self, request: &Request) -> News {
        let path = request.path();
        let lifetime = self.freshness.lifetime(request);
        let asked = Instant::now();
        let known = self.mutables.peek(&path, lifetime).await;
        let before = known.as_ref().map(|known| &known.answer);
        let ask = Ask {
            validator: before.and_then(|answer| answer.validator.as_ref()),
            known: before.map(|answer| &answer.body),
            past_caches: self.mutables.changed_lately(&path, lifetime),
            pin: None,
        };
        let fetched = self.within(request, self.upstreams.fetch(request, &ask));
        let fetched = fetched.await;
        if let Ok(Fetched::Whole { body, .. }) = &fetched {
            self.governor.saw(request, body, SystemTime::now());
        }
        let (outcome, news) = learned(request, fetched, before.map(Arc::as_ref));
        if before.is_some() {
            let counter = &self.metrics.revalidations;
            counter.with_label_values(&[outcome]).inc();
        }
        match news {
            Ok(answer) => {
                let known = self.mutables.put(&path, lifetime, answer, asked).await;
                Ok(Found::Answer(known))
            }
            Err(refusal) => {
                if refusal.reason.is_negative() {
                    self.mutables.remove(&path).await;
                    self.negatives.put(&path, &refusal, asked);
                }
                Err(refusal)
            }
        }
    }

    fn count_stale(&self, cause: &str) {
        self.metrics.stale.with_label_values(&[cause]).inc();
    }
}

/// What an upstream's word makes of what was known before, and the outcome's name in metrics.
fn learned(
    request: &Request,
    fetched: Result<Fetched, Refusal>,
    before: Option<&Answer>,
) -> (&'static str, Result<Answer, Refusal>) {
    match (fetched, before) {
        (Ok(Fetched::Whole { body, validator }), before) => {
            let answer = Answer::new(&body, validator);
            let same = before.is_some_and(|before| before.digest == answer.digest);
            (if same { "same" } else { "changed" }, Ok(answer))
        }
        (Ok(Fetched::NotModified), Some(before)) => {
            let answer = Answer {
                confirmed: Since::now(),
                ..before.clone()
            };
            ("not-modified", Ok(answer))
        }
        (Ok(_), _) => ("failed", Err(crashed(request))),
        (Err(refusal), _) => (refusal.reason.name(), Err(refusal)),
    }
}

/// When to ask again after a failure: soon where something changed lately, and the later the longer
/// ago that was; else after half a life.
fn retry(changed: Option<Instant>, lifetime: Period) -> Duration {
    let half = (lifetime.get() / 2).max(EARLIEST_RETRY);
    match changed {
        Some(changed) => (changed.elapsed() / 2).clamp(EARLIEST_RETRY, half),
        None => half,
    }
}
