//! A short memory of fills that failed, so that many clients don't hammer a dead object. Pure: the
//! time is handed in.
//!
//! For modules it is about objects: a wrong body, one that breaks off again and again, an error status
//! of the origin. That the origin can't be reached is the breaker's business there, and not
//! remembered. Plain HTTP mounts have one of their own, for exchanges without an answer. Kept in RAM
//! only; the first answer that isn't a failure clears it.

use std::collections::HashMap;
use std::sync::Arc;

use modcdn_core::refusal::Refusal;

use super::clock::{Millis, millis};
use super::growing::Passed;
use crate::backoff::Backoff;

/// Longer error texts are not kept; the go command shows much less.
const LONGEST_TEXT: usize = 4 * 1024;

/// How a fill failed, for those who ask again too soon.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The origin's answer was an error.
    Passed(Arc<Passed>),
    /// There was no right answer.
    Refused(Arc<Refusal>),
}

/// The memory.
#[derive(Debug)]
pub(crate) struct FailedFills {
    by_key: HashMap<Arc<str>, Remembered>,
    bounds: FailedBounds,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedBounds {
    /// Keys.
    pub(crate) most: usize,
    /// For how long, each; a first pause of zero remembers nothing.
    pub(crate) pause: Backoff,
}

#[derive(Debug)]
struct Remembered {
    failed: Failed,
    until: Millis,
    /// Failures in a row.
    times: u32,
}

impl FailedFills {
    /// An empty one.
    pub(crate) fn new(bounds: FailedBounds) -> Self {
        Self {
            by_key: HashMap::new(),
            bounds,
        }
    }

    /// Other bounds, for failures to come.
    pub(crate) fn adjust(&mut self, bounds: FailedBounds) {
        self.bounds = bounds;
    }

    /// How the key's fill failed a moment ago.
    pub(crate) fn recent(&self, key: &str, now: Millis) -> Option<Failed> {
        let remembered = self.by_key.get(key)?;
        (now < remembered.until).then(|| remembered.failed.clone())
    }

    /// A fill failed.
    pub(crate) fn remember(&mut self, key: &Arc<str>, failed: Failed, now: Millis) {
        let too_long = match &failed {
            Failed::Passed(passed) => passed.body.len() > LONGEST_TEXT,
            Failed::Refused(_) => false,
        };
        if self.bounds.pause.first.is_zero() || too_long || !self.has_room(key, now) {
            return;
        }
        let times = self.by_key.get(key).map_or(0, |before| before.times);
        let times = times.saturating_add(1);
        let until = now + millis(self.bounds.pause.pause(times, 0.0));
        let remembered = Remembered {
            failed,
            until,
            times,
        };
        self.by_key.insert(key.clone(), remembered);
    }

    /// It did not fail.
    pub(crate) fn forget(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// Neither did what lies under keys of which this holds.
    pub(crate) fn forget_all(&mut self, is_concerned: impl Fn(&str) -> bool) {
        self.by_key.retain(|key, _| !is_concerned(key));
    }

    /// Nothing failed.
    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
    }

    /// Makes room by dropping what is over, and for so long that it isn't "in a row" any more.
    fn has_room(&mut self, key: &str, now: Millis) -> bool {
        if self.by_key.len() < self.bounds.most || self.by_key.contains_key(key) {
            return true;
        }
        let counts_for = millis(self.bounds.pause.longest);
        self.by_key
            .retain(|_, remembered| now < remembered.until + counts_for);
        if self.by_key.len() >= self.bounds.most {
            self.by_key.retain(|_, remembered| now < remembered.until);
        }
        self.by_key.len() < self.bounds.most
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use modcdn_core::refusal::Reason;

    use super::super::store::entry::Headers;
    use super::*;

    fn failed() -> Failed {
        let refusal = Refusal::new(Reason::DigestMismatch, "m", "wrong");
        Failed::Refused(Arc::new(refusal))
    }

    fn memory(most: usize) -> FailedFills {
        let pause = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        };
        FailedFills::new(FailedBounds { most, pause })
    }

    #[test]
    fn each_failure_in_a_row_is_remembered_for_longer() {
        let (mut memory, mut now) = (memory(10), 1_000_000);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            memory.remember(&"k".into(), failed(), now);
            assert!(memory.recent("k", now + seconds * 1000 - 1).is_some());
            now += seconds * 1000;
            assert!(memory.recent("k", now).is_none());
        }
        memory.forget("k");
        memory.remember(&"k".into(), failed(), now);
        assert!(memory.recent("k", now + 1000).is_none());
    }

    #[test]
    fn it_is_bounded_and_what_is_over_makes_room() {
        let mut memory = memory(2);
        for key in ["a", "b", "c"] {
            memory.remember(&key.into(), failed(), 0);
        }
        assert!(memory.recent("c", 0).is_none(), "there was no room");
        memory.remember(&"c".into(), failed(), 1000);
        assert!(memory.recent("c", 1000).is_some());
        assert!(memory.by_key.len() <= 2);
    }

    #[test]
    fn long_texts_are_not_kept() {
        let (mut memory, key) = (memory(2), "k".into());
        let passed = |len| Passed {
            status: http::StatusCode::BAD_GATEWAY,
            headers: Headers::keep(&http::HeaderMap::new()),
            body: vec![b'x'; len].into(),
        };
        memory.remember(&key, Failed::Passed(Arc::new(passed(LONGEST_TEXT + 1))), 0);
        assert!(memory.recent("k", 0).is_none());
        memory.remember(&key, Failed::Passed(Arc::new(passed(10))), 0);
        assert!(memory.recent("k", 0).is_some());
    }
}
