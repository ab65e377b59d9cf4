//! A body that is still growing: one writer, any number of readers, each from where it likes.
//!
//! The writer ends it in one of two ways: [`Writer::commit`] puts the whole body into the tree,
//! [`Writer::fail`] (or dropping the writer) makes it never have been. Until the commit, readers
//! are given all but the last [`HELD_BACK`] bytes, so that nobody ever holds a complete body that
//! did not turn out right. A reader keeps its file open: the rename at the commit doesn't touch it.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use modcdn_core::digest::Hasher;
use modcdn_core::goproxy::Request;
use modcdn_core::h1::H1;
use modcdn_core::refusal::{Reason, Refusal};
use tokio::sync::watch;

use super::budget::Share;
use super::sum::Sum;
use super::tree::Tree;
use crate::disk;

/// How much of a growing body readers must wait for until it is committed.
pub(crate) const HELD_BACK: u64 = 4096;

/// A growing body, as its readers see it.
#[derive(Debug)]
pub(crate) struct Spool {
    id: String,
    len: Option<u64>,
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

/// How far a body has come.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    /// So many bytes are on disk.
    Growing(u64),
    /// It is whole and checked: in the tree, or on its way there.
    Committed(Sum),
    /// It will never be whole.
    Failed(Arc<Refusal>),
}

impl Spool {
    /// The provisional entity tag's content: `spool-` and a name that no other body ever has.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The provisional entity tag: strong, because it names these very bytes.
    pub(crate) fn etag(&self) -> HeaderValue {
        HeaderValue::try_from(format!("\"{}\"", self.id)).expect("hexadecimal is visible ASCII")
    }

    /// The length that upstream announced.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    /// The file: whole once [`Progress::Committed`].
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How far it has come, for one who follows the writer.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until a byte at `position` can be read, or until it is decided that none can.
    pub(crate) async fn reach(&self, position: u64) -> Progress {
        let mut reader = Reader::new(self, position, None);
        reader.wait().await
    }

    /// Waits for the end.
    pub(crate) async fn end(&self) -> Progress {
        self.reach(u64::MAX).await
    }
}

/// One reader's place in a growing body.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    position: u64,
    /// Where the part that is read ends, if that is known.
    end: Option<u64>,
}

/// A step of a reader.
pub(crate) enum Step {
    Piece(Bytes),
    /// The part is read, and the whole body is known to be right.
    Done(Sum),
}

impl Reader {
    /// Reads from `start` to `end` (exclusive), or else to the body's end.
    pub(crate) fn new(spool: &Spool, start: u64, end: Option<u64>) -> Self {
        Self {
            file: spool.file.clone(),
            progress: spool.progress.clone(),
            position: start,
            end: end.or(spool.len),
        }
    }

    /// The next piece. Waits no longer than the writer does for its upstream.
    ///
    /// # Errors
    /// If the body will never be whole, or can't be read from disk.
    pub(crate) async fn next(&mut self) -> io::Result<Step> {
        let progress = self.wait().await;
        let limit = match &progress {
            Progress::Growing(written) => self.readable(*written),
            Progress::Committed(sum) => self.end.unwrap_or(sum.len).min(sum.len),
            Progress::Failed(refusal) => return Err(io::Error::other(refusal.failed.clone())),
        };
        if let Progress::Committed(sum) = progress
            && self.position >= limit
        {
            return Ok(Step::Done(sum));
        }
        let piece = disk::read_at(self.file.clone(), self.position, limit - self.position).await?;
        self.position += piece.len() as u64;
        Ok(Step::Piece(piece))
    }

    /// Waits until there is something to read at the reader's place, or an end.
    async fn wait(&mut self) -> Progress {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            match progress {
                Progress::Growing(written) if self.readable(written) <= self.position => {}
                _ => return progress,
            }
            if self.progress.changed().await.is_err() {
                // The writer is gone; its last word was sent before that.
                let last = self.progress.borrow().clone();
                return match last {
                    Progress::Growing(_) => Progress::Failed(Arc::new(abandoned())),
                    last => last,
                };
            }
        }
    }

    /// Up to where a growing body may be read.
    fn readable(&self, written: u64) -> u64 {
        match self.end {
            Some(end) => written.min(end.saturating_sub(HELD_BACK)),
            None => written.saturating_sub(HELD_BACK),
        }
    }
}

fn abandoned() -> Refusal {
    Refusal::new(Reason::Internal, "", "the fetch was abandoned")
}

/// The one who makes a body grow. Dropped without [`Writer::commit`], the body failed.
pub(crate) struct Writer {
    tree: Arc<Tree>,
    path: PathBuf,
    file: Arc<File>,
    hasher: Hasher,
    written: u64,
    len: Option<u64>,
    share: Share,
    progress: watch::Sender<Progress>,
}

/// Starts a body.
///
/// # Errors
/// If the spool has no room for it, or the disk fails.
pub(crate) async fn start(
    tree: &Arc<Tree>,
    len: Option<u64>,
    asked: &str,
) -> Result<(Writer, Arc<Spool>), Refusal> {
    let Some(share) = tree.room(len.unwrap_or(0)) else {
        return Err(full(asked));
    };
    let path = tree.spool_name();
    let created = {
        let path = path.clone();
        disk::blocking(move || {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).open(path)
        })
    };
    let file = match created.await {
        Ok(file) => Arc::new(file),
        Err(error) => {
            tree.note("spool", &error);
            return Err(disk_failed(asked, &error));
        }
    };
    let (progress, watched) = watch::channel(Progress::Growing(0));
    let spool = Spool {
        id: format!("spool-{:016x}", RandomState::new().hash_one(&path)),
        len,
        file: file.clone(),
        progress: watched,
    };
    let writer = Writer {
        tree: tree.clone(),
        path,
        file,
        hasher: Hasher::new(),
        written: 0,
        len,
        share,
        progress,
    };
    Ok((writer, Arc::new(spool)))
}

impl Writer {
    /// Appends pieces, in order.
    ///
    /// # Errors
    /// If the spool has no more room, or the disk fails.
    pub(crate) async fn write(&mut self, pieces: Vec<Bytes>, asked: &str) -> Result<(), Refusal> {
        let more: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if !self.share.grow_to(self.written + more) {
            return Err(full(asked));
        }
        let (file, mut hasher) = (self.file.clone(), self.hasher.clone());
        let written = disk::blocking(move || {
            for piece in &pieces {
                hasher.update(piece);
                (&*file).write_all(piece)?;
            }
            Ok((hasher, pieces))
        });
        match written.await {
            // The pieces' memory is let go of here, where it came from.
            Ok((hasher, _pieces)) => self.hasher = hasher,
            Err(error) => {
                self.tree.note("spool", &error);
                return Err(disk_failed(asked, &error));
            }
        }
        self.written += more;
        self.progress.send_replace(Progress::Growing(self.written));
        Ok(())
    }

    /// How long the body is, of which no more will come.
    ///
    /// # Errors
    /// If it isn't as long as announced.
    pub(crate) fn whole(&self, request: &Request) -> Result<u64, Refusal> {
        if self.len.is_none_or(|len| len == self.written) {
            return Ok(self.written);
        }
        Err(Refusal::new(
            Reason::UpstreamBroken,
            crate::upstream::asked(request),
            "upstream sent another length than it announced",
        ))
    }

    /// Lets the whole body's readers have its last bytes, then puts it into the tree: nobody waits
    /// for the disk, or for a bucket. `named` is told the digest before anyone else can know it.
    /// A store that fails is noted; the body is fetched anew then, the next time.
    ///
    /// # Errors
    /// If it isn't as long as announced; the body has failed then.
    pub(crate) async fn commit(
        mut self,
        request: &Request,
        h1: Option<H1>,
        named: impl FnOnce(Sum),
    ) -> Result<Sum, (Self, Refusal)> {
        let len = match self.whole(request) {
            Ok(len) => len,
            Err(refusal) => return Err((self, refusal)),
        };
        let hasher = std::mem::take(&mut self.hasher);
        let sum = Sum {
            digest: hasher.finish(),
            len,
            h1,
        };
        named(sum);
        self.progress.send_replace(Progress::Committed(sum));
        if let Err(error) = self.tree.commit(request, &self.path, sum).await {
            self.tree.note("commit", &error);
            let _ = fs::remove_file(&self.path);
        }
        Ok(sum)
    }

    /// Ends the body as one that never was. Bad content is kept in quarantine.
    pub(crate) async fn fail(self, refusal: Refusal) {
        let refusal = Arc::new(refusal);
        self.progress
            .send_replace(Progress::Failed(refusal.clone()));
        if refusal.reason.is_bad_content() {
            self.tree.take_aside(&self.path, &refusal).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let last = self.progress.borrow().clone();
        match last {
            Progress::Committed(_) => return,
            Progress::Failed(_) => {}
            Progress::Growing(_) => {
                let failed = Progress::Failed(Arc::new(abandoned()));
                self.progress.send_replace(failed);
            }
        }
        // Left over at worst: the next start empties the spool.
        let _ = fs::remove_file(&self.path);
    }
}

fn full(asked: &str) -> Refusal {
    Refusal::new(
        Reason::Overloaded,
        asked,
        "the origin's spool is full: too many large bodies are being fetched at once",
    )
    .hint("try again in a moment; limits.spool says how much there may be")
}

/// A disk of ours that failed.
pub(crate) fn disk_failed(asked: &str, error: &io::Error) -> Refusal {
    Refusal::new(
        Reason::Store,
        asked,
        format!("the origin can't write to its store: {error}"),
    )
    .hint("look at the disk under store.dir")
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::config::{Archive, Limits, Store};
    use crate::metrics::Metrics;
    use crate::store::budget::Budget;

    const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";

    struct Case {
        dir: tempfile::TempDir,
        writer: Writer,
        spool: Arc<Spool>,
    }

    async fn case(len: Option<u64>) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let store = Store {
            dir: dir.path().to_owned(),
            durable: false,
            ..Store::default()
        };
        let limits = Limits::default();
        let metrics = Metrics::new(&Registry::new());
        let budget = Budget::of(&limits, &metrics);
        let tree = Tree::open(&store, &limits, &Archive::default(), budget, &metrics).unwrap();
        let (writer, spool) = start(&tree, len, "m").await.unwrap();
        Case { dir, writer, spool }
    }

    async fn read_all(mut reader: Reader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match reader.next().await? {
                Step::Piece(piece) => all.extend_from_slice(&piece),
                Step::Done(_) => return Ok(all),
            }
        }
    }

    fn bytes(len: u64) -> Bytes {
        (0..len).map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn readers_follow_and_the_last_bytes_wait_for_the_commit() {
        for len in [None, Some(10_000)] {
            let mut case = case(len).await;
            case.writer.write(vec![bytes(10_000)], "m").await.unwrap();
            let mut reader = Reader::new(&case.spool, 0, None);
            let Step::Piece(piece) = reader.next().await.unwrap() else {
                panic!("done")
            };
            assert_eq!(piece.len() as u64, 10_000 - HELD_BACK);
            let request = Request::parse(ZIP).unwrap();
            let sum = case
                .writer
                .commit(&request, None, |_| ())
                .await
                .ok()
                .unwrap();
            let rest = read_all(reader).await.unwrap();
            assert_eq!([&piece[..], &rest[..]].concat(), bytes(10_000));
            assert_eq!(sum, Sum::of(&bytes(10_000)));
            assert!(case.dir.path().join(&ZIP[1..]).exists());
        }
    }

    #[tokio::test]
    async fn a_part_waits_for_the_commit_too() {
        let mut case = case(Some(20_000)).await;
        case.writer.write(vec![bytes(15_000)], "m").await.unwrap();
        let mut reader = Reader::new(&case.spool, 100, Some(6_000));
        let Step::Piece(piece) = reader.next().await.unwrap() else {
            panic!("done")
        };
        assert_eq!(piece, bytes(20_000).slice(100..6_000 - HELD_BACK as usize));
        case.writer
            .write(vec![bytes(20_000).slice(15_000..)], "m")
            .await
            .unwrap();
        let request = Request::parse(ZIP).unwrap();
        case.writer
            .commit(&request, None, |_| ())
            .await
            .ok()
            .unwrap();
        let rest = read_all(reader).await.unwrap();
        assert_eq!(
            [&piece[..], &rest[..]].concat(),
            bytes(20_000).slice(100..6_000)
        );
    }

    #[tokio::test]
    async fn a_failed_or_abandoned_body_cuts_its_readers_off_and_leaves_nothing() {
        for told in [true, false] {
            let mut case = case(None).await;
            case.writer.write(vec![bytes(10_000)], "m").await.unwrap();
            let reader = Reader::new(&case.spool, 0, None);
            if told {
                case.writer.fail(abandoned()).await;
            } else {
                drop(case.writer);
            }
            assert!(read_all(reader).await.is_err());
            assert!(matches!(case.spool.end().await, Progress::Failed(_)));
            let left = fs::read_dir(case.dir.path().join(".spool")).unwrap();
            assert_eq!(left.count(), 0);
        }
    }

    #[tokio::test]
    async fn a_wrong_length_is_no_commit() {
        let mut case = case(Some(10)).await;
        case.writer.write(vec![bytes(9)], "m").await.unwrap();
        let request = Request::parse(ZIP).unwrap();
        assert!(case.writer.commit(&request, None, |_| ()).await.is_err());
        assert!(!case.dir.path().join(&ZIP[1..]).exists());
    }
}
