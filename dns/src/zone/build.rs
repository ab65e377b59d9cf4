//! From a configuration to its zones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use modcdn_core::config::Problem;

use super::{Authority, Https, Nameserver, Ttls, Zone};
use crate::config::{Config, Domain, SteeredName, ZoneConfig};
use crate::steer::ViewId;

/// Every zone of a configuration that was checked, with serial 0. Zones without name servers get one
/// at the addresses `bound`.
///
/// # Errors
/// A name that is too long to stand before a zone's, or a record that isn't one.
pub fn zones(config: &Config, bound: &[IpAddr]) -> Result<Vec<Zone>, Problem> {
    let zones = config.every_zone();
    zones
        .iter()
        .map(|zone| build(config, zone, bound))
        .collect()
}

/// Addresses by their families.
#[must_use]
pub fn families(addresses: impl IntoIterator<Item = IpAddr>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(address),
            IpAddr::V6(address) => v6.push(address),
        }
    }
    (v4, v6)
}

fn build(config: &Config, from: &ZoneConfig, bound: &[IpAddr]) -> Result<Zone, Problem> {
    let origin = from.zone.name();
    let ttls = Ttls {
        steered: *config.ttl,
        fixed: *config.fixed_ttl,
    };
    let nameservers = nameservers(from, bound)?;
    let mut zone = Zone::new(origin.clone(), nameservers, &authority(from)?, ttls);
    let views = config.views();
    for name in from.steered_names() {
        let pops = config.pops_of(&name);
        let view = views.iter().position(|view| *view == pops);
        let view = view.and_then(|view| u16::try_from(view).ok());
        let view = ViewId(view.unwrap_or_default());
        zone.steer(name.name.name(), view, https(&name));
    }
    for record in &from.records {
        let data = record
            .rdata()
            .map_err(|error| Problem::new("records", error))?;
        let ttl = record.ttl.map(|ttl| super::soa::seconds(*ttl));
        zone.add(record.name.name(), ttl, data);
    }
    Ok(zone)
}

fn nameservers(from: &ZoneConfig, bound: &[IpAddr]) -> Result<Vec<Nameserver>, Problem> {
    if from.nameservers.is_empty() {
        let name = below(from, "ns1")?;
        return Ok(vec![nameserver(name, bound.iter().copied())]);
    }
    let named = from.nameservers.iter();
    Ok(named
        .map(|ns| nameserver(ns.name.name().clone(), ns.addresses.iter().copied()))
        .collect())
}

fn nameserver(name: Name, addresses: impl Iterator<Item = IpAddr>) -> Nameserver {
    let (v4, v6) = families(addresses);
    Nameserver { name, v4, v6 }
}

fn authority(from: &ZoneConfig) -> Result<Authority, Problem> {
    let soa = &from.soa;
    Ok(Authority {
        contact: match soa.contact.as_ref().map(Domain::name) {
            Some(contact) => contact.clone(),
            None => below(from, "hostmaster")?,
        },
        serial: 0,
        refresh: *soa.refresh,
        retry: *soa.retry,
        expire: *soa.expire,
        negative_ttl: *soa.negative_ttl,
    })
}

fn https(name: &SteeredName) -> Option<Https> {
    name.https.as_ref().map(|https| Https {
        alpn: https.alpn.clone(),
        port: https.port,
        hints: https.hints,
    })
}

fn below(from: &ZoneConfig, label: &str) -> Result<Name, Problem> {
    let name = from.zone.name().prepend_label(label);
    name.map_err(|error| Problem::new("zone", format!("{}: {label}: {error}", from.zone)))
}
