//! What of a body on disk may be sent from its file, and what has to be read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::exchange::{BodyStream, FileSpan};

/// Four blocks, the last one short.
const LENGTH: usize = 1_000_000;

/// A body on disk that nobody has read there.
async fn stored() -> Rig {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::kib(64));
    rig.origin
        .will(ZIP, Reply::stored(&bytes(LENGTH), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(LENGTH));
    rig.settle().await;
    rig
}

/// A body on disk all of which was read and so verified.
async fn verified() -> Rig {
    let rig = stored().await;
    assert_eq!(rig.got(ZIP).await.2, bytes(LENGTH));
    rig
}

fn stream(answer: Answer) -> Box<dyn BodyStream> {
    match answer.body {
        Body::Stream(stream) => stream,
        other => panic!("{other:?} is no stream"),
    }
}

fn content(span: &FileSpan) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(span.length).unwrap()];
    span.file.read_exact_at(&mut bytes, span.offset).unwrap();
    bytes
}

/// The next span's bytes, at most so many of them, taken.
fn take(stream: &mut dyn BodyStream, most: u64) -> Option<Vec<u8>> {
    let mut span = stream.span()?;
    span.length = span.length.min(most);
    stream.advance(span.length);
    Some(content(&span))
}

fn all_spans(stream: &mut dyn BodyStream, most: u64) -> Vec<u8> {
    std::iter::from_fn(|| take(stream, most))
        .flatten()
        .collect()
}

async fn rest(stream: &mut dyn BodyStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    all
}

/// The file of the body, to be written to.
fn file(rig: &Rig) -> (PathBuf, fs::File) {
    fn below(dir: &Path) -> Vec<PathBuf> {
        let inside = fs::read_dir(dir).unwrap().flatten().map(|item| item.path());
        let files = |path: PathBuf| {
            if path.is_dir() {
                below(&path)
            } else {
                vec![path]
            }
        };
        inside.flat_map(files).collect()
    }
    let whole = |path: &PathBuf| fs::read(path).is_ok_and(|found| found == bytes(LENGTH));
    let path = below(rig.dir.path()).into_iter().find(whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    (path, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verified_body_is_offered_as_it_lies_in_the_file() {
    let rig = verified().await;
    for most in [u64::MAX, 100_000] {
        let mut stream = stream(rig.get(ZIP).await);
        assert_eq!(all_spans(stream.as_mut(), most), bytes(LENGTH));
        assert!(stream.next().await.unwrap().is_none());
        assert!(!stream.lies_in_file());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_be_taken_by_turns_from_the_file_and_from_memory() {
    let rig = verified().await;
    let mut stream = stream(rig.get(ZIP).await);
    let mut all = Vec::new();
    while let Some(span) = take(stream.as_mut(), 70_000) {
        all.extend_from_slice(&span);
        all.extend_from_slice(&stream.next().await.unwrap().unwrap_or_default());
    }
    assert_eq!(all, bytes(LENGTH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_offered_and_nothing_around_it() {
    let rig = verified().await;
    let answer = rig.engine.answer(ranged(ZIP, "bytes=300000-899999")).await;
    assert_eq!(answer.status, 206);
    let offered = all_spans(stream(answer).as_mut(), u64::MAX);
    assert_eq!(offered, bytes(LENGTH)[300_000..900_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_verified_is_not_offered() {
    let rig = stored().await.reopened();
    let mut stream = stream(rig.get(ZIP).await);
    let mut all = Vec::new();
    loop {
        assert!(stream.span().is_none());
        match stream.next().await.unwrap() {
            Some(piece) => all.extend_from_slice(&piece),
            None => break,
        }
    }
    assert_eq!(all, bytes(LENGTH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_to_is_not_offered_and_what_is_damaged_is_fetched_again() {
    let rig = verified().await;
    let (_, file) = file(&rig);
    let mut stream = stream(rig.get(ZIP).await);
    let mut all = take(stream.as_mut(), 400_000).unwrap();
    let flipped = bytes(LENGTH)[700_000] ^ 1;
    file.write_all_at(&[flipped], 700_000).unwrap();
    assert!(stream.span().is_none());
    rig.origin
        .will(ZIP, Reply::stored(&bytes(LENGTH), IMMUTABLE));
    all.extend_from_slice(&rest(stream.as_mut()).await);
    assert_eq!(all, bytes(LENGTH));
    assert_eq!(rig.engine.metrics.corrupt.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_kept_open_that_was_removed_or_cut_short_is_fetched_again() {
    for remove in [true, false] {
        let rig = verified().await;
        let (path, file) = file(&rig);
        if remove {
            fs::remove_file(path).unwrap();
        } else {
            file.set_len(500_000).unwrap();
        }
        rig.origin
            .will(ZIP, Reply::stored(&bytes(LENGTH), IMMUTABLE));
        let (status, _, body) = rig.got(ZIP).await;
        assert_eq!((status, body), (200, bytes(LENGTH)), "removed: {remove}");
        assert_eq!(rig.engine.metrics.corrupt.get(), 1);
    }
}
