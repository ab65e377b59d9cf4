//! A choice with everything that led to it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::layout::Basis;
use super::space::{Family, bits};
use super::unit::Verdict;
use super::world::Estimate;
use super::{Client, Continent, Map, Source, State, Via, ViewId, cap, cut};

/// PoPs whose scores the short text names.
const SHORT_LIST: usize = 5;

/// A choice with everything that led to it. Fields are in the order of the decision, PoPs in the
/// config's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Version of the map.
    pub map: u64,
    /// The view.
    pub view: u16,
    /// The client's subnet, as far as it counts: every address in it has this explanation.
    pub subnet: Option<IpNet>,
    /// Who asked.
    pub resolver: IpAddr,
    /// Whose address decided.
    pub via: Via,
    /// What was decided upon as one: a prefix, or what its addresses have in common.
    pub unit: String,
    /// Autonomous system of the address that decided; 0 if unknown.
    pub asn: u32,
    /// Its country (ISO 3166-1).
    pub country: Option<String>,
    /// Its continent.
    pub continent: Option<Continent>,
    /// Its place, degrees north and east.
    pub place: Option<(f64, f64)>,
    /// What decided.
    pub source: Source,
    /// More of it, in words.
    pub why: String,
    /// The answer's name.
    pub answer: String,
    /// Its PoPs, best first.
    pub pops: Vec<String>,
    /// The second of them, where there are two.
    pub runner_up: Option<String>,
    /// The PoP it belongs to; the answer's first unless that has too much load.
    pub home: Option<String>,
    /// The PoP that has been better for some windows, and for how many.
    pub challenger: Option<(String, u8)>,
    /// Bits of the subnet for which the answer holds; 0 if none was sent.
    pub scope: u8,
    /// Every PoP of the view with its score.
    pub candidates: Vec<Candidate>,
}

/// A PoP and its score, in milliseconds, as far as scores decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The PoP.
    pub pop: String,
    /// Its state.
    pub state: State,
    /// Its load; 1.0 is full.
    pub load: f64,
    /// The part of the units at home there that are led elsewhere.
    pub shed: f64,
    /// The part of all others that it doesn't take.
    pub closed: f64,
    /// What its score is made of; none if scores didn't decide.
    pub score: Option<Score>,
}

/// What a score is made of, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Kilometres, where the place is known.
    pub km: Option<f64>,
    /// From the distance alone.
    pub prior: f64,
    /// What continent, country and system add.
    pub inherited: f64,
    /// Median of the prefix's own samples.
    pub median: Option<f64>,
    /// What is left of their number.
    pub n: f64,
    /// The expected round trip.
    pub estimate: f64,
    /// What the operator adds.
    pub bias: f64,
    /// What a degraded PoP is worsened by.
    pub penalty: f64,
    /// The sum, by which PoPs are compared.
    pub total: f64,
}

/// To hundredths, so that texts are short and stable.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Score {
    fn new(estimate: &Estimate) -> Self {
        let own = (estimate.own.n > 0.0).then_some(estimate.own.median);
        Self {
            km: estimate.km.map(f64::round),
            prior: rounded(estimate.prior),
            inherited: rounded(estimate.inherited),
            median: own.map(rounded),
            n: rounded(estimate.own.n),
            estimate: rounded(estimate.expected),
            bias: rounded(estimate.bias),
            penalty: rounded(estimate.penalty),
            total: rounded(estimate.score()),
        }
    }
}

impl Explanation {
    /// One fact a line, each short enough for a TXT record's string; the best few PoPs only.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let asker = match self.subnet {
            Some(subnet) if self.via == Via::Subnet => format!("for=subnet {subnet}"),
            _ => format!("for=resolver {}", self.resolver),
        };
        let mut lines = vec![
            format!("pop={}", self.answer),
            format!("why={}", self.why),
            asker,
            format!("map={}", self.map),
        ];
        if let Some((pop, windows)) = &self.challenger {
            lines.push(format!("challenger={pop} for {windows} windows"));
        }
        let mut ranked: Vec<_> = self
            .candidates
            .iter()
            .filter_map(|candidate| Some((candidate, candidate.score?)))
            .collect();
        ranked.sort_by(|a, b| a.1.total.total_cmp(&b.1.total));
        lines.extend(ranked.iter().take(SHORT_LIST).map(|(candidate, score)| {
            let median = score.median.map_or_else(
                || "none".to_owned(),
                |median| format!("{median}ms n={}", score.n),
            );
            format!(
                "score {}={}ms prior={}ms inherited={}ms median={median} load={} state={}",
                candidate.pop,
                score.total,
                score.prior,
                score.inherited,
                candidate.load,
                candidate.state.name(),
            )
        }));
        lines
    }
}

impl Map {
    /// A client's choice with everything that led to it.
    #[must_use]
    pub fn explain(&self, view: ViewId, client: &Client) -> Explanation {
        let choice = self.choose(view, client, self.at);
        let (address, decided) = self.decided_by(view, client, choice.via);
        let (unit, verdict) = match decided {
            Decided::Fine(_) => (None, None),
            Decided::Unit(id) => (Some(self.layout.units[id]), self.led(view).verdicts[id]),
        };
        let family = Family::of(address);
        let place = self.inputs.geo.as_ref().and_then(|geo| geo.find(address));
        let name = |pop: usize| self.inputs.pops[pop].name.clone();
        let answer = self.answer(choice.answer);
        let verdict = verdict.filter(|_| choice.source.is_scored());
        Explanation {
            map: self.version,
            view: view.0,
            subnet: client
                .subnet
                .and_then(|subnet| IpNet::new(cut(subnet), cap(subnet)).ok()),
            resolver: client.resolver,
            via: choice.via,
            unit: match decided {
                Decided::Fine(net) => net.to_string(),
                Decided::Unit(id) => self.name_of(self.layout.units[id]),
            },
            asn: self
                .inputs
                .asns
                .as_ref()
                .map_or(0, |asns| asns.steps(family).at(bits(address))),
            country: place.and_then(|place| text(place.country?)),
            continent: place.and_then(|place| place.continent),
            place: place.map(|place| (place.point.latitude, place.point.longitude)),
            source: choice.source,
            why: self.why(
                choice.source,
                decided,
                address,
                answer.pops.first().copied(),
            ),
            pops: answer.pops.iter().map(|pop| name(*pop)).collect(),
            runner_up: verdict.and_then(|v| v.second).map(|pop| name(pop.get())),
            answer: answer.name.clone(),
            home: verdict.map(|verdict| name(verdict.home.get())),
            challenger: verdict.and_then(|verdict: Verdict| {
                Some((name(verdict.challenger?.get()), verdict.streak))
            }),
            scope: choice.scope,
            candidates: self.candidates(view, unit.filter(|_| choice.source.is_scored())),
        }
    }

    fn candidates(&self, view: ViewId, unit: Option<Basis>) -> Vec<Candidate> {
        let mut estimates = Vec::new();
        if let Some(unit) = unit {
            self.estimate(unit, &mut estimates);
        }
        let pops = self.view(view).iter().copied();
        pops.map(|pop| Candidate {
            pop: self.inputs.pops[pop].name.clone(),
            state: self.inputs.state(pop),
            load: rounded(self.inputs.load[pop]),
            shed: rounded(self.relief[pop].shed),
            closed: rounded(self.relief[pop].closed),
            score: estimates.get(pop).map(Score::new),
        })
        .collect()
    }

    fn why(
        &self,
        source: Source,
        decided: Decided,
        address: IpAddr,
        first: Option<usize>,
    ) -> String {
        let pin = match decided {
            Decided::Fine(net) => self.inputs.pins.iter().rfind(|(of, _)| *of == net).copied(),
            Decided::Unit(id) => match self.layout.units[id] {
                Basis::Pin(pin) => Some(self.inputs.pins[pin as usize]),
                _ => None,
            },
        };
        let asn = self
            .inputs
            .asns
            .as_ref()
            .map_or(0, |asns| asns.find(address));
        let instead = |pop: usize| match first {
            Some(led) if led != pop => {
                let (name, state) = (&self.inputs.pops[pop].name, self.inputs.state(pop).name());
                format!(", nearest to {name} which is {state}")
            }
            _ => String::new(),
        };
        let country = self
            .inputs
            .geo
            .as_ref()
            .and_then(|geo| text(geo.find(address)?.country?));
        let country = country.unwrap_or_else(|| "an unknown country".to_owned());
        match source {
            Source::Pin => pin.map_or_else(
                || "pin".to_owned(),
                |(net, pop)| format!("pin {net}{}", instead(pop)),
            ),
            Source::AsnPin => {
                let pop = self.inputs.asn_pins.get(&asn).copied();
                format!("pin AS{asn}{}", pop.map_or_else(String::new, instead))
            }
            Source::Measured => "measured from this prefix".to_owned(),
            Source::Asn => format!("measured from AS{asn} in {country}"),
            Source::Country => format!("measured from {country}"),
            Source::Continent => "measured from its continent".to_owned(),
            Source::Distance => format!("nearest by distance from {country}"),
            Source::Order => "order".to_owned(),
            Source::All => "nothing known of the client".to_owned(),
            Source::NoneHealthy => "no pop looks healthy from here".to_owned(),
        }
    }

    /// The address that decided, and what it decided by.
    fn decided_by(&self, view: ViewId, client: &Client, via: Via) -> (IpAddr, Decided) {
        let address = match (via, client.subnet) {
            (Via::Subnet, Some(subnet)) => cut(subnet),
            _ => client.resolver,
        };
        let fine = self.led(view).fine.find(address);
        let decided = match fine.value {
            Some(_) if via == Via::Resolver => {
                let holds =
                    |net: &IpNet| net.contains(&address) && net.prefix_len() > cap(net.network());
                let pins = self.inputs.pins.iter().map(|(net, _)| *net);
                let longest = pins.filter(holds).max_by_key(IpNet::prefix_len);
                Decided::Fine(longest.unwrap_or_else(|| address.into()))
            }
            _ => Decided::Unit(self.layout.at(Family::of(address), bits(address)) as usize),
        };
        (address, decided)
    }

    /// A unit in words: a prefix, or what its addresses have in common.
    pub(super) fn name_of(&self, unit: Basis) -> String {
        match unit {
            Basis::Pin(pin) => self.inputs.pins[pin as usize].0.to_string(),
            Basis::AsnPin(asn) => format!("AS{asn}"),
            Basis::Unknown => "unknown".to_owned(),
            Basis::Scored(_, Some(own)) => {
                let (family, key) = self.world.prefix(own);
                family.net(key).to_string()
            }
            Basis::Scored(traits, None) => {
                let place = self
                    .inputs
                    .geo
                    .as_ref()
                    .and_then(|geo| geo.place(traits.place));
                let country = place.and_then(|place| text(place.country?));
                let point = place.map(|place| place.point);
                let parts = [
                    (traits.asn != 0).then(|| format!("AS{}", traits.asn)),
                    country,
                    point.map(|point| format!("{},{}", point.latitude, point.longitude)),
                ];
                parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// What an address was decided by.
#[derive(Clone, Copy)]
enum Decided {
    /// A pin finer than the cap.
    Fine(IpNet),
    /// A unit, by its index.
    Unit(usize),
}

fn text(country: [u8; 2]) -> Option<String> {
    String::from_utf8(country.to_vec()).ok()
}
