//! The records that an origin keeps for itself, in its store's folder.

use std::env;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::config::Config;
use crate::disk;
use crate::policy::announce::{self, Announcer};
use crate::policy::sight::{self, Sight};
use crate::purges::{self, PurgeLog, Purger};
use crate::store::work::is_read_only;

pub(super) async fn purge_log(config: &Config) -> Result<Arc<PurgeLog>, Error> {
    let purges = config.purges.clone();
    // Where it is a new one after each start, edges confirm everything then.
    open_record(config, purges::FILE, move |path| {
        PurgeLog::open(path, &purges)
    })
    .await
}

pub(super) async fn sight(config: &Config) -> Result<Arc<Sight>, Error> {
    let most = config.sight.versions;
    open_record(config, sight::FILE, move |path| Sight::open(path, most)).await
}

pub(super) async fn announcer(
    config: &Config,
    purger: &Arc<Purger>,
) -> Result<Arc<Announcer>, Error> {
    let purger = purger.clone();
    let open = move |path: &Path| Announcer::open(path, purger.clone());
    open_record(config, announce::FILE, open).await
}

/// Opens a record that the origin keeps for itself. Where its store may only be read, the record lasts
/// until the origin's end.
async fn open_record<T: Send + 'static>(
    config: &Config,
    name: &'static str,
    open: impl Fn(&Path) -> io::Result<T> + Send + 'static,
) -> Result<Arc<T>, Error> {
    let dir = config.store.dir.clone();
    let path = dir.join(name);
    let opening = disk::blocking(move || {
        open(&path).or_else(|error| {
            if !is_read_only(&error) {
                return Err(error);
            }
            tracing::warn!(record = name, %error, "not remembered across a restart");
            let folder = format!("modcdn-origin-{}", std::process::id());
            open(&env::temp_dir().join(folder).join(name))
        })
    });
    let opened = opening.await.map_err(|error| Error::Store { dir, error })?;
    Ok(Arc::new(opened))
}
