//! The tree of bodies that never change, wherever it lies (a [`Shelf`]).
//!
//! A body's digest is known beside it ([`Sum`]) and is checked against its bytes: of a small body
//! each time it is read, of a large one while it is sent whole (its last bytes wait for the
//! result), and once a run before a part of it is sent. A body without a sum, as in a tree that the go
//! command made, is taken over at its first use: read through once, its sum written. So is a zip
//! whose sum has no h1: nobody has proven it yet.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Request, SumDbName, Version};
use modcdn_core::h1::H1;
use modcdn_core::refusal::Refusal;
use parking_lot::Mutex;

use super::bucket::{self, Bucket};
use super::budget::{Budget, Share};
use super::folder::Folder;
pub(crate) use super::place::keeps;
use super::place::place;
use super::quarantine::Quarantine;
use super::shelf::{Large, Local, Opened, OpenedBytes, Shelf, Stamp};
use super::sum::{Sum, ziphash_place};
use super::work::Work;
use crate::config::{Archive, Config, Limits, Store};
use crate::metrics::Metrics;
use crate::{content, disk};

/// How many checked bodies are remembered, about 200 bytes each.
const MAX_CHECKED: usize = 100_000;

/// Bodies that are read through at once, to send parts of them; those who ask for the same body
/// wait for the first of them.
const CHECKS: usize = 8;

/// See the module.
pub(crate) struct Tree {
    shelf: Arc<dyn Shelf>,
    work: Work,
    limits: Limits,
    budget: Budget,
    metrics: Metrics,
    /// Large bodies whose bytes were found right in this run, by place, as they were then.
    checked: Mutex<HashMap<String, Stamp>>,
    /// Sums that could not be written down: a tree we may only read.
    unwritten: Mutex<HashMap<String, (Stamp, Sum)>>,
    /// Bodies that are bad and could not be set aside.
    unfit: Mutex<HashMap<String, Stamp>>,
    /// Of bodies that never were in the tree.
    quarantine: Arc<Quarantine>,
    checking: [tokio::sync::Mutex<()>; CHECKS],
    hash: RandomState,
}

/// A stored body.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sum: Sum,
    pub(crate) body: StoredBody,
}

#[derive(Clone, Debug)]
pub(crate) enum StoredBody {
    /// Checked.
    Small(Bytes),
    /// To be checked while it is read.
    Large(Large),
}

/// What a look into the tree finds.
#[derive(Debug)]
pub(crate) enum Look {
    Found(Stored),
    /// A body whose digest isn't known yet: [`Tree::adopt`] makes it a stored one.
    Unsummed(Unsummed),
    Absent,
    /// The tree is out of reach: nothing can be said of it.
    Unknown,
}

/// A body whose digest isn't known yet.
#[derive(Debug)]
pub(crate) struct Unsummed {
    place: String,
    opened: Opened,
}

impl Unsummed {
    pub(crate) fn len(&self) -> u64 {
        self.opened.len
    }
}

/// The tree is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfReach;

impl Tree {
    /// Opens a tree, makes it if need be, and empties its spool, which `budget` bounds. A folder that
    /// can only be read will do.
    ///
    /// # Errors
    /// If the folder can be neither made nor read, or storage can't be set up.
    pub(crate) fn open(
        config: &Store,
        limits: &Limits,
        archive: &Archive,
        budget: Budget,
        metrics: &Metrics,
    ) -> io::Result<Arc<Self>> {
        let work = Work::open(&config.dir)?;
        let quarantine = Arc::new(Quarantine::new(
            config.dir.join(".quarantine"),
            archive.quarantine_files,
            archive.quarantine.as_u64(),
        ));
        let shelf = shelf(config, &work, &budget, &quarantine)?;
        Ok(Self {
            budget,
            quarantine,
            ..Self::bare(shelf, work, limits, metrics)
        }
        .into())
    }

    /// A tree over a shelf that somebody else looks after; `work` is for what isn't a body.
    pub(crate) fn over(
        shelf: Arc<dyn Shelf>,
        work: Work,
        config: &Config,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Self::bare(shelf, work, &config.limits, metrics).into()
    }

    /// A tree that nobody used so far, with a budget and a quarantine without bounds.
    fn bare(shelf: Arc<dyn Shelf>, work: Work, limits: &Limits, metrics: &Metrics) -> Self {
        Self {
            budget: Budget::unbounded(),
            quarantine: Arc::new(Quarantine::unbounded(work.dir())),
            shelf,
            work,
            limits: limits.clone(),
            metrics: metrics.clone(),
            checked: Mutex::default(),
            unwritten: Mutex::default(),
            unfit: Mutex::default(),
            checking: Default::default(),
            hash: RandomState::new(),
        }
    }

    /// Tries whether bodies can be put.
    ///
    /// # Errors
    /// If that can't be done now.
    pub(crate) async fn probe(&self) -> io::Result<()> {
        self.shelf.probe().await
    }

    /// Where its bodies lie.
    pub(crate) fn shelf(&self) -> &Arc<dyn Shelf> {
        &self.shelf
    }

    /// The folder of answers that may change.
    pub(crate) fn mutable_dir(&self) -> PathBuf {
        self.work.dir().join(super::mutable::DIR)
    }

    /// Where our head of a checksum database is kept.
    pub(crate) fn head_file(&self, database: &SumDbName) -> PathBuf {
        let folder = self.work.dir().join(".sumdb").join(database.as_str());
        folder.join("head")
    }

    /// A new name in the spool.
    pub(crate) fn spool_name(&self) -> PathBuf {
        self.work.spool_name()
    }

    /// Room for a body being fetched; `None` if the spool is full.
    pub(crate) fn room(&self, bytes: u64) -> Option<Share> {
        self.budget.take(bytes)
    }

    /// Looks for a body.
    pub(crate) async fn look(&self, request: &Request) -> Look {
        let Some(place) = place(request) else {
            return Look::Absent;
        };
        let opened = match self.shelf.open(&place).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Look::Absent,
            Err(error) => return self.unreadable("read", &error),
        };
        let known = opened.sum;
        let known = known.or_else(|| self.unwritten_sum(&place, &opened.stamp));
        let is_proven = |sum: &Sum| sum.h1.is_some() || !matches!(request, Request::Zip(..));
        let Some(sum) = known.filter(is_proven) else {
            if self.unfit.lock().get(&place) == Some(&opened.stamp) {
                return Look::Absent;
            }
            return Look::Unsummed(Unsummed { place, opened });
        };
        let body = match opened.bytes {
            OpenedBytes::Large(large) if sum.len == opened.len => StoredBody::Large(large),
            OpenedBytes::Small(bytes) if Sum::of(&bytes) == sum => StoredBody::Small(bytes),
            _ => {
                self.quarantine_place(request, &place, &opened.stamp).await;
                return Look::Absent;
            }
        };
        Look::Found(Stored { sum, body })
    }

    /// Since when something of a version has been stored; `None` if nothing is, or that can't be found out.
    pub(crate) async fn stored_at(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Option<SystemTime> {
        let (module, version) = (module.clone(), version.clone());
        let bodies = [
            Request::Info(module.clone(), version.clone()),
            Request::Mod(module.clone(), version.clone()),
            Request::Zip(module, version),
        ];
        let mut first = None;
        for place in bodies.iter().filter_map(place) {
            match self.shelf.stored_at(&place).await {
                Ok(Some(at)) => first = Some(first.map_or(at, |first: SystemTime| first.min(at))),
                Ok(None) => {}
                Err(error) => self.note("look", &error),
            }
        }
        first
    }

    /// What a failure to read means.
    fn unreadable(&self, operation: &str, error: &io::Error) -> Look {
        self.note(operation, error);
        if self.shelf.is_remote() {
            Look::Unknown
        } else {
            Look::Absent
        }
    }

    /// A body's bytes at hand, for who reads here and there; `None` if they can't be had.
    pub(crate) async fn local(&self, body: &Unsummed) -> Result<Option<Local>, OutOfReach> {
        let local = match &body.opened.bytes {
            OpenedBytes::Small(bytes) => Ok(Local::Bytes(bytes.clone())),
            OpenedBytes::Large(large) => large.local(body.len(), &self.work).await,
        };
        self.reached("adopt", local.map(Some))
    }

    /// Takes over a body that has no sum; `None` if it isn't fit to be served. A zip must be proven
    /// already.
    pub(crate) async fn adopt(
        &self,
        request: &Request,
        body: Unsummed,
        h1: Option<H1>,
    ) -> Result<Option<Stored>, OutOfReach> {
        let adopted = self.try_adopt(request, body, h1).await;
        self.reached("adopt", adopted)
    }

    /// What can't be read on disk isn't there.
    fn reached<T>(
        &self,
        operation: &str,
        read: io::Result<Option<T>>,
    ) -> Result<Option<T>, OutOfReach> {
        match read {
            Ok(read) => Ok(read),
            Err(error) => match self.unreadable(operation, &error) {
                Look::Unknown => Err(OutOfReach),
                _ => Ok(None),
            },
        }
    }

    async fn try_adopt(
        &self,
        request: &Request,
        body: Unsummed,
        h1: Option<H1>,
    ) -> io::Result<Option<Stored>> {
        let Unsummed { place, opened } = body;
        let Opened { len, stamp, .. } = opened;
        if let Some(h1) = h1 {
            let recorded = recorded_h1(&*self.shelf, &place).await?;
            if recorded.is_some_and(|recorded| recorded != h1) {
                self.quarantine_place(request, &place, &stamp).await;
                return Ok(None);
            }
        }
        if len == 0 || len > self.limits.of(request) {
            return Ok(None);
        }
        let (sum, body) = match opened.bytes {
            OpenedBytes::Small(bytes) => (Sum::of(&bytes), StoredBody::Small(bytes)),
            OpenedBytes::Large(large) => (large.sum(len).await?, StoredBody::Large(large)),
        };
        let sum = Sum { h1, ..sum };
        if let Err(fault) = is_fit(request, &body, len).await? {
            tracing::warn!(place, fault, "not taken over from the tree");
            return Ok(None);
        }
        if let Err(error) = self.shelf.write_sum(&place, sum).await {
            self.note("sum", &error);
            bounded(&mut self.unwritten.lock()).insert(place.clone(), (stamp.clone(), sum));
        }
        bounded(&mut self.checked.lock()).insert(place, stamp);
        Ok(Some(Stored { sum, body }))
    }

    fn unwritten_sum(&self, place: &str, stamp: &Stamp) -> Option<Sum> {
        let unwritten = self.unwritten.lock();
        let (then, sum) = unwritten.get(place)?;
        (then == stamp).then_some(*sum)
    }

    /// Stores a small body.
    ///
    /// # Errors
    /// Whatever the shelf says.
    pub(crate) async fn put(&self, request: &Request, body: Bytes) -> io::Result<()> {
        let place = place(request).ok_or(io::ErrorKind::InvalidInput)?;
        let sum = Sum::of(&body);
        self.shelf.put(&place, body, sum).await?;
        self.stored(request, sum).await;
        Ok(())
    }

    /// Widths of the partial tiles that are stored in a tile's place, narrowest first.
    pub(crate) async fn partial_widths(&self, tile: &Request) -> Vec<u32> {
        let Some(place) = place(tile) else {
            return Vec::new();
        };
        // `…/123.p/45` lies beside `…/123`.
        let folder = match place.rsplit_once(".p/") {
            Some((full, _)) => format!("{full}.p"),
            None => format!("{place}.p"),
        };
        let names = self.shelf.names(&folder).await;
        let names = names.inspect_err(|error| self.note("list", error));
        let names = names.unwrap_or_default().into_iter();
        let mut widths: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        widths.sort_unstable();
        widths
    }

    /// Removes a body that nobody needs any more. One that can't be removed stays.
    pub(crate) async fn remove(&self, request: &Request) {
        if let Some(place) = place(request)
            && let Err(error) = self.shelf.remove(&place).await
        {
            self.note("remove", &error);
        }
    }

    /// Puts a finished file of the spool in place. On an error it stays the caller's.
    ///
    /// # Errors
    /// Whatever the shelf says.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        request: &Request,
        temp: &Path,
        sum: Sum,
    ) -> io::Result<()> {
        let place = place(request).ok_or(io::ErrorKind::InvalidInput)?;
        let stamp = self.shelf.commit(&place, temp, sum).await?;
        if sum.len > super::shelf::SMALL {
            bounded(&mut self.checked.lock()).insert(place, stamp);
        }
        self.stored(request, sum).await;
        Ok(())
    }

    async fn stored(&self, request: &Request, sum: Sum) {
        if let Request::Mod(module, _) = request
            && let Err(error) = self.shelf.list_versions(module, &[]).await
        {
            self.note("list", &error);
        }
        let kind = request.kind();
        self.metrics.stored.with_label_values(&[kind]).inc();
        self.metrics.stored_bytes.inc_by(sum.len);
    }

    /// Makes sure, once a run, that a large body's bytes are right, so that parts of it may be
    /// sent. False: they weren't; the body is gone from the tree. The check goes on if whoever
    /// asked for it leaves: he comes back.
    ///
    /// # Errors
    /// If the body can't be read.
    pub(crate) async fn check_parts(
        self: &Arc<Self>,
        request: &Request,
        body: &Large,
        sum: Sum,
    ) -> io::Result<bool> {
        let Some(place) = place(request) else {
            return Ok(true);
        };
        if self.was_checked(&place, &body.stamp()?) {
            return Ok(true);
        }
        let (tree, request, body) = (self.clone(), request.clone(), body.clone());
        let checked = async move { tree.check_whole(&request, &place, &body, sum).await };
        tokio::spawn(checked).await.map_err(io::Error::other)?
    }

    async fn check_whole(
        &self,
        request: &Request,
        place: &str,
        body: &Large,
        sum: Sum,
    ) -> io::Result<bool> {
        let lane = self.hash.hash_one(place) as usize % CHECKS;
        let _one_at_a_time = self.checking[lane].lock().await;
        let stamp = body.stamp()?;
        if self.was_checked(place, &stamp) {
            return Ok(true);
        }
        if body.sum(sum.len).await? == sum {
            bounded(&mut self.checked.lock()).insert(place.to_owned(), stamp);
            return Ok(true);
        }
        self.quarantine_place(request, place, &stamp).await;
        Ok(false)
    }

    fn was_checked(&self, place: &str, stamp: &Stamp) -> bool {
        self.checked.lock().get(place) == Some(stamp)
    }

    /// Remembers that a large body's bytes were found right.
    pub(crate) fn mark_checked(&self, request: &Request, body: &Large) {
        if let (Some(place), Ok(stamp)) = (place(request), body.stamp()) {
            bounded(&mut self.checked.lock()).insert(place, stamp);
        }
    }

    /// Takes a body whose bytes are wrong out of the tree.
    pub(crate) async fn quarantine(&self, request: &Request, body: &Large) {
        if let (Some(place), Ok(stamp)) = (place(request), body.stamp()) {
            self.quarantine_place(request, &place, &stamp).await;
        }
    }

    async fn quarantine_place(&self, request: &Request, place: &str, stamp: &Stamp) {
        tracing::error!(place, "stored body is corrupt, taken out of the tree");
        let kind = request.kind();
        self.metrics.corrupt.with_label_values(&[kind]).inc();
        self.checked.lock().remove(place);
        let reason = "its bytes are not those that were stored\n";
        if let Err(error) = self.shelf.quarantine(place, stamp, reason).await {
            self.note("quarantine", &error);
        }
    }

    /// Sets a body aside that nobody may have. If that can't be done, it is left alone, and is
    /// taken for absent.
    pub(crate) async fn set_aside(&self, body: Unsummed, refusal: &Refusal) {
        let (place, stamp) = (body.place, body.opened.stamp);
        let reason = String::from_utf8_lossy(&refusal.text()).into_owned();
        if let Err(error) = self.shelf.quarantine(&place, &stamp, &reason).await {
            self.note("quarantine", &error);
            bounded(&mut self.unfit.lock()).insert(place, stamp);
        }
    }

    /// Takes a stored body that turned out to be bad out of the tree.
    pub(crate) async fn expel(&self, request: &Request, refusal: &Refusal) {
        let Some(place) = place(request) else {
            return;
        };
        self.checked.lock().remove(&place);
        let reason = String::from_utf8_lossy(&refusal.text()).into_owned();
        let expelled = async {
            if let Some(opened) = self.shelf.open(&place).await? {
                let stamp = opened.stamp;
                self.shelf.quarantine(&place, &stamp, &reason).await?;
            }
            Ok(())
        };
        if let Err(error) = expelled.await {
            self.note("quarantine", &error);
        }
    }

    /// Keeps bad content that is in memory in quarantine.
    pub(crate) async fn put_aside(&self, body: Bytes, refusal: &Refusal) {
        let temp = self.spool_name();
        let written = temp.clone();
        match disk::blocking(move || fs::write(written, body)).await {
            Ok(()) => self.take_aside(&temp, refusal).await,
            Err(error) => self.note("quarantine", &error),
        }
    }

    /// Moves a file with bad content, which never was in the tree, to quarantine.
    pub(crate) async fn take_aside(&self, path: &Path, refusal: &Refusal) {
        let (quarantine, path) = (self.quarantine.clone(), path.to_owned());
        let (place, reason) = (refusal.asked.clone(), refusal.text());
        let taken = disk::blocking(move || {
            quarantine.take(&path, &place, &String::from_utf8_lossy(&reason))
        });
        if let Err(error) = taken.await {
            self.note("quarantine", &error);
        }
    }

    /// Logs and counts a failure of the store.
    pub(crate) fn note(&self, operation: &str, error: &io::Error) {
        tracing::warn!(operation, %error, dir = %self.work.dir().display(), "store failed");
        let counter = &self.metrics.store_errors;
        counter.with_label_values(&[operation]).inc();
    }
}

/// The shelf that a configuration names.
///
/// # Errors
/// If storage can't be set up.
pub(crate) fn shelf(
    config: &Store,
    work: &Work,
    budget: &Budget,
    quarantine: &Arc<Quarantine>,
) -> io::Result<Arc<dyn Shelf>> {
    Ok(match &config.s3 {
        None => {
            let (work, quarantine) = (work.clone(), quarantine.clone());
            Arc::new(Folder::new(work, config.durable, quarantine))
        }
        Some(s3) => {
            let memory = budget.parts(bucket::places(s3));
            Arc::new(Bucket::new(s3, work.clone(), memory)?)
        }
    })
}

/// The h1 that was written down of a zip.
pub(crate) async fn recorded_h1(shelf: &dyn Shelf, zip: &str) -> io::Result<Option<H1>> {
    let text = shelf.text(&ziphash_place(zip)).await?;
    Ok(text.and_then(|text| text.trim_end().parse().ok()))
}

/// Whether a body that nobody checked so far is what its name says; a zip is checked elsewhere.
async fn is_fit(request: &Request, body: &StoredBody, len: u64) -> io::Result<Result<(), String>> {
    if matches!(request, Request::Zip(..)) {
        return Ok(Ok(()));
    }
    let bytes = match body {
        StoredBody::Small(bytes) => bytes.clone(),
        StoredBody::Large(large) => large.whole(len).await?,
    };
    Ok(content::check(request, bytes).map(drop))
}

/// A remembering map that forgets everything rather than grow without end.
fn bounded<K, V>(map: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if map.len() >= MAX_CHECKED {
        map.clear();
    }
    map
}

#[cfg(test)]
mod tests;
