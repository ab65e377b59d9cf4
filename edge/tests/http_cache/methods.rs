//! Methods that pass through, and RFC 9111 §4.4: what they make invalid.

use std::thread;

use crate::harness::{Gate, Page, Reply, ask};

/// §4.4: a non-error answer to an unsafe method invalidates the target, all its variants.
#[test]
fn an_unsafe_method_that_succeeds_invalidates_its_target() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        let page = Page::new(&format!("methods/{method}"));
        let fields = "Cache-Control: max-age=60\nVary: X-A";
        page.answers(200, fields, "one").answers(200, fields, "two");
        page.get("X-A: 1");
        page.get("X-A: 2");
        page.answers(200, "", "done");
        assert_eq!(page.ask(method, "X-A: 3", "body").body, "done");
        page.answers(200, fields, "new one")
            .answers(200, fields, "new two");
        assert_eq!(page.get("X-A: 1").body, "new one", "{method}");
        assert_eq!(page.get("X-A: 2").body, "new two", "{method}");
    }
}

/// §4.4: an error doesn't, and neither does a safe method.
#[test]
fn what_changed_nothing_invalidates_nothing() {
    for (method, status) in [("POST", 400), ("POST", 404), ("PUT", 500), ("OPTIONS", 200)] {
        let page = Page::new(&format!("methods/{method}-{status}"));
        page.answers(200, "Cache-Control: max-age=60", "body")
            .answers(status, "", "");
        page.get("");
        assert_eq!(page.ask(method, "", "").status, status);
        assert!(page.get("").is_hit(), "{method} {status}");
    }
}

/// §4.4: Location and Content-Location of the same origin, of no other.
#[test]
fn what_an_unsafe_method_names_is_invalid_too() {
    for (name, location, hit) in [
        ("location", "Location: /methods/named-location", false),
        ("relative", "Location: named-relative", false),
        ("content", "Content-Location: /methods/named-content", false),
        (
            "absolute",
            "Location: http://cdn.test/methods/named-absolute",
            false,
        ),
        (
            "foreign",
            "Location: http://other.test/methods/named-foreign",
            true,
        ),
    ] {
        let named = Page::new(&format!("methods/named-{name}"));
        named.answers(200, "Cache-Control: max-age=60", "old");
        named.get("");
        let page = Page::new(&format!("methods/names-{name}"));
        page.answers(201, location, "");
        page.ask("POST", "", "x");
        named.answers(200, "Cache-Control: max-age=60", "new");
        assert_eq!(named.get("").is_hit(), hit, "{name}");
    }
}

/// §4.4: what was on its way when the resource changed is not kept.
#[test]
fn an_answer_that_was_asked_for_before_the_change_is_not_kept() {
    let page = Page::new("methods/race");
    let gate = Gate::default();
    page.will(Reply::new(200, "Cache-Control: max-age=60", "old").behind(&gate));
    page.answers(204, "", "");
    page.answers(200, "Cache-Control: max-age=60", "new");
    thread::scope(|scope| {
        let early = scope.spawn(|| Page::new("methods/race").get(""));
        page.wait_asked(1);
        assert_eq!(page.ask("DELETE", "", "").status, 204);
        gate.open();
        assert_eq!(early.join().unwrap().body, "old");
    });
    assert_eq!(page.get("").body, "new");
}

/// Bodies go through as they are, of any length, with a length or in chunks.
#[test]
fn a_requests_body_reaches_the_origin() {
    let page = Page::new("methods/body");
    let long = "0123456789".repeat(200_000);
    for body in ["short", &long] {
        page.answers(200, "", "done");
        assert_eq!(page.ask("PUT", "Content-Type: a/b", body).status, 200);
        let seen = page.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.body.len()), ("PUT", body.len()));
        assert_eq!(seen.field("content-type").as_deref(), Some("a/b"));
        assert_eq!(seen.field("x-forwarded-host").as_deref(), Some("cdn.test"));
        assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("http"));
    }
}

/// An answer to an unsafe method is not stored, whatever it says.
#[test]
fn the_answer_to_a_post_is_not_stored() {
    let page = Page::new("methods/not-stored");
    page.answers(200, "Cache-Control: max-age=60", "posted");
    page.answers(200, "Cache-Control: max-age=60", "got");
    assert_eq!(page.ask("POST", "", "x").body, "posted");
    assert_eq!(page.get("").body, "got");
}

/// RFC 9110 §7.6.2.
#[test]
fn an_options_goes_as_far_as_it_should() {
    let page = Page::new("methods/options");
    assert_eq!(page.ask("OPTIONS", "Max-Forwards: 0", "").status, 204);
    assert_eq!(page.asked(), 0);
    page.answers(200, "Allow: GET", "");
    assert_eq!(
        page.ask("OPTIONS", "Max-Forwards: 3", "")
            .field("allow")
            .as_deref(),
        Some("GET")
    );
    assert_eq!(page.seen()[0].field("max-forwards").as_deref(), Some("2"));
}

/// RFC 9110 §9.3.6, §9.3.8: not here.
#[test]
fn trace_is_405() {
    assert_eq!(ask("TRACE", "/methods/trace", "", "").status, 405);
}

/// What the edge answers itself is never the origin's.
#[test]
fn the_edges_own_paths_are_not_mounted() {
    assert_eq!(ask("GET", "/-/healthz", "", "").body, "ok\n");
    assert_eq!(ask("GET", "/x/../-/else", "", "").status, 404);
}

/// The client's word on who it is, or where it asked, is not passed on.
#[test]
fn forwarded_fields_are_ours() {
    let page = Page::new("methods/forwarded");
    page.answers(200, "Cache-Control: max-age=60", "body");
    page.get("X-Forwarded-For: 9.9.9.9\nX-Forwarded-Host: evil.test\nForwarded: for=9.9.9.9");
    let seen = &page.seen()[0];
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(
        (seen.field("x-forwarded-host"), seen.field("forwarded")),
        (None, None)
    );
}
