//! The gate before the origin: how many requests may be there at once, how many may wait for that,
//! and the circuit breaker.
//!
//! A place is held until the answer's body has been read or dropped. A relay, whose body goes to one
//! client at that client's pace, has a place among the relays instead, from before it is sent, and one
//! among the requests only until the head of its answer is here: clients that don't read keep nobody
//! from the origin but other relays. Whoever finds no place waits in a queue that is bounded in length
//! and in time; relays have one of their own. While the breaker is open nobody waits: everybody
//! is refused at once, those in the queue included as their turn comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::breaker::{Breaker, Ended, Rules, Ticket};
use super::metrics::{GateMetrics, Rejected};
use super::{OriginError, Stage};
use crate::backoff::chance;

/// The gate before one origin.
pub(crate) struct Gate {
    /// Whose it is, for the log.
    origin: String,
    requests: Places,
    relays: Places,
    bounds: Bounds,
    breaker: Mutex<Breaker>,
    metrics: GateMetrics,
}

/// How much goes through a [`Gate`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Requests at once.
    pub(crate) requests: usize,
    /// Relays at once.
    pub(crate) relays: usize,
    /// How many more of either may wait for a place.
    pub(crate) queue: usize,
    /// And how long each.
    pub(crate) queue_wait: Duration,
    /// When nobody goes through.
    pub(crate) breaker: Rules,
}

/// Places of one kind.
struct Places {
    free: Arc<Semaphore>,
    /// What is counted, in the plural.
    what: &'static str,
    most: usize,
    queued: AtomicUsize,
    taken: IntGauge,
}

impl Places {
    fn new(what: &'static str, most: usize, taken: IntGauge) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            what,
            most,
            queued: AtomicUsize::new(0),
            taken,
        }
    }

    fn try_take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(self.taken_by(permit))
    }

    fn taken_by(&self, permit: OwnedSemaphorePermit) -> Place {
        self.taken.inc();
        let taken = self.taken.clone();
        Place {
            _permit: permit,
            taken,
        }
    }
}

/// A place among the requests or the relays, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    taken: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.dec();
    }
}

/// One who was let in and doesn't yet know what the origin says.
pub(crate) struct Entered<'a> {
    gate: &'a Gate,
    place: Option<Place>,
    ticket: Ticket,
    ended: Ended,
}

impl Gate {
    /// The gate before `origin`, as the log names it.
    pub(crate) fn new(origin: &str, bounds: Bounds, metrics: GateMetrics) -> Self {
        Self {
            origin: origin.to_owned(),
            requests: Places::new("requests", bounds.requests, metrics.requests.clone()),
            relays: Places::new("relays", bounds.relays, metrics.relays.clone()),
            bounds,
            breaker: Mutex::new(Breaker::new(bounds.breaker)),
            metrics,
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`OriginError::Overloaded`] and [`OriginError::Suspended`].
    pub(crate) async fn enter(&self) -> Result<Entered<'_>, OriginError> {
        if let Some(wait) = self.breaker.lock().refuses(Instant::now()) {
            return Err(self.suspended(wait));
        }
        let place = Some(self.place(&self.requests).await?);
        let admitted = self.breaker.lock().admit(Instant::now());
        let ticket = admitted.map_err(|wait| self.suspended(wait))?;
        self.show();
        Ok(Entered {
            gate: self,
            place,
            ticket,
            ended: Ended::Unknown,
        })
    }

    /// Waits for a place among the relays. To be had before a request is sent that goes to one client.
    ///
    /// # Errors
    /// As [`Gate::enter`].
    pub(crate) async fn relay(&self) -> Result<Place, OriginError> {
        if let Some(wait) = self.breaker.lock().refuses(Instant::now()) {
            return Err(self.suspended(wait));
        }
        self.place(&self.relays).await
    }

    /// The same at once, for a request that turned out to go to one client. It may keep nobody from
    /// the place that it gives back, so it doesn't wait.
    ///
    /// # Errors
    /// [`OriginError::Overloaded`].
    pub(crate) fn relay_now(&self) -> Result<Place, OriginError> {
        self.relays.try_take().ok_or_else(|| {
            self.metrics.rejected(Rejected::Relays);
            let why = format!("{} relays are under way", self.relays.most);
            OriginError::Overloaded { why }
        })
    }

    async fn place(&self, places: &Places) -> Result<Place, OriginError> {
        if let Some(place) = places.try_take() {
            return Ok(place);
        }
        let _queued = Queued::new(self, places)?;
        let queue_wait = self.bounds.queue_wait;
        match timeout(queue_wait, places.free.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(places.taken_by(permit)),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => {
                self.metrics.rejected(Rejected::QueueWait);
                let (most, what) = (places.most, places.what);
                let why =
                    format!("{most} {what} are under way, and none ended within {queue_wait:?}");
                Err(OriginError::Overloaded { why })
            }
        }
    }

    fn suspended(&self, wait: Duration) -> OriginError {
        self.metrics.rejected(Rejected::Breaker);
        OriginError::Suspended { wait }
    }

    /// A connection to the origin stands.
    pub(crate) fn reachable(&self) {
        self.breaker.lock().reachable();
        self.show();
    }

    fn show(&self) {
        let position = self.breaker.lock().position();
        self.metrics.breaker.set(position as i64);
    }
}

impl Entered<'_> {
    /// The origin answered: the place is kept for as long as the answer is read.
    pub(crate) fn answered(mut self) -> Option<Place> {
        self.ended = Ended::Answered;
        self.place.take()
    }

    /// The origin lives: it says that it is at work on the answer.
    pub(crate) fn heard(&mut self) {
        self.tell(Ended::Answered);
    }

    /// From here on it goes at its client's pace: the place is for somebody else.
    pub(crate) fn give_place_back(&mut self) {
        self.place = None;
    }

    /// It didn't.
    pub(crate) fn failed(mut self, error: &OriginError) {
        self.ended = match error {
            OriginError::Connect { .. } => Ended::Unreachable,
            OriginError::Broken { .. } => Ended::Failed,
            OriginError::Timeout { stage, .. } => match stage {
                Stage::Connect => Ended::Unreachable,
                Stage::FirstByte => Ended::Failed,
                Stage::Stall | Stage::Total => Ended::Unknown,
            },
            OriginError::Invalid { .. } => Ended::Answered,
            OriginError::Overloaded { .. } | OriginError::Suspended { .. } => Ended::Unknown,
        };
    }
}

impl Entered<'_> {
    fn tell(&self, ended: Ended) {
        let mut breaker = self.gate.breaker.lock();
        if breaker.ended(&self.ticket, ended, Instant::now(), chance()) {
            let wait = breaker.refuses(Instant::now()).unwrap_or_default();
            let origin = &self.gate.origin;
            tracing::warn!(
                origin,
                ?wait,
                "the origin fails: it is not asked for a while"
            );
            self.gate.metrics.breaker_opened.inc();
        }
        drop(breaker);
        self.gate.show();
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.tell(self.ended);
    }
}

/// One in the queue.
struct Queued<'a>(&'a Gate, &'a Places);

impl<'a> Queued<'a> {
    fn new(gate: &'a Gate, places: &'a Places) -> Result<Self, OriginError> {
        let queue = gate.bounds.queue;
        let room = |queued: usize| (queued < queue).then_some(queued + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        if places.queued.fetch_update(set, get, room).is_err() {
            gate.metrics.rejected(Rejected::QueueFull);
            let (most, what) = (places.most, places.what);
            let why = format!("{most} {what} are under way, and {queue} wait");
            return Err(OriginError::Overloaded { why });
        }
        gate.metrics.queue.inc();
        Ok(Queued(gate, places))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.1.queued.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.queue.dec();
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use prometheus::Registry;

    use super::super::metrics::OriginMetrics;
    use super::*;
    use crate::config::BreakerConfig;

    fn gate(change: impl FnOnce(&mut Bounds)) -> Gate {
        let mut bounds = Bounds {
            requests: 1,
            relays: 1,
            queue: 1,
            queue_wait: Duration::from_secs(30),
            breaker: BreakerConfig::default().rules(),
        };
        change(&mut bounds);
        let metrics = OriginMetrics::new(&Registry::new());
        Gate::new("origin.test", bounds, metrics.gate)
    }

    fn refused() -> OriginError {
        OriginError::Connect {
            to: "127.0.0.1:1".to_owned(),
            why: "refused".to_owned(),
        }
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_and_who_finds_no_room_to_wait_is_refused() {
        let gate = gate(|_| {});
        let place = gate.enter().await.ok().unwrap().answered();
        let mut waiting = Box::pin(gate.enter());
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(gate.metrics.queue.get(), 1);
        let error = gate.enter().await.err().unwrap();
        assert!(matches!(error, OriginError::Overloaded { .. }), "{error}");
        drop(place);
        assert!(waiting.await.is_ok());
        assert_eq!(gate.metrics.queue.get(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let gate = gate(|bounds| bounds.queue_wait = Duration::from_millis(20));
        let _place = gate.enter().await.ok().unwrap().answered();
        let error = gate.enter().await.err().unwrap();
        assert!(matches!(error, OriginError::Overloaded { .. }), "{error}");
        assert_eq!(gate.metrics.queue.get(), 0);
    }

    #[tokio::test]
    async fn relays_wait_for_relays_only() {
        let gate = gate(|_| {});
        let relay = gate.relay().await.unwrap();
        let mut waiting = Box::pin(gate.relay());
        assert!(poll!(&mut waiting).is_pending());
        assert!(gate.relay_now().is_err());
        assert!(gate.relay().await.is_err(), "no room to wait");
        let request = gate.enter().await.ok().unwrap().answered();
        assert_eq!(
            (gate.metrics.relays.get(), gate.metrics.requests.get()),
            (1, 1)
        );
        drop(relay);
        drop((waiting.await.unwrap(), request));
        assert!(gate.relay_now().is_ok());
        assert_eq!(
            (gate.metrics.relays.get(), gate.metrics.requests.get()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn an_open_breaker_refuses_at_once_those_in_the_queue_too() {
        let gate = gate(|bounds| bounds.breaker.failures = 1);
        let entered = gate.enter().await.ok().unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(poll!(&mut waiting).is_pending());
        entered.failed(&refused());
        for error in [waiting.await.err(), gate.enter().await.err()] {
            assert!(matches!(error, Some(OriginError::Suspended { .. })));
        }
        assert_eq!(gate.metrics.breaker.get(), 2);
        gate.reachable();
        let _ = gate.enter().await.ok().unwrap().answered();
        assert_eq!(gate.metrics.breaker.get(), 0);
    }

    #[tokio::test]
    async fn one_who_vanishes_says_nothing_about_the_origin() {
        let gate = gate(|bounds| bounds.breaker.failures = 1);
        drop(gate.enter().await.ok().unwrap());
        gate.enter()
            .await
            .ok()
            .unwrap()
            .failed(&OriginError::Overloaded { why: String::new() });
        assert!(gate.enter().await.is_ok());
    }
}
