//! The decoder against Appendix C, against an encoder that makes all choices, and against h2's.

mod appendix_c;
mod clients;

use proptest::prelude::*;

use super::reference::{Choice, Encoder, Form};
use super::{Decoder, HpackError};

type Field = (Vec<u8>, Vec<u8>);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })?;
    Ok(fields)
}

/// What was announced to the clients here.
const TABLE: usize = 6000;

/// A block to write: table size updates, then fields.
type Plan = (Vec<usize>, Vec<(Field, Choice)>);

fn plan() -> impl Strategy<Value = Plan> {
    let updates = prop_oneof![
        8 => Just(vec![]),
        2 => prop::collection::vec(0..=TABLE, 1..3),
    ];
    (updates, prop::collection::vec((field(), choice()), 0..12))
}

fn field() -> impl Strategy<Value = Field> {
    let text = |pattern: &'static str| pattern.prop_map(String::into_bytes);
    let name = prop_oneof![
        4 => prop::sample::select(&[":path", ":authority", "accept", "x-a", "x-b", "n"][..])
            .prop_map(|name| name.as_bytes().to_vec()),
        2 => text("[a-z-]{1,20}"),
        1 => prop::collection::vec(any::<u8>(), 0..50),
    ];
    let value = prop_oneof![
        4 => prop::sample::select(&["", "/", "a", "gzip", "/example.com/m/@v/v1.0.0.zip"][..])
            .prop_map(|value| value.as_bytes().to_vec()),
        4 => text("[ -~]{0,100}"),
        2 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (any::<u8>(), 500_usize..7000).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (name, value)
}

fn choice() -> impl Strategy<Value = Choice> {
    let form = prop::sample::select(
        &[
            Form::Indexed,
            Form::Indexed,
            Form::Added,
            Form::NotAdded,
            Form::NeverIndexed,
        ][..],
    );
    let choice = |(form, name_by_index, huffman_name, huffman_value)| Choice {
        form,
        name_by_index,
        huffman_name,
        huffman_value,
    };
    (form, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(choice)
}

proptest! {
    #[test]
    fn whatever_choices_an_encoder_makes_the_fields_are_the_same(
        plans in prop::collection::vec(plan(), 1..30),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(TABLE));
        for (updates, fields) in plans {
            let mut block = Vec::new();
            for most in updates {
                encoder.resize(&mut block, most);
            }
            for ((name, value), choice) in &fields {
                encoder.field(&mut block, name, value, *choice);
            }
            let expected: Vec<Field> = fields.into_iter().map(|(field, _)| field).collect();
            prop_assert_eq!(decode(&mut decoder, &block), Ok(expected));
            decoder.assert_bounded();
        }
    }

    #[test]
    fn a_block_cut_short_is_refused_or_says_the_beginning(
        (_, fields) in plan(),
        at: prop::sample::Index,
    ) {
        let (mut encoder, mut block) = (Encoder::new(), Vec::new());
        for ((name, value), choice) in &fields {
            encoder.field(&mut block, name, value, *choice);
        }
        let mut begun = Vec::new();
        let cut = &block[..at.index(block.len() + 1)];
        let result = Decoder::new(TABLE).decode(cut, |name, value| {
            begun.push((name.to_vec(), value.to_vec()));
        });
        prop_assert!(matches!(result, Ok(()) | Err(HpackError::Truncated)), "{result:?}");
        prop_assert!(fields.iter().map(|(field, _)| field).take(begun.len()).eq(&begun));
    }
}
