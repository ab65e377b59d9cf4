//! What lies where in a folder that is taken over.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use modcdn_core::goproxy::{ModulePath, Request};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::disk;
use crate::store::place;

/// How many files of a walk wait for who takes them.
const AHEAD: usize = 256;

/// How a folder is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A GOPROXY tree, such as a module cache has.
    Tree,
    /// An Athens' disk store.
    Athens,
}

/// A file that may be taken.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// What it is, or why it is nothing.
    pub(super) request: Result<Request, String>,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// The file that the go command wrote its h1 into.
    pub(super) ziphash: Option<PathBuf>,
}

/// How a folder is laid out, and where its tree begins; `None` if it is neither.
pub(super) async fn find(dir: &Path) -> io::Result<Option<(Layout, PathBuf)>> {
    let dir = dir.to_owned();
    disk::blocking(move || find_now(&dir)).await
}

fn find_now(dir: &Path) -> io::Result<Option<(Layout, PathBuf)>> {
    fs::read_dir(dir)?;
    let download = dir.join("cache/download");
    if download.is_dir() {
        return Ok(Some((Layout::Tree, download)));
    }
    // The first sign of either, however deep.
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name == "@v" {
                    return Ok(Some((Layout::Tree, dir.to_owned())));
                }
                folders.push(entry.path());
            } else if name == "source.zip" {
                return Ok(Some((Layout::Athens, dir.to_owned())));
            }
        }
    }
    Ok(None)
}

/// Every file that may be taken.
pub(super) fn walk(layout: Layout, root: &Path) -> BoxStream<'static, io::Result<Candidate>> {
    let (found, candidates) = mpsc::channel(AHEAD);
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = walk_now(layout, &root, &found) {
            // Nobody listens any more at worst.
            let _ = found.blocking_send(Err(error));
        }
    });
    stream::unfold(candidates, |mut candidates| async move {
        let candidate = candidates.recv().await?;
        Some((candidate, candidates))
    })
    .boxed()
}

type Found = mpsc::Sender<io::Result<Candidate>>;

fn walk_now(layout: Layout, root: &Path, found: &Found) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let Some(candidate) = candidate(layout, root, &entry)? else {
                continue;
            };
            if found.blocking_send(Ok(candidate)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn candidate(layout: Layout, root: &Path, entry: &DirEntry) -> io::Result<Option<Candidate>> {
    let path = entry.path();
    let below = path.strip_prefix(root).ok().and_then(Path::to_str);
    let request = match (layout, below) {
        (_, None) => return Ok(None),
        (Layout::Tree, Some(below)) => match place::request(below) {
            // Tiles are worth nothing without the head that they were proven by.
            Some(Request::SumDb(_)) | None => return Ok(None),
            Some(request) => Ok(request),
        },
        (Layout::Athens, Some(below)) => match of_athens(below) {
            Some(request) => request,
            None => return Ok(None),
        },
    };
    let is_tree_zip = layout == Layout::Tree && matches!(request, Ok(Request::Zip(..)));
    let ziphash = is_tree_zip.then(|| path.with_extension("ziphash"));
    Ok(Some(Candidate {
        request,
        len: fs::metadata(&path)?.len(),
        path,
        ziphash,
    }))
}

/// What a file of Athens is; `None` for files that aren't modules'.
fn of_athens(below: &str) -> Option<Result<Request, String>> {
    let (folder, file) = below.rsplit_once('/')?;
    let (module, version) = folder.rsplit_once('/')?;
    type Make = fn(ModulePath, &str) -> Result<Request, modcdn_core::goproxy::GrammarError>;
    let make: Make = match file {
        "go.mod" => Request::module_file,
        "source.zip" => Request::zip,
        _ if file.strip_suffix(".info") == Some(version) => Request::info,
        _ => return None,
    };
    // Old ones wrote paths as they are, and others as they were asked for.
    let parsed = module.parse().or_else(|_| ModulePath::from_escaped(module));
    let request = parsed.and_then(|module| make(module, version));
    Some(match request {
        Ok(request) if place::place(&request).is_some() => Ok(request),
        Ok(_) => Err(format!("{version} is no version of a module")),
        Err(fault) => Err(format!("is of no module that there can be: {fault}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_athens_are_told_by_their_place() {
        for (below, path) in [
            (
                "github.com/BurntSushi/toml/v1.0.0/source.zip",
                "/github.com/!burnt!sushi/toml/@v/v1.0.0.zip",
            ),
            (
                "github.com/!burnt!sushi/toml/v1.0.0/go.mod",
                "/github.com/!burnt!sushi/toml/@v/v1.0.0.mod",
            ),
            (
                "a.example/m/v2/v2.0.0/v2.0.0.info",
                "/a.example/m/v2/@v/v2.0.0.info",
            ),
        ] {
            assert_eq!(of_athens(below).unwrap().unwrap().path(), path);
        }
        for below in [
            "a.example/m/v1.0.0/other",
            "source.zip",
            "a.example/m/v1.0.0/v1.0.1.info",
        ] {
            assert!(of_athens(below).is_none(), "{below}");
        }
        for below in [
            "a.example/m/master/source.zip",
            "a.example/m/master/master.info",
            "nodot/m/v1.0.0/go.mod",
            "a.example/m/v2.0.0/go.mod",
        ] {
            assert!(of_athens(below).unwrap().is_err(), "{below}");
        }
    }

    #[test]
    fn a_folder_tells_its_layout() {
        let dir = tempfile::tempdir().unwrap();
        let found = |below: &str| {
            let root = tempfile::tempdir_in(dir.path()).unwrap();
            let file = root.path().join(below);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
            let found = find_now(root.path()).unwrap();
            found.map(|(layout, at)| (layout, at.strip_prefix(root.path()).unwrap().to_owned()))
        };
        let tree = |at: &str| Some((Layout::Tree, PathBuf::from(at)));
        assert_eq!(
            found("cache/download/a.b/m/@v/list"),
            tree("cache/download")
        );
        assert_eq!(found("a.b/m/@v/list"), tree(""));
        assert_eq!(
            found("a.b/m/v1.0.0/source.zip"),
            Some((Layout::Athens, PathBuf::new()))
        );
        assert_eq!(found("a.b/m/v1.0.0/x"), None);
    }
}
