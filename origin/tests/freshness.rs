//! Answers that may change, true absence, and the checksum database.

mod harness;

use harness::{Case, Client, Reply, Upstream, until};
use modcdn_core::units::Period;
use modcdn_origin::Config;

const LIST: &str = "/a.example/m/@v/list";
const MAIN: &str = "/a.example/m/@v/main.info";

/// Answers are stale at once, and asked for again before they are given.
fn at_once(config: &mut Config) {
    config.freshness.mutable = Period::secs(0);
    config.freshness.stale_while_revalidate = Period::secs(0);
}

#[tokio::test]
async fn a_fresh_answer_is_not_asked_for_again() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = Case::start(&upstream.url()).await;
    for _ in 0..3 {
        let answer = case.get(LIST).await;
        assert_eq!(answer.text(), "v1.0.0\n");
        assert!(answer.header("age").parse::<u64>().unwrap() < 60);
    }
    assert_eq!(upstream.asked(LIST), 1);
}

#[tokio::test]
async fn a_stale_answer_is_given_while_a_newer_one_is_fetched() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    upstream.on_text(LIST, "v1.0.0\nv1.1.0\n");
    let stale = |config: &mut Config| config.freshness.mutable = Period::secs(0);
    let case = Case::with(&upstream.url(), stale).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    until(|| upstream.asked(LIST) >= 2).await;
    while case.get(LIST).await.text() != "v1.0.0\nv1.1.0\n" {}
}

#[tokio::test]
async fn a_dead_upstream_serves_stale() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    upstream.on_text(MAIN, r#"{"Version":"v1.0.0"}"#);
    let case = Case::with(&upstream.url(), at_once).await;
    let known = [(LIST, case.get(LIST).await), (MAIN, case.get(MAIN).await)];
    for status in [403, 500, 503, 429] {
        for (path, before) in &known {
            upstream.only(path, Reply::Status(status, "trouble"));
            let after = case.get(path).await;
            assert_eq!((after.status, &after.body), (200, &before.body), "{status}");
            assert!(!after.header("age").is_empty());
        }
    }
    let stale = case.metric("modcdn_origin_stale_answers_total", &[("cause", "error")]);
    assert_eq!(stale, 8.0);
}

#[tokio::test]
async fn a_slow_upstream_serves_stale_too() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let impatient = |config: &mut Config| {
        at_once(config);
        config.timeouts.refresh = Period::millis(20);
    };
    let case = Case::with(&upstream.url(), impatient).await;
    case.get(LIST).await;
    upstream.only(LIST, Reply::Status(500, ""));
    let _gate = {
        let (gate, pieces) = tokio::sync::mpsc::unbounded_channel();
        upstream.only(LIST, Reply::Gated(Some(7), pieces));
        gate
    };
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
}

#[tokio::test]
async fn an_answer_too_old_for_any_use_is_not_given() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let strict = |config: &mut Config| {
        at_once(config);
        config.freshness.stale_if_error = Period::secs(0);
    };
    let case = Case::with(&upstream.url(), strict).await;
    assert_eq!(case.get(LIST).await.status, 200);
    upstream.only(LIST, Reply::Status(500, ""));
    assert_eq!(case.get(LIST).await.status, 502);
}

#[tokio::test]
async fn upstreams_validators_save_the_body() {
    let upstream = Upstream::start().await;
    let tagged = vec![("etag", "\"one\"")];
    upstream.on(LIST, Reply::Body("v1.0.0\n".into(), tagged));
    let case = Case::with(&upstream.url(), at_once).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    assert_eq!(upstream.last(LIST)["if-none-match"], "\"one\"");
    let name = "modcdn_origin_upstream_revalidations_total";
    assert_eq!(case.metric(name, &[("outcome", "not-modified")]), 1.0);
}

#[tokio::test]
async fn true_absence_is_remembered_and_failures_are_not() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    for path in [
        LIST,
        MAIN,
        "/a.example/m/@v/v1.0.0.zip",
        "/a.example/m/@latest",
    ] {
        for _ in 0..3 {
            let answer = case.get(path).await;
            assert_eq!(
                (answer.status, answer.header("modcdn-reason")),
                (404, "not-found")
            );
            assert_eq!(answer.header("cache-control"), "public, max-age=60");
        }
        assert_eq!(upstream.asked(path), 1, "{path}");
        let other = path.replace("/m/", "/n/");
        upstream.on(&other, Reply::Status(500, ""));
        for n in 1..=3 {
            assert_eq!(case.get(&other).await.status, 502);
            assert_eq!(upstream.asked(&other), n);
        }
    }
}

#[tokio::test]
async fn what_upstream_takes_back_is_gone() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = Case::with(&upstream.url(), at_once).await;
    assert_eq!(case.get(LIST).await.status, 200);
    upstream.only(LIST, Reply::Status(410, "gone"));
    for _ in 0..2 {
        assert_eq!(case.get(LIST).await.status, 410);
    }
}

#[tokio::test]
async fn a_hundred_askers_of_a_list_are_one_request() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = Case::start(&upstream.url()).await;
    let client = Client::h2(case.address()).await;
    let asks = (0..100).map(|_| client.get(LIST, &[]));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.text() == "v1.0.0\n"));
    assert_eq!(upstream.asked(LIST), 1);
}
