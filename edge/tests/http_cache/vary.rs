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
