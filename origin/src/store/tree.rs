//! The tree of bodies that never change.
//!
//! A body's digest stands beside it ([`Sum`]) and is checked against its bytes: of a small body
//! each time it is read, of a large one while it is sent whole (its last bytes wait for the
//! result), and once a run before a part of it is sent. A body without a sum, as in a tree that the go
//! command made, is taken over at its first use: read through once, its sum written. So is a zip
//! whose sum has no h1: nobody has proven it yet.
//!
//! Commit order: sum, then body (synced, renamed, folder synced). A sum without a body means
//! nothing; a torn sum beside a body is computed again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use modcdn_core::durable::{self, Sync};
use modcdn_core::goproxy::{ModulePath, Request, SumDbCall, SumDbName, Version};
use modcdn_core::h1::H1;
use modcdn_core::refusal::Refusal;
use parking_lot::Mutex;

use super::budget::{Budget, Share};
use super::quarantine::Quarantine;
use super::sum::{Sum, beside, ziphash_beside};
use crate::config::{Archive, Limits, Store};
use crate::metrics::Metrics;
use crate::{content, disk};

/// Bodies up to this size are read at once and checked each time.
pub(crate) const SMALL: u64 = 64 << 10;

/// How many checked files are remembered, about 200 bytes each.
const MAX_CHECKED: usize = 100_000;

/// See the module.
pub(crate) struct Tree {
    dir: PathBuf,
    sync: Sync,
    limits: Limits,
    budget: Budget,
    metrics: Metrics,
    /// Large files whose bytes were found right in this run, as they were then.
    checked: Mutex<HashMap<PathBuf, Stamp>>,
    /// Sums that could not be written down: a tree we may only read.
    unwritten: Mutex<HashMap<PathBuf, (Stamp, Sum)>>,
    /// Bodies that are bad and could not be set aside.
    unfit: Mutex<HashMap<PathBuf, Stamp>>,
    quarantine: Quarantine,
    /// One part-check at a time; those who wait find it done.
    checking: tokio::sync::Mutex<()>,
    /// Held while a `list` is rewritten.
    lists: Mutex<()>,
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
    Large(Arc<File>),
}

/// What a look into the tree finds.
#[derive(Debug)]
pub(crate) enum Look {
    Found(Stored),
    /// A body whose digest isn't known yet: [`Tree::adopt`] makes it a stored one.
    Unsummed(Unsummed),
    Absent,
}

/// A body whose digest isn't known yet.
#[derive(Debug)]
pub(crate) struct Unsummed {
    pub(crate) file: Arc<File>,
    path: PathBuf,
    stamp: Stamp,
}

impl Unsummed {
    pub(crate) fn len(&self) -> u64 {
        self.stamp.len
    }
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            len: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Where a body lies below the tree's root; `None` for what may change.
fn place(request: &Request) -> Option<String> {
    let stored = match request {
        Request::Info(..) | Request::Mod(..) | Request::Zip(..) => true,
        Request::SumDb(sumdb) => matches!(sumdb.call, SumDbCall::Tile(_) | SumDbCall::Lookup(..)),
        Request::List(_) | Request::Latest(_) | Request::Query(..) => false,
    };
    stored.then(|| request.path().trim_start_matches('/').to_owned())
}

/// Whether answers to this request are kept in the tree.
pub(crate) fn keeps(request: &Request) -> bool {
    place(request).is_some()
}

impl Tree {
    /// Opens a tree, makes it if need be, and empties its spool. `budget` bounds that spool.
    ///
    /// # Errors
    /// If the folder can't be written to.
    pub(crate) fn open(
        config: &Store,
        limits: &Limits,
        archive: &Archive,
        budget: Budget,
        metrics: &Metrics,
    ) -> io::Result<Arc<Self>> {
        let tree = Self {
            dir: config.dir.clone(),
            sync: if config.durable {
                Sync::Durable
            } else {
                Sync::Relaxed
            },
            limits: limits.clone(),
            budget,
            metrics: metrics.clone(),
            checked: Mutex::default(),
            unwritten: Mutex::default(),
            unfit: Mutex::default(),
            quarantine: Quarantine::new(
                config.dir.join(".quarantine"),
                archive.quarantine_files,
                archive.quarantine.as_u64(),
            ),
            checking: tokio::sync::Mutex::default(),
            lists: Mutex::default(),
        };
        let spool = tree.dir.join(".spool");
        fs::create_dir_all(&spool)?;
        for entry in fs::read_dir(&spool)? {
            fs::remove_file(entry?.path())?;
        }
        tree.probe()?;
        Ok(Arc::new(tree))
    }

    /// Tries to write. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If that can't be done now.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let probe = self.spool_name();
        fs::write(&probe, b"probe")?;
        fs::remove_file(probe)
    }

    /// The folder of answers that may change.
    pub(crate) fn mutable_dir(&self) -> PathBuf {
        self.dir.join(super::mutable::DIR)
    }

    /// Where our head of a checksum database is kept.
    pub(crate) fn head_file(&self, database: &SumDbName) -> PathBuf {
        let folder = self.dir.join(".sumdb").join(database.as_str());
        folder.join("head")
    }

    /// A new name in the spool.
    pub(crate) fn spool_name(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        self.dir
            .join(".spool")
            .join(format!("{}-{n}", std::process::id()))
    }

    /// Room for a body being fetched; `None` if the spool is full.
    pub(crate) fn room(&self, bytes: u64) -> Option<Share> {
        self.budget.take(bytes)
    }

    /// Looks for a body. Never fails: what can't be read isn't there.
    pub(crate) async fn look(self: &Arc<Self>, request: &Request) -> Look {
        let (tree, request) = (self.clone(), request.clone());
        let looked = disk::blocking(move || tree.look_now(&request)).await;
        looked.unwrap_or_else(|error| {
            self.note("read", &error);
            Look::Absent
        })
    }

    fn look_now(&self, request: &Request) -> io::Result<Look> {
        let Some(path) = place(request).map(|place| self.dir.join(place)) else {
            return Ok(Look::Absent);
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if absent(&error) => return Ok(Look::Absent),
            Err(error) => return Err(error),
        };
        let stamp = Stamp::of(&file)?;
        let known = Sum::read(&path).or_else(|| self.unwritten_sum(&path, stamp));
        let is_proven = |sum: &Sum| sum.h1.is_some() || !matches!(request, Request::Zip(..));
        let Some(sum) = known.filter(is_proven) else {
            if self.unfit.lock().get(&path) == Some(&stamp) {
                return Ok(Look::Absent);
            }
            let file = Arc::new(file);
            return Ok(Look::Unsummed(Unsummed { file, path, stamp }));
        };
        if sum.len != stamp.len {
            self.quarantine_now(request, &path);
            return Ok(Look::Absent);
        }
        if sum.len > SMALL {
            return Ok(Look::Found(Stored {
                sum,
                body: StoredBody::Large(Arc::new(file)),
            }));
        }
        let bytes = read_whole(&file, sum.len)?;
        if Sum::of(&bytes) != sum {
            self.quarantine_now(request, &path);
            return Ok(Look::Absent);
        }
        Ok(Look::Found(Stored {
            sum,
            body: StoredBody::Small(bytes),
        }))
    }

    /// Takes over a body that has no sum; `None` if it isn't fit to be served. A zip must be proven
    /// already.
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        request: &Request,
        body: Unsummed,
        h1: Option<H1>,
    ) -> Option<Stored> {
        let (tree, asked) = (self.clone(), request.clone());
        let adopted = disk::blocking(move || tree.adopt_now(&asked, body, h1)).await;
        adopted.unwrap_or_else(|error| {
            self.note("adopt", &error);
            None
        })
    }

    fn adopt_now(
        &self,
        request: &Request,
        body: Unsummed,
        h1: Option<H1>,
    ) -> io::Result<Option<Stored>> {
        let Unsummed { file, path, stamp } = body;
        if h1.is_some_and(|h1| recorded_h1(&path).is_some_and(|recorded| recorded != h1)) {
            self.quarantine_now(request, &path);
            return Ok(None);
        }
        if stamp.len == 0 || stamp.len > self.limits.of(request) {
            return Ok(None);
        }
        if !matches!(request, Request::Zip(..)) {
            let bytes = read_whole(&file, stamp.len)?;
            if let Err(fault) = content::check(request, bytes) {
                tracing::warn!(path = %path.display(), fault, "not taken over from the tree");
                return Ok(None);
            }
        }
        let sum = Sum {
            h1,
            ..Sum::of_file(&file, stamp.len)?
        };
        if let Err(error) = self.write_sum(&path, sum) {
            self.note("sum", &error);
            bounded(&mut self.unwritten.lock()).insert(path.clone(), (stamp, sum));
        }
        bounded(&mut self.checked.lock()).insert(path, stamp);
        let body = if sum.len > SMALL {
            StoredBody::Large(file)
        } else {
            StoredBody::Small(read_whole(&file, sum.len)?)
        };
        Ok(Some(Stored { sum, body }))
    }

    fn unwritten_sum(&self, path: &Path, stamp: Stamp) -> Option<Sum> {
        let unwritten = self.unwritten.lock();
        let (then, sum) = unwritten.get(path)?;
        (*then == stamp).then_some(*sum)
    }

    /// Stores a small body.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) async fn put(self: &Arc<Self>, request: &Request, body: Bytes) -> io::Result<()> {
        let (tree, request) = (self.clone(), request.clone());
        disk::blocking(move || {
            let temp = tree.spool_name();
            let sum = Sum::of(&body);
            File::create_new(&temp)?.write_all(&body)?;
            tree.commit_now(&request, &temp, sum)
                .inspect_err(|_| drop(fs::remove_file(&temp)))
        })
        .await
    }

    /// Puts a finished file of the spool in place. On an error it stays the caller's.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        request: &Request,
        temp: &Path,
        sum: Sum,
    ) -> io::Result<()> {
        let (tree, request, temp) = (self.clone(), request.clone(), temp.to_owned());
        disk::blocking(move || tree.commit_now(&request, &temp, sum)).await
    }

    fn commit_now(&self, request: &Request, temp: &Path, sum: Sum) -> io::Result<()> {
        let place = place(request).ok_or(ErrorKind::InvalidInput)?;
        let path = self.dir.join(place);
        self.write_sum(&path, sum)?;
        durable::publish(temp, &path, self.sync)?;
        if sum.len > SMALL {
            let stamp = Stamp::of(&File::open(&path)?)?;
            bounded(&mut self.checked.lock()).insert(path, stamp);
        }
        if let Request::Mod(module, _) = request
            && let Err(error) = self.rewrite_list(module)
        {
            self.note("list", &error);
        }
        let kind = request.kind();
        self.metrics.stored.with_label_values(&[kind]).inc();
        self.metrics.stored_bytes.inc_by(sum.len);
        Ok(())
    }

    fn write_sum(&self, body: &Path, sum: Sum) -> io::Result<()> {
        if let Some(h1) = sum.h1 {
            self.publish_text(&h1.to_string(), &ziphash_beside(body))?;
        }
        self.publish_text(&sum.text(), &beside(body))
    }

    fn publish_text(&self, text: &str, path: &Path) -> io::Result<()> {
        let temp = self.spool_name();
        fs::write(&temp, text)?;
        durable::publish(&temp, path, Sync::Relaxed).inspect_err(|_| drop(fs::remove_file(&temp)))
    }

    /// Rewrites a module's `list` as the go command does: the versions that have a `.mod`.
    fn rewrite_list(&self, module: &ModulePath) -> io::Result<()> {
        let Some(list) = Request::List(module.clone()).tree_path() else {
            return Ok(());
        };
        let list = self.dir.join(list);
        let _one_at_a_time = self.lists.lock();
        let mut versions: Vec<Version> = Vec::new();
        for entry in fs::read_dir(list.parent().unwrap_or(&self.dir))? {
            let name = entry?.file_name();
            let escaped = name.to_str().and_then(|name| name.strip_suffix(".mod"));
            versions.extend(escaped.and_then(|escaped| Version::from_escaped(escaped).ok()));
        }
        versions.sort();
        let text: String = versions.iter().map(|v| format!("{v}\n")).collect();
        if fs::read(&list).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        self.publish_text(&text, &list)
    }

    /// Makes sure, once a run, that a large body's bytes are right, so that parts of it may be
    /// sent. False: they weren't; the body is gone from the tree.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) async fn check_parts(
        self: &Arc<Self>,
        request: &Request,
        file: &Arc<File>,
        sum: Sum,
    ) -> io::Result<bool> {
        let Some(path) = place(request).map(|place| self.dir.join(place)) else {
            return Ok(true);
        };
        let stamp = Stamp::of(file)?;
        if self.was_checked(&path, stamp) {
            return Ok(true);
        }
        let _one_at_a_time = self.checking.lock().await;
        if self.was_checked(&path, stamp) {
            return Ok(true);
        }
        let opened = file.clone();
        let found = disk::blocking(move || Sum::of_file(&opened, sum.len)).await?;
        if found == sum {
            self.mark_checked(request, file);
            return Ok(true);
        }
        self.quarantine(request).await;
        Ok(false)
    }

    fn was_checked(&self, path: &Path, stamp: Stamp) -> bool {
        self.checked.lock().get(path) == Some(&stamp)
    }

    /// Remembers that a large body's bytes were found right.
    pub(crate) fn mark_checked(&self, request: &Request, file: &File) {
        if let (Some(place), Ok(stamp)) = (place(request), Stamp::of(file)) {
            bounded(&mut self.checked.lock()).insert(self.dir.join(place), stamp);
        }
    }

    /// Takes a body whose bytes are wrong out of the tree.
    pub(crate) async fn quarantine(self: &Arc<Self>, request: &Request) {
        let (tree, request) = (self.clone(), request.clone());
        let moved = disk::blocking(move || {
            if let Some(place) = place(&request) {
                tree.quarantine_now(&request, &tree.dir.join(place));
            }
            Ok(())
        });
        if let Err(error) = moved.await {
            self.note("quarantine", &error);
        }
    }

    fn quarantine_now(&self, request: &Request, path: &Path) {
        let kind = request.kind();
        tracing::error!(path = %path.display(), "stored body is corrupt, taken out of the tree");
        self.metrics.corrupt.with_label_values(&[kind]).inc();
        self.checked.lock().remove(path);
        let reason = "its bytes are not those that were stored\n";
        let moved = self.quarantine.take(path, &request.path(), reason);
        let removed = moved.and_then(|()| fs::remove_file(beside(path)));
        if let Err(error) =
            removed.or_else(|error| if absent(&error) { Ok(()) } else { Err(error) })
        {
            self.note("quarantine", &error);
        }
    }

    /// Sets a body aside that nobody may have. If that can't be done, it is left alone, and is
    /// taken for absent.
    pub(crate) async fn set_aside(self: &Arc<Self>, body: Unsummed, refusal: &Refusal) {
        let (path, stamp) = (body.path, body.stamp);
        if !self.take_aside(&path, refusal).await {
            bounded(&mut self.unfit.lock()).insert(path, stamp);
        }
    }

    /// Takes a stored body that turned out to be bad out of the tree.
    pub(crate) async fn expel(self: &Arc<Self>, request: &Request, refusal: &Refusal) {
        let Some(path) = place(request).map(|place| self.dir.join(place)) else {
            return;
        };
        self.checked.lock().remove(&path);
        if self.take_aside(&path, refusal).await {
            let removed = disk::blocking(move || fs::remove_file(beside(&path))).await;
            if let Err(error) = removed {
                self.note("quarantine", &error);
            }
        }
    }

    /// Keeps bad content that is in memory in quarantine.
    pub(crate) async fn put_aside(self: &Arc<Self>, body: Bytes, refusal: &Refusal) {
        let temp = self.spool_name();
        let written = temp.clone();
        match disk::blocking(move || fs::write(written, body)).await {
            Ok(()) => drop(self.take_aside(&temp, refusal).await),
            Err(error) => self.note("quarantine", &error),
        }
    }

    /// Moves a file with bad content to quarantine. False: it is where it was.
    pub(crate) async fn take_aside(self: &Arc<Self>, path: &Path, refusal: &Refusal) -> bool {
        let (tree, path, place) = (self.clone(), path.to_owned(), refusal.asked.clone());
        let reason = String::from_utf8_lossy(&refusal.text()).into_owned();
        let taken = disk::blocking(move || tree.quarantine.take(&path, &place, &reason)).await;
        taken
            .inspect_err(|error| self.note("quarantine", error))
            .is_ok()
    }

    /// Logs and counts a failure of the disk.
    pub(crate) fn note(&self, operation: &str, error: &io::Error) {
        tracing::warn!(operation, %error, dir = %self.dir.display(), "store failed");
        let counter = &self.metrics.store_errors;
        counter.with_label_values(&[operation]).inc();
    }
}

/// The h1 that the go command wrote down of a zip.
fn recorded_h1(zip: &Path) -> Option<H1> {
    fs::read_to_string(ziphash_beside(zip))
        .ok()?
        .trim_end()
        .parse()
        .ok()
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

/// A remembering map that forgets everything rather than grow without end.
fn bounded<K, V>(map: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if map.len() >= MAX_CHECKED {
        map.clear();
    }
    map
}

#[cfg(test)]
mod tests {
    use modcdn_core::refusal::Reason;
    use prometheus::Registry;

    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        tree: Arc<Tree>,
    }

    impl Case {
        async fn adopt(&self, path: &str, body: Unsummed, h1: Option<H1>) -> Option<Stored> {
            self.tree.adopt(&request(path), body, h1).await
        }
    }

    fn open(dir: &Path) -> Arc<Tree> {
        let store = Store {
            dir: dir.to_owned(),
            durable: false,
        };
        let (limits, metrics) = (Limits::default(), Metrics::new(&Registry::new()));
        let budget = Budget::of(&limits, &metrics);
        Tree::open(&store, &limits, &Archive::default(), budget, &metrics).unwrap()
    }

    fn case() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path());
        Case { dir, tree }
    }

    fn request(path: &str) -> Request {
        Request::parse(path).unwrap()
    }

    fn found(look: Look) -> Stored {
        match look {
            Look::Found(stored) => stored,
            other => panic!("{other:?}"),
        }
    }

    fn unsummed(look: Look) -> Unsummed {
        match look {
            Look::Unsummed(body) => body,
            other => panic!("{other:?}"),
        }
    }

    const MOD: &str = "/a.example/!m/@v/v1.0.0.mod";
    const ZIP: &str = "/a.example/!m/@v/v1.0.0.zip";

    #[tokio::test]
    async fn a_stored_body_is_there_after_a_restart() {
        let case = case();
        let body = Bytes::from_static(b"module a.example/M\n");
        case.tree.put(&request(MOD), body.clone()).await.unwrap();
        let stored = found(open(case.dir.path()).look(&request(MOD)).await);
        assert_eq!(stored.sum, Sum::of(&body));
        assert!(matches!(stored.body, StoredBody::Small(bytes) if bytes == body));
        assert_eq!(
            fs::read(case.dir.path().join(&MOD[1..])).unwrap(),
            body,
            "the tree is a GOPROXY tree"
        );
    }

    #[tokio::test]
    async fn the_list_names_what_has_a_mod() {
        let case = case();
        for version in ["v1.10.0", "v1.2.0", "v1.0.0-!r!c"] {
            let path = format!("/a.example/m/@v/{version}.mod");
            let body = Bytes::from_static(b"module a.example/m\n");
            case.tree.put(&request(&path), body).await.unwrap();
        }
        let list = fs::read_to_string(case.dir.path().join("a.example/m/@v/list")).unwrap();
        assert_eq!(list, "v1.0.0-RC\nv1.2.0\nv1.10.0\n");
    }

    #[tokio::test]
    async fn a_flipped_byte_in_a_small_body_makes_it_absent() {
        let case = case();
        let body = Bytes::from_static(b"module a.example/M\n");
        case.tree.put(&request(MOD), body).await.unwrap();
        fs::write(case.dir.path().join(&MOD[1..]), b"nodule a.example/M\n").unwrap();
        assert!(matches!(case.tree.look(&request(MOD)).await, Look::Absent));
        assert!(!case.dir.path().join(&MOD[1..]).exists());
        let kept = fs::read_dir(case.dir.path().join(".quarantine")).unwrap();
        assert_eq!(kept.count(), 2, "the body and its reason");
    }

    #[tokio::test]
    async fn a_tree_of_the_go_command_is_taken_over() {
        let case = case();
        let path = case.dir.path().join(&ZIP[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let body = vec![1; 100_000];
        fs::write(&path, &body).unwrap();
        let h1 = H1::of_mod(b"");
        let unsummed = unsummed(case.tree.look(&request(ZIP)).await);
        let adopted = case.adopt(ZIP, unsummed, Some(h1)).await.unwrap();
        assert_eq!(adopted.sum, Sum::of(&body));
        let stored = found(open(case.dir.path()).look(&request(ZIP)).await);
        assert_eq!((stored.sum, stored.sum.h1), (adopted.sum, Some(h1)));
        let ziphash = path.with_extension("ziphash");
        assert_eq!(fs::read_to_string(ziphash).unwrap(), h1.to_string());
    }

    #[tokio::test]
    async fn a_zip_without_h1_was_never_proven() {
        let case = case();
        let temp = case.tree.spool_name();
        fs::write(&temp, b"a zip").unwrap();
        let sum = Sum::of(b"a zip");
        case.tree.commit(&request(ZIP), &temp, sum).await.unwrap();
        unsummed(case.tree.look(&request(ZIP)).await);
    }

    #[tokio::test]
    async fn a_zip_that_is_not_the_one_the_go_command_recorded_is_not_taken_over() {
        let case = case();
        let path = case.dir.path().join(&ZIP[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"a zip").unwrap();
        let recorded = H1::of_mod(b"another").to_string();
        fs::write(path.with_extension("ziphash"), recorded).unwrap();
        let body = unsummed(case.tree.look(&request(ZIP)).await);
        let adopted = case.adopt(ZIP, body, Some(H1::of_mod(b""))).await;
        assert!(adopted.is_none() && !path.exists());
    }

    #[tokio::test]
    async fn what_was_set_aside_is_absent() {
        let case = case();
        let path = case.dir.path().join(&ZIP[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"no zip").unwrap();
        let refusal = Refusal::new(Reason::ZipRules, "m@v.zip", "no zip");
        let body = unsummed(case.tree.look(&request(ZIP)).await);
        case.tree.set_aside(body, &refusal).await;
        assert!(matches!(case.tree.look(&request(ZIP)).await, Look::Absent) && !path.exists());
        // Where nothing can be moved, it stays, and is absent all the same.
        fs::remove_dir_all(case.dir.path().join(".quarantine")).unwrap();
        fs::write(case.dir.path().join(".quarantine"), b"in the way").unwrap();
        fs::write(&path, b"no zip").unwrap();
        let body = unsummed(case.tree.look(&request(ZIP)).await);
        case.tree.set_aside(body, &refusal).await;
        assert!(matches!(case.tree.look(&request(ZIP)).await, Look::Absent) && path.exists());
        fs::write(&path, b"another").unwrap();
        unsummed(case.tree.look(&request(ZIP)).await);
    }

    #[tokio::test]
    async fn an_unfit_file_is_not_taken_over() {
        let case = case();
        let info = "/a.example/!m/@v/v1.0.0.info";
        let path = case.dir.path().join(&info[1..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for unfit in ["", r#"{"Version":"v1.0.1"}"#] {
            fs::write(&path, unfit).unwrap();
            let body = unsummed(case.tree.look(&request(info)).await);
            assert!(case.adopt(info, body, None).await.is_none());
        }
    }

    #[tokio::test]
    async fn parts_of_a_corrupt_body_are_not_sent() {
        let case = case();
        let temp = case.tree.spool_name();
        let mut body = vec![1; 100_000];
        fs::write(&temp, &body).unwrap();
        let h1 = Some(H1::of_mod(b""));
        let sum = Sum {
            h1,
            ..Sum::of(&body)
        };
        case.tree.commit(&request(ZIP), &temp, sum).await.unwrap();
        body[50_000] = 2;
        fs::write(case.dir.path().join(&ZIP[1..]), &body).unwrap();
        let tree = open(case.dir.path());
        let stored = found(tree.look(&request(ZIP)).await);
        let StoredBody::Large(file) = stored.body else {
            panic!("small")
        };
        let right = tree.check_parts(&request(ZIP), &file, sum).await.unwrap();
        assert!(!right && matches!(tree.look(&request(ZIP)).await, Look::Absent));
    }

    #[test]
    fn the_spool_is_emptied_at_start() {
        let case = case();
        let left = case.tree.spool_name();
        fs::write(&left, b"half").unwrap();
        open(case.dir.path());
        assert!(!left.exists());
    }
}
