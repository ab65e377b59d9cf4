//! The checksum database (`go.sum database`): a client that believes nothing it can't prove.
//!
//! The modules, in the order an answer passes them:
//!
//! - [`record`]: a lookup's answer: number, go.sum lines, signed note;
//! - [`note`]: signed notes and verifier keys (x/mod's `sumdb/note`);
//! - [`tree`]: heads, hashes and proofs of the log (RFC 6962 §2.1, in x/mod's tiles of height 8);
//! - [`client`]: puts them together, with I/O handed in, as x/mod's `sumdb.Client` does.
//!
//! What is proven, in this order: the note is signed by the pinned key; its tree and ours are one
//! log (the smaller is the beginning of the larger); the record stands in that log at its number.
//! Only then the hashes are read, and from the record's text only.
//!
//! Failure rule: every doubt is a [`SumError`], which says whose fault it is. Nothing is handed to
//! the store before it is proven. Our own head only advances.

pub mod client;
pub mod note;
pub mod record;
pub mod tree;

#[cfg(test)]
mod forgeries;
#[cfg(test)]
mod testing;

pub use client::{Client, Io, Proven, Remote, SignedHead};
pub use note::VerifierKey;

/// The public checksum database's key: a constant of the go command
/// (`cmd/go/internal/modfetch/key.go`), not configuration of ours.
pub const SUM_GOLANG_ORG: &str =
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// Why the checksum database proved nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// It can't be asked. The text says why.
    #[error("the checksum database can't be asked: {0}")]
    Unreachable(String),
    /// It says that there is no such version (404, 410).
    #[error("the checksum database knows no such version: {0}")]
    NotFound(String),
    /// It answered with something that isn't of the protocol.
    #[error("the checksum database answered with {0}")]
    Malformed(String),
    /// A security error: what it answered is signed wrongly, or contradicts what it signed.
    #[error("SECURITY ERROR: {0}")]
    Forged(Forgery),
}

/// What contradicts what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forgery {
    /// The pinned key's signature of a note is wrong, or missing.
    #[error("the tree head isn't signed by the pinned key: {0}")]
    Signature(note::NoteError),
    /// Two signed heads aren't of one log.
    #[error(
        "the checksum database signed two trees that contradict each other:\n\
         {old_size} records {old_hash}\n{new_size} records {new_hash}"
    )]
    Fork {
        /// Records of the smaller tree.
        old_size: u64,
        /// Its hash, as its note has it.
        old_hash: String,
        /// Records of the larger tree.
        new_size: u64,
        /// Its hash, as its note has it.
        new_hash: String,
    },
    /// It now signs a smaller tree, and has no longer what the larger one it signed is made of.
    #[error("the checksum database lost records: it signed {old} of them, now it shows {new}")]
    Shrunk {
        /// Records it signed once.
        old: u64,
        /// Records it signs now.
        new: u64,
    },
    /// Tiles that don't add up to the signed tree.
    #[error("{tile} isn't part of the signed tree of {size} records")]
    Tile {
        /// The tile whose hash isn't its parent's, or `the right edge` of the tree.
        tile: String,
        /// Records of the signed tree.
        size: u64,
    },
    /// The record isn't in the log where it is said to be.
    #[error("record {id} isn't in the signed tree of {size} records")]
    Record {
        /// The number the answer named.
        id: u64,
        /// Records of the signed tree.
        size: u64,
    },
    /// A proven record that doesn't hold what was asked for.
    #[error("record {id} isn't about what was asked: {fault}")]
    Unrelated {
        /// Its number.
        id: u64,
        /// What it has or lacks.
        fault: record::Fault,
    },
}

impl From<Forgery> for SumError {
    fn from(forgery: Forgery) -> Self {
        Self::Forged(forgery)
    }
}
