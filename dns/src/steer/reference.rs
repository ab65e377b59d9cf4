//! The algorithm once more, slow and obvious: no tables, every question answered by looking at
//! everything. What [`compile`](super::compile) makes must be equal. `history` goes on from map to map.

mod history;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::prior::{Line, lines};
use super::space::{Family, Key, below, bits};
use super::unit::fraction;
use super::{Client, Constants, Inputs, Place, Source, State, Via, cap, cut};
pub(super) use history::History;

/// What counts for less than this many samples is forgotten.
const FORGOTTEN: f64 = 0.05;

/// What is answered, and what decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) pops: Vec<usize>,
    pub(super) source: Source,
}

/// The map of some inputs, with one view of every PoP.
pub(super) struct Reference<'a> {
    inputs: &'a Inputs,
    constants: Constants,
    lines: Vec<Line>,
    rows: Vec<Row>,
    /// Where those are led who are not led as if this were the first map.
    led: HashMap<Who, Vec<usize>>,
    /// What each PoP does about its load.
    reliefs: Vec<Relief>,
}

/// What a PoP does about its load.
#[derive(Clone, Copy)]
struct Relief {
    /// The part of those at home there who are led elsewhere.
    shed: f64,
    /// The part of all others that it doesn't take.
    closed: f64,
}

/// Of whom the same is known, in words.
type Who = String;

/// What decides about an address.
enum Ground {
    Pinned(usize, Source),
    Scored {
        scores: Vec<f64>,
        source: Source,
        /// What shedding and ties know it by; the one thing taken from what is tested.
        key: u64,
    },
    Unknown,
}

/// A sample and what is known of its prefix.
#[derive(Clone)]
struct Row {
    net: IpNet,
    pop: usize,
    median: f64,
    n: f64,
    place: Option<Place>,
    asn: u32,
}

impl<'a> Reference<'a> {
    /// The first map.
    pub(super) fn new(inputs: &'a Inputs) -> Self {
        let constants = Constants::default();
        let half_life = constants.half_life.as_secs_f64();
        let rows: Vec<Row> = inputs
            .samples
            .iter()
            .filter_map(|sample| {
                let age = inputs.clock.saturating_sub(sample.at) as f64;
                let n = sample.n * (-age / half_life).exp2();
                let net = sample.prefix;
                let place = inputs.geo.as_ref().and_then(|geo| geo.find(net.network()));
                let asns = inputs.asns.as_ref();
                Some(Row {
                    net,
                    pop: inputs.pops.iter().position(|pop| pop.name == sample.pop)?,
                    median: sample.median_ms,
                    n,
                    place,
                    asn: asns.map_or(0, |asns| asns.find(net.network())),
                })
            })
            .filter(|row| row.n >= FORGOTTEN)
            .collect();
        let mut spots = vec![Vec::new(); inputs.pops.len()];
        for row in &rows {
            if let Some(place) = row.place {
                let km = place.point.km_to(inputs.pops[row.pop].at);
                spots[row.pop].push((km, row.median));
            }
        }
        Self {
            inputs,
            lines: lines(&mut spots, &constants),
            reliefs: (0..inputs.pops.len())
                .map(|pop| wanted(inputs, pop, &constants))
                .collect(),
            led: HashMap::new(),
            constants,
            rows,
        }
    }

    /// What a client is told, via whom, and in which scope.
    pub(super) fn choose(&self, client: &Client) -> (Told, Via, u8) {
        let scope = client.subnet.map_or(0, |subnet| self.scope(cut(subnet)));
        if let Some(subnet) = client.subnet {
            let told = self.told(cut(subnet));
            if told.source.is_of_client() {
                return (told, Via::Subnet, scope);
            }
        }
        let fine = self.longest_pin(client.resolver, true);
        let told = fine.map_or_else(
            || self.told(cut(client.resolver)),
            |(_, pop)| self.pinned(pop, Source::Pin),
        );
        (told, Via::Resolver, scope)
    }

    /// The fewest leading bits that an address shares only with those that are told the same.
    fn scope(&self, address: IpAddr) -> u8 {
        let family = Family::of(address);
        let told = |bits: u64| {
            let told = self.told(
                family
                    .net(Key {
                        first: bits,
                        length: family.cap(),
                    })
                    .network(),
            );
            (told.pops, told.source.is_of_client())
        };
        let here = bits(address);
        let wanted = told(here);
        let edges = self.edges(family);
        let mut depth = family.cap();
        while depth > 1 {
            let mask = below(depth - 1);
            let first = here & !mask;
            let inside = edges.iter().copied().filter(|edge| edge & !mask == first);
            if !inside.chain([first]).all(|edge| told(edge) == wanted) {
                break;
            }
            depth -= 1;
        }
        depth
    }

    /// Every place at which anything begins or has just ended.
    fn edges(&self, family: Family) -> Vec<u64> {
        let geo = self
            .inputs
            .geo
            .iter()
            .flat_map(|geo| geo.steps(family).as_slice());
        let asns = self
            .inputs
            .asns
            .iter()
            .flat_map(|asns| asns.steps(family).as_slice());
        let steps = geo.chain(asns).map(|(start, _)| *start);
        let pins = self.inputs.pins.iter().map(|(net, _)| *net);
        let nets = pins.chain(self.rows.iter().map(|row| row.net));
        let nets = nets.map(Key::cut).filter(|(of, _)| *of == family);
        steps
            .chain(nets.flat_map(|(_, key)| [key.first, key.last().wrapping_add(1)]))
            .collect()
    }

    fn longest_pin(&self, address: IpAddr, fine: bool) -> Option<(IpNet, usize)> {
        let pins =
            self.inputs.pins.iter().filter(|(net, _)| {
                net.contains(&address) && (net.prefix_len() > cap(address)) == fine
            });
        // Of equals the last is the one that `max_by_key` returns.
        pins.max_by_key(|(net, _)| net.prefix_len()).copied()
    }

    fn told(&self, address: IpAddr) -> Told {
        let (who, ground) = self.ground(address);
        match ground {
            Ground::Pinned(pop, source) => self.pinned(pop, source),
            Ground::Scored {
                scores,
                source,
                key,
            } => self.told_by_scores(&who, key, &scores, source),
            Ground::Unknown => self.unknown(),
        }
    }

    /// What an address is decided by, and all who are decided by it.
    fn ground(&self, address: IpAddr) -> (Who, Ground) {
        if let Some((net, pop)) = self.longest_pin(address, false) {
            return (format!("pin {net}"), Ground::Pinned(pop, Source::Pin));
        }
        let asn = self
            .inputs
            .asns
            .as_ref()
            .map_or(0, |asns| asns.find(address));
        if let Some(pop) = self.inputs.asn_pins.get(&asn) {
            return (format!("pin {asn}"), Ground::Pinned(*pop, Source::AsnPin));
        }
        let place = self.inputs.geo.as_ref().and_then(|geo| geo.find(address));
        let nets = self.rows.iter().map(|row| row.net);
        let own = nets
            .filter(|net| net.contains(&address))
            .max_by_key(IpNet::prefix_len);
        let levels = self.levels(place, asn);
        let source = if own.is_some() {
            Source::Measured
        } else if !levels[2].is_empty() {
            Source::Asn
        } else if !levels[1].is_empty() {
            Source::Country
        } else if !levels[0].is_empty() {
            Source::Continent
        } else if place.is_some() {
            Source::Distance
        } else {
            return ("unknown".to_owned(), Ground::Unknown);
        };
        let scores: Vec<f64> = (0..self.inputs.pops.len())
            .map(|pop| self.score(pop, place, own, &levels))
            .collect();
        // A system of which nothing was measured makes no difference.
        let asn = if levels[2].is_empty() { 0 } else { asn };
        let who = match own {
            Some(own) if own.prefix_len() == cap(address) => format!("{own}"),
            own => format!("{own:?} {place:?} {asn}"),
        };
        let key = super::layout::key_of(own, place, asn);
        let ground = Ground::Scored {
            scores,
            source,
            key,
        };
        (who, ground)
    }

    /// Residuals of continent, country and system.
    fn levels(&self, place: Option<Place>, asn: u32) -> [Vec<&Row>; 3] {
        let country = place.and_then(|place| place.country);
        let continent = place.and_then(|place| place.continent);
        let country_of = |row: &Row| row.place.and_then(|place| place.country);
        let of =
            |wanted: &dyn Fn(&Row) -> bool| self.rows.iter().filter(|row| wanted(row)).collect();
        [
            of(&|row| continent.is_some() && row.place.and_then(|p| p.continent) == continent),
            of(&|row| country.is_some() && country_of(row) == country),
            of(&|row| asn != 0 && row.asn == asn && country_of(row) == country),
        ]
    }

    fn prior(&self, pop: usize, place: Option<Place>) -> f64 {
        let km = place.map(|place| place.point.km_to(self.inputs.pops[pop].at));
        self.lines[pop].at(km.unwrap_or(self.constants.unknown_km))
    }

    fn score(
        &self,
        pop: usize,
        place: Option<Place>,
        own: Option<IpNet>,
        levels: &[Vec<&Row>; 3],
    ) -> f64 {
        let (n0, np) = (self.constants.prior_samples, self.constants.prior_prefixes);
        let mut inherited = 0.0;
        for level in levels {
            let mut residuals: Vec<(f64, f64)> = level
                .iter()
                .filter(|row| row.pop == pop)
                .map(|row| {
                    (
                        row.median - self.prior(pop, row.place),
                        row.n / (row.n + n0),
                    )
                })
                .collect();
            residuals.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let n: f64 = residuals.iter().map(|(_, weight)| weight).sum();
            let mut sum = 0.0;
            let middle = residuals.iter().find(|(_, weight)| {
                sum += weight;
                sum * 2.0 >= n
            });
            if let Some((median, _)) = middle {
                // Levels hold what they say in single precision.
                let [median, n] = [*median, n].map(|value| f64::from(value as f32));
                inherited = (np * inherited + n * median) / (np + n);
            }
        }
        let mut expected = self.prior(pop, place) + inherited;
        let mut rows = self.rows.iter();
        if let Some(row) = rows.find(|row| Some(row.net) == own && row.pop == pop) {
            expected = (n0 * expected + row.n * row.median) / (n0 + row.n);
        }
        let degraded = self.inputs.state(pop) == State::Degraded;
        let penalty = if degraded {
            self.constants.degraded_ms
        } else {
            0.0
        };
        expected + self.inputs.bias.get(pop).unwrap_or(&0.0) + penalty
    }

    fn told_by_scores(&self, who: &Who, key: u64, scores: &[f64], source: Source) -> Told {
        let as_first = || {
            let home = self.best(scores, &[], false)?;
            Some(self.lead(home, &[], key, scores))
        };
        let pops = self.led.get(who).cloned().or_else(as_first);
        pops.map_or_else(|| self.everyone(), |pops| Told { pops, source })
    }

    /// Where somebody is led who is at home at a PoP and was led to some others before.
    fn lead(&self, home: usize, had: &[usize], key: u64, scores: &[f64]) -> Vec<usize> {
        let takes = |pop: usize| {
            let is_full = self.load(pop) > self.constants.load_ceiling;
            let is_closed = fraction(key, pop) < self.reliefs[pop].closed;
            pop != home && !is_closed && (!is_full || had.contains(&pop))
        };
        let mut guests: Vec<usize> = self.usable();
        guests.retain(|pop| takes(*pop));
        guests.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let mut guests = guests.into_iter();
        let is_shed = fraction(key, home) < self.reliefs[home].shed;
        let refuge = is_shed.then(|| guests.next()).flatten();
        let shown = refuge.unwrap_or(home);
        let near = |pop: &usize| scores[*pop] - scores[shown] <= self.constants.runner_up_ms;
        std::iter::once(shown)
            .chain(guests.next().filter(near))
            .collect()
    }

    fn load(&self, pop: usize) -> f64 {
        self.inputs.load.get(pop).copied().unwrap_or(0.0)
    }

    /// The PoP of the best score, but for some, and with load to spare if it must have.
    fn best(&self, scores: &[f64], but: &[usize], roomy: bool) -> Option<usize> {
        let mut best: Option<usize> = None;
        for pop in self.usable() {
            let has_room = self.load(pop) <= self.constants.load_ceiling;
            let fits = !but.contains(&pop) && (!roomy || has_room);
            if fits && best.is_none_or(|best| scores[pop] < scores[best]) {
                best = Some(pop);
            }
        }
        best
    }

    fn usable(&self) -> Vec<usize> {
        let pops = 0..self.inputs.pops.len();
        pops.filter(|pop| self.inputs.is_healthy(*pop)).collect()
    }

    fn pinned(&self, pop: usize, source: Source) -> Told {
        let at = |pop: usize| self.inputs.pops[pop].at;
        let mut usable = self.usable();
        usable.sort_by(|a, b| at(pop).km_to(at(*a)).total_cmp(&at(pop).km_to(at(*b))));
        if let Some(nearest) = usable.first() {
            let healthy = self.inputs.is_healthy(pop);
            let pops = vec![if healthy { pop } else { *nearest }];
            return Told { pops, source };
        }
        self.everyone()
    }

    fn unknown(&self) -> Told {
        let mut order = self.inputs.order.iter();
        order.find(|pop| self.inputs.is_healthy(**pop)).map_or_else(
            || self.everyone(),
            |pop| Told {
                pops: vec![*pop],
                source: Source::Order,
            },
        )
    }

    fn everyone(&self) -> Told {
        let all = || 0..self.inputs.pops.len();
        let draining = |pop: &usize| self.inputs.state(*pop) == State::Draining;
        let usable = self.usable();
        if !usable.is_empty() {
            return Told {
                pops: usable,
                source: Source::All,
            };
        }
        let some: Vec<_> = all().filter(draining).collect();
        Told {
            pops: if some.is_empty() {
                all().collect()
            } else {
                some
            },
            source: Source::NoneHealthy,
        }
    }
}

/// What a PoP would do about its load if it could at once.
fn wanted(inputs: &Inputs, pop: usize, constants: &Constants) -> Relief {
    let load = inputs.load.get(pop).copied().unwrap_or(0.0);
    let weight = inputs.weight.get(pop).copied().unwrap_or(1.0);
    let over = load - constants.shed_from;
    let room = constants.load_ceiling - constants.shed_from;
    let part = |over: f64| over.clamp(0.0, 1.0).max(1.0 - weight);
    Relief {
        shed: part(over / constants.shed_span),
        closed: part(over / room),
    }
}
