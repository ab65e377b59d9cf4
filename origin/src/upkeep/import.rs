//! Takes over what others have: a module cache of the go command, any GOPROXY tree, an Athens'
//! disk store.
//!
//! ```text
//! GOMODCACHE    cache/download/<escaped module>/@v/<version>.{info,mod,zip,ziphash}
//! Athens        <module>/<version>/{go.mod,source.zip,<version>.info}
//! ```
//!
//! Nothing is taken that isn't what its name says ([`Wrong`]); a zip follows the rules, and hashes to
//! what the go command wrote down of it. What is stored already stays: the same body is passed over,
//! so that an import that was cut off can be begun again; another one is told. Athens knows no
//! checksums: of it only what can be seen is judged.

mod layout;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use modcdn_core::digest::Hasher;
use modcdn_core::goproxy::{Prefix, Request};
use serde::Serialize;

use self::layout::Candidate;
pub use self::layout::Layout;
pub use super::judge::Wrong;
use super::judge::{Fault, Judged, is_recorded, judge};
use super::part::{Part, Target};
pub use super::verify::Progress;
use crate::archive;
use crate::config::Limits;
use crate::disk;
use crate::store::place::place;
use crate::store::shelf::{Local, Opened, OpenedBytes};
use crate::store::sum::Sum;

/// How it is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mount whose part of the store takes it.
    pub mount: Prefix,
    /// Whether files are hard links to those that are there, where that can be.
    pub link: bool,
    /// Bodies taken at once.
    pub jobs: usize,
}

/// Why nothing is taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is neither.
    #[error(
        "{dir} is neither a module cache (no cache/download, no .../@v/), nor an Athens' store \
         (no .../v1.2.3/source.zip)",
        dir = dir.display()
    )]
    Unknown {
        /// Which folder.
        dir: PathBuf,
    },
    /// The folder can't be read.
    #[error("can't read {dir}: {error}", dir = dir.display())]
    Read {
        /// Which folder.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The store can't be used.
    #[error("can't use the store: {0}")]
    Store(io::Error),
    /// There is no such mount.
    #[error("the configuration has no mount {0}")]
    NoMount(Prefix),
}

/// What it tells as it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// So much there is to take.
    Counted(Layout, Progress),
    /// So much is done.
    Done(Progress),
    /// Something isn't taken.
    Refused(Refused),
}

/// Something that isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// Why, in words that follow its name.
    pub text: String,
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bodies taken.
    pub taken: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Bodies that were stored already.
    pub present: u64,
    /// Files that weren't taken.
    pub refused: u64,
}

/// Takes over a folder.
///
/// # Errors
/// If nothing can be taken. A file that isn't is an event.
pub async fn run(
    dir: &Path,
    target: &Target,
    options: &Options,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<Summary, Error> {
    let unread = |error| Error::Read {
        dir: dir.to_owned(),
        error,
    };
    let (layout, root) = layout::find(dir)
        .await
        .map_err(unread)?
        .ok_or(Error::Unknown {
            dir: dir.to_owned(),
        })?;
    if let Target::Folder(folder) = target {
        fs::create_dir_all(folder).map_err(Error::Store)?;
    }
    let parts = target.parts().map_err(Error::Store)?;
    let mut parts = parts.into_iter();
    let part = parts.find(|part| part.prefix == options.mount);
    let part = part.ok_or_else(|| Error::NoMount(options.mount.clone()))?;
    fs::create_dir_all(part.work.dir().join(".spool")).map_err(Error::Store)?;
    let all = count(layout, &root).await.map_err(unread)?;
    tell(Event::Counted(layout, all));
    let (limits, archives) = target.limits();
    let taker = Arc::new(Taker {
        part,
        limits,
        archives,
        link: options.link,
    });
    let mut summary = Summary::default();
    let mut done = Progress::default();
    let takes = layout::walk(layout, &root).map_ok(|candidate| {
        let taker = taker.clone();
        async move {
            let taken = taker.take(&candidate).await;
            Ok::<_, io::Error>((candidate, taken))
        }
    });
    let mut takes = std::pin::pin!(takes.try_buffer_unordered(options.jobs.max(1)));
    while let Some((candidate, taken)) = takes.try_next().await.map_err(unread)? {
        done.bodies += 1;
        done.bytes += candidate.len;
        match taken {
            Ok(Taken::Now) => {
                summary.taken += 1;
                summary.taken_bytes += candidate.len;
            }
            Ok(Taken::Before) => summary.present += 1,
            Err(text) => {
                summary.refused += 1;
                let file = candidate.path;
                tell(Event::Refused(Refused { file, text }));
            }
        }
        tell(Event::Done(done));
    }
    Ok(summary)
}

async fn count(layout: Layout, root: &Path) -> io::Result<Progress> {
    let mut all = Progress::default();
    let mut walk = layout::walk(layout, root);
    while let Some(candidate) = walk.next().await {
        all.bodies += 1;
        all.bytes += candidate?.len;
    }
    Ok(all)
}

enum Taken {
    Now,
    Before,
}

struct Taker {
    part: Part,
    limits: Limits,
    archives: archive::Limits,
    link: bool,
}

impl Taker {
    /// The error is why not, in words.
    async fn take(&self, candidate: &Candidate) -> Result<Taken, String> {
        let request = candidate.request.as_ref().map_err(Clone::clone)?;
        let place = place(request).ok_or("is nothing that is kept")?;
        let text = |error: io::Error| format!("can't be taken: {error}");
        let stored = self.part.shelf.open(&place).await.map_err(text)?;
        if let Some(stored) = stored {
            let (same, before) = (sum_of(&candidate.path), stored_sum(stored));
            return if same.await.map_err(text)? == before.await.map_err(text)? {
                Ok(Taken::Before)
            } else {
                Err(format!("another body is stored as {place} already"))
            };
        }
        let temp = Temp(self.part.work.spool_name());
        let (file, sum) = self.bring(&candidate.path, &temp.0).await.map_err(text)?;
        let sum = self
            .judge(request, file, sum, candidate)
            .await
            .map_err(|fault| fault.text)?;
        let committed = self.part.shelf.commit(&place, &temp.0, sum).await;
        committed.map_err(text)?;
        if let Request::Mod(module, _) = request {
            let listed = self.part.shelf.list_versions(module, &[]).await;
            listed.map_err(text)?;
        }
        Ok(Taken::Now)
    }

    /// A file of our own with the same bytes, and their sum.
    async fn bring(&self, from: &Path, to: &Path) -> io::Result<(Arc<File>, Sum)> {
        let (from, to, link) = (from.to_owned(), to.to_owned(), self.link);
        disk::blocking(move || {
            // Where no link can be, there is a copy.
            if !(link && fs::hard_link(&from, &to).is_ok()) {
                let sum = pass(
                    &File::open(from)?,
                    |piece, temp: &mut File| temp.write_all(piece),
                    &mut File::create_new(&to)?,
                )?;
                return Ok((Arc::new(File::open(to)?), sum));
            }
            let file = File::open(to)?;
            let sum = pass(&file, |_, ()| Ok(()), &mut ())?;
            Ok((Arc::new(file), sum))
        })
        .await
    }

    async fn judge(
        &self,
        request: &Request,
        file: Arc<File>,
        sum: Sum,
        candidate: &Candidate,
    ) -> Result<Sum, Fault> {
        let local = Local::File(file);
        let judged = judge(request, local, sum.len, &self.limits, self.archives).await?;
        let Judged::Zip(checked) = judged else {
            return Ok(sum);
        };
        if let Some(path) = candidate.ziphash.clone() {
            let text = disk::blocking(move || fs::read_to_string(path)).await;
            let recorded = text.ok().and_then(|text| text.trim_end().parse().ok());
            is_recorded(checked.h1, recorded, "the .ziphash beside it")?;
        }
        Ok(Sum {
            h1: Some(checked.h1),
            ..sum
        })
    }
}

/// Removed unless it was put in place.
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn sum_of(path: &Path) -> io::Result<Sum> {
    let path = path.to_owned();
    disk::blocking(move || pass(&File::open(path)?, |_, ()| Ok(()), &mut ())).await
}

async fn stored_sum(stored: Opened) -> io::Result<Sum> {
    match (stored.sum, stored.bytes) {
        (Some(sum), _) => Ok(sum),
        (None, OpenedBytes::Small(bytes)) => Ok(Sum::of(&bytes)),
        (None, OpenedBytes::Large(large)) => large.sum(stored.len).await,
    }
}

/// Reads a file through, piece by piece.
fn pass<T>(
    file: &File,
    mut each: impl FnMut(&[u8], &mut T) -> io::Result<()>,
    to: &mut T,
) -> io::Result<Sum> {
    let (len, mut hasher, mut position) = (file.metadata()?.len(), Hasher::new(), 0);
    while position < len {
        let piece = disk::read_at_now(file, position, len - position)?;
        hasher.update(&piece);
        each(&piece, to)?;
        position += piece.len() as u64;
    }
    Ok(Sum {
        digest: hasher.finish(),
        len,
        h1: None,
    })
}
