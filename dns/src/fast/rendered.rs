//! An answer kept as bytes: of one question and one choice of PoPs, from which each answer to it is
//! made by copying and patching.
//!
//! It is learnt from an answer that the responder gave, so there is one place that knows what an
//! answer says. What is learnt is kept only if it gives that very answer back.

use super::plain::{HEADER, Plain};
use crate::ecs;
use crate::respond::{PLAIN_UDP_PAYLOAD, Transport};

/// A pointer to the question's name, where every record of an answer begins.
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER as u8];

/// The bit in the header's third byte that is copied from the query.
const RD: u8 = 0x01;

/// The bit beside it that says that something was left out.
const TC: u8 = 0x02;

/// Where in a client subnet the scope stands.
const SCOPE_AT: usize = 3;

/// An answer without what it takes from its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The header's flags, RD clear.
    flags: [u8; 2],
    /// Records of the answer section, and of the authority section.
    counts: [u16; 2],
    /// Both sections.
    records: Vec<u8>,
    /// Whether the records name nothing but the question's name, so that they hold in any case of
    /// it. Others may be compressed against its letters: these hold for lower case.
    any_case: bool,
    /// Where in `records` the TTL of the choice stands.
    ttls: Vec<usize>,
    /// Whether the scope of the choice is told.
    scope: Scope,
}

/// What an answer says of its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// That of the choice.
    Chosen,
    /// It holds for everybody.
    Zero,
    /// Not learnt yet: it was zero either way.
    Unknown,
}

/// What an answer depends on besides its query and its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How the query came.
    pub(super) transport: Transport,
    /// The scope of the choice.
    pub(super) scope: u8,
    /// The TTL of the choice.
    pub(super) ttl: u32,
    /// The largest UDP answer, which is also what we say that we take.
    pub(super) payload: u16,
}

impl Terms {
    fn limit(self, query: &Plain<'_>) -> usize {
        let limit = match (self.transport, query.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(PLAIN_UDP_PAYLOAD, self.payload),
        };
        usize::from(limit)
    }
}

impl Rendered {
    /// Learns from the answer to a query; nothing if the answer can't be had by patching.
    pub(super) fn learn(query: &Plain<'_>, answer: &[u8], terms: Terms) -> Option<Self> {
        let (header, rest) = answer.split_first_chunk::<HEADER>()?;
        let &[_, _, f1, f0, 0, 1, a1, a0, n1, n0, 0, additionals] = header else {
            return None;
        };
        let rest = rest.strip_prefix(query.question)?;
        let opt = opt_bytes(query);
        if f1 & TC != 0 || additionals != u8::from(opt > 0) {
            return None;
        }
        let (records, opt) = rest.split_at_checked(rest.len().checked_sub(opt)?)?;
        let counts = [[a1, a0], [n1, n0]].map(u16::from_be_bytes);
        let owned = owned_by_the_question(records, counts[0]);
        let any_case = counts[1] == 0 && owned.is_some();
        if !any_case && !query.is_lower {
            return None;
        }
        let rendered = Self {
            flags: [f1 & !RD, f0],
            counts,
            records: records.to_vec(),
            any_case,
            ttls: owned.unwrap_or_default(),
            scope: Scope::of(query, opt, terms.scope),
        };
        let mut again = Vec::new();
        let same = rendered.write(query, terms, &mut again) && again == answer;
        same.then_some(rendered)
    }

    /// Whether there is something to learn that is not known yet.
    pub(super) fn is_whole(&self) -> bool {
        self.scope != Scope::Unknown
    }

    /// Writes the answer to a query into `out`, which is overwritten. False: this can't answer it.
    pub(super) fn write(&self, query: &Plain<'_>, terms: Terms, out: &mut Vec<u8>) -> bool {
        let length = HEADER + query.question.len() + self.records.len() + opt_bytes(query);
        if length > terms.limit(query) || !(self.any_case || query.is_lower) {
            return false;
        }
        let Some(scope) = self.scope.told(terms.scope) else {
            return false;
        };
        out.clear();
        out.reserve(length);
        let [i1, i0] = query.id;
        let [f1, f0] = self.flags;
        let [[a1, a0], [n1, n0]] = self.counts.map(u16::to_be_bytes);
        let f1 = f1 | u8::from(query.recursion_desired);
        let additionals = u8::from(query.edns.is_some());
        out.extend_from_slice(&[i1, i0, f1, f0, 0, 1, a1, a0, n1, n0, 0, additionals]);
        out.extend_from_slice(query.question);
        let records = out.len();
        out.extend_from_slice(&self.records);
        for at in &self.ttls {
            out[records + at..][..4].copy_from_slice(&terms.ttl.to_be_bytes());
        }
        if let Some(edns) = query.edns {
            let [p1, p0] = terms.payload.to_be_bytes();
            let data = edns.subnet.map_or(&[][..], |(_, data)| data);
            // A client subnet has at most 20 bytes.
            let options = if data.is_empty() { 0 } else { 4 + data.len() } as u8;
            out.extend_from_slice(&[0, 0, 41, p1, p0, 0, 0, 0, 0, 0, options]);
            if !data.is_empty() {
                let [c1, c0] = ecs::OPTION_CODE.to_be_bytes();
                out.extend_from_slice(&[c1, c0, 0, data.len() as u8]);
                let at = out.len() + SCOPE_AT;
                out.extend_from_slice(data);
                out[at] = scope;
            }
        }
        true
    }
}

impl Scope {
    fn of(query: &Plain<'_>, opt: &[u8], chosen: u8) -> Self {
        let told = query
            .edns
            .and_then(|edns| edns.subnet)
            .and_then(|(_, data)| {
                let at = opt.len().checked_sub(data.len())? + SCOPE_AT;
                opt.get(at).copied()
            });
        match told {
            Some(told) if chosen > 0 && told == chosen => Self::Chosen,
            Some(0) if chosen > 0 => Self::Zero,
            _ => Self::Unknown,
        }
    }

    fn told(self, chosen: u8) -> Option<u8> {
        match self {
            Self::Chosen => Some(chosen),
            Self::Zero => Some(0),
            Self::Unknown => (chosen == 0).then_some(0),
        }
    }
}

/// The length of the OPT record in the answer to a query.
fn opt_bytes(query: &Plain<'_>) -> usize {
    query.edns.map_or(0, |edns| {
        11 + edns.subnet.map_or(0, |(_, data)| 4 + data.len())
    })
}

/// Where the TTLs of so many records stand, if these are no more, each owned by the question's name
/// and of a type that holds no compressed name itself (A, AAAA and HTTPS).
fn owned_by_the_question(records: &[u8], count: u16) -> Option<Vec<usize>> {
    let mut ttls = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let head = records.get(at..)?.first_chunk::<12>()?;
        let &[p1, p0, 0, 1 | 28 | 65, 0, 1, _, _, _, _, l1, l0] = head else {
            return None;
        };
        if [p1, p0] != QUESTION_NAME {
            return None;
        }
        ttls.push(at + 6);
        at += head.len() + usize::from(u16::from_be_bytes([l1, l0]));
    }
    (at == records.len()).then_some(ttls)
}
