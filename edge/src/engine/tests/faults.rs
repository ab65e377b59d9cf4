//! An origin that fails in the midst of things: resumes, their budget, the memory of failures, and
//! a disk that takes nothing.

use http::header::CONTENT_RANGE;
use modcdn_core::refusal::Reason;

use super::super::purge::{Mode, Purge, Selector};
use super::*;

/// The rest of a body, from `from` on, with the digest in the trailers.
fn rest(body: &Bytes, from: usize) -> Reply {
    let (reply, feed) = part(body, from);
    feed.bytes(&body.slice(from..));
    feed.end_with_digest(Sha256::of(body));
    reply
}

/// The head of that, fed by hand.
fn part(body: &Bytes, from: usize) -> (Reply, Feed) {
    let range = format!("bytes {from}-{}/*", body.len() - 1);
    Reply::fed(206, &[(CONTENT_RANGE, range.as_str())])
}

/// Where each resume began.
fn resumed_from(rig: &Rig) -> Vec<u64> {
    let resumes = rig.origin.seen().into_iter();
    resumes
        .filter_map(|request| Some(request.resume?.from))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_that_breaks_again_and_again_costs_no_byte_twice() {
    let rig = Rig::new();
    let body = bytes(6_000_000);
    let breaks = [500_000, 700_001, 2_999_999, 5_999_999];
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&body.slice(..breaks[0]));
    feed.break_off();
    for ends in breaks.windows(2) {
        let (reply, feed) = part(&body, ends[0]);
        rig.origin.will(ZIP, reply);
        feed.bytes(&body.slice(ends[0]..ends[1]));
        feed.break_off();
    }
    rig.origin.will(ZIP, rest(&body, breaks[3]));
    let (first, second) = tokio::join!(rig.got(ZIP), rig.got(ZIP));
    assert!(first.2 == body && second.2 == body);
    assert_eq!(resumed_from(&rig), breaks.map(|at| at as u64));
    let taken = rig.engine.metrics.fill_bytes.get();
    assert_eq!(taken, body.len() as u64, "the promise allows 5 % more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_cut_off_where_a_piece_ends_is_not_taken_for_complete() {
    let rig = Rig::new();
    let body = bytes(600_000);
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&body.slice(..300_000));
    feed.end();
    rig.origin.will(ZIP, rest(&body, 299_999));
    assert_eq!(rig.got(ZIP).await.2, body);
    assert_eq!(resumed_from(&rig), [299_999]);
    rig.settle().await;
    assert_eq!(rig.got(ZIP).await.2, body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_trailers_that_were_lost_are_had_with_the_last_byte() {
    let rig = Rig::new();
    let body = bytes(600_000);
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&body);
    feed.break_off();
    let (behind_the_end, feed) = Reply::fed(416, &[(CONTENT_RANGE, "bytes */600000")]);
    feed.end();
    rig.origin.will(ZIP, behind_the_end);
    rig.origin.will(ZIP, rest(&body, 599_999));
    assert_eq!(rig.got(ZIP).await.2, body);
    assert_eq!(resumed_from(&rig), [600_000, 599_999]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_all_fills_together_have_a_budget_of_resumes() {
    let rig = Rig::with(|config| {
        config.fill.resume_burst = 2;
        config.fill.resume_rate = 1;
    });
    for number in 0..3 {
        let path = format!("/example.com/m/@v/v1.{number}.0.zip");
        let (reply, feed) = Reply::described(&bytes(300_000));
        rig.origin.will(&path, reply);
        feed.bytes(&bytes(300_000).slice(..200_000));
        feed.break_off();
        let answer = rig.get(&path).await;
        assert!(read(answer.body).await.is_err());
    }
    assert_eq!(rig.engine.metrics.resumes.get(), 2);
    assert_eq!(rig.engine.metrics.resumes_denied.get(), 13);
    rig.advance(1).await;
    assert!(rig.engine.resumes.lock().take(rig.clock.now()));
}

/// An engine that remembers failures.
fn remembering() -> Rig {
    Rig::with(|config| config.fill.failed_memory = Period::secs(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_a_wrong_body_is_not_asked_for_again_at_once() {
    let rig = remembering();
    let body = bytes(1000);
    for _ in 0..2 {
        let (reply, feed) = Reply::described(&body);
        rig.origin.will(ZIP, reply);
        feed.bytes(&bytes(1001).slice(1..));
        feed.end();
    }
    let first = rig.get(ZIP).await;
    assert_eq!(first.reason, Some(Reason::DigestMismatch));
    let text = read(first.body).await.unwrap();
    for _ in 0..100 {
        let again = rig.get(ZIP).await;
        assert_eq!(
            (again.status.as_u16(), again.reason),
            (502, Some(Reason::DigestMismatch))
        );
        assert_eq!(
            header(&again, &CACHE_STATUS),
            "eu; fwd=uri-miss; detail=failed-recently"
        );
        assert_eq!(read(again.body).await.unwrap(), text);
    }
    assert_eq!(rig.origin.asked(), 1);
    rig.advance(1).await;
    assert_eq!(rig.get(ZIP).await.status, 502);
    assert_eq!(rig.origin.asked(), 2);
    rig.advance(1).await;
    assert_eq!(rig.get(ZIP).await.status, 502);
    assert_eq!(
        rig.origin.asked(),
        2,
        "a second failure in a row counts for longer"
    );
    let purge = Purge {
        selector: Selector::key(ZIP).unwrap(),
        mode: Mode::Hard,
    };
    rig.engine.purge(purge).await.unwrap();
    rig.origin.will(ZIP, Reply::stored(&body, IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_an_error_status_is_not_asked_for_again_at_once() {
    let rig = remembering();
    rig.origin
        .will(ZIP, Reply::error(502, "no-store", "upstream-status"));
    for _ in 0..3 {
        let answer = rig.get(ZIP).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.reason, Some(Reason::UpstreamStatus));
        assert_eq!(read(answer.body).await.unwrap(), "no\n");
    }
    assert_eq!(rig.origin.asked(), 1);
    rig.advance(1).await;
    rig.origin.will(ZIP, Reply::stored(&bytes(10), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_an_origin_that_did_not_answer_is_asked_again() {
    let rig = remembering();
    assert_eq!(rig.get(ZIP).await.status, 504);
    rig.origin.will(ZIP, Reply::stored(&bytes(10), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(10));
}

/// An engine whose disk takes nothing any more.
async fn without_a_disk() -> Rig {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::mib(1));
    let dir = &rig.config.store.dir;
    std::fs::remove_dir_all(dir.join("spool")).unwrap();
    std::fs::write(dir.join("spool"), b"not a folder").unwrap();
    let first = "/example.com/m/@v/v0.1.0.zip";
    rig.origin
        .will(first, Reply::stored(&bytes(1_200_000), IMMUTABLE));
    assert_eq!(rig.got(first).await.2, bytes(1_200_000));
    rig.settle().await;
    assert!(!rig.engine.store.is_admitting());
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_without_a_disk_a_long_body_is_followed_from_ram() {
    let rig = without_a_disk().await;
    let before = rig.origin.asked();
    let body = bytes(5_000_000);
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(ZIP, reply);
    let (first, second) = (rig.get(ZIP).await, rig.get(ZIP).await);
    assert!(
        rig.engine.metrics.fill_memory.get() >= 5_000_000,
        "set aside"
    );
    feed.bytes(&body);
    feed.end();
    assert_eq!(read(first.body).await.unwrap(), body);
    assert_eq!(read(second.body).await.unwrap(), body);
    assert_eq!(rig.origin.asked() - before, 1);
    rig.settle().await;
    while rig.engine.metrics.fill_memory.get() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_without_disk_and_ram_each_asks_for_himself() {
    let rig = without_a_disk().await;
    let _all = rig.engine.memory.hold(rig.config.fill.memory.as_u64());
    let before = rig.origin.asked();
    let body = bytes(5_000_000);
    for _ in 0..2 {
        rig.origin.will(ZIP, Reply::stored(&body, IMMUTABLE));
    }
    assert_eq!(rig.got(ZIP).await.2, body);
    assert_eq!(rig.origin.asked() - before, 2);
    assert_eq!(rig.engine.metrics.relays.get(), 1);
}
