//! HPACK: how HTTP/2 compresses header blocks (RFC 7541).
//!
//! [`Decoder`] reads what clients send: [`integer`] and [`huffman`] are its alphabet, [`table`] is
//! what it remembers from block to block. [`encode`] writes the heads of answers, and remembers
//! nothing: what it has written once may be sent on any connection.
//!
//! A new decoder owns no heap. What it remembers lies in two buffers, the table's bytes and the places
//! of its entries, both bounded by the table's size; a scratch for Huffman-coded strings stays while it
//! is small, and is given back after a block for which it had to grow large.
//!
//! Failure rule: whatever RFC 7541 calls a decoding error, or leaves to limits of ours, is an
//! [`HpackError`]. Both ends' tables are then out of step for good: the connection ends with
//! COMPRESSION_ERROR (RFC 9113 §4.3), and the decoder must not be used again. Nothing panics,
//! whatever the bytes. Pure: no I/O, no clock.

mod decode;
pub(crate) mod encode;
mod huffman;
mod integer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants;
#[cfg(any(test, feature = "fuzzing"))]
mod reference;
mod table;

pub(crate) use self::decode::Decoder;
pub(crate) use self::table::DEFAULT_SIZE as DEFAULT_TABLE;

/// Why a header block can't be decoded. All of it is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HpackError {
    /// RFC 7541 §2.3.3: an index of 0, or one beyond both tables.
    #[error("an index that names no entry")]
    Index,
    /// RFC 7541 §5.2: the code for EOS, or padding that isn't the shortest, of ones.
    #[error("a string that is no huffman code")]
    Huffman,
    /// The block ends within a field.
    #[error("a header block that ends within a field")]
    Truncated,
    /// RFC 7541 §5.1 leaves the limit to us: see [`integer`].
    #[error("an integer that is too large")]
    Integer,
    /// RFC 7541 §4.2: a table size update behind a field, or above what we announced.
    #[error("a table size update that isn't allowed")]
    TableSize,
}

#[cfg(test)]
mod tests;
