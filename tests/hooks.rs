//! A hook of a forge, through origin and edge, until a real `go` sees the new tag.

mod harness;

use std::time::Duration;

use harness::forge::{Forge, PRIVATE};
use harness::go::Go;
use harness::http::Client;
use harness::node::Node;
use harness::raw::exchange;
use harness::scratch::Scratch;
use harness::until_true;
use harness::upstream::Upstream;

const MODULE: &str = "git.example/team/lib";
const LIST: &str = "/git.example/team/lib/@v/list";
const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An origin that is told of new tags, and an edge that follows its purge log.
struct Rig {
    _scratch: Scratch,
    upstream: Upstream,
    origin: Node,
    edge: Node,
}

impl Rig {
    fn new() -> Rig {
        let scratch = Scratch::new("hooks");
        let token = scratch.file("token", &format!("{TOKEN}\n"));
        let token = token.display();
        let upstream = Upstream::start();
        upstream.module(MODULE, &["v1.0.0"], b"");
        let origin = Node::origin(
            &upstream.url(),
            &format!(
                "freshness: {{mutable: 1h}}\n\
                 hooks: {{gitlab_secret_file: '{token}'}}\n\
                 purges: {{edges: '{token}'}}"
            ),
        );
        let edge = Node::edge(
            &origin,
            &format!("origin: {{token_file: '{token}', purges: {{interval: 100ms}}}}"),
        );
        Rig {
            _scratch: scratch,
            upstream,
            origin,
            edge,
        }
    }

    fn versions(&self) -> String {
        let go = Go::with_proxy(self.edge.url());
        let ran = go.ask(&["list", "-m", "-versions", MODULE]).succeeds();
        ran.stdout.trim().to_owned()
    }

    /// A tag was pushed, as GitLab says it.
    fn pushed(&self) -> Option<u16> {
        pushed(&self.origin, "https://git.example/team/lib")
    }

    fn cached(&self) -> String {
        let answer = Client::h1(self.edge.url()).get(LIST).ok();
        answer.header("cache-status").to_owned()
    }
}

fn pushed(origin: &Node, repository: &str) -> Option<u16> {
    let body =
        format!(r#"{{"object_kind": "tag_push", "project": {{"web_url": "{repository}"}}}}"#);
    let request = format!(
        "POST /-/hooks/module HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\
         X-Gitlab-Event: Tag Push Hook\r\nX-Gitlab-Token: {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(origin.address(), request.as_bytes(), PATIENCE).status()
}

#[test]
fn a_pushed_tag_reaches_go_through_an_edge_that_had_the_list() {
    let rig = Rig::new();
    assert_eq!(rig.versions(), format!("{MODULE} v1.0.0"));
    until_true("the list to be a hit", || rig.cached().contains("; hit"));

    rig.upstream.module(MODULE, &["v1.0.0", "v1.1.0"], b"");
    assert_eq!(
        rig.versions(),
        format!("{MODULE} v1.0.0"),
        "it is fresh for an hour"
    );
    assert_eq!(rig.pushed(), Some(202));
    until_true("the new tag", || rig.versions().ends_with("v1.0.0 v1.1.0"));
    assert_eq!(rig.upstream.requests(LIST), 2);
    until_true("the list to be a hit again", || {
        rig.cached().contains("; hit")
    });

    let zip = format!("/{MODULE}/@v/v1.0.0.zip");
    let _ = Client::h1(rig.edge.url()).get(&zip).ok();
    until_true("the zip to be a hit", || {
        let answer = Client::h1(rig.edge.url()).get(&zip).ok();
        answer.header("cache-status").contains("; hit")
    });
    assert_eq!(rig.pushed(), Some(202));
    until_true("the list to be asked for again", || {
        rig.upstream.requests(LIST) == 3
    });
    let answer = Client::h1(rig.edge.url()).get(&zip).ok();
    assert!(
        answer.header("cache-status").contains("; hit"),
        "files never change"
    );
}

#[test]
fn hooks_are_the_origins_and_edges_pass_none_on() {
    let rig = Rig::new();
    let request = "POST /-/hooks/module HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\
                   Content-Length: 2\r\n\r\n{}";
    let answer = exchange(rig.edge.address(), request.as_bytes(), PATIENCE);
    assert_eq!(answer.status(), Some(405));
    let read = Client::h1(rig.edge.url()).get("/-/hooks/module");
    assert_eq!(read.status, 404);
}

#[test]
fn a_tag_pushed_to_a_git_repository_is_seen_at_once() {
    let scratch = Scratch::new("hooks-git");
    let token = scratch.file("token", &format!("{TOKEN}\n"));
    let forge = Forge::start();
    let repository = forge.repository("m");
    repository.write("go.mod", "module forge.test/m\n\ngo 1.20\n");
    repository.commit("first");
    repository.tag("v1.0.0").publish();
    forge.import("forge.test/m", "m");
    let environment = forge.environment();
    let environment: Vec<_> = environment
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    let overrides = format!(
        "mounts: [{{prefix: /, {PRIVATE}}}]\n\
         freshness: {{mutable: 1h}}\n\
         git: {{protocols: [https, http], insecure: [forge.test]}}\n\
         hooks: {{gitlab_secret_file: '{}'}}",
        token.display()
    );
    let origin = Node::origin_in(&environment, "off", &overrides);
    let list = || {
        Client::h1(origin.url())
            .get("/forge.test/m/@v/list")
            .ok()
            .text()
    };
    assert_eq!(list(), "v1.0.0\n");
    let absent = Client::h1(origin.url()).get("/forge.test/m/@v/v1.1.0.mod");
    assert_eq!(absent.status, 404);
    repository.write("more.txt", "more");
    repository.commit("second");
    repository.tag("v1.1.0").publish();
    assert_eq!(list(), "v1.0.0\n", "it is fresh for an hour");
    assert_eq!(pushed(&origin, "http://forge.test/m"), Some(202));
    assert_eq!(list(), "v1.0.0\nv1.1.0\n");
    let there = Client::h1(origin.url())
        .get("/forge.test/m/@v/v1.1.0.mod")
        .ok();
    assert_eq!(there.text(), "module forge.test/m\n\ngo 1.20\n");
}
