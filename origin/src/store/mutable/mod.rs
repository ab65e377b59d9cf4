//! Answers that may change: lists, `@latest`, queries, records and heads of checksum databases.
//!
//! In memory up to a bound that holds for all mounts together ([`memory`]), and on disk as
//! `.mutable/ab/<sha-256 of path>`: one line of JSON, then the body. A file that isn't what its first
//! line says is dropped. [`answer`] says what may be done with an answer of which age. Where bodies lie
//! in a bucket, [`copies`] are there too.

pub(crate) mod answer;
mod copies;
pub(crate) mod memory;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use modcdn_core::digest::Sha256;
use modcdn_core::durable::{self, Sync};
use modcdn_core::goproxy::{Prefix, Request};
use modcdn_core::units::Period;

pub(crate) use self::answer::{Answer, Since, Use};
use self::copies::Copies;
pub(crate) use self::memory::{Known, Memory};
use super::marks::Marks;
use super::tree::Tree;
use crate::config::Freshness;
use crate::disk;

/// The folder of answers, in a mount's folder.
pub(super) const DIR: &str = ".mutable";

/// The answers of one mount. See the module.
pub(crate) struct Mutables {
    tree: Arc<Tree>,
    copies: Copies,
    prefix: Prefix,
    freshness: Freshness,
    memory: Arc<Memory>,
    marks: Arc<Marks>,
}

impl Mutables {
    pub(crate) fn new(
        tree: Arc<Tree>,
        prefix: Prefix,
        freshness: Freshness,
        memory: Arc<Memory>,
        marks: Arc<Marks>,
    ) -> Self {
        Self {
            copies: Copies::new(tree.clone(), &freshness),
            tree,
            prefix,
            freshness,
            memory,
            marks,
        }
    }

    /// The answer to a request's path, which somebody asks for now; from memory or else from disk.
    pub(crate) async fn ask(&self, path: &str, lifetime: Period) -> Option<Known> {
        match self.memory.ask(&self.key(path)) {
            Some(known) => Some(known),
            None => self.load(path, lifetime).await,
        }
    }

    /// The same, which nobody asks for.
    pub(crate) async fn peek(&self, path: &str, lifetime: Period) -> Option<Known> {
        match self.memory.peek(&self.key(path)) {
            Some(known) => Some(known),
            None => self.load(path, lifetime).await,
        }
    }

    async fn load(&self, path: &str, lifetime: Period) -> Option<Known> {
        let (file, asked) = (self.file(path), path.to_owned());
        let answer = match disk::blocking(move || answer::load(&file, &asked)).await {
            Ok(answer) => Arc::new(answer?),
            Err(error) => {
                self.tree.note("read", &error);
                return None;
            }
        };
        let key = self.key(path);
        let known = Known {
            changed: self.marks.within(&key, answer.confirmed.age()),
            answer,
        };
        self.remember(&key, &known, lifetime);
        Some(known)
    }

    /// Keeps what upstream was asked for at a moment. A disk that fails is noted; the answer is kept in
    /// memory all the same.
    pub(crate) async fn put(
        &self,
        path: &str,
        lifetime: Period,
        answer: Answer,
        asked: Instant,
    ) -> Known {
        let key = self.key(path);
        let known = Known {
            changed: self.marks.since(&key, asked),
            answer: Arc::new(answer),
        };
        self.remember(&key, &known, lifetime);
        let (file, temp) = (self.file(path), self.tree.spool_name());
        let text = answer::written(path, &known.answer);
        let kept = disk::blocking(move || {
            fs::write(&temp, text)?;
            durable::publish(&temp, &file, Sync::Relaxed)
                .inspect_err(|_| drop(fs::remove_file(&temp)))
        });
        if let Err(error) = kept.await {
            self.tree.note("mutable", &error);
        }
        known
    }

    /// Copies an answer to where it outlives this folder, if there is such a place and it is due.
    pub(crate) async fn copy(&self, request: &Request, answer: &Answer) {
        self.copies.make(request, answer).await;
    }

    /// What was copied, however old it is; known from now on.
    pub(crate) async fn recall(&self, request: &Request, lifetime: Period) -> Option<Known> {
        let answer = Arc::new(self.copies.find(request).await?);
        let key = self.key(&request.path());
        let known = Known {
            changed: self.marks.within(&key, answer.confirmed.age()),
            answer,
        };
        self.remember(&key, &known, lifetime);
        Some(known)
    }

    /// Whether a path is said to have changed since an answer of that lifetime could have been given.
    pub(crate) fn changed_lately(&self, path: &str, lifetime: Period) -> bool {
        self.marks.within(&self.key(path), lifetime.get()).is_some()
    }

    /// Forgets an answer: upstream says that there is no such thing any more.
    pub(crate) async fn remove(&self, path: &str) {
        self.memory.remove(&self.key(path));
        let file = self.file(path);
        // What can't be removed grows too old by itself.
        let _ = disk::blocking(move || fs::remove_file(file)).await;
    }

    /// The answer is to be refreshed after that time, if it isn't before.
    pub(crate) fn again(&self, path: &str, after: Duration) {
        self.memory.again(&self.key(path), Instant::now() + after);
    }

    /// Removes files that are older than any answer may be used. Slow: for the blocking pool.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn sweep(&self, oldest: Duration) -> io::Result<()> {
        let dir = self.tree.mutable_dir();
        if !dir.exists() {
            return Ok(());
        }
        for folder in fs::read_dir(dir)? {
            for file in fs::read_dir(folder?.path())? {
                let file = file?;
                let age = file.metadata()?.modified()?.elapsed();
                if age.is_ok_and(|age| age > oldest) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    fn remember(&self, key: &str, known: &Known, lifetime: Period) {
        let age = known.answer.confirmed.age();
        let at = self.freshness.refresh_at(lifetime, fastrand::f64());
        let refresh = at.map(|at| Instant::now() + at.saturating_sub(age));
        self.memory.put(key, known.clone(), refresh);
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix.before())
    }

    fn file(&self, path: &str) -> PathBuf {
        place(&self.tree.mutable_dir(), path)
    }
}

/// Where the answer to a path lies in the folder of answers.
fn place(folder: &Path, path: &str) -> PathBuf {
    let (below, file) = name(path);
    folder.join(below).join(file)
}

/// The folder and the name of the file that answers a path.
fn name(path: &str) -> (String, String) {
    let mut folder = Sha256::of(path.as_bytes()).to_string();
    let file = folder.split_off(2);
    (folder, file)
}

/// The answer to a path that was kept last in a mount's folder, however old it is. Blocks.
pub(crate) fn kept(folder: &Path, path: &str) -> Option<Bytes> {
    let file = place(&folder.join(DIR), path);
    Some(answer::load(&file, path).ok()??.body)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;
    use prometheus::{IntGauge, Registry};

    use super::*;
    use crate::config::{Archive, Limits, Store};
    use crate::metrics::Metrics;
    use crate::store::budget::Budget;
    use crate::upstream::Validator;

    const LIST: &str = "/a.example/m/@v/list";

    fn mutables(dir: &Path, limit: u64) -> Mutables {
        mounted(dir, "/", &memory(limit))
    }

    fn memory(limit: u64) -> Arc<Memory> {
        Memory::new(limit, IntGauge::new("x", "x").unwrap())
    }

    fn mounted(dir: &Path, prefix: &str, memory: &Arc<Memory>) -> Mutables {
        let store = Store {
            dir: dir.to_owned(),
            durable: false,
            ..Store::default()
        };
        let metrics = Metrics::new(&Registry::new());
        let limits = Limits::default();
        let budget = Budget::of(&limits, &metrics);
        let tree = Tree::open(&store, &limits, &Archive::default(), budget, &metrics).unwrap();
        Mutables::new(
            tree,
            prefix.parse().unwrap(),
            Freshness::default(),
            memory.clone(),
            Arc::new(Marks::new(Duration::from_secs(60))),
        )
    }

    const LIFETIME: Period = Period::secs(60);

    fn answer(text: &str, age: u64) -> Answer {
        let validator = Validator {
            upstream: "up.example".to_owned(),
            etag: HeaderValue::from_static("\"x\""),
        };
        Answer {
            confirmed: Since::ago(Duration::from_secs(age)),
            ..Answer::new(text.as_bytes(), Some(validator))
        }
    }

    async fn put(mutables: &Mutables, path: &str, answer: Answer) {
        let put = mutables.put(path, LIFETIME, answer, Instant::now());
        assert!(put.await.changed.is_none());
    }

    async fn get(mutables: &Mutables, path: &str) -> Option<Arc<Answer>> {
        Some(mutables.ask(path, LIFETIME).await?.answer)
    }

    #[tokio::test]
    async fn answers_survive_a_restart_and_keep_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let kept = answer("v1.0.0\n", 100);
        put(&mutables(dir.path(), 1 << 20), LIST, kept.clone()).await;
        let again = get(&mutables(dir.path(), 1 << 20), LIST).await.unwrap();
        assert_eq!((&again.body, again.digest), (&kept.body, kept.digest));
        assert_eq!(again.validator, kept.validator);
        assert!(again.confirmed.age() >= Duration::from_secs(99));
    }

    #[tokio::test]
    async fn a_damaged_file_is_as_if_it_were_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mutables = mutables(dir.path(), 0);
        put(&mutables, LIST, answer("v1.0.0\n", 0)).await;
        let file = mutables.file(LIST);
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], b"", b"{}\n", b"junk"] {
            fs::write(&file, damaged).unwrap();
            assert!(get(&mutables, LIST).await.is_none());
        }
        fs::write(&file, whole).unwrap();
        assert!(get(&mutables, LIST).await.is_some());
        mutables.remove(LIST).await;
        assert!(get(&mutables, LIST).await.is_none());
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_disk_remembers() {
        let dir = tempfile::tempdir().unwrap();
        let gauge = IntGauge::new("x", "x").unwrap();
        let limit = 3 * memory::OVERHEAD;
        let mutables = mounted(dir.path(), "/", &Memory::new(limit, gauge.clone()));
        for n in 0..20 {
            put(&mutables, &format!("/{n}"), answer("x", 0)).await;
        }
        assert!(gauge.get() > 0 && gauge.get().cast_unsigned() <= limit);
        assert!(get(&mutables, "/0").await.is_some() && get(&mutables, "/19").await.is_some());
    }

    #[tokio::test]
    async fn mounts_share_memory_and_no_answer() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let memory = memory(1 << 20);
        let (a, b) = (
            mounted(a.path(), "/", &memory),
            mounted(b.path(), "/b/", &memory),
        );
        put(&a, LIST, answer("v1.0.0\n", 0)).await;
        assert!(get(&b, LIST).await.is_none());
        put(&b, LIST, answer("v2.0.0\n", 0)).await;
        assert_eq!(get(&a, LIST).await.unwrap().body, "v1.0.0\n");
        b.remove(LIST).await;
        assert!(get(&a, LIST).await.is_some() && get(&b, LIST).await.is_none());
    }

    #[tokio::test]
    async fn what_changed_is_doubted_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for limit in [0, 1 << 20] {
            let mutables = mutables(dir.path(), limit);
            let before = Instant::now();
            put(&mutables, LIST, answer("v1.0.0\n", 0)).await;
            mutables.memory.change("/a.example/m/");
            mutables.marks.put("/a.example/m/", Instant::now());
            let known = mutables.ask(LIST, LIFETIME).await.unwrap();
            assert!(known.changed.is_some(), "{limit}");
            // What was asked before the change says nothing of it.
            let newer = answer("v1.0.0\n", 0);
            let known = mutables.put(LIST, LIFETIME, newer.clone(), before).await;
            assert!(known.changed.is_some(), "{limit}");
            let known = mutables.put(LIST, LIFETIME, newer, Instant::now()).await;
            assert!(known.changed.is_none(), "{limit}");
        }
    }
}
