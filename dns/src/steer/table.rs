//! The compiled form of a step function: from an address to 32 bits in two or three memory reads.
//!
//! The first 16 bits index a root of 65,536 entries (256 KiB); each further 8 bits a node. An entry
//! is a value or the index of a node. A node has 256 slots but stores each run of equal ones once:
//! a bitmap says where runs begin, so the rank of a slot in it is the index of its entry. A node is
//! one cache line; memory grows with what differs, not with what is covered.

use super::space::Steps;

/// The bit that tells a node's index from a value.
const NODE: u32 = 1 << 31;

const ROOT_BITS: u32 = 16;
/// As many bits as a node resolves; its bitmap and the caps, /24 and /56, are made for eight.
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Node {
    /// A bit for each slot: whether its entry differs from the one before.
    starts: [u64; 4],
    /// Bits set in the words before each.
    before: [u16; 4],
    /// Where its entries begin.
    base: u32,
}

/// A compiled step function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    root: Box<[u32]>,
    nodes: Vec<Node>,
    entries: Vec<u32>,
}

impl Table {
    /// Compiles steps whose values have the highest bit clear. Steps must start at multiples of
    /// what the levels resolve: of 2⁴⁰ (a /24) or of 2⁸ (a /56).
    pub(super) fn of(steps: &Steps<u32>) -> Self {
        let mut table = Self {
            root: Box::default(),
            nodes: Vec::new(),
            entries: Vec::new(),
        };
        let root = table.fill(steps.as_slice(), 0, u64::BITS - ROOT_BITS, 1 << ROOT_BITS);
        table.root = root.into();
        table.nodes.shrink_to_fit();
        table.entries.shrink_to_fit();
        table
    }

    /// The value at some bits.
    #[inline]
    pub(super) fn at(&self, bits: u64) -> u32 {
        let mut shift = u64::BITS - ROOT_BITS;
        let mut entry = self.root[(bits >> shift) as usize];
        while entry & NODE != 0 {
            shift -= SLOT_BITS;
            let node = &self.nodes[(entry & !NODE) as usize];
            let slot = (bits >> shift) as usize % SLOTS;
            let (word, bit) = (slot / 64, slot % 64);
            let set = node.starts[word] & (u64::MAX >> (63 - bit));
            let rank = u32::from(node.before[word]) + set.count_ones();
            // The first slot always begins a run, so the rank is at least one.
            entry = self.entries[(node.base + rank - 1) as usize];
        }
        entry
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.root.len() * 4 + self.nodes.len() * size_of::<Node>() + self.entries.len() * 4
    }

    /// The entries of `slots` slots of 2^`shift` each from `first` on. The first of `steps` holds
    /// there.
    fn fill(&mut self, steps: &[(u64, u32)], first: u64, shift: u32, slots: usize) -> Vec<u32> {
        let mut entries = Vec::with_capacity(slots);
        let mut rest = steps;
        while entries.len() < slots {
            let start = first + ((entries.len() as u64) << shift);
            while rest.get(1).is_some_and(|step| step.0 <= start) {
                rest = &rest[1..];
            }
            // Whole slots until the value changes; the last step holds for all that are left.
            let left = slots - entries.len();
            let whole = rest
                .get(1)
                .map_or(left, |next| left.min(((next.0 - start) >> shift) as usize));
            if whole > 0 {
                entries.resize(entries.len() + whole, rest[0].1);
                continue;
            }
            let last = start | ((1 << shift) - 1);
            let within = rest.partition_point(|step| step.0 <= last);
            entries.push(self.node(&rest[..within], start, shift - SLOT_BITS));
        }
        entries
    }

    fn node(&mut self, steps: &[(u64, u32)], first: u64, shift: u32) -> u32 {
        let slots = self.fill(steps, first, shift, SLOTS);
        let base = index(self.entries.len());
        let mut starts = [0u64; 4];
        for (slot, entry) in slots.iter().enumerate() {
            if slot == 0 || slots[slot - 1] != *entry {
                starts[slot / 64] |= 1 << (slot % 64);
                self.entries.push(*entry);
            }
        }
        let mut before = [0u16; 4];
        for word in 1..before.len() {
            before[word] = before[word - 1] + starts[word - 1].count_ones() as u16;
        }
        self.nodes.push(Node {
            starts,
            before,
            base,
        });
        NODE | index(self.nodes.len() - 1)
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length)
        .ok()
        .filter(|index| index & NODE == 0)
        .expect("2^31 nodes or entries are more than memory holds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::space::{Key, below};
    use super::*;

    proptest! {
        #[test]
        fn a_table_is_its_steps(
            prefixes in proptest::collection::vec((any::<u64>(), 0u8..=56, 0u32..9), 0..40),
            near in proptest::collection::vec((any::<u64>(), 0u8..=56, 0u32..9), 0..40),
            probes in proptest::collection::vec(any::<u64>(), 1..50),
        ) {
            let near = near.iter().map(|&(bits, length, value)| (bits & 0xffff_ff00, length, value));
            let keyed = prefixes.iter().copied().chain(near).map(|(first, length, value)| {
                (Key { first: first & !below(length), length }, 0, value)
            });
            let keyed: Vec<_> = keyed.collect();
            let steps = Steps::of_prefixes(keyed.clone(), 9);
            let table = Table::of(&steps);
            let edges = keyed.iter().flat_map(|(key, _, _)| {
                [key.first, key.last(), key.first.wrapping_sub(1), key.last().wrapping_add(1)]
            });
            for probe in probes.into_iter().chain(edges) {
                prop_assert_eq!(table.at(probe), steps.at(probe), "{:x}", probe);
            }
        }
    }
}
