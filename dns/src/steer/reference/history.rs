//! One map after the other, by the rules: patience, the allowance of moves, shedding in steps. All is
//! remembered by names: of whom the same is known, and of PoPs.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{Ground, Reference, Relief, Told, Who, wanted};
use crate::steer::space::{Family, Key};
use crate::steer::{Client, Constants, Inputs, Via};

/// A map, and what the next one must know of it.
pub(in super::super) struct History {
    inputs: Inputs,
    at: Instant,
    /// When evidence was last counted.
    counted: Instant,
    /// Everybody, and how those stand who are led by scores.
    standings: HashMap<Who, Option<Standing>>,
    reliefs: BTreeMap<String, Relief>,
    /// Moves that are left.
    allowance: f64,
}

/// Where somebody belongs, and what speaks for another PoP.
#[derive(Clone)]
struct Standing {
    home: String,
    /// Where they are led.
    led: Vec<String>,
    challenger: Option<String>,
    windows: u8,
}

impl Standing {
    fn settled(home: &str) -> Self {
        Self {
            home: home.to_owned(),
            led: vec![home.to_owned()],
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
            reliefs: reliefs(inputs, before, constants, now),
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
                // Of whom was at home at a PoP that isn't there any more, nothing is remembered.
                let was = was.filter(|was| inputs.pops.iter().any(|pop| pop.name == was.home));
                let had = was.as_ref().map_or(Vec::new(), |was| was.led.clone());
                let (standing, gain) = stands(&reference, &scores, was, counts);
                let wish = standing.as_ref().and_then(|standing| {
                    let lasts = standing.windows >= constants.windows;
                    Some(Wish {
                        gain,
                        key,
                        who: who.clone(),
                        to: standing.challenger.clone().filter(|_| lasts)?,
                    })
                });
                wishes.extend(wish);
                scored.push((who.clone(), key, scores, had));
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
            let moved = Some(Standing::settled(&wish.to));
            history.standings.insert(wish.who, moved);
        }
        history.lead(scored);
        history
    }

    /// Leads everybody who is led by scores: who, their key, scores, and where they were led.
    fn lead(&mut self, scored: Vec<(Who, u64, Vec<f64>, Vec<String>)>) {
        let reference = self.reference();
        let index = |name: &String| self.inputs.pops.iter().position(|pop| pop.name == *name);
        let mut led = Vec::new();
        for (who, key, scores, had) in scored {
            let standing = self.standings[&who].as_ref();
            let home = standing.and_then(|standing| index(&standing.home));
            if let Some(home) = home.filter(|home| self.inputs.is_healthy(*home)) {
                let had: Vec<_> = had.iter().filter_map(index).collect();
                led.push((who, reference.lead(home, &had, key, &scores)));
            }
        }
        for (who, pops) in led {
            let names = pops.iter().map(|pop| self.inputs.pops[*pop].name.clone());
            if let Some(Some(standing)) = self.standings.get_mut(&who) {
                standing.led = names.collect();
            }
        }
    }

    /// What a client is told, via whom, and in which scope.
    pub(in super::super) fn choose(&self, client: &Client) -> (Told, Via, u8) {
        self.reference().choose(client)
    }

    fn reference(&self) -> Reference<'_> {
        let index = |name: &String| self.inputs.pops.iter().position(|pop| pop.name == *name);
        let led = self.standings.iter().filter_map(|(who, standing)| {
            let pops: Option<Vec<_>> = standing.as_ref()?.led.iter().map(index).collect();
            // Those whose PoPs may be answered have none that may not.
            let pops = pops.filter(|pops| self.inputs.is_healthy(pops[0]))?;
            Some((who.clone(), pops))
        });
        let pops = self.inputs.pops.iter();
        Reference {
            led: led.collect(),
            reliefs: pops.map(|pop| self.reliefs[&pop.name]).collect(),
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

/// What a PoP does about its load goes a step towards what the load asks for; a step a window. Within a
/// thousandth it is there.
fn reliefs(
    inputs: &Inputs,
    before: Option<&History>,
    constants: &Constants,
    now: Instant,
) -> BTreeMap<String, Relief> {
    let mut reliefs = BTreeMap::new();
    for (index, pop) in inputs.pops.iter().enumerate() {
        let wanted = wanted(inputs, index, constants);
        let was = before.and_then(|before| Some((before.reliefs.get(&pop.name)?, before.at)));
        let relief = was.map_or(wanted, |(was, at)| {
            let windows = in_windows(now.duration_since(at), constants);
            let left = (1.0 - constants.shed_step).powf(windows);
            let step = |was: f64, wanted: f64| {
                let part = wanted + (was - wanted) * left;
                if (part - wanted).abs() < 0.001 {
                    wanted
                } else {
                    part
                }
            };
            Relief {
                shed: step(was.shed, wanted.shed),
                closed: step(was.closed, wanted.closed),
            }
        });
        reliefs.insert(pop.name.clone(), relief);
    }
    reliefs
}

fn in_windows(time: Duration, constants: &Constants) -> f64 {
    time.as_secs_f64() / constants.window.as_secs_f64()
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
    let settled = |home: usize| (Some(Standing::settled(&pops[home].name)), 0.0);
    let was = was.and_then(|was| Some((index(&was.home)?, was)));
    let Some(best) = reference.best(scores, &[], false) else {
        return (was.map(|(_, was)| Standing::settled(&was.home)), 0.0);
    };
    let Some((home, was)) = was else {
        return settled(best);
    };
    if !reference.inputs.is_healthy(home) {
        return settled(reference.best(scores, &[], true).unwrap_or(best));
    }
    let Some(challenger) = reference.best(scores, &[home], true) else {
        return settled(home);
    };
    let gain = scores[home] - scores[challenger];
    if gain < constants.gain_ms || gain < constants.gain_part * scores[home] {
        return settled(home);
    }
    let again = was.challenger.as_ref() == Some(&pops[challenger].name);
    let windows = if again { was.windows } else { 0 } + u8::from(counts);
    let standing = Standing {
        home: was.home,
        led: was.led,
        challenger: Some(pops[challenger].name.clone()),
        windows: windows.min(constants.windows),
    };
    (Some(standing), gain)
}
