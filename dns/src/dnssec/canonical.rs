//! The canonical form of an RRset (RFC 4034 §6, RFC 6840 §5.1): what a signature covers, whatever
//! the case, the order and the TTL in which the records are sent.

use hickory_proto::ProtoError;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

/// The records of one owner and type in canonical form. Two sets are equal if and only if the same
/// signature covers both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Canonical {
    kind: RecordType,
    labels: u8,
    original_ttl: u32,
    /// The records, one after another, sorted by their data.
    bytes: Vec<u8>,
}

impl Canonical {
    /// The canonical form of `records`, which share owner and type. `original_ttl` (seconds) is what
    /// the signature says of their TTL: no less than the one they are sent with.
    ///
    /// # Errors
    /// If a record can't be encoded, or is longer than 65,535 bytes.
    pub(super) fn new<'a>(
        owner: &Name,
        kind: RecordType,
        original_ttl: u32,
        records: impl Iterator<Item = &'a Record>,
    ) -> Result<Self, ProtoError> {
        let mut data = records
            .map(|record| encode(&record.data, NameEncoding::Uncompressed))
            .collect::<Result<Vec<_>, _>>()?;
        data.sort_unstable();
        // A set holds nothing twice (RFC 4034 §6.3).
        data.dedup();
        let mut head = encode(owner, NameEncoding::UncompressedLowercase)?;
        head.extend(u16::from(kind).to_be_bytes());
        head.extend(u16::from(DNSClass::IN).to_be_bytes());
        head.extend(original_ttl.to_be_bytes());
        let mut bytes = Vec::new();
        for data in data {
            let length = u16::try_from(data.len())
                .map_err(|_| ProtoError::from("a record longer than 65,535 bytes"))?;
            bytes.extend(&head);
            bytes.extend(length.to_be_bytes());
            bytes.extend(data);
        }
        Ok(Self {
            kind,
            labels: owner.num_labels(),
            original_ttl,
            bytes,
        })
    }

    /// The type of its records.
    #[must_use]
    pub(super) fn kind(&self) -> RecordType {
        self.kind
    }

    /// Labels of the owner, the root's and a leading `*` left out (RFC 4034 §3.1.3).
    #[must_use]
    pub(super) fn labels(&self) -> u8 {
        self.labels
    }

    /// What the signature says of the TTL, in seconds.
    #[must_use]
    pub(super) fn original_ttl(&self) -> u32 {
        self.original_ttl
    }

    /// The records as they are signed.
    #[must_use]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Encodes in DNSSEC's form: never compressed; names within data in lower case where RFC 4034 lists
/// the type, which the codec knows.
pub(super) fn encode(what: &impl BinEncodable, names: NameEncoding) -> Result<Vec<u8>, ProtoError> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(names);
    what.emit(&mut encoder)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::RData;
    use hickory_proto::rr::rdata::NS;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn canonical(owner: &str, ttl: u32, data: &[RData]) -> Canonical {
        let record = |data: &RData| Record::from_rdata(name(owner), ttl, data.clone());
        let records: Vec<_> = data.iter().map(record).collect();
        let kind = records[0].record_type();
        Canonical::new(&name(owner), kind, 120, records.iter()).unwrap()
    }

    fn a(last: u8) -> RData {
        RData::A(Ipv4Addr::new(192, 0, 2, last).into())
    }

    fn ns(text: &str) -> RData {
        RData::NS(NS(name(text)))
    }

    #[test]
    fn case_order_ttl_and_repetition_make_no_difference() {
        let once = canonical("go.test.", 20, &[a(1), a(2)]);
        assert_eq!(once, canonical("Go.TEST.", 120, &[a(2), a(1), a(2)]));
        assert_ne!(once, canonical("go.test.", 20, &[a(1)]));
        assert_ne!(once, canonical("to.test.", 20, &[a(1), a(2)]));
        let first = [
            b"\x02go\x04test\x00\x00\x01\x00\x01\x00\x00\x00\x78\x00\x04".as_slice(),
            &[192, 0, 2, 1],
        ];
        assert!(once.bytes().starts_with(&first.concat()));
    }

    #[test]
    fn names_in_data_are_sorted_as_they_are_signed_in_lower_case() {
        let lower = canonical("go.test.", 20, &[ns("a.go.test."), ns("b.go.test.")]);
        assert_eq!(
            lower,
            canonical("go.test.", 20, &[ns("B.go.test."), ns("a.GO.test.")])
        );
    }
}
