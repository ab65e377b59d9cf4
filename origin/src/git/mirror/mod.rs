//! A repository, as far as it was needed so far: a bare repository of our own that is fetched into.
//!
//! Layout of a mirror's folder (its name is a digest of the repository's address and of who asked):
//!
//! | in it | what it is |
//! |---|---|
//! | `refs/modcdn/COMMIT` | a commit that was fetched by itself, without its history |
//! | `refs/heads/`, `refs/tags/` | all branches and tags, once history was needed |
//! | `modcdn-whole` | is there once all history was fetched: from then on all of it is kept up to date |
//! | `modcdn-used` | touched when the mirror is used |
//! | `info/attributes` | no `export-ignore`, no `export-subst` |
//!
//! As the go command does, a commit is fetched alone at first; its history only when a pseudo-version
//! needs the tags before it. Only what branches and tags lead to is ever fetched, so that a commit
//! of somebody's pull request can't pass for one of the repository's.
//!
//! Failure rule: nothing here is worth more than fetching it again. What is cut off leaves the mirror
//! as it was; one that git finds damaged is thrown away and made anew, once per request. What a
//! mirror lacks is never taken for what the repository lacks: before anything is said to be
//! absent, the folder that would have it was read.

mod objects;
mod shelf;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::Stamp;
use modcdn_core::refusal::Reason;
use tokio::sync::{OwnedRwLockReadGuard, SemaphorePermit};

use self::objects::Resolved;
pub(crate) use self::shelf::Shelf;
use self::shelf::Slot;
use super::fault::Fault;
use super::program::Output;
use super::refs::{Commit, Refs};
use super::remote::RemoteUrl;
use super::workshop::{As, Talk, Workshop};
use crate::archive;
use crate::disk;

/// How many bytes of answers git may print that aren't a file's content.
const PRINTED: u64 = 64 << 20;

/// A mirror, for the time of one request: it stays as long as this lives.
pub(crate) struct Mirror {
    workshop: Arc<Workshop>,
    remote: RemoteUrl,
    who: As,
    dir: PathBuf,
    slot: Arc<Slot>,
    /// Whoever throws the mirror away waits for this.
    _held: OwnedRwLockReadGuard<()>,
}

/// What a conversation brought, good for all who wanted one no later than it began.
struct Said<T> {
    began: Instant,
    said: Result<T, Fault>,
}

/// What fetches brought so far.
#[derive(Default)]
struct Fetched {
    /// The digest of the branches and tags all of whose history is here.
    whole: Option<Sha256>,
    /// The last one, if it failed.
    failed: Option<(Instant, Fault)>,
}

impl Mirror {
    pub(crate) fn remote(&self) -> &RemoteUrl {
        &self.remote
    }

    /// The repository's branches and tags, asked for no earlier than `since`. Many who ask at once
    /// are one conversation.
    pub(crate) async fn refs(&self, since: Instant) -> Result<Arc<Refs>, Fault> {
        let wanted = Instant::now();
        let mut last = self.slot.refs.lock().await;
        if let Some(Said { began, said }) = &*last {
            // A failure is shared by those who waited for it, not by those who come later.
            let enough = if said.is_ok() { since } else { wanted };
            if *began >= enough {
                return said.clone();
            }
        }
        let began = Instant::now();
        let said = self.ask_refs().await;
        *last = Some(Said {
            began,
            said: said.clone(),
        });
        said
    }

    async fn ask_refs(&self) -> Result<Arc<Refs>, Fault> {
        let talk = Talk {
            remote: &self.remote,
            who: self.who,
            repository: None,
            limit: self.workshop.config.timeouts.refs.get(),
            printed: self.workshop.config.limits.refs.as_u64(),
        };
        let arguments = ["ls-remote", "-q", "--", self.remote.as_str()];
        let printed = self.workshop.talk(talk, &arguments).await?;
        Ok(Arc::new(Refs::parse(&String::from_utf8_lossy(&printed))))
    }

    /// The time of a commit that `refs` lead to; fetches it if need be. `None` if the object is no
    /// commit.
    pub(crate) async fn time(&self, refs: &Refs, commit: &Commit) -> Result<Option<Stamp>, Fault> {
        if let Some(time) = self.known_time(commit).await? {
            return Ok(time);
        }
        self.fetch(refs, commit).await?;
        match self.known_time(commit).await? {
            Some(time) => Ok(time),
            None => Err(Fault::Moved(format!(
                "{}: {commit} was not there any more when it was fetched",
                self.remote
            ))),
        }
    }

    /// The inner `None` says that it is no commit, the outer that it isn't here.
    async fn known_time(&self, commit: &Commit) -> Result<Option<Option<Stamp>>, Fault> {
        if !self.is_made() {
            return Ok(None);
        }
        objects::time(self, commit).await
    }

    /// The commit whose name begins so; fetches the whole history if need be. `None` if there is none, or
    /// more than one.
    pub(crate) async fn find(&self, refs: &Refs, digits: &str) -> Result<Option<Commit>, Fault> {
        if self.is_made()
            && let Resolved::One(commit) = objects::resolve(self, digits).await?
        {
            return Ok(Some(commit));
        }
        self.history(refs).await?;
        match objects::resolve(self, digits).await? {
            Resolved::One(commit) => Ok(Some(commit)),
            Resolved::None | Resolved::Many => Ok(None),
        }
    }

    /// The content of some files of a commit that is here; `None` for each that the commit lacks.
    pub(crate) async fn files(
        &self,
        commit: &Commit,
        paths: &[&str],
        limit: u64,
    ) -> Result<Vec<Option<Bytes>>, Fault> {
        objects::files(self, commit, paths, limit).await
    }

    /// The tags whose commits are in this one's history (or are it).
    pub(crate) async fn tags_before(
        &self,
        refs: &Refs,
        commit: &Commit,
    ) -> Result<Vec<String>, Fault> {
        self.history(refs).await?;
        objects::tags_before(self, commit).await
    }

    /// Whether one commit is in the other's history (or is it).
    pub(crate) async fn descends(
        &self,
        refs: &Refs,
        commit: &Commit,
        from: &Commit,
    ) -> Result<bool, Fault> {
        self.history(refs).await?;
        objects::descends(self, commit, from).await
    }

    /// Writes the files of a folder of a commit into a file, as a tar.
    pub(crate) async fn archive(
        &self,
        commit: &Commit,
        folder: &str,
        into: Output,
    ) -> Result<(), Fault> {
        objects::archive(self, commit, folder, into).await
    }

    /// A place among those who make zips.
    pub(crate) async fn zip_place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.workshop.zip_place().await
    }

    /// What a zip may be.
    pub(crate) fn archives(&self) -> &archive::Limits {
        &self.workshop.archives
    }

    /// A file without a name, gone when closed.
    pub(crate) async fn scratch(&self) -> io::Result<File> {
        let dir = self.workshop.dir.clone();
        disk::blocking(move || tempfile::tempfile_in(dir)).await
    }

    fn is_made(&self) -> bool {
        self.dir.join("objects").is_dir()
    }

    /// Fetches one commit; all of them where history was fetched before, or where the server can't
    /// give one alone.
    async fn fetch(&self, refs: &Refs, commit: &Commit) -> Result<(), Fault> {
        let wanted = Instant::now();
        let mut fetched = self.slot.fetched.lock().await;
        fetched.fails_for(wanted)?;
        if self.is_made() && objects::time(self, commit).await?.is_some() {
            return Ok(());
        }
        let _alone = shelf::make(self, commit.is_sha256()).await?;
        let name = refs.name_of(commit);
        if let Some(name) = name.filter(|_| !self.whole_file().exists()) {
            let spec = format!("+{name}:refs/modcdn/{commit}");
            let alone = [
                "fetch",
                "-q",
                "-f",
                "--no-tags",
                "--depth=1",
                "origin",
                &spec,
            ];
            match self.transfer(&mut fetched, &alone).await {
                Ok(()) => return Ok(()),
                // Whether it was the server's word or its lack of skill is not worth finding out.
                Err(Fault::Failed(failure)) if failure.reason == Reason::GitFailed => {}
                Err(fault) => return Err(fault),
            }
        }
        self.fetch_all(&mut fetched).await
    }

    /// Sees to it that all history of these branches and tags is here.
    async fn history(&self, refs: &Refs) -> Result<(), Fault> {
        let wanted = Instant::now();
        let digest = refs.digest();
        let mut fetched = self.slot.fetched.lock().await;
        if fetched.whole == Some(digest) && self.whole_file().exists() {
            return Ok(());
        }
        fetched.fails_for(wanted)?;
        let is_sha256 = refs.iter().any(|(_, commit)| commit.is_sha256());
        let _alone = shelf::make(self, is_sha256).await?;
        self.fetch_all(&mut fetched).await?;
        fetched.whole = Some(digest);
        Ok(())
    }

    async fn fetch_all(&self, fetched: &mut Fetched) -> Result<(), Fault> {
        let all = [
            "fetch",
            "-q",
            "-f",
            "--no-tags",
            "--prune",
            "origin",
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
        ];
        self.transfer(fetched, &all).await?;
        // First all names, then all history: git has had faults with both at once.
        if self.dir.join("shallow").exists() {
            let deepen = ["fetch", "-q", "-f", "--no-tags", "--unshallow", "origin"];
            self.transfer(fetched, &deepen).await?;
        }
        shelf::mark(&self.whole_file()).await
    }

    async fn transfer(&self, fetched: &mut Fetched, arguments: &[&str]) -> Result<(), Fault> {
        let began = Instant::now();
        let talk = Talk {
            remote: &self.remote,
            who: self.who,
            repository: Some(self.dir.clone()),
            limit: self.workshop.config.timeouts.fetch.get(),
            printed: PRINTED,
        };
        self.slot.is_untidy(true);
        self.workshop.grew();
        let talked = self.workshop.talk(talk, arguments).await.map(drop);
        if talked.is_err() {
            shelf::tidy(self.dir.clone()).await;
        }
        self.slot.is_untidy(false);
        self.workshop.grew();
        if let Err(Fault::Failed(failure)) = &talked
            && failure.reason == Reason::GitFailed
        {
            objects::check(self).await?;
        }
        fetched.failed = talked.clone().err().map(|fault| (began, fault));
        talked
    }

    fn whole_file(&self) -> PathBuf {
        self.dir.join("modcdn-whole")
    }

    fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Fetched {
    /// Those who waited for a fetch that failed don't all try again, one after another.
    fn fails_for(&self, wanted: Instant) -> Result<(), Fault> {
        match &self.failed {
            Some((began, fault)) if *began >= wanted => Err(fault.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
