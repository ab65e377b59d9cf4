use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// Asks for something under an id that is its name too.
fn ask(policy: &mut Policy, id: u32, weight: u64) {
    if policy.contains(id) {
        policy.marks().mark(id);
    } else {
        policy.insert(id, fingerprint(id), weight, &mut Vec::new());
    }
}

fn fingerprint(id: u32) -> u64 {
    u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn held(policy: &Policy, ids: std::ops::Range<u32>) -> usize {
    ids.filter(|id| policy.contains(*id)).count()
}

#[test]
fn a_scan_does_not_displace_what_is_asked_for_often() {
    let mut policy = Policy::new(100, usize::MAX);
    for _ in 0..5 {
        (0..50).for_each(|id| ask(&mut policy, id, 1));
    }
    (1000..30_000).for_each(|id| ask(&mut policy, id, 1));
    assert_eq!(held(&policy, 0..50), 50);
}

#[test]
fn a_scan_of_zips_and_mods_does_not_displace_what_is_asked_for_often() {
    let mut policy = Policy::new(100 * MIB, usize::MAX);
    for _ in 0..5 {
        (0..50).for_each(|id| ask(&mut policy, id, MIB));
    }
    for id in 1000..3000 {
        ask(&mut policy, id, if id % 2 == 0 { MIB } else { 500 });
    }
    assert_eq!(held(&policy, 0..50), 50);
}

#[test]
fn what_is_light_outlives_what_is_heavy() {
    let mut policy = Policy::new(100 * MIB, usize::MAX);
    (0..200).for_each(|id| ask(&mut policy, id, MIB));
    (200..300).for_each(|id| ask(&mut policy, id, 500));
    // Asked for twice, so that they press on the main queue.
    for id in 1000..1400 {
        ask(&mut policy, id, MIB);
        ask(&mut policy, id, MIB);
    }
    assert_eq!(held(&policy, 200..300), 100);
    for id in 1400..4000 {
        ask(&mut policy, id, MIB);
        ask(&mut policy, id, MIB);
    }
    assert_eq!(held(&policy, 200..300), 0, "lives come to an end");
}

#[test]
fn nothing_is_light_where_the_number_is_what_is_scarce() {
    let mut policy = Policy::new(1 << 40, 100);
    for _ in 0..5 {
        (0..50).for_each(|id| ask(&mut policy, id, MIB));
    }
    (1000..3000).for_each(|id| ask(&mut policy, id, 500));
    assert_eq!(held(&policy, 0..50), 50);
}

#[test]
fn what_comes_back_soon_enters_the_main_queue_under_any_id() {
    let mut policy = Policy::new(10, usize::MAX);
    (0..11).for_each(|id| ask(&mut policy, id, 1));
    assert!(!policy.contains(0));
    policy.insert(99, fingerprint(0), 1, &mut Vec::new());
    assert_eq!(policy.queues.place(99), Place::Main);
}

#[test]
fn what_replaces_something_visited_enters_the_main_queue() {
    let mut policy = Policy::new(10, usize::MAX);
    ask(&mut policy, 1, 1);
    ask(&mut policy, 1, 1);
    ask(&mut policy, 2, 1);
    assert!(policy.remove(1) && policy.remove(2));
    policy.insert(11, fingerprint(1), 1, &mut Vec::new());
    policy.insert(12, fingerprint(2), 1, &mut Vec::new());
    assert_eq!(policy.queues.place(11), Place::Main);
    assert_eq!(policy.queues.place(12), Place::Small);
}

#[test]
fn what_is_heavier_than_everything_is_handed_back() {
    let mut policy = Policy::new(10, usize::MAX);
    let mut evicted = Vec::new();
    policy.insert(1, 1, 5, &mut evicted);
    policy.insert(2, 2, 11, &mut evicted);
    assert_eq!(evicted, [2]);
    policy.reweigh(1, 11, &mut evicted);
    assert_eq!(evicted, [2, 1]);
    assert_eq!((policy.used(), policy.len()), (0, 0));
}

#[test]
fn an_entry_that_grows_displaces_others() {
    let mut policy = Policy::new(10, usize::MAX);
    let mut evicted = Vec::new();
    (0..5).for_each(|id| policy.insert(id, fingerprint(id), 2, &mut evicted));
    policy.reweigh(4, 7, &mut evicted);
    assert_eq!(evicted, [0, 1, 2]);
    assert_eq!(policy.used(), 9);
}

#[test]
fn a_visit_to_a_predecessor_does_not_count_for_the_newcomer() {
    let mut policy = Policy::new(10, usize::MAX);
    ask(&mut policy, 1, 1);
    policy.marks().mark(1);
    policy.remove(1);
    policy.insert(1, fingerprint(7), 1, &mut Vec::new());
    assert_eq!(policy.marks.take_all(1), 0);
}

#[test]
fn readers_who_mark_all_the_time_do_not_keep_an_eviction_from_ending() {
    let mut policy = Policy::new(100, usize::MAX);
    (0..100).for_each(|id| ask(&mut policy, id, 1));
    let marks = policy.marks().clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                (0..100).for_each(|id| marks.mark(id));
            }
        }
    });
    (100..1000).for_each(|id| ask(&mut policy, id, 1));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().unwrap();
    assert_eq!(policy.used(), 100);
}

#[test]
fn an_entry_costs_23_bytes() {
    let entries: u32 = 1 << 20;
    let mut policy = Policy::new(1 << 40, entries as usize);
    let mut free: Vec<u32> = (0..=entries).rev().collect();
    for name in 0..2 * entries {
        let id = free.pop().unwrap();
        policy.insert(id, fingerprint(name), 1, &mut free);
    }
    let marks = entries as usize;
    let memory = policy.queues.memory() + policy.ghosts.memory() + marks;
    assert_eq!(policy.len(), entries as usize);
    let slack = 200 * 1024;
    assert!(memory <= 23 * entries as usize + slack, "{memory}");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, u64),
    Mark(u32),
    Remove(u32),
    Reweigh(u32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly light, so that lives are given.
    let weight = || prop_oneof![2 => 0u64..4, 1 => 0u64..60];
    prop_oneof![
        4 => (0u32..60, weight()).prop_map(|(id, weight)| Step::Insert(id, weight)),
        3 => (0u32..60).prop_map(Step::Mark),
        1 => (0u32..60).prop_map(Step::Remove),
        1 => (0u32..60, weight()).prop_map(|(id, weight)| Step::Reweigh(id, weight)),
    ]
}

proptest! {
    #[test]
    fn it_never_exceeds_its_bounds_and_never_loses_what_it_holds(
        capacity in 0u64..200,
        most in 0usize..30,
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut policy = Policy::new(capacity, most);
        let mut model: HashMap<u32, u64> = HashMap::new();
        for step in steps {
            let mut evicted = Vec::new();
            match step {
                Step::Insert(id, weight) => {
                    model.insert(id, weight);
                    policy.insert(id, fingerprint(id), weight, &mut evicted);
                }
                Step::Mark(id) => policy.marks().mark(id),
                Step::Remove(id) => {
                    prop_assert_eq!(policy.remove(id), model.remove(&id).is_some());
                }
                Step::Reweigh(id, weight) => {
                    model.entry(id).and_modify(|held| *held = weight);
                    policy.reweigh(id, weight, &mut evicted);
                }
            }
            for gone in evicted {
                prop_assert!(model.remove(&gone).is_some(), "{} handed back twice", gone);
            }
            prop_assert!(policy.used() <= capacity && policy.len() <= most);
            prop_assert_eq!(policy.used(), model.values().sum::<u64>());
            prop_assert_eq!(policy.len(), model.len());
            prop_assert!(model.keys().all(|id| policy.contains(*id)));
        }
        while let Some(gone) = policy.evict() {
            prop_assert!(model.remove(&gone).is_some(), "{} was lost or is linked twice", gone);
        }
        prop_assert!(model.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Call {
    Insert(u8, u64),
    Mark(u8),
    Remove(u8),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0u8..40, 0u64..40).prop_map(|(key, weight)| Call::Insert(key, weight)),
        3 => (0u8..40).prop_map(Call::Mark),
        1 => (0u8..40).prop_map(Call::Remove),
    ]
}

#[derive(Clone, Default)]
struct Value(Arc<Visits>);

impl Visited for Value {
    fn visits(&self) -> &Visits {
        &self.0
    }
}

proptest! {
    #[test]
    fn keys_get_back_the_values_they_came_with(
        capacity in 0u64..200,
        most in 0usize..30,
        calls in prop::collection::vec(call(), 0..300),
    ) {
        let mut cache: Keyed<u8, Value> = Keyed::new(capacity, most);
        let mut model: HashMap<u8, (Value, u64)> = HashMap::new();
        for call in calls {
            match call {
                Call::Insert(key, weight) => {
                    let value = Value::default();
                    model.insert(key, (value.clone(), weight));
                    for (gone, value) in cache.insert(key, value, weight) {
                        let held = model.remove(&gone).map(|(held, _)| held);
                        prop_assert!(held.is_some_and(|held| Arc::ptr_eq(&held.0, &value.0)));
                    }
                }
                Call::Mark(key) => {
                    if let Some((value, _)) = model.get(&key) {
                        value.visits().mark();
                    }
                }
                Call::Remove(key) => {
                    let held = model.remove(&key).map(|(held, _)| held);
                    let removed = cache.remove(&key);
                    let same = |a: &Value, b: &Value| Arc::ptr_eq(&a.0, &b.0);
 prop_assert_eq!(held.is_some(), removed.is_some());
 prop_assert!(held.iter().zip(&removed).all(|(a, b)| same(a, b)));
                }
            }
            let weights = model.values().map(|(_, weight)| weight);
            prop_assert_eq!(cache.used(), weights.sum::<u64>());
            prop_assert_eq!(cache.len(), model.len());
        }
    }
}
