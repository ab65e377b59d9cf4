//! Bodies: shared, cut, broken off; promise 1.

use std::thread;

use crate::harness::{Gate, Page, Reply, TOO_LONG};

/// RFC 9110 §14, RFC 9111 §3.3: cut from the whole, which is what is asked for and stored.
#[test]
fn ranges_are_cut_from_the_whole() {
    let page = Page::new("bodies/ranges");
    page.answers(
        200,
        "Cache-Control: max-age=60\nETag: \"1\"\nContent-Digest: x",
        "0123456789",
    );
    for (range, expected, content_range) in [
        ("bytes=2-4", "234", Some("bytes 2-4/10")),
        ("bytes=7-", "789", Some("bytes 7-9/10")),
        ("bytes=-2", "89", Some("bytes 8-9/10")),
        ("bytes=0-99", "0123456789", Some("bytes 0-9/10")),
        ("bytes=0-1,4-5", "0123456789", None),
        ("bytes=a-b", "0123456789", None),
        ("lines=1-2", "0123456789", None),
    ] {
        let got = page.get(&format!("Range: {range}"));
        let status = if content_range.is_some() { 206 } else { 200 };
        assert_eq!(
            (got.status, got.body.as_str()),
            (status, expected),
            "{range}"
        );
        assert_eq!(
            got.field("content-range").as_deref(),
            content_range,
            "{range}"
        );
        assert_eq!(got.field("content-digest").is_some(), status == 200);
    }
    let beyond = page.get("Range: bytes=10-");
    assert_eq!(
        (beyond.status, beyond.field("content-range").as_deref()),
        (416, Some("bytes */10"))
    );
    assert_eq!(page.get("Range: bytes=0-1\nIf-Range: \"1\"").status, 206);
    assert_eq!(page.get("Range: bytes=0-1\nIf-Range: \"2\"").status, 200);
    assert_eq!(page.asked(), 1);
    assert_eq!(page.seen()[0].field("range"), None);
}

/// RFC 9110 §14: where the whole isn't stored, the origin cuts.
#[test]
fn a_range_of_what_is_not_stored_is_the_origins() {
    let page = Page::new("bodies/range-through");
    page.answers(200, "Cache-Control: no-store", "0123456789");
    page.answers(
        206,
        "Cache-Control: no-store\nContent-Range: bytes 2-4/10",
        "234",
    );
    let got = page.get("Range: bytes=2-4");
    assert_eq!((got.status, got.body.as_str()), (206, "234"));
    assert_eq!(page.seen()[1].field("range").as_deref(), Some("bytes=2-4"));
}

/// RFC 9111 §4: many requests, one exchange.
#[test]
fn requests_that_come_together_share_one_exchange() {
    let page = Page::new("bodies/together");
    let gate = Gate::default();
    let body = "x".repeat(200_000);
    page.will(Reply::new(200, "Cache-Control: max-age=60", &body).behind(&gate));
    thread::scope(|scope| {
        let get = || Page::new("bodies/together").get("");
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(get)).collect();
        page.wait_asked(1);
        gate.open();
        for got in asking {
            let got = got.join().unwrap();
            assert!(got.complete && got.body == body);
        }
    });
    assert_eq!(page.asked(), 1);
}

/// RFC 9111 §4: what may not be shared isn't, also among those who waited together.
#[test]
fn those_who_waited_for_what_is_private_ask_for_themselves() {
    let page = Page::new("bodies/private");
    let gate = Gate::default();
    page.will(Reply::new(200, "Cache-Control: private", "0").behind(&gate));
    for n in 1..4 {
        page.answers(200, "Cache-Control: private", &n.to_string());
    }
    let mut bodies: Vec<String> = thread::scope(|scope| {
        let get = || Page::new("bodies/private").get("").body;
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
        page.wait_asked(1);
        gate.open();
        asking
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .collect()
    });
    bodies.sort_unstable();
    assert_eq!(bodies, ["0", "1", "2", "3"]);
}

/// RFC 9111 §4, §5.2.2.4: an answer that each must have confirmed, or that came stale, is not shared
/// with those who waited; each has it confirmed for itself.
#[test]
fn those_who_waited_for_what_must_be_confirmed_ask_for_themselves() {
    for (name, control) in [
        ("no-cache", "no-cache"),
        ("zero", "max-age=0"),
        ("old", "max-age=60\nAge: 60"),
    ] {
        let path = format!("bodies/{name}");
        let page = Page::new(&path);
        let gate = Gate::default();
        let fields = format!("Cache-Control: {control}\nETag: \"1\"");
        page.will(Reply::new(200, &fields, "body").behind(&gate));
        for _ in 0..3 {
            page.answers(304, &fields, "");
        }
        thread::scope(|scope| {
            let get = || Page::new(&path).get("");
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
            page.wait_asked(1);
            gate.open();
            for got in asking {
                assert_eq!(got.join().unwrap().body, "body", "{name}");
            }
        });
        assert_eq!(page.asked(), 4, "{name}");
    }
}

/// RFC 9111 §3.3: an incomplete answer is neither stored nor passed off as whole.
#[test]
fn a_body_that_breaks_off_is_an_error_or_visibly_cut() {
    let short = Page::new("bodies/short");
    let head = "HTTP/1.1 200 OK\nContent-Length: 10\nCache-Control: max-age=60";
    short.will(Reply::raw(head, "0123").then_closes());
    assert_eq!(short.get("").status, 502);
    short.answers(200, "Cache-Control: max-age=60", "whole");
    assert_eq!(short.get("").body, "whole");

    let long = Page::new("bodies/long");
    let half = "x".repeat(150_000);
    let head = "HTTP/1.1 200 OK\nContent-Length: 299000\nCache-Control: max-age=60";
    long.will(Reply::raw(head, &half).then_closes());
    let got = long.get("");
    assert!(
        got.status == 200 && !got.complete,
        "{} {}",
        got.status,
        got.body.len()
    );
    long.answers(200, "Cache-Control: max-age=60", "whole");
    assert_eq!(long.get("").body, "whole");

    let chunked = Page::new("bodies/chunked");
    let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nCache-Control: max-age=60";
    chunked.will(Reply::raw(head, "4\r\n0123\r\n").then_closes());
    assert_eq!(chunked.get("").status, 502);

    let through = Page::new("bodies/through");
    let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nCache-Control: no-store";
    through.will(Reply::raw(head, "4\r\n0123\r\n").then_closes());
    assert!(!through.get("").complete);
}

/// RFC 9112 §6.3: the close is the end of a body without framing; such a one is not stored.
#[test]
fn a_body_that_ends_with_the_connection_is_not_stored() {
    let page = Page::new("bodies/unframed");
    let head = "HTTP/1.1 200 OK\nCache-Control: max-age=60";
    page.will(Reply::raw(head, "one").then_closes())
        .will(Reply::raw(head, "two").then_closes());
    let got = page.get("");
    assert_eq!(
        (got.body.as_str(), got.cache().as_str()),
        ("one", "fwd=uri-miss; detail=unframed")
    );
    assert_eq!(page.get("").body, "two");
}

/// Chunks and no length: stored once complete.
#[test]
fn a_chunked_body_is_stored() {
    let page = Page::new("bodies/chunks");
    let head =
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-T\nCache-Control: max-age=60";
    page.will(Reply::raw(
        head,
        "4\r\n0123\r\n3\r\n456\r\n0\r\nX-T: 1\r\n\r\n",
    ));
    assert_eq!(page.get("").body, "0123456");
    let got = page.get("");
    assert!(got.is_hit());
    assert_eq!(
        (got.field("content-length").as_deref(), got.field("x-t")),
        (Some("7"), None)
    );
}

/// Bodies beyond the limit pass through; one of unknown length is cut once, then passes.
#[test]
fn a_body_beyond_the_limit_passes_through() {
    let page = Page::new("bodies/too-long");
    let body = "x".repeat(TOO_LONG);
    for _ in 0..2 {
        page.answers(200, "Cache-Control: max-age=60", &body);
        let got = page.get("");
        assert!(got.complete && got.body.len() == TOO_LONG);
        assert!(got.cache().contains("detail=too-long"), "{}", got.cache());
    }
    let page = Page::new("bodies/endless");
    let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nCache-Control: max-age=60";
    let chunks = format!("{TOO_LONG:x}\r\n{body}\r\n0\r\n\r\n");
    for _ in 0..3 {
        page.will(Reply::raw(head, &chunks).then_closes());
    }
    assert!(!page.get("").complete);
    for _ in 0..2 {
        let got = page.get("");
        assert!(
            got.complete && got.body.len() == TOO_LONG,
            "{} {}",
            got.status,
            got.body.len()
        );
    }
}

/// RFC 9530, promise 1: a digest that the origin sends must be the body's.
#[test]
fn a_body_with_another_digest_is_refused() {
    let page = Page::new("bodies/digest");
    let zeros = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    page.answers(
        200,
        &format!("Cache-Control: max-age=60\nRepr-Digest: {zeros}"),
        "body",
    );
    let got = page.get("");
    assert_eq!(
        got.field("modcdn-reason").as_deref(),
        Some("digest-mismatch")
    );
    page.answers(200, "Cache-Control: max-age=60", "body");
    assert_eq!(page.get("").status, 200);
}

/// RFC 9110 §15.2: informational answers break nothing.
#[test]
fn early_hints_are_dropped() {
    let page = Page::new("bodies/hints");
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody";
    let mut reply = Reply::raw("", "");
    reply.replace(&format!("{hints}{answer}"));
    page.will(reply);
    let got = page.get("");
    assert_eq!(
        (got.status, got.body.as_str(), got.field("link")),
        (200, "body", None)
    );
    assert!(page.get("").is_hit());
}

/// RFC 9110 §7.8: no upgrade is asked for, and nothing that breaks the protocol is passed on.
#[test]
fn an_answer_that_is_no_http_is_a_502() {
    let page = Page::new("bodies/garbage");
    let mut reply = Reply::raw("", "").then_closes();
    reply.replace("SSH-2.0-x\r\n\r\n");
    page.will(reply);
    let got = page.get("Upgrade: websocket\nConnection: upgrade");
    assert_eq!(got.status, 502);
    assert_eq!(page.seen()[0].field("upgrade"), None);
    let page = Page::new("bodies/large-header");
    page.answers(200, &format!("X-A: {}", "a".repeat(40_000)), "body");
    assert_eq!(page.get("").status, 502);
}
