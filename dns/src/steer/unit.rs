//! One decision: which PoP a unit is led to, given the estimates, the loads and what it was led to
//! before.
//!
//! Three steps. The *home* of a unit is the PoP it belongs to: at first the one of the best score;
//! later it moves only for a gain that lasts, or at once if the home may not be answered. *Shedding*
//! leads a part of an overloaded home's units elsewhere without moving their homes, so they come
//! back by themselves. The *runner-up* joins the answer if it is about as near.

use super::constants::Constants;
use super::world::Estimate;

/// What was decided about a unit, and what the next map must remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Where it belongs.
    pub(super) home: u16,
    /// Where it is led: its home unless shed.
    pub(super) shown: u16,
    /// The second PoP of the answer.
    pub(super) second: Option<u16>,
    /// The PoP that was better in the last window.
    pub(super) challenger: Option<u16>,
    /// In how many windows running it was.
    pub(super) streak: u8,
}

/// What the next map must know of the last one's verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) home: u16,
    pub(super) challenger: Option<u16>,
    pub(super) streak: u8,
}

/// The PoPs as they are, for the units of one view.
pub(super) struct Field<'a> {
    pub(super) constants: &'a Constants,
    /// The PoPs of the view that may be answered.
    pub(super) usable: &'a [usize],
    /// Those of them with load to spare.
    pub(super) roomy: &'a [usize],
    /// The part of each PoP's units that are led elsewhere.
    pub(super) shed: &'a [f64],
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
        let settled = |home: usize| Memory {
            home: home as u16,
            challenger: None,
            streak: 0,
        };
        let Some(memory) = memory else {
            let home = best(self.usable, estimates, None)?;
            return Some((settled(home), 0.0));
        };
        let home = usize::from(memory.home);
        if !self.usable.contains(&home) {
            let home = best(self.roomy, estimates, None);
            let home = home.or_else(|| best(self.usable, estimates, None))?;
            return Some((settled(home), 0.0));
        }
        let Some(challenger) = best(self.roomy, estimates, Some(home)) else {
            return Some((settled(home), 0.0));
        };
        let (now, then) = (estimates[home].score(), estimates[challenger].score());
        let gain = now - then;
        let wanted = self.constants.gain_ms.max(self.constants.gain_part * now);
        if gain < wanted {
            return Some((settled(home), 0.0));
        }
        let same = memory.challenger == Some(challenger as u16);
        let streak = match (same, self.counts) {
            (true, true) => memory.streak.saturating_add(1).min(self.constants.windows),
            (true, false) => memory.streak,
            (false, counts) => u8::from(counts),
        };
        let memory = Memory {
            home: memory.home,
            challenger: Some(challenger as u16),
            streak,
        };
        Some((memory, gain))
    }

    /// Whether a unit has waited long enough to move to its challenger.
    pub(super) fn wants(&self, memory: Memory) -> Option<u16> {
        memory
            .challenger
            .filter(|_| memory.streak >= self.constants.windows)
    }

    /// What a unit is answered.
    pub(super) fn verdict(&self, key: u64, memory: Memory, estimates: &[Estimate]) -> Verdict {
        let home = usize::from(memory.home);
        let sheds = fraction(key, home) < self.shed[home];
        let refuge = if sheds {
            best(self.roomy, estimates, Some(home))
        } else {
            None
        };
        let shown = refuge.unwrap_or(home);
        let others = self.roomy.iter().copied().filter(|pop| *pop != shown);
        let others = others.filter(|pop| refuge.is_none() || *pop != home);
        let second = best_of(others, estimates).filter(|second| {
            let behind = estimates[*second].score() - estimates[shown].score();
            behind <= self.constants.runner_up_ms
        });
        Verdict {
            home: memory.home,
            shown: shown as u16,
            second: second.map(|pop| pop as u16),
            challenger: memory.challenger,
            streak: memory.streak,
        }
    }

    /// Windows until the answer could change by what is known now.
    pub(super) fn windows_left(&self, verdict: Verdict) -> u8 {
        let home = usize::from(verdict.home);
        let by_load = self.shed[home] > 0.0 || !self.roomy.contains(&home);
        let by_score = self.constants.windows - verdict.streak.min(self.constants.windows);
        if by_load { by_score.min(1) } else { by_score }
    }
}

/// The part of a PoP's units to lead elsewhere at a load.
pub(super) fn shedding(load: f64, constants: &Constants) -> f64 {
    ((load - constants.shed_from) / constants.shed_span).clamp(0.0, 1.0)
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
