//! A PoP by its number.

use std::num::NonZeroU16;

/// A PoP, by its index into [`Inputs::pops`](super::Inputs::pops). Two bytes, also where there may be
/// none: maps hold some for every unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PopIndex(NonZeroU16);

impl PopIndex {
    /// The PoP of an index.
    ///
    /// # Panics
    /// From 65,535 on: each has an address, a name and a check.
    pub(super) fn of(index: usize) -> Self {
        let number = u16::try_from(index + 1).ok().and_then(NonZeroU16::new);
        Self(number.expect("fewer than 65,535 pops"))
    }

    /// Its index.
    pub(super) fn get(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_takes_no_room_and_indices_come_back() {
        assert_eq!(size_of::<Option<PopIndex>>(), 2);
        for index in [0, 1, 65_533] {
            assert_eq!(PopIndex::of(index).get(), index);
        }
    }
}
