//! From decisions to what a table holds: each stretch's answer with the scope in which it holds.
//!
//! The scope is the largest aligned block around an address in which every address gets the same
//! answer. A block's TTL is the shortest in it, for a resolver keeps one answer for all of it; what
//! decided may differ within, and is kept apart for logs and metrics.

use super::space::{Family, Steps};
use super::{AnswerId, Source};

/// What is decided about a stretch of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) answer: AnswerId,
    pub(super) source: Source,
    /// An index into the map's deadlines, below [`CLASSES`].
    pub(super) class: u8,
}

/// TTL classes that an entry has room for.
pub(super) const CLASSES: u8 = 16;

const SOURCE_AT: u32 = 16;
const CLASS_AT: u32 = 20;
const SCOPE_AT: u32 = 24;

/// A leaf and its scope, in 30 bits.
#[derive(Clone, Copy)]
pub(super) struct Entry(pub(super) u32);

impl Entry {
    fn new(leaf: Leaf, class: u8, scope: u8) -> Self {
        let fields = u32::from(leaf.source as u8) << SOURCE_AT
            | u32::from(class) << CLASS_AT
            | u32::from(scope) << SCOPE_AT;
        Self(u32::from(leaf.answer.0) | fields)
    }

    #[inline]
    pub(super) fn leaf(self) -> Leaf {
        Leaf {
            answer: AnswerId(self.0 as u16),
            source: Source::ALL[(self.0 >> SOURCE_AT & 0xf) as usize],
            class: (self.0 >> CLASS_AT & 0xf) as u8,
        }
    }

    #[inline]
    pub(super) fn scope(self) -> u8 {
        (self.0 >> SCOPE_AT & 0x3f) as u8
    }
}

impl Leaf {
    /// What must be equal for two addresses to share a scope: the answer, and whether it is the
    /// subnet's own or left to whoever asks.
    fn told(&self) -> (AnswerId, bool) {
        (self.answer, self.source.is_of_client())
    }
}

/// The entries of a family, and how many scopes there are.
pub(super) fn scoped(family: Family, leaves: &[(u64, Leaf)]) -> (Steps<u32>, usize) {
    let mut scopes = Scopes {
        cap: family.cap(),
        entries: Steps::empty(),
        count: 0,
    };
    scopes.block(leaves, 0, 0);
    (scopes.entries, scopes.count)
}

struct Scopes {
    cap: u8,
    entries: Steps<u32>,
    count: usize,
}

impl Scopes {
    /// Takes the block of the first `depth` bits of `first`; the first leaf holds there, the others
    /// begin in it.
    fn block(&mut self, leaves: &[(u64, Leaf)], first: u64, depth: u8) {
        let told = leaves[0].1.told();
        if depth == self.cap || leaves.iter().all(|(_, leaf)| leaf.told() == told) {
            return self.close(leaves, first, depth);
        }
        let middle = first | 1 << (63 - depth);
        let upper = leaves.partition_point(|(start, _)| *start < middle);
        let begins = leaves.get(upper).is_some_and(|(start, _)| *start == middle);
        self.block(&leaves[..upper], first, depth + 1);
        let upper = if begins { upper } else { upper - 1 };
        self.block(&leaves[upper..], middle, depth + 1);
    }

    fn close(&mut self, leaves: &[(u64, Leaf)], first: u64, depth: u8) {
        self.count += 1;
        let classes = leaves.iter().map(|(_, leaf)| leaf.class);
        let class = classes.min().unwrap_or(0);
        for (start, leaf) in leaves {
            // Scope 0 would let a resolver keep it for the other family too (RFC 7871 §7.3.1).
            let entry = Entry::new(*leaf, class, depth.max(1));
            self.entries.put((*start).max(first), entry.0);
        }
    }
}
