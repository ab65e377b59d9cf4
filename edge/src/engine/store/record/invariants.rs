//! What holds for any bytes that a disk may give us as a journal. Called with all kinds of them by
//! the fuzzer, and by the tests with a few.

use std::sync::Arc;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};

use modcdn_core::digest::Sha256;

use super::{Blocks, Headers, Meta, PREFIX, Put, Record, Records, Rules, Salt, decode, encode};

const SALT: Salt = [7; 16];

/// Whatever `bytes` are, reading them as a record's meta gives nothing or a record that is written
/// down as it was read. Of records written with these bytes in them and damaged by `flips` (where,
/// and which bits), only what was written is found.
///
/// # Panics
/// If it doesn't hold.
pub fn journal(bytes: &[u8], flips: &[(u16, u8)]) {
    if let Some(record) = decode(bytes) {
        let written = encode(&record, b"", &SALT);
        assert_eq!(decode(&written[PREFIX..]).as_ref(), Some(&record));
        let found = Records::new(&written, SALT, 0)
            .one()
            .map(|found| found.record);
        assert_eq!(found, Some(record));
    }
    let records = [
        (Record::Put(put(bytes)), bytes),
        (
            Record::Drop {
                segment: 1,
                offset: 24,
            },
            &[],
        ),
        (Record::Put(put(b"other")), b"other"),
    ];
    let mut log: Vec<u8> = records
        .iter()
        .flat_map(|(record, body)| encode(record, body, &SALT))
        .collect();
    for (at, bits) in flips {
        let at = usize::from(*at) % log.len();
        log[at] ^= bits;
    }
    let mut end = 0;
    for found in Records::new(&log, SALT, 0) {
        assert!(found.offset >= end, "records don't overlap");
        end = found.offset + found.len;
        assert!(records.iter().any(|(record, _)| *record == found.record));
    }
    assert!(end <= log.len());
}

fn put(body: &[u8]) -> Put {
    let value = HeaderValue::from_static("public, max-age=60");
    let digest = Sha256::of(body);
    Put {
        key: Arc::from(format!("/{digest}")),
        meta: Meta {
            status: StatusCode::OK,
            headers: Headers::keep(&HeaderMap::from_iter([(CACHE_CONTROL, value)])),
            rules: Rules::Immutable,
            stored: 1,
            validated: 2,
            epoch: 3,
        },
        digest,
        size: body.len() as u64,
        blocks: Blocks::new(vec![digest]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_hold_for_a_record_in_a_record() {
        let record = encode(&Record::Put(put(b"a")), b"a", &SALT);
        super::journal(&record[PREFIX..], &[]);
        // Another segment's record in a body is not read where the outer one is damaged.
        super::journal(&encode(&Record::Put(put(b"a")), b"", &[0; 16]), &[(5, 1)]);
    }

    proptest! {
        #[test]
        fn they_hold_for_damage(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec(any::<(u16, u8)>(), 0..5),
        ) {
            super::journal(&bytes, &flips);
        }

        #[test]
        fn they_hold_for_damaged_metas(at: prop::sample::Index, bits: u8) {
            let mut meta = encode(&Record::Put(put(b"a")), b"", &SALT).split_off(PREFIX);
            *at.get_mut(&mut meta) ^= bits;
            super::journal(&meta, &[]);
        }
    }
}
