//! RFC 9111 §4.1: which of several answers.

use std::thread;

use crate::harness::{Gate, Page, Reply};

/// §4.1: a stored answer is given only to requests that match it in every field it names.
#[test]
fn an_answer_is_given_only_to_requests_that_match() {
    let page = Page::new("vary/language");
    let fields = "Cache-Control: max-age=60\nVary: Accept-Language";
    page.answers(200, fields, "deutsch")
        .answers(200, fields, "english");
    assert_eq!(page.get("Accept-Language: de").body, "deutsch");
    let english = page.get("Accept-Language: en");
    assert_eq!(
        (english.body.as_str(), english.cache().as_str()),
        ("english", "fwd=vary-miss; stored")
    );
    assert_eq!(page.get("Accept-Language: de").body, "deutsch");
    assert_eq!(page.get("Accept-Language: en").body, "english");
    assert_eq!(page.asked(), 2);
    page.answers(200, fields, "none");
    assert_eq!(
        page.get("").body,
        "none",
        "an absent field is another value"
    );
}

/// §4.1: whitespace and the division in lines don't count.
#[test]
fn spelling_makes_no_other_variant() {
    let page = Page::new("vary/spelling");
    page.answers(
        200,
        "Cache-Control: max-age=60\nVary: X-A, accept-encoding",
        "body",
    );
    page.get("X-A: 1, 2\nAccept-Encoding: gzip, br");
    assert!(
        page.get("X-A: 1\nX-A:  2\nAccept-Encoding: br,gzip")
            .is_hit()
    );
    assert_eq!(page.asked(), 1);
}

/// §4.1: what is stored under an older Vary is no answer any more when a newer one says otherwise.
#[test]
fn the_newest_vary_counts() {
    let page = Page::new("vary/newest");
    page.answers(200, "Cache-Control: max-age=60", "for all");
    page.get("X-A: 1");
    page.answers(200, "Cache-Control: max-age=60\nVary: X-A", "for one");
    page.get("X-A: 1\nCache-Control: no-cache");
    assert_eq!(page.get("X-A: 1").body, "for one");
    page.answers(200, "Cache-Control: max-age=60\nVary: X-A", "for two");
    assert_eq!(page.get("X-A: 2").body, "for two");
    page.answers(200, "Cache-Control: max-age=60", "for all again");
    page.get("X-A: 2\nCache-Control: no-cache");
    assert_eq!(page.get("X-A: 1").body, "for all again");
}

/// §4.1: requests that came together are told apart, too.
#[test]
fn those_who_waited_together_get_each_their_own() {
    let page = Page::new("vary/together");
    let gate = Gate::default();
    let fields = "Cache-Control: max-age=60\nVary: X-A";
    page.will(Reply::new(200, fields, "one").behind(&gate));
    page.answers(200, fields, "two");
    let bodies: Vec<(String, String)> = thread::scope(|scope| {
        let ask =
            |field: &'static str| scope.spawn(move || Page::new("vary/together").get(field).body);
        let leader = ask("X-A: 1");
        page.wait_asked(1);
        let others: Vec<_> = (0..4).map(|_| (ask("X-A: 1"), ask("X-A: 2"))).collect();
        gate.open();
        assert_eq!(leader.join().unwrap(), "one");
        let joined = others
            .into_iter()
            .map(|(a, b)| (a.join().unwrap(), b.join().unwrap()));
        joined.collect()
    });
    assert!(
        bodies.iter().all(|(one, two)| one == "one" && two == "two"),
        "{bodies:?}"
    );
    assert_eq!(page.asked(), 2);
}

/// §4.1: case and order count unless the field's own rules say that they don't; an empty field is not
/// an absent one.
#[test]
fn only_what_is_known_to_mean_the_same_is_one_variant() {
    for (name, stored, asked, hit) in [
        ("case", "X-A: one", "X-A: ONE", false),
        ("order", "X-A: 1, 2", "X-A: 2, 1", false),
        ("empty", "", "X-A:", false),
        ("space", "X-A: 1,2", "X-A:  1 ,  2", true),
        ("lines", "X-A: 1, 2", "X-A: 1\nX-A: 2", true),
        ("quoted", "X-A: \"1,2\"", "X-A: \"1, 2\"", false),
        ("others", "X-A: 1\nX-B: 1", "X-A: 1\nX-B: 2", true),
    ] {
        let page = Page::new(&format!("vary/same-{name}"));
        let fields = "Cache-Control: max-age=60\nVary: x-a";
        page.answers(200, fields, "one").answers(200, fields, "two");
        page.get(stored);
        assert_eq!(page.get(asked).is_hit(), hit, "{name}");
    }
}

/// §4.1: a Vary that can't be read, or has * in it, matches nothing, and so do several lines with one.
#[test]
fn a_vary_that_is_not_understood_matches_nothing() {
    for (name, vary) in [
        ("among", "Vary: X-A, *"),
        ("lines", "Vary: X-A\nVary: *"),
        ("words", "Vary: not a name"),
    ] {
        let page = Page::new(&format!("vary/never-{name}"));
        let fields = format!("Cache-Control: max-age=60\n{vary}");
        page.answers(200, &fields, "one")
            .answers(200, &fields, "two");
        page.get("X-A: 1");
        assert_eq!(page.get("X-A: 1").body, "two", "{name}");
    }
}

/// §4.1, §4.3.1: a variant is confirmed by its own validator, with the fields that selected it.
#[test]
fn a_variant_is_confirmed_for_itself() {
    let page = Page::new("vary/confirmed");
    let fields = |tag: &str| format!("Cache-Control: max-age=0\nVary: X-A\nETag: \"{tag}\"");
    page.answers(200, &fields("1"), "one")
        .answers(200, &fields("2"), "two");
    page.get("X-A: 1");
    page.get("X-A: 2");
    for (asked, tag, body) in [("X-A: 1", "\"1\"", "one"), ("X-A: 2", "\"2\"", "two")] {
        page.answers(
            304,
            &format!("Cache-Control: max-age=0\nVary: X-A\nETag: {tag}"),
            "",
        );
        assert_eq!(page.get(asked).body, body);
        let seen = page.seen().pop().unwrap();
        assert_eq!(seen.field("if-none-match").as_deref(), Some(tag));
    }
}
