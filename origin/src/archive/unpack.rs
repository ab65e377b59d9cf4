//! One entry's content: inflated, counted, hashed; never held.

use modcdn_core::digest::{Hasher, Sha256};
use zlib_rs::{Inflate, InflateFlush, Status};

use super::record::{Found, Method};

/// How much is inflated at once.
const STEP: usize = 64 << 10;

/// Takes entries' data in, piece by piece. One serves for many entries, one after another.
pub(super) struct Unpacker {
    inflate: Inflate,
    out: Box<[u8]>,
    method: Method,
    packed: u64,
    ended: bool,
    content: Content,
}

/// What is known of the content so far.
struct Content {
    hasher: Hasher,
    crc: u32,
    size: u64,
    most: u64,
    kept: Option<Vec<u8>>,
}

/// Why an entry's data isn't what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not what deflate makes.
    Data,
    /// More content than there may be.
    TooLong,
}

/// A whole entry's content.
pub(super) struct Unpacked {
    pub(super) found: Found,
    pub(super) digest: Sha256,
    pub(super) kept: Option<Vec<u8>>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self {
            inflate: Inflate::new(false, 15),
            out: vec![0; STEP].into(),
            method: Method::Stored,
            packed: 0,
            ended: false,
            content: Content::new(0, false),
        }
    }

    /// Begins an entry of at most `most` bytes; its content is kept if `keep`.
    pub(super) fn begin(&mut self, method: Method, most: u64, keep: bool) {
        self.inflate.reset(false);
        self.method = method;
        self.packed = 0;
        self.ended = false;
        self.content = Content::new(most, keep);
    }

    /// Takes the next data in; returns how much of it is the entry's: all, but where deflate's
    /// stream ended.
    ///
    /// # Errors
    /// If the data is damaged, or too much. The entry is done for then.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<usize, Broken> {
        let used = match self.method {
            Method::Stored => {
                self.content.take(data)?;
                data.len()
            }
            Method::Deflate => self.inflate_all(data)?,
        };
        self.packed += used as u64;
        Ok(used)
    }

    fn inflate_all(&mut self, data: &[u8]) -> Result<usize, Broken> {
        let mut used = 0;
        while !self.ended {
            let (taken, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(&data[used..], &mut self.out, InflateFlush::NoFlush)
                .map_err(|_| Broken::Data)?;
            // Both are at most the lengths of slices.
            let taken = (self.inflate.total_in() - taken) as usize;
            let made = (self.inflate.total_out() - made) as usize;
            used += taken;
            self.content.take(&self.out[..made])?;
            match status {
                Status::StreamEnd => self.ended = true,
                _ if used == data.len() && made < self.out.len() => break,
                _ if taken == 0 && made == 0 => return Err(Broken::Data),
                _ => {}
            }
        }
        Ok(used)
    }

    /// Whether the data said that it is over; stored data never does.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the data may be over.
    pub(super) fn may_end(&self) -> bool {
        self.ended || self.method == Method::Stored
    }

    /// What was found so far.
    pub(super) fn found(&self) -> Found {
        Found {
            crc: self.content.crc,
            packed: self.packed,
            size: self.content.size,
        }
    }

    /// What the entry was.
    pub(super) fn finish(&mut self) -> Unpacked {
        let found = self.found();
        let content = std::mem::replace(&mut self.content, Content::new(0, false));
        Unpacked {
            found,
            digest: content.hasher.finish(),
            kept: content.kept,
        }
    }
}

impl Content {
    fn new(most: u64, keep: bool) -> Self {
        Self {
            hasher: Hasher::new(),
            crc: 0,
            size: 0,
            most,
            kept: keep.then(Vec::new),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.size += bytes.len() as u64;
        if self.size > self.most {
            return Err(Broken::TooLong);
        }
        self.hasher.update(bytes);
        self.crc = zlib_rs::crc32::crc32(self.crc, bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use modcdn_core::digest::Sha256;
    use proptest::prelude::*;

    use super::*;

    fn deflate(content: &[u8]) -> Vec<u8> {
        let config = zlib_rs::DeflateConfig {
            window_bits: -15,
            ..zlib_rs::DeflateConfig::default()
        };
        let mut out = vec![0; zlib_rs::compress_bound(content.len()) + 64];
        let (packed, _) = zlib_rs::compress_slice(&mut out, content, config);
        packed.to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pieces_do_not_matter(
            content in prop::collection::vec(0..4u8, 0..150_000),
            cut in 50..5000usize,
            stored: bool,
        ) {
            let method = if stored { Method::Stored } else { Method::Deflate };
            let mut data = if stored { content.clone() } else { deflate(&content) };
            let packed = data.len();
            if !stored {
                data.extend_from_slice(b"what follows");
            }
            let mut unpacker = Unpacker::new();
            unpacker.begin(method, content.len() as u64, true);
            let mut used = 0;
            for piece in data.chunks(cut) {
                used += unpacker.feed(piece).unwrap();
            }
            prop_assert_eq!(used, packed);
            prop_assert_eq!(unpacker.has_ended(), !stored);
            let unpacked = unpacker.finish();
            prop_assert_eq!(unpacked.digest, Sha256::of(&content));
            prop_assert_eq!(unpacked.found.packed, packed as u64);
            prop_assert_eq!(unpacked.kept.as_deref(), Some(&content[..]));
        }
    }

    #[test]
    fn content_beyond_its_bound_is_not_made() {
        let bomb = deflate(&vec![0; 10 << 20]);
        let mut unpacker = Unpacker::new();
        unpacker.begin(Method::Deflate, 1000, false);
        assert_eq!(unpacker.feed(&bomb), Err(Broken::TooLong));
        assert!(unpacker.inflate.total_out() <= STEP as u64);
    }

    #[test]
    fn what_is_no_deflate_is_damaged() {
        let mut unpacker = Unpacker::new();
        unpacker.begin(Method::Deflate, 1000, false);
        assert_eq!(unpacker.feed(&[0xff; 100]), Err(Broken::Data));
    }
}
