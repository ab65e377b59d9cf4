//! True "not found", and what was bad, remembered briefly and in memory only.
//!
//! `go get a/b/c/d` asks for the list of each of `a`, `a/b`, …, and so does every developer's: what
//! isn't there is asked for more often than what is. Bounded: the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use modcdn_core::goproxy::Prefix;
use modcdn_core::refusal::{Reason, Refusal};
use parking_lot::Mutex;
use prometheus::IntCounter;

use super::marks::Marks;

/// What all mounts' upstreams said.
#[derive(Debug)]
pub(crate) struct Absences {
    /// What is remembered.
    which: fn(Reason) -> bool,
    lifetime: Duration,
    most: usize,
    held: Mutex<Held>,
    marks: Arc<Marks>,
    /// How often it spared a request.
    used: IntCounter,
}

#[derive(Debug, Default)]
struct Held {
    /// By the mount's prefix and the path below it.
    refusals: HashMap<Arc<str>, (Refusal, Instant)>,
    /// The oldest first. One that isn't the newest of its key counts for nothing.
    order: VecDeque<(Arc<str>, Instant)>,
}

/// What one mount's upstreams said.
#[derive(Debug)]
pub(crate) struct Negatives {
    prefix: Prefix,
    all: Arc<Absences>,
}

impl Absences {
    /// Of refusals for one of `which` reasons, `most` for a `lifetime`.
    pub(crate) fn new(
        which: fn(Reason) -> bool,
        lifetime: Duration,
        most: usize,
        marks: Arc<Marks>,
        used: IntCounter,
    ) -> Arc<Self> {
        Arc::new(Self {
            which,
            lifetime,
            most,
            held: Mutex::default(),
            marks,
            used,
        })
    }

    /// Those of one mount.
    pub(crate) fn of(self: &Arc<Self>, prefix: Prefix) -> Negatives {
        Negatives {
            prefix,
            all: self.clone(),
        }
    }

    fn get(&self, key: &str) -> Option<(Refusal, Duration)> {
        let held = self.held.lock();
        let (refusal, since) = held.refusals.get(key)?;
        let age = since.elapsed();
        if age >= self.lifetime || self.marks.since(key, *since).is_some() {
            return None;
        }
        self.used.inc();
        Some((refusal.clone(), age))
    }

    fn put(&self, key: &str, refusal: &Refusal, asked: Instant) {
        let is_useless = self.lifetime.is_zero() || self.most == 0;
        if is_useless || !(self.which)(refusal.reason) || self.marks.since(key, asked).is_some() {
            return;
        }
        let mut held = self.held.lock();
        while held.order.len() >= self.most || held.is_over(self.lifetime) {
            held.forget_oldest();
        }
        let (key, now): (Arc<str>, _) = (key.into(), Instant::now());
        held.order.push_back((key.clone(), now));
        held.refusals.insert(key, (refusal.clone(), now));
    }
}

impl Held {
    fn is_over(&self, lifetime: Duration) -> bool {
        let oldest = self.order.front();
        oldest.is_some_and(|(_, since)| since.elapsed() >= lifetime)
    }

    fn forget_oldest(&mut self) {
        if let Some((key, since)) = self.order.pop_front()
            && self.refusals.get(&key).is_some_and(|(_, at)| *at == since)
        {
            self.refusals.remove(&key);
        }
    }
}

impl Negatives {
    /// What upstream said of this path, if that is still to be believed, and how long ago.
    pub(crate) fn get(&self, path: &str) -> Option<(Refusal, Duration)> {
        self.all.get(&self.key(path))
    }

    /// Remembers what is to be remembered, and was asked for at a moment; anything else is passed over.
    pub(crate) fn put(&self, path: &str, refusal: &Refusal, asked: Instant) {
        self.all.put(&self.key(path), refusal, asked);
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix.before())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason) -> Refusal {
        Refusal::new(reason, "m", "no")
    }

    fn absences(most: usize) -> Arc<Absences> {
        let lifetime = Duration::from_secs(60);
        let used = IntCounter::new("x", "x").unwrap();
        let marks = Arc::new(Marks::new(lifetime));
        Absences::new(Reason::is_negative, lifetime, most, marks, used)
    }

    #[test]
    fn only_true_absence_is_remembered() {
        let negatives = absences(100).of(Prefix::root());
        for &reason in Reason::ALL {
            negatives.put("/m", &refusal(reason), Instant::now());
            let kept = negatives
                .get("/m")
                .is_some_and(|(kept, _)| kept.reason == reason);
            assert_eq!(kept, reason.is_negative(), "{}", reason.name());
        }
        assert!(negatives.all.used.get() > 0);
    }

    #[test]
    fn there_are_never_more_than_allowed_and_the_oldest_go_first() {
        let negatives = absences(3).of(Prefix::root());
        let not_found = refusal(Reason::NotFound);
        for n in 0..100 {
            negatives.put(&format!("/{n}"), &not_found, Instant::now());
            negatives.put("/again", &not_found, Instant::now());
        }
        let held = negatives.all.held.lock();
        assert!(held.refusals.len() <= 3 && held.order.len() <= 3);
        drop(held);
        assert!(negatives.get("/99").is_some() && negatives.get("/again").is_some());
        assert!(negatives.get("/97").is_none());
    }

    #[test]
    fn what_one_mount_lacks_another_may_have() {
        let all = absences(10);
        let (a, b) = (all.of("/a/".parse().unwrap()), all.of(Prefix::root()));
        a.put("/m", &refusal(Reason::NotFound), Instant::now());
        assert!(a.get("/m").is_some() && b.get("/m").is_none());
    }

    #[test]
    fn what_changed_may_be_there_now() {
        let all = absences(10);
        let negatives = all.of(Prefix::root());
        let before = Instant::now();
        negatives.put("/m/@v/list", &refusal(Reason::NotFound), before);
        all.marks.put("/m/", Instant::now());
        assert!(negatives.get("/m/@v/list").is_none());
        negatives.put("/m/@v/list", &refusal(Reason::NotFound), before);
        assert!(negatives.get("/m/@v/list").is_none());
        negatives.put("/m/@v/list", &refusal(Reason::NotFound), Instant::now());
        assert!(negatives.get("/m/@v/list").is_some());
    }
}
