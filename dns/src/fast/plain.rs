//! The plain query: what nearly every resolver sends, read in one pass into offsets.
//!
//! One question, no records but at most an OPT at the very end, in that no options but at most one
//! client subnet, no flags but RD, AD and CD. Whatever deviates in any way isn't plain, and nothing
//! is decided about it here.

use crate::ecs::{self, ClientSubnet};

/// Id, flags and counts.
pub(super) const HEADER: usize = 12;

/// Type and class behind a question's name.
const TYPE_AND_CLASS: usize = 4;

/// Class IN.
const IN: [u8; 2] = [0, 1];

/// An OPT record up to its payload size: owned by the root, type 41.
const OPT: [u8; 3] = [0, 0, 41];

/// An OPT record without options.
const OPT_BYTES: usize = 11;

/// An option's code and length.
const OPTION_HEAD: usize = 4;

/// The longest name (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;

/// A plain query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// As sent.
    pub id: [u8; 2],
    /// The RD bit.
    pub recursion_desired: bool,
    /// Name, type and class, in the asker's case.
    pub question: &'a [u8],
    /// The type asked for.
    pub kind: u16,
    /// Of the question, whatever its case.
    pub hash: u64,
    /// Whether the name has no capital letter.
    pub is_lower: bool,
    /// The OPT record.
    pub edns: Option<PlainEdns<'a>>,
}

/// What the OPT record of a plain query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainEdns<'a> {
    /// The largest UDP answer the asker takes, in bytes, as sent.
    pub payload: u16,
    /// The client subnet, valid, and its option's data.
    pub subnet: Option<(ClientSubnet, &'a [u8])>,
}

impl<'a> Plain<'a> {
    /// Reads a query; nothing if it isn't plain. Never panics.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let &[
            id0,
            id1,
            flags,
            more,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            additionals @ 0..=1,
        ] = header
        else {
            return None;
        };
        // RD alone: a query, its opcode QUERY, neither AA nor TC. AD and CD alone: no RA, no Z, no
        // response code.
        if flags & !0x01 != 0 || more & !0x30 != 0 {
            return None;
        }
        let name = Name::read(rest)?;
        let (question, rest) = rest.split_at_checked(name.length + TYPE_AND_CLASS)?;
        let &[.., t1, t0, c1, c0] = question else {
            return None;
        };
        if [c1, c0] != IN {
            return None;
        }
        let edns = match additionals {
            0 if rest.is_empty() => None,
            1 => Some(PlainEdns::read(rest)?),
            _ => return None,
        };
        let kind = u16::from_be_bytes([t1, t0]);
        Some(Self {
            id: [id0, id1],
            recursion_desired: flags != 0,
            question,
            kind,
            hash: mix(mix(name.hash, t1), t0),
            is_lower: name.is_lower,
            edns,
        })
    }

    /// The question with its name in lower case, as tables keep it.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let (name, rest) = self.question.split_at(self.question.len() - TYPE_AND_CLASS);
        // Lengths of labels are below any letter.
        [name.to_ascii_lowercase().as_slice(), rest].concat()
    }

    /// Whether this is the question of that canonical form.
    pub(super) fn asks(&self, canonical: &[u8]) -> bool {
        // Type and class were compared by the hash only; a letter's case doesn't matter in a name,
        // but does in a number.
        let at = self.question.len() - TYPE_AND_CLASS;
        let (name, rest) = self.question.split_at(at);
        canonical
            .split_at_checked(at)
            .is_some_and(|(its_name, its_rest)| {
                rest == its_rest && name.eq_ignore_ascii_case(its_name)
            })
    }
}

impl<'a> PlainEdns<'a> {
    /// Reads an OPT record that is all there is.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, options) = bytes.split_first_chunk::<OPT_BYTES>()?;
        // The extended code, the version and all flags are zero.
        let &[a, b, c, p1, p0, 0, 0, 0, 0, l1, l0] = head else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        if [a, b, c] != OPT || length != options.len() {
            return None;
        }
        let subnet = if options.is_empty() {
            None
        } else {
            let (head, data) = options.split_first_chunk::<OPTION_HEAD>()?;
            let [o1, o0, l1, l0] = *head;
            let length = usize::from(u16::from_be_bytes([l1, l0]));
            if u16::from_be_bytes([o1, o0]) != ecs::OPTION_CODE || length != data.len() {
                return None;
            }
            Some((ClientSubnet::parse(data).ok()?, data))
        };
        let payload = u16::from_be_bytes([p1, p0]);
        Some(Self { payload, subnet })
    }
}

/// What a walk over a name finds.
struct Name {
    /// In bytes, with the root's.
    length: usize,
    hash: u64,
    is_lower: bool,
}

impl Name {
    /// Reads an uncompressed name at the start of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut hash = FNV_OFFSET;
        let mut capitals = 0;
        let mut at = 0;
        loop {
            let label = *bytes.get(at)?;
            if label > 63 {
                return None;
            }
            let end = at + 1 + usize::from(label);
            for byte in bytes.get(at..end)? {
                let lower = byte.to_ascii_lowercase();
                capitals |= lower ^ byte;
                hash = mix(hash, lower);
            }
            at = end;
            if at > MAX_NAME {
                return None;
            }
            if label == 0 {
                let is_lower = capitals == 0;
                return Some(Self {
                    length: at,
                    hash,
                    is_lower,
                });
            }
        }
    }
}

/// FNV-1a: questions are short, and whoever finds two of one hash gains nothing by it, since
/// questions are compared too.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUESTION: &[u8] = b"\x02Go\x04tesT\x00\x00\x01\x00\x01";
    const SUBNET: &[u8] = b"\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02";

    fn query(flags: [u8; 2], counts: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![7, 8, flags[0], flags[1]];
        counts.iter().for_each(|count| bytes.extend([0, *count]));
        bytes.extend(parts.concat());
        bytes
    }

    fn opt(options: &[u8]) -> Vec<u8> {
        let length = u8::try_from(options.len()).unwrap();
        [b"\0\0\x29\x04\xd0\0\0\0\0\0".as_slice(), &[length], options].concat()
    }

    #[test]
    fn the_usual_query_is_plain() {
        let bytes = query([1, 0x20], [1, 0, 0, 1], &[QUESTION, &opt(SUBNET)]);
        let plain = Plain::read(&bytes).unwrap();
        assert_eq!(plain.id, [7, 8]);
        assert!(plain.recursion_desired && !plain.is_lower);
        assert_eq!((plain.question, plain.kind), (QUESTION, 1));
        let edns = plain.edns.unwrap();
        assert_eq!(edns.payload, 1232);
        let (subnet, data) = edns.subnet.unwrap();
        assert_eq!(
            (subnet.to_string().as_str(), data),
            ("192.0.2.0/24", &SUBNET[4..])
        );
        let bare = query([0, 0], [1, 0, 0, 0], &[QUESTION]);
        let bare = Plain::read(&bare).unwrap();
        assert_eq!((bare.edns, bare.recursion_desired), (None, false));
        assert_eq!(bare.hash, plain.hash);
    }

    #[test]
    fn a_question_is_found_by_its_lower_case() {
        let bytes = query([0, 0], [1, 0, 0, 0], &[QUESTION]);
        let plain = Plain::read(&bytes).unwrap();
        assert_eq!(plain.canonical(), QUESTION.to_ascii_lowercase());
        assert!(plain.asks(&plain.canonical()));
        // 0x41 and 0x61 are one letter, but two types.
        let other = |kind| query([0, 0], [1, 0, 0, 0], &[b"\x01a\0\0", &[kind], b"\0\x01"]);
        let (upper, lower) = (other(0x41), other(0x61));
        let (upper, lower) = (Plain::read(&upper).unwrap(), Plain::read(&lower).unwrap());
        assert!(!upper.asks(&lower.canonical()));
        assert_ne!(upper.hash, lower.hash);
    }

    #[test]
    fn whatever_deviates_is_not_plain() {
        let counts = [1, 0, 0, 0];
        let plain = |bytes: &[u8]| Plain::read(bytes).is_some();
        for flags in [
            [0x80, 0],
            [0x28, 0],
            [0x04, 0],
            [0x02, 0],
            [0, 0x80],
            [0, 0x40],
            [0, 1],
        ] {
            assert!(!plain(&query(flags, counts, &[QUESTION])), "{flags:?}");
        }
        for counts in [
            [0, 0, 0, 0],
            [2, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 0, 2],
        ] {
            assert!(
                !plain(&query([0, 0], counts, &[QUESTION, &opt(&[])])),
                "{counts:?}"
            );
        }
        assert!(
            !plain(&query([0, 0], counts, &[QUESTION, &opt(&[])])),
            "trailing bytes"
        );
        assert!(!plain(&query([0, 0], [1, 0, 0, 1], &[QUESTION])), "no OPT");
        for question in [
            &b"\xc0\x0c\0\x01\0\x01"[..],
            b"\x40a\0\0\x01\0\x01",
            b"\x02go\0\0\x01\0\x03",
            b"\x02go\0\0\x01\0",
            b"\x02go",
            b"",
        ] {
            assert!(!plain(&query([0, 0], counts, &[question])), "{question:?}");
        }
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(4);
        assert!(
            !plain(&query([0, 0], counts, &[&long, b"\0\0\x01\0\x01"])),
            "256 bytes"
        );
        let at_most = [long[..192].to_vec(), vec![61], vec![b'a'; 61]].concat();
        assert!(
            plain(&query([0, 0], counts, &[&at_most, b"\0\0\x01\0\x01"])),
            "255 bytes"
        );
        let with = |record: &[u8]| plain(&query([0, 0], [1, 0, 0, 1], &[QUESTION, record]));
        assert!(with(&opt(&[])));
        let altered = [(0, 1), (2, 42), (5, 1), (6, 1), (7, 0x80), (8, 1), (10, 1)];
        for (at, byte) in altered {
            let mut record = opt(&[]);
            record[at] = byte;
            assert!(!with(&record), "byte {at} of OPT");
        }
        assert!(
            !with(&opt(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])),
            "a cookie"
        );
        assert!(!with(&opt(&[SUBNET, SUBNET].concat())), "two subnets");
        assert!(
            !with(&opt(&[0, 8, 0, 7, 0, 1, 23, 0, 192, 0, 3])),
            "host bits"
        );
        assert!(!with(&opt(&SUBNET[..9])), "a cut option");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Plain::read(&bytes);
        }
    }
}
