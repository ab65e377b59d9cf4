//! Bodies in a folder.
//!
//! A body's sum lies beside it. Commit order: sum, then body (synced, renamed, folder synced). A
//! sum without a body means nothing; a torn sum beside a body is as good as none.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use modcdn_core::durable::{self, Sync};
use modcdn_core::goproxy::{ModulePath, Request, Version};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::quarantine::Quarantine;
use super::shelf::{Entry, Large, Opened, OpenedBytes, SMALL, Shelf, Stamp};
use super::sum::{Sum, beside, ziphash_place};
use super::work::Work;
use crate::disk;

/// How many entries of a walk wait for who takes them.
const WALK_AHEAD: usize = 256;

/// See the module.
#[derive(Clone)]
pub(crate) struct Folder {
    work: Work,
    sync: Sync,
    quarantine: Arc<Quarantine>,
    /// Held while a `list` is rewritten.
    lists: Arc<Mutex<()>>,
}

impl Folder {
    pub(crate) fn new(work: Work, durable: bool, quarantine: Arc<Quarantine>) -> Self {
        let sync = if durable {
            Sync::Durable
        } else {
            Sync::Relaxed
        };
        Self {
            work,
            sync,
            quarantine,
            lists: Arc::default(),
        }
    }

    fn path(&self, place: &str) -> PathBuf {
        self.work.dir().join(place)
    }

    fn open_now(&self, place: &str) -> io::Result<Option<Opened>> {
        let path = self.path(place);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (len, stamp) = (file.metadata()?.len(), Stamp::of(&file)?);
        let bytes = if len > SMALL {
            OpenedBytes::Large(Large::File(Arc::new(file)))
        } else {
            OpenedBytes::Small(read_whole(&file, len)?)
        };
        Ok(Some(Opened {
            len,
            stamp,
            sum: Sum::read(&path),
            bytes,
        }))
    }

    fn commit_now(&self, place: &str, temp: &Path, sum: Sum) -> io::Result<Stamp> {
        let path = self.path(place);
        self.write_sum_now(place, sum)?;
        // Of the file that is renamed, not of what is there afterwards.
        let file = File::open(temp)?;
        durable::publish(temp, &path, self.sync)?;
        Stamp::of(&file)
    }

    fn write_sum_now(&self, place: &str, sum: Sum) -> io::Result<()> {
        if let Some(h1) = sum.h1 {
            self.publish_text(&h1.to_string(), &self.path(&ziphash_place(place)))?;
        }
        self.publish_text(&sum.text(), &beside(&self.path(place)))
    }

    fn publish_text(&self, text: &str, path: &Path) -> io::Result<()> {
        let temp = self.work.spool_name();
        fs::write(&temp, text)?;
        durable::publish(&temp, path, Sync::Relaxed).inspect_err(|_| drop(fs::remove_file(&temp)))
    }

    fn quarantine_now(&self, place: &str, stamp: &Stamp, reason: &str) -> io::Result<()> {
        let path = self.path(place);
        if Stamp::of(&File::open(&path)?)? != *stamp {
            return Ok(());
        }
        self.quarantine.take(&path, place, reason)?;
        match fs::remove_file(beside(&path)) {
            Err(error) if !absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Rewrites a module's `list` as the go command does: the versions that have a `.mod`.
    fn list_now(&self, module: &ModulePath, without: &[Version]) -> io::Result<()> {
        let Some(list) = Request::List(module.clone()).tree_path() else {
            return Ok(());
        };
        let list = self.path(&list);
        let _one_at_a_time = self.lists.lock();
        let mut versions: Vec<Version> = Vec::new();
        for entry in fs::read_dir(list.parent().unwrap_or(self.work.dir()))? {
            let name = entry?.file_name();
            let escaped = name.to_str().and_then(|name| name.strip_suffix(".mod"));
            versions.extend(escaped.and_then(|escaped| Version::from_escaped(escaped).ok()));
        }
        versions.retain(|version| !without.contains(version));
        versions.sort();
        let text: String = versions.iter().map(|v| format!("{v}\n")).collect();
        if fs::read(&list).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        self.publish_text(&text, &list)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let folder = self.clone();
        disk::blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl Shelf for Folder {
    fn is_remote(&self) -> bool {
        false
    }

    async fn open(&self, place: &str) -> io::Result<Option<Opened>> {
        let place = place.to_owned();
        self.run(move |folder| folder.open_now(&place)).await
    }

    async fn put(&self, place: &str, bytes: Bytes, sum: Sum) -> io::Result<()> {
        let place = place.to_owned();
        self.run(move |folder| {
            let temp = folder.work.spool_name();
            File::create_new(&temp)?
                .write_all(&bytes)
                .and_then(|()| folder.commit_now(&place, &temp, sum))
                .inspect_err(|_| drop(fs::remove_file(&temp)))
                .map(drop)
        })
        .await
    }

    async fn commit(&self, place: &str, temp: &Path, sum: Sum) -> io::Result<Stamp> {
        let (place, temp) = (place.to_owned(), temp.to_owned());
        self.run(move |folder| folder.commit_now(&place, &temp, sum))
            .await
    }

    async fn write_sum(&self, place: &str, sum: Sum) -> io::Result<()> {
        let place = place.to_owned();
        self.run(move |folder| folder.write_sum_now(&place, sum))
            .await
    }

    async fn stored_at(&self, place: &str) -> io::Result<Option<SystemTime>> {
        let path = self.path(place);
        self.run(move |_| match fs::metadata(path) {
            Ok(metadata) => metadata.modified().map(Some),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn text(&self, place: &str) -> io::Result<Option<String>> {
        let path = self.path(place);
        self.run(move |_| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn quarantine(&self, place: &str, stamp: &Stamp, reason: &str) -> io::Result<()> {
        let (place, stamp) = (place.to_owned(), stamp.clone());
        let reason = reason.to_owned();
        self.run(move |folder| folder.quarantine_now(&place, &stamp, &reason))
            .await
    }

    async fn remove(&self, place: &str) -> io::Result<()> {
        let path = self.path(place);
        self.run(move |_| {
            for file in [path.clone(), beside(&path)] {
                match fs::remove_file(file) {
                    Err(error) if !absent(&error) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn list_versions(&self, module: &ModulePath, without: &[Version]) -> io::Result<()> {
        let (module, without) = (module.clone(), without.to_vec());
        self.run(move |folder| folder.list_now(&module, &without))
            .await
    }

    async fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = self.path(folder);
        self.run(move |_| {
            let entries = match fs::read_dir(path) {
                Err(error) if absent(&error) => return Ok(Vec::new()),
                entries => entries?,
            };
            let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
            names.filter_map(io::Result::transpose).collect()
        })
        .await
    }

    async fn probe(&self) -> io::Result<()> {
        self.run(|folder| folder.work.probe()).await
    }

    fn walk(&self) -> BoxStream<'static, io::Result<Entry>> {
        let (found, entries) = mpsc::channel(WALK_AHEAD);
        let root = self.work.dir().to_owned();
        tokio::task::spawn_blocking(move || walk_now(&root, &found));
        stream::unfold(entries, |mut entries| async move {
            entries.recv().await.map(|entry| (entry, entries))
        })
        .boxed()
    }
}

/// Below a root: folders of modules and `sumdb`. Neither ours (`.spool` …) nor those of other
/// mounts, whose names have no dot.
pub(super) fn is_of_tree(name: &str) -> bool {
    name == "sumdb" || (name.contains('.') && !name.starts_with('.'))
}

/// Ends early once nobody takes entries any more.
fn walk_now(root: &Path, found: &mpsc::Sender<io::Result<Entry>>) {
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let entries = match fs::read_dir(root.join(&below)) {
            Ok(entries) => entries,
            Err(error) if absent(&error) => continue,
            Err(error) => {
                if found.blocking_send(Err(error)).is_err() {
                    return;
                }
                continue;
            }
        };
        for entry in entries {
            match look_at(&below, entry) {
                Ok(Looked::Folder(folder)) => folders.push(folder),
                Ok(Looked::Nothing) => {}
                Ok(Looked::File(entry)) => {
                    if found.blocking_send(Ok(entry)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if found.blocking_send(Err(error)).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

enum Looked {
    Folder(String),
    File(Entry),
    Nothing,
}

fn look_at(below: &str, entry: io::Result<fs::DirEntry>) -> io::Result<Looked> {
    let entry = entry?;
    let Ok(name) = entry.file_name().into_string() else {
        return Ok(Looked::Nothing);
    };
    let metadata = match entry.metadata() {
        Err(error) if absent(&error) => return Ok(Looked::Nothing),
        other => other?,
    };
    if metadata.is_dir() && below.is_empty() {
        return Ok(if is_of_tree(&name) {
            Looked::Folder(name)
        } else {
            Looked::Nothing
        });
    }
    if below.is_empty() {
        return Ok(Looked::Nothing);
    }
    let place = format!("{below}/{name}");
    if metadata.is_dir() {
        return Ok(Looked::Folder(place));
    }
    Ok(Looked::File(Entry {
        place,
        len: metadata.len(),
        modified: metadata.modified()?,
    }))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The first `len` bytes, wherever the file's own position is.
fn read_whole(file: &File, len: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    while (bytes.len() as u64) < len {
        let position = bytes.len() as u64;
        bytes.extend_from_slice(&disk::read_at_now(file, position, len - position)?);
    }
    Ok(bytes.into())
}
