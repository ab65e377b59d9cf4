//! Mutable answers: fresh, stale, confirmed, replaced, and what stands in for a dead origin (F1).

use http::header::{AGE, DATE};
use modcdn_core::refusal::Reason;

use super::*;
use crate::exchange::Cached;

fn list(text: &'static str) -> Reply {
    Reply::stored(&Bytes::from_static(text.as_bytes()), MUTABLE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_list_is_not_asked_for_again() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(59).await;
    let answer = rig.get(LIST).await;
    assert_eq!(answer.cache, Cached::Hit);
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; hit; ttl=1");
    assert_eq!(header(&answer, &AGE), "59");
    assert_eq!(rig.origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immutable_object_is_never_asked_for_again() {
    let rig = Rig::new();
    rig.origin.will(INFO, Reply::stored(&bytes(300), IMMUTABLE));
    rig.got(INFO).await;
    rig.advance(100 * 365 * 86_400).await;
    assert_eq!(rig.get(INFO).await.cache, Cached::Hit);
    assert_eq!(rig.origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_list_is_given_at_once_and_confirmed_meanwhile() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(61).await;
    rig.origin
        .will(LIST, Reply::not_modified("public, max-age=600"));
    let answer = rig.get(LIST).await;
    assert_eq!(answer.cache, Cached::Stale);
    assert_eq!(
        header(&answer, &CACHE_STATUS),
        "eu; hit; ttl=-1; detail=revalidating"
    );
    assert_eq!(header(&answer, &AGE), "61");
    rig.settle().await;
    let seen = rig.origin.seen();
    assert_eq!(seen[1].if_none_match, Some(Sha256::of(b"v1.0.0\n").etag()));
    let answer = rig.get(LIST).await;
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; hit; ttl=600");
    assert_eq!(header(&answer, &CACHE_CONTROL), "public, max-age=600");
    assert_eq!(header(&answer, &CONTENT_TYPE), "application/zip");
    assert_eq!(rig.origin.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_changed_is_replaced() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(61).await;
    rig.origin.will(LIST, list("v1.0.0\nv1.1.0\n"));
    assert_eq!(rig.got(LIST).await.2, "v1.0.0\n");
    rig.settle().await;
    assert_eq!(rig.got(LIST).await.2, "v1.0.0\nv1.1.0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_list_is_confirmed_before_it_is_given() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(361).await;
    rig.origin.will(LIST, Reply::not_modified(MUTABLE));
    let answer = rig.get(LIST).await;
    assert_eq!(answer.cache, Cached::Revalidated);
    assert_eq!(
        header(&answer, &CACHE_STATUS),
        "eu; fwd=stale; fwd-status=304"
    );
    assert_eq!(header(&answer, &AGE), "0");
    assert_eq!(read(answer.body).await.unwrap(), "v1.0.0\n");
    rig.advance(361).await;
    rig.origin.will(LIST, list("v2.0.0\n"));
    let (_, cache_status, body) = rig.got(LIST).await;
    assert_eq!(
        (cache_status.as_str(), &body[..]),
        ("eu; fwd=stale; stored", &b"v2.0.0\n"[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_origin_serves_stale() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(361).await;
    let answer = rig.get(LIST).await;
    assert_eq!((answer.status.as_u16(), answer.cache), (200, Cached::Stale));
    assert_eq!(
        header(&answer, &CACHE_STATUS),
        "eu; hit; ttl=-301; detail=origin-timeout"
    );
    assert_eq!(read(answer.body).await.unwrap(), "v1.0.0\n");
    rig.advance(86_000).await;
    assert_eq!(rig.get(LIST).await.cache, Cached::Stale);
    rig.advance(86_460).await;
    let answer = rig.get(LIST).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason),
        (504, Some(Reason::OriginTimeout))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_origin_serves_stale_but_its_no_is_passed_on() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(400).await;
    rig.origin
        .will(LIST, Reply::error(503, "no-store", "overloaded"));
    assert_eq!(
        rig.got(LIST).await.1,
        "eu; hit; ttl=-340; detail=origin-failed"
    );
    rig.advance(6).await;
    rig.origin.will(LIST, Reply::error(403, "no-store", "off"));
    assert_eq!(rig.got(LIST).await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_origin_is_not_asked_for_every_request() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(361).await;
    for _ in 0..5 {
        assert_eq!(rig.get(LIST).await.cache, Cached::Stale);
    }
    assert_eq!(rig.origin.asked(), 2);
    rig.advance(5).await;
    rig.origin.will(LIST, list("v2.0.0\n"));
    assert_eq!(rig.got(LIST).await.2, "v2.0.0\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_not_found_is_kept_for_a_short_while() {
    let rig = Rig::new();
    rig.origin
        .will(ZIP, Reply::error(404, "public, max-age=600", "not-found"));
    let answer = rig.get(ZIP).await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason),
        (404, Some(Reason::NotFound))
    );
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; fwd=uri-miss; stored");
    rig.advance(59).await;
    let answer = rig.get(ZIP).await;
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; hit; ttl=1");
    assert_eq!(
        (answer.reason, header(&answer, &AGE)),
        (Some(Reason::NotFound), "59".into())
    );
    assert!(answer.headers.get(ETAG).is_none());
    assert_eq!(read(answer.body).await.unwrap(), "no\n");
    rig.advance(1).await;
    rig.origin.will(ZIP, Reply::stored(&bytes(10), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(10));
    assert_eq!(rig.reopened().got(ZIP).await.2, bytes(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_not_found_does_not_survive_a_restart() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(100_000).await;
    rig.origin
        .will(LIST, Reply::error(410, "public, max-age=60", "gone"));
    assert_eq!(rig.got(LIST).await.0, 410);
    let reopened = rig.reopened();
    assert!(reopened.engine.store.find(LIST).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn askers_of_one_stale_list_share_one_confirmation() {
    let rig = Rig::new();
    rig.origin.will(LIST, list("v1.0.0\n"));
    rig.got(LIST).await;
    rig.advance(361).await;
    let (reply, feed) = Reply::fed(304, &[(CACHE_CONTROL, MUTABLE)]);
    rig.origin.will(LIST, reply);
    let asks = (0..20).map(|_| rig.got(LIST));
    let all = futures::future::join_all(asks).await;
    drop(feed);
    assert!(
        all.iter()
            .all(|(status, _, body)| *status == 200 && body == "v1.0.0\n")
    );
    assert_eq!(rig.origin.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_that_an_answer_comes_with_counts() {
    let rig = Rig::new();
    let mut reply = list("v1.0.0\n");
    reply.headers.insert(AGE, HeaderValue::from_static("50"));
    rig.origin.will(LIST, reply);
    rig.got(LIST).await;
    rig.advance(9).await;
    let answer = rig.get(LIST).await;
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; hit; ttl=1");
    assert_eq!(header(&answer, &AGE), "59");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_what_a_clock_ahead_of_ours_noted_is_confirmed_instead_of_staying_fresh() {
    let rig = Rig::new();
    for path in [LIST, ZIP, INFO] {
        let caching = if path == LIST { MUTABLE } else { IMMUTABLE };
        rig.origin.will(path, Reply::stored(&bytes(300), caching));
        rig.got(path).await;
    }
    rig.engine.shutdown().await;
    let was = rig.clock.now();
    // A moment is nothing, ten minutes are.
    for (behind, cached) in [(59_000, Cached::Hit), (600_000, Cached::Stale)] {
        let rig = rig.reopened_at(was - behind);
        rig.origin.will(LIST, Reply::not_modified(MUTABLE));
        assert_eq!(rig.get(LIST).await.cache, cached);
        rig.settle().await;
        let list = rig.get(LIST).await;
        assert_eq!(header(&list, &CACHE_STATUS), "eu; hit; ttl=60");
        for path in [ZIP, INFO] {
            assert_eq!(rig.get(path).await.cache, Cached::Hit);
        }
    }
    assert_eq!(rig.origin.asked(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f16_the_offset_to_the_origins_clock_is_measured() {
    let rig = Rig::new();
    // Fri, 15 Jan 2027 08:00:00 GMT is what the rig's clock says.
    let dates = [
        ("Fri, 15 Jan 2027 07:50:00 GMT", 599.5),
        ("Fri, 15 Jan 2027 08:10:00 GMT", -600.5),
    ];
    for ((date, offset), path) in dates.into_iter().zip([LIST, ZIP]) {
        let mut reply = Reply::stored(&bytes(300), MUTABLE);
        reply.headers.insert(DATE, HeaderValue::from_static(date));
        rig.origin.will(path, reply);
        rig.got(path).await;
        let shown = rig.engine.metrics.origin_clock.get();
        assert!((shown - offset).abs() < 1e-6, "{shown}");
    }
}
