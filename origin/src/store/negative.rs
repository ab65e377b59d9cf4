//! True "not found", remembered briefly and in memory only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use modcdn_core::refusal::Refusal;
use parking_lot::Mutex;

/// See the module. Bounded: when it is full, what has expired goes, and else all.
#[derive(Debug)]
pub(crate) struct Negatives {
    lifetime: Duration,
    most: usize,
    refusals: Mutex<HashMap<String, (Refusal, Instant)>>,
}

impl Negatives {
    pub(crate) fn new(lifetime: Duration, most: usize) -> Self {
        Self {
            lifetime,
            most,
            refusals: Mutex::default(),
        }
    }

    /// What upstream said of this path, if that is still to be believed.
    pub(crate) fn get(&self, path: &str) -> Option<Refusal> {
        let refusals = self.refusals.lock();
        let (refusal, since) = refusals.get(path)?;
        (since.elapsed() < self.lifetime).then(|| refusal.clone())
    }

    /// Remembers a true "not found"; anything else is passed over.
    pub(crate) fn put(&self, path: &str, refusal: &Refusal) {
        if !refusal.reason.is_negative() || self.lifetime.is_zero() || self.most == 0 {
            return;
        }
        let mut refusals = self.refusals.lock();
        if refusals.len() >= self.most {
            refusals.retain(|_, (_, since)| since.elapsed() < self.lifetime);
        }
        if refusals.len() >= self.most {
            refusals.clear();
        }
        refusals.insert(path.to_owned(), (refusal.clone(), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::refusal::Reason;

    use super::*;

    fn refusal(reason: Reason) -> Refusal {
        Refusal::new(reason, "m", "no")
    }

    #[test]
    fn only_true_absence_is_remembered() {
        let negatives = Negatives::new(Duration::from_secs(60), 10);
        for &reason in Reason::ALL {
            negatives.put("/m", &refusal(reason));
            let kept = negatives
                .get("/m")
                .is_some_and(|kept| kept.reason == reason);
            assert_eq!(kept, reason.is_negative(), "{}", reason.name());
        }
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let negatives = Negatives::new(Duration::from_secs(60), 3);
        for n in 0..100 {
            negatives.put(&n.to_string(), &refusal(Reason::NotFound));
        }
        assert!(negatives.refusals.lock().len() <= 3);
        assert!(negatives.get("99").is_some());
    }
}
