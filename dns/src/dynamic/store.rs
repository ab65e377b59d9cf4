//! What is kept on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use modcdn_core::durable;
use serde::{Deserialize, Serialize};

/// Everything that outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// By zone, lower-case.
    pub(super) zones: BTreeMap<String, Serial>,
    pub(super) txt: Vec<Value>,
}

/// A zone's serial, and the content it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Serial {
    pub(super) serial: u32,
    /// SHA-256, hexadecimal.
    pub(super) digest: String,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Value {
    /// Lower-case, absolute.
    pub(super) name: String,
    pub(super) value: String,
    /// Seconds since 1970.
    pub(super) ends: u64,
}

/// Why what was kept can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be read.
    #[error("dynamic.file {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error("dynamic.file {}: {error}: move it away to start without", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// What was kept; nothing if there is no file yet.
pub(super) fn load(path: &Path) -> Result<Kept, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| StoreError::Wrong {
            path: path.to_owned(),
            error,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(StoreError::Read {
            path: path.to_owned(),
            error,
        }),
    }
}

pub(super) fn save(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(kept)?;
    bytes.push(b'\n');
    durable::write(path, &bytes)
}
