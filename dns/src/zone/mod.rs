//! The zones: which names exist, what they are, and the records that don't depend on who asks.
//!
//! A [`Zone`] knows every name in it by heart, names without records between others included (empty
//! non-terminals, RFC 8020), so that "no such name" is said of exactly those that have nothing at or
//! below them. There are no wildcards, and no delegations: what lies below another of our zones is
//! that zone's ([`Zones::find`]).

pub mod build;

mod https;
mod soa;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::rr::rdata::{HINFO, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use modcdn_core::digest::Sha256;

use crate::steer::ViewId;

pub use https::Https;
pub use soa::{Authority, next_serial};

/// The label whose name always holds every healthy PoP.
pub const ALL_LABEL: &str = "all";

/// The label whose TXT record explains what the asker is answered.
pub const WHY_LABEL: &str = "why";

/// A name server of a zone.
#[derive(Clone, Debug)]
pub struct Nameserver {
    /// Its name.
    pub name: Name,
    /// Its IPv4 addresses, where the name lies in the zone.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses, where the name lies in the zone.
    pub v6: Vec<Ipv6Addr>,
}

/// Time to live of a zone's records.
#[derive(Clone, Copy, Debug)]
pub struct Ttls {
    /// Of addresses of PoPs.
    pub steered: Duration,
    /// Of everything else.
    pub fixed: Duration,
}

/// What a name's answers are made of, beside its fixed records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing else.
    #[default]
    Fixed,
    /// The best PoP for who asks, among those of a view.
    Steered {
        /// The view.
        view: ViewId,
        /// The HTTPS record's parameters, if there is one.
        https: Option<Https>,
    },
    /// Every healthy PoP of a view.
    All(ViewId),
    /// The explanation of what the steered name of a view answers.
    Why(ViewId),
}

/// One name of a zone.
#[derive(Clone, Debug, Default)]
pub struct Node {
    role: Role,
    /// Owned by the name as configured; the asker's case is put in when answering.
    records: Vec<Record>,
}

/// What a name is.
#[derive(Debug)]
pub enum Found<'a> {
    /// In none of our zones.
    Outside,
    /// In this zone, but no such name.
    Missing(&'a Zone),
    /// In this zone: no records, but there are names below it.
    Empty(&'a Zone),
    /// In this zone, with records.
    Node(&'a Zone, &'a Node),
}

/// One zone.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    names: HashMap<Name, Node>,
    nameservers: Vec<Nameserver>,
    soa: SOA,
    negative_ttl: u32,
    steered_ttl: u32,
    fixed_ttl: u32,
}

/// All zones of a server. Cheap to look into, made anew when a zone's content moves.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    /// The deepest first, so that of nested zones the longest match is found first.
    zones: Vec<Zone>,
}

impl Zones {
    /// Zones of different origins.
    #[must_use]
    pub fn new(mut zones: Vec<Zone>) -> Self {
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.origin.iter().len()));
        Self { zones }
    }

    /// What a name is, whatever its case. The DS record of a zone's apex is the business of the zone
    /// above, where that is ours too (RFC 4035 §3.1.4.1).
    #[must_use]
    pub fn find(&self, name: &Name, kind: RecordType) -> Found<'_> {
        let mut ours = self.zones.iter().filter(|zone| zone.origin.zone_of(name));
        let Some(zone) = ours.next() else {
            return Found::Outside;
        };
        if kind == RecordType::DS
            && zone.origin == *name
            && let Some(parent) = ours.next()
        {
            return match parent.names.get(name) {
                Some(node) => parent.found(node),
                None => Found::Empty(parent),
            };
        }
        zone.names
            .get(name)
            .map_or(Found::Missing(zone), |node| zone.found(node))
    }

    /// All of them, the deepest first.
    #[must_use]
    pub fn all(&self) -> &[Zone] {
        &self.zones
    }
}

impl Zone {
    /// A zone with its SOA and NS records and the addresses of its name servers; the first name
    /// server is named in the SOA record.
    #[must_use]
    pub fn new(
        origin: Name,
        nameservers: Vec<Nameserver>,
        authority: &Authority,
        ttls: Ttls,
    ) -> Self {
        let primary = nameservers
            .first()
            .map_or_else(|| origin.clone(), |ns| ns.name.clone());
        let soa = authority.record(primary);
        let mut zone = Self {
            names: HashMap::from([(origin.clone(), Node::default())]),
            origin,
            negative_ttl: soa::seconds(authority.negative_ttl.min(ttls.fixed)),
            steered_ttl: soa::seconds(ttls.steered),
            fixed_ttl: soa::seconds(ttls.fixed),
            nameservers,
            soa,
        };
        zone.add_nameservers();
        zone
    }

    fn add_nameservers(&mut self) {
        let origin = self.origin.clone();
        for ns in self.nameservers.clone() {
            self.add(&origin, None, RData::NS(NS(ns.name.clone())));
            for address in addresses_of(&ns) {
                self.add(&ns.name, None, address_data(address));
            }
        }
    }

    /// Leads a name to the PoPs of a view, and its `all` and `why` to what belongs to them. A name
    /// outside the zone is left alone.
    pub fn steer(&mut self, name: &Name, view: ViewId, https: Option<Https>) {
        let roles = [
            (Ok(name.clone()), Role::Steered { view, https }),
            (name.prepend_label(ALL_LABEL), Role::All(view)),
            (name.prepend_label(WHY_LABEL), Role::Why(view)),
        ];
        for (name, role) in roles {
            if let Some(node) = name.ok().and_then(|name| self.node(&name)) {
                node.role = role;
            }
        }
    }

    /// Adds a record, with the zone's own TTL unless another is given. A name outside the zone is
    /// left alone, and so is a record that is there already.
    pub fn add(&mut self, name: &Name, ttl: Option<u32>, data: RData) {
        let ttl = ttl.unwrap_or(self.fixed_ttl);
        let Some(node) = self.node(name) else { return };
        let there = node.records.iter().any(|record| record.data == data);
        if !there {
            node.records
                .push(Record::from_rdata(name.clone(), ttl, data));
        }
    }

    /// The node of a name in the zone, made along with those between it and the apex.
    fn node(&mut self, name: &Name) -> Option<&mut Node> {
        if !self.origin.zone_of(name) {
            return None;
        }
        let apex = self.origin.iter().len();
        for labels in apex..name.iter().len() {
            self.names.entry(name.trim_to(labels)).or_default();
        }
        Some(self.names.entry(name.clone()).or_default())
    }

    fn found<'a>(&'a self, node: &'a Node) -> Found<'a> {
        let empty = node.records.is_empty() && node.role == Role::Fixed;
        if empty && !self.is_apex(node) {
            Found::Empty(self)
        } else {
            Found::Node(self, node)
        }
    }

    /// The zone's name.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Every name, empty non-terminals included.
    pub fn nodes(&self) -> impl Iterator<Item = (&Name, &Node)> {
        self.names.iter()
    }

    /// The steered names, with the view and the HTTPS parameters of each.
    pub fn steered_names(&self) -> impl Iterator<Item = (&Name, ViewId, Option<&Https>)> {
        self.names
            .iter()
            .filter_map(|(name, node)| match &node.role {
                Role::Steered { view, https } => Some((name, *view, https.as_ref())),
                _ => None,
            })
    }

    /// The SOA record of the zone, owned by the end of `asked`, so that its case is the asker's.
    /// In a negative answer its TTL is the negative one (RFC 2308 §3).
    #[must_use]
    pub fn soa(&self, asked: &Name, negative: bool) -> Record {
        let ttl = if negative {
            self.negative_ttl
        } else {
            self.fixed_ttl
        };
        let owner = asked.trim_to(self.origin.iter().len());
        Record::from_rdata(owner, ttl, RData::SOA(self.soa.clone()))
    }

    /// The serial of the SOA record.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.soa.serial
    }

    /// Sets the serial of the SOA record.
    pub fn set_serial(&mut self, serial: u32) {
        self.soa.serial = serial;
    }

    /// Of everything in the zone but the serial: the same for the same content, in whatever order it
    /// was added.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        let mut soa = self.soa.clone();
        soa.serial = 0;
        let mut lines = vec![format!("{soa:?} {}", self.steered_ttl)];
        for (name, node) in &self.names {
            let name = name.to_lowercase();
            lines.push(format!("{name} {:?}", node.role));
            let records = node.records.iter();
            lines.extend(records.map(|record| format!("{name} {} {:?}", record.ttl, record.data)));
        }
        lines.sort_unstable();
        Sha256::of(lines.join("\n").as_bytes())
    }

    /// The addresses of all name servers in the zone.
    #[must_use]
    pub fn glue(&self) -> Vec<Record> {
        let glue = self.nameservers.iter().flat_map(|ns| {
            addresses_of(ns).map(|address| {
                Record::from_rdata(ns.name.clone(), self.fixed_ttl, address_data(address))
            })
        });
        glue.collect()
    }

    /// An address record of a PoP.
    #[must_use]
    pub fn steered(&self, owner: &Name, address: IpAddr) -> Record {
        self.tailored(owner, address_data(address))
    }

    /// Any other record whose content depends on the asker.
    #[must_use]
    pub fn tailored(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.steered_ttl, data)
    }

    /// The minimal answer to ANY (RFC 8482 §4.2).
    #[must_use]
    pub fn minimal_any(&self, owner: &Name) -> Record {
        let data = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
        Record::from_rdata(owner.clone(), self.fixed_ttl, data)
    }

    /// Every type that some asker gets at a name, in ascending order: for proofs of what isn't there
    /// (RFC 4034 §4.1.2), where the signer adds its own.
    #[must_use]
    pub fn types(&self, node: &Node) -> Vec<RecordType> {
        let mut types: Vec<_> = node.records.iter().map(Record::record_type).collect();
        match &node.role {
            Role::Fixed => {}
            Role::All(_) => types.extend([RecordType::A, RecordType::AAAA]),
            Role::Why(_) => types.push(RecordType::TXT),
            Role::Steered { https, .. } => {
                types.extend([RecordType::A, RecordType::AAAA]);
                types.extend(https.as_ref().map(|_| RecordType::HTTPS));
            }
        }
        if self.is_apex(node) {
            types.push(RecordType::SOA);
        }
        types.sort_unstable_by_key(|kind| u16::from(*kind));
        types.dedup();
        types
    }

    /// Whether a node is the zone's apex.
    #[must_use]
    pub fn is_apex(&self, node: &Node) -> bool {
        self.names
            .get(&self.origin)
            .is_some_and(|apex| std::ptr::eq(apex, node))
    }
}

impl Node {
    /// What its answers are made of, beside fixed records.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The fixed records of a type, owned by the name as asked for.
    #[must_use]
    pub fn records(&self, kind: RecordType, owner: &Name) -> Vec<Record> {
        let of_kind = self.records.iter().filter(|r| r.record_type() == kind);
        of_kind
            .map(|record| Record::from_rdata(owner.clone(), record.ttl, record.data.clone()))
            .collect()
    }
}

fn addresses_of(ns: &Nameserver) -> impl Iterator<Item = IpAddr> + '_ {
    let v4 = ns.v4.iter().copied().map(IpAddr::V4);
    v4.chain(ns.v6.iter().copied().map(IpAddr::V6))
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(v4.into()),
        IpAddr::V6(v6) => RData::AAAA(v6.into()),
    }
}

#[cfg(test)]
mod tests;
