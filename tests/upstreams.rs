//! How a running origin asks its upstreams: what only a process' environment can show.

mod harness;

use harness::http::Client;
use harness::node::Node;
use harness::upstream::Upstream;

const LIST: &str = "/example.com/m/@v/list";

/// What an origin with that environment answers for a list of `http://up.invalid`.
fn status(environment: &[(&str, &str)], overrides: &str) -> u16 {
    let origin = Node::origin_in(environment, "http://up.invalid", overrides);
    Client::h1(origin.url()).get(LIST).status
}

#[test]
fn the_environments_proxy_is_used_unless_it_is_switched_off() {
    let proxy = Upstream::start();
    proxy.body(LIST, "v1.0.0\n");
    let url = proxy.url();
    let by_way = ("HTTP_PROXY", url.as_str());
    for (environment, overrides, expected) in [
        (vec![by_way], "", 200),
        (vec![by_way, ("NO_PROXY", "up.invalid")], "", 502),
        (vec![by_way], "upstreams: {proxy: off}", 502),
    ] {
        assert_eq!(
            status(&environment, overrides),
            expected,
            "{environment:?} {overrides}"
        );
    }
    assert_eq!(proxy.requests(LIST), 1);
}
