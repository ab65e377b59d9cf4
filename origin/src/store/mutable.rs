//! Answers that may change: lists, `@latest`, queries, records and heads of checksum databases.
//!
//! In memory up to a bound that holds for all mounts together, and on disk as `.mutable/ab/<sha-256 of path>`: one line of JSON, then
//! the body. A file that isn't what its first line says is dropped. Ages run by the monotonic
//! clock; only across a restart the wall clock is asked, and a clock that went back makes an
//! answer look new, never older than it can be.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use modcdn_core::digest::Sha256;
use modcdn_core::durable::{self, Sync};
use modcdn_core::goproxy::{Prefix, Request, SumDbCall};
use modcdn_core::units::Period;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::tree::Tree;
use crate::config::Freshness;
use crate::disk;
use crate::upstream::Validator;

/// What an answer costs in memory beside its body, roughly.
const OVERHEAD: u64 = 512;

/// The answers of one mount. See the module.
pub(crate) struct Mutables {
    tree: Arc<Tree>,
    prefix: Prefix,
    memory: Arc<Memory>,
}

/// The answers of all mounts that are in memory.
pub(crate) struct Memory {
    limit: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By the mount's prefix and the path below it.
    answers: HashMap<String, Arc<Answer>>,
    bytes: u64,
}

/// An answer, and since when it is known to be right.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) digest: Sha256,
    pub(crate) validator: Option<Validator>,
    pub(crate) confirmed: Since,
}

/// A moment, possibly of an earlier run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    instant: Instant,
    age_then: Duration,
}

impl Since {
    pub(crate) fn now() -> Self {
        Self::ago(Duration::ZERO)
    }

    pub(crate) fn ago(age: Duration) -> Self {
        Self {
            instant: Instant::now(),
            age_then: age,
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.age_then + self.instant.elapsed()
    }
}

/// What may be done with an answer of a certain age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Give it.
    Fresh,
    /// Give it, and ask for a newer one meanwhile.
    WhileRevalidating,
    /// Ask first; give it if upstream fails.
    IfError,
    /// Ask first; it is no use any more.
    Never,
}

impl Freshness {
    /// How long an answer to this request is fresh.
    pub(crate) fn lifetime(&self, request: &Request) -> Period {
        match request {
            Request::SumDb(sumdb) => match sumdb.call {
                SumDbCall::Lookup(..) | SumDbCall::Tile(_) => self.lookup,
                SumDbCall::Supported | SumDbCall::Latest => self.mutable,
            },
            _ => self.mutable,
        }
    }

    /// What may be done with an answer that was confirmed so long ago.
    pub(crate) fn usage(&self, lifetime: Period, age: Duration) -> Use {
        let past = age.saturating_sub(lifetime.get());
        if age < lifetime.get() {
            Use::Fresh
        } else if past < self.stale_while_revalidate.get() {
            Use::WhileRevalidating
        } else if past < self.stale_if_error.get() {
            Use::IfError
        } else {
            Use::Never
        }
    }
}

/// The first line of an answer's file.
#[derive(Serialize, Deserialize)]
struct Head {
    path: String,
    /// Milliseconds since 1970.
    confirmed: u64,
    sha256: String,
    upstream: Option<String>,
    etag: Option<String>,
}

impl Mutables {
    pub(crate) fn new(tree: Arc<Tree>, prefix: Prefix, memory: Arc<Memory>) -> Self {
        Self {
            tree,
            prefix,
            memory,
        }
    }

    /// The answer to a request's path, from memory or else from disk.
    pub(crate) async fn get(&self, path: &str) -> Option<Arc<Answer>> {
        let key = self.key(path);
        if let Some(answer) = self.memory.get(&key) {
            return Some(answer);
        }
        let (file, asked) = (self.file(path), path.to_owned());
        let answer = match disk::blocking(move || load(&file, &asked)).await {
            Ok(answer) => Arc::new(answer?),
            Err(error) => {
                self.tree.note("read", &error);
                return None;
            }
        };
        self.memory.put(&key, &answer);
        Some(answer)
    }

    /// Keeps an answer. A disk that fails is noted; the answer is kept in memory all the same.
    pub(crate) async fn put(&self, path: &str, answer: Answer) -> Arc<Answer> {
        let answer = Arc::new(answer);
        self.memory.put(&self.key(path), &answer);
        let (file, temp) = (self.file(path), self.tree.spool_name());
        let text = written(path, &answer);
        let kept = disk::blocking(move || {
            fs::write(&temp, text)?;
            durable::publish(&temp, &file, Sync::Relaxed)
                .inspect_err(|_| drop(fs::remove_file(&temp)))
        });
        if let Err(error) = kept.await {
            self.tree.note("mutable", &error);
        }
        answer
    }

    /// Forgets an answer: upstream says that there is no such thing any more.
    pub(crate) async fn remove(&self, path: &str) {
        self.memory.remove(&self.key(path));
        let file = self.file(path);
        // What can't be removed grows too old by itself.
        let _ = disk::blocking(move || fs::remove_file(file)).await;
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

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix.before())
    }

    fn file(&self, path: &str) -> PathBuf {
        let name = Sha256::of(path.as_bytes()).to_string();
        self.tree.mutable_dir().join(&name[..2]).join(&name[2..])
    }
}

impl Memory {
    /// Memory for so many bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::default(),
        })
    }

    fn get(&self, key: &str) -> Option<Arc<Answer>> {
        self.held.lock().answers.get(key).cloned()
    }

    fn put(&self, key: &str, answer: &Arc<Answer>) {
        let mut held = self.held.lock();
        held.remove(key);
        held.bytes += cost(key, answer);
        held.answers.insert(key.to_owned(), answer.clone());
        while held.bytes > self.limit {
            // Any will do: what is asked for again comes back from disk.
            let Some(victim) = held.answers.keys().next().cloned() else {
                break;
            };
            held.remove(&victim);
        }
    }

    fn remove(&self, key: &str) {
        self.held.lock().remove(key);
    }
}

impl Held {
    fn remove(&mut self, key: &str) {
        if let Some(answer) = self.answers.remove(key) {
            self.bytes -= cost(key, &answer);
        }
    }
}

fn cost(key: &str, answer: &Answer) -> u64 {
    OVERHEAD + (key.len() + answer.body.len()) as u64
}

fn written(path: &str, answer: &Answer) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let confirmed = now.saturating_sub(answer.confirmed.age());
    let validator = answer.validator.as_ref();
    let head = Head {
        path: path.to_owned(),
        confirmed: u64::try_from(confirmed.as_millis()).unwrap_or(u64::MAX),
        sha256: answer.digest.to_string(),
        upstream: validator.map(|validator| validator.upstream.clone()),
        etag: validator.and_then(|v| v.etag.to_str().ok().map(str::to_owned)),
    };
    let mut text = serde_json::to_vec(&head).unwrap_or_default();
    text.push(b'\n');
    text.extend_from_slice(&answer.body);
    text
}

/// Reads an answer's file; `None` if there is none, or none that can be trusted.
fn load(file: &Path, path: &str) -> io::Result<Option<Answer>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes, path))
}

fn parse(bytes: &Bytes, path: &str) -> Option<Answer> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = bytes.slice(end + 1..);
    let digest = Sha256::of(&body);
    if head.path != path || head.sha256 != digest.to_string() {
        return None;
    }
    let confirmed = UNIX_EPOCH + Duration::from_millis(head.confirmed);
    let validator = head.upstream.zip(head.etag).and_then(|(upstream, etag)| {
        let etag = HeaderValue::try_from(etag).ok()?;
        Some(Validator { upstream, etag })
    });
    Some(Answer {
        body,
        digest,
        validator,
        confirmed: Since::ago(confirmed.elapsed().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::config::{Archive, Limits, Store};
    use crate::metrics::Metrics;
    use crate::store::budget::Budget;

    const LIST: &str = "/a.example/m/@v/list";

    fn mutables(dir: &Path, limit: u64) -> Mutables {
        mounted(dir, "/", &Memory::new(limit))
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
        Mutables::new(tree, prefix.parse().unwrap(), memory.clone())
    }

    fn answer(text: &str, age: u64) -> Answer {
        let body = Bytes::copy_from_slice(text.as_bytes());
        Answer {
            digest: Sha256::of(&body),
            body,
            validator: Some(Validator {
                upstream: "up.example".to_owned(),
                etag: HeaderValue::from_static("\"x\""),
            }),
            confirmed: Since::ago(Duration::from_secs(age)),
        }
    }

    #[tokio::test]
    async fn answers_survive_a_restart_and_keep_their_age() {
        let dir = tempfile::tempdir().unwrap();
        let kept = answer("v1.0.0\n", 100);
        mutables(dir.path(), 1 << 20).put(LIST, kept.clone()).await;
        let again = mutables(dir.path(), 1 << 20).get(LIST).await.unwrap();
        assert_eq!((&again.body, again.digest), (&kept.body, kept.digest));
        assert_eq!(again.validator, kept.validator);
        assert!(again.confirmed.age() >= Duration::from_secs(99));
    }

    #[tokio::test]
    async fn a_damaged_file_is_as_if_it_were_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mutables = mutables(dir.path(), 0);
        mutables.put(LIST, answer("v1.0.0\n", 0)).await;
        let file = mutables.file(LIST);
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], b"", b"{}\n", b"junk"] {
            fs::write(&file, damaged).unwrap();
            assert!(mutables.get(LIST).await.is_none());
        }
        fs::write(&file, whole).unwrap();
        assert!(mutables.get(LIST).await.is_some());
        mutables.remove(LIST).await;
        assert!(mutables.get(LIST).await.is_none());
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_disk_remembers() {
        let dir = tempfile::tempdir().unwrap();
        let mutables = mutables(dir.path(), 3 * OVERHEAD);
        for n in 0..20 {
            mutables.put(&format!("/{n}"), answer("x", 0)).await;
        }
        let (count, bytes) = {
            let held = mutables.memory.held.lock();
            (held.answers.len(), held.bytes)
        };
        assert!(count <= 3 && bytes <= 3 * OVERHEAD);
        assert!(mutables.get("/0").await.is_some() && mutables.get("/19").await.is_some());
    }

    #[tokio::test]
    async fn mounts_share_memory_and_no_answer() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let memory = Memory::new(1 << 20);
        let (a, b) = (
            mounted(a.path(), "/", &memory),
            mounted(b.path(), "/b/", &memory),
        );
        a.put(LIST, answer("v1.0.0\n", 0)).await;
        assert!(b.get(LIST).await.is_none());
        b.put(LIST, answer("v2.0.0\n", 0)).await;
        assert_eq!(a.get(LIST).await.unwrap().body, "v1.0.0\n");
        assert_eq!(memory.held.lock().answers.len(), 2);
        b.remove(LIST).await;
        assert!(a.get(LIST).await.is_some() && b.get(LIST).await.is_none());
    }

    #[test]
    fn what_may_be_done_depends_on_the_age() {
        let freshness = Freshness::default();
        let lifetime = Period::secs(60);
        for (age, expected) in [
            (0, Use::Fresh),
            (59, Use::Fresh),
            (60, Use::WhileRevalidating),
            (359, Use::WhileRevalidating),
            (360, Use::IfError),
            (86_459, Use::IfError),
            (86_460, Use::Never),
        ] {
            let age = Duration::from_secs(age);
            assert_eq!(freshness.usage(lifetime, age), expected, "{age:?}");
        }
    }
}
