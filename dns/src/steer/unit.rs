//! One decision: which PoP a unit is led to, given the estimates, the loads and what it was led to
//! before.
//!
//! Three steps. The *home* of a unit is the PoP it belongs to: at first the one of the best score;
//! later it moves only for a gain that lasts, or at once if the home may not be answered. *Shedding*
//! leads a part of a loaded home's units elsewhere without moving their homes, so they come back by
//! themselves; a loaded PoP also closes to others' units, a part at a time. The *runner-up* joins the
//! answer if it is about as near and open to the unit.

use super::constants::Constants;
use super::index::PopIndex;
use super::world::Estimate;

/// What was decided about a unit, and what the next map must remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Where it belongs.
    pub(super) home: PopIndex,
    /// Where it is led: its home unless shed.
    pub(super) shown: PopIndex,
    /// The second PoP of the answer.
    pub(super) second: Option<PopIndex>,
    /// The PoP that was better in the last window.
    pub(super) challenger: Option<PopIndex>,
    /// In how many windows running it was.
    pub(super) streak: u8,
}

/// What the next map must know of the last one's verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) home: PopIndex,
    /// Where it was led, and what was second: they have it already.
    pub(super) had: [Option<PopIndex>; 2],
    pub(super) challenger: Option<PopIndex>,
    pub(super) streak: u8,
}

impl Memory {
    /// A unit that belongs to `home` and has no wish to move.
    pub(super) fn settled(home: PopIndex, had: [Option<PopIndex>; 2]) -> Self {
        Self {
            home,
            had,
            challenger: None,
            streak: 0,
        }
    }
}

/// What a PoP does about its load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Relief {
    /// The part of the units at home there that are led elsewhere.
    pub(super) shed: f64,
    /// The part of all others that it doesn't take: as a refuge for what is shed, or as the second of
    /// an answer.
    pub(super) closed: f64,
}

/// A part that is within so much of none or all is none or all: steps alone would never get there.
const SNAP: f64 = 0.001;

impl Relief {
    /// What a PoP's load and weight ask for.
    pub(super) fn wanted(load: f64, weight: f64, constants: &Constants) -> Self {
        let ramp = |from: f64, span: f64| ((load - from) / span.max(f64::EPSILON)).clamp(0.0, 1.0);
        let spared = 1.0 - weight.clamp(0.0, 1.0);
        let room = constants.load_ceiling - constants.shed_from;
        Self {
            shed: ramp(constants.shed_from, constants.shed_span).max(spared),
            closed: ramp(constants.shed_from, room).max(spared),
        }
    }

    /// A part of the way from here to what is wanted.
    pub(super) fn towards(self, wanted: Self, part: f64) -> Self {
        let go = |from: f64, to: f64| {
            let at = from + part * (to - from);
            if (at - to).abs() < SNAP { to } else { at }
        };
        Self {
            shed: go(self.shed, wanted.shed),
            closed: go(self.closed, wanted.closed),
        }
    }

    /// Whether it does anything.
    pub(super) fn is_any(self) -> bool {
        self.shed > 0.0 || self.closed > 0.0
    }
}

/// The PoPs as they are, for the units of one view.
pub(super) struct Field<'a> {
    pub(super) constants: &'a Constants,
    /// The PoPs of the view that may be answered.
    pub(super) usable: &'a [usize],
    /// Those of them with load to spare.
    pub(super) roomy: &'a [usize],
    /// What each PoP does about its load.
    pub(super) relief: &'a [Relief],
    /// Whether evidence counts: a window has ended since it last did.
    pub(super) counts: bool,
}

impl Field<'_> {
    /// Where a unit belongs and how its evidence stands. `None`: no PoP may be answered.
    pub(super) fn home(
        &self,
        estimates: &[Estimate],
        memory: Option<Memory>,
    ) -> Option<(Memory, f64)> {
        let had = memory.map_or([None; 2], |memory| memory.had);
        let settled = |home: usize| (Memory::settled(PopIndex::of(home), had), 0.0);
        let Some(memory) = memory else {
            return best(self.usable, estimates, None).map(settled);
        };
        let home = memory.home.get();
        if !self.usable.contains(&home) {
            let home = best(self.roomy, estimates, None);
            let home = home.or_else(|| best(self.usable, estimates, None));
            return home.map(settled);
        }
        let Some(challenger) = best(self.roomy, estimates, Some(home)) else {
            return Some(settled(home));
        };
        let (now, then) = (estimates[home].score(), estimates[challenger].score());
        let gain = now - then;
        let wanted = self.constants.gain_ms.max(self.constants.gain_part * now);
        if gain < wanted {
            return Some(settled(home));
        }
        let same = memory.challenger == Some(PopIndex::of(challenger));
        let streak = match (same, self.counts) {
            (true, true) => memory.streak.saturating_add(1).min(self.constants.windows),
            (true, false) => memory.streak,
            (false, counts) => u8::from(counts),
        };
        let memory = Memory {
            challenger: Some(PopIndex::of(challenger)),
            streak,
            ..memory
        };
        Some((memory, gain))
    }

    /// Whether a unit has waited long enough to move to its challenger.
    pub(super) fn wants(&self, memory: Memory) -> Option<PopIndex> {
        memory
            .challenger
            .filter(|_| memory.streak >= self.constants.windows)
    }

    /// What a unit is answered.
    pub(super) fn verdict(&self, key: u64, memory: Memory, estimates: &[Estimate]) -> Verdict {
        let home = memory.home.get();
        let guests = || {
            let others = self.usable.iter().copied().filter(|pop| *pop != home);
            others.filter(|pop| self.takes(*pop, key, memory.had))
        };
        let refuge = if fraction(key, home) < self.relief[home].shed {
            best_of(guests(), estimates)
        } else {
            None
        };
        let shown = refuge.unwrap_or(home);
        let others = guests().filter(|pop| *pop != shown);
        let second = best_of(others, estimates).filter(|second| {
            let behind = estimates[*second].score() - estimates[shown].score();
            behind <= self.constants.runner_up_ms
        });
        Verdict {
            home: memory.home,
            shown: PopIndex::of(shown),
            second: second.map(PopIndex::of),
            challenger: memory.challenger,
            streak: memory.streak,
        }
    }

    /// Whether a PoP takes a unit that isn't at home there. Those that it has leave little by little
    /// as it closes; above the ceiling no others come.
    fn takes(&self, pop: usize, key: u64, had: [Option<PopIndex>; 2]) -> bool {
        let has = had.contains(&Some(PopIndex::of(pop)));
        fraction(key, pop) >= self.relief[pop].closed && (has || self.roomy.contains(&pop))
    }

    /// Windows until the answer could change by what is known now.
    pub(super) fn windows_left(&self, verdict: Verdict) -> u8 {
        let pops = [Some(verdict.home), Some(verdict.shown), verdict.second];
        let is_busy = |pop: &PopIndex| self.relief[pop.get()].is_any();
        let by_load = pops.iter().flatten().any(is_busy);
        let by_score = self.constants.windows - verdict.streak.min(self.constants.windows);
        if by_load { by_score.min(1) } else { by_score }
    }
}

fn best(pops: &[usize], estimates: &[Estimate], but: Option<usize>) -> Option<usize> {
    best_of(
        pops.iter().copied().filter(|pop| Some(*pop) != but),
        estimates,
    )
}

/// The PoP of the best score; of equals the first.
fn best_of(pops: impl Iterator<Item = usize>, estimates: &[Estimate]) -> Option<usize> {
    pops.min_by(|a, b| {
        let (a, b) = (estimates[*a].score(), estimates[*b].score());
        a.total_cmp(&b)
    })
}

/// Where in 0–1 a unit stands among a PoP's: the same at every time and on every server, so that
/// more load sheds more units and never others instead.
pub(super) fn fraction(key: u64, pop: usize) -> f64 {
    (mix(key, pop as u64) >> 11) as f64 / (1u64 << 53) as f64
}

/// Stirs a word into a hash (the finaliser of splitmix64). Not against adversaries: units are made
/// of operators' data.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let mut z =
        (hash ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
