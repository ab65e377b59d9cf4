//! The answers of all mounts that are in memory, bounded in bytes, and when each is to be refreshed.
//!
//! What was asked for longest ago goes first; it comes back from disk. An answer has a moment at which
//! it is due; it is handed out then, once, whoever still wants it to be refreshed. What leaves memory is
//! never due.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::answer::Answer;

/// What an answer costs in memory beside its body, key and validator, roughly.
pub(super) const OVERHEAD: u64 = 512;

/// See the module.
pub(crate) struct Memory {
    held: Mutex<Held>,
    /// Something is due earlier than before.
    sooner: Notify,
    gauge: IntGauge,
}

/// An answer that is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) answer: Arc<Answer>,
    /// When it is said to have changed since.
    pub(crate) changed: Option<Instant>,
}

/// An answer whose time has come.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// The mount's prefix and the path below it.
    pub(crate) key: Arc<str>,
    /// When it was last asked for.
    pub(crate) asked: Instant,
    pub(crate) changed: Option<Instant>,
}

#[derive(Default)]
struct Held {
    limit: u64,
    bytes: u64,
    answers: BTreeMap<Arc<str>, Slot>,
    /// What was asked for longest ago first.
    order: BTreeMap<u64, Arc<str>>,
    due: BTreeMap<(Instant, u64), Arc<str>>,
    next: u64,
}

struct Slot {
    known: Known,
    asked: Instant,
    /// Its place in the order.
    place: u64,
    /// When it is to be refreshed, at the earliest. `None` while that is under way.
    refresh: Option<Instant>,
    /// Its place among those that are due.
    due: Option<(Instant, u64)>,
}

impl Memory {
    /// Memory for so many bytes, which are shown by the gauge.
    pub(crate) fn new(limit: u64, gauge: IntGauge) -> Arc<Self> {
        let held = Held {
            limit,
            ..Held::default()
        };
        Arc::new(Self {
            held: Mutex::new(held),
            sooner: Notify::new(),
            gauge,
        })
    }

    /// The answer, which somebody asks for now.
    pub(super) fn ask(&self, key: &str) -> Option<Known> {
        let known = self.held.lock().ask(key, Instant::now());
        if known.as_ref().is_some_and(|(_, sooner)| *sooner) {
            self.sooner.notify_one();
        }
        known.map(|(known, _)| known)
    }

    /// The answer, which nobody asks for.
    pub(super) fn peek(&self, key: &str) -> Option<Known> {
        let held = self.held.lock();
        held.answers.get(key).map(|slot| slot.known.clone())
    }

    /// Keeps an answer in the place of the one before.
    pub(super) fn put(&self, key: &str, known: Known, refresh: Option<Instant>) {
        let mut held = self.held.lock();
        held.put(key, known, refresh, Instant::now());
        self.gauge.set(held.bytes.cast_signed());
        drop(held);
        self.sooner.notify_one();
    }

    /// Forgets an answer.
    pub(super) fn remove(&self, key: &str) {
        let mut held = self.held.lock();
        held.remove(key);
        self.gauge.set(held.bytes.cast_signed());
    }

    /// Everything below a path is doubted, and due now. How many answers that are.
    pub(crate) fn change(&self, below: &str) -> usize {
        let changed = self.held.lock().change(below, Instant::now());
        self.sooner.notify_one();
        changed
    }

    /// Nobody wanted it to be refreshed: it is due when it is asked for again.
    pub(crate) fn rest(&self, key: &str) {
        if let Some(slot) = self.held.lock().answers.get_mut(key) {
            slot.refresh = Some(Instant::now());
        }
    }

    /// Makes an answer due then, unless it is due already.
    pub(crate) fn again(&self, key: &str, then: Instant) {
        self.held.lock().again(key, then);
        self.sooner.notify_one();
    }

    /// Waits for the next answer whose time has come.
    pub(crate) async fn due(&self) -> Due {
        loop {
            let sooner = self.sooner.notified();
            let (due, next) = self.held.lock().due(Instant::now());
            match (due, next) {
                (Some(due), _) => return due,
                (None, Some(next)) => {
                    // Either the time has come, or another answer is due before.
                    let _ = timeout_at(next.into(), sooner).await;
                }
                (None, None) => sooner.await,
            }
        }
    }
}

impl Held {
    /// And whether it is due sooner than before.
    fn ask(&mut self, key: &str, now: Instant) -> Option<(Known, bool)> {
        let next = self.next;
        let slot = self.answers.get_mut(key)?;
        slot.asked = now;
        let name = self.order.remove(&slot.place)?;
        slot.place = next;
        let (known, due) = (slot.known.clone(), slot.due);
        let refresh = slot.refresh.filter(|_| due.is_none());
        self.order.insert(next, name);
        self.next += 1;
        if let Some(refresh) = refresh {
            self.again(key, refresh.max(now));
        }
        Some((known, refresh.is_some()))
    }

    fn put(&mut self, key: &str, known: Known, refresh: Option<Instant>, now: Instant) {
        let before = self.remove(key).map(|before| (before.asked, before.place));
        let (asked, place) = before.unwrap_or((now, self.next));
        self.next += 1;
        let key: Arc<str> = key.into();
        self.bytes += cost(&key, &known);
        self.order.insert(place, key.clone());
        let slot = Slot {
            known,
            asked,
            place,
            refresh,
            due: None,
        };
        self.answers.insert(key.clone(), slot);
        if let Some(refresh) = refresh {
            self.again(&key, refresh);
        }
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.order.first_key_value() else {
                break;
            };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &str) -> Option<Slot> {
        let (key, slot) = self.answers.remove_entry(key)?;
        self.bytes -= cost(&key, &slot.known);
        self.order.remove(&slot.place);
        if let Some(due) = slot.due {
            self.due.remove(&due);
        }
        Some(slot)
    }

    fn change(&mut self, below: &str, now: Instant) -> usize {
        let from = (Bound::Included(below), Bound::Unbounded);
        let from = self.answers.range::<str, _>(from);
        let keys: Vec<Arc<str>> = from
            .take_while(|(key, _)| key.starts_with(below))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            if let Some(slot) = self.answers.get_mut(key) {
                slot.known.changed = Some(now);
                if let Some(due) = slot.due.take() {
                    self.due.remove(&due);
                }
            }
            self.again(key, now);
        }
        keys.len()
    }

    fn again(&mut self, key: &str, then: Instant) {
        if let Some((key, slot)) = self.answers.get_key_value(key)
            && slot.due.is_none()
        {
            let (key, due) = (key.clone(), (then, self.next));
            self.next += 1;
            if let Some(slot) = self.answers.get_mut(&key) {
                slot.due = Some(due);
                slot.refresh = Some(then);
            }
            self.due.insert(due, key);
        }
    }

    /// What is due, and else when something will be.
    fn due(&mut self, now: Instant) -> (Option<Due>, Option<Instant>) {
        let Some(first) = self.due.first_entry() else {
            return (None, None);
        };
        let (then, _) = *first.key();
        if then > now {
            return (None, Some(then));
        }
        let key = first.remove();
        let due = self.answers.get_mut(&key).map(|slot| {
            slot.due = None;
            slot.refresh = None;
            Due {
                key,
                asked: slot.asked,
                changed: slot.known.changed,
            }
        });
        (due, Some(now))
    }
}

fn cost(key: &str, known: &Known) -> u64 {
    OVERHEAD + (key.len() + known.answer.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn known(text: &str) -> Known {
        Known {
            answer: Arc::new(Answer::new(text.as_bytes(), None)),
            changed: None,
        }
    }

    fn held(limit: u64) -> Held {
        Held {
            limit,
            ..Held::default()
        }
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let now = Instant::now();
        let mut held = held(3 * (OVERHEAD + 3));
        for key in ["/a", "/b", "/c"] {
            held.put(key, known("x"), None, now);
        }
        held.ask("/a", now);
        held.put("/b", known("y"), None, now);
        held.put("/d", known("x"), None, now);
        let left: Vec<&str> = held.answers.keys().map(|key| &**key).collect();
        assert_eq!(left, ["/a", "/c", "/d"]);
    }

    #[test]
    fn an_answer_is_due_once_and_again_when_it_is_asked_for() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut held = held(1 << 20);
        held.put("/a", known("x"), Some(at(30)), at(0));
        held.put("/b", known("x"), Some(at(40)), at(0));
        held.put("/c", known("x"), None, at(0));
        assert_eq!(held.due(at(29)).1, Some(at(30)));
        held.ask("/a", at(20));
        let due = held.due(at(30)).0.unwrap();
        assert_eq!((&*due.key, due.asked), ("/a", at(20)));
        // While it is refreshed, asking changes nothing.
        held.ask("/a", at(31));
        assert_eq!(held.due(at(31)).1, Some(at(40)));
        held.again("/a", at(35));
        held.ask("/a", at(32));
        assert_eq!(held.due(at(35)).0.unwrap().key, "/a".into());
        held.put("/a", known("x"), Some(at(60)), at(36));
        held.remove("/b");
        held.ask("/c", at(37));
        assert_eq!(held.due(at(50)).1, Some(at(60)));
    }

    #[tokio::test]
    async fn what_nobody_wants_rests_until_it_is_asked_for() {
        let memory = Memory::new(1 << 20, IntGauge::new("x", "x").unwrap());
        memory.put("/a", known("x"), Some(Instant::now()));
        let due = memory.due().await;
        memory.rest(&due.key);
        assert!(memory.held.lock().due.is_empty());
        memory.ask("/a");
        assert_eq!(memory.due().await.key, "/a".into());
    }

    #[test]
    fn what_changed_is_doubted_and_due_at_once() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut held = held(1 << 20);
        for key in [
            "/m/@latest",
            "/m/@v/list",
            "/m/sub/@v/list",
            "/mm/@v/list",
            "/l/x",
        ] {
            held.put(key, known("x"), Some(at(30)), at(0));
        }
        assert_eq!(held.change("/m/", at(1)), 3);
        let mut due = Vec::new();
        while let (Some(next), _) = held.due(at(1)) {
            assert_eq!(next.changed, Some(at(1)));
            due.push(next.key.to_string());
        }
        assert_eq!(due, ["/m/@latest", "/m/@v/list", "/m/sub/@v/list"]);
        assert!(held.ask("/m/@v/list", at(2)).unwrap().0.changed.is_some());
        held.put("/m/@v/list", known("y"), None, at(3));
        assert!(held.ask("/m/@v/list", at(4)).unwrap().0.changed.is_none());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_what_is_due_sooner() {
        let memory = Memory::new(1 << 20, IntGauge::new("x", "x").unwrap());
        let far = Instant::now() + Duration::from_secs(3600);
        memory.put("/far", known("x"), Some(far));
        let waiting = memory.clone();
        let due = tokio::spawn(async move { waiting.due().await });
        tokio::task::yield_now().await;
        memory.put("/now", known("x"), Some(Instant::now()));
        assert_eq!(due.await.unwrap().key, "/now".into());
    }

    proptest! {
        /// Whatever happens: as many bytes as the answers cost, never more than the limit, and
        /// order and due times of just what is there.
        #[test]
        fn the_books_are_always_right(
            steps in prop::collection::vec((0u8..6, 0u8..8, 0usize..300, 0u64..50), 0..80),
        ) {
            let start = Instant::now();
            let limit = 4 * OVERHEAD;
            let mut held = held(limit);
            for (n, (step, key, len, secs)) in steps.into_iter().enumerate() {
                let key = format!("/{}/{key}", key % 3);
                let now = start + Duration::from_secs(n as u64);
                let then = now + Duration::from_secs(secs);
                match step {
                    0 | 1 => held.put(&key, known(&"x".repeat(len)), Some(then), now),
                    2 => drop(held.ask(&key, now)),
                    3 => drop(held.remove(&key)),
                    4 => drop(held.change(&key[..3], now)),
                    _ => drop(held.due(now)),
                }
                let bytes: u64 = held.answers.iter().map(|(k, s)| cost(k, &s.known)).sum();
                prop_assert_eq!(held.bytes, bytes);
                prop_assert!(bytes <= limit);
                prop_assert_eq!(held.order.len(), held.answers.len());
                for (place, key) in &held.order {
                    prop_assert_eq!(held.answers[key].place, *place);
                }
                let due = held.answers.values().filter(|slot| slot.due.is_some()).count();
                prop_assert_eq!(held.due.len(), due);
                for (due, key) in &held.due {
                    prop_assert_eq!(held.answers[key].due, Some(*due));
                }
            }
        }
    }
}
