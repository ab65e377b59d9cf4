//! RFC 9111 §3: what is stored.

use crate::harness::{Page, Reply, ago, ahead};

/// Asks twice; whether the second answer was stored.
fn is_stored(name: &str, asked: &str, status: u16, fields: &str) -> bool {
    let page = Page::new(name);
    page.answers(status, fields, "one")
        .answers(status, fields, "two");
    assert_eq!(page.get(asked).body, "one", "{name}");
    page.get(asked).body == "one"
}

/// §3: each rule that forbids to store, and what allows it.
#[test]
fn an_answer_is_stored_only_if_it_may_be() {
    let expires = format!("Expires: {}", ahead(600));
    let expired = format!("Expires: {}", ago(600));
    let basic = "Authorization: Basic eDp5";
    let cookie = format!(
        "Set-Cookie: a=b\nDate: {}\nLast-Modified: {}",
        ago(0),
        ago(9000)
    );
    let table = [
        ("max-age", "", 200, "Cache-Control: max-age=60", true),
        ("s-maxage", "", 200, "Cache-Control: s-maxage=60", true),
        ("expires", "", 200, expires.as_str(), true),
        ("expired", "", 200, expired.as_str(), false),
        ("silent", "", 200, "", false),
        (
            "no-store",
            "",
            200,
            "Cache-Control: no-store, max-age=60",
            false,
        ),
        (
            "no-store-last",
            "",
            200,
            "Cache-Control: max-age=60\nCache-Control: no-store",
            false,
        ),
        (
            "asked-no-store",
            "Cache-Control: no-store",
            200,
            "Cache-Control: max-age=60",
            false,
        ),
        (
            "private",
            "",
            200,
            "Cache-Control: private, max-age=60",
            false,
        ),
        (
            "private-mixed-case",
            "",
            200,
            "Cache-Control: PRIVATE, max-age=60",
            false,
        ),
        ("authorized", basic, 200, "Cache-Control: max-age=60", false),
        (
            "authorized-public",
            basic,
            200,
            "Cache-Control: public, max-age=60",
            true,
        ),
        (
            "authorized-s-maxage",
            basic,
            200,
            "Cache-Control: s-maxage=60",
            true,
        ),
        (
            "authorized-must",
            basic,
            200,
            "Cache-Control: max-age=60, must-revalidate",
            true,
        ),
        ("found", "", 302, "Location: /x", false),
        (
            "found-max-age",
            "",
            302,
            "Location: /x\nCache-Control: max-age=60",
            true,
        ),
        ("not-found", "", 404, "Cache-Control: max-age=60", true),
        ("failed-max-age", "", 503, "Cache-Control: max-age=60", true),
        ("unknown-status", "", 299, "Cache-Control: max-age=60", true),
        (
            "unknown-must",
            "",
            299,
            "Cache-Control: max-age=60, must-understand",
            false,
        ),
        (
            "must-understand",
            "",
            200,
            "Cache-Control: max-age=60, must-understand, no-store",
            true,
        ),
        (
            "unsolicited-part",
            "",
            206,
            "Cache-Control: max-age=60\nContent-Range: bytes 0-2/9",
            false,
        ),
        (
            "vary-any",
            "",
            200,
            "Cache-Control: max-age=60\nVary: *",
            false,
        ),
        (
            "cdn",
            "",
            200,
            "CDN-Cache-Control: max-age=60\nCache-Control: no-store",
            true,
        ),
        (
            "cdn-no-store",
            "",
            200,
            "CDN-Cache-Control: no-store\nCache-Control: max-age=60",
            false,
        ),
        (
            "cdn-malformed",
            "",
            200,
            "CDN-Cache-Control: max-age=\nCache-Control: max-age=60",
            true,
        ),
        (
            "cookie",
            "",
            200,
            "Set-Cookie: a=b\nCache-Control: max-age=60",
            true,
        ),
        (
            "cookie-private",
            "",
            200,
            "Set-Cookie: a=b\nCache-Control: private, max-age=60",
            false,
        ),
        ("cookie-guessed", "", 200, &*cookie, false),
        (
            "pragma",
            "",
            200,
            "Pragma: no-cache\nCache-Control: max-age=60",
            true,
        ),
        (
            "authorized-proxy",
            basic,
            200,
            "Cache-Control: max-age=60, proxy-revalidate",
            false,
        ),
        (
            "authorized-cdn",
            basic,
            200,
            "CDN-Cache-Control: max-age=60\nCache-Control: public, max-age=60",
            false,
        ),
        (
            "must-understand-no-store",
            "",
            299,
            "Cache-Control: max-age=60, must-understand, no-store",
            false,
        ),
        (
            "unknown-directive",
            "",
            200,
            "Cache-Control: max-age=60, frobnicate=\"no-store\"",
            true,
        ),
        (
            "beside-foreign-letters",
            "",
            200,
            "Cache-Control: x=\u{e9}, no-store\nCache-Control: max-age=60",
            false,
        ),
        (
            "behind-an-open-quote",
            "",
            200,
            "Cache-Control: max-age=60, x=\"a, no-store",
            false,
        ),
        (
            "private-of-nothing",
            "",
            200,
            "Cache-Control: max-age=60, private=\"\"",
            false,
        ),
        (
            "private-spaced",
            "",
            200,
            "Cache-Control: max-age=60, private =",
            false,
        ),
        (
            "cdn-empty",
            "",
            200,
            "CDN-Cache-Control:\nCache-Control: no-store",
            false,
        ),
        (
            "cdn-private",
            "",
            200,
            "CDN-Cache-Control: private, max-age=60\nCache-Control: max-age=60",
            false,
        ),
        (
            "cdn-expires",
            "",
            200,
            &*format!("CDN-Cache-Control: public\n{expires}"),
            false,
        ),
        (
            "cdn-stale",
            "",
            200,
            "CDN-Cache-Control: max-age=0\nCache-Control: max-age=60",
            false,
        ),
    ];
    for (name, asked, status, fields, expected) in table {
        assert_eq!(
            is_stored(&format!("storing/{name}"), asked, status, fields),
            expected,
            "{name}"
        );
    }
}

/// §3.1: all end-to-end fields are stored, those of the connection aren't.
#[test]
fn what_connection_names_is_neither_stored_nor_passed_on() {
    let page = Page::new("storing/connection");
    page.answers(
        200,
        "Cache-Control: max-age=60\nConnection: X-Hop\nX-Hop: 1\nX-End: 2\nX-End: 3
         Keep-Alive: timeout=9\nProxy-Authenticate: Basic",
        "body",
    );
    for got in [
        page.get("Connection: X-Client\nX-Client: 1\nX-Mine: 2\nTE: trailers"),
        page.get(""),
    ] {
        assert_eq!(got.field("x-end").as_deref(), Some("2, 3"));
        assert_eq!(got.field("x-hop"), None);
        assert_eq!(got.field("keep-alive"), None);
        assert_eq!(got.field("proxy-authenticate"), None);
        assert_eq!(got.field("via").as_deref(), Some("1.1 eu"));
    }
    let seen = &page.seen()[0];
    assert_eq!((seen.field("x-client"), seen.field("te")), (None, None));
    assert_eq!(seen.field("x-mine").as_deref(), Some("2"));
    assert_eq!(seen.field("via").as_deref(), Some("1.1 eu"));
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

/// RFC 9110 §7.6.3: in either direction, the version by which the message came here.
#[test]
fn via_names_the_version_that_a_message_came_by() {
    let via = |page: &Page| page.seen().pop().unwrap().field("via");
    let page = Page::new("storing/via-client");
    for method in ["GET", "POST"] {
        page.answers(200, "Cache-Control: no-store", "body");
        let headers = page.head_by_http2(method);
        assert_eq!(headers["via"], "1.1 eu", "{method}");
        assert_eq!(via(&page).as_deref(), Some("2 eu"), "{method}");
    }
    page.answers(200, "Cache-Control: no-store", "body");
    page.get_by_http10();
    assert_eq!(via(&page).as_deref(), Some("1.0 eu"));
    page.answers(200, "Cache-Control: no-store", "body");
    page.get("Via: 2 near, 1.1 eu");
    assert_eq!(
        via(&page).as_deref(),
        Some("2 near, 1.1 eu, 1.1 eu"),
        "it was here before"
    );

    let page = Page::new("storing/via-origin");
    let head = "HTTP/1.0 200 OK\nContent-Length: 4\nETag: \"1\"\nVia: 1.1 far";
    let fresh = format!("{head}\nCache-Control: max-age=60");
    page.will(Reply::raw(&fresh, "body").then_closes());
    for _ in 0..2 {
        assert_eq!(
            page.get("").field("via").as_deref(),
            Some("1.1 far, 1.0 eu")
        );
    }
    // A confirmation is a message of its own; what is stored has come by both.
    page.answers(304, "Cache-Control: max-age=60\nETag: \"1\"", "");
    assert_eq!(
        page.get("Cache-Control: no-cache").field("via").as_deref(),
        Some("1.1 eu")
    );
    for got in [
        page.get(""),
        page.ask("HEAD", "", ""),
        page.get("If-None-Match: \"1\""),
    ] {
        assert_eq!(
            got.field("via").as_deref(),
            Some("1.1 eu"),
            "{}",
            got.status
        );
    }
}

/// RFC 9110 §7.6.3: one entry for each hop, however the answer came through.
#[test]
fn an_answer_that_is_not_kept_has_been_through_here_once() {
    let page = Page::new("storing/via");
    for method in ["GET", "HEAD", "POST"] {
        page.answers(200, "Cache-Control: no-store\nVia: 1.0 far", "body");
        let got = page.ask(method, "", "");
        assert_eq!(
            got.field("via").as_deref(),
            Some("1.0 far, 1.1 eu"),
            "{method}"
        );
    }
}

/// §5.2.2.4 and §5.2.2.7: fields that are named are for the one who asked.
#[test]
fn fields_that_are_private_are_given_once() {
    let page = Page::new("storing/qualified");
    let fields = "Cache-Control: max-age=60, private=\"x-user\", no-cache=\"set-cookie\"
         X-User: me\nSet-Cookie: a=b\nX-All: 1";
    page.answers(200, fields, "body");
    let first = page.get("");
    assert_eq!(first.field("x-user").as_deref(), Some("me"));
    assert_eq!(first.field("set-cookie").as_deref(), Some("a=b"));
    let second = page.get("");
    assert!(second.is_hit());
    assert_eq!(
        (second.field("x-user"), second.field("set-cookie")),
        (None, None)
    );
    assert_eq!(second.field("x-all").as_deref(), Some("1"));
}

/// §5.2.2.4 and §5.2.2.7: each form of naming fields, also the unquoted one of a single field, and
/// several directives. A name that is in neither of them stays.
#[test]
fn qualified_directives_are_read_in_every_form() {
    for (name, control) in [
        ("quoted", "private=\"x-user\""),
        ("token", "private=x-user"),
        ("list", "no-cache=\"x-other, X-User\""),
        ("spaces", "no-cache = \" x-user \""),
        ("twice", "no-cache=\"x-other\", no-cache=\"x-user\""),
        ("both", "private=\"x-user\", no-cache=\"x-other\""),
    ] {
        let page = Page::new(&format!("storing/qualified-{name}"));
        page.answers(
            200,
            &format!("Cache-Control: max-age=60, {control}\nX-User: me\nX-All: 1"),
            "body",
        );
        assert_eq!(
            page.get("").field("x-user").as_deref(),
            Some("me"),
            "{name}"
        );
        let got = page.get("");
        assert!(got.is_hit(), "{name}: {}", got.cache());
        assert_eq!(
            (got.field("x-user"), got.field("x-all").as_deref()),
            (None, Some("1"))
        );
    }
    // In the targeted field they are strings (RFC 9213 §2.1).
    let page = Page::new("storing/qualified-cdn");
    page.answers(
        200,
        "CDN-Cache-Control: max-age=60, private=\"x-user\"\nX-User: me",
        "body",
    );
    page.get("");
    assert_eq!(page.get("").field("x-user"), None);
}

/// §3.5: what was stored without authorization may be given to who is authorized.
#[test]
fn a_public_answer_serves_an_authorized_request() {
    let page = Page::new("storing/authorized-later");
    page.answers(200, "Cache-Control: max-age=60", "body");
    page.get("");
    assert!(page.get("Authorization: Basic eDp5").is_hit());
}

/// RFC 9110 §6.6.1: a missing Date is the time of receipt; a given one is left alone.
#[test]
fn the_date_is_the_origins_or_that_of_receipt() {
    let page = Page::new("storing/date");
    page.answers(200, "Cache-Control: max-age=60", "body");
    let date = page.get("").field("date").unwrap();
    assert!(httpdate::parse_http_date(&date).is_ok());
    assert_eq!(page.get("").field("date"), Some(date));
    let page = Page::new("storing/dated");
    let date = ago(30);
    page.answers(
        200,
        &format!("Cache-Control: max-age=60\nDate: {date}"),
        "body",
    );
    for _ in 0..2 {
        assert_eq!(page.get("").field("date").as_ref(), Some(&date));
    }
}

/// §4: the key is the method and the target URI; equivalent URIs are one, queries count.
#[test]
fn equivalent_urls_are_one_resource() {
    let page = Page::new("storing/a-b~");
    page.answers(200, "Cache-Control: max-age=60", "body");
    page.get("");
    for target in ["/storing/a%2Db%7E", "/x/../storing/./a-b~"] {
        assert!(
            crate::harness::ask("GET", target, "", "").is_hit(),
            "{target}"
        );
    }
    page.answers(200, "Cache-Control: max-age=60", "query");
    assert_eq!(
        crate::harness::ask("GET", "/storing/a-b~?q", "", "").body,
        "query"
    );
}
