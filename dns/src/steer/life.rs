//! What happens to a map between two compilations.

use super::compile::{Answers, all_of};
use super::{Answer, Inputs, Map, State};

impl Map {
    /// The same map under a version that its publisher gives out.
    #[must_use]
    pub fn numbered(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// The map for other states and addresses of the same PoPs, at once: whoever is led to a PoP that
    /// may not be answered any more is led to the one nearest to it that may. Costs some answers and
    /// no look at any prefix; scopes hold as before, and a compilation finds better places.
    #[must_use]
    pub fn restated(&self, inputs: &Inputs) -> Self {
        let inputs = Inputs {
            pops: inputs.pops.clone(),
            states: inputs.states.clone(),
            ..self.inputs.clone()
        };
        Self {
            version: self.version,
            answers: restated(&self.answers, &inputs),
            views: self.views.clone(),
            relief: self.relief.clone(),
            inputs,
            constants: self.constants.clone(),
            world: self.world.clone(),
            layout: self.layout.clone(),
            at: self.at,
            evidence_at: self.evidence_at,
            deadlines: self.deadlines,
        }
    }

    /// What this map becomes if one PoP's state changes next: each that may be answered falls, each other
    /// one comes back. So that what is answered then can be made ready.
    pub fn after_one_change(&self) -> impl Iterator<Item = Self> {
        (0..self.inputs.pops.len()).map(|pop| {
            let mut inputs = self.inputs.clone();
            inputs.states[pop] = if self.inputs.is_healthy(pop) {
                State::Down
            } else {
                State::Up
            };
            self.restated(&inputs)
        })
    }
}

/// The same answers in other states. They are made of what they were when the map was compiled, so
/// that a PoP that is back before the next compilation gets its clients back.
fn restated(before: &Answers, inputs: &Inputs) -> Answers {
    let mut answers = Answers::new(inputs);
    let mut pairs: Vec<_> = before.pairs.iter().collect();
    pairs.sort_by_key(|(_, id)| **id);
    for ((first, second), _) in pairs {
        answers.list.push(Answer {
            pops: vec![first.get(), second.get()],
            name: String::new(),
        });
    }
    answers.pairs.clone_from(&before.pairs);
    let (pops, views) = (inputs.pops.len(), inputs.views.len());
    for (id, answer) in answers.list.iter_mut().enumerate() {
        if !(pops..pops + views).contains(&id) {
            *answer = stand_in(&answer.pops, inputs);
        }
    }
    answers
}

/// What is answered in place of these PoPs, best first.
fn stand_in(pops: &[usize], inputs: &Inputs) -> Answer {
    let usable = pops.iter().copied().filter(|pop| inputs.is_healthy(*pop));
    let left: Vec<usize> = usable.collect();
    if !left.is_empty() {
        return named(left, inputs);
    }
    match pops.first().and_then(|pop| nearest(*pop, inputs)) {
        Some(nearest) => named(vec![nearest], inputs),
        None => {
            let views = inputs.views.iter();
            let mut of_them = views.filter(|view| pops.iter().all(|pop| view.contains(pop)));
            all_of(inputs, of_them.next().map_or(pops, Vec::as_slice))
        }
    }
}

/// The PoP nearest to another one that may be answered wherever that one may.
fn nearest(gone: usize, inputs: &Inputs) -> Option<usize> {
    let views = || inputs.views.iter().filter(|view| view.contains(&gone));
    let at = inputs.pops[gone].at;
    let candidates = (0..inputs.pops.len())
        .filter(|pop| inputs.is_healthy(*pop) && views().all(|view| view.contains(pop)));
    candidates.min_by(|a, b| {
        let km = |pop: usize| at.km_to(inputs.pops[pop].at);
        km(*a).total_cmp(&km(*b))
    })
}

fn named(pops: Vec<usize>, inputs: &Inputs) -> Answer {
    let names: Vec<&str> = pops
        .iter()
        .map(|pop| inputs.pops[*pop].name.as_str())
        .collect();
    Answer {
        name: names.join("+"),
        pops,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::steer::{Client, Constants, Point, Pop, ViewId, compile};

    /// Four PoPs along the equator; a prefix is pinned to each. The last one is in no view but its
    /// own and the first.
    fn inputs() -> Inputs {
        let pop = |(index, longitude): (u8, f64)| Pop {
            name: format!("p{index}"),
            v4: vec![[127, 0, 0, index].into()],
            v6: Vec::new(),
            at: Point {
                latitude: 0.0,
                longitude,
            },
        };
        let pins = (0..4u8).map(|pop| (format!("10.0.{pop}.0/24").parse().unwrap(), pop.into()));
        Inputs {
            pops: [(0, 0.0), (1, 10.0), (2, 30.0), (3, 31.0)].map(pop).into(),
            views: vec![vec![0, 1, 2, 3], vec![0, 1, 2]],
            pins: pins.collect(),
            ..Inputs::default()
        }
    }

    fn answered(map: &Map, view: u16, pinned: u8) -> (String, Vec<usize>) {
        let client = Client {
            subnet: Some([10, 0, pinned, 0].into()),
            resolver: [127, 0, 0, 1].into(),
        };
        let choice = map.choose(ViewId(view), &client, Instant::now());
        let answer = map.answer(choice.answer);
        (answer.name.clone(), answer.pops.clone())
    }

    fn in_states(map: &Map, states: [State; 4]) -> Map {
        map.restated(&Inputs {
            states: states.to_vec(),
            ..inputs()
        })
    }

    #[test]
    fn who_was_led_to_a_pop_that_is_gone_is_led_to_the_nearest_until_it_is_back() {
        use State::{Degraded, Down, Draining, Up};
        let (map, _) = compile(&inputs(), None, &Constants::default(), Instant::now());
        assert_eq!(answered(&map, 0, 2), ("p2".to_owned(), vec![2]));
        let one_gone = in_states(&map, [Up, Up, Down, Up]);
        let nearest = "p1";
        assert_eq!(
            answered(&one_gone, 1, 2).0,
            nearest,
            "of those in every view of its own"
        );
        assert_eq!(answered(&one_gone, 0, 0).0, "p0", "the others stay");
        let more_gone = in_states(&one_gone, [Up, Draining, Down, Up]);
        assert_eq!(answered(&more_gone, 0, 1).0, "p0");
        assert_eq!(answered(&more_gone, 0, 2).0, "p0");
        let back = in_states(&more_gone, [Up, Degraded, Up, Up]);
        for pop in 0..4 {
            assert_eq!(answered(&back, 0, pop), answered(&map, 0, pop));
        }
    }

    #[test]
    fn with_nobody_left_the_draining_and_then_all_are_answered() {
        use State::{Down, Draining};
        let (map, _) = compile(&inputs(), None, &Constants::default(), Instant::now());
        let draining = in_states(&map, [Down, Draining, Down, Down]);
        assert_eq!(answered(&draining, 1, 2), ("draining".to_owned(), vec![1]));
        let none = in_states(&map, [Down; 4]);
        assert_eq!(answered(&none, 0, 2).0, "every");
        assert_eq!(none.answer(none.healthy(ViewId(1))).pops, [0, 1, 2]);
    }
}
