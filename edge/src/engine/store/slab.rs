//! Values by small numbers, in pieces that never move: growing copies nothing.

use std::num::NonZeroU32;

/// Values in a piece.
const PIECE: usize = 4096;

/// A number that a [`Slab`] gave out. Given out again after its value was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(NonZeroU32);

impl Id {
    /// The number, from 1 on.
    pub(super) fn get(self) -> u32 {
        self.0.get()
    }

    /// The id of that number.
    pub(super) fn of(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    fn at(place: usize) -> Option<Self> {
        u32::try_from(place + 1).ok().and_then(Self::of)
    }

    fn place(self) -> (usize, usize) {
        let place = usize::try_from(self.0.get() - 1).unwrap_or(usize::MAX);
        (place / PIECE, place % PIECE)
    }
}

/// The values. A `T` with a niche costs nothing beside itself.
pub(super) struct Slab<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<Id>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a value in. None: there are no more numbers.
    pub(super) fn insert(&mut self, value: T) -> Option<Id> {
        if let Some(id) = self.free.pop() {
            let (piece, at) = id.place();
            self.pieces[piece][at] = Some(value);
            self.len += 1;
            return Some(id);
        }
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let piece = self.pieces.len() - 1;
        let id = Id::at(piece * PIECE + self.pieces[piece].len())?;
        self.pieces[piece].push(Some(value));
        self.len += 1;
        Some(id)
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        let (piece, at) = id.place();
        self.pieces.get(piece)?.get(at)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let (piece, at) = id.place();
        self.pieces.get_mut(piece)?.get_mut(at)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let (piece, at) = id.place();
        let value = self.pieces.get_mut(piece)?.get_mut(at)?.take()?;
        self.free.push(id);
        self.len -= 1;
        Some(value)
    }

    /// All values, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let all = self.pieces.iter().flatten().enumerate();
        all.filter_map(|(place, value)| Some((Id::at(place)?, value.as_ref()?)))
    }

    /// The first value whose number is above `after`.
    pub(super) fn after(&self, after: u32) -> Option<(Id, &T)> {
        let most = self.pieces.iter().map(Vec::len).sum::<usize>();
        let numbers = after.saturating_add(1)..=u32::try_from(most).unwrap_or(u32::MAX);
        let mut ids = numbers.filter_map(Id::of);
        ids.find_map(|id| self.get(id).map(|value| (id, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_again() {
        let mut slab = Slab::new();
        let ids: Vec<Id> = (0..5000).filter_map(|value| slab.insert(value)).collect();
        assert_eq!(ids[4999].get(), 5000);
        assert_eq!(slab.remove(ids[7]), Some(7));
        assert_eq!((slab.remove(ids[7]), slab.get(ids[7])), (None, None));
        assert_eq!(slab.after(7).map(|(id, _)| id), Some(ids[8]));
        assert_eq!(slab.insert(9), Some(ids[7]));
        assert_eq!((slab.len(), slab.iter().count()), (5000, 5000));
        assert_eq!(slab.after(5000), None);
    }
}
