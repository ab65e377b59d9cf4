//! Integers that begin within a byte (RFC 7541 §5.1).
//!
//! A small one lies in the byte's last bits, its prefix; a larger one fills the prefix with ones and
//! goes on, seven bits a byte. At most four bytes follow here: 2^28 and a little is more than any
//! index, length or table size that could be honoured, and every value fits a `u32`.

use super::HpackError;

/// Bytes that may follow the prefix.
const CONTINUATIONS: u32 = 4;

/// Takes an integer with a prefix of so many bits, at most seven, off the front of `input`. The bits
/// before the prefix don't matter.
pub(super) fn decode(input: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let ones = (1_u8 << prefix) - 1;
    let low = take(input)? & ones;
    if low < ones {
        return Ok(usize::from(low));
    }
    let mut value = usize::from(ones);
    for nth in 0..CONTINUATIONS {
        let byte = take(input)?;
        value += usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError::Integer)
}

fn take(input: &mut &[u8]) -> Result<u8, HpackError> {
    let (&first, rest) = input.split_first().ok_or(HpackError::Truncated)?;
    *input = rest;
    Ok(first)
}

/// Appends an integer with a prefix of so many bits, at most seven, behind the bits of `first`.
pub(super) fn encode(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let ones = (1_u8 << prefix) - 1;
    let Some(mut rest) = value.checked_sub(usize::from(ones)) else {
        out.push(first | low_byte(value));
        return;
    };
    out.push(first | ones);
    while rest >= 0x80 {
        out.push(0x80 | low_byte(rest & 0x7f));
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first value that needs a fifth byte behind a prefix of seven bits.
    const TOO_LARGE: usize = 127 + (1 << 28);

    fn encoded(prefix: u32, value: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, 0, prefix, value);
        out
    }

    #[test]
    fn the_examples_of_appendix_c_1() {
        assert_eq!(encoded(5, 10), [0b01010]);
        assert_eq!(encoded(5, 1337), [0b11111, 0b1001_1010, 0b0000_1010]);
        assert_eq!(encoded(7, 42), [0b10_1010]);
        assert_eq!(decode(&mut &[0b1110_1010][..], 5), Ok(10));
        assert_eq!(decode(&mut &[0xff, 0x9a, 0x0a][..], 5), Ok(1337));
        assert_eq!(decode(&mut &[42][..], 7), Ok(42));
    }

    #[test]
    fn what_follows_is_left() {
        let mut input = &[0x1f, 0x9a, 0x0a, 7, 8][..];
        assert_eq!(decode(&mut input, 5), Ok(1337));
        assert_eq!(input, [7, 8]);
    }

    #[test]
    fn what_has_no_end_is_truncated_and_what_is_long_is_refused() {
        for cut in [&[][..], &[0x7f], &[0x7f, 0x80], &[0x7f, 0xff, 0xff, 0xff]] {
            assert_eq!(decode(&mut &*cut, 7), Err(HpackError::Truncated));
        }
        // Zeros at the end are a longer way to say the same; five of them are too long.
        assert_eq!(decode(&mut &[0x7f, 0x80, 0x80, 0x80, 0][..], 7), Ok(127));
        let long = [0x7f, 0x80, 0x80, 0x80, 0x80, 0];
        assert_eq!(decode(&mut &long[..], 7), Err(HpackError::Integer));
        let large = encoded(7, TOO_LARGE);
        assert_eq!(decode(&mut &large[..], 7), Err(HpackError::Integer));
        let largest = encoded(7, TOO_LARGE - 1);
        assert_eq!(decode(&mut &largest[..], 7), Ok(TOO_LARGE - 1));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            prefix in 1_u32..=7,
            bits in 0_u32..28,
            value: usize,
            rest: Vec<u8>,
        ) {
            let value = value & ((1 << bits) - 1);
            let bytes = [encoded(prefix, value), rest.clone()].concat();
            let mut input = &bytes[..];
            prop_assert_eq!(decode(&mut input, prefix), Ok(value));
            prop_assert_eq!(input, rest);
        }
    }
}
