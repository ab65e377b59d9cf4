//! From inputs to a map.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::changes::{Cause, Changes, MAX_MOVES, Move};
use super::constants::Constants;
use super::homes::{Homes, Kept};
use super::index::PopIndex;
use super::layout::{Basis, Layout};
use super::moves::{Wish, Wishes, allowance};
use super::past::Past;
use super::samples::Samples;
use super::scope::{CLASSES, Leaf, scoped};
use super::space::Family;
use super::trie::Trie;
use super::unit::{Field, Memory, Relief, Verdict};
use super::world::{Estimate, World};
use super::{Answer, AnswerId, Inputs, Led, Map, Source, State};

/// The class of what changes only with the configuration or a PoP's state.
pub(super) const STABLE: u8 = CLASSES - 1;

/// Makes a map. Pure: the same arguments, the same map.
#[must_use]
pub fn compile(
    inputs: &Inputs,
    before: Option<&Map>,
    constants: &Constants,
    now: Instant,
) -> (Map, Changes) {
    make(inputs, before, None, constants, now)
}

/// Makes the first map of a process that knows where units belonged before it began: they still do,
/// and move by the rules by which they move from map to map.
#[must_use]
pub fn resume(
    inputs: &Inputs,
    homes: &Homes,
    constants: &Constants,
    now: Instant,
) -> (Map, Changes) {
    make(inputs, None, Some(homes), constants, now)
}

fn make(
    inputs: &Inputs,
    before: Option<&Map>,
    homes: Option<&Homes>,
    constants: &Constants,
    now: Instant,
) -> (Map, Changes) {
    let inputs = normalised(inputs);
    let world = World::new(&inputs, constants);
    let layout = Layout::new(&inputs, &world);
    let window = Window::new(before, constants, now);
    let mut map = Map {
        version: before.map_or(1, |map| map.version + 1),
        answers: Answers::new(&inputs),
        views: Vec::new(),
        relief: relief(&inputs, before, constants, now),
        // The world has taken what it needs of them, so who collects them needn't copy them.
        inputs: Inputs {
            samples: Arc::new(Samples::default()),
            ..inputs
        },
        constants: constants.clone(),
        world: Arc::new(world),
        layout: Arc::new(layout),
        at: now,
        evidence_at: window.evidence_at,
        deadlines: window.deadlines,
    };
    let past = before.map(|before| Past::new(before, &map));
    let kept = homes.map(|homes| Kept::new(homes, &map));
    let mut changes = Changes {
        before: before.map_or(0, |map| map.version),
        after: map.version,
        ..Changes::default()
    };
    for view in 0..map.inputs.views.len() {
        let mut making = Making::new(&map, past.as_ref(), kept.as_ref(), view, window.counts);
        making.decide();
        making.report(&mut changes);
        let (led, answers) = making.finish(&mut changes);
        map.answers = answers;
        map.views.push(Arc::new(led));
    }
    (map, changes)
}

/// Inputs whose lists have an entry for each PoP and at least one view.
fn normalised(inputs: &Inputs) -> Inputs {
    let mut inputs = inputs.clone();
    let pops = inputs.pops.len();
    inputs.states.resize(pops, State::Up);
    inputs.load.resize(pops, 0.0);
    inputs.weight.resize(pops, 1.0);
    inputs.bias.resize(pops, 0.0);
    inputs.order.retain(|pop| *pop < pops);
    for view in &mut inputs.views {
        view.retain(|pop| *pop < pops);
    }
    if inputs.views.is_empty() {
        inputs.views.push((0..pops).collect());
    }
    inputs
}

/// What each PoP does about its load now: a step from what it did towards what the load asks for.
fn relief(
    inputs: &Inputs,
    before: Option<&Map>,
    constants: &Constants,
    now: Instant,
) -> Vec<Relief> {
    let past = before.map(|map| {
        let windows = now.saturating_duration_since(map.at).as_secs_f64()
            / constants.window.as_secs_f64().max(f64::EPSILON);
        (map, 1.0 - (1.0 - constants.shed_step).powf(windows))
    });
    let of = |pop: usize| {
        let wanted = Relief::wanted(inputs.load[pop], inputs.weight[pop], constants);
        let last = past.and_then(|(map, step)| {
            let mut olds = map.inputs.pops.iter();
            let index = olds.position(|old| old.name == inputs.pops[pop].name)?;
            Some(map.relief[index].towards(wanted, step))
        });
        last.unwrap_or(wanted)
    };
    (0..inputs.pops.len()).map(of).collect()
}

struct Window {
    counts: bool,
    evidence_at: Instant,
    deadlines: [Option<Instant>; CLASSES as usize],
}

impl Window {
    fn new(before: Option<&Map>, constants: &Constants, now: Instant) -> Self {
        // A tenth early is in time: whoever compiles once a window needn't hit it exactly.
        let due = constants.window.mul_f64(0.9);
        let last = before.map(|map| map.evidence_at);
        let counts = last.is_none_or(|last| now.saturating_duration_since(last) >= due);
        let evidence_at = last.filter(|_| !counts).unwrap_or(now);
        let deadlines = std::array::from_fn(|class| {
            let after = constants.window.checked_mul(class as u32)?;
            evidence_at
                .checked_add(after)
                .filter(|_| class != usize::from(STABLE))
        });
        Self {
            counts,
            evidence_at,
            deadlines,
        }
    }
}

/// Answers as they are met.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers {
    pub(super) list: Vec<Answer>,
    pub(super) pairs: HashMap<(PopIndex, PopIndex), AnswerId>,
}

impl Answers {
    pub(super) fn new(inputs: &Inputs) -> Self {
        let single = |(index, pop): (usize, &super::Pop)| Answer {
            pops: vec![index],
            name: pop.name.clone(),
        };
        let singles = inputs.pops.iter().enumerate().map(single);
        let all = inputs.views.iter().map(|view| all_of(inputs, view));
        Self {
            list: singles.chain(all).collect(),
            pairs: HashMap::new(),
        }
    }

    fn of(&mut self, first: PopIndex, second: Option<PopIndex>) -> AnswerId {
        let single = AnswerId(first.get() as u16);
        let Some(second) = second else {
            return single;
        };
        if let Some(known) = self.pairs.get(&(first, second)) {
            return *known;
        }
        // Where there are more pairs than numbers, the rest does without a second PoP.
        let Ok(id) = u16::try_from(self.list.len()) else {
            return single;
        };
        let name = |pop: PopIndex| &self.list[pop.get()].name;
        self.list.push(Answer {
            pops: vec![first.get(), second.get()],
            name: format!("{}+{}", name(first), name(second)),
        });
        self.pairs.insert((first, second), AnswerId(id));
        AnswerId(id)
    }
}

pub(super) fn all_of(inputs: &Inputs, view: &[usize]) -> Answer {
    let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
        view.iter().copied().filter(|pop| wanted(*pop)).collect()
    };
    let healthy = of(&|pop| inputs.is_healthy(pop));
    let draining = of(&|pop| inputs.state(pop) == State::Draining);
    let (pops, name) = match (healthy.is_empty(), draining.is_empty()) {
        (false, _) => (healthy, "healthy"),
        (true, false) => (draining, "draining"),
        (true, true) => (view.to_vec(), "every"),
    };
    Answer {
        pops,
        name: name.to_owned(),
    }
}

/// A view while it is decided.
struct Making<'a> {
    map: &'a Map,
    past: Option<&'a Past<'a>>,
    kept: Option<&'a Kept<'a>>,
    view: usize,
    usable: Vec<usize>,
    roomy: Vec<usize>,
    counts: bool,
    answers: Answers,
    verdicts: Vec<Option<Verdict>>,
    leaves: Vec<Leaf>,
    allowance: f64,
    waiting: usize,
}

impl<'a> Making<'a> {
    fn new(
        map: &'a Map,
        past: Option<&'a Past<'a>>,
        kept: Option<&'a Kept<'a>>,
        view: usize,
        counts: bool,
    ) -> Self {
        let pops = map.inputs.views[view].iter().copied();
        let usable: Vec<_> = pops.filter(|pop| map.inputs.is_healthy(*pop)).collect();
        let has_room = |pop: &usize| map.inputs.load[*pop] <= map.constants.load_ceiling;
        let units = map.layout.units.len();
        Self {
            map,
            past,
            kept,
            view,
            roomy: usable.iter().copied().filter(has_room).collect(),
            usable,
            counts,
            answers: map.answers.clone(),
            verdicts: vec![None; units],
            leaves: Vec::with_capacity(units),
            allowance: allowance(map, past, view),
            waiting: 0,
        }
    }

    fn field(&self) -> Field<'_> {
        Field {
            constants: &self.map.constants,
            usable: &self.usable,
            roomy: &self.roomy,
            relief: &self.map.relief,
            counts: self.counts,
        }
    }

    fn decide(&mut self) {
        let mut estimates = Vec::new();
        let mut wishes = Wishes::up_to(self.allowance as usize);
        for (index, unit) in self.map.layout.units.iter().enumerate() {
            let leaf = match *unit {
                Basis::Pin(pin) => self.pinned(self.map.inputs.pins[pin as usize].1, Source::Pin),
                Basis::AsnPin(asn) => self.pinned(self.map.inputs.asn_pins[&asn], Source::AsnPin),
                Basis::Unknown => self.unknown(),
                Basis::Scored(..) => self.scored(index, *unit, &mut estimates, &mut wishes),
            };
            self.leaves.push(leaf);
        }
        self.grant(wishes, &mut estimates);
    }

    fn grant(&mut self, wishes: Wishes, estimates: &mut Vec<Estimate>) {
        let (granted, waiting) = wishes.granted();
        self.allowance -= granted.len() as f64;
        self.waiting = waiting;
        for wish in granted {
            let memory = Memory::settled(wish.to, wish.had);
            let unit = self.map.layout.units[wish.unit];
            self.map.estimate(unit, estimates);
            self.leaves[wish.unit] = self.settle(wish.unit, unit, memory, estimates);
        }
    }

    /// What was decided about a unit before.
    fn memory(&self, index: usize, unit: Basis) -> Option<Memory> {
        match (self.past, self.kept) {
            (Some(past), _) => past.memory(self.view, index),
            (None, Some(kept)) => kept.memory(self.view, unit, self.map),
            (None, None) => None,
        }
    }

    fn scored(
        &mut self,
        index: usize,
        unit: Basis,
        estimates: &mut Vec<Estimate>,
        wishes: &mut Wishes,
    ) -> Leaf {
        let memory = self.memory(index, unit);
        self.map.estimate(unit, estimates);
        let Some((memory, gain)) = self.field().home(estimates, memory) else {
            // Nothing may be answered: what was known is kept for when something may again.
            self.verdicts[index] = memory.map(|memory| Verdict {
                home: memory.home,
                shown: memory.home,
                second: None,
                challenger: None,
                streak: 0,
            });
            return self.everyone();
        };
        if let Some(to) = self.field().wants(memory) {
            wishes.push(Wish {
                gain,
                key: self.map.key(unit),
                unit: index,
                to,
                had: memory.had,
            });
        }
        self.settle(index, unit, memory, estimates)
    }

    fn settle(
        &mut self,
        index: usize,
        unit: Basis,
        memory: Memory,
        estimates: &[Estimate],
    ) -> Leaf {
        let key = self.map.key(unit);
        let verdict = self.field().verdict(key, memory, estimates);
        self.verdicts[index] = Some(verdict);
        Leaf {
            answer: self.answers.of(verdict.shown, verdict.second),
            source: self.map.source(unit),
            class: self.field().windows_left(verdict),
        }
    }

    /// The PoP of a pin, or the nearest to it.
    fn pinned(&self, pop: usize, source: Source) -> Leaf {
        let at = |pop: usize| self.map.inputs.pops[pop].at;
        let led = if self.usable.contains(&pop) {
            Some(pop)
        } else {
            let usable = self.usable.iter().copied();
            usable.min_by(|a, b| at(pop).km_to(at(*a)).total_cmp(&at(pop).km_to(at(*b))))
        };
        led.map_or_else(|| self.everyone(), |pop| stable(pop, source))
    }

    /// The first healthy PoP of the operator's order, else all healthy ones.
    fn unknown(&self) -> Leaf {
        let mut order = self.map.inputs.order.iter().copied();
        let first = order.find(|pop| self.usable.contains(pop));
        first.map_or_else(|| self.everyone(), |pop| stable(pop, Source::Order))
    }

    fn everyone(&self) -> Leaf {
        let source = if self.usable.is_empty() {
            Source::NoneHealthy
        } else {
            Source::All
        };
        stable(self.map.inputs.pops.len() + self.view, source)
    }

    /// Notes what moved.
    fn report(&self, changes: &mut Changes) {
        changes.units += self.leaves.len();
        changes.waiting += self.waiting;
        let Some(past) = self.past else {
            return;
        };
        let Some(led) = past.map.views.get(self.view) else {
            return;
        };
        for (index, unit) in self.map.layout.units.iter().enumerate() {
            let old = past.unit(index);
            let old_leaf = led.leaves[old];
            let first = |answer: &Answer| answer.pops.first().copied();
            let old_pop = first(past.map.answer(old_leaf.answer));
            let from = old_pop.and_then(|pop| past.pop(pop));
            let to = first(&self.answers.list[self.leaves[index].answer.index()]);
            if from == to && old_pop.is_some() == to.is_some() {
                continue;
            }
            let cause = self.cause(index, from, old_leaf.source, led.verdicts[old]);
            *changes.totals.entry(cause).or_default() += 1;
            if changes.moves.len() < MAX_MOVES {
                let name = |map: &Map, pop: Option<usize>| {
                    pop.map_or_else(String::new, |pop| map.inputs.pops[pop].name.clone())
                };
                changes.moves.push(Move {
                    view: self.view as u16,
                    unit: self.map.name_of(*unit),
                    from: name(past.map, old_pop),
                    to: name(self.map, to),
                    cause,
                    gain_ms: self.gain(*unit, from, to),
                });
            }
        }
    }

    fn cause(
        &self,
        index: usize,
        from: Option<usize>,
        old_source: Source,
        old: Option<Verdict>,
    ) -> Cause {
        let leaf = self.leaves[index];
        let is_shed = |verdict: Option<Verdict>| verdict.is_some_and(|v| v.shown != v.home);
        match from.map(|pop| self.map.inputs.state(pop)) {
            None => Cause::Gone,
            Some(State::Down) => Cause::Down,
            Some(State::Draining) => Cause::Draining,
            Some(_) if leaf.source.is_operators() || old_source.is_operators() => Cause::Operator,
            Some(_) if leaf.source == Source::Order && old_source == Source::Order => {
                Cause::Operator
            }
            Some(_) if old_source == Source::NoneHealthy => Cause::Back,
            Some(_) if is_shed(self.verdicts[index]) => Cause::Shed,
            Some(_) if is_shed(old) => Cause::Restored,
            Some(_) if old.is_none() || self.verdicts[index].is_none() => Cause::Known,
            Some(_) => Cause::Better,
        }
    }

    fn gain(&self, basis: Basis, from: Option<usize>, to: Option<usize>) -> Option<f64> {
        let Basis::Scored(..) = basis else {
            return None;
        };
        let mut estimates = Vec::new();
        self.map.estimate(basis, &mut estimates);
        Some(super::explain::rounded(
            estimates[from?].score() - estimates[to?].score(),
        ))
    }

    fn finish(self, changes: &mut Changes) -> (Led, Answers) {
        let tables = Family::ALL.map(|family| {
            let stretches = self.map.layout.stretches[family as usize].as_slice();
            let scoped = scoped(family, stretches, &self.leaves);
            changes.stretches += stretches.len();
            changes.scopes += scoped.scopes;
            scoped.table
        });
        let mut fine = Trie::default();
        for (net, pop) in self.map.inputs.pins.iter() {
            if net.prefix_len() > super::cap(net.network()) {
                fine.insert(*net, self.pinned(*pop, Source::Pin));
            }
        }
        let led = Led {
            tables,
            fine,
            verdicts: self.verdicts,
            leaves: self.leaves,
            allowance: self.allowance,
        };
        (led, self.answers)
    }
}

fn stable(answer: usize, source: Source) -> Leaf {
    Leaf {
        answer: AnswerId(answer as u16),
        source,
        class: STABLE,
    }
}
