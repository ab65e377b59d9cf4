//! A byte an id, in which readers count visits without a lock.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// Visits are counted up to this.
pub(crate) const MOST_VISITS: u8 = 3;
/// Ids in the first chunk; each further chunk is as long as all before it together.
const FIRST: u64 = 1 << 10;
/// Chunks that it takes to hold a mark for every `u32`.
const CHUNKS: usize = 23;

type Chunk = OnceLock<Box<[AtomicU8]>>;

/// How often each id was asked for lately. A clone is another handle to the same marks.
///
/// Chunks are made as ids come up and never move, so a reader needs nothing but its id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Arc<[Chunk; CHUNKS]>);

impl Marks {
    /// Counts a hit. Writes nothing once the count is full, so that many cores can hit one entry
    /// without passing its cache line around; a lost race loses a count, which does no harm. Nor
    /// does a mark that comes after its id was given away: the new owner is one visit richer.
    pub(crate) fn mark(&self, id: u32) {
        let (chunk, offset) = place(id);
        let Some(marks) = self.0[chunk].get() else {
            return;
        };
        let seen = marks[offset].load(Ordering::Relaxed);
        if seen < MOST_VISITS {
            marks[offset].store(seen + 1, Ordering::Relaxed);
        }
    }

    /// Takes one visit away; false if there was none.
    pub(super) fn take_one(&self, id: u32) -> bool {
        let mark = self.at(id);
        let seen = mark.load(Ordering::Relaxed);
        mark.store(seen.saturating_sub(1), Ordering::Relaxed);
        seen > 0
    }

    /// Takes all visits away.
    pub(super) fn take_all(&self, id: u32) -> u8 {
        self.at(id).swap(0, Ordering::Relaxed)
    }

    fn at(&self, id: u32) -> &AtomicU8 {
        let (chunk, offset) = place(id);
        let marks = self.0[chunk].get_or_init(|| {
            let length = FIRST << chunk.saturating_sub(1);
            (0..length).map(|_| AtomicU8::new(0)).collect()
        });
        &marks[offset]
    }
}

/// Chunk 0 holds ids below `FIRST`, chunk n those from `FIRST << (n - 1)` on.
fn place(id: u32) -> (usize, usize) {
    let id = u64::from(id);
    let chunk = (id / FIRST).checked_ilog2().map_or(0, |log| log + 1);
    let start = if chunk == 0 { 0 } else { FIRST << (chunk - 1) };
    (chunk as usize, (id - start) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_place_of_its_own() {
        let first = FIRST as u32;
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(first - 1), (0, FIRST as usize - 1));
        assert_eq!(place(first), (1, 0));
        assert_eq!(place(2 * first - 1), (1, FIRST as usize - 1));
        assert_eq!(place(2 * first), (2, 0));
        assert_eq!(place(u32::MAX), (CHUNKS - 1, (1 << 31) - 1));
    }

    #[test]
    fn visits_are_counted_up_to_a_bound_and_taken_one_by_one() {
        let marks = Marks::default();
        marks.take_all(5000);
        (0..10).for_each(|_| marks.mark(5000));
        for _ in 0..MOST_VISITS {
            assert!(marks.take_one(5000));
        }
        assert!(!marks.take_one(5000));
        assert_eq!(marks.take_all(5001), 0);
    }

    #[test]
    fn a_mark_for_an_id_nobody_has_made_is_ignored() {
        let marks = Marks::default();
        marks.mark(7);
        assert_eq!(marks.take_all(7), 0);
    }

    #[test]
    fn marks_stay_where_they_are_when_others_are_made() {
        let marks = Marks::default();
        marks.take_all(1);
        let reader = marks.clone();
        (0..20_000).for_each(|id| assert_eq!(marks.take_all(id), 0));
        reader.mark(1);
        assert_eq!(marks.take_all(1), 1);
    }
}
