//! What a zone can answer that is known before anybody asks: with the map in use, and with what it
//! becomes when the next PoP falls or comes back. So a PoP that dies leaves the answers without one
//! signature being waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::denial;
use crate::steer::{Map, ViewId};
use crate::zone::{Https, Node, Role, Zone};

/// The addresses of one possible answer.
type Addresses = (Vec<Ipv4Addr>, Vec<Ipv6Addr>);

/// Every RRset that an answer of this zone can hold with this map or the next, but for what depends on
/// the asker beyond the PoPs chosen, and proofs for names that aren't there.
pub(super) fn sets(zone: &Zone, map: &Map) -> Vec<Vec<Record>> {
    let origin = zone.origin();
    let mut sets = vec![vec![zone.soa(origin, false)], vec![zone.soa(origin, true)]];
    let mut outlook = Outlook::new(map);
    for (name, node) in zone.nodes() {
        let types = zone.types(node);
        if !types.is_empty() {
            sets.push(vec![zone.minimal_any(name)]);
        }
        let fixed = types.iter().map(|kind| node.records(*kind, name));
        sets.extend(fixed);
        sets.extend(proofs(zone, name, node, &types));
        match node.role() {
            Role::Fixed | Role::Why(_) => {}
            Role::All(view) => {
                let all = outlook.all(*view);
                sets.extend(all.iter().flat_map(|all| tailored(zone, name, None, all)));
            }
            Role::Steered { view, https } => {
                let chosen = outlook.chosen(*view).iter();
                sets.extend(chosen.flat_map(|one| tailored(zone, name, https.as_ref(), one)));
            }
        }
    }
    sets.retain(|set| !set.is_empty());
    sets
}

/// The map in use, and what it may become.
struct Outlook<'a> {
    now: &'a Map,
    next: Vec<Map>,
    /// What may be chosen, by view: many names share few.
    chosen: BTreeMap<ViewId, BTreeSet<Addresses>>,
}

impl<'a> Outlook<'a> {
    fn new(now: &'a Map) -> Self {
        Self {
            now,
            next: now.after_one_change().collect(),
            chosen: BTreeMap::new(),
        }
    }

    /// What the name of every healthy PoP may answer.
    fn all(&self, view: ViewId) -> BTreeSet<Addresses> {
        let maps = std::iter::once(self.now).chain(&self.next);
        maps.map(|map| addresses(map, &map.answer(map.healthy(view)).pops))
            .collect()
    }

    /// What a steered name may answer.
    fn chosen(&mut self, view: ViewId) -> &BTreeSet<Addresses> {
        let maps = std::iter::once(self.now).chain(&self.next);
        self.chosen.entry(view).or_insert_with(|| {
            let of = |map: &Map| -> Vec<Addresses> {
                let among = map.view(view);
                let answers = map.answers().iter().map(|answer| answer.pops.as_slice());
                let own = answers.filter(|pops| pops.iter().all(|pop| among.contains(pop)));
                own.map(|pops| addresses(map, pops)).collect()
            };
            maps.flat_map(of).collect()
        })
    }
}

fn addresses(map: &Map, pops: &[usize]) -> Addresses {
    let pops = pops.iter().filter_map(|index| map.pops().get(*index));
    let v4 = pops.clone().flat_map(|pop| pop.v4.iter().copied());
    let v6 = pops.flat_map(|pop| pop.v6.iter().copied());
    (v4.collect(), v6.collect())
}

/// What a steered name answers with these addresses.
fn tailored(
    zone: &Zone,
    name: &Name,
    https: Option<&Https>,
    (v4, v6): &Addresses,
) -> Vec<Vec<Record>> {
    let record = |address: IpAddr| zone.steered(name, address);
    let mut sets = vec![
        v4.iter().map(|v4| record((*v4).into())).collect(),
        v6.iter().map(|v6| record((*v6).into())).collect(),
    ];
    if let Some(https) = https {
        let hints = if https.hints {
            (v4.clone(), v6.clone())
        } else {
            Addresses::default()
        };
        let data: RData = https.data(hints.0, hints.1);
        sets.push(vec![zone.tailored(name, data)]);
    }
    sets
}

/// Proofs for the types a name lacks: for all askers, and for those whose PoP has no address of a
/// family.
fn proofs(zone: &Zone, name: &Name, node: &Node, types: &[RecordType]) -> Vec<Vec<Record>> {
    let ttl = zone.soa(name, true).ttl;
    let proof = |types: &[RecordType]| {
        let data = denial::nsec(name, Some(types));
        vec![Record::from_rdata(name.clone(), ttl, data)]
    };
    let without = |kind: RecordType| {
        let others = types.iter().copied().filter(|other| *other != kind);
        proof(&others.collect::<Vec<_>>())
    };
    let mut proofs = vec![proof(types)];
    if matches!(node.role(), Role::Steered { .. } | Role::All(_)) {
        proofs.extend([RecordType::A, RecordType::AAAA].map(without));
    }
    proofs
}
