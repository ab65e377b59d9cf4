//! Replays a trace against one policy and counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contenders::{Named, Setting};
use crate::trace::{Event, Trace};

/// Part of the trace that only fills the cache, as one in so many.
const WARM_UP: usize = 3;
/// The longest body that enters the RAM tier (the edge's `ram_body`).
const RAM_BODY: u64 = 8 << 20;
/// Bodies up to this are packed into the journal (`packed_body`); longer ones are files in blocks.
const PACKED_BODY: u64 = 16 << 10;
const BLOCK: u64 = 4096;
/// A journal record beside the body.
const RECORD: u64 = 250;
/// The defaults: 10 GiB on disk, a million keys.
const BYTES_A_KEY: u64 = (10 << 30) / 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Ram,
    Disk,
}

impl Tier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ram => "RAM",
            Self::Disk => "disk",
        }
    }

    /// Entries in so many bytes: those of the disk tier are bounded (`keys`).
    fn most(self, capacity: u64) -> usize {
        match self {
            Self::Ram => usize::MAX,
            Self::Disk => (capacity / BYTES_A_KEY) as usize,
        }
    }

    /// What an object weighs in this tier; `None` if it isn't for this tier.
    pub(crate) fn weight(self, size: u64) -> Option<u64> {
        match self {
            Self::Ram => (size <= RAM_BODY).then_some(size),
            Self::Disk if size <= PACKED_BODY => Some(2 * (size + RECORD)),
            Self::Disk => Some(2 * RECORD + size.next_multiple_of(BLOCK)),
        }
    }
}

/// What was counted: of the clients' requests, not of the scanners'.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) asked: u64,
    pub(crate) hits: u64,
    pub(crate) bytes_asked: u64,
    pub(crate) bytes_hit: u64,
    pub(crate) events: u64,
    pub(crate) took: Duration,
    pub(crate) per_entry: usize,
}

impl Outcome {
    /// Per cent of the requests.
    pub(crate) fn objects(&self) -> f64 {
        100.0 * self.hits as f64 / self.asked as f64
    }

    /// Per cent of the bytes.
    pub(crate) fn bytes(&self) -> f64 {
        100.0 * self.bytes_hit as f64 / self.bytes_asked as f64
    }

    pub(crate) fn nanos(&self) -> f64 {
        self.took.as_nanos() as f64 / self.events as f64
    }
}

/// A tier's view of the trace.
pub(crate) struct Tape {
    pub(crate) tier: Tier,
    events: Vec<Event>,
    sizes: Vec<u64>,
    weights: Arc<[u64]>,
    /// Bytes of all objects that somebody asks for, as this tier weighs them.
    pub(crate) footprint: u64,
}

impl Tape {
    pub(crate) fn new(trace: &Trace, tier: Tier) -> Self {
        let weights = trace.sizes.iter().map(|size| tier.weight(*size));
        let weights: Vec<_> = weights.collect();
        let mut asked = vec![false; weights.len()];
        let fits = |event: &&Event| weights[event.object() as usize].is_some();
        let events: Vec<_> = trace.events.iter().filter(fits).copied().collect();
        for event in &events {
            if !matches!(event, Event::Supersede(_)) {
                asked[event.object() as usize] = true;
            }
        }
        let footprint = weights.iter().zip(asked).filter(|(_, asked)| *asked);
        Self {
            tier,
            footprint: footprint.filter_map(|(weight, _)| *weight).sum(),
            weights: weights.iter().map(|weight| weight.unwrap_or(1)).collect(),
            sizes: trace.sizes.clone(),
            events,
        }
    }

    /// Replays it with so many bytes of room.
    pub(crate) fn replay(&self, policy: &Named, capacity: u64) -> Outcome {
        let setting = Setting {
            capacity,
            most: self.tier.most(capacity),
            weights: self.weights.clone(),
        };
        let mut contender = policy.make(&setting);
        let mut outcome = Outcome {
            events: self.events.len() as u64,
            per_entry: contender.per_entry(),
            ..Outcome::default()
        };
        let counted_from = self.events.len() / WARM_UP;
        let began = Instant::now();
        for (nth, event) in self.events.iter().enumerate() {
            let id = event.object();
            if let Event::Supersede(_) = event {
                contender.supersede(id);
                continue;
            }
            let hit = self.weights[id as usize] <= capacity && contender.ask(id);
            if nth >= counted_from && matches!(event, Event::Ask(_)) {
                let size = self.sizes[id as usize];
                outcome.asked += 1;
                outcome.bytes_asked += size;
                outcome.hits += u64::from(hit);
                outcome.bytes_hit += if hit { size } else { 0 };
            }
        }
        outcome.took = began.elapsed();
        outcome
    }
}
