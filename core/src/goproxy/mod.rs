//! The grammar of the GOPROXY protocol, as types.
//!
//! Whatever a client sends is parsed here, once, by [`Request::parse`]; cache keys and upstream
//! URLs are printed from the parsed value by [`Request::path`], never from the client's bytes.
//! All spellings of one request (`%21burnt` and `!burnt`) parse to one value, and
//! `parse(path(r)) == r` for every request `r`.
//!
//! The way of a path: percent-decoded once, split at `/@`, `!`-unescaped, then checked
//! by the rules of x/mod (`module.CheckPath`, `CheckPathMajor`, `EscapeVersion`;
//! `tlog.ParseTilePath`):
//!
//! | type | accepts |
//! |---|---|
//! | [`ModulePath`] | what `module.CheckPath` accepts |
//! | [`Version`] | canonical versions: `vX.Y.Z[-pre][+incompatible]` |
//! | [`Pseudo`] | versions that name a commit, with their parts |
//! | [`Query`] | what `module.EscapeVersion` accepts: branches, commits, `v1.2` |
//! | [`FilePath`] | names inside a module, as `module.CheckFilePath` |
//! | [`SumDb`] | `/sumdb/NAME/…`: the checksum database through the proxy |
//! | [`Prefix`] | where a mount begins, whose rest is one of these requests: `/`, `/team-a/` |
//! | [`Patterns`] | what `GOPRIVATE` can hold: globs that mean module paths with all below them |
//!
//! Failure rule: anything outside the grammar is a [`GrammarError`]; nothing is repaired, and
//! nothing panics. Three rules are stricter than x/mod's code: two dots in a row are refused anywhere
//! (x/mod's documentation forbids them, its code does not; a Git reference can't have them
//! either), a path is bounded by [`MAX_PATH`], and one element of it by [`MAX_ELEMENT`], because
//! it becomes a file's name.

mod error;
mod escape;
mod file_path;
mod path;
mod patterns;
mod prefix;
mod pseudo;
mod query;
mod request;
mod stamp;
mod sumdb;
pub mod tag;
mod tile;
mod version;

pub use error::GrammarError;
pub use file_path::FilePath;
pub use path::{MAX_ELEMENT, ModulePath, split_major};
pub use patterns::{MAX_PATTERN, Pattern, PatternError, Patterns};
pub use prefix::{Prefix, PrefixError};
pub use pseudo::{BaseError, Pseudo, REVISION_DIGITS};
pub use query::Query;
pub use request::{MAX_PATH, Request};
pub use stamp::Stamp;
pub use sumdb::{SumDb, SumDbCall, SumDbName};
pub use tile::Tile;
pub use version::Version;
