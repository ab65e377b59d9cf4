//! Module zips: judged by the rules of x/mod's `zip` package, hashed (`h1:`), and made.
//!
//! [`check`] says of a file whether it is a zip that the go command takes for this version of this
//! module, and what its h1 is. In the order in which bytes are looked at:
//!
//! - `directory`: the directory at the end, its records (`end`, `record`) read as Go reads them;
//! - `rules`: what x/mod's `CheckZip` asks of names and sizes (`fold`: names that are one where case
//!   doesn't count);
//! - `examine`: every entry read through: header, data (`unpack`), descriptor;
//! - [`Scan`]: the same for an archive that is still coming in, so that at its end nothing but the
//!   directory is left to be read ([`check_scanned`]).
//!
//! [`write`] makes a zip of a tree's files: those that x/mod's `Create` picks (`select`), in
//! records of one form (`frame`), so that its h1 is what the go command computes of the same tree.
//!
//! Failure rule: what x/mod or Go's archive/zip refuses is refused; so is what they take but what other readers
//! would see other files in: bytes outside of entries, entries that overlap, headers that differ,
//! encrypted or linked files. Memory is bounded by [`Limits`], whatever the archive says: content is
//! inflated piece by piece, and no further than declared.

mod directory;
mod end;
mod examine;
mod fault;
mod fold;
mod frame;
mod record;
mod rules;
mod scan;
mod select;
mod source;
mod unpack;
mod write;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::h1::H1;

use self::directory::Directory;
use self::examine::Examiner;
pub use self::fault::Fault;
pub use self::scan::Scan;
pub use self::select::{Input, Kind};
pub use self::source::Source;
pub use self::write::write;

/// How much a module zip may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The zip, in bytes.
    pub packed: u64,
    /// All files' contents, in bytes.
    pub unpacked: u64,
    /// The go.mod, in bytes.
    pub go_mod: u64,
    /// The LICENSE, in bytes.
    pub license: u64,
    /// Files and folders, by number; some 150 bytes of memory each.
    pub files: usize,
    /// The directory, in bytes; it is held in memory.
    pub directory: u64,
}

impl Limits {
    /// See [`Limits::packed`]. The go command's own bound.
    pub const PACKED: u64 = 500 << 20;
    /// See [`Limits::unpacked`]. The go command's own bound.
    pub const UNPACKED: u64 = 500 << 20;
    /// See [`Limits::go_mod`]. The go command's own bound.
    pub const GO_MOD: u64 = 16 << 20;
    /// See [`Limits::license`]. The go command's own bound.
    pub const LICENSE: u64 = 16 << 20;
    /// See [`Limits::files`]. The largest public modules have some 50,000.
    pub const FILES: usize = 250_000;
    /// See [`Limits::directory`].
    pub const DIRECTORY: u64 = 32 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packed: Self::PACKED,
            unpacked: Self::UNPACKED,
            go_mod: Self::GO_MOD,
            license: Self::LICENSE,
            files: Self::FILES,
            directory: Self::DIRECTORY,
        }
    }
}

/// What a good zip is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The hash of its content, as `go.sum` has it.
    pub h1: H1,
    /// Its go.mod, if it has one.
    pub go_mod: Option<Bytes>,
    /// How many files it has.
    pub files: u64,
    /// The size of all files' contents.
    pub unpacked: u64,
}

/// Checks the first `len` bytes of a source, a `File` as a rule, reading them through. Slow: for
/// the blocking pool.
///
/// # Errors
/// What is wrong with it, or that it can't be read.
pub fn check(
    source: &impl Source,
    len: u64,
    module: &ModulePath,
    version: &Version,
    limits: &Limits,
) -> Result<Checked, Fault> {
    check_scanned(source, len, module, version, limits, None)
}

/// Checks a source of which a scan has seen `len` bytes: all of them.
///
/// # Errors
/// As [`check`].
pub fn check_scanned(
    source: &impl Source,
    len: u64,
    module: &ModulePath,
    version: &Version,
    limits: &Limits,
    mut scan: Option<Scan>,
) -> Result<Checked, Fault> {
    if !module.allows(version) {
        return Err(Fault::Version);
    }
    if len > limits.packed {
        return Err(Fault::TooLarge(limits.packed));
    }
    let directory = Directory::read(source, len, limits)?;
    let prefix = rules::prefix(module, version);
    let contents = rules::check(&directory, &prefix, limits)?;
    let go_mod_name = prefix + rules::GO_MOD;
    let mut go_mod = None;
    let mut digests = vec![None; contents.names.len()];
    let mut examiner = None;
    for stretch in directory.stretches()? {
        let is_go_mod = stretch.name == go_mod_name.as_bytes();
        let examined = match scan.as_mut().and_then(|scan| scan.take(&stretch)) {
            Some(examined) => examined,
            None => examiner
                .get_or_insert_with(|| Examiner::new(source))
                .examine(&stretch, is_go_mod)?,
        };
        digests[stretch.number] = Some(examined.digest);
        go_mod = go_mod.or(examined.kept);
    }
    let files = contents
        .names
        .iter()
        .copied()
        .zip(digests.into_iter().flatten());
    Ok(Checked {
        h1: H1::of_files(files),
        go_mod: go_mod.map(Bytes::from),
        files: contents.files,
        unpacked: contents.unpacked,
    })
}
