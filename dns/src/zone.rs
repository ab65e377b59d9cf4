//! The zone: which names exist and the records that never change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_proto::rr::rdata::{HINFO, NS, SOA};
use hickory_proto::rr::{Name, RData, Record};

/// The label whose name always holds every healthy PoP.
pub const ALL_LABEL: &str = "all";

/// The label whose TXT record explains what the asker is answered.
pub const WHY_LABEL: &str = "why";

/// A name server of the zone.
#[derive(Clone, Debug)]
pub struct Nameserver {
    /// Its name.
    pub name: Name,
    /// Its IPv4 addresses, where the name lies in the zone.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses, where the name lies in the zone.
    pub v6: Vec<Ipv6Addr>,
}

/// The SOA record's fields (RFC 1035 §3.3.13).
#[derive(Clone, Debug)]
pub struct Authority {
    /// The mailbox of whoever is responsible, as a name.
    pub contact: Name,
    /// Version of the zone.
    pub serial: u32,
    /// For secondaries, of which there are none.
    pub refresh: Duration,
    /// For secondaries.
    pub retry: Duration,
    /// For secondaries.
    pub expire: Duration,
    /// How long a "no such name" or "no such record" may be kept (RFC 2308).
    pub negative_ttl: Duration,
}

/// Time to live of the zone's records.
#[derive(Clone, Copy, Debug)]
pub struct Ttls {
    /// Of addresses of PoPs.
    pub steered: Duration,
    /// Of everything else.
    pub fixed: Duration,
}

/// What a name is in this zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not below the zone's apex.
    Outside,
    /// Below it, but no such name.
    Missing,
    /// No records, but there are names below it.
    Empty,
    /// The steered name: the apex.
    Apex,
    /// The name of all healthy PoPs.
    All,
    /// The explanation.
    Why,
    /// The name server of this index.
    Nameserver(usize),
}

/// The zone's fixed part.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    nameservers: Vec<Nameserver>,
    soa: SOA,
    negative_ttl: u32,
    steered_ttl: u32,
    fixed_ttl: u32,
}

impl Zone {
    /// A zone; the first name server is named in the SOA record.
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
        let soa = SOA::new(
            primary,
            authority.contact.clone(),
            authority.serial,
            seconds(authority.refresh).cast_signed(),
            seconds(authority.retry).cast_signed(),
            seconds(authority.expire).cast_signed(),
            seconds(authority.negative_ttl),
        );
        Self {
            origin,
            nameservers,
            soa,
            negative_ttl: seconds(authority.negative_ttl.min(ttls.fixed)),
            steered_ttl: seconds(ttls.steered),
            fixed_ttl: seconds(ttls.fixed),
        }
    }

    /// What a name is, whatever its case.
    #[must_use]
    pub fn find(&self, name: &Name) -> Found {
        if !self.origin.zone_of(name) {
            return Found::Outside;
        }
        let mut below = name.iter().rev().skip(self.origin.iter().len());
        let first = below.next();
        match (first, below.next()) {
            (None, _) => Found::Apex,
            (Some(label), None) if is(label, ALL_LABEL) => Found::All,
            (Some(label), None) if is(label, WHY_LABEL) => Found::Why,
            _ => self.find_nameserver(name),
        }
    }

    fn find_nameserver(&self, name: &Name) -> Found {
        if let Some(index) = self.nameservers.iter().position(|ns| ns.name == *name) {
            return Found::Nameserver(index);
        }
        if self.nameservers.iter().any(|ns| name.zone_of(&ns.name)) {
            return Found::Empty;
        }
        Found::Missing
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

    /// The NS records of the apex.
    #[must_use]
    pub fn ns(&self, owner: &Name) -> Vec<Record> {
        let record = |ns: &Nameserver| {
            Record::from_rdata(
                owner.clone(),
                self.fixed_ttl,
                RData::NS(NS(ns.name.clone())),
            )
        };
        self.nameservers.iter().map(record).collect()
    }

    /// The addresses of all name servers in the zone.
    #[must_use]
    pub fn glue(&self) -> Vec<Record> {
        let addresses = self.nameservers.iter().flat_map(|ns| {
            let all = addresses_of(&ns.v4, &ns.v6);
            all.map(|address| self.address(&ns.name, address, self.fixed_ttl))
        });
        addresses.collect()
    }

    /// The addresses of one name server, of the family wanted.
    #[must_use]
    pub fn nameserver(&self, index: usize, owner: &Name, want_v6: bool) -> Vec<Record> {
        let Some(ns) = self.nameservers.get(index) else {
            return Vec::new();
        };
        addresses_of(&ns.v4, &ns.v6)
            .filter(|address| address.is_ipv6() == want_v6)
            .map(|address| self.address(owner, address, self.fixed_ttl))
            .collect()
    }

    /// An address record of a PoP.
    #[must_use]
    pub fn steered(&self, owner: &Name, address: IpAddr) -> Record {
        self.address(owner, address, self.steered_ttl)
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

    fn address(&self, owner: &Name, address: IpAddr, ttl: u32) -> Record {
        let data = match address {
            IpAddr::V4(v4) => RData::A(v4.into()),
            IpAddr::V6(v6) => RData::AAAA(v6.into()),
        };
        Record::from_rdata(owner.clone(), ttl, data)
    }
}

fn addresses_of<'a>(v4: &'a [Ipv4Addr], v6: &'a [Ipv6Addr]) -> impl Iterator<Item = IpAddr> + 'a {
    let v4 = v4.iter().copied().map(IpAddr::V4);
    v4.chain(v6.iter().copied().map(IpAddr::V6))
}

fn is(label: &[u8], text: &str) -> bool {
    label.eq_ignore_ascii_case(text.as_bytes())
}

/// Whole seconds as DNS writes them: at most 2³¹ − 1 (RFC 2181 §8).
fn seconds(period: Duration) -> u32 {
    u32::try_from(period.as_secs())
        .unwrap_or(u32::MAX)
        .min(i32::MAX.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn zone() -> Zone {
        let nameserver = |text: &str| Nameserver {
            name: name(text),
            v4: vec![Ipv4Addr::LOCALHOST],
            v6: vec![],
        };
        let authority = Authority {
            contact: name("hostmaster.go.test."),
            serial: 7,
            refresh: Duration::from_secs(3600),
            retry: Duration::from_secs(600),
            expire: Duration::from_secs(86400),
            negative_ttl: Duration::from_secs(60),
        };
        let ttls = Ttls {
            steered: Duration::from_secs(20),
            fixed: Duration::from_secs(u64::MAX),
        };
        let nameservers = vec![nameserver("ns1.go.test."), nameserver("a.dns.go.test.")];
        Zone::new(name("go.test."), nameservers, &authority, ttls)
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let zone = zone();
        for (text, found) in [
            ("go.test.", Found::Apex),
            ("GO.TesT.", Found::Apex),
            ("All.go.test.", Found::All),
            ("why.GO.test.", Found::Why),
            ("NS1.go.test.", Found::Nameserver(0)),
            ("a.dns.go.test.", Found::Nameserver(1)),
            ("dns.go.test.", Found::Empty),
            ("b.dns.go.test.", Found::Missing),
            ("x.go.test.", Found::Missing),
            ("x.all.go.test.", Found::Missing),
            ("x.ns1.go.test.", Found::Missing),
            ("*.go.test.", Found::Missing),
            ("test.", Found::Outside),
            (".", Found::Outside),
            ("xgo.test.", Found::Outside),
            ("go.test.example.", Found::Outside),
        ] {
            assert_eq!(zone.find(&name(text)), found, "{text}");
        }
    }

    #[test]
    fn an_soa_record_is_owned_in_the_askers_case_and_ttls_are_in_range() {
        let zone = zone();
        let soa = zone.soa(&name("x.Go.TEST."), true);
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("Go.TEST.", 60));
        assert_eq!(zone.soa(&name("go.test."), false).ttl, 0x7fff_ffff);
    }
}
