//! What keys add to the zones themselves.

use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, RecordType};

use super::Signing;
use crate::zone::Zone;

/// Adds what each zone's apex publishes of its keys, and to a signed zone that has another of ours
/// below it what it must say of that one: that it is delegated (NS), and whether it is signed (DS).
/// Without it validators would take the lower zone for a forged part of the upper one.
pub fn publish(zones: &mut [Zone], signing: &Signing) {
    let lower: Vec<_> = zones.iter().map(|zone| delegation(zone, signing)).collect();
    for zone in zones {
        let origin = zone.origin().clone();
        let published = signing.published(&origin);
        if published.is_empty() {
            continue;
        }
        for data in published {
            zone.add(&origin, None, data);
        }
        for (name, data) in &lower {
            if *name != origin && origin.zone_of(name) {
                data.iter()
                    .for_each(|data| zone.add(name, None, data.clone()));
            }
        }
    }
}

/// A zone's name, and the records that the zone above it has of it.
fn delegation(zone: &Zone, signing: &Signing) -> (Name, Vec<RData>) {
    let origin = zone.origin();
    let apex = zone.nodes().find(|(name, _)| *name == origin);
    let servers = apex.map_or_else(Vec::new, |(_, node)| node.records(RecordType::NS, origin));
    let mut data: Vec<_> = servers.into_iter().map(|record| record.data).collect();
    let ds = signing.ds(origin).into_iter();
    data.extend(ds.map(|ds| RData::DNSSEC(DNSSECRData::DS(ds))));
    (origin.clone(), data)
}
