//! What isn't there, proved: compact denial of existence (RFC 9824).
//!
//! One NSEC record, owned by the name asked for, says which types it has; that a name isn't there is
//! said by the type NXNAME. The next name is the one right behind it, so the record says nothing of
//! any other name.

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::rr::domain::Label;
use hickory_proto::rr::{Name, RData, RecordType};

/// The type that says "this name doesn't exist" in an NSEC record, and nowhere else.
pub const NXNAME: RecordType = RecordType::Unknown(128);

/// The longest name, in bytes as encoded (RFC 1035 §3.1).
const MAX_NAME: usize = 255;

/// The longest label.
const MAX_LABEL: usize = 63;

/// The NSEC record's data for a name that has `types`, or for one that doesn't exist.
#[must_use]
pub(super) fn nsec(name: &Name, types: Option<&[RecordType]>) -> RData {
    let own = [RecordType::RRSIG, RecordType::NSEC];
    let listed = types.unwrap_or(&[NXNAME]).iter().copied();
    let nsec = NSEC::new(successor(&name.to_lowercase()), listed.chain(own));
    RData::DNSSEC(DNSSECRData::NSEC(nsec))
}

/// A name right behind `name`, which is in lower case, in the order of RFC 4034 §6.1: `\000.<name>`,
/// or where that is too long the next one at all that isn't below it (RFC 4471 §3.1.2).
fn successor(name: &Name) -> Name {
    let child = Label::from_raw_bytes(&[0]).and_then(|zero| name.prepend_label(zero));
    if let Ok(child) = child
        && wire_length(&child) <= MAX_NAME
    {
        return child;
    }
    let labels: Vec<&[u8]> = name.iter().collect();
    for skipped in 0..labels.len() {
        let (first, rest) = (labels[skipped], &labels[skipped + 1..]);
        let room = MAX_NAME - name_length(rest);
        if let Some(next) = next_label(first, room) {
            let all = std::iter::once(next.as_slice()).chain(rest.iter().copied());
            if let Ok(mut next) = Name::from_labels(all) {
                next.set_fqdn(true);
                return next;
            }
        }
    }
    Name::root()
}

/// The label right behind `label` among its siblings, if there is one in `room` bytes with its
/// length byte.
fn next_label(label: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut next = label.to_vec();
    if label.len() < MAX_LABEL && label.len() + 2 <= room {
        next.push(0);
        return Some(next);
    }
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            // Upper case sorts as lower case: what comes behind '@' is '['.
            next.push(if last == b'@' { b'[' } else { last + 1 });
            return Some(next);
        }
    }
    None
}

fn wire_length(name: &Name) -> usize {
    name_length(&name.iter().collect::<Vec<_>>())
}

fn name_length(labels: &[&[u8]]) -> usize {
    labels.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn the_name_behind_is_the_first_below() {
        let next = successor(&name("go.test."));
        assert_eq!(next.iter().next(), Some([0].as_slice()));
        assert_eq!(next.trim_to(2), name("go.test."));
        assert!(next > name("go.test.") && next < name("a.go.test."));
    }

    #[test]
    fn the_longest_names_have_one_behind_them_too() {
        let label = |byte: u8, length: usize| vec![byte; length];
        let cases = [
            // 255 bytes in all: the last byte moves on.
            vec![
                label(b'a', 61),
                label(b'b', 63),
                label(b'c', 63),
                label(b'd', 63),
            ],
            vec![
                label(b'@', 61),
                label(b'b', 63),
                label(b'c', 63),
                label(b'd', 63),
            ],
            // Nothing behind the first label: the second moves on.
            vec![
                label(255, 61),
                label(b'b', 63),
                label(b'c', 63),
                label(b'd', 63),
            ],
            // 254 bytes: a byte more, but no label more.
            vec![
                label(b'a', 60),
                label(b'b', 63),
                label(b'c', 63),
                label(b'd', 63),
            ],
        ];
        for labels in cases {
            let mut long = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
            long.set_fqdn(true);
            let next = successor(&long);
            assert!(next > long, "{next} > {long}");
            assert!(wire_length(&next) <= MAX_NAME);
            assert!(!next.is_root());
        }
    }

    #[test]
    fn a_missing_name_has_one_type_besides_the_proofs_own() {
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = nsec(&name("X.go.test."), None) else {
            panic!("no NSEC record");
        };
        let types: Vec<u16> = nsec.type_bit_maps().map(u16::from).collect();
        assert_eq!(types, [46, 47, 128]);
        assert_eq!(nsec.next_domain_name().to_ascii(), "\\000.x.go.test.");
    }
}
