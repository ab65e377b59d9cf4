//! Strings in the Huffman code (RFC 7541 §5.2 and Appendix B).
//!
//! The code is canonical: its words, ordered by length and then by symbol, count upwards. So the
//! lengths alone say everything, and the compiler makes the tables of them: a symbol of up to ten
//! bits, which is nearly all that requests hold, is one look into [`Code::short`]; a longer one is
//! found by its length, which is the first whose [`Code::end`] lies above the bits.

use super::HpackError;

/// The bits of each symbol's code, in the order of Appendix B.
#[rustfmt::skip]
pub(super) const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// All bytes, and EOS.
const SYMBOLS: usize = 257;
const EOS: u16 = 256;

const SHORTEST: usize = 5;
const LONGEST: usize = 30;
/// What is looked up at once.
const SHORT: usize = 10;

static CODE: Code = Code::new();

/// What the lengths say.
struct Code {
    /// By the next [`SHORT`] bits: the symbol, and in the higher byte its length; 0 if it is longer.
    short: [u16; 1 << SHORT],
    /// All symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// By length: how many symbols have a shorter code.
    before: [usize; LONGEST + 1],
    /// By length: the first code, and the one behind the last, as [`LONGEST`] bits.
    start: [usize; LONGEST + 1],
    end: [usize; LONGEST + 1],
}

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            short: [0; 1 << SHORT],
            symbols: [0; SYMBOLS],
            before: [0; LONGEST + 1],
            start: [0; LONGEST + 1],
            end: [0; LONGEST + 1],
        };
        let (mut length, mut placed, mut next) = (1, 0, 0);
        while length <= LONGEST {
            code.before[length] = placed;
            code.start[length] = next;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[placed] = symbol as u16;
                    code.add_short(symbol, length, next);
                    placed += 1;
                    next += 1 << (LONGEST - length);
                }
                symbol += 1;
            }
            code.end[length] = next;
            length += 1;
        }
        assert!(next == 1 << LONGEST, "some bits are no code, or two");
        code
    }

    const fn add_short(&mut self, symbol: usize, length: usize, code: usize) {
        if length > SHORT {
            return;
        }
        let first = code >> (LONGEST - SHORT);
        let mut at = first;
        while at < first + (1 << (SHORT - length)) {
            self.short[at] = (length << 8 | symbol) as u16;
            at += 1;
        }
    }

    /// The first symbol of the bits, which begin at the highest, and its length.
    fn first(&self, bits: u64) -> (u16, usize) {
        let [symbol, length] = self.short[(bits >> (64 - SHORT)) as usize].to_le_bytes();
        if length > 0 {
            return (u16::from(symbol), usize::from(length));
        }
        let bits = (bits >> (64 - LONGEST)) as usize;
        let mut length = SHORT + 1;
        while bits >= self.end[length] {
            length += 1;
        }
        let nth = (bits - self.start[length]) >> (LONGEST - length);
        (self.symbols[self.before[length] + nth], length)
    }
}

/// Appends what `coded` stands for. At most 8/5 times its length is reserved for it.
///
/// # Errors
/// [`HpackError::Huffman`]: EOS, or padding other than the RFC's: fewer than eight bits, all ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    out.reserve(coded.len() * 8 / SHORTEST);
    let mut bits = Bits::of(coded);
    loop {
        bits.fill();
        let (symbol, length) = CODE.first(bits.window);
        if length > bits.have {
            // Nothing is left that could make it whole.
            return bits.are_padding().then_some(()).ok_or(HpackError::Huffman);
        }
        if symbol == EOS {
            return Err(HpackError::Huffman);
        }
        out.push(symbol.to_le_bytes()[0]);
        bits.skip(length);
    }
}

/// Bits of a string, the highest of each byte first.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next ones, from the highest on. Behind those that count stand zeros or, while there is a
    /// rest, the beginning of it.
    window: u64,
    /// How many of them count.
    have: usize,
}

impl<'a> Bits<'a> {
    fn of(rest: &'a [u8]) -> Bits<'a> {
        Bits {
            rest,
            window: 0,
            have: 0,
        }
    }

    /// Sees to it that the window holds a symbol of any length, or else all there is.
    fn fill(&mut self) {
        if self.have >= LONGEST {
            return;
        }
        if let Some((&next, _)) = self.rest.split_first_chunk() {
            // Of the byte that fits in part only, nothing counts; it comes again, the same.
            self.window |= u64::from_be_bytes(next) >> self.have;
            let whole = (63 - self.have) / 8;
            self.rest = &self.rest[whole..];
            self.have += whole * 8;
        } else {
            self.fill_from_few();
        }
    }

    fn fill_from_few(&mut self) {
        while let Some((&next, rest)) = self.rest.split_first()
            && self.have <= 56
        {
            self.window |= u64::from(next) << (56 - self.have);
            self.have += 8;
            self.rest = rest;
        }
    }

    fn skip(&mut self, length: usize) {
        self.window <<= length;
        self.have -= length;
    }

    fn are_padding(&self) -> bool {
        self.have < 8 && self.window == !(u64::MAX >> self.have)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::front::h2::hpack::reference;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(coded, &mut out)?;
        Ok(out)
    }

    fn encoded(text: &[u8]) -> Vec<u8> {
        reference::huffman(text)
    }

    #[test]
    fn some_lines_of_appendix_b() {
        for (symbol, code, length) in [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b'u', 0x2d, 6),
            (b':', 0x5c, 7),
            (b'z', 0x7b, 7),
            (b'&', 0xf8, 8),
            (b'!', 0x3f8, 10),
            (b'?', 0x3fc, 10),
            (b'+', 0x7fb, 11),
            (b'|', 0x7fc, 11),
            (b'#', 0xffa, 12),
            (0, 0x1ff8, 13),
            (b'~', 0x1ffd, 13),
            (b'<', 0x7ffc, 15),
            (b'\\', 0x7fff0, 19),
            (0x80, 0xfffe6, 20),
            (0xff, 0x3ff_ffee, 26),
            (b'\n', 0x3fff_fffc, 30),
        ] {
            let bits: u64 = code << (64 - length);
            assert_eq!(CODE.first(bits), (u16::from(symbol), length), "{symbol}");
        }
        assert_eq!(CODE.first(u64::MAX), (EOS, 30));
    }

    #[test]
    fn every_symbol_is_decoded_wherever_it_begins() {
        for symbol in 0..=u8::MAX {
            for before in 0..16 {
                let text = [&b"0".repeat(before)[..], &[symbol], b"a"].concat();
                assert_eq!(decoded(&encoded(&text)).unwrap(), text);
            }
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        // Five bits of `a`, three of padding.
        let a = 0b0001_1000;
        assert_eq!(decoded(&[a | 0b111]).unwrap(), b"a");
        for padding in 0..0b111 {
            assert_eq!(decoded(&[a | padding]), Err(HpackError::Huffman));
        }
        assert_eq!(decoded(&[a | 0b111, 0xff]), Err(HpackError::Huffman));
        for length in 1..10 {
            assert_eq!(decoded(&[0xff; 9][..length]), Err(HpackError::Huffman));
        }
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn eos_is_refused_wherever_it_stands() {
        for text in [&b""[..], b"a", b"aa", b"0123456789"] {
            // Behind the text, its padding and four bytes of ones are EOS and more.
            let mut coded = encoded(text);
            coded.extend([0xff; 4]);
            assert_eq!(decoded(&coded), Err(HpackError::Huffman));
            coded.extend(encoded(b"and on"));
            assert_eq!(decoded(&coded), Err(HpackError::Huffman));
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text: Vec<u8>) {
            prop_assert_eq!(decoded(&encoded(&text)).unwrap(), text);
        }

        #[test]
        fn text_is_decoded(text in "[ -~]{0,80}") {
            prop_assert_eq!(decoded(&encoded(text.as_bytes())).unwrap(), text.into_bytes());
        }

        #[test]
        fn a_string_has_one_code(coded in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(text) = decoded(&coded) {
                prop_assert_eq!(encoded(&text), coded);
            }
        }

        #[test]
        fn with_any_other_padding_it_is_another_string_or_none(text: Vec<u8>, other: u8) {
            let mut coded = encoded(&text);
            let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
            let padding = u8::try_from((1_u16 << (coded.len() * 8 - bits)) - 1).unwrap();
            if let Some(last) = coded.last_mut() && other & padding != padding {
                *last = *last & !padding | other & padding;
                // Five bits or more of it may be a symbol.
                prop_assert_ne!(decoded(&coded), Ok(text));
            }
        }
    }
}
