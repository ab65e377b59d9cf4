//! Uploading a file of the spool.
//!
//! Parts are read one after the other and sent side by side; what all uploads together hold in
//! memory is bounded. The digest is computed again from what is sent, and only if it is the one
//! announced is the object made of the parts. Each upload in parts is noted in the folder before
//! its first part:
//!
//! ```text
//! .uploads/<name>     one line of JSON: key and upload id; gone when the upload has ended
//! ```
//!
//! Notes that an earlier run left are worked off once storage answers: their parts are removed. (A
//! crash between storage's word and the note leaves an upload without parts; a lifecycle rule of
//! the bucket takes care of such, and of those of a machine that is lost.)

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use modcdn_core::digest::Hasher;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    MultipartId, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::super::shelf::Stamp;
use super::super::sum::Sum;
use super::super::work::{self, Work};
use super::{Bucket, attributes, lost, within};
use crate::config::S3;
use crate::disk;

/// How many parts of one body are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// What uploads share.
pub(super) struct Uploads {
    notes: PathBuf,
    /// Notes of uploads that are over, of this run or an earlier one.
    left: Mutex<Vec<PathBuf>>,
    /// A permit a part in memory.
    memory: Arc<Semaphore>,
}

/// An upload in parts that has begun.
#[derive(Serialize, Deserialize)]
struct Note {
    key: String,
    upload: MultipartId,
}

impl Uploads {
    pub(super) fn new(work: &Work, memory: Arc<Semaphore>) -> Self {
        let notes = work.dir().join(".uploads");
        Self {
            left: Mutex::new(files(&notes)),
            notes,
            memory,
        }
    }

    async fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        let place = self.memory.clone().acquire_owned();
        place.await.map_err(io::Error::other)
    }

    async fn write(&self, note: &Note) -> io::Result<PathBuf> {
        let (folder, path) = (self.notes.clone(), self.notes.join(work::unique()));
        let text = serde_json::to_vec(note)?;
        disk::blocking(move || {
            fs::create_dir_all(folder)?;
            fs::write(&path, text)?;
            Ok(path)
        })
        .await
    }
}

/// How many parts may be in memory.
pub(crate) fn places(settings: &S3) -> usize {
    let parts = settings.upload_memory.as_u64() / settings.part_size.as_u64().max(1);
    usize::try_from(parts).map_or(Semaphore::MAX_PERMITS, |parts| {
        parts.clamp(1, Semaphore::MAX_PERMITS)
    })
}

fn files(folder: &FilePath) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

impl Bucket {
    /// Uploads a file that must have this sum.
    ///
    /// # Errors
    /// If storage doesn't take it, or the file isn't what it must be. There is no object then, or
    /// what was there before; only where storage's last word was lost it may be there, whole.
    pub(super) async fn upload(&self, key: &Path, temp: &FilePath, sum: Sum) -> io::Result<Stamp> {
        let temp = temp.to_owned();
        let file = Arc::new(disk::blocking(move || File::open(temp)).await?);
        let put = if sum.len <= self.0.settings.part_size.as_u64() {
            self.put_whole(key, file, sum).await?
        } else {
            self.put_in_parts(key, file, sum).await?
        };
        Ok(Stamp::Object {
            len: sum.len,
            etag: put.e_tag,
        })
    }

    async fn put_whole(&self, key: &Path, file: Arc<File>, sum: Sum) -> io::Result<PutResult> {
        let _place = self.0.uploads.place().await?;
        let (bytes, hasher) = read(file, 0, sum.len, Hasher::new()).await?;
        is_announced(hasher, sum)?;
        let options = PutOptions {
            attributes: attributes(sum),
            ..PutOptions::default()
        };
        let put = self
            .0
            .client
            .put_opts(key, PutPayload::from_bytes(bytes), options);
        self.order(put).await?.ok_or_else(lost)
    }

    async fn put_in_parts(&self, key: &Path, file: Arc<File>, sum: Sum) -> io::Result<PutResult> {
        let options = PutMultipartOptions {
            attributes: attributes(sum),
            ..PutMultipartOptions::default()
        };
        let created = self.0.client.create_multipart_opts(key, options);
        let created = within(self.0.settings.answer_timeout, created).await?;
        let note = Note {
            key: key.to_string(),
            upload: created.ok_or_else(lost)?,
        };
        let noted = self.0.uploads.write(&note).await;
        let sent = match &noted {
            Ok(_) => self.send_parts(key, &note.upload, file, sum).await,
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let made = match sent {
            Ok(parts) => self.make(key, &note.upload, parts).await,
            Err(error) => Err(error),
        };
        let ended = made.is_ok() || self.abort(&note).await.is_ok();
        match noted {
            Ok(path) if ended => drop(fs::remove_file(path)),
            // Taken back later.
            Ok(path) => self.0.uploads.left.lock().push(path),
            Err(_) => {}
        }
        made
    }

    async fn send_parts(
        &self,
        key: &Path,
        upload: &MultipartId,
        file: Arc<File>,
        sum: Sum,
    ) -> io::Result<Vec<PartId>> {
        let part_size = self.0.settings.part_size.as_u64();
        let mut hasher = Hasher::new();
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        for (index, position) in (0..sum.len).step_by(part_size as usize).enumerate() {
            if sending.len() == PARTS_AT_ONCE {
                take(&mut parts, sending.join_next().await)?;
            }
            let place = self.0.uploads.place().await?;
            let len = part_size.min(sum.len - position);
            let bytes;
            (bytes, hasher) = read(file.clone(), position, len, hasher).await?;
            let (bucket, key, upload) = (self.clone(), key.clone(), upload.clone());
            sending.spawn(async move {
                let payload = PutPayload::from_bytes(bytes);
                let put = bucket.0.client.put_part(&key, &upload, index, payload);
                let put = bucket.order(put).await;
                drop(place);
                Ok((index, put?.ok_or_else(lost)?))
            });
        }
        is_announced(hasher, sum)?;
        while let Some(sent) = sending.join_next().await {
            take(&mut parts, Some(sent))?;
        }
        parts.sort_by_key(|(index, _)| *index);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    async fn make(
        &self,
        key: &Path,
        upload: &MultipartId,
        parts: Vec<PartId>,
    ) -> io::Result<PutResult> {
        let made = self.0.client.complete_multipart(key, upload, parts);
        self.order(made).await?.ok_or_else(lost)
    }

    async fn abort(&self, note: &Note) -> io::Result<()> {
        let key = Path::parse(&note.key).map_err(io::Error::other)?;
        let aborted = self.0.client.abort_multipart(&key, &note.upload);
        // One that storage doesn't know has ended already.
        within(self.0.settings.answer_timeout, aborted).await?;
        Ok(())
    }

    /// Takes back the parts of uploads that are over.
    ///
    /// # Errors
    /// If storage doesn't do it; it is tried again the next time.
    pub(super) async fn take_back(&self) -> io::Result<()> {
        loop {
            let Some(path) = self.0.uploads.left.lock().last().cloned() else {
                return Ok(());
            };
            let read = path.clone();
            let text = disk::blocking(move || fs::read(read)).await;
            // A note that is torn, or gone, was of an upload without parts.
            let note = text
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(note) = note {
                self.abort(&note).await?;
                tracing::info!(
                    key = note.key,
                    "took back the parts of a body that never was"
                );
            }
            self.0.uploads.left.lock().retain(|left| *left != path);
            disk::blocking(move || fs::remove_file(path)).await?;
        }
    }
}

type Sent = io::Result<(usize, PartId)>;

fn take(
    parts: &mut Vec<(usize, PartId)>,
    sent: Option<Result<Sent, tokio::task::JoinError>>,
) -> io::Result<()> {
    match sent {
        Some(Ok(sent)) => parts.push(sent?),
        Some(Err(error)) => return Err(io::Error::other(error)),
        None => {}
    }
    Ok(())
}

async fn read(
    file: Arc<File>,
    position: u64,
    len: u64,
    mut hasher: Hasher,
) -> io::Result<(Bytes, Hasher)> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    disk::blocking(move || {
        file.read_exact_at(&mut bytes, position)?;
        hasher.update(&bytes);
        Ok((bytes.into(), hasher))
    })
    .await
}

fn is_announced(hasher: Hasher, sum: Sum) -> io::Result<()> {
    if hasher.finish() == sum.digest {
        return Ok(());
    }
    Err(io::Error::other(
        "what the spool gives back isn't what was written",
    ))
}
