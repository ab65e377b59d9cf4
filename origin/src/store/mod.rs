//! What the origin keeps: a tree a mount, that of `/` in the store's folder itself, that of `/team-a/`
//! in `team-a` below it. A module path's first element has a dot and a prefix's elements have none, so
//! they never meet; whoever walks a tree leaves out folders without a dot other than `sumdb`.
//!
//! ```text
//! <dir>/                              a GOPROXY tree, as GOMODCACHE/cache/download is one
//!   <module>/@v/<version>.info        versioned files: never change
//!   <module>/@v/<version>.mod
//!   <module>/@v/<version>.zip
//!   <module>/@v/<version>.ziphash     its h1, as the go command writes it
//!   <module>/@v/<version>.zip.sha256  digest and length of each (of a zip its h1, too), written before it
//!   <module>/@v/list                  the versions whose .mod is here, as the go command writes it
//!   sumdb/<name>/tile/…               tiles of checksum databases
//!   .mutable/ab/<sha-256 of path>     answers that may change, with their time
//!   .spool/                           bodies being fetched; emptied at start
//!   .quarantine/                      bodies that were bad, each with its reason
//!   .used                             when each version was asked for last (where that is of use)
//! ```
//!
//! With a bucket ([`bucket`]), the tree and `.quarantine/` are there instead; the folder holds the
//! rest, and `.uploads/`. Both are a [`shelf::Shelf`] to everybody else.
//!
//! Failure rule: what the disk can't read is as if it weren't stored, so it is fetched again; while
//! a bucket can't be asked, what may be stored is neither fetched nor denied (503). What can't be
//! written is served all the same if it is in memory, and counted. A body never gets its final name
//! before it is whole.

mod bucket;
pub(crate) mod budget;
mod folder;
pub(crate) mod marks;
pub(crate) mod mutable;
pub(crate) mod negative;
pub(crate) mod place;
pub(crate) mod quarantine;
pub(crate) mod shelf;
pub(crate) mod spool;
pub(crate) mod sum;
pub(crate) mod tree;
pub(crate) mod work;
