//! RFC 9111 §4.2 and §5.2.1, RFC 5861: how long what is stored is given.

use crate::harness::{Page, ago, ahead};

/// A page that is stored, so many seconds old already.
fn aged(name: &str, age: u64, control: &str) -> Page {
    let page = Page::new(&format!("freshness/{name}"));
    page.answers(
        200,
        &format!("Cache-Control: {control}\nAge: {age}\nETag: \"1\""),
        "old",
    );
    assert_eq!(page.get("").body, "old");
    page
}

/// §4.2: a response is fresh while its age is below its lifetime.
#[test]
fn an_answer_is_given_while_it_is_fresh() {
    let expires = |secs| format!("max-age=0, s-maxage={secs}");
    for (name, age, control, hit) in [
        ("young", 30, "max-age=60", true),
        ("old", 60, "max-age=60", false),
        ("shared", 30, "max-age=10, s-maxage=60", true),
        ("not-shared", 30, "max-age=60, s-maxage=10", false),
        ("shared-only", 5, &*expires(60), true),
        ("no-cache", 0, "max-age=60, no-cache", false),
        ("strange", 0, "max-age=a", false),
        ("twice", 0, "max-age=60, max-age=61", false),
        ("huge", 60, "max-age=99999999999999", true),
        ("immutable", 61, "max-age=60, immutable", false),
    ] {
        let page = aged(name, age, control);
        page.answers(200, "Cache-Control: max-age=60", "new");
        assert_eq!(page.get("").body == "old", hit, "{name}");
    }
}

/// §4.2.1 and §5.3: Expires less Date; what is no date is in the past.
#[test]
fn expires_counts_from_the_date() {
    for (name, expires, hit) in [
        ("later", ahead(600), true),
        ("earlier", ago(600), false),
        ("zero", "0".to_owned(), false),
    ] {
        let page = Page::new(&format!("freshness/expires-{name}"));
        let fields = format!("Date: {}\nExpires: {expires}\nETag: \"1\"", ago(10));
        page.answers(200, &fields, "old")
            .answers(200, &fields, "new");
        page.get("");
        assert_eq!(page.get("").is_hit(), hit, "{name}");
    }
}

/// §4.2.2: a tenth of the time since Last-Modified, where no lifetime is named.
#[test]
fn a_lifetime_is_guessed_where_none_is_named() {
    for (name, age, extra, hit) in [
        ("guessed", 50, "", true),
        ("over", 150, "", false),
        ("named", 50, "Cache-Control: max-age=10", false),
        ("cookie", 50, "Set-Cookie: a=b", false),
    ] {
        let page = Page::new(&format!("freshness/heuristic-{name}"));
        let dates = format!(
            "Date: {}\nLast-Modified: {}\n{extra}",
            ago(age),
            ago(1000 + age)
        );
        page.answers(200, &dates, "old").answers(200, &dates, "new");
        page.get("");
        assert_eq!(page.get("").is_hit(), hit, "{name}");
    }
}

/// §4.2.3, §5.1: Age is what the answer came with and what has passed since; also the Date's.
#[test]
fn the_age_that_an_answer_comes_with_is_passed_on() {
    let got = aged("age", 40, "max-age=60").get("");
    let age: u64 = got.field("age").unwrap().parse().unwrap();
    assert!((40..50).contains(&age), "{age}");
    let page = Page::new("freshness/age-date");
    page.answers(
        200,
        &format!("Cache-Control: max-age=60\nDate: {}", ago(40)),
        "body",
    );
    page.get("");
    let age: u64 = page.get("").field("age").unwrap().parse().unwrap();
    assert!((40..50).contains(&age), "{age}");
}

/// §4: an answer from the store has an Age, a first-hand one hasn't.
#[test]
fn a_stored_answer_tells_its_age() {
    let page = Page::new("freshness/first-hand");
    page.answers(
        200,
        &format!("Cache-Control: max-age=60\nDate: {}", ahead(5)),
        "body",
    );
    assert_eq!(page.get("").field("age"), None);
    assert!(page.get("").field("age").is_some());
}

/// §5.2.1: what a client asks for.
#[test]
fn a_client_may_narrow_or_widen_what_it_takes() {
    for (name, age, control, asked, hit) in [
        (
            "no-cache",
            0,
            "max-age=60",
            "Cache-Control: no-cache",
            false,
        ),
        ("pragma", 0, "max-age=60", "Pragma: no-cache", false),
        (
            "pragma-not",
            0,
            "max-age=60",
            "Pragma: no-cache\nCache-Control: max-stale",
            true,
        ),
        (
            "max-age-0",
            0,
            "max-age=60",
            "Cache-Control: max-age=0",
            false,
        ),
        (
            "max-age",
            30,
            "max-age=60",
            "Cache-Control: max-age=20",
            false,
        ),
        (
            "max-age-more",
            30,
            "max-age=60",
            "Cache-Control: max-age=50",
            true,
        ),
        (
            "min-fresh",
            30,
            "max-age=60",
            "Cache-Control: min-fresh=40",
            false,
        ),
        (
            "min-fresh-less",
            30,
            "max-age=60",
            "Cache-Control: min-fresh=20",
            true,
        ),
        (
            "max-stale",
            70,
            "max-age=60",
            "Cache-Control: max-stale=50",
            true,
        ),
        (
            "max-stale-any",
            700,
            "max-age=60",
            "Cache-Control: max-stale",
            true,
        ),
        (
            "max-stale-less",
            120,
            "max-age=60",
            "Cache-Control: max-stale=50",
            false,
        ),
        (
            "max-stale-must",
            70,
            "max-age=60, must-revalidate",
            "Cache-Control: max-stale",
            false,
        ),
        (
            "max-stale-proxy",
            70,
            "max-age=60, proxy-revalidate",
            "Cache-Control: max-stale",
            false,
        ),
        (
            "max-stale-shared",
            70,
            "s-maxage=60",
            "Cache-Control: max-stale",
            false,
        ),
        ("no-store", 0, "max-age=60", "Cache-Control: no-store", true),
    ] {
        let page = aged(&format!("asked-{name}"), age, control);
        page.answers(200, "Cache-Control: max-age=60", "new");
        assert_eq!(page.get(asked).body == "old", hit, "{name}");
    }
}

/// §5.2.1.7.
#[test]
fn only_if_cached_is_answered_504_without_asking() {
    let page = Page::new("freshness/only-if-cached");
    let got = page.get("Cache-Control: only-if-cached");
    assert_eq!((got.status, page.asked()), (504, 0));
    assert_eq!(
        got.field("modcdn-reason").as_deref(),
        Some("only-if-cached")
    );
    page.answers(200, "Cache-Control: max-age=60", "body");
    page.get("");
    assert!(page.get("Cache-Control: only-if-cached").is_hit());
}

/// RFC 5861 §3: given stale, confirmed meanwhile.
#[test]
fn stale_while_revalidate_answers_at_once() {
    let page = aged("swr", 70, "max-age=60, stale-while-revalidate=30");
    page.answers(200, "Cache-Control: max-age=60", "new");
    let got = page.get("");
    assert_eq!(got.body, "old");
    assert!(
        got.cache().contains("detail=revalidating"),
        "{}",
        got.cache()
    );
    page.get_until(|got| got.body == "new");
    assert_eq!(page.asked(), 2);
    assert_eq!(
        page.seen()[1].field("if-none-match").as_deref(),
        Some("\"1\"")
    );
}

/// RFC 9111 §4.3.3: what the origin answers otherwise is given no more, though that is not stored.
#[test]
fn a_revalidation_that_brings_another_answer_ends_the_stale_one() {
    let page = aged("swr-gone", 70, "max-age=60, stale-while-revalidate=600");
    // Until the first of them is here, each request may have another one asked for.
    for _ in 0..1000 {
        page.answers(404, "Cache-Control: no-store", "gone");
    }
    assert_eq!(page.get("").body, "old");
    page.get_until(|got| got.status == 404);
}

/// RFC 5861 §4: given stale when the origin fails, and not asked for every request.
#[test]
fn stale_if_error_stands_in_for_a_failing_origin() {
    for status in [500, 502, 503, 504] {
        let page = aged(
            &format!("sie-{status}"),
            70,
            "max-age=60, stale-if-error=30",
        );
        page.answers(status, "", "failed");
        for _ in 0..3 {
            let got = page.get("");
            assert_eq!((got.status, got.body.as_str()), (200, "old"));
            assert!(
                got.cache().contains("detail=origin-failed"),
                "{}",
                got.cache()
            );
        }
        assert_eq!(page.asked(), 2);
    }
    let page = aged("sie-not-found", 70, "max-age=60, stale-if-error=30");
    page.answers(404, "", "gone");
    assert_eq!(page.get("").status, 404);
    let page = aged("sie-unnamed", 70, "max-age=60");
    page.answers(503, "", "failed");
    assert_eq!(page.get("").status, 503);
}

/// §4.2.4: when the origin is gone, what nobody forbids; never what must be revalidated (§5.2.2.2).
#[test]
fn a_lost_origin_serves_stale_unless_that_is_forbidden() {
    let got = aged("lost", 70, "max-age=60").get("");
    assert_eq!((got.status, got.body.as_str()), (200, "old"));
    for control in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "no-cache",
    ] {
        let name = format!("lost-{}", control.replace([' ', '=', ','], "-"));
        let got = aged(&name, 70, control).get("");
        assert_eq!(got.status, 502, "{control}");
        assert!(got.field("modcdn-reason").is_some() && got.body.starts_with("modcdn: "));
    }
}

/// RFC 9211 §2: each case.
#[test]
fn cache_status_says_what_was_done() {
    let page = Page::new("freshness/cache-status");
    page.answers(
        200,
        "Cache-Control: max-age=60\nETag: \"1\"\nCache-Status: up; hit",
        "body",
    );
    let got = page.get("");
    assert_eq!(
        got.field("cache-status").as_deref(),
        Some("up; hit, eu; fwd=uri-miss; stored")
    );
    assert!(page.get("").cache().starts_with("hit; ttl="));
    page.answers(304, "Cache-Control: max-age=0", "");
    assert_eq!(
        page.get("Cache-Control: no-cache").cache(),
        "fwd=request; fwd-status=304"
    );
    page.answers(304, "Cache-Control: max-age=60", "");
    assert_eq!(page.get("").cache(), "fwd=stale; fwd-status=304");
    page.answers(200, "", "done");
    assert_eq!(page.ask("POST", "", "x").cache(), "fwd=method");
    page.answers(200, "Cache-Control: no-store", "body");
    assert_eq!(page.get("").cache(), "fwd=uri-miss; detail=no-store");
    page.answers(200, "", "body");
    assert_eq!(page.get("If-Match: \"1\"").cache(), "fwd=bypass");
}
