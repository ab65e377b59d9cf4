//! Who may move: the allowance of a view, and those who want some of it.

use std::time::Duration;

use super::Map;
use super::index::PopIndex;
use super::layout::Basis;
use super::past::Past;

const MINUTE: Duration = Duration::from_secs(60);

/// Wishes that may pile up above those that can be granted.
const SLACK: usize = 1024;

/// Moves that a view may make: what was left, and what the time since has added, up to a minute's.
pub(super) fn allowance(map: &Map, past: Option<&Past<'_>>, view: usize) -> f64 {
    let scored = |unit: &&Basis| matches!(unit, Basis::Scored(..));
    let units = map.layout.units.iter().filter(scored).count() as f64;
    let minute = units * map.constants.moves_per_minute;
    let most = minute.max(1.0);
    let left = past.and_then(|past| {
        let led = past.map.views.get(view)?;
        let time = map.at.saturating_duration_since(past.map.at);
        Some(led.allowance + minute * time.as_secs_f64() / MINUTE.as_secs_f64())
    });
    left.unwrap_or(most).min(most)
}

/// A unit that may move if the allowance suffices.
pub(super) struct Wish {
    /// By how much it would be better.
    pub(super) gain: f64,
    pub(super) key: u64,
    /// Its index.
    pub(super) unit: usize,
    pub(super) to: PopIndex,
    /// See [`Memory::had`](super::unit::Memory::had).
    pub(super) had: [Option<PopIndex>; 2],
}

impl Wish {
    /// The best first.
    fn order(a: &Self, b: &Self) -> std::cmp::Ordering {
        b.gain.total_cmp(&a.gain).then(a.key.cmp(&b.key))
    }
}

/// All that is wished, of which little more is held than can be granted: in bad hours every unit
/// wishes.
pub(super) struct Wishes {
    most: usize,
    count: usize,
    list: Vec<Wish>,
}

impl Wishes {
    /// None yet; so many can be granted.
    pub(super) fn up_to(most: usize) -> Self {
        Self {
            most,
            count: 0,
            list: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, wish: Wish) {
        self.count += 1;
        self.list.push(wish);
        if self.list.len() > 2 * self.most + SLACK {
            self.cut();
        }
    }

    /// Lets go of all but the best.
    fn cut(&mut self) {
        if self.list.len() > self.most {
            self.list.select_nth_unstable_by(self.most, Wish::order);
            self.list.truncate(self.most);
        }
    }

    /// Those that are granted, the best first, and how many must wait.
    pub(super) fn granted(mut self) -> (Vec<Wish>, usize) {
        self.cut();
        self.list.sort_unstable_by(Wish::order);
        let waiting = self.count - self.list.len();
        (self.list, waiting)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_granted_however_many_wish(
            gains in proptest::collection::vec(0u8..50, 0..4000), most in 0usize..300,
        ) {
            let mut wishes = Wishes::up_to(most);
            for (unit, gain) in gains.iter().enumerate() {
                wishes.push(Wish { gain: (*gain).into(), key: unit as u64, unit, to: PopIndex::of(0), had: [None; 2] });
                prop_assert!(wishes.list.len() <= 2 * most + SLACK);
            }
            let (granted, waiting) = wishes.granted();
            let mut best: Vec<_> = gains.iter().enumerate().collect();
            best.sort_by_key(|(unit, gain)| (u8::MAX - **gain, *unit));
            best.truncate(most);
            prop_assert_eq!(granted.len() + waiting, gains.len());
            let granted: Vec<_> = granted.iter().map(|wish| wish.unit).collect();
            prop_assert_eq!(granted, best.into_iter().map(|(unit, _)| unit).collect::<Vec<_>>());
        }
    }
}
