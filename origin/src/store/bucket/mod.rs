//! Bodies in a bucket of storage that speaks S3.
//!
//! A body's digest and length are metadata of its object; one that others put there has them, as
//! on disk, in an object beside it, or not at all. A body up to one part is put at once, a longer
//! one in parts; storage shows an object whole or not at all. Parts of a body whose upload never
//! ended are known by a note in the folder ([`upload`]) and are taken back at the next start.
//!
//! Failure rule: every call has a deadline and a few tries. While storage doesn't answer, nothing
//! can be said of what is stored, and those who ask are told so at once instead of each waiting.

mod client;
pub(super) mod object;
mod outage;
mod upload;

use std::io::{self, ErrorKind};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::units::Period;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutOptions, PutPayload,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::object::Object;
use self::outage::Outage;
use self::upload::Uploads;
pub(super) use self::upload::places;
use super::folder::is_of_tree;
use super::quarantine;
use super::shelf::{Entry, Large, Opened, OpenedBytes, SMALL, Shelf, Stamp};
use super::sum::{Sum, beside_place, ziphash_place};
use super::work::Work;
use crate::config::S3;
use crate::disk;

/// The metadata that holds a body's sum: hexadecimal digest and length.
const SUM: &str = "modcdn-sum";

/// What is put to see whether anything can be.
const PROBE: &str = ".probe";

/// No text that lies beside a body is longer.
const MAX_TEXT: u64 = 256;

/// See the module.
#[derive(Clone)]
pub(crate) struct Bucket(Arc<Inner>);

struct Inner {
    client: AmazonS3,
    settings: S3,
    outage: Outage,
    uploads: Uploads,
    work: Work,
}

/// An object's head and its first bytes.
struct Begun {
    meta: ObjectMeta,
    attributes: Attributes,
    first: Bytes,
}

impl Bucket {
    /// Talks to nobody yet. `memory` has a permit a part that may be in memory.
    ///
    /// # Errors
    /// If the client can't be set up: credentials or certificates that can't be read.
    pub(crate) fn new(settings: &S3, work: Work, memory: Arc<Semaphore>) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            client: client::build(settings)?,
            settings: settings.clone(),
            outage: Outage::default(),
            uploads: Uploads::new(&work, memory),
            work,
        })))
    }

    fn key(&self, place: &str) -> io::Result<Path> {
        let prefix = &self.0.settings.prefix;
        let key = if prefix.is_empty() {
            place.to_owned()
        } else {
            format!("{prefix}/{place}")
        };
        Path::parse(key).map_err(io::Error::other)
    }

    /// A question about what is stored: fails at once while storage is known to be out of reach.
    async fn ask<T>(
        &self,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> io::Result<Option<T>> {
        self.0.outage.check()?;
        let answer = within(self.0.settings.answer_timeout, call).await;
        self.0.outage.learn(answer.as_ref().err());
        answer
    }

    /// An order, whatever is known.
    async fn order<T>(
        &self,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> io::Result<Option<T>> {
        within(self.0.settings.upload_timeout, call).await
    }

    /// The beginning of an object, in one call; `None` if there is none.
    async fn begin(&self, key: &Path, bytes: u64) -> io::Result<Option<Begun>> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(0..bytes)),
            ..GetOptions::default()
        };
        let client = &self.0.client;
        let got = match self.ask(client.get_opts(key, options)).await {
            Ok(None) => return Ok(None),
            Ok(Some(got)) => got,
            // An empty object has no first byte.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let meta = self.ask(client.head(key)).await?;
                return Ok(meta.map(|meta| Begun {
                    meta,
                    attributes: Attributes::new(),
                    first: Bytes::new(),
                }));
            }
            Err(error) => return Err(error),
        };
        let (meta, attributes) = (got.meta.clone(), got.attributes.clone());
        let mut first = Vec::with_capacity((got.range.end - got.range.start) as usize);
        let mut pieces = got.into_stream();
        while let Some(piece) = within(self.0.settings.stall_timeout, pieces.try_next())
            .await
            .inspect_err(|error| self.0.outage.learn(Some(error)))?
            .flatten()
        {
            first.extend_from_slice(&piece);
        }
        Ok(Some(Begun {
            meta,
            attributes,
            first: first.into(),
        }))
    }

    async fn put_ziphash(&self, place: &str, sum: Sum) -> io::Result<()> {
        let Some(h1) = sum.h1 else {
            return Ok(());
        };
        let text = Bytes::from(h1.to_string());
        self.put_bytes(&ziphash_place(place), text, Attributes::new())
            .await
    }

    async fn put_bytes(&self, place: &str, bytes: Bytes, attributes: Attributes) -> io::Result<()> {
        let key = self.key(place)?;
        let options = PutOptions {
            attributes,
            ..PutOptions::default()
        };
        let put = self
            .0
            .client
            .put_opts(&key, PutPayload::from_bytes(bytes), options);
        self.order(put).await?.ok_or_else(lost)?;
        Ok(())
    }
}

#[async_trait]
impl Shelf for Bucket {
    fn is_remote(&self) -> bool {
        true
    }

    async fn open(&self, place: &str) -> io::Result<Option<Opened>> {
        let key = self.key(place)?;
        let Some(begun) = self.begin(&key, SMALL).await? else {
            return Ok(None);
        };
        let sum = match attached(&begun.attributes) {
            Some(sum) => Some(sum),
            None => {
                let text = self.text(&beside_place(place)).await?;
                text.and_then(|text| Sum::parse(&text))
            }
        };
        let object = Object {
            bucket: self.clone(),
            key,
            len: begun.meta.size,
            etag: begun.meta.e_tag,
            first: begun.first,
        };
        let (len, stamp) = (object.len, object.stamp());
        let bytes = if len > SMALL {
            OpenedBytes::Large(Large::Object(Arc::new(object)))
        } else {
            OpenedBytes::Small(object.first)
        };
        Ok(Some(Opened {
            len,
            stamp,
            sum,
            bytes,
        }))
    }

    async fn put(&self, place: &str, bytes: Bytes, sum: Sum) -> io::Result<()> {
        self.put_ziphash(place, sum).await?;
        self.put_bytes(place, bytes, attributes(sum)).await
    }

    async fn commit(&self, place: &str, temp: &FilePath, sum: Sum) -> io::Result<Stamp> {
        self.put_ziphash(place, sum).await?;
        let stamp = self.upload(&self.key(place)?, temp, sum).await?;
        let temp = temp.to_owned();
        // Left over at worst: the next start empties the spool.
        let _ = disk::blocking(move || std::fs::remove_file(temp)).await;
        Ok(stamp)
    }

    async fn write_sum(&self, place: &str, sum: Sum) -> io::Result<()> {
        self.put_ziphash(place, sum).await?;
        let text = Bytes::from(sum.text());
        self.put_bytes(&beside_place(place), text, Attributes::new())
            .await
    }

    async fn stored_at(&self, place: &str) -> io::Result<Option<SystemTime>> {
        let key = self.key(place)?;
        let meta = self.ask(self.0.client.head(&key)).await?;
        Ok(meta.map(|meta| meta.last_modified.into()))
    }

    async fn text(&self, place: &str) -> io::Result<Option<String>> {
        let begun = self.begin(&self.key(place)?, MAX_TEXT).await?;
        Ok(begun.and_then(|begun| String::from_utf8(begun.first.into()).ok()))
    }

    async fn quarantine(&self, place: &str, stamp: &Stamp, reason: &str) -> io::Result<()> {
        let away = format!(".quarantine/{}", quarantine::name(place));
        let (key, away_key) = (self.key(place)?, self.key(&away)?);
        let client = &self.0.client;
        let meta = self.order(client.head(&key)).await?;
        let now = meta.map(|meta| Stamp::Object {
            len: meta.size,
            etag: meta.e_tag,
        });
        if now.as_ref() != Some(stamp) {
            return Ok(());
        }
        let reason = Bytes::from(reason.to_owned());
        self.put_bytes(&format!("{away}.reason"), reason, Attributes::new())
            .await?;
        let copied = self.order(client.copy(&key, &away_key)).await?;
        copied.ok_or_else(lost)?;
        self.remove(place).await
    }

    async fn remove(&self, place: &str) -> io::Result<()> {
        for place in [place, &beside_place(place)] {
            let key = self.key(place)?;
            self.order(self.0.client.delete(&key)).await?;
        }
        Ok(())
    }

    /// Nobody reads lists there, and each would cost a walk.
    async fn list_versions(&self, _module: &ModulePath, _without: &[Version]) -> io::Result<()> {
        Ok(())
    }

    async fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let key = self.key(folder)?;
        let listed = self.ask(self.0.client.list_with_delimiter(Some(&key)));
        let objects = listed.await?.map(|listed| listed.objects);
        let objects = objects.unwrap_or_default().into_iter();
        let names = objects.filter_map(|meta| meta.location.filename().map(str::to_owned));
        Ok(names.collect())
    }

    async fn probe(&self) -> io::Result<()> {
        let work = self.0.work.clone();
        disk::blocking(move || work.probe()).await?;
        let key = self.key(PROBE)?;
        let put = self.0.client.put(&key, PutPayload::from_static(b"probe"));
        let answer = within(self.0.settings.answer_timeout, put).await;
        self.0.outage.learn(answer.as_ref().err());
        answer?.ok_or_else(lost)?;
        self.take_back().await
    }

    fn walk(&self) -> BoxStream<'static, io::Result<Entry>> {
        let prefix = self.0.settings.prefix.clone();
        let root = Path::parse(&prefix).ok().filter(|_| !prefix.is_empty());
        let listed = self.0.client.list(root.as_ref());
        let limit = self.0.settings.stall_timeout;
        let paced = stream::unfold(Some(listed), move |listed| async move {
            let mut listed = listed?;
            match within(limit, listed.try_next()).await {
                Ok(meta) => meta.flatten().map(|meta| (Ok(meta), Some(listed))),
                Err(error) => Some((Err(error), None)),
            }
        });
        paced
            .try_filter_map(move |meta| {
                let entry = entry(&prefix, &meta);
                async move { Ok(entry) }
            })
            .boxed()
    }
}

/// What of a listed object is of the tree.
fn entry(prefix: &str, meta: &ObjectMeta) -> Option<Entry> {
    let key = meta.location.as_ref();
    let place = match prefix {
        "" => key,
        prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
    };
    let (first, _) = place.split_once('/')?;
    is_of_tree(first).then(|| Entry {
        place: place.to_owned(),
        len: meta.size,
        modified: meta.last_modified.into(),
    })
}

fn attributes(sum: Sum) -> Attributes {
    let key = Attribute::Metadata(SUM.into());
    Attributes::from_iter([(key, sum.text().trim_end().to_owned())])
}

fn attached(attributes: &Attributes) -> Option<Sum> {
    let value = attributes.get(&Attribute::Metadata(SUM.into()))?;
    Sum::parse(&format!("{}\n", value.as_ref()))
}

/// A bucket that isn't there holds nothing that could be said to be absent.
fn names_bucket(source: &dyn std::error::Error) -> bool {
    source.to_string().contains("NoSuchBucket")
}

/// Storage says "not found" to an order.
fn lost() -> io::Error {
    io::Error::new(
        ErrorKind::NotFound,
        "storage has lost what it was told before",
    )
}

/// A bounded call. "No such object" is an answer: `None`. `InvalidInput` means a range that the
/// object doesn't have.
async fn within<T>(
    limit: Period,
    call: impl Future<Output = object_store::Result<T>>,
) -> io::Result<Option<T>> {
    match timeout(limit.get(), call).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(object_store::Error::NotFound { source, .. })) if !names_bucket(&*source) => {
            Ok(None)
        }
        Ok(Err(error)) => {
            let text = error.to_string();
            let kind = if text.contains("status code: 416") {
                ErrorKind::InvalidInput
            } else {
                ErrorKind::Other
            };
            Err(io::Error::new(kind, text))
        }
        Err(_) => {
            let text = format!("storage did not answer within {limit}");
            Err(io::Error::new(ErrorKind::TimedOut, text))
        }
    }
}
