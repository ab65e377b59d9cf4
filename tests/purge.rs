//! Purges through the real binary: `modcdn purge` and its edge.

mod harness;

use std::path::PathBuf;
use std::time::Duration;

use harness::command::{Ran, modcdn};
use harness::http::Client;
use harness::modules::{LARGE, Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{cache_status, is_stored};
use harness::raw::exchange;
use harness::scratch::Scratch;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An origin, an edge that can be purged, and the file with its token.
struct Rig {
    _scratch: Scratch,
    token: PathBuf,
    origin: Node,
    edge: Node,
}

impl Rig {
    fn new() -> Rig {
        let scratch = Scratch::new("purge");
        let token = scratch.file("token", &format!("# of the tests\n{TOKEN}\n"));
        let origin = Node::origin(&Modules::fetch().url(), "");
        let settings = format!("purge: {{token_file: '{}'}}", token.display());
        let edge = Node::edge(&origin, &settings);
        Rig {
            _scratch: scratch,
            token,
            origin,
            edge,
        }
    }

    fn purge(&self, flags: &[&str]) -> Ran {
        let token = self.token.display().to_string();
        let to = [
            "purge",
            "--admin",
            self.edge.admin(),
            "--token-file",
            &token,
        ];
        modcdn(&[&to[..], flags].concat())
    }

    fn purged(&self, flags: &[&str]) {
        self.purge(flags).ends(0);
    }
}

/// `/github.com/!burnt!sushi/toml/@v/v1.6.0` as `github.com/BurntSushi/toml`, `v1.6.0`.
fn module_and_version(base: &str) -> (String, String) {
    let (module, version) = base[1..].split_once("/@v/").expect("a versioned object");
    let mut plain = String::new();
    let mut letters = module.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '!' => plain.extend(letters.next().map(|next| next.to_ascii_uppercase())),
            letter => plain.push(letter),
        }
    }
    (plain, version.to_owned())
}

#[test]
fn what_is_purged_is_a_miss_and_then_a_hit_again() {
    let mut rig = Rig::new();
    let (zip, file) = (format!("{LARGE}.zip"), format!("{UPPER_CASE}.mod"));
    let (module, version) = module_and_version(UPPER_CASE);
    assert!(module.chars().any(char::is_uppercase));
    let version = format!("{module}@{version}");
    for (path, flags) in [
        (&file, vec![module.as_str()]),
        (&file, vec![version.as_str(), "--json"]),
        (&zip, vec!["--key", zip.as_str()]),
        (&zip, vec!["--all"]),
    ] {
        is_stored(&rig.edge, path);
        rig.purged(&flags);
        let next = cache_status(&rig.edge, path);
        assert!(next.contains("fwd=uri-miss"), "{flags:?}: {next}");
    }
    is_stored(&rig.edge, &file);
    rig.purged(&["--soft", "--all"]);
    // A softly purged answer stands in for a dead origin; kill -9 undoes no purge.
    rig.edge.kill();
    rig.edge.start();
    rig.origin.kill();
    let next = cache_status(&rig.edge, &file);
    assert!(next.contains("detail=origin-"), "{next}");
    rig.purged(&["--all"]);
    rig.edge.kill();
    rig.edge.start();
    let answer = Client::h1(rig.edge.url()).get(&file);
    assert!([502, 504].contains(&answer.status), "{}", answer.status);
}

#[test]
fn only_who_has_a_token_may_purge() {
    let rig = Rig::new();
    let file = format!("{UPPER_CASE}.mod");
    is_stored(&rig.edge, &file);
    let post = |edge: &Node, authorization: &str| {
        let body = r#"{"all": true}"#;
        let length = body.len();
        let head = format!(
            "POST /purge HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let wait = Duration::from_secs(20);
        let reply = exchange(edge.admin(), format!("{head}{body}").as_bytes(), wait);
        String::from_utf8_lossy(&reply.bytes).into_owned()
    };
    let without = post(&rig.edge, "");
    assert!(without.starts_with("HTTP/1.1 401 "), "{without}");
    assert!(without.contains("www-authenticate: Bearer"), "{without}");
    let wrong = post(&rig.edge, "authorization: Bearer 0123456789abcdef\r\n");
    assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
    assert!(cache_status(&rig.edge, &file).contains("; hit"));

    let closed = Node::edge(&rig.origin, "");
    let off = post(&closed, &format!("authorization: Bearer {TOKEN}\r\n"));
    assert!(off.starts_with("HTTP/1.1 403 "), "{off}");
    assert!(off.contains("purge.token_file"), "{off}");

    // A new token counts without a restart.
    std::fs::write(&rig.token, "another-token-of-some-length\n").unwrap();
    let old = post(&rig.edge, &format!("authorization: Bearer {TOKEN}\r\n"));
    assert!(old.starts_with("HTTP/1.1 401 "), "{old}");
    rig.purged(&["--all"]);
    assert!(cache_status(&rig.edge, &file).contains("fwd=uri-miss"));
}

#[test]
fn exit_codes_tell_usage_from_failure() {
    let rig = Rig::new();
    rig.purge(&["not a module"]).ends(2);
    rig.purge(&["--all", "--tag", "x"]).ends(2);
    let dead = "127.0.0.1:1";
    let said = rig.purge(&["--all", "--admin", dead]).ends(1).stderr;
    assert!(
        said.contains(dead) && said.contains("1 of 2 nodes"),
        "{said}"
    );
}
