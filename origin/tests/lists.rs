//! Lists and `@latest`: refreshed before anybody waits, put together from several upstreams, and what
//! happens while an upstream asks for a pause (F11).

mod harness;

use std::collections::HashSet;

use harness::{Case, Reply, Upstream, until};
use modcdn_core::units::Period;
use modcdn_origin::Config;
use modcdn_origin::config::Lists;

const LIST: &str = "/a.example/m/@v/list";
const LATEST: &str = "/a.example/m/@latest";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const TEXT: &str = "module a.example/m\n";
const REFRESHES: &str = "modcdn_origin_refreshes_total";

fn merged(config: &mut Config) {
    config.mounts[0].lists = Lists::Merge;
    config.freshness.mutable = Period::secs(0);
    config.freshness.stale_while_revalidate = Period::secs(0);
}

#[tokio::test]
async fn what_was_asked_for_lately_is_refreshed_before_it_is_stale() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let short = |config: &mut Config| config.freshness.mutable = Period::millis(20);
    let case = Case::with(&upstream.url(), short).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    upstream.only(LIST, Reply::Body("v1.0.0\nv1.1.0\n".into(), vec![]));
    // Nobody asks again.
    let ok = [("cause", "ahead"), ("outcome", "ok")];
    until(|| case.metric(REFRESHES, &ok) >= 3.0).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
}

#[tokio::test]
async fn a_refresh_that_fails_is_tried_again_and_the_answer_stays() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    upstream.on(LIST, Reply::Status(500, "trouble"));
    upstream.on_text(LIST, "v1.0.0\nv1.1.0\n");
    let short = |config: &mut Config| config.freshness.mutable = Period::millis(20);
    let case = Case::with(&upstream.url(), short).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    let failed = [("cause", "ahead"), ("outcome", "failed")];
    until(|| case.metric(REFRESHES, &failed) >= 1.0).await;
    let ok = [("cause", "ahead"), ("outcome", "ok")];
    until(|| case.metric(REFRESHES, &ok) >= 1.0).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
}

#[tokio::test]
async fn a_list_that_vanishes_is_absent_at_its_refresh() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    upstream.on(LIST, Reply::Status(404, "gone"));
    let short = |config: &mut Config| config.freshness.mutable = Period::millis(20);
    let case = Case::with(&upstream.url(), short).await;
    assert_eq!(case.get(LIST).await.status, 200);
    let absent = [("cause", "ahead"), ("outcome", "absent")];
    until(|| case.metric(REFRESHES, &absent) >= 1.0).await;
    assert_eq!(case.get(LIST).await.status, 404);
}

#[tokio::test]
async fn versions_of_all_upstreams_are_put_together() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    a.on_text(LIST, "v1.10.0\nv1.0.0\n");
    b.on_text(LIST, "v1.2.0\nv1.0.0\n");
    a.on_text(LATEST, r#"{"Version":"v1.10.0"}"#);
    b.on_text(LATEST, r#"{"Version":"v1.2.0"}"#);
    a.on_text(MOD, TEXT);
    let chain = format!("{},{},off", b.url(), a.url());
    let case = Case::with(&chain, merged).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.2.0\nv1.10.0\n");
    assert_eq!(case.get(LATEST).await.text(), r#"{"Version":"v1.10.0"}"#);
    // Files are those of the first that has them.
    assert_eq!(case.get(MOD).await.text(), TEXT);
    let first = Case::start(&chain).await;
    assert_eq!(first.get(LIST).await.text(), "v1.2.0\nv1.0.0\n");
}

#[tokio::test]
async fn a_failure_is_borne_beside_a_bar_and_no_version_vanishes() {
    for (separator, expected) in [('|', "v1.0.0\nv1.1.0\nv2.0.0\n"), (',', "v1.0.0\nv2.0.0\n")] {
        let (a, b) = (Upstream::start().await, Upstream::start().await);
        a.on_text(LIST, "v1.0.0\n");
        b.on_text(LIST, "v2.0.0\n");
        let chain = format!("{}{separator}{}", a.url(), b.url());
        let case = Case::with(&chain, merged).await;
        assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv2.0.0\n");
        b.only(LIST, Reply::Status(500, "trouble"));
        a.only(LIST, Reply::Body("v1.0.0\nv1.1.0\n".into(), vec![]));
        // With a comma it is a failure, for which the stale answer stands in.
        assert_eq!(case.get(LIST).await.text(), expected, "{separator}");
        let partial = case.metric("modcdn_origin_partial_lists_total", &[]);
        assert_eq!(partial > 0.0, separator == '|');
    }
}

#[tokio::test]
async fn an_upstream_that_asks_for_a_pause_gets_it() {
    for (separator, status) in [('|', 200), (',', 503)] {
        let (busy, other) = (Upstream::start().await, Upstream::start().await);
        busy.on(LIST, Reply::Refused(429, "retry-after", "60"));
        other.on_text(LIST, "v1.0.0\n");
        other.on_text(MOD, TEXT);
        let chain = format!("{}{separator}{}", busy.url(), other.url());
        let case = Case::start(&chain).await;
        case.get(LIST).await;
        let answer = case.get(MOD).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(busy.all_asked(), 1);
        if separator == ',' {
            assert_eq!(answer.header("modcdn-reason"), "upstream-suspended");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(
                answer.text().contains("try again in 6"),
                "{}",
                answer.text()
            );
            assert_eq!(other.all_asked(), 0, "a comma goes on after absence only");
        }
        let backoffs = "modcdn_origin_upstream_backoffs_total";
        assert_eq!(case.metric(backoffs, &[("cause", "asked")]), 1.0);
        assert_eq!(case.metric("modcdn_origin_upstreams_resting", &[]), 1.0);
    }
}

#[tokio::test]
async fn failures_in_a_row_rest_an_upstream_until_it_answers_again() {
    let upstream = Upstream::start().await;
    let brief = |config: &mut Config| {
        config.upstreams.backoff.failures = 3;
        config.upstreams.backoff.first = Period::millis(1);
        config.upstreams.backoff.longest = Period::millis(1);
    };
    let case = Case::with(&upstream.url(), brief).await;
    let path = |n: usize| format!("/a.example/m/@v/v1.0.{n}.mod");
    for n in 0..3 {
        upstream.on(&path(n), Reply::Status(500, "trouble"));
        assert_eq!(case.get(&path(n)).await.status, 502);
    }
    let backoffs = "modcdn_origin_upstream_backoffs_total";
    assert_eq!(case.metric(backoffs, &[("cause", "failures")]), 1.0);
    upstream.on_text(MOD, TEXT);
    upstream.on_text(&path(7), TEXT);
    let mut statuses = HashSet::new();
    loop {
        let status = case.get(&path(7)).await.status;
        statuses.insert(status);
        if status == 200 {
            break;
        }
    }
    assert!(
        statuses.is_subset(&HashSet::from([200, 503])),
        "{statuses:?}"
    );
    assert_eq!(case.metric("modcdn_origin_upstreams_resting", &[]), 0.0);
}

#[tokio::test]
async fn one_object_that_fails_rests_nobody() {
    let upstream = Upstream::start().await;
    upstream.on(LIST, Reply::Status(500, "trouble"));
    let few = |config: &mut Config| config.upstreams.backoff.failures = 2;
    let case = Case::with(&upstream.url(), few).await;
    for n in 0..10 {
        assert_eq!(case.get(LIST).await.status, 502);
        let other = format!("/b.example/m{n}/@v/list");
        assert_eq!(case.get(&other).await.status, 404);
    }
}

#[tokio::test]
async fn while_an_upstream_rests_stale_answers_are_used() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let at_once = |config: &mut Config| {
        config.freshness.mutable = Period::secs(0);
        config.freshness.stale_while_revalidate = Period::secs(0);
    };
    let case = Case::with(&upstream.url(), at_once).await;
    case.get(LIST).await;
    upstream.only(LIST, Reply::Refused(429, "retry-after", "600"));
    for _ in 0..5 {
        assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    }
    assert_eq!(upstream.asked(LIST), 2);
    let stale = case.metric("modcdn_origin_stale_answers_total", &[("cause", "error")]);
    assert_eq!(stale, 5.0);
}

#[tokio::test]
async fn mounts_with_one_upstream_share_its_pause() {
    let upstream = Upstream::start().await;
    upstream.on(LIST, Reply::Refused(503, "retry-after", "60"));
    let two = |config: &mut Config| {
        let mut team = config.mounts[0].clone();
        team.prefix = "/team-a/".parse().unwrap();
        config.mounts.push(team);
    };
    let case = Case::with(&upstream.url(), two).await;
    assert_eq!(case.get(LIST).await.status, 502);
    assert_eq!(case.get(&format!("/team-a{LIST}")).await.status, 503);
    assert_eq!(upstream.all_asked(), 1);
}

#[tokio::test]
async fn memory_for_answers_is_bounded_whatever_is_asked_for() {
    let upstream = Upstream::start().await;
    let limit = 20_000;
    let small = |config: &mut Config| {
        config.limits.mutable_memory = modcdn_core::units::ByteSize::b(limit);
        config.limits.not_found_entries = 10;
    };
    let case = Case::with(&upstream.url(), small).await;
    for n in 0..60 {
        let (known, absent) = (
            format!("/a.example/m{n}/@v/list"),
            format!("/a.example/n{n}/@v/list"),
        );
        upstream.on_text(&known, "v1.0.0\n");
        assert_eq!(case.get(&known).await.status, 200);
        assert_eq!(case.get(&absent).await.status, 404);
        let bytes = case.metric("modcdn_origin_mutable_memory_bytes", &[]);
        assert!(bytes > 0.0 && bytes <= limit as f64);
    }
}
