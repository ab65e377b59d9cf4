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
        ("immutable-fresh", 59, "max-age=60, immutable", true),
        ("twice-alike", 30, "max-age=60, max-age=60", true),
        (
            "shared-twice",
            0,
            "s-maxage=60, s-maxage=61, max-age=60",
            false,
        ),
        ("shared-strange", 0, "s-maxage=x, max-age=60", false),
        ("quoted", 30, "max-age=\"60\"", true),
        ("shouted", 30, "MAX-AGE=60", true),
        ("negative", 0, "max-age=-1", false),
        ("fraction", 0, "max-age=60.5", false),
        ("empty", 0, "max-age=", false),
        ("qualified", 30, "max-age=60, no-cache=\"x-a\"", true),
        (
            "older-than-anything",
            99_999_999_999,
            "max-age=1000000000",
            false,
        ),
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
        ("now", ago(10), false),
        ("words", "soon".to_owned(), false),
        (
            "twice",
            format!("{}\nExpires: {}", ahead(600), ahead(500)),
            false,
        ),
        (
            "overruled",
            format!("{}\nCache-Control: max-age=60", ago(600)),
            true,
        ),
        (
            "overruling",
            format!("{}\nCache-Control: max-age=0", ahead(600)),
            false,
        ),
        (
            "shared",
            format!("{}\nCache-Control: s-maxage=60, max-age=0", ago(9)),
            true,
        ),
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
        ("strange-expires", 50, "Expires: never", false),
        ("public", 50, "Cache-Control: public", true),
        ("pragma", 50, "Pragma: no-cache", true),
        ("no-cache", 50, "Cache-Control: no-cache", false),
        ("cdn", 50, "CDN-Cache-Control: max-age=10", false),
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

/// §4.2.2: statuses that nobody said may be stored are guessed about only if they are known; a query
/// is no reason not to.
#[test]
fn a_lifetime_is_guessed_for_some_statuses_and_any_url() {
    let dates = format!("Date: {}\nLast-Modified: {}", ago(50), ago(1050));
    for (status, extra, hit) in [
        (203, "", true),
        (404, "", true),
        (410, "", true),
        (301, "Location: /x", true),
        (302, "Location: /x", false),
        (403, "", false),
        (500, "", false),
        (302, "Location: /x\nCache-Control: public", true),
    ] {
        let name = format!("freshness/guessed-{status}-{}", extra.len());
        let page = Page::new(&name);
        let fields = format!("{dates}\n{extra}");
        page.answers(status, &fields, "old")
            .answers(status, &fields, "new");
        page.get("");
        assert_eq!(page.get("").is_hit(), hit, "{status} {extra}");
    }
    let page = Page::new("freshness/guessed-query");
    page.answers(200, &dates, "old");
    let target = format!("{}?a=1", page.path);
    crate::harness::ask("GET", &target, "", "");
    assert!(crate::harness::ask("GET", &target, "", "").is_hit());
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

/// §5.1: of several values the first counts, of an invalid one nothing; §4.2.3: whichever of Age and
/// Date shows the greater age.
#[test]
fn strange_ages_are_read_as_the_rules_say() {
    for (name, fields, expected) in [
        ("list", "Age: 40, 5".to_owned(), 40),
        ("lines", "Age: 40\nAge: 50".to_owned(), 40),
        ("negative", "Age: -40".to_owned(), 0),
        ("words", "Age: old".to_owned(), 0),
        ("fraction", "Age: 40.5".to_owned(), 0),
        ("older-date", format!("Age: 20\nDate: {}", ago(40)), 40),
        ("younger-date", format!("Age: 40\nDate: {}", ago(20)), 40),
        ("future-date", format!("Age: 40\nDate: {}", ahead(600)), 40),
    ] {
        let page = Page::new(&format!("freshness/age-{name}"));
        page.answers(
            200,
            &format!("Cache-Control: max-age=600\n{fields}"),
            "body",
        );
        page.get("");
        let age: u64 = page.get("").field("age").unwrap().parse().unwrap();
        assert!((expected..expected + 10).contains(&age), "{name}: {age}");
    }
}

/// §4.2.3, §4.3.4: a 304 that comes from another cache has an age of its own.
#[test]
fn the_age_of_a_confirmation_counts() {
    let page = aged("age-304", 70, "max-age=60");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"\nAge: 50", "");
    let age: u64 = page.get("").field("age").unwrap().parse().unwrap();
    assert!((50..60).contains(&age), "{age}");
    let page = aged("age-304-old", 70, "max-age=60");
    for _ in 0..2 {
        page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"\nAge: 60", "");
        page.get("");
    }
    assert_eq!(
        page.asked(),
        3,
        "it was confirmed, and is stale all the same"
    );
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
        (
            "max-stale-just",
            100,
            "max-age=60",
            "Cache-Control: max-stale=55",
            true,
        ),
        (
            "max-stale-strange",
            70,
            "max-age=60",
            "Cache-Control: max-stale=x",
            false,
        ),
        (
            "max-stale-twice",
            70,
            "max-age=60",
            "Cache-Control: max-stale=50, max-stale=60",
            false,
        ),
        (
            "max-stale-and-age",
            70,
            "max-age=60",
            "Cache-Control: max-stale=50, max-age=65",
            false,
        ),
        (
            "max-stale-no-cache",
            0,
            "max-age=60, no-cache",
            "Cache-Control: max-stale",
            false,
        ),
        (
            "min-fresh-stale",
            70,
            "max-age=60",
            "Cache-Control: max-stale, min-fresh=1",
            false,
        ),
        (
            "immutable-reload",
            0,
            "max-age=60, immutable",
            "Cache-Control: no-cache",
            false,
        ),
        (
            "pragma-alone-counts",
            0,
            "max-age=60",
            "Pragma: x, No-Cache",
            false,
        ),
        (
            "pragma-of-something-else",
            0,
            "max-age=60",
            "Pragma: x",
            true,
        ),
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
    for (name, control) in [
        ("must", "max-age=60, stale-if-error=30, must-revalidate"),
        ("no-cache", "no-cache, stale-if-error=300"),
        ("over", "max-age=60, stale-if-error=9"),
        ("strange", "max-age=60, stale-if-error=x"),
    ] {
        let page = aged(&format!("sie-{name}"), 70, control);
        page.answers(503, "", "failed");
        assert_eq!(page.get("").status, 503, "{name}");
    }
    let page = aged("sie-asked", 70, "max-age=60");
    page.answers(503, "", "failed");
    assert_eq!(page.get("Cache-Control: stale-if-error=30").body, "old");
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
