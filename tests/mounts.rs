//! Several mounts of modules, through edge and origin, with a real `go`.

mod harness;

use std::process::Command;

use harness::go::Go;
use harness::http::Client;
use harness::node::Node;
use harness::scratch::Scratch;
use harness::upstream::Upstream;
use harness::{MODCDN, until_true};

const MODULE: &str = "example.com/shared/lib";
const ZIP: &str = "/example.com/shared/lib/@v/v1.0.0.zip";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Two upstreams that hold different bytes for one module, an origin that mounts both, an edge.
struct Rig {
    scratch: Scratch,
    all: Upstream,
    team: Upstream,
    origin: Node,
    edge: Node,
}

impl Rig {
    fn new() -> Rig {
        let scratch = Scratch::new("mounts");
        let (all, team) = (Upstream::start(), Upstream::start());
        all.module(MODULE, &["v1.0.0"], b"for all");
        team.module(MODULE, &["v1.0.0", "v1.1.0"], b"for team a");
        let (at_root, at_team) = (all.url(), team.url());
        let mounts = format!(
            "mounts: [{{prefix: /, upstream: '{at_root}', sumdb: {{verify: off}}}}, \
             {{prefix: /team-a/, upstream: '{at_team}', sumdb: {{verify: off}}}}]"
        );
        let origin = Node::origin("off", &mounts);
        let token = scratch.file("token", TOKEN);
        let edge = Node::edge(
            &origin,
            &format!(
                "mounts: [{{prefix: /, kind: modules}}, {{prefix: /team-a/, kind: modules}}]\n\
                 purge: {{token_file: '{}'}}",
                token.display()
            ),
        );
        Rig {
            scratch,
            all,
            team,
            origin,
            edge,
        }
    }

    fn proxy(&self, mount: &str) -> String {
        format!("{}{mount}", self.edge.url())
    }

    /// How the next answer for `path` came about, as the edge says.
    fn next(&self, path: &str) -> String {
        let answer = Client::h1(self.edge.url()).get(path).ok();
        answer.header("cache-status").to_owned()
    }
}

/// The h1 of `MODULE@v1.0.0` as a new `go` gets it from that proxy.
fn sum(proxy: &str) -> String {
    let asked = format!("{MODULE}@v1.0.0");
    let ran = Go::with_proxy(proxy).ask(&["mod", "download", "-json", &asked]);
    let said: serde_json::Value = serde_json::from_str(&ran.succeeds().stdout).expect("JSON");
    said["Sum"].as_str().expect("a sum").to_owned()
}

#[test]
fn go_gets_each_mounts_own_bytes_and_the_origins_folders_are_proxies_too() {
    let rig = Rig::new();
    let (all, team) = (sum(&rig.all.url()), sum(&rig.team.url()));
    assert_ne!(all, team);
    for _ in 0..2 {
        assert_eq!(sum(&rig.proxy("")), all);
        assert_eq!(sum(&rig.proxy("/team-a")), team);
        assert_eq!(sum(&rig.proxy("/team-a/")), team);
    }
    // One each without us, one each for all who came through us.
    assert_eq!((rig.all.requests(ZIP), rig.team.requests(ZIP)), (2, 2));

    let go = Go::with_proxy(&rig.proxy("/team-a"));
    let ran = go.ask(&["list", "-m", "-versions", MODULE]).succeeds();
    assert_eq!(ran.stdout.trim(), format!("{MODULE} v1.0.0 v1.1.0"));

    let store = rig.origin.store();
    assert_eq!(sum(&format!("file://{}", store.display())), all);
    assert_eq!(sum(&format!("file://{}/team-a", store.display())), team);
}

#[test]
fn a_mount_that_does_not_exist_does_not_send_go_to_the_next_proxy() {
    let rig = Rig::new();
    let other = Upstream::start();
    other.module(MODULE, &["v1.0.0"], b"elsewhere");
    let proxies = format!("{},{}", rig.proxy("/team-x"), other.url());
    let asked = format!("{MODULE}@v1.0.0");
    let go = Go::with_proxy(&proxies);
    let stderr = go.ask(&["mod", "download", &asked]).fails();
    assert!(stderr.contains("400 Bad Request"), "{stderr}");
    assert_eq!(other.all_requests(), 0);
}

#[test]
fn a_purge_can_be_for_one_mount() {
    let rig = Rig::new();
    let team = format!("/team-a{ZIP}");
    for path in [ZIP, &team] {
        until_true(&format!("{path} to be a hit"), || {
            rig.next(path).contains("; hit")
        });
    }
    let token = rig.scratch.path().join("token");
    let mut purge = Command::new(MODCDN);
    purge.args(["purge", "--admin", rig.edge.admin(), "--token-file"]);
    purge.arg(token).args(["--mount", "/team-a/", MODULE]);
    assert!(purge.status().expect("the binary runs").success());
    assert!(rig.next(ZIP).contains("; hit"));
    assert!(rig.next(&team).contains("fwd=uri-miss"));
}
