//! True "not found", and what was bad, remembered briefly and in memory only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use modcdn_core::goproxy::Prefix;
use modcdn_core::refusal::{Reason, Refusal};
use parking_lot::Mutex;

/// What all mounts' upstreams said. Bounded: when it is full, what has expired goes, and else all.
#[derive(Debug)]
pub(crate) struct Absences {
    /// What is remembered.
    which: fn(Reason) -> bool,
    lifetime: Duration,
    most: usize,
    /// By the mount's prefix and the path below it.
    refusals: Mutex<HashMap<String, (Refusal, Instant)>>,
}

/// What one mount's upstreams said.
#[derive(Debug)]
pub(crate) struct Negatives {
    prefix: Prefix,
    all: Arc<Absences>,
}

impl Absences {
    /// Of refusals for one of `which` reasons, `most` for a `lifetime`.
    pub(crate) fn new(which: fn(Reason) -> bool, lifetime: Duration, most: usize) -> Arc<Self> {
        Arc::new(Self {
            which,
            lifetime,
            most,
            refusals: Mutex::default(),
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
        let refusals = self.refusals.lock();
        let (refusal, since) = refusals.get(key)?;
        let age = since.elapsed();
        (age < self.lifetime).then(|| (refusal.clone(), age))
    }

    fn put(&self, key: String, refusal: &Refusal) {
        if !(self.which)(refusal.reason) || self.lifetime.is_zero() || self.most == 0 {
            return;
        }
        let mut refusals = self.refusals.lock();
        if refusals.len() >= self.most {
            refusals.retain(|_, (_, since)| since.elapsed() < self.lifetime);
        }
        if refusals.len() >= self.most {
            refusals.clear();
        }
        refusals.insert(key, (refusal.clone(), Instant::now()));
    }
}

impl Negatives {
    /// What upstream said of this path, if that is still to be believed, and how long ago.
    pub(crate) fn get(&self, path: &str) -> Option<(Refusal, Duration)> {
        self.all.get(&self.key(path))
    }

    /// Remembers what is to be remembered; anything else is passed over.
    pub(crate) fn put(&self, path: &str, refusal: &Refusal) {
        self.all.put(self.key(path), refusal);
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix.before())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absences(most: usize) -> Arc<Absences> {
        Absences::new(Reason::is_negative, Duration::from_secs(60), most)
    }

    fn refusal(reason: Reason) -> Refusal {
        Refusal::new(reason, "m", "no")
    }

    #[test]
    fn only_true_absence_is_remembered() {
        let negatives = absences(10).of(Prefix::root());
        for &reason in Reason::ALL {
            negatives.put("/m", &refusal(reason));
            let kept = negatives
                .get("/m")
                .is_some_and(|(kept, _)| kept.reason == reason);
            assert_eq!(kept, reason.is_negative(), "{}", reason.name());
        }
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let negatives = absences(3).of(Prefix::root());
        for n in 0..100 {
            negatives.put(&n.to_string(), &refusal(Reason::NotFound));
        }
        assert!(negatives.all.refusals.lock().len() <= 3);
        assert!(negatives.get("99").is_some());
    }

    #[test]
    fn what_one_mount_lacks_another_may_have() {
        let all = absences(10);
        let (a, b) = (all.of("/a/".parse().unwrap()), all.of(Prefix::root()));
        a.put("/m", &refusal(Reason::NotFound));
        assert!(a.get("/m").is_some() && b.get("/m").is_none());
    }
}
