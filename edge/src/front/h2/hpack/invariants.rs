//! What holds for any bytes that a client may send as header blocks. Called with all kinds of them by
//! the fuzzer, and by the tests with a few.

use super::reference::{self, Choice, Encoder, Form};
use super::{Decoder, HpackError, huffman};

/// What may be announced here.
const TABLE: usize = 8192;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The bytes, as blocks of `cut` bytes of one connection: none panics, memory stays bounded, and what
/// is decoded can be said anew, in all ways, with the same reading. As a string: if it has a meaning
/// in Huffman's code, it is the one code of that.
///
/// # Panics
/// If it doesn't hold.
pub fn hpack(bytes: &[u8], cut: usize) {
    let mut text = Vec::new();
    if huffman::decode(bytes, &mut text).is_ok() {
        assert_eq!(reference::huffman(&text), bytes);
    }
    let mut decoder = Decoder::new(TABLE);
    let mut fields = Vec::new();
    for block in bytes.chunks(cut.max(1)) {
        let before = fields.len();
        let decoded = decode(&mut decoder, block, &mut fields);
        decoder.assert_bounded();
        assert!(fields.len() - before <= block.len());
        if decoded.is_err() {
            break;
        }
    }
    // A few bytes can stand for very many.
    let size: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size < 4 * TABLE {
        assert_one_reading(&fields);
    }
}

fn decode(decoder: &mut Decoder, block: &[u8], fields: &mut Fields) -> Result<(), HpackError> {
    decoder.decode(block, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })
}

/// Written down anew, in whatever way, they say the same.
fn assert_one_reading(fields: &Fields) {
    for form in [
        Form::Indexed,
        Form::Added,
        Form::NotAdded,
        Form::NeverIndexed,
    ] {
        for flags in [false, true] {
            let choice = Choice {
                form,
                name_by_index: !flags,
                huffman_name: flags,
                huffman_value: flags,
            };
            let (mut encoder, mut block) = (Encoder::new(), Vec::new());
            for (name, value) in fields {
                encoder.field(&mut block, name, value, choice);
            }
            let (mut decoder, mut again) = (Decoder::new(TABLE), Vec::new());
            decode(&mut decoder, &block, &mut again).expect("it is well formed");
            assert_eq!(&again, fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// What a Go client's first request looks like.
    const BLOCK: &[u8] = b"\x82\x87\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\
        \x44\x0c/a/@v/v1.zip\x7a\x06go/1.0\x50\x04gzip\xbe\xbf\x0f\x2f\x01a\x10\x01n\x83\x64\x0e\xff";

    #[test]
    fn they_hold_for_a_block_cut_anywhere() {
        for cut in 1..=BLOCK.len() {
            super::hpack(BLOCK, cut);
            super::hpack(&BLOCK[..cut], 7);
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_damaged_blocks(at: prop::sample::Index, byte: u8, cut in 1_usize..60) {
            let mut bytes = BLOCK.to_vec();
            *at.get_mut(&mut bytes) = byte;
            super::hpack(&bytes, cut);
        }

        #[test]
        fn they_hold_for_any_bytes(bytes: Vec<u8>, cut in 1_usize..60) {
            super::hpack(&bytes, cut);
        }
    }
}
