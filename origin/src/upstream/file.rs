//! A folder as upstream: `file://` and an absolute path.
//!
//! Any tree laid out as a module proxy will do; a `GOMODCACHE/cache/download` is one with gaps,
//! which are filled as the go command fills them: its `list` names what was fetched once,
//! pseudo-versions included, and it has no `@latest`, which is the highest release, else the
//! highest pre-release, else the youngest pseudo-version of the list. It knows no branches.
//!
//! A file that isn't there is truly absent, unless the whole folder is missing: that is a failure.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use modcdn_core::goproxy::{ModulePath, Request, Version};

use super::body::Pieces;
use crate::disk;

/// What a file's opening brought.
pub(crate) struct Opened {
    pub(crate) announced: u64,
    pub(crate) pieces: Pieces,
}

/// Opens what is asked; `None` if the tree truly lacks it.
///
/// # Errors
/// Whatever the file system says, the folder's absence included.
pub(crate) async fn open(
    folder: &Path,
    request: &Request,
    max_list: u64,
) -> io::Result<Option<Opened>> {
    let (folder, request) = (folder.to_owned(), request.clone());
    disk::blocking(move || open_now(&folder, &request, max_list)).await
}

fn open_now(folder: &Path, request: &Request, max_list: u64) -> io::Result<Option<Opened>> {
    let path = match request {
        Request::Latest(module) => match latest(folder, module, max_list)? {
            Some(path) => path,
            None => return Ok(None),
        },
        _ => match request.tree_path() {
            Some(path) => folder.join(path),
            None => return Ok(None),
        },
    };
    let Some(file) = present(folder, File::open(&path))? else {
        return Ok(None);
    };
    let announced = file.metadata()?.len();
    Ok(Some(Opened {
        announced,
        pieces: pieces(Arc::new(file), announced),
    }))
}

/// Tells a missing file from a missing tree.
fn present<T>(folder: &Path, result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            fs::metadata(folder)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The `.info` of the version that `@latest` means.
fn latest(folder: &Path, module: &ModulePath, max_list: u64) -> io::Result<Option<PathBuf>> {
    let list = Request::List(module.clone())
        .tree_path()
        .map(|path| folder.join(path));
    let Some(list) = list else { return Ok(None) };
    let Some(file) = present(folder, File::open(list))? else {
        return Ok(None);
    };
    let mut text = String::new();
    file.take(max_list).read_to_string(&mut text)?;
    let Some(version) = latest_of(&text) else {
        return Ok(None);
    };
    let info = Request::Info(module.clone(), version).tree_path();
    Ok(info.map(|path| folder.join(path)))
}

/// Releases before pre-releases before pseudo-versions; among those the highest, or youngest.
fn latest_of(list: &str) -> Option<Version> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .max_by(|a: &Version, b: &Version| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)))
}

/// The class of a version, and a pseudo-version's commit time.
fn rank(version: &Version) -> (u8, &str) {
    if version.is_pseudo() {
        // …-yyyymmddhhmmss-abcdefabcdef, before it a dash or, with a base version, a dot.
        let stamp = version.as_str().rsplit(['-', '.']).nth(1);
        (0, stamp.unwrap_or_default())
    } else if version.is_prerelease() {
        (1, "")
    } else {
        (2, "")
    }
}

/// The first `len` bytes of a file.
pub(super) fn pieces(file: Arc<File>, len: u64) -> Pieces {
    stream::try_unfold(0_u64, move |position| {
        let file = file.clone();
        async move {
            if position >= len {
                return Ok(None);
            }
            let wanted = (len - position).min(disk::CHUNK);
            let piece: Bytes = disk::read_at(file, position, wanted)
                .await
                .map_err(|error| error.to_string())?;
            let next = position + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_follows_the_go_command() {
        for (list, latest) in [
            ("v1.0.0\nv1.2.0\nv1.10.0\nv2.0.0-rc.1\n", Some("v1.10.0")),
            ("v0.1.0-a\nv0.1.0-b\n", Some("v0.1.0-b")),
            (
                "v0.0.0-20200101000000-abcdefabcdef\nv0.0.0-20210101000000-abcdefabcdef\n",
                Some("v0.0.0-20210101000000-abcdefabcdef"),
            ),
            (
                "v1.0.1-0.20200101000000-abcdefabcdef\nv0.0.0-20210101000000-abcdefabcdef\n",
                Some("v0.0.0-20210101000000-abcdefabcdef"),
            ),
            (
                "v1.0.1-0.20200101000000-abcdefabcdef\nv0.9.0\n",
                Some("v0.9.0"),
            ),
            ("v2.0.0+incompatible\nv1.0.0\n", Some("v2.0.0+incompatible")),
            ("junk\n", None),
            ("", None),
        ] {
            let found = latest_of(list);
            assert_eq!(found.as_ref().map(Version::as_str), latest, "{list}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_absent_and_a_missing_tree_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request::parse("/a.example/m/@v/v1.0.0.mod").unwrap();
        assert!(open(dir.path(), &request, 100).await.unwrap().is_none());
        let gone = dir.path().join("gone");
        assert!(open(&gone, &request, 100).await.is_err());
    }
}
