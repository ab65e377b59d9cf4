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

/// §3, §4.3.4: a 304 that makes an answer what may not be kept isn't merged into it: what is stored is
/// given to nobody any more, and what the origin says now to the one who asked.
#[test]
fn a_304_that_forbids_to_store_ends_what_is_stored() {
    for control in ["no-store, max-age=60", "private, max-age=60"] {
        let page = Page::new(&format!(
            "validation/304-{}",
            control.split(',').next().unwrap()
        ));
        page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "old");
        page.get("");
        let fields = format!("Cache-Control: {control}\nETag: \"1\"\nX-User: me");
        page.answers(304, &fields, "").answers(200, &fields, "mine");
        let got = page.get("");
        assert_eq!((got.status, got.body.as_str()), (200, "mine"), "{control}");
        assert_eq!(page.seen()[2].field("if-none-match"), None);
        page.answers(200, &fields, "yours");
        assert_eq!(page.get("").body, "yours", "{control}");
    }
}

/// §3.5: the answer to a request with Authorization changes nothing for others, unless it says so.
#[test]
fn an_authorized_304_freshens_only_what_is_for_all() {
    for (name, control, hit) in [
        ("own", "max-age=60", false),
        ("all", "public, max-age=60", true),
    ] {
        let page = Page::new(&format!("validation/authorized-{name}"));
        page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "body");
        page.get("");
        let fields = format!("Cache-Control: {control}\nETag: \"1\"\nX-User: me");
        page.answers(304, &fields, "");
        if !hit {
            page.answers(200, &fields, "mine");
        }
        let got = page.get("Authorization: Basic eDp5");
        assert_eq!(got.body, if hit { "body" } else { "mine" });
        page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
        let got = page.get("");
        assert_eq!(got.body, "body");
        assert_eq!(
            (got.is_hit(), got.field("x-user").is_some()),
            (hit, hit),
            "{name}"
        );
    }
}

/// §5.2.1.5: the answer to a request with no-store is not kept, and freshens nothing.
#[test]
fn a_request_with_no_store_leaves_no_trace() {
    let page = Page::new("validation/no-store");
    page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "old");
    page.get("");
    page.answers(200, "Cache-Control: max-age=60\nETag: \"2\"", "once");
    assert_eq!(page.get("Cache-Control: no-store").body, "once");
    assert_eq!(page.seen()[1].field("if-none-match"), None);
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
    assert_eq!(page.get("").body, "old");
    assert_eq!(
        page.seen()[2].field("if-none-match").as_deref(),
        Some("\"1\"")
    );
}

/// RFC 9110 §15.4.5: a 304 is about a stored answer: without one it is no answer, and is not kept.
#[test]
fn a_304_without_a_stored_answer_is_the_origins_mistake() {
    let page = Page::new("validation/unasked");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
    let got = page.get("");
    assert_eq!(
        (got.status, got.field("modcdn-reason").as_deref()),
        (502, Some("origin-content"))
    );
    page.answers(200, "Cache-Control: max-age=60", "body");
    assert_eq!(page.get("").body, "body");
}

/// §4.3.1: what has no validator is asked for without a condition.
#[test]
fn what_has_no_validator_is_not_confirmed() {
    let page = Page::new("validation/none");
    page.answers(200, "Cache-Control: max-age=60\nAge: 70", "old");
    page.answers(200, "Cache-Control: max-age=60", "new");
    page.get("");
    // It came stale and can't be confirmed: it isn't kept in the first place.
    assert_eq!(page.get("If-None-Match: \"1\"").body, "new");
    let seen = &page.seen()[1];
    assert_eq!(
        (seen.field("if-none-match"), seen.field("if-modified-since")),
        (None, None)
    );
}

/// §4.3.2: the client's condition is answered from what the origin has just confirmed, or sent.
#[test]
fn a_condition_is_answered_from_what_was_just_confirmed() {
    let page = Page::new("validation/just");
    let old = "Cache-Control: max-age=0\nETag: \"1\"";
    page.answers(200, old, "old").answers(304, old, "");
    page.get("");
    assert_eq!(page.get("If-None-Match: \"1\"").status, 304);
    page.answers(304, old, "");
    let got = page.get("Range: bytes=1-2");
    assert_eq!((got.status, got.body.as_str()), (206, "ld"));
    page.answers(200, "Cache-Control: max-age=60\nETag: \"2\"", "new");
    assert_eq!(page.get("If-None-Match: \"2\"").status, 304);
    assert_eq!(page.get("If-None-Match: \"1\"").body, "new");
    assert_eq!(page.asked(), 4);
}

/// RFC 9110 §13.1.3: an If-Modified-Since that is no date is as if it weren't there; without
/// Last-Modified the time of the answer counts (RFC 9111 §4.3.2).
#[test]
fn if_modified_since_is_compared_as_a_date() {
    let page = Page::new("validation/since");
    page.answers(
        200,
        &format!("Cache-Control: max-age=60\nDate: {}", ago(30)),
        "body",
    );
    page.get("");
    for (since, status) in [
        (ago(10), 304),
        (ago(60), 200),
        ("soon".to_owned(), 200),
        (format!("{}\nIf-Modified-Since: {}", ago(10), ago(9)), 200),
    ] {
        let got = page.get(&format!("If-Modified-Since: {since}"));
        assert_eq!(got.status, status, "{since}");
    }
}

/// §4.3.4: a weak validator is enough where the stored one is weak, and a weak one doesn't confirm
/// another.
#[test]
fn a_304_names_the_stored_answer_by_its_validators() {
    for (name, stored, named, confirmed) in [
        ("weak", "ETag: W/\"1\"", "ETag: W/\"1\"", true),
        ("weaker", "ETag: \"1\"", "ETag: W/\"1\"", true),
        ("other", "ETag: W/\"1\"", "ETag: W/\"2\"", false),
        ("stronger", "ETag: W/\"1\"", "ETag: \"1\"", false),
        ("unnamed", "ETag: \"1\"", "", true),
    ] {
        let page = Page::new(&format!("validation/names-{name}"));
        page.answers(200, &format!("Cache-Control: max-age=0\n{stored}"), "old");
        page.get("");
        page.answers(304, &format!("Cache-Control: max-age=60\n{named}"), "");
        page.answers(200, "Cache-Control: max-age=60", "new");
        assert_eq!(page.get("").body == "old", confirmed, "{name}");
    }
}

/// §4.3.5: the fields of a HEAD are kept as those of a GET would be: not what is one client's, and
/// nothing at all if that is forbidden.
#[test]
fn a_head_freshens_only_what_may_be_kept() {
    let head = |fields: &str| {
        let fields =
            format!("HTTP/1.1 200 OK\nContent-Length: 4\nETag: \"1\"\nX-User: me\n{fields}");
        crate::harness::Reply::raw(&fields, "")
    };
    let stored = |name: &str| {
        let page = Page::new(&format!("validation/head-{name}"));
        page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "body");
        page.get("");
        page
    };
    let page = stored("qualified");
    page.will(head("Cache-Control: max-age=60, private=\"x-user\""));
    page.ask("HEAD", "", "");
    let got = page.get("");
    assert!(got.is_hit());
    assert_eq!(got.field("x-user"), None);

    let page = stored("no-store");
    page.will(head("Cache-Control: no-store, max-age=60"));
    page.ask("HEAD", "", "");
    page.answers(200, "Cache-Control: max-age=60", "new");
    let got = page.get("");
    assert_eq!(
        (got.body.as_str(), page.seen()[2].field("if-none-match")),
        ("new", None)
    );

    let page = stored("authorized");
    page.will(head("Cache-Control: max-age=60"));
    page.ask("HEAD", "Authorization: Basic eDp5", "");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
    let got = page.get("");
    assert_eq!((got.body.as_str(), got.field("x-user")), ("body", None));
    assert_eq!(
        page.seen()[2].field("if-none-match").as_deref(),
        Some("\"1\"")
    );

    // A status other than 200 says nothing about the stored answer.
    let page = stored("not-found");
    page.answers(404, "", "");
    page.ask("HEAD", "", "");
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
    assert_eq!(page.get("").body, "body");
}

/// §4.3.5: an age that a HEAD comes with counts, and what is not newer than it is stays stale.
#[test]
fn the_age_of_a_head_counts() {
    let page = Page::new("validation/head-age");
    page.answers(200, "Cache-Control: max-age=0\nETag: \"1\"", "body");
    page.get("");
    page.will(crate::harness::Reply::raw(
        "HTTP/1.1 200 OK\nContent-Length: 4\nCache-Control: max-age=60\nETag: \"1\"\nAge: 50",
        "",
    ));
    page.ask("HEAD", "", "");
    let got = page.get("");
    let age: u64 = got.field("age").unwrap().parse().unwrap();
    assert!(got.is_hit() && (50..60).contains(&age), "{age}");
}
