//! The short way from a query to its answer, for what nearly every query is: a plain one
//! ([`Plain`]) for the addresses of a steered name.
//!
//! Such an answer depends on the query's bytes, on the PoPs chosen and on the scope. So it is made
//! by choosing on the map and copying bytes that were kept, without decoding, encoding or
//! allocating. The bytes kept are learnt from the responder's own answers, each when it is first
//! asked for, and forgotten when another map is in use. Everything else takes the long way, and
//! whatever is answered here is, byte for byte, what the responder would have answered.

mod plain;
mod rendered;

use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use hickory_proto::rr::RecordType;

use crate::ecs::ClientSubnet;
use crate::metrics::{Counters, Metrics};
use crate::respond::{Ask, Note, Responder, SubnetUse};
use crate::steer::{Client, Map, ViewId};
pub use plain::{Plain, PlainEdns};
use rendered::{Rendered, Terms};

/// Types whose answers depend on nothing but the PoPs chosen.
const KINDS: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::HTTPS];

/// What was learnt for the map in use; shared by all that answer.
#[derive(Debug, Default)]
pub struct Fast {
    table: ArcSwap<Table>,
}

/// What was learnt for one map.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Only compared, never used: so an old map's memory isn't kept.
    map: Weak<Map>,
    /// By their hashes, of which few are the same.
    questions: Vec<Question>,
    /// What questions point at.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Question {
    hash: u64,
    canonical: Vec<u8>,
    /// The entry of each choice, by its slot.
    entries: Vec<Option<usize>>,
}

#[derive(Clone, Debug)]
struct Entry {
    rendered: Rendered,
    counters: Counters,
}

/// An answer made the short way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    entry: usize,
    /// What came of the client subnet.
    pub subnet_use: SubnetUse,
}

impl Fast {
    /// What was learnt, as it is now.
    #[must_use]
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Learns from an answer of the responder's. False: there was nothing to learn.
    pub fn learn(
        &self,
        query: &[u8],
        ask: &Ask,
        map: &Arc<Map>,
        responder: &Responder,
        answer: (&Note, &[u8]),
        metrics: &Metrics,
    ) -> bool {
        let (note, answer) = answer;
        let Some((plain, choice)) = Plain::read(query).zip(note.choice) else {
            return false;
        };
        if !KINDS.iter().any(|kind| u16::from(*kind) == plain.kind) {
            return false;
        }
        let terms = Terms {
            transport: ask.transport,
            scope: choice.scope,
            ttl: choice.ttl,
            payload: responder.payload(),
        };
        let Some(rendered) = Rendered::learn(&plain, answer, terms) else {
            return false;
        };
        let entry = Entry {
            rendered,
            counters: metrics.counters(note, &map.answer(choice.answer).name),
        };
        // What two threads learn at once, one of them learns again.
        let mut table = self.table.load_full();
        if !table.is_of(map) {
            table = Arc::new(Table {
                map: Arc::downgrade(map),
                ..Table::default()
            });
        }
        self.table
            .store(Arc::new(table.with(&plain, choice.answer.index(), entry)));
        true
    }
}

impl Table {
    /// Answers a query the short way into `out`, if that can be done.
    #[must_use]
    pub fn answer(
        &self,
        query: &[u8],
        ask: &Ask,
        (map, now): (&Arc<Map>, Instant),
        responder: &Responder,
        out: &mut Vec<u8>,
    ) -> Option<Hit> {
        let plain = Plain::read(query)?;
        let question = self.question(&plain)?;
        if !self.is_of(map) {
            return None;
        }
        let subnet = plain.edns.and_then(|edns| edns.subnet);
        let client = Client {
            subnet: subnet.and_then(|(subnet, _)| subnet.client()),
            resolver: ask.peer.to_canonical(),
        };
        let choice = map.choose(ViewId::default(), &client, now);
        let entry = question.entries.get(choice.answer.index()).copied()??;
        let terms = Terms {
            transport: ask.transport,
            scope: choice.scope,
            ttl: choice.ttl,
            payload: responder.payload(),
        };
        let rendered = &self.entries.get(entry)?.rendered;
        rendered.write(&plain, terms, out).then(|| Hit {
            entry,
            subnet_use: subnet_use(subnet.map(|(subnet, _)| subnet)),
        })
    }

    /// How many hits can be told apart.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was learnt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn is_of(&self, map: &Arc<Map>) -> bool {
        std::ptr::eq(self.map.as_ptr(), Arc::as_ptr(map))
    }

    fn question(&self, plain: &Plain<'_>) -> Option<&Question> {
        let first = self.questions.partition_point(|q| q.hash < plain.hash);
        let same = self.questions.get(first..)?.iter();
        same.take_while(|q| q.hash == plain.hash)
            .find(|q| plain.asks(&q.canonical))
    }

    fn with(&self, plain: &Plain<'_>, slot: usize, entry: Entry) -> Self {
        let mut table = self.clone();
        let known = table
            .questions
            .iter()
            .position(|q| q.hash == plain.hash && plain.asks(&q.canonical));
        let at = known.unwrap_or_else(|| {
            let at = table.questions.partition_point(|q| q.hash < plain.hash);
            let question = Question {
                hash: plain.hash,
                canonical: plain.canonical(),
                entries: Vec::new(),
            };
            table.questions.insert(at, question);
            at
        });
        let places = &mut table.questions[at].entries;
        if places.len() <= slot {
            places.resize(slot + 1, None);
        }
        match places[slot] {
            // What is whole is never replaced by what isn't.
            Some(old) if table.entries[old].rendered.is_whole() => {}
            Some(old) => table.entries[old] = entry,
            None => {
                places[slot] = Some(table.entries.len());
                table.entries.push(entry);
            }
        }
        table
    }
}

fn subnet_use(subnet: Option<ClientSubnet>) -> SubnetUse {
    match subnet {
        None => SubnetUse::Absent,
        Some(subnet) if subnet.client().is_none() => SubnetUse::Declined,
        Some(_) => SubnetUse::Given,
    }
}

/// How often each entry of a table answered, until it is settled with the metrics.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Vec<[u64; SubnetUse::COUNTED.len()]>,
    touched: Vec<usize>,
}

impl Tally {
    /// Counts a hit.
    pub fn count(&mut self, hit: Hit) {
        if self.counts.len() <= hit.entry {
            self.counts.resize(hit.entry + 1, Default::default());
        }
        let counts = &mut self.counts[hit.entry];
        if *counts == <[u64; SubnetUse::COUNTED.len()]>::default() {
            self.touched.push(hit.entry);
        }
        if let Some(at) = SubnetUse::COUNTED.iter().position(|u| *u == hit.subnet_use) {
            counts[at] += 1;
        }
    }

    /// Adds what was counted to the metrics. `table` is the one whose hits were counted.
    pub fn settle(&mut self, table: &Table, ask: crate::respond::Transport) {
        for entry in self.touched.drain(..) {
            let counts = std::mem::take(&mut self.counts[entry]);
            if let Some(entry) = table.entries.get(entry) {
                entry.counters.add(ask, counts);
            }
        }
    }
}

#[cfg(test)]
mod tests;
