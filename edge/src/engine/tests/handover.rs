//! A store that is left to another process (F22).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

const OTHER: &str = "/example.com/other/@v/v1.0.0.zip";

/// A packed body, and one in a file that is read from disk each time.
fn stored() -> [(&'static str, Bytes); 2] {
    [(INFO, bytes(300)), (ZIP, bytes(1_000_000))]
}

async fn filled() -> Rig {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::kib(64));
    for (path, body) in stored() {
        rig.origin.will(path, Reply::stored(&body, IMMUTABLE));
        assert!(rig.got(path).await.2 == body);
    }
    rig.settle().await;
    rig
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(folder).unwrap().flatten() {
        let path = item.path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_store_is_read_and_nothing_in_it_changes() {
    let rig = filled().await;
    rig.engine.retire().unwrap();
    let before = contents(&rig.config.store.dir);
    for (path, body) in stored() {
        let (status, cache_status, got) = rig.got(path).await;
        assert_eq!(
            (status, cache_status.as_str()),
            (200, "eu; hit; ttl=31536000")
        );
        assert!(got == body);
    }
    let other = bytes(20_000);
    rig.origin.will(OTHER, Reply::stored(&other, IMMUTABLE));
    assert!(rig.got(OTHER).await.2 == other);
    rig.origin
        .will(LIST, Reply::error(404, "max-age=60", "not-found"));
    assert_eq!(rig.got(LIST).await.0, 404);
    // What is damaged for this process may be what the other one has just written.
    let zip = rig.engine.store.find(ZIP).unwrap();
    rig.engine.condemn(&zip).await;
    rig.settle().await;
    rig.engine.shutdown().await;
    assert!(contents(&rig.config.store.dir) == before);
    let why = rig.engine.health().admission_stopped.unwrap();
    assert!(why.contains("another process"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_has_everything_and_stores_on() {
    let rig = filled().await;
    rig.engine.retire().unwrap();
    let next = rig.reopened();
    let other = bytes(200_000);
    next.origin.will(OTHER, Reply::stored(&other, IMMUTABLE));
    assert!(next.got(OTHER).await.2 == other);
    next.settle().await;
    for engine in [&rig, &next] {
        for (path, body) in stored() {
            assert!(engine.got(path).await.2 == body);
        }
    }
    rig.engine.shutdown().await;
    let asked = next.origin.asked();
    assert!(next.reopened().got(OTHER).await.2 == other);
    assert_eq!(next.origin.asked(), asked, "all of it are hits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_outlives_the_handover_reaches_its_readers_and_no_disk() {
    let rig = filled().await;
    let body = bytes(2_000_000);
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(OTHER, reply);
    let answer = rig.get(OTHER).await;
    feed.bytes(&body.slice(..1_500_000));
    let mut stream = answer.body;
    let early = read_what_is_there(&mut stream).await;
    assert!(early.len() > 1_000_000, "{}", early.len());
    rig.engine.retire().unwrap();
    // It tidies the spool, in which this fill may have its file.
    let next = rig.reopened();
    feed.bytes(&body.slice(1_500_000..));
    feed.end();
    let rest = read(stream).await.unwrap();
    assert!([early, rest].concat() == body);
    rig.settle().await;
    next.origin.will(OTHER, Reply::stored(&body, IMMUTABLE));
    assert!(next.got(OTHER).await.2 == body);
    next.settle().await;
    assert!(next.engine.health().admission_stopped.is_none());
    assert!(next.got(OTHER).await.1.contains("hit"));
}
