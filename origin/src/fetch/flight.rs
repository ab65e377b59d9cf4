//! Single flight: one fetch an object, however many ask.
//!
//! A flight is a task of its own. It belongs to nobody: the one who started it may leave. It says
//! its news once, as early as it can (a growing body is news); the object stays taken until the flight
//! has landed, so that whoever asks meanwhile shares the news.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The flights under way, by object.
pub(crate) struct Flights<K, T> {
    underway: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
}

/// The flight's side: says the news, and clears the object when dropped.
pub(crate) struct Landing<K: Eq + Hash, T> {
    key: K,
    news: watch::Sender<Option<T>>,
    underway: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
}

/// What an asker gets.
pub(crate) struct Joined<T> {
    /// `None` if the flight crashed before it had any news.
    pub(crate) news: Option<T>,
    /// Whether it was under way already.
    pub(crate) shared: bool,
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self {
            underway: Arc::default(),
        }
    }
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Waits for the news of the object's flight; starts one if none is under way.
    pub(crate) async fn join<F>(&self, key: &K, start: impl FnOnce(Landing<K, T>) -> F) -> Joined<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (watched, shared) = self.watch(key, start);
        heard(watched, shared).await
    }

    /// The news of the object's flight, if one is under way. Its name is asked for only where any is.
    pub(crate) async fn joined(&self, key: impl FnOnce() -> K) -> Option<Joined<T>> {
        let watched = {
            let underway = self.underway.lock();
            if underway.is_empty() {
                return None;
            }
            underway.get(&key())?.clone()
        };
        Some(heard(watched, true).await)
    }

    /// Starts a flight if none is under way, and doesn't wait.
    pub(crate) fn start<F>(&self, key: &K, start: impl FnOnce(Landing<K, T>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.watch(key, start);
    }

    /// Waits until those that are under way have landed.
    pub(crate) async fn landed(&self) {
        let underway: Vec<_> = self.underway.lock().values().cloned().collect();
        for mut watched in underway {
            while watched.changed().await.is_ok() {}
        }
    }

    fn watch<F>(
        &self,
        key: &K,
        start: impl FnOnce(Landing<K, T>) -> F,
    ) -> (watch::Receiver<Option<T>>, bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut underway = self.underway.lock();
        if let Some(watched) = underway.get(key) {
            return (watched.clone(), true);
        }
        let (news, watched) = watch::channel(None);
        underway.insert(key.clone(), watched.clone());
        let landing = Landing {
            key: key.clone(),
            news,
            underway: self.underway.clone(),
        };
        drop(underway);
        tokio::spawn(start(landing));
        (watched, false)
    }
}

async fn heard<T: Clone>(mut watched: watch::Receiver<Option<T>>, shared: bool) -> Joined<T> {
    let news = match watched.wait_for(Option::is_some).await {
        Ok(news) => news.clone(),
        Err(_) => None,
    };
    Joined { news, shared }
}

impl<K: Eq + Hash, T> Landing<K, T> {
    /// Says the news to all who ask, now and until the flight has landed.
    pub(crate) fn say(&self, news: T) {
        self.news.send_replace(Some(news));
    }
}

// The news ends with the flight, after its object is free again.
impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.underway.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn flights_have_landed_when_their_tasks_ended_not_when_they_said_their_news() {
        let flights = Flights::default();
        let ended = Arc::new(AtomicUsize::new(0));
        let may_end = Arc::new(Semaphore::new(0));
        let (counted, gate) = (ended.clone(), may_end.clone());
        let joined = flights.join(&"zip", |landing| async move {
            landing.say(7);
            let _ = gate.acquire().await;
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(joined.await.news, Some(7));
        let late = flights.joined(|| "zip").await;
        assert_eq!(late.map(|joined| joined.news), Some(Some(7)));
        assert!(flights.joined(|| "mod").await.is_none());
        let landed = tokio::join!(flights.landed(), async {
            may_end.add_permits(1);
            tokio::task::yield_now().await;
        });
        assert_eq!((landed.0, ended.load(Ordering::Relaxed)), ((), 1));
        assert!(flights.joined(|| "zip").await.is_none());
    }

    #[tokio::test]
    async fn a_hundred_askers_are_one_flight() {
        let flights = Flights::default();
        let flown = Arc::new(AtomicUsize::new(0));
        let askers = (0..100).map(|_| {
            flights.join(&"zip", |landing| {
                let flown = flown.clone();
                async move {
                    flown.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    landing.say(7);
                }
            })
        });
        let joined = join_all(askers).await;
        assert!(joined.iter().all(|joined| joined.news == Some(7)));
        assert_eq!(joined.iter().filter(|joined| !joined.shared).count(), 1);
        assert_eq!(flown.load(Ordering::Relaxed), 1);
        while !flights.underway.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_flight_goes_on_when_its_first_asker_leaves() {
        let flights = Flights::default();
        let gate = Arc::new(Semaphore::new(0));
        let flight = |landing: Landing<&'static str, i32>| {
            let gate = gate.clone();
            async move {
                let _ = gate.acquire().await;
                landing.say(7);
            }
        };
        {
            let mut first = std::pin::pin!(flights.join(&"zip", flight));
            assert!(futures::poll!(&mut first).is_pending());
        }
        let second = flights.join(&"zip", |_| async { panic!("a second flight") });
        gate.add_permits(1);
        assert_eq!(second.await.news, Some(7));
    }

    #[tokio::test]
    async fn a_crashed_flight_has_no_news_and_frees_its_object() {
        let flights: Flights<&str, i32> = Flights::default();
        let crashed = flights.join(&"zip", |_landing| async { panic!("crash") });
        assert_eq!(crashed.await.news, None);
        let next = flights.join(&"zip", |landing| async move { landing.say(7) });
        assert_eq!(next.await.news, Some(7));
    }
}
