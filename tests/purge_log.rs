//! The origin's purge log and the edges that follow it, with the real binary: purges arrive late, but
//! they arrive (F13).

mod harness;

use std::fs;
use std::path::PathBuf;

use harness::command::{Ran, modcdn};
use harness::http::Client;
use harness::modules::{LARGE, Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{Metrics, cache_status, is_stored};
use harness::scratch::Scratch;
use harness::until_true;

const OPERATOR: &str = "operator-0123456789abcdef";
const EDGE: &str = "edge-0123456789abcdef0123";

/// An origin, an edge that follows its log, and the files with their tokens.
struct Rig {
    scratch: Scratch,
    origin: Node,
    edge: Node,
}

impl Rig {
    fn new() -> Rig {
        let scratch = Scratch::new("purge-log");
        scratch.file("operators", &format!("{OPERATOR}\n"));
        scratch.file("edges", &format!("{EDGE}\n"));
        let folder = scratch.path().display();
        let origin = Node::origin(
            &Modules::fetch().url(),
            &format!("purges: {{token_file: '{folder}/operators', edges: '{folder}/edges'}}"),
        );
        let edge = Node::edge(&origin, &follows(&scratch));
        let rig = Rig {
            scratch,
            origin,
            edge,
        };
        rig.is_up_to_date(&rig.edge);
        rig
    }

    fn token_file(&self) -> PathBuf {
        self.scratch.path().join("operators")
    }

    fn purge(&self, flags: &[&str]) -> Ran {
        let token = self.token_file().display().to_string();
        let to = [
            "purge",
            "--origin",
            self.origin.admin(),
            "--token-file",
            &token,
        ];
        modcdn(&[&to[..], flags].concat())
    }

    fn purged(&self, flags: &[&str]) -> String {
        self.purge(flags).ends(0).stdout
    }

    /// Waits until an edge has carried out all that the origin has said.
    fn is_up_to_date(&self, edge: &Node) {
        let last =
            Metrics::scrape(self.origin.admin()).expect("modcdn_origin_purge_log_sequence", &[]);
        until_true("the edge to have carried out the log", || {
            let metrics = Metrics::scrape(edge.admin());
            let value = |name| metrics.value(name, &[]);
            value("modcdn_edge_purge_log_confirmed_timestamp_seconds") > 0.0
                && value("modcdn_edge_purge_log_sequence") >= last
        });
    }

    fn metric(&self, name: &str) -> f64 {
        Metrics::scrape(self.edge.admin()).value(name, &[])
    }
}

fn follows(scratch: &Scratch) -> String {
    let token = scratch.path().join("edges");
    let token = token.display();
    // Edges that test dead origins must not wait long for the breaker.
    format!(
        "origin: {{token_file: '{token}', purges: {{interval: 100ms}}, breaker: {{pause: 100ms, pause_max: 100ms}}}}"
    )
}

#[test]
fn what_the_origin_is_told_every_edge_forgets() {
    let rig = Rig::new();
    let other = Node::edge(&rig.origin, &follows(&rig.scratch));
    rig.is_up_to_date(&other);
    let file = format!("{UPPER_CASE}.mod");
    is_stored(&rig.edge, &file);
    let get = || Client::h1(other.url()).get(&file).ok();
    until_true("a hit in the other edge", || {
        get().header("cache-status").contains("; hit")
    });
    let said = rig.purged(&["--prefix", "/github.com/!burnt!sushi"]);
    assert!(said.contains("every edge that follows"), "{said}");
    rig.is_up_to_date(&rig.edge);
    rig.is_up_to_date(&other);
    assert!(cache_status(&rig.edge, &file).contains("fwd=uri-miss"));
    assert!(get().header("cache-status").contains("fwd=uri-miss"));
    let said = rig.purged(&["--soft", "--json", "--all"]);
    assert!(said.contains("\"seq\":2"), "{said}");
}

#[test]
fn f13_purges_reach_an_edge_that_was_down() {
    let mut rig = Rig::new();
    let (file, zip) = (format!("{UPPER_CASE}.mod"), format!("{LARGE}.zip"));
    is_stored(&rig.edge, &file);
    is_stored(&rig.edge, &zip);
    let resets = rig.metric("modcdn_edge_purge_log_resets_total");
    assert_eq!(resets, 1.0, "an edge without a place begins with a reset");
    rig.edge.kill();
    rig.purged(&["--key", &file]);
    rig.origin.kill();
    rig.origin.start();
    rig.edge.start();
    rig.is_up_to_date(&rig.edge);
    assert!(cache_status(&rig.edge, &file).contains("fwd=uri-miss"));
    assert!(
        cache_status(&rig.edge, &zip).contains("; hit"),
        "and nothing else"
    );
    assert_eq!(rig.metric("modcdn_edge_purge_log_resets_total"), 0.0);
}

#[test]
fn f13_a_dead_origin_costs_no_hit_and_no_purge() {
    let mut rig = Rig::new();
    let file = format!("{UPPER_CASE}.mod");
    is_stored(&rig.edge, &file);
    rig.origin.kill();
    until_true("failed looks at the log", || {
        rig.metric("modcdn_edge_purge_log_failures_total") > 1.0
    });
    assert!(cache_status(&rig.edge, &file).contains("; hit"));
    rig.origin.start();
    rig.purged(&["--key", &file]);
    rig.is_up_to_date(&rig.edge);
    assert!(cache_status(&rig.edge, &file).contains("fwd=uri-miss"));
    assert_eq!(rig.metric("modcdn_edge_purge_log_entries_total"), 1.0);
}

#[test]
fn f13_a_lost_log_has_everything_confirmed_and_nothing_dropped() {
    let mut rig = Rig::new();
    let zip = format!("{LARGE}.zip");
    is_stored(&rig.edge, &zip);
    rig.origin.kill();
    fs::remove_dir_all(rig.origin.store().join(".purges")).expect("the log's folder");
    rig.origin.start();
    until_true("a second reset", || {
        rig.metric("modcdn_edge_purge_log_resets_total") > 1.0
    });
    let next = cache_status(&rig.edge, &zip);
    assert!(
        next.contains("fwd=stale") && next.contains("fwd-status=304"),
        "{next}"
    );
    is_stored(&rig.edge, &zip);
    // And from there on the log is followed again.
    rig.purged(&["--key", &zip]);
    rig.is_up_to_date(&rig.edge);
    assert!(cache_status(&rig.edge, &zip).contains("fwd=uri-miss"));
}

#[test]
fn an_edge_begins_to_follow_when_it_is_told_to() {
    let rig = Rig::new();
    let mut edge = Node::edge(&rig.origin, "origin: {purges: {interval: 100ms}}");
    let followed = |edge: &Node| {
        let metrics = Metrics::scrape(edge.admin());
        metrics.value("modcdn_edge_purge_log_confirmed_timestamp_seconds", &[]) > 0.0
    };
    assert!(!followed(&edge));
    edge.configure(&follows(&rig.scratch));
    edge.signal(libc::SIGHUP);
    until_true("the log to be followed", || followed(&edge));
    let wrong = rig.scratch.file("wrong", "wrong-0123456789abcdef\n");
    edge.configure(&format!("origin: {{token_file: '{}'}}", wrong.display()));
    edge.signal(libc::SIGHUP);
    until_true("the origin to refuse it", || {
        let metrics = Metrics::scrape(edge.admin());
        metrics.value(
            "modcdn_edge_purge_log_failures_total",
            &[("cause", "refused")],
        ) > 0.0
    });
}
