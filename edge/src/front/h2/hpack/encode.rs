//! The fields of answers, encoded without a memory.
//!
//! Nothing is added to the client's dynamic table (RFC 7541 §6.2.2), so that a head, once written,
//! may be sent on any connection, any number of times, in any order with others. Values are sent as
//! they are, too. That costs bytes: of a zip's 170 in values, Huffman's code would save some 40, and
//! a table nearly all of those that repeat. It spares the work on each head, and memory in each
//! connection; bodies are what fills the wire.

use http::{HeaderName, StatusCode};

use super::integer;
use super::table::STATIC;

/// The first byte of a literal that isn't added to the table (RFC 7541 §6.2.2), and of one that
/// nobody on the way may add to his either (§6.2.3).
const LITERAL: u8 = 0x00;
const NEVER_INDEXED: u8 = 0x10;
/// The bits of an index in it.
const PREFIX: u32 = 4;

const STATUS: usize = 8;
/// Indices of what may hold a secret: `authorization`, `cookie`, `proxy-authorization`,
/// `set-cookie` (RFC 7541 §7.1.3).
const SECRETS: [usize; 4] = [23, 32, 49, 55];

/// Appends `:status`: one byte for those of the static table, five for others.
pub(crate) fn status(out: &mut Vec<u8>, status: StatusCode) {
    let index = match status.as_u16() {
        200 => STATUS,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            integer::encode(out, LITERAL, PREFIX, STATUS);
            string(out, status.as_str().as_bytes());
            return;
        }
    };
    integer::encode(out, 0x80, 7, index);
}

/// Appends a field. What may hold a secret is marked as never to be indexed. The value must be one
/// that HTTP/2 allows (RFC 9113 §8.2.1), as `http::HeaderValue` sees to: it isn't looked at.
pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    let index = static_name(name);
    let first = if SECRETS.contains(&index) {
        NEVER_INDEXED
    } else {
        LITERAL
    };
    integer::encode(out, first, PREFIX, index);
    if index == 0 {
        string(out, name);
    }
    string(out, value);
}

/// RFC 7541 §5.2, as it is.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer::encode(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// The index of a regular field's name in the static table; 0 if it isn't there.
fn static_name(name: &[u8]) -> usize {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else {
        return 0;
    };
    let index = usize::from(BY_HASH[hash(name.len(), first, last)]);
    if index > 0 && STATIC[index - 1].0.as_bytes() == name {
        index
    } else {
        0
    }
}

/// Factors found by trying, such that no two names of the static table meet.
const fn hash(length: usize, first: u8, last: u8) -> usize {
    (3 * length + 54 * first as usize + 59 * last as usize) % 128
}

/// By their hash: the indices of the static table's names, pseudo-fields aside.
static BY_HASH: [u8; 128] = by_hash();

const fn by_hash() -> [u8; 128] {
    let mut indices = [0; 128];
    // The first 14 are pseudo-fields.
    let mut at = 14;
    while at < STATIC.len() {
        let name = STATIC[at].0.as_bytes();
        let hash = hash(name.len(), name[0], name[name.len() - 1]);
        assert!(indices[hash] == 0, "two names meet");
        at += 1;
        indices[hash] = at as u8;
    }
    indices
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG, SET_COOKIE};
    use proptest::prelude::*;

    use super::*;
    use crate::front::h2::hpack::Decoder;

    fn decoded(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut decoder = Decoder::new(4096);
        let mut fields = Vec::new();
        let collect = |name: &[u8], value: &[u8]| fields.push((name.to_vec(), value.to_vec()));
        decoder.decode(block, collect).unwrap();
        assert_eq!(decoder.dynamic(), (vec![], 0), "nothing is remembered");
        fields
    }

    #[test]
    fn every_status_is_decoded_and_the_usual_ones_are_one_byte() {
        for code in 100..=999 {
            let code = StatusCode::from_u16(code).unwrap();
            let mut block = Vec::new();
            status(&mut block, code);
            let usual = [200, 204, 206, 304, 400, 404, 500].contains(&code.as_u16());
            assert_eq!(block.len(), if usual { 1 } else { 5 });
            let expected = (b":status".to_vec(), code.as_str().as_bytes().to_vec());
            assert_eq!(decoded(&block), [expected]);
        }
    }

    #[test]
    fn names_of_the_static_table_are_sent_as_their_index() {
        for (at, (name, _)) in STATIC.iter().enumerate().skip(14) {
            assert_eq!(static_name(name.as_bytes()), at + 1, "{name}");
            let mut block = Vec::new();
            field(&mut block, &HeaderName::from_static(name), b"v");
            assert!(block.len() <= 4);
            assert_eq!(decoded(&block), [(name.as_bytes().to_vec(), b"v".to_vec())]);
        }
        for other in [&b"agf"[..], b"x", b"modcdn-reason", b"", b"etay", b":path"] {
            assert_eq!(static_name(other), 0);
        }
    }

    #[test]
    fn bytes_of_a_head() {
        let mut block = Vec::new();
        status(&mut block, StatusCode::OK);
        field(&mut block, &ACCEPT_RANGES, b"bytes");
        field(&mut block, &CONTENT_TYPE, b"application/zip");
        field(&mut block, &ETAG, b"\"a\"");
        field(&mut block, &SET_COOKIE, b"a=b");
        field(&mut block, &HeaderName::from_static("modcdn-reason"), b"");
        let expected = [
            &b"\x88\x0f\x03\x05bytes\x0f\x10\x0fapplication/zip"[..],
            b"\x0f\x13\x03\"a\"",
            b"\x1f\x28\x03a=b",
            b"\x00\x0dmodcdn-reason\x00",
        ];
        assert_eq!(block, expected.concat());
    }

    #[test]
    fn what_may_hold_a_secret_is_never_indexed() {
        for name in [
            "authorization",
            "cookie",
            "proxy-authorization",
            "set-cookie",
        ] {
            assert!(SECRETS.contains(&static_name(name.as_bytes())), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,30}", ".{0,300}"), 0..20),
        ) {
            let (mut block, mut expected) = (Vec::new(), Vec::new());
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                field(&mut block, &name, value.as_bytes());
                expected.push((name.as_str().as_bytes().to_vec(), value.into_bytes()));
            }
            prop_assert_eq!(decoded(&block), expected);
        }
    }
}
