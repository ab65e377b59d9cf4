//! `modcdn client`: with exactly the lines that it prints, a real `go` that verifies gets private
//! modules through us.

mod harness;

use std::process::Command;

use harness::MODCDN;
use harness::go::Go;
use harness::modules::Modules;
use harness::node::Node;
use harness::sumdb::SumDb;
use harness::upstream::Upstream;

const PRIVATE: &str = "corp.test/secret";

/// A database, an origin with a private module beside public ones, an edge.
struct Rig {
    db: SumDb,
    _private: Upstream,
    _origin: Node,
    edge: Node,
}

impl Rig {
    fn new() -> Rig {
        let db = SumDb::start(&Modules::fetch().url());
        let private = Upstream::start();
        private.module(PRIVATE, &["v1.0.0"], b"");
        let mounts = format!(
            "mounts: [{{prefix: /, upstream: '{}', private: ['corp.test/*'], private_upstream: '{}', \
             sumdb: {{key: '{}', url: '{}'}}}}]",
            Modules::fetch().url(),
            private.url(),
            db.key(),
            db.url()
        );
        let origin = Node::origin("off", &mounts);
        let edge = Node::edge(&origin, "");
        Rig {
            db,
            _private: private,
            _origin: origin,
            edge,
        }
    }

    /// Somebody who verifies, and knows no proxy.
    fn user(&self) -> Go {
        let go = Go::with_proxy("off").without("GOPROXY");
        go.env("GOSUMDB", self.db.key())
    }

    /// The blocks of lines that `modcdn client` prints.
    fn blocks(&self, flags: &[&str]) -> Vec<String> {
        let mut command = Command::new(MODCDN);
        command
            .args(["client", "--url", self.edge.url()])
            .args(flags);
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("utf-8");
        text.split("\n\n").map(str::to_owned).collect()
    }
}

#[test]
fn each_block_that_is_printed_is_all_that_a_go_command_needs() {
    let rig = Rig::new();
    let blocks = rig.blocks(&["--private", "corp.test/*"]);
    let [developer, ci, goprivate] = &blocks[..] else {
        panic!("{blocks:?}")
    };
    let goprivate = format!("{}\n{goprivate}", rig.blocks(&[])[0]);
    let get =
        format!("go get {PRIVATE}@v1.0.0 github.com/BurntSushi/toml@v1.3.2\ngrep -c h1: go.sum");
    for block in [developer, ci, &goprivate] {
        let ran = rig.user().shell(&format!("{block}\n{get}")).succeeds();
        assert_eq!(ran.stdout, "4\n", "{block}");
    }
}

#[test]
fn without_the_lines_for_private_modules_go_is_told_which_to_set() {
    let rig = Rig::new();
    let developer = &rig.blocks(&[])[0];
    let script = format!("{developer}\ngo get {PRIVATE}@v1.0.0");
    let said = rig.user().shell(&script).fails();
    assert!(said.contains("go env -w GONOSUMDB=corp.test/*"), "{said}");
}
