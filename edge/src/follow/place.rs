//! How far a purge log was followed, written down beside the store: one line, `EPOCH:SEQ`. A file that
//! isn't there, or holds anything else, is no place.

use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use modcdn_core::durable;
use modcdn_core::purge::log::Position;

/// Its name in the store's folder.
const NAME: &str = "purges.position";

/// See the module.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn within(folder: &Path) -> Self {
        Self(folder.join(NAME))
    }

    pub(super) async fn load(&self) -> Option<Position> {
        let path = self.0.clone();
        let text = spawn_blocking(move || std::fs::read_to_string(path)).await;
        text.ok()?.ok()?.trim_end().parse().ok()
    }

    /// # Errors
    /// The disk's; what was written down before stays.
    pub(super) async fn save(&self, position: Position) -> io::Result<()> {
        let path = self.0.clone();
        let text = format!("{position}\n");
        let saved = spawn_blocking(move || durable::write(&path, text.as_bytes())).await;
        saved.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}
