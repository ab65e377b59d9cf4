//! What a zone can answer that is known before anybody asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::denial;
use crate::steer::Map;
use crate::zone::{Https, Node, Role, Zone};

/// The addresses of one possible answer.
type Addresses = (Vec<Ipv4Addr>, Vec<Ipv6Addr>);

/// Every RRset that an answer of this zone can hold with this map, but for what depends on the asker
/// beyond the PoPs chosen, and proofs for names that aren't there.
pub(super) fn sets(zone: &Zone, map: &Map) -> Vec<Vec<Record>> {
    let origin = zone.origin();
    let mut sets = vec![vec![zone.soa(origin, false)], vec![zone.soa(origin, true)]];
    let possible = possible(map);
    for (name, node) in zone.nodes() {
        let types = zone.types(node);
        if !types.is_empty() {
            sets.push(vec![zone.minimal_any(name)]);
        }
        let fixed = types.iter().map(|kind| node.records(*kind, name));
        sets.extend(fixed);
        sets.extend(proofs(zone, name, node, &types));
        let https = match node.role() {
            Role::Steered { https, .. } => https.as_ref(),
            Role::All(_) => None,
            Role::Fixed | Role::Why(_) => continue,
        };
        for addresses in &possible {
            sets.extend(tailored(zone, name, https, addresses));
        }
    }
    sets.retain(|set| !set.is_empty());
    sets
}

/// The answers of the map, and each PoP by itself: what a failure may leave in the next map.
fn possible(map: &Map) -> Vec<Addresses> {
    let answers = map.answers().iter().map(|answer| answer.pops.clone());
    let single = (0..map.pops().len()).map(|pop| vec![pop]);
    let addresses = |pops: Vec<usize>| {
        let pops = pops.iter().filter_map(|index| map.pops().get(*index));
        let v4 = pops.clone().flat_map(|pop| pop.v4.iter().copied());
        let v6 = pops.clone().flat_map(|pop| pop.v6.iter().copied());
        (v4.collect(), v6.collect())
    };
    let mut possible: Vec<Addresses> = answers.chain(single).map(addresses).collect();
    possible.sort_unstable();
    possible.dedup();
    possible
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
