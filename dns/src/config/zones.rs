//! The zones: what every zone has, and the names and records of each.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use modcdn_core::config::Problem;
use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

use super::{Config, Domain, Nameserver, Soa};
use crate::zone::{ALL_LABEL, WHY_LABEL};

/// Zones of one server: each query is compared with all of their names.
pub const MAX_ZONES: usize = 100;

/// Protocols that an HTTPS record names unless told otherwise.
pub const DEFAULT_ALPN: &str = "h2";

/// One zone beside the first, with the same keys as that has at the file's top level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// The zone's name.
    pub zone: Domain,
    /// Its name servers; none: `ns1.<zone>` at the addresses of `listen`.
    #[serde(default)]
    pub nameservers: Vec<Nameserver>,
    /// Its SOA record.
    #[serde(default)]
    pub soa: Soa,
    /// Its steered names; none: the zone's own name.
    #[serde(default)]
    pub steered: Vec<SteeredName>,
    /// Its records.
    #[serde(default)]
    pub records: Vec<RecordConfig>,
}

/// A name that leads every client to its best PoP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteeredName {
    /// The name.
    pub name: Domain,
    /// The PoPs among which it chooses; none: all.
    #[serde(default)]
    pub pops: BTreeSet<String>,
    /// Its HTTPS record; none: it has none.
    #[serde(default)]
    pub https: Option<HttpsConfig>,
}

/// The HTTPS record of a steered name (RFC 9460).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsConfig {
    /// Protocols beside HTTP/1.1.
    pub alpn: Vec<String>,
    /// The port; none: 443.
    pub port: Option<u16>,
    /// Whether the chosen PoPs' addresses stand in it too.
    pub hints: bool,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self {
            alpn: vec![DEFAULT_ALPN.to_owned()],
            port: None,
            hints: true,
        }
    }
}

/// A record that is the same for every client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordConfig {
    /// Its name.
    pub name: Domain,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Its data as a zone file has it.
    pub data: String,
    /// How long resolvers may keep it; none: `fixed_ttl`.
    #[serde(default)]
    pub ttl: Option<Period>,
}

/// Types that may be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Who may issue certificates (RFC 8659).
    Caa,
    /// How to reach an HTTP server (RFC 9460).
    Https,
    /// Who takes mail.
    Mx,
    /// Text.
    Txt,
}

impl From<RecordKind> for RecordType {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::A => Self::A,
            RecordKind::Aaaa => Self::AAAA,
            RecordKind::Caa => Self::CAA,
            RecordKind::Https => Self::HTTPS,
            RecordKind::Mx => Self::MX,
            RecordKind::Txt => Self::TXT,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", RecordType::from(*self))
    }
}

impl RecordConfig {
    /// The data.
    ///
    /// # Errors
    /// It isn't data of the type, or longer than DNS can say.
    pub fn rdata(&self) -> Result<RData, String> {
        let data = RData::try_from_str(self.kind.into(), &self.data).map_err(|e| e.to_string())?;
        // What can't be written can't be served: texts over 255 bytes, say.
        data.to_bytes().map_err(|error| error.to_string())?;
        Ok(data)
    }
}

impl ZoneConfig {
    /// The steered names, the zone's own unless told otherwise.
    #[must_use]
    pub fn steered_names(&self) -> Vec<SteeredName> {
        if !self.steered.is_empty() {
            return self.steered.clone();
        }
        vec![SteeredName {
            name: self.zone.clone(),
            pops: BTreeSet::new(),
            https: None,
        }]
    }
}

impl Config {
    /// Every zone: the one of the file's top level, and those of `zones`.
    #[must_use]
    pub fn every_zone(&self) -> Vec<ZoneConfig> {
        let first = ZoneConfig {
            zone: self.zone.clone(),
            nameservers: self.nameservers.clone(),
            soa: self.soa.clone(),
            steered: self.steered.clone(),
            records: self.records.clone(),
        };
        let mut all = vec![first];
        all.extend(self.zones.iter().cloned());
        all
    }

    /// The sets of PoPs among which steered names choose, as indices in ascending order: names with
    /// the same set share one. The first is the first zone's first name's.
    #[must_use]
    pub fn views(&self) -> Vec<Vec<usize>> {
        let mut views = Vec::new();
        for name in self.every_zone().iter().flat_map(ZoneConfig::steered_names) {
            let view = self.pops_of(&name);
            if !views.contains(&view) {
                views.push(view);
            }
        }
        views
    }

    /// The PoPs among which a steered name chooses.
    #[must_use]
    pub fn pops_of(&self, name: &SteeredName) -> Vec<usize> {
        let pops = self.pops.iter().enumerate();
        pops.filter(|(_, pop)| name.pops.is_empty() || name.pops.contains(&pop.name))
            .map(|(index, _)| index)
            .collect()
    }

    pub(super) fn check_zones(&self, problems: &mut Vec<Problem>) {
        let zones = self.every_zone();
        if zones.len() > MAX_ZONES {
            let message = format!("more than {MAX_ZONES} zones");
            problems.push(Problem::new("zones", message));
        }
        for (index, zone) in zones.iter().enumerate() {
            let key = if index == 0 { "zone" } else { "zones" };
            let mut problem = |message: String| problems.push(Problem::new(key, message));
            if zone.zone.name().is_root() {
                problem("the root is not ours to serve".to_owned());
            }
            if zones[..index].iter().any(|other| other.zone == zone.zone) {
                problem(format!("{} is there twice", zone.zone));
            }
            let mut checked = Checked {
                config: self,
                zone,
                zones: &zones,
                problem: &mut problem,
            };
            checked.nameservers();
            checked.steered();
            checked.records();
        }
    }
}

/// A zone that is being checked.
struct Checked<'a> {
    config: &'a Config,
    zone: &'a ZoneConfig,
    zones: &'a [ZoneConfig],
    problem: &'a mut dyn FnMut(String),
}

impl Checked<'_> {
    fn nameservers(&mut self) {
        for ns in &self.zone.nameservers {
            let inside = self.zone.zone.name().zone_of(ns.name.name());
            let message = match (inside, ns.addresses.is_empty()) {
                (true, true) => "lies in the zone, so its addresses are needed",
                (false, false) => "lies outside the zone, so its addresses don't belong here",
                (true, false) if self.is_steered(ns.name.name()) => {
                    "is a name that is answered with PoPs"
                }
                _ => continue,
            };
            (self.problem)(format!("nameserver {} {message}", ns.name));
        }
    }

    fn steered(&mut self) {
        let names = self.zone.steered_names();
        for (index, steered) in names.iter().enumerate() {
            let name = steered.name.name();
            self.inside(name, "steered name");
            let taken = roles(name).any(|role| {
                let others = names[..index].iter();
                others
                    .flat_map(|other| roles(other.name.name()))
                    .any(|other| other == role)
            });
            if taken {
                (self.problem)(format!(
                    "steered name {name}: it, or its {ALL_LABEL} or {WHY_LABEL}, is another steered name's"
                ));
            }
            if name.prepend_label(WHY_LABEL).is_err() {
                (self.problem)(format!(
                    "steered name {name} is too long for {WHY_LABEL}.{name}"
                ));
            }
            for pop in &steered.pops {
                if self.config.pop_index(pop).is_none() {
                    (self.problem)(format!("steered name {name}: no pop is named {pop:?}"));
                }
            }
            let alpn = steered.https.iter().flat_map(|https| &https.alpn);
            for id in alpn.filter(|id| id.is_empty() || id.len() > 255) {
                (self.problem)(format!("steered name {name}: {id:?} is no ALPN id"));
            }
        }
    }

    fn records(&mut self) {
        for record in &self.zone.records {
            let name = record.name.name();
            let what = format!("{} record", record.kind);
            self.inside(name, &what);
            if let Err(error) = record.rdata() {
                let (kind, data) = (record.kind, &record.data);
                (self.problem)(format!("{name}: {data:?} is no {kind} data: {error}"));
            }
            if self.clashes(name, record.kind) {
                (self.problem)(format!("{what} {name}: the name is answered with PoPs"));
            }
        }
    }

    /// A name must lie in its zone, and not in one of ours further down.
    fn inside(&mut self, name: &Name, what: &str) {
        let zone = self.zone.zone.name();
        if !zone.zone_of(name) {
            (self.problem)(format!("{what} {name} lies outside the zone {zone}"));
            return;
        }
        let below = self
            .zones
            .iter()
            .map(|other| other.zone.name())
            .find(|other| other.iter().len() > zone.iter().len() && other.zone_of(name));
        if let Some(below) = below {
            (self.problem)(format!(
                "{what} {name} lies in the zone {below}: say it there"
            ));
        }
        if name.is_wildcard() {
            (self.problem)(format!("{what} {name}: there are no wildcards here"));
        }
    }

    fn is_steered(&self, name: &Name) -> bool {
        let mut names = self.zone.steered_names().into_iter();
        names.any(|steered| roles(steered.name.name()).any(|role| role == *name))
    }

    /// Whether a record would stand beside what steering answers there.
    fn clashes(&self, name: &Name, kind: RecordKind) -> bool {
        self.zone.steered_names().iter().any(|steered| {
            let [apex, all, why] = [None, Some(ALL_LABEL), Some(WHY_LABEL)]
                .map(|label| role(steered.name.name(), label).is_some_and(|role| role == *name));
            match kind {
                RecordKind::A | RecordKind::Aaaa => apex || all,
                RecordKind::Https => apex && steered.https.is_some(),
                RecordKind::Txt => why,
                RecordKind::Caa | RecordKind::Mx => false,
            }
        })
    }
}

/// A steered name, its `all` and its `why`.
fn roles(name: &Name) -> impl Iterator<Item = Name> + '_ {
    let labels = [None, Some(ALL_LABEL), Some(WHY_LABEL)];
    labels.into_iter().filter_map(|label| role(name, label))
}

fn role(name: &Name, label: Option<&str>) -> Option<Name> {
    match label {
        None => Some(name.clone()),
        Some(label) => name.prepend_label(label).ok(),
    }
}
