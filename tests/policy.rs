//! An origin's policy with a real `go`, through a real edge; and `modcdn policy test`.

mod harness;

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::go::Go;
use harness::http::Client;
use harness::node::Node;
use harness::observe;
use harness::s3::S3;
use harness::scratch::Scratch;
use harness::sumdb::SumDb;
use harness::upstream::Upstream;
use harness::{MODCDN, until_true};
use modcdn_core::digest::Sha256;

const MODULE: &str = "example.com/scripted/m";
const VERSIONS: [&str; 3] = ["v1.0.0", "v1.1.0", "v1.2.0"];
const EDGE: &str = "edge-0123456789abcdef0123";

/// An upstream with one module, an origin with a policy, an edge that follows it.
struct Rig {
    upstream: Upstream,
    _scratch: Scratch,
    origin: Node,
    edge: Node,
}

impl Rig {
    /// `policy` is YAML in one line.
    fn new(policy: &str) -> Rig {
        let upstream = Upstream::start();
        upstream.module(MODULE, &VERSIONS, b"");
        let scratch = Scratch::new("policy");
        let token = scratch.file("token", &format!("{EDGE}\n"));
        let token = token.display();
        let settings = format!(
            "{}\npurges: {{edges: '{token}'}}",
            mounts(&upstream, policy)
        );
        let origin = Node::origin("off", &settings);
        let follows = format!("origin: {{token_file: '{token}', purges: {{interval: 100ms}}}}");
        let edge = Node::edge(&origin, &follows);
        Rig {
            upstream,
            _scratch: scratch,
            origin,
            edge,
        }
    }

    fn user(&self) -> Go {
        Go::with_proxy(self.edge.url())
    }

    fn reload(&mut self, policy: &str) {
        self.origin.configure(&mounts(&self.upstream, policy));
        self.origin.signal(libc::SIGHUP);
    }

    fn test(&self, flags: &[&str]) -> Output {
        policy_test(&self.origin, flags)
    }
}

/// `modcdn policy test` of an origin's own configuration.
fn policy_test(origin: &Node, flags: &[&str]) -> Output {
    let mut command = Command::new(MODCDN);
    command
        .args(["policy", "test", "--config"])
        .arg(origin.config());
    command.args(flags).output().expect("the binary runs")
}

fn mounts(upstream: &Upstream, policy: &str) -> String {
    let url = upstream.url();
    format!(
        "mounts: [{{prefix: /, upstream: '{url}', sumdb: {{verify: 'off'}}, policy: {policy}}}]"
    )
}

const DENIES: &str =
    "{rules: [{deny: example.com/scripted, versions: '>=v1.2.0', reason: reads any file}]}";

fn of(version: &str) -> String {
    format!("{MODULE}@{version}")
}

#[test]
fn a_denied_version_fails_with_our_words_and_latest_is_the_nearest_allowed() {
    let rig = Rig::new(DENIES);
    let said = rig.user().ask(&["get", &of("v1.2.0")]).fails();
    for words in [
        "403 Forbidden",
        "blocked by rule 1 of this proxy's policy",
        "reads any file",
        "hint: go get example.com/scripted/m@v1.1.0 takes the nearest allowed version",
        "reason: policy-denied",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let go = rig.user();
    let got = go.ask(&["get", &of("latest")]).succeeds();
    assert!(
        got.stderr.contains("added example.com/scripted/m v1.1.0"),
        "{}",
        got.stderr
    );
    let listed = go.ask(&["list", "-m", "-versions", MODULE]).succeeds();
    assert_eq!(listed.stdout, format!("{MODULE} v1.0.0 v1.1.0\n"));
}

#[test]
fn a_build_reads_the_go_mod_of_a_version_that_it_does_not_use() {
    const DEPENDENT: &str = "example.com/scripted/dependent";
    let rig = Rig::new("{rules: [{deny: example.com/scripted/m, versions: <v1.1.0, reason: old}]}");
    rig.upstream.module(DEPENDENT, &["v1.0.0"], b"");
    let go_mod = format!("module {DEPENDENT}\n\ngo 1.16\n\nrequire {MODULE} v1.0.0\n");
    rig.upstream
        .body(&format!("/{DEPENDENT}/@v/v1.0.0.mod"), go_mod);
    let script = format!(
        "go mod edit -require={DEPENDENT}@v1.0.0 -require={MODULE}@v1.1.0\n\
         go list -m -mod=mod all"
    );
    let listed = rig.user().shell(&script).succeeds();
    assert!(
        listed.stdout.contains(&format!("{MODULE} v1.1.0\n")),
        "{}",
        listed.stdout
    );
    let blocked = format!("/{MODULE}/@v/v1.0.0");
    assert!(rig.upstream.requests(&format!("{blocked}.mod")) > 0);
    let zip = Client::h1(rig.edge.url()).get(&format!("{blocked}.zip"));
    assert_eq!(zip.status, 403);
}

#[test]
fn a_young_version_cools_down() {
    let mut rig = Rig::new("{min_age: 7days}");
    rig.origin.kill();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let then = now.as_secs() - 8 * 24 * 3600;
    let text = format!("v {then} list /{MODULE} v1.0.0 v1.1.0");
    let digest = Sha256::of(text.as_bytes()).to_string();
    let log = rig.origin.store().join(".sight/log");
    fs::write(log, format!("{} {text}\n", &digest[..16])).expect("the log can be written");
    rig.origin.start();
    let said = rig.user().ask(&["get", &of("v1.2.0")]).fails();
    assert!(said.contains("too new: it was first seen here"), "{said}");
    assert!(said.contains("reason: policy-cool-down"), "{said}");
    let got = rig.user().ask(&["get", &of("latest")]).succeeds();
    assert!(got.stderr.contains(" v1.1.0"), "{}", got.stderr);
}

#[test]
fn what_was_stored_before_anybody_noted_first_sights_is_as_old_as_that() {
    let mut rig = Rig::new("{}");
    for version in ["v1.0.0", "v1.1.0"] {
        let zip = format!("/{MODULE}/@v/{version}.zip");
        Client::h1(rig.origin.url()).get(&zip).ok();
    }
    observe::at_rest(&rig.origin);
    rig.origin.kill();
    let store = rig.origin.store();
    fs::remove_file(store.join(".sight/log")).expect("a log of first sights");
    let then = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    for version in ["v1.0.0", "v1.1.0"] {
        let file = fs::File::open(store.join(format!("{MODULE}/@v/{version}.zip")));
        let stored = file.expect("a stored zip");
        stored.set_modified(then).expect("a time can be set");
    }
    rig.origin
        .configure(&mounts(&rig.upstream, "{min_age: 7days}"));
    rig.origin.start();
    // Without an origin that was asked, and with one.
    for _ in 0..2 {
        let old = rig.test(&[&of("v1.1.0")]);
        assert_eq!(old.status.code(), Some(0), "{old:?}");
        let listed = rig.user().ask(&["list", "-m", "-versions", MODULE]);
        assert_eq!(
            listed.succeeds().stdout,
            format!("{MODULE} v1.0.0 v1.1.0\n")
        );
    }
    let said = rig.user().ask(&["get", &of("v1.2.0")]).fails();
    assert!(said.contains("reason: policy-cool-down"), "{said}");
    rig.user().ask(&["get", &of("v1.0.0")]).succeeds();
}

#[test]
fn a_reload_that_blocks_a_module_takes_it_out_of_a_running_edge() {
    let mut rig = Rig::new("{}");
    rig.user().ask(&["get", &of("v1.2.0")]).succeeds();
    let zip = format!("/{MODULE}/@v/v1.2.0.zip");
    let client = Client::h1(rig.edge.url());
    until_true("a hit", || {
        client
            .get(&zip)
            .ok()
            .header("cache-status")
            .contains("; hit")
    });
    rig.reload(DENIES);
    until_true("the edge to refuse it", || client.get(&zip).status == 403);
    let said = rig.user().ask(&["get", &of("v1.2.0")]).fails();
    assert!(said.contains("reads any file"), "{said}");
    // What is wrong changes nothing; the log says where it is wrong.
    rig.reload("{rules: [{deny: example.com}]}");
    until_true("the origin to say so", || {
        let log = rig.origin.log();
        log.contains("origin.yaml:") && log.contains("says why")
    });
    assert_eq!(client.get(&zip).status, 403);
    rig.reload("{}");
    until_true("the edge to have it again", || {
        client.get(&zip).status == 200
    });
}

#[test]
fn what_a_cool_down_blocks_is_refused_while_the_origin_lives() {
    let mut rig = Rig::new("{}");
    let zip = format!("/{MODULE}/@v/v1.2.0.zip");
    let client = Client::h1(rig.edge.url());
    until_true("a hit", || {
        client
            .get(&zip)
            .ok()
            .header("cache-status")
            .contains("; hit")
    });
    // A cool-down purges softly.
    rig.reload("{min_age: 7days}");
    until_true("the edge to refuse it", || client.get(&zip).status == 403);
    // As for any soft purge, what is immutable stands in while the origin is dead (docs/policy.md).
    rig.origin.kill();
    assert!(
        client
            .get(&zip)
            .ok()
            .header("cache-status")
            .contains("detail=origin-")
    );
}

#[test]
fn policy_test_explains_and_says_by_its_exit_code() {
    let rig = Rig::new(
        "{min_age: 7days, rules: [{deny: example.com/scripted, versions: v1.0.0, reason: broken, until: 2999-12-31}, {allow: example.com/scripted, versions: v1.1.0, min_age: 0s}]}",
    );
    rig.user()
        .ask(&["list", "-m", "-versions", MODULE])
        .succeeds();
    let denied = rig.test(&[&of("v1.0.0")]);
    assert_eq!(denied.status.code(), Some(3));
    let said = String::from_utf8(denied.stdout).expect("utf-8");
    for line in [
        "example.com/scripted/m@v1.0.0 in /: policy-denied\n",
        "rule       1: deny example.com/scripted v1.0.0 (until 2999-12-31)\n",
        "reason     broken\n",
        "go.mod     given out\n",
        "instead    go get example.com/scripted/m@v1.1.0\n",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert_eq!(rig.test(&[&of("v1.1.0")]).status.code(), Some(0));
    let young = rig.test(&["--json", &of("v1.2.0")]);
    assert_eq!(young.status.code(), Some(3));
    let said: serde_json::Value = serde_json::from_slice(&young.stdout).expect("JSON");
    assert_eq!(said["reason"], "policy-cool-down");
    assert_eq!(said["nearest"], "v1.1.0");
    let old = rig.test(&["--age", "8days", &of("v1.2.0")]);
    assert_eq!(
        old.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&old.stdout)
    );
    for wrong in [vec!["m"], vec!["--mount", "/x/", "example.com/m@v1.0.0"]] {
        assert_eq!(rig.test(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn policy_test_sees_what_lies_in_a_bucket_and_says_if_it_cannot() {
    let upstream = Upstream::start();
    upstream.module(MODULE, &VERSIONS, b"");
    let db = SumDb::start(&upstream.url());
    let mut s3 = S3::start();
    let settings = format!(
        "mounts: [{{prefix: /, upstream: '{}', sumdb: {{key: '{}', url: '{}'}}, \
         policy: {{min_age: 7days}}}}]\n{}",
        upstream.url(),
        db.key(),
        db.url(),
        s3.store("")
    );
    let origin = Node::origin("off", &settings);
    Client::h1(origin.url())
        .get(&format!("/{MODULE}/@v/v1.0.0.mod"))
        .ok();
    let test = || policy_test(&origin, &["--json", &of("v1.0.0")]);
    // First sights are written down some seconds later.
    until_true("an age", || json(&test())["facts"]["age"].is_number());
    let said = json(&test());
    assert_eq!(said["facts"]["age_from"], "checksum database");
    assert_eq!(said["reason"], "policy-cool-down");
    assert!(said["facts"]["store_fault"].is_null());

    s3.kill();
    let said = json(&test());
    assert!(said["facts"]["age"].is_null() && said["facts"]["store_fault"].is_string());
    let text = policy_test(&origin, &[&of("v1.0.0")]).stdout;
    let text = String::from_utf8(text).expect("utf-8");
    assert!(text.contains("\nstore      can't be read"), "{text}");
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}
