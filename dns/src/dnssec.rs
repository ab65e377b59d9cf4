//! DNSSEC: the zones' keys, and the signatures and proofs that answers get.
//!
//! - [`file`] and `key`: private keys, and what is published of them.
//! - `canonical` and `signature`: one RRset, one key, one signature (RFC 4034).
//! - `apex`: what keys add to the zones.
//! - `denial`: compact proofs of what isn't there (RFC 9824).
//! - `foreseen`: what can be known ahead; `keep`: having it signed in time.
//! - `store`: signatures made, ahead of time or while answering.
//!
//! [`Signing`] puts them together. It reads no clock: every call brings the time along. A server
//! calls [`Signing::prepare`] with all that it will answer before it does, so that while answering
//! signatures are only looked up; what can't be known ahead (proofs for names that aren't there,
//! texts that depend on the asker) is signed then, cached, and bounded in its rate.
//!
//! Failure rule: an answer of a signed zone is signed whole or is SERVFAIL; never half.

pub mod file;

mod apex;
mod canonical;
mod denial;
mod foreseen;
mod keep;
mod key;
mod load;
mod metrics;
mod signature;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use hickory_proto::dnssec::rdata::DS;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

pub use apex::publish;
pub use denial::NXNAME;
pub use keep::keep;
pub use key::{Algorithm, Key, KeyError, Role, State};
pub use load::load;
pub use metrics::Metrics;
pub use signature::{SKEW, STEP};

use self::canonical::Canonical;
use self::signature::{Life, sign};
use self::store::{Known, Signed, Store};
use crate::query::Question;
use crate::respond::content::{Content, Denial, ExtendedError};
use crate::steer::Map;
use crate::zone::Zones;

/// What a signature says of the TTL, at least: steered answers are sent with different TTLs up to
/// this one, under one signature. A validator takes the lesser of what is sent and what is signed.
const LEAST_ORIGINAL_TTL: u32 = 120;

/// The TTL that is signed for one that is sent: the same, where it can't be that of a steered answer,
/// whose every second would need a signature of its own (`steering.ttl_most` may be a day). These are
/// rounded up by the octave.
fn original_ttl(sent: u32) -> u32 {
    if sent.is_multiple_of(60) {
        return sent.max(LEAST_ORIGINAL_TTL);
    }
    let octaves = sent
        .div_ceil(LEAST_ORIGINAL_TTL)
        .max(1)
        .checked_next_power_of_two();
    octaves.map_or(sent, |octaves| LEAST_ORIGINAL_TTL.saturating_mul(octaves))
}

/// How signatures are made and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Seconds for which a signature counts from when it is made; it is replaced after half of them.
    pub validity: u32,
    /// Signatures made while answering, a second; what is above gets SERVFAIL.
    pub rate: u32,
    /// Sets whose signatures, made while answering, are kept.
    pub cache: usize,
}

/// A zone's keys.
#[derive(Debug)]
pub struct ZoneKeys {
    /// The zone.
    pub zone: Name,
    /// Its keys, each with where it is in its life.
    pub keys: Vec<(Key, State)>,
    /// Whether the zone above is asked to forget them all: before the zone is unsigned.
    pub delete_ds: bool,
}

impl ZoneKeys {
    /// The keys that sign.
    fn active(&self) -> impl Iterator<Item = &Key> {
        let active = self.keys.iter();
        active.filter_map(|(key, state)| (*state == State::Active).then_some(key))
    }

    /// The keys that the zone above should know.
    fn offered(&self) -> impl Iterator<Item = &Key> {
        let offered = self
            .keys
            .iter()
            .filter(|(key, state)| key.role().is_entry_point() && *state != State::Retired)
            .filter(|_| !self.delete_ds);
        offered.map(|(key, _)| key)
    }
}

/// What an asker's EDNS flags say of DNSSEC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// DO: signatures and proofs are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// CO: a compact proof may come with the code NXDOMAIN (RFC 9824 §5).
    pub compact_ok: bool,
}

/// Why a set isn't signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// The rate of signatures made while answering is used up.
    Rate,
    /// The cryptographic library failed, or the set can't be encoded.
    Failed,
}

impl Unsigned {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Failed => "failed",
        }
    }
}

/// Signs the answers of the zones that have keys.
pub struct Signing {
    zones: HashMap<Name, ZoneKeys>,
    terms: Terms,
    store: Store,
    metrics: Metrics,
}

impl Signing {
    /// Signs with these keys.
    #[must_use]
    pub fn new(zones: Vec<ZoneKeys>, terms: Terms, metrics: Metrics) -> Self {
        let by_name = zones.into_iter().map(|keys| (keys.zone.clone(), keys));
        Self {
            zones: by_name.collect(),
            terms,
            store: Store::new(terms.cache, terms.rate, terms.validity / 2),
            metrics,
        }
    }

    /// The same with what another one signed, if the same keys sign on the same terms: for zones that
    /// take the place of its zones. The other one goes on as if nothing were.
    #[must_use]
    pub fn knowing(self, other: &Self) -> Self {
        if self.terms != other.terms || self.signers() != other.signers() {
            return self;
        }
        Self {
            store: self.store.knowing(&other.store),
            ..self
        }
    }

    /// What signs each zone.
    fn signers(&self) -> HashMap<&Name, Vec<(Role, RData)>> {
        let zones = self.zones.iter();
        let signers = |keys: &ZoneKeys| {
            let active = keys.active();
            active.map(|key| (key.role(), key.dnskey())).collect()
        };
        zones.map(|(zone, keys)| (zone, signers(keys))).collect()
    }

    /// Shows in the metrics what is kept.
    fn report(&self, now: u32) {
        let (ahead, online) = self.store.len();
        self.metrics
            .kept(ahead, online, self.store.first_expiration(now));
    }

    /// The DS records that the zone above should hold of a zone. Nothing for a zone without keys.
    #[must_use]
    pub fn ds(&self, zone: &Name) -> Vec<DS> {
        let Some(keys) = self.zones.get(zone) else {
            return Vec::new();
        };
        keys.offered().map(|key| key.ds(zone)).collect()
    }

    /// What a zone's apex publishes of its keys: DNSKEY, CDS and CDNSKEY records' data. Nothing for
    /// a zone without keys.
    #[must_use]
    pub fn published(&self, zone: &Name) -> Vec<RData> {
        let Some(keys) = self.zones.get(zone) else {
            return Vec::new();
        };
        let mut data: Vec<_> = keys.keys.iter().map(|(key, _)| key.dnskey()).collect();
        for key in keys.offered() {
            data.extend([key.cds(zone), key.cdnskey()]);
        }
        if keys.delete_ds {
            data.extend(key::deletion());
        }
        data
    }

    /// Proves what an answer denies, and signs it, where that is wanted. `now` is in seconds since
    /// 1970. To who can't know better a name that isn't there has the code NOERROR (RFC 9824 §3, §5).
    pub fn attach(&self, content: &mut Content, question: &Question, wanted: Wanted, now: u32) {
        let proof = matches!(question.kind, RecordType::NSEC | RecordType::RRSIG);
        if !wanted.dnssec_ok && !proof {
            return;
        }
        let Some(keys) = content.zone.as_ref().and_then(|zone| self.zones.get(zone)) else {
            return;
        };
        prove(content, question);
        let signed = [
            &mut content.answers,
            &mut content.authorities,
            &mut content.additionals,
        ]
        .into_iter()
        .try_for_each(|section| self.sign_section(keys, section, now));
        if let Err(reason) = signed {
            self.metrics.unsigned(reason);
            *content = Content {
                extended: Some(ExtendedError::Unsigned(reason)),
                ..Content::error(ResponseCode::ServFail)
            };
            return;
        }
        match (question.kind, wanted.dnssec_ok) {
            (RecordType::RRSIG, _) => content.answers.retain(is_signature),
            (_, false) => {
                content.answers.retain(|record| !is_signature(record));
                content.authorities.retain(|record| !is_signature(record));
            }
            (_, true) if content.code == ResponseCode::NXDomain && !wanted.compact_ok => {
                content.code = ResponseCode::NoError;
            }
            (_, true) => {}
        }
    }

    /// Signs all that these zones can answer with one of these maps, and can be known ahead; what was
    /// signed ahead before and isn't among it is forgotten. Signatures with three quarters of their life
    /// left are kept.
    pub fn prepare(&self, zones: &Zones, maps: &[&Map], now: u32) {
        let mut ahead = HashMap::new();
        for zone in zones.all() {
            let Some(keys) = self.zones.get(zone.origin()) else {
                continue;
            };
            for set in maps.iter().flat_map(|map| foreseen::sets(zone, map)) {
                let Ok(set) = canonical(&set) else { continue };
                if !ahead.contains_key(&set)
                    && let Some(signed) = self.ahead(keys, &set, now)
                {
                    ahead.insert(set, signed);
                }
            }
        }
        self.store.set_ahead(ahead);
        self.report(now);
    }

    fn ahead(&self, keys: &ZoneKeys, set: &Canonical, now: u32) -> Option<Signed> {
        if let Some(signed) = self.store.ahead(set, now, self.terms.validity / 4 * 3) {
            return Some(signed);
        }
        let signed = self.sign(keys, set, now);
        match &signed {
            Ok(_) => self.metrics.made_ahead(),
            Err(reason) => self.metrics.unsigned(*reason),
        }
        signed.ok()
    }

    /// Appends the signatures of all sets in a section.
    fn sign_section(
        &self,
        keys: &ZoneKeys,
        records: &mut Vec<Record>,
        now: u32,
    ) -> Result<(), Unsigned> {
        let mut rrsigs = Vec::new();
        for set in sets(records) {
            let signed = self.signed(keys, set, now)?;
            let first = &set[0];
            let record =
                |data: &RData| Record::from_rdata(first.name.clone(), first.ttl, data.clone());
            rrsigs.extend(signed.rrsigs.iter().map(record));
        }
        records.append(&mut rrsigs);
        Ok(())
    }

    /// The signatures of a set: those kept, or new ones if the rate allows.
    fn signed(&self, keys: &ZoneKeys, set: &[Record], now: u32) -> Result<Signed, Unsigned> {
        let set = canonical(set)?;
        let aging = match self.store.get(&set, now) {
            Known::Fresh(signed) => return Ok(signed),
            Known::Aging(signed) => Some(signed),
            Known::Nothing => None,
        };
        if !self.store.may_sign(now) {
            return aging.ok_or(Unsigned::Rate);
        }
        let signed = self.sign(keys, &set, now)?;
        self.metrics.made_online();
        self.store.put(set, signed.clone());
        Ok(signed)
    }

    fn sign(&self, keys: &ZoneKeys, set: &Canonical, now: u32) -> Result<Signed, Unsigned> {
        let life = Life::from(now, self.terms.validity);
        let signers = keys.active().filter(|key| key.role().signs(set.kind()));
        let rrsigs = signers.map(|key| {
            sign(&keys.zone, key, set, life).map_err(|error| {
                tracing::error!(zone = %keys.zone, key = key.tag(), %error, "cannot sign");
                Unsigned::Failed
            })
        });
        let rrsigs: Arc<[_]> = rrsigs.collect::<Result<_, _>>()?;
        Ok(Signed { rrsigs, life })
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("zones", &self.zones)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

fn is_signature(record: &Record) -> bool {
    record.record_type() == RecordType::RRSIG
}

/// Adds the proof of what an answer denies. Every name that exists has an NSEC record, so a question
/// for that type, or for signatures, is answered with it.
fn prove(content: &mut Content, question: &Question) {
    let name = &question.name;
    let ttl = content.authorities.first().map_or(0, |soa| soa.ttl);
    let record = |types| Record::from_rdata(name.clone(), ttl, denial::nsec(name, types));
    match (content.denial.take(), question.kind) {
        (None, _) => {}
        (Some(Denial::Name), _) => content.authorities.push(record(None)),
        (Some(Denial::Type(types)), RecordType::NSEC | RecordType::RRSIG) => {
            content.authorities.clear();
            content.answers = vec![record(Some(&types))];
        }
        (Some(Denial::Type(types)), _) => content.authorities.push(record(Some(&types))),
    }
}

/// The RRsets of a section, whose records stand together.
fn sets(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    records.chunk_by(|a, b| a.name == b.name && a.record_type() == b.record_type())
}

fn canonical(set: &[Record]) -> Result<Canonical, Unsigned> {
    let first = set.first().ok_or(Unsigned::Failed)?;
    let ttl = original_ttl(first.ttl);
    Canonical::new(&first.name, first.record_type(), ttl, set.iter()).map_err(|error| {
        tracing::error!(name = %first.name, %error, "cannot be put in canonical form");
        Unsigned::Failed
    })
}

#[cfg(test)]
mod tests;
