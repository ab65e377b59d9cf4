//! An encoder as clients have it, with a table and every choice that the RFC leaves: what our decoder
//! is held against. Written to be plainly right, not fast; of the code under test it uses nothing but
//! the RFC's two appendices and the integers.

use std::collections::VecDeque;

use super::huffman::LENGTHS;
use super::integer;
use super::table::{DEFAULT_SIZE, STATIC};

/// How one field is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) form: Form,
    /// Whether a name that has an index is sent as that.
    pub(super) name_by_index: bool,
    pub(super) huffman_name: bool,
    pub(super) huffman_value: bool,
}

/// RFC 7541 §6.1 and §6.2.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Indexed if the field has an index, or else added.
    Indexed,
    Added,
    NotAdded,
    NeverIndexed,
}

/// One client's side of a connection.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The newest first.
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    most: usize,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder {
            entries: VecDeque::new(),
            most: DEFAULT_SIZE,
        }
    }

    /// A table size update.
    #[cfg(test)]
    pub(super) fn resize(&mut self, out: &mut Vec<u8>, most: usize) {
        integer::encode(out, 0x20, 5, most);
        self.most = most;
        self.evict();
    }

    pub(super) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], choice: Choice) {
        let (first, prefix) = match choice.form {
            Form::Indexed => {
                if let Some(index) = self.index(|field| field == (name, value)) {
                    integer::encode(out, 0x80, 7, index);
                    return;
                }
                (0x40, 6)
            }
            Form::Added => (0x40, 6),
            Form::NotAdded => (0x00, 4),
            Form::NeverIndexed => (0x10, 4),
        };
        let index = self.index(|field| field.0 == name);
        let index = index.filter(|_| choice.name_by_index).unwrap_or(0);
        integer::encode(out, first, prefix, index);
        if index == 0 {
            string(out, name, choice.huffman_name);
        }
        string(out, value, choice.huffman_value);
        if first == 0x40 {
            self.entries.push_front((name.to_vec(), value.to_vec()));
            self.evict();
        }
    }

    /// The last index of such a field: of those that are alike, the one soonest to go.
    fn index(&self, is: impl Fn((&[u8], &[u8])) -> bool) -> Option<usize> {
        let fixed = STATIC
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let own = self
            .entries
            .iter()
            .map(|(name, value)| (&name[..], &value[..]));
        let all: Vec<_> = fixed.chain(own).collect();
        all.into_iter().rposition(is).map(|at| at + 1)
    }

    fn evict(&mut self) {
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.entries.iter().map(size).sum::<usize>() > self.most {
            self.entries.pop_back();
        }
    }
}

fn string(out: &mut Vec<u8>, text: &[u8], coded: bool) {
    let (first, bytes) = if coded {
        (0x80, huffman(text))
    } else {
        (0, text.to_vec())
    };
    integer::encode(out, first, 7, bytes.len());
    out.extend(bytes);
}

/// In the code of RFC 7541 Appendix B, padded.
pub(super) fn huffman(text: &[u8]) -> Vec<u8> {
    let codes = codes();
    let mut bits = Vec::new();
    for &byte in text {
        let (code, length) = codes[usize::from(byte)];
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    let bytes = bits.chunks(8).map(|bits| {
        let at = |at: usize| u8::from(*bits.get(at).unwrap_or(&true));
        (0..8).fold(0, |byte, nth| byte << 1 | at(nth))
    });
    bytes.collect()
}

/// Each symbol's code and its length: in the order of lengths, then of symbols, they count upwards.
fn codes() -> [(u32, u8); LENGTHS.len()] {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|&symbol| LENGTHS[symbol]);
    let mut codes = [(0, 0); LENGTHS.len()];
    let (mut next, mut before) = (0, LENGTHS[order[0]]);
    for symbol in order {
        next <<= LENGTHS[symbol] - before;
        before = LENGTHS[symbol];
        codes[symbol] = (next, before);
        next += 1;
    }
    codes
}
