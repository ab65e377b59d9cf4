//! What outlives the process, in `state.dir`:
//!
//! - `version`: a number that no published map's version exceeds, so that versions only rise;
//! - `pops`: the state of each PoP, whether it reports, and whether an operator drains it;
//! - `samples`: what the map has learnt from round trips;
//! - `homes`: where each unit of the map belongs, so that moves stay slow across a restart.
//!
//! Each file is a line `modcdn-dns 1 NAME LENGTH SHA256` and that many bytes, put in place whole: JSON,
//! but of `homes`, which has a layout of its own ([`Homes`](crate::steer::Homes)). Failure rule: a file that is missing, damaged, too long or of another version is ignored
//! with a warning, and the server does without; one that can't be written is tried again at the next
//! interval, with a warning and a metric, and nothing else stops.

mod versions;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use modcdn_core::digest::Sha256;
use modcdn_core::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use versions::Versions;

/// No file is longer than this, in bytes: some millions of samples.
const MAX_FILE: u64 = 512 << 20;

/// What a head begins with; another layout has another number.
const MAGIC: &str = "modcdn-dns 1";

/// A head is no longer than this.
const MAX_HEAD: usize = 256;

/// The folder, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Folder(Option<PathBuf>);

/// Why a file isn't used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It can't be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is longer than any of ours.
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    /// It doesn't begin as one of ours, of that name.
    #[error("not a file of ours, or damaged at its head")]
    Head,
    /// It isn't what was written.
    #[error("damaged: its bytes have another checksum")]
    Checksum,
    /// It is whole, and something else.
    #[error("not what belongs there: {0}")]
    Content(Box<dyn Error + Send + Sync>),
}

impl Unusable {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Read(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What was kept, and when it was written.
#[derive(Debug)]
pub(crate) struct Written<T> {
    pub(crate) kept: T,
    pub(crate) at: SystemTime,
}

/// What became of reading a file.
pub(crate) enum Kept<T> {
    /// There is none, or no folder.
    Nothing,
    /// It isn't used; the reason is in the log.
    Damaged,
    /// What was written.
    Whole(T),
}

impl<T> Kept<T> {
    /// What was written, if that can be had.
    pub(crate) fn whole(self) -> Option<T> {
        match self {
            Self::Whole(kept) => Some(kept),
            Self::Nothing | Self::Damaged => None,
        }
    }
}

impl Folder {
    /// The folder `state.dir`; none: nothing is kept.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self(dir)
    }

    /// Whether anything is kept.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Reads what was kept under a name. Blocks.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Kept<T> {
        self.read_as(name, |body| serde_json::from_slice(body))
    }

    /// Reads what was kept under a name in a layout of its own. Blocks.
    pub(crate) fn read_as<T, E: Error + Send + Sync + 'static>(
        &self,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Kept<T> {
        let Some(dir) = &self.0 else {
            return Kept::Nothing;
        };
        let path = dir.join(name);
        match read(&path, name, parse) {
            Ok(written) => Kept::Whole(written.kept),
            Err(why) if why.is_missing() => Kept::Nothing,
            Err(why) => {
                tracing::warn!(file = %path.display(), %why, "kept state is ignored");
                Kept::Damaged
            }
        }
    }

    /// Keeps something under a name, durably. Blocks.
    ///
    /// # Errors
    /// If it can't be written; what was there before stays.
    pub(crate) fn write(&self, name: &str, kept: &impl Serialize) -> io::Result<()> {
        self.write_bytes(name, &serde_json::to_vec(kept)?)
    }

    /// Keeps bytes under a name, durably. Blocks.
    ///
    /// # Errors
    /// If they can't be written; what was there before stays.
    pub(crate) fn write_bytes(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let Some(dir) = &self.0 else {
            return Ok(());
        };
        let mut bytes = head(name, body).into_bytes();
        bytes.extend(body);
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other(format!(
                "{name} is longer than {MAX_FILE} bytes"
            )));
        }
        durable::write(&dir.join(name), &bytes)
    }
}

fn head(name: &str, body: &[u8]) -> String {
    format!("{MAGIC} {name} {} {}\n", body.len(), Sha256::of(body))
}

/// Whether a file that begins so is one that was kept under a name.
pub(crate) fn is_kept(begin: &[u8], name: &str) -> bool {
    begin.starts_with(format!("{MAGIC} {name} ").as_bytes())
}

/// Reads a file that was kept under a name, wherever it lies now. Blocks.
///
/// # Errors
/// If it can't be read, or isn't whole.
pub(crate) fn read<T, E: Error + Send + Sync + 'static>(
    path: &Path,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> Result<Written<T>, Unusable> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let at = file.metadata()?.modified()?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unusable::TooLong);
    }
    let start = bytes.iter().take(MAX_HEAD).position(|byte| *byte == b'\n');
    let (found, body) = bytes.split_at(start.ok_or(Unusable::Head)? + 1);
    if !is_kept(found, name) {
        return Err(Unusable::Head);
    }
    if found != head(name, body).as_bytes() {
        return Err(Unusable::Checksum);
    }
    let kept = parse(body).map_err(|why| Unusable::Content(why.into()))?;
    Ok(Written { kept, at })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(Some(temp.path().join("state")));
        (temp, folder)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (_temp, folder) = folder();
        assert!(matches!(folder.read::<u64>("a"), Kept::Nothing));
        folder.write("a", &7).unwrap();
        folder.write("a", &8).unwrap();
        assert_eq!(folder.read::<u64>("a").whole(), Some(8));
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_nothing_fails() {
        let none = Folder::new(None);
        none.write("a", &7).unwrap();
        assert!(matches!(none.read::<u64>("a"), Kept::Nothing));
    }

    #[test]
    fn another_files_content_and_another_content_are_refused() {
        let (temp, folder) = folder();
        folder.write("a", &7).unwrap();
        let at = |name: &str| temp.path().join("state").join(name);
        std::fs::copy(at("a"), at("b")).unwrap();
        assert!(matches!(folder.read::<u64>("b"), Kept::Damaged));
        assert!(matches!(folder.read::<String>("a"), Kept::Damaged));
    }

    proptest! {
        #[test]
        fn no_damage_goes_unseen(
            text in "[a-z]{0,20}", at in any::<proptest::sample::Index>(), byte: u8, cut: bool,
        ) {
            let (temp, folder) = folder();
            folder.write("a", &text).unwrap();
            let path = temp.path().join("state/a");
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            let whole = !cut && bytes[at] == byte;
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = byte;
            }
            std::fs::write(&path, bytes).unwrap();
            let read = folder.read::<String>("a").whole();
            prop_assert_eq!(read, whole.then_some(text));
        }
    }
}
