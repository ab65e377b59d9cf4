//! The short way from a query to its answer, for what nearly every query is: a plain one
//! ([`Plain`]) for the addresses of a steered name.
//!
//! Such an answer depends on the query's bytes, on the PoPs chosen and on the scope. So it is made
//! by choosing on the map and copying bytes that were kept, without decoding, encoding or
//! allocating. The bytes kept are learnt from the responder's own answers, each when it is first
//! asked for, and forgotten with the snapshot that they were learnt of. Everything else takes the
//! long way, and whatever is answered here is, byte for byte, what the responder would have answered.

mod plain;
mod rendered;

use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Guard};
use hickory_proto::rr::RecordType;

use crate::ecs::ClientSubnet;
use crate::metrics::{Counters, Metrics};
use crate::respond::{Ask, Note, SubnetUse, Transport};
use crate::snapshot::Snapshot;
use crate::steer::{AnswerId, Choice, Client, ViewId};
use crate::zone::{Found, Role, Zones};
pub use plain::{Plain, PlainEdns};
use rendered::{Rendered, Terms};

/// Types whose answers depend on nothing but the PoPs chosen.
const KINDS: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::HTTPS];

/// What was learnt for the snapshot in use; shared by all that answer.
#[derive(Debug, Default)]
pub struct Fast {
    table: ArcSwap<Table>,
}

/// What was learnt for one snapshot.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Only compared, never used: so an old map's memory isn't kept.
    of: Weak<Snapshot>,
    /// By their hashes, of which few are the same.
    questions: Vec<Question>,
    /// What questions point at.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Question {
    hash: u64,
    canonical: Vec<u8>,
    /// Among which PoPs its name chooses.
    view: ViewId,
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

    /// Learns from an answer that this snapshot gave. False: there was nothing to learn.
    pub fn learn(
        &self,
        query: &[u8],
        ask: &Ask,
        on: &Arc<Snapshot>,
        (note, answer): (&Note, &[u8]),
        metrics: &Metrics,
    ) -> bool {
        let Some((plain, choice)) = Plain::read(query).zip(note.choice) else {
            return false;
        };
        let Some(view) = view(on.responder.zones(), note) else {
            return false;
        };
        let Some(rendered) = Rendered::learn(&plain, answer, terms(ask, on, choice)) else {
            return false;
        };
        let entry = Entry {
            rendered,
            counters: metrics.counters(note, &on.map.answer(choice.answer).name),
        };
        // What two threads learn at once, one of them learns again.
        let mut table = Arc::unwrap_or_clone(self.table.load_full());
        if !table.is_of(on) {
            table = Table {
                of: Arc::downgrade(on),
                ..Table::default()
            };
        }
        table.add(&plain, view, choice.answer, entry);
        self.table.store(Arc::new(table));
        true
    }
}

/// Among which PoPs the name of an answer chooses, if the answer depends on nothing but them.
fn view(zones: &Zones, note: &Note) -> Option<ViewId> {
    let question = note.question.as_ref()?;
    if !KINDS.contains(&question.kind) {
        return None;
    }
    match zones.find(&question.name, question.kind) {
        Found::Node(_, node) => match node.role() {
            Role::Steered { view, .. } => Some(*view),
            _ => None,
        },
        _ => None,
    }
}

fn terms(ask: &Ask, on: &Snapshot, choice: Choice) -> Terms {
    Terms {
        transport: ask.transport,
        scope: choice.scope,
        ttl: choice.ttl,
        payload: on.responder.payload(),
    }
}

impl Table {
    /// Answers a query the short way into `out`, if that can be done and the asker's network is
    /// within its rate.
    #[must_use]
    pub fn answer(
        &self,
        query: &[u8],
        ask: &Ask,
        on: &Arc<Snapshot>,
        out: &mut Vec<u8>,
    ) -> Option<Hit> {
        let plain = Plain::read(query)?;
        let question = self.question(&plain).filter(|_| self.is_of(on))?;
        let subnet = plain.edns.and_then(|edns| edns.subnet);
        let client = Client {
            subnet: subnet.and_then(|(subnet, _)| subnet.client()),
            resolver: ask.peer.to_canonical(),
        };
        let choice = on.map.choose(question.view, &client, ask.at.instant);
        let entry = question.entries.get(choice.answer.index()).copied()??;
        let rendered = &self.entries.get(entry)?.rendered;
        let written = rendered.write(&plain, terms(ask, on, choice), out);
        (written && on.responder.admits(ask)).then(|| Hit {
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

    fn is_of(&self, on: &Arc<Snapshot>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(on))
    }

    fn question(&self, plain: &Plain<'_>) -> Option<&Question> {
        self.position(plain).ok().map(|at| &self.questions[at])
    }

    /// Where a question is, or where it belongs.
    fn position(&self, plain: &Plain<'_>) -> Result<usize, usize> {
        let first = self.questions.partition_point(|q| q.hash < plain.hash);
        let same = self.questions[first..]
            .iter()
            .take_while(|q| q.hash == plain.hash)
            .position(|q| plain.asks(&q.canonical));
        same.map_or(Err(first), |at| Ok(first + at))
    }

    fn add(&mut self, plain: &Plain<'_>, view: ViewId, answer: AnswerId, entry: Entry) {
        let at = self.position(plain).unwrap_or_else(|at| {
            let question = Question {
                hash: plain.hash,
                canonical: plain.canonical(),
                view,
                entries: Vec::new(),
            };
            self.questions.insert(at, question);
            at
        });
        let places = &mut self.questions[at].entries;
        if places.len() <= answer.index() {
            places.resize(answer.index() + 1, None);
        }
        let place = &mut places[answer.index()];
        match *place {
            // What is whole is never replaced by what isn't.
            Some(old) if self.entries[old].rendered.is_whole() => {}
            Some(old) => self.entries[old] = entry,
            None => {
                *place = Some(self.entries.len());
                self.entries.push(entry);
            }
        }
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
    pub fn settle(&mut self, table: &Table, transport: Transport) {
        for entry in self.touched.drain(..) {
            let counts = std::mem::take(&mut self.counts[entry]);
            if let Some(entry) = table.entries.get(entry) {
                entry.counters.add(transport, counts);
            }
        }
    }
}

#[cfg(test)]
mod tests;
