//! Where units belong, so that it outlives the process: who starts without it would lead every unit to
//! its best score at once, with no patience and no bound on moves.
//!
//! As bytes, numbers with the lowest byte first: the count of PoPs, of units and of views (32 bits
//! each); the PoPs' names, each with its length (16 bits) in front; the units' keys (64 bits each,
//! rising); and for each view a number for each unit: the PoP where it belongs (16 bits), or
//! [`NOWHERE`]. Ten bytes a unit with one view. Whoever writes them adds a checksum.
//!
//! Nothing here can do harm, however old it is: a unit that isn't known is decided afresh, a PoP that
//! isn't there any more is no home, and one that may not be answered is left at once.

use super::Map;
use super::index::PopIndex;
use super::layout::Basis;
use super::unit::Memory;

/// The home of a unit that scores never decided about.
const NOWHERE: u16 = u16::MAX;

/// Views are numbered with 16 bits. Bounded by itself: where there are no units, a view has no bytes.
const MAX_VIEWS: usize = 1 << 16;

/// Where units belong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Homes {
    /// Names of PoPs.
    pops: Vec<String>,
    /// What units are known by, rising.
    keys: Vec<u64>,
    /// For each view, by unit: an index into the PoPs, or [`NOWHERE`].
    views: Vec<Vec<u16>>,
}

/// Why bytes aren't homes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomesError {
    /// Fewer or more bytes than the counts at their head say.
    #[error("its length isn't what its head says")]
    Length,
    /// More sets of PoPs than a [`ViewId`](super::ViewId) can tell apart.
    #[error("it has more than {MAX_VIEWS} sets of pops")]
    Views,
    /// A name isn't text.
    #[error("the name of a pop isn't text")]
    Name,
    /// Keys don't rise.
    #[error("units are out of order")]
    Order,
    /// A home is none of the PoPs.
    #[error("a unit's home is none of the pops")]
    Home,
}

impl Homes {
    /// How many units have a home in some view.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no unit has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// As bytes, see the module.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.keys.len() * (8 + 2 * self.views.len()));
        for count in [self.pops.len(), self.keys.len(), self.views.len()] {
            bytes.extend((count as u32).to_le_bytes());
        }
        for name in &self.pops {
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend(self.keys.iter().flat_map(|key| key.to_le_bytes()));
        let homes = self.views.iter().flatten();
        bytes.extend(homes.flat_map(|home| home.to_le_bytes()));
        bytes
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// If they are not homes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HomesError> {
        let mut rest = Rest(bytes);
        let [pops, units, views] = [rest.count()?, rest.count()?, rest.count()?];
        if views > MAX_VIEWS {
            return Err(HomesError::Views);
        }
        let mut names = Vec::new();
        for _ in 0..pops {
            let length = u16::from_le_bytes(rest.word()?);
            let name = rest.take(length.into())?.to_vec();
            names.push(String::from_utf8(name).map_err(|_| HomesError::Name)?);
        }
        let keys: Vec<u64> = rest.words(units, u64::from_le_bytes)?;
        let mut homes = Vec::new();
        for _ in 0..views {
            homes.push(rest.words(units, u16::from_le_bytes)?);
        }
        if !rest.0.is_empty() {
            return Err(HomesError::Length);
        }
        if !keys.is_sorted_by(|a, b| a < b) {
            return Err(HomesError::Order);
        }
        let known = |home: &u16| *home == NOWHERE || usize::from(*home) < names.len();
        if !homes.iter().flatten().all(known) {
            return Err(HomesError::Home);
        }
        Ok(Self {
            pops: names,
            keys,
            views: homes,
        })
    }
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HomesError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HomesError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], HomesError> {
        let (word, rest) = self.0.split_first_chunk().ok_or(HomesError::Length)?;
        self.0 = rest;
        Ok(*word)
    }

    fn count(&mut self) -> Result<usize, HomesError> {
        Ok(u32::from_le_bytes(self.word()?) as usize)
    }

    /// Reads no more than there is, whatever the count.
    fn words<const N: usize, T>(
        &mut self,
        count: usize,
        of: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, HomesError> {
        let length = count.checked_mul(N).ok_or(HomesError::Length)?;
        let (words, _) = self.take(length)?.as_chunks();
        Ok(words.iter().map(|word| of(*word)).collect())
    }
}

impl Map {
    /// Where units belong, to be kept.
    #[must_use]
    pub fn homes(&self) -> Homes {
        let mut units: Vec<(u64, u32)> = (self.keys().zip(0..))
            .filter(|(_, unit)| {
                let mut views = self.views.iter();
                views.any(|led| led.verdicts[*unit as usize].is_some())
            })
            .collect();
        units.sort_unstable();
        units.dedup_by_key(|(key, _)| *key);
        let views = self.views.iter().map(|led| {
            let homes = units.iter().map(|(_, unit)| led.verdicts[*unit as usize]);
            homes
                .map(|verdict| verdict.map_or(NOWHERE, |verdict| verdict.home.get() as u16))
                .collect()
        });
        Homes {
            pops: self.pops().iter().map(|pop| pop.name.clone()).collect(),
            views: views.collect(),
            keys: units.into_iter().map(|(key, _)| key).collect(),
        }
    }
}

/// What was kept, as the first map sees it.
pub(super) struct Kept<'a> {
    homes: &'a Homes,
    /// What its PoPs are now, by their names.
    pops: Vec<Option<PopIndex>>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(homes: &'a Homes, new: &Map) -> Self {
        let names = homes.pops.iter();
        Self {
            homes,
            pops: names.map(|name| new.pop_named(name)).collect(),
        }
    }

    /// Where a unit belonged; one that was not yet measured when that was kept, where its neighbours
    /// did.
    pub(super) fn memory(&self, view: usize, unit: Basis, new: &Map) -> Option<Memory> {
        let around = match unit {
            Basis::Scored(traits, Some(_)) => Some(Basis::Scored(traits, None)),
            _ => None,
        };
        let index = |unit| self.homes.keys.binary_search(&new.key(unit)).ok();
        let index = index(unit).or_else(|| index(around?))?;
        let home = self.homes.views.get(view)?[index];
        let home = (*self.pops.get(usize::from(home))?)?;
        Some(Memory::settled(home, [None; 2]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn any_homes() -> impl Strategy<Value = Homes> {
        let keys = proptest::collection::btree_set(any::<u64>(), 0..20);
        (vec("[a-zé]{0,9}", 1..5), keys, 0usize..3).prop_flat_map(|(pops, keys, views)| {
            let home = prop_oneof![0..pops.len() as u16, Just(NOWHERE)];
            let keys: Vec<u64> = keys.into_iter().collect();
            vec(vec(home, keys.len()), views).prop_map(move |views| Homes {
                pops: pops.clone(),
                keys: keys.clone(),
                views,
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(homes in any_homes()) {
            prop_assert_eq!(Homes::from_bytes(&homes.to_bytes()), Ok(homes));
        }

        #[test]
        fn whatever_is_read_is_whole_or_refused(
            homes in any_homes(), at in any::<proptest::sample::Index>(), byte: u8, cut: bool,
        ) {
            let mut bytes = homes.to_bytes();
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
                prop_assert!(Homes::from_bytes(&bytes).is_err());
            } else {
                bytes[at] = byte;
                if let Ok(read) = Homes::from_bytes(&bytes) {
                    prop_assert_eq!(read.to_bytes(), bytes);
                }
            }
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Homes::from_bytes(&bytes);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let homes = |keys: &[u64], home| Homes {
            pops: vec!["eu".to_owned()],
            keys: keys.to_vec(),
            views: vec![vec![home; keys.len()]],
        };
        let read = |homes: Homes| Homes::from_bytes(&homes.to_bytes());
        assert_eq!(read(homes(&[2, 1], 0)), Err(HomesError::Order));
        assert_eq!(read(homes(&[1, 1], 0)), Err(HomesError::Order));
        assert_eq!(read(homes(&[1, 2], 1)), Err(HomesError::Home));
        let mut longer = homes(&[1], 0).to_bytes();
        longer.push(0);
        assert_eq!(Homes::from_bytes(&longer), Err(HomesError::Length));
        let mut unread = homes(&[], 0).to_bytes();
        let name = unread.len() - 1;
        unread[name] = 0xff;
        assert_eq!(Homes::from_bytes(&unread), Err(HomesError::Name));
        // Counts that promise more than there is.
        let mut promising = [0xff; 12];
        assert_eq!(Homes::from_bytes(&promising), Err(HomesError::Views));
        promising[10..].fill(0);
        assert_eq!(Homes::from_bytes(&promising), Err(HomesError::Length));
    }
}
