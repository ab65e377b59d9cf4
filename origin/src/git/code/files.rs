//! A module's files: what `git archive` makes of its folder.
//!
//! `git archive`, because that is what the go command asks: attributes of the repository can change what
//! a file's content is (`eol`, `ident`), which reading the objects would not show. The archive is a tar on our
//! disk without a name; files are read from it where they lie.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::goproxy::Version;
use modcdn_core::refusal::Reason;

use super::folder::Folder;
use super::{Code, MAX_LICENSE};
use crate::archive::{self, Input, Kind};
use crate::disk;
use crate::git::fault::Fault;
use crate::git::program::Output;
use crate::git::refs::Commit;

/// A file of a module.
#[derive(Debug)]
pub(super) struct ModuleFile {
    /// Below the module's folder.
    pub(super) name: String,
    /// Not so a link or a device.
    pub(super) is_regular: bool,
    pub(super) content: Content,
}

/// What is in a file.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A part of another file.
    Part {
        file: Arc<File>,
        from: u64,
        len: u64,
    },
    /// In memory.
    Bytes(Bytes),
}

impl Code<'_> {
    /// The zip of a version, in a file without a name, and its length; from this commit if its `.info`
    /// names one.
    pub(crate) async fn zip(
        &self,
        version: &Version,
        named: Option<&Commit>,
    ) -> Result<(Arc<File>, u64), Fault> {
        let revision = self.fixed(version, named).await?;
        let folder = self.folder(&revision.commit).await?;
        let _place = self.mirror.zip_place().await?;
        let tar = self.scratch().await?;
        let into = Output::File(tar.clone());
        let commit = &revision.commit;
        self.mirror.archive(commit, &folder.path, into).await?;
        let license = self.license(&revision.commit, &folder).await?;
        let out = self.scratch().await?;
        let (module, version) = (self.layout.module.clone(), version.clone());
        let limits = *self.mirror.archives();
        let packed = disk::blocking(move || {
            let mut files = list(&tar, &folder.path)?;
            add_license(&mut files, license);
            let mut buffered = BufWriter::new(&*out);
            if let Err(fault) = archive::write(&mut buffered, &module, &version, &files, &limits) {
                return Ok(Err(refused(&fault)));
            }
            buffered.flush()?;
            drop(buffered);
            let len = out.metadata()?.len();
            Ok(Ok((out, len)))
        });
        packed.await.map_err(|error| unreadable(&error))?
    }

    /// The LICENSE of the repository's root, for a module that lies below it.
    async fn license(&self, commit: &Commit, folder: &Folder) -> Result<Option<Bytes>, Fault> {
        if folder.path.is_empty() {
            return Ok(None);
        }
        let files = self.mirror.files(commit, &["LICENSE"], MAX_LICENSE).await?;
        Ok(files.into_iter().flatten().next())
    }

    async fn scratch(&self) -> Result<Arc<File>, Fault> {
        let file = self.mirror.scratch().await;
        file.map(Arc::new).map_err(|error| unreadable(&error))
    }
}

/// A module without a LICENSE of its own has the root's.
fn add_license(files: &mut Vec<ModuleFile>, license: Option<Bytes>) {
    let has_one = files.iter().any(|file| file.name == "LICENSE");
    files.extend(license.filter(|_| !has_one).map(|bytes| ModuleFile {
        name: "LICENSE".to_owned(),
        is_regular: true,
        content: Content::Bytes(bytes),
    }));
}

/// The files of a folder in a tar.
///
/// # Errors
/// `InvalidData` if it is no tar of ours.
fn list(tar: &Arc<File>, folder: &str) -> io::Result<Vec<ModuleFile>> {
    let reader = Content::Part {
        file: tar.clone(),
        from: 0,
        len: tar.metadata()?.len(),
    };
    let mut archive = tar::Archive::new(reader.open());
    let mut files = Vec::new();
    for entry in archive.entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let path = entry.path_bytes();
        let Ok(path) = std::str::from_utf8(&path) else {
            let what = format!(
                "a file's name is not UTF-8: {:?}",
                String::from_utf8_lossy(&path)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        let Some(name) = below(path, folder) else {
            continue;
        };
        files.push(ModuleFile {
            name: name.to_owned(),
            is_regular: kind.is_file() || kind.is_contiguous(),
            content: Content::Part {
                file: tar.clone(),
                from: entry.raw_file_position(),
                len: entry.size(),
            },
        });
    }
    Ok(files)
}

fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() {
        return Some(path);
    }
    path.strip_prefix(folder)?.strip_prefix('/')
}

/// The go command refuses such a module too.
fn refused(fault: &archive::Fault) -> Fault {
    Fault::failed(
        Reason::UpstreamContent,
        format!("the repository's files make no module: {fault}"),
    )
}

fn unreadable(error: &io::Error) -> Fault {
    if error.kind() == io::ErrorKind::InvalidData {
        return Fault::failed(Reason::UpstreamContent, error.to_string());
    }
    Fault::failed(Reason::Store, format!("making the zip: {error}"))
}

impl Input for ModuleFile {
    fn path(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Kind {
        if self.is_regular {
            Kind::File
        } else {
            Kind::Other
        }
    }

    fn size(&self) -> u64 {
        self.content.len()
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.content.open()))
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Part { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Reads it from its beginning.
    pub(super) fn open(&self) -> Reader {
        Reader {
            content: self.clone(),
            at: 0,
        }
    }
}

/// Reads a content.
#[derive(Debug)]
pub(super) struct Reader {
    content: Content,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.len() - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(into.len());
        let into = &mut into[..wanted];
        let read = match &self.content {
            Content::Part { file, from, .. } => file.read_at(into, from + self.at)?,
            Content::Bytes(bytes) => {
                let rest = &bytes[usize::try_from(self.at).unwrap_or(usize::MAX)..];
                into.copy_from_slice(&rest[..wanted]);
                wanted
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}
