//! All mirrors: which there are, how large, who goes when the disk's share is used up.
//!
//! The lock of a mirror's life is held for reading by each request that uses it, for writing by whoever
//! throws it away. The lock of its fetching makes fetches one after another; a file lock beside it does the same
//! for another origin on the same folder (one that is being replaced).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use modcdn_core::digest::Sha256;
use modcdn_core::refusal::Reason;
use parking_lot::Mutex as Lock;
use tokio::sync::{Mutex, RwLock};
use tokio::time::timeout;

use super::{Fetched, Mirror, Said};
use crate::disk;
use crate::git::fault::Fault;
use crate::git::program::{Output, size_of};
use crate::git::refs::Refs;
use crate::git::remote::RemoteUrl;
use crate::git::workshop::{As, Workshop};

/// How often another process's lock is tried.
const TRIED_EVERY: Duration = Duration::from_millis(50);

/// So many packs are left as they are.
const PACKS: usize = if cfg!(test) { 3 } else { 50 };

/// How the name of a mirror that is being removed begins.
const GONE: &str = ".gone-";

/// See the module.
pub(crate) struct Shelf {
    workshop: Arc<Workshop>,
    slots: Lock<HashMap<String, Arc<Slot>>>,
    /// When old branches and tags were last forgotten.
    forgot: Lock<Instant>,
}

/// A mirror's place.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) life: Arc<RwLock<()>>,
    /// Held while the server is asked for its branches and tags.
    pub(super) refs: Mutex<Option<Said<Arc<Refs>>>>,
    /// Held while fetching.
    pub(super) fetched: Mutex<Fetched>,
    size: Lock<Size>,
    /// Its size is to be measured again.
    grew: AtomicBool,
    /// No fetch of this process has left anything behind.
    tidy: AtomicBool,
}

#[derive(Clone, Copy)]
struct Size {
    bytes: u64,
    used: SystemTime,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            bytes: 0,
            used: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Slot {
    /// A fetch begins, or ends and leaves something behind or not.
    pub(super) fn is_untidy(&self, untidy: bool) {
        self.grew.store(true, Ordering::Relaxed);
        self.tidy.store(!untidy, Ordering::Relaxed);
    }
}

impl Shelf {
    /// Finds the mirrors that are there. Slow: for a start.
    pub(crate) fn open(workshop: Arc<Workshop>) -> io::Result<Self> {
        let mut slots = HashMap::new();
        for entry in fs::read_dir(&workshop.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(GONE) {
                fs::remove_dir_all(entry.path())?;
            }
            if !is_name(&name) {
                continue;
            }
            let slot = Slot::default();
            *slot.size.lock() = measure(&entry.path());
            slots.insert(name, Arc::new(slot));
        }
        Ok(Self {
            workshop,
            slots: Lock::new(slots),
            forgot: Lock::new(Instant::now()),
        })
    }

    /// The mirror of a repository, for the time of a request. It may have nothing in it yet.
    pub(crate) async fn mirror(&self, remote: &RemoteUrl, who: As) -> Mirror {
        let name = name_of(remote, who);
        let slot = self.slots.lock().entry(name.clone()).or_default().clone();
        let held = slot.life.clone().read_owned().await;
        let used = SystemTime::now();
        slot.size.lock().used = used;
        let dir = self.workshop.dir.join(name);
        let file = dir.join("modcdn-used");
        // Only for the order in which mirrors go after the next start.
        let _ = disk::blocking(move || File::options().write(true).open(file)?.set_modified(used))
            .await;
        Mirror {
            workshop: self.workshop.clone(),
            remote: remote.clone(),
            who,
            dir,
            slot,
            _held: held,
        }
    }

    /// Throws a damaged mirror away.
    pub(crate) async fn discard(&self, remote: &RemoteUrl, who: As) {
        let name = name_of(remote, who);
        let slot = self.slots.lock().get(&name).cloned();
        if let Some(slot) = slot {
            let _alone = slot.life.write().await;
            self.remove(&name, &slot).await;
        }
    }

    /// Looks after the mirrors that grew: packs many packs into one, and makes room. Cheap where
    /// there is nothing to do.
    pub(crate) async fn tend(&self) {
        self.forget();
        if !self.workshop.take_grown() {
            return;
        }
        let slots = self.slots.lock().clone();
        for (name, slot) in &slots {
            if slot.grew.swap(false, Ordering::Relaxed) {
                self.repack(name, slot).await;
                let dir = self.workshop.dir.join(name);
                let bytes = disk::blocking(move || Ok(size_of(&dir))).await;
                slot.size.lock().bytes = bytes.unwrap_or_default();
            }
        }
        self.make_room(slots).await;
    }

    /// Throws away mirrors that nobody uses, those not used for longest first, until the rest fit.
    async fn make_room(&self, slots: HashMap<String, Arc<Slot>>) {
        let most = self.workshop.config.limits.mirrors.as_u64();
        let sized = slots.into_iter().map(|(name, slot)| {
            let size = *slot.size.lock();
            (name, slot, size)
        });
        let mut by_use: Vec<(String, Arc<Slot>, Size)> = sized.collect();
        by_use.sort_by_key(|(_, _, size)| size.used);
        let mut sum: u64 = by_use.iter().map(|(_, _, size)| size.bytes).sum();
        for (name, slot, size) in by_use {
            if sum <= most {
                break;
            }
            if size.bytes == 0 {
                continue;
            }
            if let Ok(_alone) = slot.life.try_write() {
                self.remove(&name, &slot).await;
                self.workshop.dropped("room");
                sum -= size.bytes;
            }
        }
        self.workshop.holds(sum);
    }

    /// Branches and tags that are too old to be used take no memory.
    fn forget(&self) {
        let lifetime = self.workshop.config.freshness.refs.get();
        let mut forgot = self.forgot.lock();
        if forgot.elapsed() < lifetime {
            return;
        }
        *forgot = Instant::now();
        for slot in self.slots.lock().values() {
            if let Ok(mut last) = slot.refs.try_lock()
                && last
                    .as_ref()
                    .is_some_and(|last| last.began.elapsed() > lifetime)
            {
                *last = None;
            }
        }
    }

    /// Each fetch adds a pack and a name, and git looks through all of them.
    async fn repack(&self, name: &str, slot: &Slot) {
        let dir = self.workshop.dir.join(name);
        let (Ok(_held), Ok(_fetching)) = (slot.life.try_read(), slot.fetched.try_lock()) else {
            slot.grew.store(true, Ordering::Relaxed);
            return;
        };
        if packs(&dir.join("objects/pack")) <= PACKS {
            return;
        }
        for words in [
            &["repack", "-a", "-d", "-k", "-q"][..],
            &["pack-refs", "--all"][..],
        ] {
            let arguments = words.iter().map(OsString::from).collect();
            let limit = self.workshop.config.timeouts.fetch.get();
            let ran = self.workshop.maintain(&dir, arguments, limit).await;
            if let Err(fault) = ran {
                tracing::warn!(name, ?fault, "a mirror can't be packed");
                return;
            }
        }
    }

    /// Its life's lock must be held for writing.
    async fn remove(&self, name: &str, slot: &Slot) {
        let dir = self.workshop.dir.join(name);
        let aside = self.workshop.dir.join(format!("{GONE}{name}"));
        let removed = disk::blocking(move || {
            // Renamed first: half a mirror would be a damaged one.
            fs::rename(&dir, &aside)?;
            fs::remove_dir_all(&aside)
        });
        if let Err(error) = removed.await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(name, %error, "can't remove a mirror of a repository");
        }
        *slot.fetched.lock().await = Fetched::default();
        slot.size.lock().bytes = 0;
    }
}

/// Makes the mirror if there is none, and takes the lock that other processes respect; it is free
/// again when the file is dropped. The lock of its fetching must be held.
pub(super) async fn make(mirror: &Mirror, sha256: bool) -> Result<File, Fault> {
    let lock = lock(mirror).await?;
    if mirror.is_made() {
        if !mirror.slot.tidy.load(Ordering::Relaxed) {
            tidy(mirror.dir.clone()).await;
        }
        return Ok(lock);
    }
    let fresh = mirror.dir.with_extension("new");
    let prepared = fresh.clone();
    let made = disk::blocking(move || remove_if_there(&prepared)).await;
    made.map_err(|error| disk_fault(&error))?;
    let format = if sha256 { "sha256" } else { "sha1" };
    let format = format!("--object-format={format}");
    git(mirror, &fresh, &["init", "-q", "--bare", &format]).await?;
    let add = ["remote", "add", "origin", "--", mirror.remote.as_str()];
    git(mirror, &fresh, &add).await?;
    let (fresh, dir) = (fresh, mirror.dir.clone());
    let placed = disk::blocking(move || {
        fs::create_dir_all(fresh.join("info"))?;
        fs::write(
            fresh.join("info/attributes"),
            "* -export-subst -export-ignore\n",
        )?;
        fs::write(fresh.join("modcdn-used"), "")?;
        remove_if_there(&dir)?;
        fs::rename(&fresh, &dir)
    });
    placed.await.map_err(|error| disk_fault(&error))?;
    Ok(lock)
}

async fn git(mirror: &Mirror, dir: &Path, arguments: &[&str]) -> Result<(), Fault> {
    let arguments = arguments.iter().map(OsString::from).collect();
    let printed = Output::Memory(super::PRINTED);
    let workshop = &mirror.workshop;
    let ended = workshop.local(dir, arguments, bytes::Bytes::new(), printed);
    let ended = ended.await?;
    if ended.success {
        return Ok(());
    }
    let said = crate::git::diagnose::told(&ended.complaint);
    Err(Fault::failed(
        Reason::Store,
        format!("can't make a mirror:\n{said}"),
    ))
}

async fn lock(mirror: &Mirror) -> Result<File, Fault> {
    let path = mirror.dir.with_extension("lock");
    let opened = disk::blocking(move || File::create(path)).await;
    let file = opened.map_err(|error| disk_fault(&error))?;
    let limit = mirror.workshop.config.timeouts.fetch.get();
    let locked = async {
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TRIED_EVERY).await,
                Err(TryLockError::Error(error)) => return Err(disk_fault(&error)),
                Ok(()) => return Ok(()),
            }
        }
    };
    match timeout(limit, locked).await {
        Ok(locked) => locked.map(|()| file),
        Err(_) => Err(Fault::failed(
            Reason::UpstreamTimeout,
            "another origin has been fetching this repository for too long",
        )),
    }
}

/// Makes an empty file.
pub(super) async fn mark(file: &Path) -> Result<(), Fault> {
    let file = file.to_owned();
    let made = disk::blocking(move || File::create(file).map(drop)).await;
    made.map_err(|error| disk_fault(&error))
}

/// Removes what a run that was cut off left behind. The lock of its fetching must be held.
pub(super) async fn tidy(dir: PathBuf) {
    let _ = disk::blocking(move || {
        tidy_now(&dir);
        Ok(())
    })
    .await;
}

fn tidy_now(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tidy_now(&entry.path());
        } else if name.ends_with(".lock") || name.starts_with("tmp_") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn packs(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_pack = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|e| e == "pack");
    entries.filter(is_pack).count()
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn measure(dir: &Path) -> Size {
    let used = fs::metadata(dir.join("modcdn-used")).and_then(|found| found.modified());
    Size {
        bytes: size_of(dir),
        used: used.unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

/// The same repository is another one for those who show credentials.
fn name_of(remote: &RemoteUrl, who: As) -> String {
    let who = match who {
        As::Anybody => "anybody",
        As::Itself => "itself",
    };
    Sha256::of(format!("{who} {}", remote.as_str()).as_bytes()).to_string()
}

fn is_name(name: &str) -> bool {
    name.len() == 64 && crate::git::refs::is_hex(name)
}

fn disk_fault(error: &io::Error) -> Fault {
    Fault::failed(
        Reason::Store,
        format!("the folder of Git mirrors can't be written to: {error}"),
    )
}
