//! Header blocks, decoded (RFC 7541 §3, §6).

use std::ops::Range;

use super::table::{self, Table};
use super::{HpackError, huffman, integer};

/// What the scratch may keep from one block to the next.
const SCRATCH: usize = 2048;

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// What a field's strings are where they lie neither in the block nor in a table.
    scratch: Vec<u8>,
}

impl Decoder {
    /// A decoder that allows a dynamic table of so many bytes as RFC 7541 §4.1 counts them: the
    /// SETTINGS_HEADER_TABLE_SIZE that we announced. Less than 4,096 counts as 4,096: that much a
    /// client may use until it has seen our SETTINGS (RFC 9113 §4.3.1, §6.5.2). More is used only by
    /// a client that says so.
    pub(crate) fn new(table: usize) -> Decoder {
        Decoder {
            table: Table::new(u32::try_from(table).unwrap_or(u32::MAX)),
            scratch: Vec::new(),
        }
    }

    /// Decodes one whole header block: what HEADERS and its CONTINUATIONs carry, joined. `field` is
    /// called with each name and value in order; the bytes are any at all, and live only during the
    /// call. A block of `n` bytes calls it at most `n` times, each time perhaps with a field as large
    /// as the table: the caller bounds what it keeps, and may stop keeping, but all of the block is
    /// decoded, because it changes the table.
    ///
    /// # Errors
    /// COMPRESSION_ERROR for the connection, see [`HpackError`]. Fields before the fault were given
    /// to `field`.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let decoded = self.decode_block(block, field);
        if self.scratch.capacity() > SCRATCH {
            self.scratch = Vec::new();
        }
        decoded
    }

    fn decode_block(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        self.resize_table(&mut block)?;
        while let Some(&first) = block.first() {
            match Form::of(first) {
                Form::Indexed => {
                    let (name, value) = self.table.get(integer::decode(&mut block, 7)?)?;
                    field(name, value);
                }
                Form::Indexing => self.indexing(&mut block, &mut field)?,
                Form::NotIndexing => self.not_indexing(&mut block, &mut field)?,
                Form::TableSize => return Err(HpackError::TableSize),
            }
        }
        Ok(())
    }

    /// RFC 7541 §4.2: table size updates stand at the beginning of a block. It needs no more than
    /// two; more do no harm.
    fn resize_table(&mut self, block: &mut &[u8]) -> Result<(), HpackError> {
        while let Some(&first) = block.first()
            && Form::of(first) == Form::TableSize
        {
            self.table.resize(integer::decode(block, 5)?)?;
        }
        Ok(())
    }

    /// RFC 7541 §6.2.1.
    fn indexing(
        &mut self,
        block: &mut &[u8],
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        self.scratch.clear();
        let name = match integer::decode(block, 6)? {
            0 => self.string(block)?,
            index => self.lasting_name(index)?,
        };
        let value = self.string(block)?;
        let (name, value) = (name.of(&self.scratch), value.of(&self.scratch));
        field(name, value);
        self.table.insert(name, value);
        Ok(())
    }

    /// RFC 7541 §6.2.2 and §6.2.3.
    fn not_indexing(
        &mut self,
        block: &mut &[u8],
        field: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        self.scratch.clear();
        let index = integer::decode(block, 4)?;
        if index == 0 {
            let name = self.string(block)?;
            let value = self.string(block)?;
            field(name.of(&self.scratch), value.of(&self.scratch));
        } else {
            let value = self.string(block)?;
            let (name, _) = self.table.get(index)?;
            field(name, value.of(&self.scratch));
        }
        Ok(())
    }

    /// An entry's name that stays where it is while the table changes: adding the field may move the
    /// entry, or push it out (RFC 7541 §4.4).
    fn lasting_name(&mut self, index: usize) -> Result<Text<'static>, HpackError> {
        if let Some((name, _)) = table::fixed(index) {
            return Ok(Text::Given(name));
        }
        let (name, _) = self.table.get(index)?;
        let start = self.scratch.len();
        self.scratch.extend_from_slice(name);
        Ok(Text::Decoded(start..self.scratch.len()))
    }

    /// RFC 7541 §5.2.
    fn string<'a>(&mut self, block: &mut &'a [u8]) -> Result<Text<'a>, HpackError> {
        let coded = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer::decode(block, 7)?;
        let (string, rest) = block
            .split_at_checked(length)
            .ok_or(HpackError::Truncated)?;
        *block = rest;
        if !coded {
            return Ok(Text::Given(string));
        }
        let start = self.scratch.len();
        huffman::decode(string, &mut self.scratch)?;
        Ok(Text::Decoded(start..self.scratch.len()))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Decoder {
    /// The bounds that hold between two blocks.
    ///
    /// # Panics
    /// If one doesn't.
    pub(super) fn assert_bounded(&self) {
        self.table.assert_bounded();
        assert!(self.scratch.capacity() <= SCRATCH);
    }

    /// The dynamic table's entries, the newest first, and its size.
    #[cfg(test)]
    pub(super) fn dynamic(&self) -> (table::Fields<'_>, usize) {
        self.table.dynamic()
    }
}

/// How a field is represented (RFC 7541 §6).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Indexed,
    /// A literal that is added to the table.
    Indexing,
    /// A literal that isn't now, or never: the difference is for those who compress it again.
    NotIndexing,
    /// No field at all.
    TableSize,
}

impl Form {
    fn of(first: u8) -> Form {
        match first {
            0x80.. => Form::Indexed,
            0x40.. => Form::Indexing,
            0x20.. => Form::TableSize,
            _ => Form::NotIndexing,
        }
    }
}

/// A string of a field.
enum Text<'a> {
    /// In the block or the static table.
    Given(&'a [u8]),
    /// In the scratch.
    Decoded(Range<usize>),
}

impl Text<'_> {
    fn of<'a>(&'a self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Text::Given(text) => text,
            Text::Decoded(range) => &scratch[range.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Field = (Vec<u8>, Vec<u8>);

    fn decode(blocks: &[&[u8]]) -> Result<Vec<Field>, HpackError> {
        let mut decoder = Decoder::new(8192);
        let mut fields = Vec::new();
        for block in blocks {
            decoder.decode(block, |name, value| {
                fields.push((name.to_vec(), value.to_vec()));
            })?;
            decoder.assert_bounded();
        }
        Ok(fields)
    }

    #[test]
    fn a_block_without_a_byte_is_a_block_without_a_field() {
        assert_eq!(decode(&[b""]), Ok(vec![]));
    }

    #[test]
    fn an_index_beyond_the_tables_is_refused_wherever_it_stands() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\xff\xff\xff\x7f",
            b"\x7e\x01a",
            b"\x0f\x2f\x01a",
            b"\x1f\x2f\x01a",
        ] {
            assert_eq!(decode(&[block]), Err(HpackError::Index), "{block:?}");
        }
    }

    #[test]
    fn a_field_cut_anywhere_is_truncated() {
        let block = b"\x40\x01n\x83\x64\x0e\xff";
        assert!(decode(&[block]).is_ok());
        for end in 1..block.len() {
            let cut = decode(&[&block[..end]]);
            assert_eq!(cut, Err(HpackError::Truncated), "at {end}");
        }
    }

    #[test]
    fn lengths_that_no_block_has_are_refused_before_they_cost_anything() {
        let long = decode(&[b"\x00\x7f\xff\xff\xff\x7f"]);
        assert_eq!(long, Err(HpackError::Truncated));
        let longer = decode(&[b"\x00\xff\xff\xff\xff\xff\x7f"]);
        assert_eq!(longer, Err(HpackError::Integer));
    }

    #[test]
    fn the_table_is_resized_before_the_first_field_and_within_the_limit() {
        assert!(decode(&[b"\x20\x3f\xe1\x3f\x82"]).is_ok());
        assert_eq!(decode(&[b"\x3f\xe2\x3f\x82"]), Err(HpackError::TableSize));
        assert_eq!(decode(&[b"\x82\x20"]), Err(HpackError::TableSize));
    }

    #[test]
    fn a_smaller_announced_table_is_not_held_against_who_has_not_heard_of_it() {
        let mut decoder = Decoder::new(0);
        decoder.decode(b"\x40\x01a\x011", |_, _| {}).unwrap();
        assert_eq!(decoder.dynamic().1, 34);
        assert!(decoder.decode(b"\xbe", |_, _| {}).is_ok());
    }

    #[test]
    fn a_name_may_come_from_the_entry_that_has_to_go_for_it() {
        let name = [b'n'; 2000];
        let mut first = b"\x40\x7f\xd1\x0e".to_vec();
        first.extend(name);
        first.extend(b"\x011");
        let mut second = b"\x7e\x7f\xd1\x0e".to_vec();
        second.extend([b'v'; 2000]);
        // Within 4,096 bytes, not both have a place.
        let third = b"\xbe";
        let fields = decode(&[&first, &second, third]).unwrap();
        assert_eq!(fields[1], (name.to_vec(), vec![b'v'; 2000]));
        assert_eq!(fields[2], fields[1]);
        assert_eq!(decode(&[&first, &second, b"\xbf"]), Err(HpackError::Index));
    }

    #[test]
    fn a_large_entry_named_a_thousand_times_is_lent_and_never_copied() {
        let mut decoder = Decoder::new(4096);
        let mut block = b"\x40\x01n\x7f\xa1\x1e".to_vec();
        block.extend([b'v'; 4000]);
        decoder.decode(&block, |_, _| {}).unwrap();
        let mut places = Vec::new();
        let bomb = [0xbe; 1000];
        let bombed = decoder.decode(&bomb, |_, value| places.push((value.as_ptr(), value.len())));
        assert_eq!(bombed, Ok(()));
        assert_eq!(places.len(), 1000);
        assert!(
            places
                .iter()
                .all(|&place| place == places[0] && place.1 == 4000)
        );
        decoder.assert_bounded();
    }

    #[test]
    fn an_idle_decoder_is_small() {
        assert!(size_of::<Decoder>() <= 128);
        let mut decoder = Decoder::new(4096);
        decoder
            .decode(b"\x82\x86\x84\x0f\x2b\x01a", |_, _| {})
            .unwrap();
        assert!(!decoder.table.owns_heap());
        assert_eq!(decoder.scratch.capacity(), 0);
    }
}
