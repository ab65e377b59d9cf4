//! A real `go`, with an empty module cache each time, through real edges.

mod harness;

use std::fs;
use std::sync::OnceLock;

use harness::cluster::{Cluster, Options, Shared};
use harness::go::Go;
use harness::http::Client;
use harness::modules::{Modules, project};
use harness::node::Node;
use harness::observe::accesses;
use harness::until_true;
use harness::upstream::Upstream;

const TAGGED: &str = "example.com/scripted/tagged";
const UNTAGGED: &str = "example.com/scripted/untagged";
const PSEUDO: &str = "v0.0.0-20240506070809-0123456789ab";

/// One cluster with TLS for all tests that break nothing. Its upstreams are the scripted one, and
/// after its 404s the project's modules.
fn cluster() -> Shared {
    static CLUSTER: OnceLock<(Cluster, Upstream)> = OnceLock::new();
    let (cluster, _) = CLUSTER.get_or_init(|| {
        let upstream = scripted();
        let list = format!("{},{}", upstream.url(), Modules::fetch().url());
        let options = Options {
            upstream: Some(list),
            tls: true,
            flags: vec!["--sumdb".to_owned(), "off".to_owned()],
            ..Options::default()
        };
        (Cluster::with(&options), upstream)
    });
    Shared(cluster)
}

fn scripted() -> Upstream {
    let upstream = Upstream::start();
    upstream.module(TAGGED, &["v1.0.0", "v1.2.0", "v1.10.0"], b"");
    upstream.body(&format!("/{UNTAGGED}/@v/list"), "");
    upstream.body(
        &format!("/{UNTAGGED}/@latest"),
        harness::upstream::info(PSEUDO),
    );
    upstream.branch(UNTAGGED, "main", PSEUDO);
    upstream
}

#[test]
fn each_edge_builds_the_project_and_does_so_again_with_the_origin_dead() {
    let cluster = Cluster::start();
    for edge in cluster.edges() {
        Go::with_proxy(edge.http()).downloads_and_builds();
    }
    cluster.node("origin").kill();
    for edge in cluster.edges() {
        Go::with_proxy(edge.http()).downloads_and_builds();
    }
}

#[test]
fn the_project_builds_over_tls_and_http2() {
    let cluster = cluster();
    let ca = cluster.ca();
    let go = Go::with_proxy(cluster.goproxy()).env("SSL_CERT_FILE", &ca);
    go.downloads_and_builds();

    let zip = format!("{}.zip", harness::modules::LARGE);
    let log = cluster.access_log("eu");
    until_true("the zip in the edge's access log, over HTTP/2", || {
        accesses(&log, &zip)
            .iter()
            .any(|access| access.field("protocol") == "HTTP/2")
    });
}

#[test]
fn without_the_ca_a_client_refuses_the_edge() {
    let cluster = cluster();
    let go = Go::with_proxy(cluster.goproxy()).env("SSL_CERT_FILE", "/dev/null");
    let stderr = go.run(&["mod", "download"]).fails();
    assert!(stderr.contains("certificate"), "{stderr}");
}

#[test]
fn the_sums_are_those_of_a_download_made_without_us() {
    let cluster = cluster();
    let through_us = tidied(cluster.node("us").http());
    let without_us = tidied(&Modules::fetch().url());
    assert_eq!(through_us, without_us);
    let pinned = fs::read_to_string(project().join("go.sum")).expect("tests/project/go.sum");
    assert_eq!(through_us, pinned);
}

/// The go.sum that `go mod tidy` writes from nothing.
fn tidied(proxy: &str) -> String {
    let go = Go::with_proxy(proxy);
    let sums = go.project().join("go.sum");
    fs::remove_file(&sums).expect("the project has a go.sum");
    go.run(&["mod", "tidy"]).succeeds();
    fs::read_to_string(sums).expect("go mod tidy wrote go.sum")
}

#[test]
fn versions_are_listed() {
    let cluster = cluster();
    let go = Go::with_proxy(cluster.node("eu").http());
    let ran = go.ask(&["list", "-m", "-versions", TAGGED]).succeeds();
    assert_eq!(ran.stdout.trim(), format!("{TAGGED} v1.0.0 v1.2.0 v1.10.0"));
}

#[test]
fn a_module_cache_tree_lists_no_pseudo_versions() {
    let cluster = cluster();
    let path = "/github.com/mohae/deepcopy/@v/list";
    let list = Client::h1(cluster.node("eu").http()).get(path).ok();
    assert_eq!(list.text(), "");
}

#[test]
fn latest_is_the_highest_tag_or_what_the_upstream_says() {
    let cluster = cluster();
    let go = Go::with_proxy(cluster.node("us").http());
    let tagged = go
        .ask(&["list", "-m", &format!("{TAGGED}@latest")])
        .succeeds();
    assert_eq!(tagged.stdout.trim(), format!("{TAGGED} v1.10.0"));
    let untagged = go
        .ask(&["list", "-m", &format!("{UNTAGGED}@latest")])
        .succeeds();
    assert_eq!(untagged.stdout.trim(), format!("{UNTAGGED} {PSEUDO}"));
}

#[test]
fn a_branch_leads_to_its_pseudo_version() {
    let cluster = cluster();
    let go = Go::with_proxy(cluster.node("ap").http());
    let ran = go
        .ask(&["list", "-m", &format!("{UNTAGGED}@main")])
        .succeeds();
    assert_eq!(ran.stdout.trim(), format!("{UNTAGGED} {PSEUDO}"));
    let got = go
        .ask(&["mod", "download", "-json", &format!("{UNTAGGED}@main")])
        .succeeds();
    assert!(got.stdout.contains("\"Sum\": \"h1:"), "{}", got.stdout);
}

#[test]
fn a_user_who_asks_for_a_missing_module_reads_our_text() {
    let cluster = cluster();
    let edge = cluster.node("eu").http();
    let missing = "example.com/nobody/has/this";
    let answer = Client::h1(edge).get(&format!("/{missing}/@v/v1.0.0.info"));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "public, max-age=60");

    let asked = Go::with_proxy(edge).ask(&["list", "-m", &format!("{missing}@v1.0.0")]);
    let stderr = asked.fails();
    let shown = answer.text();
    let lines: Vec<&str> = shown
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert!(!lines.is_empty(), "an answer without a text");
    for line in lines {
        assert!(
            stderr.contains(line.trim()),
            "no {line:?} in what go said:\n{stderr}"
        );
    }
}

#[test]
fn a_direct_upstream_is_a_failure_with_a_text_and_no_404() {
    let origin = Node::origin("direct", "");
    let edge = Node::edge(&origin, "");
    let path = format!("{}.info", harness::modules::UPPER_CASE);
    let answer = Client::h1(edge.url()).get(&path);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(
        answer.text().to_lowercase().contains("git"),
        "{}",
        answer.text()
    );

    let stderr = Go::with_proxy(edge.url()).run(&["mod", "download"]).fails();
    assert!(stderr.to_lowercase().contains("git"), "{stderr}");
    // A 404 would have sent the user's module names on to the next proxy of his list.
    assert!(!stderr.contains("404"), "{stderr}");
}

#[test]
fn a_module_cache_tree_supports_no_checksum_database() {
    let cluster = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&cluster, "");
    let answer = Client::h1(edge.url()).get("/sumdb/sum.golang.org/supported");
    // The go command then asks the database itself; any other error would break the build.
    assert!(
        matches!(answer.status, 404 | 410),
        "{} {}",
        answer.status,
        answer.text()
    );
}
