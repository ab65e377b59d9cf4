//! One map after the other, by the rules: patience, the allowance of moves, shedding in steps. All is
//! remembered by names: of whom the same is known, and of PoPs.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::{Ground, Homed, Reference, Relief, Told, Who};
use crate::steer::space::{Family, Key};
use crate::steer::{Client, Inputs, Source, Via};

/// A map, and what the next one must know of it.
pub(in super::super) struct History {
    inputs: Inputs,
    at: Instant,
    /// When evidence was last counted.
    counted: Instant,
    /// Everybody, and how those stand who are led by scores.
    standings: HashMap<Who, Option<Standing>>,
    relief: BTreeMap<String, Relief>,
    /// Moves that are left.
    allowance: f64,
}

/// Where somebody belongs, and what speaks for another PoP.
#[derive(Clone)]
struct Standing {
    home: String,
    /// The PoPs that they were answered before, and those that they are answered.
    had: Vec<String>,
    has: Vec<String>,
    challenger: Option<String>,
    windows: u8,
}

impl Standing {
    fn settled(home: &str, had: &[String]) -> Self {
        Self {
            home: home.to_owned(),
            had: had.to_vec(),
            has: Vec::new(),
            challenger: None,
            windows: 0,
        }
    }
}

/// Somebody who may move if the allowance suffices.
struct Wish {
    gain: f64,
    key: u64,
    who: Who,
    to: String,
    had: Vec<String>,
}

impl History {
    /// The first map, or the one after another.
    pub(in super::super) fn new(inputs: &Inputs, before: Option<&Self>, now: Instant) -> Self {
        let reference = Reference::new(inputs);
        let constants = &reference.constants;
        let counted = before.map(|before| before.counted);
        let is_due = |last: &Instant| now.duration_since(*last) >= constants.window.mul_f64(0.9);
        let counts = counted.as_ref().is_none_or(is_due);
        let mut history = Self {
            at: now,
            counted: counted.filter(|_| !counts).unwrap_or(now),
            standings: HashMap::new(),
            relief: relief(&reference, before, now),
            allowance: 0.0,
            inputs: inputs.clone(),
        };
        let mut wishes = Vec::new();
        let mut scored = Vec::new();
        for (family, bits) in starts(&reference) {
            let address = family.net(Key {
                first: bits,
                length: family.cap(),
            });
            let (who, ground) = reference.ground(address.network());
            if history.standings.contains_key(&who) {
                continue;
            }
            let standing = if let Ground::Scored { scores, key, .. } = ground {
                let was = before.and_then(|before| before.standing(&who, family, bits));
                let (standing, gain) = stands(&reference, &scores, was, counts);
                let wish = standing.as_ref().and_then(|standing| {
                    let lasts = standing.windows >= constants.windows;
                    Some(Wish {
                        gain,
                        key,
                        who: who.clone(),
                        to: standing.challenger.clone().filter(|_| lasts)?,
                        had: standing.had.clone(),
                    })
                });
                wishes.extend(wish);
                scored.push((who.clone(), key, scores));
                standing
            } else {
                None
            };
            history.standings.insert(who, standing);
        }
        let minute = scored.len() as f64 * constants.moves_per_minute;
        let most = minute.max(1.0);
        history.allowance = before.map_or(most, |before| {
            let minutes = now.duration_since(before.at).as_secs_f64() / 60.0;
            most.min(before.allowance + minute * minutes)
        });
        wishes.sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.key.cmp(&b.key)));
        for wish in wishes {
            if history.allowance < 1.0 {
                break;
            }
            history.allowance -= 1.0;
            let moved = Some(Standing::settled(&wish.to, &wish.had));
            history.standings.insert(wish.who, moved);
        }
        history.answer(scored);
        history
    }

    /// Notes what those are answered who are led by scores.
    fn answer(&mut self, scored: Vec<(Who, u64, Vec<f64>)>) {
        let reference = self.reference();
        let name = |pop: &usize| self.inputs.pops[*pop].name.clone();
        let told = scored.into_iter().map(|(who, key, scores)| {
            let homed = reference.homes.get(&who);
            let told = reference.led(homed, key, &scores, Source::Measured);
            let led = told.source == Source::Measured;
            let pops = told.pops.iter().map(name).collect::<Vec<_>>();
            (who, led.then_some(pops))
        });
        for (who, pops) in told.collect::<Vec<_>>() {
            if let Some(standing) = self.standings.get_mut(&who).and_then(Option::as_mut) {
                // Where nobody may be answered, all that is known is where they belong.
                standing.has = pops.unwrap_or_else(|| vec![standing.home.clone()]);
            }
        }
    }

    /// What a client is told, via whom, and in which scope.
    pub(in super::super) fn choose(&self, client: &Client) -> (Told, Via, u8) {
        self.reference().choose(client)
    }

    fn reference(&self) -> Reference<'_> {
        let index = |name: &str| self.inputs.pops.iter().position(|pop| pop.name == name);
        let homes = self.standings.iter().filter_map(|(who, standing)| {
            let standing = standing.as_ref()?;
            let homed = Homed {
                home: index(&standing.home)?,
                had: standing.had.iter().filter_map(|pop| index(pop)).collect(),
            };
            Some((who.clone(), homed))
        });
        let pops = self.inputs.pops.iter();
        Reference {
            homes: homes.collect(),
            relief: pops.map(|pop| self.relief[&pop.name]).collect(),
            ..Reference::new(&self.inputs)
        }
    }

    /// How somebody stands, or whoever was in the same place if nobody of that name was there.
    fn standing(&self, who: &Who, family: Family, bits: u64) -> Option<Standing> {
        let known = self.standings.get(who).or_else(|| {
            let key = Key {
                first: bits,
                length: family.cap(),
            };
            let (there, _) = Reference::new(&self.inputs).ground(family.net(key).network());
            self.standings.get(&there)
        });
        known?.clone()
    }
}

/// Where anything begins, in order.
fn starts(reference: &Reference<'_>) -> Vec<(Family, u64)> {
    let of = |family| {
        let mut edges = reference.edges(family);
        edges.push(0);
        edges.sort_unstable();
        edges.into_iter().map(move |edge| (family, edge))
    };
    Family::ALL.into_iter().flat_map(of).collect()
}

/// What a PoP does about its load goes a step towards what is asked for, a step a window; what is
/// within a thousandth of it is there.
fn relief(
    reference: &Reference<'_>,
    before: Option<&History>,
    now: Instant,
) -> BTreeMap<String, Relief> {
    let constants = &reference.constants;
    let pops = reference.inputs.pops.iter().map(|pop| pop.name.clone());
    let relief = pops.zip(reference.asked()).map(|(pop, asked)| {
        let was = before.and_then(|before| Some((before.relief.get(&pop)?, before.at)));
        let Some((was, at)) = was else {
            return (pop, asked);
        };
        let windows = now.duration_since(at).as_secs_f64() / constants.window.as_secs_f64();
        let left = (1.0 - constants.shed_step).powf(windows);
        let go = |was: f64, asked: f64| {
            let off = (was - asked) * left;
            if off.abs() < 0.001 {
                asked
            } else {
                asked + off
            }
        };
        let steps = Relief {
            shed: go(was.shed, asked.shed),
            closed: go(was.closed, asked.closed),
        };
        (pop, steps)
    });
    relief.collect()
}

/// How somebody stands now, and by how much the challenger is better. None: nobody may be answered
/// and nothing was known.
fn stands(
    reference: &Reference<'_>,
    scores: &[f64],
    was: Option<Standing>,
    counts: bool,
) -> (Option<Standing>, f64) {
    let constants = &reference.constants;
    let pops = &reference.inputs.pops;
    let index = |name: &String| pops.iter().position(|pop| pop.name == *name);
    // A home that isn't there any more is none.
    let was = was.and_then(|was| Some((index(&was.home)?, was)));
    let had = was.as_ref().map_or(&[][..], |(_, was)| &was.has);
    let settled = |home: usize| (Some(Standing::settled(&pops[home].name, had)), 0.0);
    let Some(best) = reference.best(scores, |_| true) else {
        let home = was.as_ref().map(|(home, _)| *home);
        return home.map_or((None, 0.0), settled);
    };
    let Some((home, was)) = was.as_ref() else {
        return settled(best);
    };
    let is_roomy = |pop: usize| reference.is_roomy(pop);
    if !reference.inputs.is_healthy(*home) {
        return settled(reference.best(scores, is_roomy).unwrap_or(best));
    }
    let challenger = reference.best(scores, |pop| pop != *home && is_roomy(pop));
    let Some(challenger) = challenger else {
        return settled(*home);
    };
    let gain = scores[*home] - scores[challenger];
    if gain < constants.gain_ms || gain < constants.gain_part * scores[*home] {
        return settled(*home);
    }
    let again = was.challenger.as_ref() == Some(&pops[challenger].name);
    let windows = if again { was.windows } else { 0 } + u8::from(counts);
    let standing = Standing {
        challenger: Some(pops[challenger].name.clone()),
        windows: windows.min(constants.windows),
        ..Standing::settled(&was.home, had)
    };
    (Some(standing), gain)
}
