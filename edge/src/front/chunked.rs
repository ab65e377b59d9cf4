//! The chunked coding of a request's body (RFC 9112 §7.1), taken apart. Pure.
//!
//! As strict as `head`: a bare LF, a sign, white space around a size or an empty line in the wrong
//! place is refused, since another parser could see another body there. Extensions are skipped,
//! trailers dropped; both are bounded.

use bytes::{Buf, Bytes, BytesMut};

use super::head::Malformed;

/// The longest line of a size with its extensions, its end included.
const SIZE_LINE: usize = 256;

/// Most bytes of trailers.
const TRAILERS: usize = 8 << 10;

/// Where in the body we are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// Before a size.
    Size,
    /// Inside a chunk: so many bytes of it are left.
    Data(u64),
    /// Before the line end that closes a chunk.
    DataEnd,
    /// Among the trailers: so many bytes of them were seen.
    Trailers(usize),
    /// All of it was taken.
    Done,
}

/// What the bytes at hand amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Some of the body, not empty.
    Data(Bytes),
    /// The body is complete; what is left belongs to the next request.
    End,
    /// Nothing without more bytes.
    Hungry,
}

impl Chunked {
    /// Takes what it can from the front of `read`.
    ///
    /// # Errors
    /// What is not as the coding wants it. Nothing after that can be understood.
    pub(crate) fn decode(&mut self, read: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            *self = match self {
                Chunked::Size => match line(read, SIZE_LINE, "a chunk's size line is too long")? {
                    None => return Ok(Decoded::Hungry),
                    Some(line) => match size(&line)? {
                        0 => Chunked::Trailers(0),
                        size => Chunked::Data(size),
                    },
                },
                Chunked::Data(0) => Chunked::DataEnd,
                Chunked::Data(_) if read.is_empty() => return Ok(Decoded::Hungry),
                Chunked::Data(left) => {
                    let n = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    return Ok(Decoded::Data(read.split_to(n).freeze()));
                }
                Chunked::DataEnd if read.len() < 2 => return Ok(Decoded::Hungry),
                Chunked::DataEnd if !read.starts_with(b"\r\n") => {
                    return Err(Malformed::bad("a chunk is longer than its size"));
                }
                Chunked::DataEnd => {
                    read.advance(2);
                    Chunked::Size
                }
                Chunked::Trailers(seen) => {
                    match line(read, TRAILERS - *seen, "the body's trailers are too long")? {
                        None => return Ok(Decoded::Hungry),
                        Some(line) if line.is_empty() => Chunked::Done,
                        Some(line) => Chunked::Trailers(*seen + line.len() + 2),
                    }
                }
                Chunked::Done => return Ok(Decoded::End),
            };
        }
    }
}

/// A line of at most `most` bytes, its end included and taken off, once it is here.
fn line(
    read: &mut BytesMut,
    most: usize,
    too_long: &'static str,
) -> Result<Option<BytesMut>, Malformed> {
    let looked_at = &read[..read.len().min(most)];
    match looked_at.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && looked_at[at - 1] == b'\r' => {
            let mut line = read.split_to(at + 1);
            line.truncate(at - 1);
            match line.iter().any(|&byte| byte == b'\r' || byte == 0) {
                true => Err(Malformed::bad("a control character in a chunk's line")),
                false => Ok(Some(line)),
            }
        }
        Some(_) => Err(Malformed::bad(
            "a chunk's line ends without a carriage return",
        )),
        None if looked_at.len() == most => Err(Malformed::bad(too_long)),
        None => Ok(None),
    }
}

/// `chunk-size [ chunk-ext ]`
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    // Sixteen digits are all that fit.
    let valid = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| valid);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Malformed::bad("a chunk's size is not a number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body and what is left behind it, the bytes coming `step` at a time.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let (mut state, mut read, mut body) = (Chunked::Size, BytesMut::new(), Vec::new());
        let mut pieces = text.chunks(step);
        loop {
            match state.decode(&mut read)? {
                Decoded::Data(piece) => body.extend_from_slice(&piece),
                Decoded::End => {
                    let rest = pieces.flatten().copied();
                    return Ok((body, read.iter().copied().chain(rest).collect()));
                }
                Decoded::Hungry => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None => return Err(Malformed::bad("cut off")),
                },
            }
        }
    }

    #[test]
    fn a_body_ends_where_its_last_chunk_does() {
        let text = b"5\r\nhello\r\nA;x=\"y\"\r\n, world!!!\r\n0\r\nX: y\r\n\r\nGET";
        for step in [1, 2, 3, 100] {
            let (body, rest) = decode(text, step).unwrap();
            assert_eq!(body, b"hello, world!!!");
            assert_eq!(rest, b"GET");
        }
    }

    #[test]
    fn whatever_can_be_read_in_two_ways_is_refused() {
        let long_size = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(16));
        let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(SIZE_LINE));
        let long_trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(TRAILERS));
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5;\r\r\nhello\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n",
            "5\r\nhel",
            &long_size,
            &long_extension,
            &long_trailers,
        ] {
            assert!(decode(text.as_bytes(), 7).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_body_comes_back(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            step in 1usize..400,
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\nnext");
            let (body, rest) = decode(&text, step).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(rest, b"next");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, 9);
        }
    }
}
