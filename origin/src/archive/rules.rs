//! What a module zip may hold: the rules of x/mod's `zip.CheckZip`. Pure.

use modcdn_core::goproxy::{FilePath, GrammarError, ModulePath, Version};

use super::Limits;
use super::directory::Directory;
use super::fault::{Fault, shown};
use super::fold::Names;

/// The name of a module's go.mod in its root.
pub(super) const GO_MOD: &str = "go.mod";
/// The name of a licence whose size is bounded.
pub(super) const LICENSE: &str = "LICENSE";

/// What is in a zip by its directory.
pub(super) struct Contents<'a> {
    /// All names, folders' included, in the directory's order: the names that the hash has.
    pub(super) names: Vec<&'a str>,
    pub(super) files: u64,
    pub(super) unpacked: u64,
}

/// What every name of a module's zip begins with.
pub(super) fn prefix(module: &ModulePath, version: &Version) -> String {
    format!("{module}@{version}/")
}

/// Judges a zip by its directory alone.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check<'a>(
    directory: &'a Directory,
    prefix: &str,
    limits: &Limits,
) -> Result<Contents<'a>, Fault> {
    let mut seen = Names::new(limits.files);
    let mut contents = Contents {
        names: Vec::with_capacity(directory.entries().len()),
        files: 0,
        unpacked: 0,
    };
    for (entry, name) in directory.entries() {
        let Some(below) = name.strip_prefix(prefix.as_bytes()) else {
            return Err(Fault::Prefix(shown(name)));
        };
        let below = text(below)?;
        // What stands before it is the prefix, and so is text.
        contents.names.push(text(name)?);
        if below.is_empty() {
            if entry.size > 0 {
                return Err(Fault::Size(shown(name), 0));
            }
            continue;
        }
        let is_dir = below.ends_with('/');
        let path = file_path(below.strip_suffix('/').unwrap_or(below))?;
        seen.add(path, is_dir)?;
        if is_dir {
            if entry.size > 0 {
                return Err(Fault::Size(shown(name), 0));
            }
            continue;
        }
        check_go_mod(path)?;
        check_size(path, entry.size, limits)?;
        contents.files += 1;
        contents.unpacked = contents.unpacked.saturating_add(entry.size);
        if contents.unpacked > limits.unpacked {
            return Err(Fault::UnpackedTooLarge(limits.unpacked));
        }
    }
    Ok(contents)
}

fn text(name: &[u8]) -> Result<&str, Fault> {
    let no_text = |_| Fault::FileName(shown(name), GrammarError::BadCharacter('\u{fffd}'));
    std::str::from_utf8(name).map_err(no_text)
}

/// Takes a name that a module zip can have.
pub(super) fn file_path(name: &str) -> Result<FilePath<'_>, Fault> {
    FilePath::parse(name).map_err(|error| Fault::FileName(shown(name.as_bytes()), error))
}

/// A go.mod stands in the root, in lower case.
fn check_go_mod(path: FilePath<'_>) -> Result<(), Fault> {
    if !path.base().eq_ignore_ascii_case(GO_MOD) {
        return Ok(());
    }
    if path.base() != path.as_str() {
        return Err(Fault::NestedModule(shown(path.as_str().as_bytes())));
    }
    if path.as_str() != GO_MOD {
        return Err(Fault::GoModCase(shown(path.as_str().as_bytes())));
    }
    Ok(())
}

/// Two files in the root have bounds of their own.
pub(super) fn check_size(path: FilePath<'_>, size: u64, limits: &Limits) -> Result<(), Fault> {
    let most = match path.as_str() {
        GO_MOD => limits.go_mod,
        LICENSE => limits.license,
        _ => return Ok(()),
    };
    if size > most {
        return Err(Fault::FileTooLarge(path.as_str().to_owned(), most));
    }
    Ok(())
}
