//! From decisions to what a table holds: each stretch's answer with the scope in which it holds.
//!
//! The scope is the largest aligned block around an address in which every address gets the same
//! answer. A block's TTL is the shortest in it, for a resolver keeps one answer for all of it; what
//! decided may differ within, and is kept apart for logs and metrics.

use super::space::Family;
use super::table::{Builder, Table};
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

/// Compiles a family: its stretches, each with the index of its leaf, to a table of entries.
pub(super) fn scoped(family: Family, stretches: &[(u64, u32)], leaves: &[Leaf]) -> Scoped {
    let mut scopes = Scopes {
        cap: family.cap(),
        leaves,
        entries: Builder::default(),
        count: 0,
    };
    scopes.block(stretches, 0, 0);
    Scoped {
        table: scopes.entries.finish(),
        scopes: scopes.count,
    }
}

/// A family, compiled.
pub(super) struct Scoped {
    pub(super) table: Table,
    /// How many scopes there are.
    pub(super) scopes: usize,
}

struct Scopes<'a> {
    cap: u8,
    leaves: &'a [Leaf],
    entries: Builder,
    count: usize,
}

impl Scopes<'_> {
    fn leaf(&self, stretch: &(u64, u32)) -> Leaf {
        self.leaves[stretch.1 as usize]
    }

    /// Takes the block of the first `depth` bits of `first`; the first stretch holds there, the
    /// others begin in it.
    fn block(&mut self, stretches: &[(u64, u32)], first: u64, depth: u8) {
        let told = self.leaf(&stretches[0]).told();
        let same = |stretch| self.leaf(stretch).told() == told;
        if depth == self.cap || stretches.iter().all(same) {
            return self.close(stretches, first, depth);
        }
        let middle = first | 1 << (63 - depth);
        let upper = stretches.partition_point(|(start, _)| *start < middle);
        let begins = (stretches.get(upper)).is_some_and(|(start, _)| *start == middle);
        self.block(&stretches[..upper], first, depth + 1);
        let upper = if begins { upper } else { upper - 1 };
        self.block(&stretches[upper..], middle, depth + 1);
    }

    fn close(&mut self, stretches: &[(u64, u32)], first: u64, depth: u8) {
        self.count += 1;
        let classes = stretches.iter().map(|stretch| self.leaf(stretch).class);
        let class = classes.min().unwrap_or(0);
        for stretch in stretches {
            // Scope 0 would let a resolver keep it for the other family too (RFC 7871 §7.3.1).
            let entry = Entry::new(self.leaf(stretch), class, depth.max(1));
            self.entries.put(stretch.0.max(first), entry.0);
        }
    }
}
