//! Conditions and ranges, on stored bodies and on growing ones.

use http::header::{ACCEPT_RANGES, AGE, CONTENT_RANGE};

use super::super::growing::WITHHELD;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_stored_body() {
    let rig = Rig::new();
    let body = bytes(100_000);
    rig.origin.will(ZIP, Reply::stored(&body, IMMUTABLE));
    rig.got(ZIP).await;
    rig.settle().await;
    let answer = rig.engine.answer(ranged(ZIP, "bytes=500-999")).await;
    assert_eq!(answer.status, 206);
    assert_eq!(header(&answer, &CONTENT_RANGE), "bytes 500-999/100000");
    assert_eq!(header(&answer, &CONTENT_LENGTH), "500");
    assert_eq!(header(&answer, &ACCEPT_RANGES), "bytes");
    assert_eq!(header(&answer, &AGE), "0");
    assert_eq!(read(answer.body).await.unwrap(), body[500..1000]);
    let answer = rig.engine.answer(ranged(ZIP, "bytes=100000-")).await;
    assert_eq!(answer.status, 416);
    assert_eq!(header(&answer, &CONTENT_RANGE), "bytes */100000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_across_the_blocks_of_a_body_on_disk() {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::kib(16));
    let body = bytes(1_000_000);
    rig.origin.will(ZIP, Reply::stored(&body, IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, body);
    rig.settle().await;
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262143-262144", 262_143, 262_145),
        ("bytes=100-999999", 100, 1_000_000),
        ("bytes=-5", 999_995, 1_000_000),
    ] {
        let answer = rig.engine.answer(ranged(ZIP, range)).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(
            read(answer.body).await.unwrap(),
            body[start..end],
            "{range}"
        );
    }
    assert_eq!(rig.origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_bytes_of_a_growing_range_wait_for_the_commit() {
    let rig = Rig::new();
    let body = bytes(600_000);
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(ZIP, reply);
    feed.bytes(&body);
    let mut answer = rig.engine.answer(ranged(ZIP, "bytes=1000-100999")).await;
    assert_eq!(answer.status, 206);
    let early = read_what_is_there(&mut answer.body).await;
    assert_eq!(early, body[1000..101_000 - WITHHELD as usize]);
    let mut short = rig.engine.answer(ranged(ZIP, "bytes=0-9")).await;
    assert!(read_what_is_there(&mut short.body).await.is_empty());
    feed.end();
    assert_eq!(
        read(answer.body).await.unwrap(),
        body[1000 + early.len()..101_000]
    );
    assert_eq!(read(short.body).await.unwrap(), body[..10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_range_of_a_wrong_body_never_completes() {
    let rig = Rig::new();
    let (reply, feed) = Reply::described(&bytes(600_000));
    rig.origin.will(ZIP, reply);
    feed.bytes(&bytes(600_001).slice(1..));
    let answer = rig.engine.answer(ranged(ZIP, "bytes=0-9")).await;
    feed.end();
    assert!(read(answer.body).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_body_of_unknown_length_waits_for_its_end() {
    let rig = Rig::new();
    let body = bytes(600_000);
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&body);
    let engine = rig.engine.clone();
    let waiting = tokio::spawn(async move { engine.answer(ranged(ZIP, "bytes=-10")).await });
    feed.end_with_digest(Sha256::of(&body));
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 206);
    assert_eq!(
        header(&answer, &CONTENT_RANGE),
        "bytes 599990-599999/600000"
    );
    assert_eq!(read(answer.body).await.unwrap(), body[599_990..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_with_both_ends_of_a_body_of_unknown_length_waits_for_its_part_only() {
    let rig = Rig::new();
    let body = bytes(600_000);
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&body.slice(..100_000));
    let engine = rig.engine.clone();
    let waiting =
        tokio::spawn(async move { engine.answer(ranged(ZIP, "bytes=1000-199999")).await });
    feed.bytes(&body.slice(100_000..400_000));
    let mut answer = waiting.await.unwrap();
    assert_eq!(answer.status, 206);
    assert_eq!(header(&answer, &CONTENT_RANGE), "bytes 1000-199999/*");
    assert_eq!(header(&answer, &CONTENT_LENGTH), "199000");
    assert!(answer.headers.get(ETAG).is_none());
    let early = read_what_is_there(&mut answer.body).await;
    assert_eq!(early, body[1000..200_000 - WITHHELD as usize]);
    feed.bytes(&body.slice(400_000..));
    feed.end_with_digest(Sha256::of(&body));
    let rest = read(answer.body).await.unwrap();
    assert_eq!(rest, body[1000 + early.len()..200_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_the_body_never_reaches_is_answered_at_its_end() {
    let rig = Rig::new();
    let body = bytes(300_000);
    for (path, range, status, content_range) in [
        (ZIP, "bytes=1000-999999", 206, "bytes 1000-299999/300000"),
        (INFO, "bytes=300000-300001", 416, "bytes */300000"),
    ] {
        let (reply, feed) = Reply::growing();
        rig.origin.will(path, reply);
        feed.bytes(&body);
        feed.end_with_digest(Sha256::of(&body));
        let answer = rig.engine.answer(ranged(path, range)).await;
        assert_eq!(answer.status, status);
        assert_eq!(header(&answer, &CONTENT_RANGE), content_range);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_range_of_a_wrong_body_never_completes() {
    let rig = Rig::new();
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&bytes(600_000));
    let answer = rig.engine.answer(ranged(ZIP, "bytes=0-9")).await;
    assert_eq!(answer.status, 206);
    feed.end_with_digest(Sha256::of(b"another"));
    let aborted = read(answer.body).await.unwrap_err();
    assert_eq!(aborted.reason, modcdn_core::refusal::Reason::DigestMismatch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_whose_body_fails_before_the_head_is_a_clean_error() {
    let rig = Rig::with(|config| config.fill.resumes = 0);
    let (reply, feed) = Reply::growing();
    rig.origin.will(ZIP, reply);
    feed.bytes(&bytes(600_000));
    feed.break_off();
    let answer = rig.engine.answer(ranged(ZIP, "bytes=-10")).await;
    assert_eq!(answer.status, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_the_body_gets_304() {
    let rig = Rig::new();
    let body = bytes(300_000);
    let has = || Asked {
        if_none_match: Some(Sha256::of(&body).etag()),
        ..asked(ZIP)
    };
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(ZIP, reply);
    let cold = rig.engine.answer(has()).await;
    assert_eq!(cold.status, 304);
    feed.bytes(&body);
    feed.end();
    rig.settle().await;
    let hit = rig.engine.answer(has()).await;
    assert_eq!(
        (hit.status.as_u16(), header(&hit, &CACHE_CONTROL)),
        (304, IMMUTABLE.into())
    );
    assert!(hit.headers.get(CONTENT_LENGTH).is_none());
    assert_eq!(hit.headers[ETAG], Sha256::of(&body).etag());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_of_a_stored_body_reads_nothing() {
    let rig = Rig::with(|config| config.store.ram = ByteSize::b(0));
    rig.origin
        .will(ZIP, Reply::stored(&bytes(300_000), IMMUTABLE));
    rig.got(ZIP).await;
    rig.settle().await;
    let answer = rig
        .engine
        .answer(Asked {
            head: true,
            ..asked(ZIP)
        })
        .await;
    assert_eq!(header(&answer, &CONTENT_LENGTH), "300000");
    assert!(matches!(answer.body, Body::Empty));
    assert_eq!(
        rig.engine.metrics.hits(super::super::metrics::Tier::Head),
        1
    );
}
