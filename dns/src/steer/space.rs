//! The address space as the map sees it: left-aligned in 64 bits, and functions that are constant
//! between steps.
//!
//! No answer depends on bits beyond [`Family::cap`], so 64 are enough for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{SUBNET_CAP_V4, SUBNET_CAP_V6};

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The most bits that an answer depends on.
    pub(super) fn cap(self) -> u8 {
        match self {
            Self::V4 => SUBNET_CAP_V4,
            Self::V6 => SUBNET_CAP_V6,
        }
    }

    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The prefix of some of the bits.
    pub(super) fn net(self, key: Key) -> IpNet {
        let address = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from((key.first >> 32) as u32)),
            Self::V6 => IpAddr::V6(Ipv6Addr::from(u128::from(key.first) << 64)),
        };
        IpNet::new(address, key.length).expect("a key is no longer than the cap")
    }
}

/// The first 64 bits of an address; of an IPv4 address all, followed by zeros.
pub(super) fn bits(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)) << 32,
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

/// A prefix within a family, no longer than the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) first: u64,
    pub(super) length: u8,
}

impl Key {
    /// Cuts a prefix to the cap.
    pub(super) fn cut(net: IpNet) -> (Family, Self) {
        let family = Family::of(net.network());
        let length = net.prefix_len().min(family.cap());
        let first = bits(net.network()) & !below(length);
        (family, Self { first, length })
    }

    /// A prefix as far as it decides about the first address of any block of the cap's size:
    /// whole if it isn't longer than the cap, nothing if it doesn't hold such an address.
    pub(super) fn deciding(net: IpNet) -> Option<(Family, Self)> {
        let (family, key) = Self::cut(net);
        let cut = match net.network() {
            IpAddr::V4(v4) => u64::from(u32::from(v4)) << 32 == key.first,
            IpAddr::V6(v6) => u128::from(v6) == u128::from(key.first) << 64,
        };
        cut.then_some((family, key))
    }

    pub(super) fn last(self) -> u64 {
        self.first | below(self.length)
    }
}

/// The bits beyond a prefix length.
pub(super) fn below(length: u8) -> u64 {
    u64::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

/// A function of the bits that is constant from each step's start to the next one's. The first
/// starts at zero, and neighbours differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Steps<T>(Vec<(u64, T)>);

impl<T: Copy + PartialEq> Steps<T> {
    /// The same everywhere.
    pub(super) fn constant(value: T) -> Self {
        Self(vec![(0, value)])
    }

    /// The value of the longest prefix at each place, `outside` where there is none. Of equal
    /// prefixes the one with the higher rank wins, and of equal ranks the later.
    pub(super) fn of_prefixes(mut prefixes: Vec<(Key, u8, T)>, outside: T) -> Self {
        prefixes.sort_by_key(|(key, rank, _)| (*key, *rank));
        let mut steps = Self::with_capacity(2 * prefixes.len() + 1);
        steps.put(0, outside);
        let mut open: Vec<(u64, T)> = Vec::new();
        for (key, _, value) in prefixes {
            steps.close(&mut open, Some(key.first), outside);
            steps.put(key.first, value);
            open.push((key.last(), value));
        }
        steps.close(&mut open, None, outside);
        steps.0.shrink_to_fit();
        steps
    }

    fn close(&mut self, open: &mut Vec<(u64, T)>, until: Option<u64>, outside: T) {
        while let Some(&(last, _)) = open.last() {
            if until.is_some_and(|until| until <= last) {
                return;
            }
            open.pop();
            if let Some(next) = last.checked_add(1) {
                self.put(next, open.last().map_or(outside, |(_, value)| *value));
            }
        }
    }

    /// Adds a step; starts must not fall.
    pub(super) fn put(&mut self, start: u64, value: T) {
        if self.0.last().is_some_and(|last| last.0 == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.1 != value) {
            self.0.push((start, value));
        }
    }

    /// No step yet, and room for some: growing leaves holes in memory behind.
    pub(super) fn with_capacity(steps: usize) -> Self {
        Self(Vec::with_capacity(steps))
    }

    /// Lets go of what was held to grow.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn as_slice(&self) -> &[(u64, T)] {
        &self.0
    }

    pub(super) fn at(&self, bits: u64) -> T {
        self.0[self.0.partition_point(|step| step.0 <= bits) - 1].1
    }
}

/// Walks several functions at once: yields the start of every stretch in which none changes.
pub(super) struct Walk<'a, T> {
    functions: Vec<&'a [(u64, T)]>,
    next: Option<u64>,
}

impl<'a, T: Copy + PartialEq> Walk<'a, T> {
    pub(super) fn new(functions: impl IntoIterator<Item = &'a Steps<T>>) -> Self {
        Self {
            functions: functions.into_iter().map(Steps::as_slice).collect(),
            next: Some(0),
        }
    }

    /// The next stretch: its start, and each function's value in it.
    pub(super) fn next<const N: usize>(&mut self) -> Option<(u64, [T; N])> {
        let start = self.next?;
        let mut next = None;
        let values = std::array::from_fn(|index| {
            let steps = &mut self.functions[index];
            while steps.get(1).is_some_and(|step| step.0 <= start) {
                *steps = &steps[1..];
            }
            if let Some(step) = steps.get(1) {
                next = Some(next.map_or(step.0, |next: u64| next.min(step.0)));
            }
            steps[0].1
        });
        self.next = next;
        Some((start, values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_are_the_longest_match_everywhere(
            prefixes in proptest::collection::vec((any::<u64>(), 0u8..=24, any::<u32>()), 0..20),
            probes in proptest::collection::vec(any::<u64>(), 1..20),
        ) {
            let keyed: Vec<_> = prefixes
                .iter()
                .map(|&(first, length, value)| {
                    (Key { first: first & !below(length), length }, 0, value)
                })
                .collect();
            let steps = Steps::of_prefixes(keyed.clone(), 7);
            prop_assert!(steps.0.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1));
            let edges = keyed.iter().flat_map(|(key, _, _)| {
                [key.first, key.last(), key.first.wrapping_sub(1), key.last().wrapping_add(1)]
            });
            for probe in probes.into_iter().chain(edges) {
                let holding = keyed.iter().filter(|(k, _, _)| (k.first..=k.last()).contains(&probe));
                let longest = holding.max_by_key(|(key, _, _)| key.length);
                prop_assert_eq!(steps.at(probe), longest.map_or(7, |l| l.2));
            }
        }

        #[test]
        fn a_walk_sees_every_function(
            a in proptest::collection::vec((any::<u64>(), 1u8..=24, 0u32..4), 0..9),
            b in proptest::collection::vec((any::<u64>(), 1u8..=24, 0u32..4), 0..9),
        ) {
            let steps = |list: Vec<(u64, u8, u32)>| {
                let keyed = list.into_iter().map(|(first, length, value)| {
                    (Key { first: first & !below(length), length }, 0, value)
                });
                Steps::of_prefixes(keyed.collect(), 9)
            };
            let (a, b) = (steps(a), steps(b));
            let mut walk = Walk::new([&a, &b]);
            let mut starts = Vec::new();
            while let Some((start, [x, y])) = walk.next::<2>() {
                prop_assert_eq!((x, y), (a.at(start), b.at(start)));
                starts.push(start);
            }
            let mut expected: Vec<_> =
                a.0.iter().chain(&b.0).map(|step| step.0).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(starts, expected);
        }
    }

    #[test]
    fn only_what_holds_the_first_address_of_a_block_decides() {
        let deciding = |text: &str| Key::deciding(text.parse().unwrap()).is_some();
        assert!(deciding("192.0.2.0/24") && deciding("192.0.2.0/26") && deciding("192.0.2.0/32"));
        assert!(!deciding("192.0.2.64/26") && !deciding("2001:db8::1/128"));
        assert!(deciding("2001:db8::/128") && deciding("2001:db8:0:100::/64"));
        assert!(!deciding("2001:db8:0:101::/64"));
    }
}
