//! Which files of a tree make a module zip: the rules of x/mod's `zip.Create`. Pure, but for the
//! go.mod that is read.
//!
//! Left out are: files of other modules (folders with a go.mod of their own), of vendored packages,
//! what is no regular file, and what `hg archive` adds. All others must have names that a module zip
//! can have.

use std::collections::HashSet;
use std::io::{self, Read};

use modcdn_core::gomod::Language;

use super::Limits;
use super::fault::{Fault, shown};
use super::fold::Names;
use super::rules::{GO_MOD, check_size, file_path};

/// Something of a tree that may go into a zip.
pub trait Input {
    /// Its name below the module's root, such as `sub/a.go`.
    fn path(&self) -> &str;

    /// What it is.
    fn kind(&self) -> Kind;

    /// How many bytes it has, if it is a file.
    fn size(&self) -> u64;

    /// Begins to read its content. Asked of one file after another, in the order in which they
    /// were given; once before that of the go.mod.
    ///
    /// # Errors
    /// If it can't be read.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

/// What something of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link or anything else: never part of a zip.
    Other,
}

/// Added by `hg archive`, and no part of any module.
const HG_ARCHIVAL: &str = ".hg_archival.txt";

/// Picks those that go into the zip, in their order.
///
/// # Errors
/// What keeps the tree from being a module.
pub(super) fn select<'f, I: Input>(files: &'f [I], limits: &Limits) -> Result<Vec<&'f I>, Fault> {
    let modules = modules(files);
    let is_1_24 = language(files, limits)? >= Some(Language::GO_1_24);
    let mut seen = Names::new(limits.files);
    // The reference passes over what it says of a name that it left out before.
    let mut omitted = HashSet::new();
    let mut picked = Vec::new();
    let mut left = limits.unpacked;
    for file in files {
        let path = file.path();
        match judge(file, &modules, is_1_24, &mut seen) {
            Ok(Verdict::Picked) => {}
            Ok(Verdict::Omitted) => {
                omitted.insert(path);
                continue;
            }
            Err(_) if omitted.contains(path) => continue,
            Err(fault) => return Err(fault),
        }
        let too_large = || Fault::UnpackedTooLarge(limits.unpacked);
        left = left.checked_sub(file.size()).ok_or_else(too_large)?;
        check_size(file_path(path)?, file.size(), limits)?;
        picked.push(file);
    }
    Ok(picked)
}

enum Verdict {
    Picked,
    Omitted,
}

fn judge<'f, I: Input>(
    file: &'f I,
    modules: &HashSet<&str>,
    is_1_24: bool,
    seen: &mut Names<'f>,
) -> Result<Verdict, Fault> {
    let path = file.path();
    if !is_clean(path) {
        // Left out or not: an unclean name is none, and this says why.
        file_path(path)?;
    }
    if is_vendored(path, is_1_24) || is_of_another(path, modules) || path == HG_ARCHIVAL {
        return Ok(Verdict::Omitted);
    }
    let name = file_path(path)?;
    if path.eq_ignore_ascii_case(GO_MOD) && path != GO_MOD {
        return Err(Fault::GoModCase(shown(path.as_bytes())));
    }
    seen.add(name, file.kind() == Kind::Folder)?;
    Ok(if file.kind() == Kind::File {
        Verdict::Picked
    } else {
        Verdict::Omitted
    })
}

/// Folders that have a go.mod, in any case, each with its slash.
fn modules<I: Input>(files: &[I]) -> HashSet<&str> {
    let is_file = files.iter().filter(|file| file.kind() == Kind::File);
    let folders = is_file.filter_map(|file| {
        let (folder, base) = split(file.path());
        base.eq_ignore_ascii_case(GO_MOD).then_some(folder)
    });
    folders.collect()
}

/// What the root's go.mod is written for.
fn language<I: Input>(files: &[I], limits: &Limits) -> Result<Option<Language>, Fault> {
    let is_go_mod = |file: &&I| file.kind() == Kind::File && file.path() == GO_MOD;
    let Some(file) = files.iter().find(is_go_mod) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.open()
        .and_then(|content| content.take(limits.go_mod).read_to_end(&mut bytes))
        .map_err(|error| Fault::Source(GO_MOD.to_owned(), error.to_string()))?;
    Ok(Language::of(&bytes))
}

/// A path's folder with its slash, and the rest.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

/// Whether a path is relative, and the shortest one for what it names.
fn is_clean(path: &str) -> bool {
    let mut elements = path.split('/').skip_while(|element| *element == "..");
    path == "." || !path.is_empty() && elements.all(|element| !matches!(element, "" | "." | ".."))
}

/// Whether it lies in a folder below the root that is a module of its own.
fn is_of_another(path: &str, modules: &HashSet<&str>) -> bool {
    let mut slashes = path.match_indices('/');
    slashes.any(|(slash, _)| modules.contains(&path[..=slash]))
}

/// Whether a path is that of a package that is vendored. Up to Go 1.23 a `vendor` folder inside of
/// another one was looked for at the wrong place, and `vendor/modules.txt` was kept; hashes that
/// are known depend on it.
fn is_vendored(path: &str, is_1_24: bool) -> bool {
    const VENDOR: &str = "/vendor/";
    if is_1_24 && path == "vendor/modules.txt" {
        return true;
    }
    let from = match path.find(VENDOR) {
        _ if path.starts_with(&VENDOR[1..]) => VENDOR.len() - 1,
        Some(at) if is_1_24 => at + VENDOR.len(),
        Some(_) => VENDOR.len(),
        None => return false,
    };
    // As bytes: it may be the middle of a character.
    path.as_bytes()[from..].contains(&b'/')
}
