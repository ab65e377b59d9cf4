//! RFC 9111 §4.3 and RFC 9110 §13: conditions, the client's and ours.

use crate::harness::{Page, ago};

/// §4.3.1: both validators are sent, those of what is stored.
#[test]
fn a_stale_answer_is_confirmed_with_its_validators() {
    let page = Page::new("validation/ours");
    let modified = ago(9000);
    let fields = format!("Cache-Control: max-age=0\nETag: \"1\"\nLast-Modified: {modified}");
    page.answers(200, &fields, "body")
        .answers(304, "Cache-Control: max-age=60", "");
    page.get("");
    let got = page.get("If-None-Match: \"other\"\nIf-Modified-Since: x");
    assert_eq!((got.status, got.body.as_str()), (200, "body"));
    let seen = &page.seen()[1];
    assert_eq!(seen.field("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(seen.field("if-modified-since"), Some(modified));
    assert!(page.get("").is_hit(), "the 304 made it fresh");
}

/// §3.2, §4.3.4: the 304's fields replace those that are stored.
#[test]
fn a_304_updates_what_is_stored() {
    let page = Page::new("validation/update");
    let old = "Cache-Control: max-age=0\nETag: \"1\"\nX-A: old\nX-B: kept\nContent-Encoding: gzip";
    page.answers(200, old, "body");
    let new = "Cache-Control: max-age=60\nETag: \"1\"\nX-A: new\nX-C: added\nContent-Encoding: br
         Content-Length: 99\nConnection: X-D\nX-D: 1";
    page.answers(304, new, "");
    page.get("");
    for got in [page.get(""), page.get("")] {
        assert_eq!((got.status, got.body.as_str()), (200, "body"));
        let fields = [
            "x-a",
            "x-b",
            "x-c",
            "x-d",
            "content-encoding",
            "content-length",
        ];
        let found = fields.map(|name| got.field(name).unwrap_or_default());
        assert_eq!(found, ["new", "kept", "added", "", "gzip", "4"]);
    }
    assert_eq!(page.asked(), 2);
}

/// §4.1, §4.3.4: a 304 may change what the answer depends on.
#[test]
fn a_304_that_adds_a_vary_makes_the_answer_one_requests() {
    let page = Page::new("validation/vary");
    page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "one");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"\nVary: X-A", "");
    page.get("X-A: 1");
    assert_eq!(page.get("X-A: 1").body, "one");
    page.answers(
        200,
        "Cache-Control: max-age=60\nETag: \"2\"\nVary: X-A",
        "two",
    );
    assert_eq!(page.get("X-A: 2").body, "two");
}

/// §4.3.4: a 304 with another strong validator is about something else; the answer is asked for anew.
#[test]
fn a_304_about_something_else_confirms_nothing() {
    let page = Page::new("validation/other");
    page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "old");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"2\"", "");
    page.answers(200, "Cache-Control: max-age=60\nETag: \"2\"", "new");
    page.get("");
    assert_eq!(page.get("").body, "new");
    assert_eq!(page.seen()[2].field("if-none-match"), None);
}

/// §4.3.3: any other answer replaces what is stored.
#[test]
fn an_answer_that_changed_replaces_the_old_one() {
    let page = Page::new("validation/changed");
    page.answers(
        200,
        "Cache-Control: max-age=0\nETag: \"1\"\nX-A: old",
        "old",
    );
    page.answers(200, "Cache-Control: max-age=60\nETag: \"2\"", "new");
    page.get("");
    for got in [page.get(""), page.get("")] {
        assert_eq!((got.body.as_str(), got.field("x-a")), ("new", None));
    }
    assert_eq!(page.asked(), 2);
}

/// §4.3.2, RFC 9110 §13.1.2 and §13.1.3, §15.4.5: answered from the store.
#[test]
fn a_client_that_has_it_is_answered_304() {
    let page = Page::new("validation/client");
    let (modified, later, earlier) = (ago(9000), ago(8000), ago(9999));
    page.answers(
        200,
        &format!(
            "Cache-Control: max-age=60\nETag: \"1\"\nLast-Modified: {modified}
             Content-Type: text/plain\nVary: X-A"
        ),
        "body",
    );
    page.get("");
    for (asked, status) in [
        ("If-None-Match: \"1\"".to_owned(), 304),
        ("If-None-Match: W/\"1\"".to_owned(), 304),
        ("If-None-Match: \"0\", \"1\"".to_owned(), 304),
        ("If-None-Match: *".to_owned(), 304),
        ("If-None-Match: \"2\"".to_owned(), 200),
        (format!("If-Modified-Since: {modified}"), 304),
        (format!("If-Modified-Since: {later}"), 304),
        (format!("If-Modified-Since: {earlier}"), 200),
        (
            format!("If-None-Match: \"2\"\nIf-Modified-Since: {later}"),
            200,
        ),
    ] {
        let got = page.get(&asked);
        assert_eq!(got.status, status, "{asked}");
        assert!(got.is_hit() && got.field("age").is_some());
        for name in ["date", "etag", "cache-control", "vary", "last-modified"] {
            assert!(got.field(name).is_some(), "{name} in the answer to {asked}");
        }
        assert_eq!(got.field("content-type").is_some(), status == 200);
    }
    assert_eq!(page.asked(), 1);
}

/// §4.3.2: a miss is fetched whole, and the client's condition answered from that.
#[test]
fn a_conditional_request_that_misses_fills_the_cache() {
    let page = Page::new("validation/miss");
    page.answers(200, "Cache-Control: max-age=60\nETag: \"1\"", "body");
    assert_eq!(page.get("If-None-Match: \"1\"").status, 304);
    assert_eq!(page.seen()[0].field("if-none-match"), None);
    assert_eq!(page.get("").body, "body");
    assert_eq!(page.asked(), 1);
}

/// §4.3.2: where nothing may be stored, the origin evaluates the client's own condition.
#[test]
fn a_condition_on_what_is_not_stored_reaches_the_origin() {
    let page = Page::new("validation/not-stored");
    page.answers(200, "Cache-Control: no-store\nETag: \"1\"", "body")
        .answers(304, "ETag: \"1\"", "");
    let got = page.get("If-None-Match: \"1\"");
    assert_eq!(got.status, 304);
    assert_eq!(
        page.seen()[1].field("if-none-match").as_deref(),
        Some("\"1\"")
    );
}

/// RFC 9110 §13.1.1, §13.1.4: only the origin knows.
#[test]
fn if_match_and_if_unmodified_since_go_to_the_origin() {
    for (name, condition) in [
        ("if-match", "\"2\"".to_owned()),
        ("if-unmodified-since", ago(10)),
    ] {
        let page = Page::new(&format!("validation/{name}"));
        page.answers(200, "Cache-Control: max-age=60\nETag: \"1\"", "body");
        page.get("");
        page.answers(412, "", "no");
        assert_eq!(page.get(&format!("{name}: {condition}")).status, 412);
        assert_eq!(page.seen()[1].field(name), Some(condition));
        assert!(page.get("").is_hit());
    }
}

/// §4.3.5: a HEAD that fits freshens the stored answer.
#[test]
fn a_head_freshens_what_is_stored() {
    let page = Page::new("validation/head");
    page.answers(
        200,
        "Cache-Control: max-age=0\nETag: \"1\"\nX-A: old",
        "body",
    );
    page.get("");
    page.will(crate::harness::Reply::raw(
        "HTTP/1.1 200 OK\nContent-Length: 4\nCache-Control: max-age=60\nETag: \"1\"\nX-A: new",
        "",
    ));
    let head = page.ask("HEAD", "", "");
    assert_eq!(
        (head.status, head.field("content-length").as_deref()),
        (200, Some("4"))
    );
    let got = page.get("");
    assert!(got.is_hit());
    assert_eq!(
        (got.body.as_str(), got.field("x-a").as_deref()),
        ("body", Some("new"))
    );
}

/// §4.3.5: one that doesn't fit makes it stale.
#[test]
fn a_head_that_differs_outdates_what_is_stored() {
    for (name, fields) in [
        ("length", "ETag: \"1\"\nContent-Length: 5"),
        ("etag", "ETag: \"2\""),
    ] {
        let page = Page::new(&format!("validation/head-{name}"));
        page.answers(200, "Cache-Control: max-age=60\nETag: \"1\"", "old");
        page.get("");
        page.will(crate::harness::Reply::raw(
            &format!("HTTP/1.1 200 OK\n{fields}"),
            "",
        ));
        page.ask("HEAD", "Cache-Control: no-cache", "");
        page.answers(200, "Cache-Control: max-age=60", "new");
        assert_eq!(page.get("").body, "new", "{name}");
    }
}

/// RFC 9110 §9.3.2: HEAD is answered from a stored GET.
#[test]
fn head_is_answered_from_a_stored_get() {
    let page = Page::new("validation/head-hit");
    page.answers(200, "Cache-Control: max-age=60", "body");
    page.get("");
    let head = page.ask("HEAD", "", "");
    assert!(head.is_hit());
    assert_eq!(
        (head.body.as_str(), head.field("content-length").as_deref()),
        ("", Some("4"))
    );
    assert_eq!(page.asked(), 1);
}
