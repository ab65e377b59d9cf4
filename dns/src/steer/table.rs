//! The compiled form of a step function: from an address to 32 bits in two or three memory reads.
//!
//! The first 16 bits index a root of 65,536 entries (256 KiB); each further 8 bits a node. An entry
//! is a value or the index of a node. A node has 256 slots but stores each run of equal ones once:
//! a bitmap says where runs begin, so the rank of a slot in it is the index of its entry. Bitmap and
//! entries lie side by side, as what is read together should; memory grows with what differs, not
//! with what is covered.

/// The bit that tells a node's index from a value.
const NODE: u32 = 1 << 31;

const ROOT_BITS: u32 = 16;
const ROOT_SHIFT: u32 = u64::BITS - ROOT_BITS;
const ROOT_SLOTS: usize = 1 << ROOT_BITS;
/// As many bits as a node resolves; its bitmap and the caps, /24 and /56, are made for eight.
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;

/// Half a cache line. A node is the half that holds its bitmap, a bit for each slot: whether its
/// entry differs from the one before; and behind it halves of words. The first word tells how many
/// bits are set in front of each 64-bit part of the bitmap, a byte for each; the entries follow, so
/// that a rank, counted from one, is the index of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(32))]
struct Half([u32; HALF]);

const HALF: usize = 8;

/// A compiled step function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    root: Box<[u32]>,
    nodes: Vec<Half>,
}

impl Table {
    /// The value at some bits.
    #[inline]
    pub(super) fn at(&self, bits: u64) -> u32 {
        let mut shift = ROOT_SHIFT;
        let mut entry = self.root[(bits >> shift) as usize];
        while entry & NODE != 0 {
            shift -= SLOT_BITS;
            let slot = (bits >> shift) as usize % SLOTS;
            entry = entry_of(&self.nodes[(entry & !NODE) as usize..], slot);
        }
        entry
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.root) + size_of_val(&*self.nodes)
    }
}

/// The entry of a slot of the node with which these halves begin.
#[inline]
fn entry_of(node: &[Half], slot: usize) -> u32 {
    let (part, bit) = (slot / 64, slot % 64);
    let starts = u64::from(node[0].0[2 * part]) | u64::from(node[0].0[2 * part + 1]) << 32;
    let before = node[1].0[0] >> (8 * part) & 0xff;
    // The first slot always begins a run, so the rank is at least one.
    let rank = (before + (starts & (u64::MAX >> (63 - bit))).count_ones()) as usize;
    node[1 + rank / HALF].0[rank % HALF]
}

/// A table in the making: steps go in, in the order of their starts. Holds those of one slot of the
/// root.
#[derive(Default)]
pub(super) struct Builder {
    root: Vec<u32>,
    nodes: Vec<Half>,
    /// The first holds where the slot begins.
    steps: Vec<(u64, u32)>,
}

impl Builder {
    /// Adds a step. The first starts at zero, starts don't fall, values have the highest bit clear.
    /// Steps start at multiples of what the levels resolve: of 2⁴⁰ (a /24) or of 2⁸ (a /56).
    pub(super) fn put(&mut self, start: u64, value: u32) {
        self.close_up_to((start >> ROOT_SHIFT) as usize);
        if self.steps.last().is_some_and(|last| last.0 == start) {
            self.steps.pop();
        }
        if self.steps.last().is_none_or(|last| last.1 != value) {
            self.steps.push((start, value));
        }
    }

    /// The table.
    pub(super) fn finish(mut self) -> Table {
        self.close_up_to(ROOT_SLOTS);
        self.nodes.shrink_to_fit();
        Table {
            root: self.root.into(),
            nodes: self.nodes,
        }
    }

    /// Ends all slots of the root before one.
    fn close_up_to(&mut self, slot: usize) {
        while self.root.len() < slot {
            match self.steps[..] {
                // One value holds throughout.
                [(_, value)] => self.root.resize(slot, value),
                _ => self.close(),
            }
        }
    }

    /// Ends a slot of the root; its last step goes on into the next.
    fn close(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let first = (self.root.len() as u64) << ROOT_SHIFT;
        let entries = self.fill(&steps, first, ROOT_SHIFT, 1);
        self.root.extend(entries);
        self.steps = steps;
        self.steps.drain(..self.steps.len() - 1);
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
        let index = index(self.nodes.len());
        let mut starts = Half::default();
        let (mut before, mut words) = (0, vec![0]);
        for (slot, entry) in slots.iter().enumerate() {
            if slot % 64 == 0 {
                before |= (words.len() as u32 - 1) << (slot / 64 * 8);
            }
            if slot == 0 || slots[slot - 1] != *entry {
                starts.0[slot / 32] |= 1 << (slot % 32);
                words.push(*entry);
            }
        }
        words[0] = before;
        self.nodes.push(starts);
        self.nodes.extend(words.chunks(HALF).map(|chunk| {
            let mut half = Half::default();
            half.0[..chunk.len()].copy_from_slice(chunk);
            half
        }));
        NODE | index
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length)
        .ok()
        .filter(|index| index & NODE == 0)
        .expect("2^31 halves of cache lines are more than memory holds")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::space::{Key, Steps, below};
    use super::*;

    fn table(steps: &Steps<u32>) -> Table {
        let mut builder = Builder::default();
        for (start, value) in steps.as_slice() {
            builder.put(*start, *value);
        }
        builder.finish()
    }

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
            let table = table(&steps);
            let edges = keyed.iter().flat_map(|(key, _, _)| {
                [key.first, key.last(), key.first.wrapping_sub(1), key.last().wrapping_add(1)]
            });
            for probe in probes.into_iter().chain(edges) {
                prop_assert_eq!(table.at(probe), steps.at(probe), "{:x}", probe);
            }
        }
    }
}
