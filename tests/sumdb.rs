//! The checksum database through edge and origin, with a real `go` that asks it of us and nobody
//! else; PROMISES.md F12, and what it says of forged answers.

mod harness;

use std::fs;

use harness::go::Go;
use harness::http::Client;
use harness::modules::{Modules, UPPER_CASE};
use harness::node::Node;
use harness::observe::{Access, Metrics, access_log};
use harness::sumdb::{NAME, SumDb};
use harness::until_true;

/// The module that lies are told about, of the project's.
const MODULE: &str = "github.com/BurntSushi/toml@v1.3.2";

/// A database for the project's modules, an origin that believes it, an edge.
struct Rig {
    db: SumDb,
    origin: Node,
    edge: Node,
}

impl Rig {
    /// `more` goes behind the keys of the section `sumdb`.
    fn new(more: &str) -> Rig {
        let db = SumDb::start(&Modules::fetch().url());
        let origin = Node::origin("off", &mounts(&db, &Modules::fetch().url(), more));
        let edge = Node::edge(&origin, "");
        Rig { db, origin, edge }
    }

    fn user(&self) -> Go {
        user(&self.edge, &self.db)
    }

    fn counted(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        Metrics::scrape(self.origin.admin()).value(name, labels)
    }

    fn alarms(&self, cause: &str) -> f64 {
        self.counted("modcdn_origin_sumdb_alarms_total", &[("cause", cause)])
    }
}

fn mounts(db: &SumDb, upstream: &str, more: &str) -> String {
    let (key, url) = (db.key(), db.url());
    format!(
        "mounts: [{{prefix: /, upstream: '{upstream}', \
         sumdb: {{key: '{key}', url: '{url}', {more}}}}}]"
    )
}

/// A user with nothing in his caches and nothing in go.sum, who believes the database.
fn user(edge: &Node, db: &SumDb) -> Go {
    let go = Go::with_proxy(edge.url()).env("GOSUMDB", db.key());
    fs::write(go.project().join("go.sum"), "").expect("it can be emptied");
    go
}

/// `go build` of the project, which fills go.sum with what the database proves; go.sum.
fn builds(go: &Go) -> String {
    go.run(&["build", "-mod=mod", "-o", "project.bin", "."])
        .succeeds();
    let sums = fs::read_to_string(go.project().join("go.sum")).expect("go wrote it");
    assert!(sums.contains("BurntSushi/toml v1.3.2 h1:"), "{sums}");
    sums
}

#[test]
fn a_go_command_that_verifies_is_served_and_still_is_when_all_else_is_down() {
    let mut rig = Rig::new("");
    let go = rig.user();
    go.run(&["mod", "download"]).succeeds();
    let sums = builds(&go);
    assert_eq!(rig.counted("modcdn_origin_sumdb_alarms_total", &[]), 0.0);
    assert!(rig.counted("modcdn_origin_verified_bodies_total", &[("kind", "zip")]) > 0.0);

    // No database, no upstream, a new run of the origin, an edge that has nothing.
    rig.db.tell("fail 500");
    rig.origin.kill();
    rig.origin.configure(&mounts(&rig.db, "off", ""));
    rig.origin.start();
    let edge = Node::edge(&rig.origin, "");
    let go = user(&edge, &rig.db);
    go.run(&["mod", "download"]).succeeds();
    assert_eq!(builds(&go), sums);
    let lookups = |access: &&Access| access.field("path").contains("/lookup/");
    let log = access_log(&edge.access_log());
    assert!(
        log.iter().filter(lookups).count() > 5,
        "the go command asked us for proofs"
    );
}

#[test]
fn a_zip_that_isnt_the_proven_one_fails_the_users_command_with_the_reason() {
    let mut rig = Rig::new("");
    rig.db.tell(&format!("wrong-zip {MODULE}"));
    let stderr = rig.user().run(&["mod", "download"]).fails();
    assert!(stderr.contains("toml"), "{stderr}");
    // The edge was cut off in the middle; who asks later is told why.
    let zip = format!("{UPPER_CASE}.zip");
    assert_eq!(Client::h1(rig.edge.url()).get(&zip).status, 502);
    let cold = Node::edge(&rig.origin, "");
    let answer = Client::h1(cold.url()).get(&zip);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.header("modcdn-reason"), "sum-mismatch");
    assert!(
        answer.text().contains("SECURITY ERROR"),
        "{}",
        answer.text()
    );
    let place = format!("{}.zip", &UPPER_CASE[1..]);
    assert!(!rig.origin.store().join(place).exists());
    assert!(rig.alarms("mismatch") >= 1.0);
    let logged = rig.origin.log();
    assert!(
        logged.contains("\"ERROR\"") && logged.contains("checksum database"),
        "{logged}"
    );
}

#[test]
fn forged_answers_of_the_database_are_502_and_raise_the_alarm() {
    for (lie, reason, cause) in [
        ("flip 0", "sumdb-forged", "forged"),
        ("empty", "sumdb-content", "malformed"),
        ("unrelated", "sumdb-forged", "forged"),
    ] {
        let mut rig = Rig::new("");
        rig.db.tell(lie);
        let stderr = rig.user().run(&["mod", "download"]).fails();
        assert!(stderr.contains("502"), "{lie}: {stderr}");
        let answer = Client::h1(rig.edge.url()).get(&format!("{UPPER_CASE}.mod"));
        let found = (answer.status, answer.header("modcdn-reason"));
        assert_eq!(found, (502, reason), "{lie}: {}", answer.text());
        assert!(rig.alarms(cause) >= 1.0, "{lie}");
        // Nothing of it stays; the edge that was told waits a moment before it asks again.
        rig.db.tell("honest");
        let cold = Node::edge(&rig.origin, "");
        builds(&user(&cold, &rig.db));
    }
}

#[test]
fn a_tree_that_shrinks_or_forks_is_502_and_what_was_proven_stays() {
    for lie in ["shrink 300", "fork"] {
        let mut rig = Rig::new("");
        let client = Client::h1(rig.edge.url());
        let (known, new) = (format!("{UPPER_CASE}.mod"), format!("{UPPER_CASE}.zip"));
        client.get(&known).ok();
        let latest = format!("/sumdb/{NAME}/latest");
        let before = client.get(&latest).ok();
        rig.db.tell(lie);
        let other = client.get("/golang.org/x/sys/@v/v0.14.0.mod");
        let found = (other.status, other.header("modcdn-reason"));
        assert_eq!(found, (502, "sumdb-forged"), "{lie}: {}", other.text());
        assert!(rig.alarms("forged") >= 1.0, "{lie}");
        client.get(&known).ok();
        client.get(&new).ok();
        assert_eq!(client.get(&latest).ok().body, before.body);
    }
}

#[test]
fn f12_without_the_database_what_is_verified_is_served_and_what_is_new_is_503() {
    let mut rig = Rig::new("rest: 1ms");
    let client = Client::h1(rig.origin.url());
    let (known, new) = (
        format!("{UPPER_CASE}.mod"),
        "/golang.org/x/sys/@v/v0.14.0.mod",
    );
    client.get(&known).ok();
    for lie in ["fail 500", "fail 429"] {
        rig.db.tell(lie);
        let cold = Node::edge(&rig.origin, "");
        assert_eq!(
            Client::h1(cold.url()).get(&known).ok().body,
            Modules::fetch().read(&known)
        );
        let refused = client.get(new);
        let found = (refused.status, refused.header("modcdn-reason"));
        assert_eq!(found, (503, "sumdb-unreachable"), "{}", refused.text());
        assert_eq!(refused.header("cache-control"), "no-store");
    }
    assert_eq!(rig.counted("modcdn_origin_sumdb_alarms_total", &[]), 0.0);
    rig.db.tell("honest");
    // Who failed is left alone for a moment.
    until_true("a proof again", || client.get(new).status == 200);
}

#[test]
fn f12_what_is_new_is_served_unverified_only_where_the_configuration_says_so() {
    let mut rig = Rig::new("unreachable: serve");
    rig.db.tell("fail 500");
    let answer = Client::h1(rig.origin.url())
        .get(&format!("{UPPER_CASE}.mod"))
        .ok();
    assert_eq!(answer.header("modcdn-unverified"), "unreachable");
    assert!(!answer.header("cache-control").contains("immutable"));
    let labels = [("kind", "mod"), ("cause", "unreachable")];
    let counted = rig.counted("modcdn_origin_unverified_bodies_total", &labels);
    assert_eq!(counted, 1.0);
    Go::with_proxy(rig.edge.url()).downloads_and_builds();
}

#[test]
fn a_private_module_asked_of_the_database_is_told_which_variable_to_set() {
    let mut rig = Rig::new("");
    let tree = Modules::fetch().url();
    let patterns = "private: ['github.com/BurntSushi/*']";
    let private = mounts(&rig.db, &tree, "").replacen(
        "prefix: /",
        &format!("prefix: /, {patterns}, private_upstream: '{tree}'"),
        1,
    );
    rig.origin.kill();
    rig.origin.configure(&private);
    rig.origin.start();
    let stderr = rig.user().run(&["mod", "download"]).fails();
    assert!(
        stderr.contains("GONOSUMDB=github.com/BurntSushi/*"),
        "{stderr}"
    );
    let go = rig.user().env("GONOSUMDB", "github.com/BurntSushi/*");
    builds(&go);
}

#[test]
fn an_unknown_database_is_asked_by_the_go_command_itself() {
    let rig = Rig::new("");
    let answer = Client::h1(rig.edge.url()).get("/sumdb/sum.example.com/supported");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("modcdn-reason"), "unknown-database");
}
