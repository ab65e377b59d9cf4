//! A disk that fails while the edge runs: PROMISES.md, F5 and F8, with the system calls of the real
//! binary made to fail.

mod harness;

use std::process::Command;

use bytes::Bytes;
use harness::faulty_disk::{Call, FaultyDisk, said};
use harness::http::{Client, Reply};
use harness::node::{Node, files};
use harness::observe::Metrics;
use harness::scratch::Scratch;
use harness::upstream::Upstream;
use harness::zip::module_zip;
use harness::{MODCDN, until, until_true};

/// Longer than anything that fits into RAM here.
const LONG: usize = 1_500_000;
/// Long enough for a file of its own.
const MEDIUM: usize = 40_000;

/// What is asked for: a body that is packed, one that is loaded into RAM, one that is sent from the
/// disk.
struct Module {
    name: &'static str,
    packed: String,
    medium: String,
    long: String,
}

impl Module {
    fn new(name: &'static str) -> Module {
        Module {
            name,
            packed: format!("/{name}/@v/v1.0.0.info"),
            medium: format!("/{name}/@v/v1.1.0.zip"),
            long: format!("/{name}/@v/v1.0.0.zip"),
        }
    }

    fn paths(&self) -> [&str; 3] {
        [&self.packed, &self.medium, &self.long]
    }

    fn zip(&self, path: &str) -> Vec<u8> {
        let (version, size) = match path == self.long {
            true => ("v1.0.0", LONG),
            false => ("v1.1.0", MEDIUM),
        };
        let salt = self.name.len();
        let blob: Vec<u8> = (0..size)
            .map(|n| (n * 31 + (n >> 8) + salt) as u8)
            .collect();
        module_zip(self.name, version, &[("blob", &blob)])
    }
}

/// An upstream with modules, an origin, and an edge whose disk fails on command. Its RAM tier holds
/// next to nothing: what is a hit was read from the disk.
struct Rig {
    upstream: Upstream,
    origin: Node,
    disk: FaultyDisk,
    edge: Node,
}

const SMALL_RAM: &str = "{ram: 2KiB, ram_body: 2KiB, packed_body: 2KiB, pause: 1s}";
const LARGER_RAM: &str = "{ram: 64KiB, ram_body: 64KiB, packed_body: 2KiB, pause: 1s}";

impl Rig {
    fn new(store: &str) -> Rig {
        let upstream = Upstream::start();
        let origin = Node::origin(&upstream.url(), "");
        let disk = FaultyDisk::new();
        let edge = Node::edge_on(&disk, &origin, &format!("store: {store}"));
        Rig {
            upstream,
            origin,
            disk,
            edge,
        }
    }

    fn module(&self, name: &'static str) -> Module {
        self.upstream.module(name, &["v1.0.0", "v1.1.0"], b"");
        let module = Module::new(name);
        for path in [&module.medium, &module.long] {
            self.upstream.body(path, module.zip(path));
        }
        module
    }

    /// What the origin says: the truth.
    fn right(&self, path: &str) -> Reply {
        Client::h2(self.origin.url()).get(path).ok()
    }

    fn get(&self, path: &str) -> Reply {
        Client::h1(self.edge.url()).get(path)
    }

    /// The right bytes, complete; how they came about.
    fn got(&self, path: &str) -> String {
        let answer = self.get(path).ok();
        assert!(answer.body == self.right(path).body, "{path}: other bytes");
        answer.header("cache-status").to_owned()
    }

    fn is_hit(&self, path: &str) {
        let status = self.got(path);
        assert!(status.contains("; hit"), "{path}: {status}");
    }

    /// Asks until it is a hit, right each time.
    fn becomes_hit(&self, path: &str) {
        until_true(&format!("{path} to be a hit"), || {
            self.got(path).contains("; hit")
        });
    }

    fn metric(&self, name: &str) -> f64 {
        Metrics::scrape(self.edge.admin()).expect(name, &[])
    }

    fn admin(&self, path: &str) -> String {
        let admin = Client::h1(&format!("http://{}", self.edge.admin()));
        admin.get(path).ok().text()
    }

    fn has_file_of(&self, size: usize) -> bool {
        let objects = files(&self.disk.folder().join("objects"));
        objects.iter().any(|(_, length)| *length == size as u64)
    }
}

/// The disk takes no writes any more, and then it does again.
fn lives_through_refused_writes(errno: i32) {
    let rig = Rig::new(SMALL_RAM);
    let before = rig.module("example.com/before");
    let during = rig.module("example.com/duringit");
    let after = rig.module("example.com/afterwards");
    for path in before.paths() {
        rig.becomes_hit(path);
    }
    assert_eq!(rig.admin("/readyz"), "ready\n");

    rig.disk.fail(Call::Write, errno);
    for _ in 0..2 {
        for path in during.paths() {
            let status = rig.got(path);
            assert!(
                path == during.packed || !status.contains("; hit"),
                "{path}: {status}"
            );
        }
        for path in before.paths() {
            rig.is_hit(path);
        }
    }
    assert!(!rig.has_file_of(rig.right(&during.long).body.len()));
    assert_eq!(rig.metric("modcdn_edge_admission_stopped"), 1.0);
    assert!(rig.metric("modcdn_edge_store_write_errors_total") >= 1.0);
    let ready = rig.admin("/readyz");
    assert!(
        ready.contains("nothing is stored at present") && ready.contains(&said(errno)),
        "{ready}"
    );
    assert_eq!(rig.admin("/healthz"), "ok\n");

    rig.disk.fail(Call::Write, 0);
    for path in after.paths() {
        rig.becomes_hit(path);
    }
    assert_eq!(rig.metric("modcdn_edge_admission_stopped"), 0.0);
    assert_eq!(rig.admin("/readyz"), "ready\n");
    for path in before.paths().into_iter().chain(during.paths()) {
        rig.becomes_hit(path);
    }
    assert_eq!(rig.metric("modcdn_edge_corrupt_objects_total"), 0.0);
}

#[test]
fn f8_a_disk_that_fails_to_write_stops_admission_and_nothing_else() {
    lives_through_refused_writes(libc::EIO);
}

#[test]
fn f8_a_disk_that_became_read_only_stops_admission_and_nothing_else() {
    lives_through_refused_writes(libc::EROFS);
}

#[test]
fn f8_a_full_disk_stops_admission_and_nothing_else() {
    lives_through_refused_writes(libc::ENOSPC);
}

#[test]
fn f8_an_edge_starts_on_a_read_only_disk_and_serves_what_is_there() {
    let mut rig = Rig::new(SMALL_RAM);
    let module = rig.module("example.com/m");
    for path in module.paths() {
        rig.becomes_hit(path);
    }
    rig.edge.kill();
    rig.disk.fail(Call::Write, libc::EROFS);
    rig.edge.start();
    let other = rig.module("example.com/other");
    for path in module.paths() {
        rig.becomes_hit(path);
    }
    for path in other.paths() {
        rig.got(path);
    }
    assert_eq!(rig.metric("modcdn_edge_admission_stopped"), 1.0);
}

/// Reads of what is stored fail, and then they don't. After a restart, so that no file is open.
fn lives_through_refused_reads(call: Call) {
    let mut rig = Rig::new(SMALL_RAM);
    let module = rig.module("example.com/m");
    for path in module.paths() {
        rig.becomes_hit(path);
    }
    rig.edge.stop();
    rig.edge.start();
    until_true("the index", || {
        rig.metric("modcdn_edge_index_loading") == 0.0
    });
    for path in module.paths() {
        rig.disk.fail(call, libc::EIO);
        let status = rig.got(path);
        // The journal is open, and the record of a packed body in it.
        let is_open = matches!(call, Call::Open) && path == module.packed;
        assert_eq!(status.contains("; hit"), is_open, "{path}: {status}");
        rig.disk.fail(call, 0);
        rig.becomes_hit(path);
    }
    assert!(rig.metric("modcdn_edge_store_read_errors_total") >= 2.0);
    assert_eq!(rig.metric("modcdn_edge_corrupt_objects_total"), 0.0);

    // Nor is anything dropped where it can't be fetched again.
    let right = module.paths().map(|path| rig.right(path).body);
    rig.origin.kill();
    rig.disk.fail(call, libc::EIO);
    for (path, right) in module.paths().into_iter().zip(&right) {
        let answer = rig.get(path);
        let failed = answer.status >= 500 || !answer.complete;
        assert!(failed || answer.body == right, "{path}: other bytes");
    }
    rig.disk.fail(call, 0);
    for (path, right) in module.paths().into_iter().zip(&right) {
        let answer = rig.get(path).ok();
        assert!(answer.body == right, "{path}: other bytes");
    }
}

#[test]
fn f8_what_can_not_be_read_is_fetched_again_and_stays() {
    lives_through_refused_reads(Call::Read);
}

#[test]
fn f8_what_can_not_be_opened_is_fetched_again_and_stays() {
    lives_through_refused_reads(Call::Open);
}

#[test]
fn f8_a_disk_that_fails_in_the_midst_of_a_body_is_never_a_complete_wrong_one() {
    let rig = Rig::new(LARGER_RAM);
    let module = rig.module("example.com/m");
    rig.becomes_hit(&module.long);
    let right = rig.right(&module.long).body;
    for over_h2 in [false, true] {
        let client = match over_h2 {
            true => Client::h2(rig.edge.url()),
            false => Client::h1(rig.edge.url()),
        };
        let mut following = client.follow(&module.long);
        assert_eq!(following.status(), 200);
        following.read_at_least(1000);
        rig.disk.fail(Call::Read, libc::EIO);
        let answer = following.finish();
        assert!(
            !answer.complete || answer.body == right,
            "a complete wrong body"
        );
        let ranged = client.get_with(&module.long, &[("range", "bytes=300000-900000")]);
        let part = &right[300_000..=900_000];
        assert!(
            ranged.status != 206 || !ranged.complete || ranged.body == part,
            "a complete wrong range"
        );
        rig.disk.fail(Call::Read, 0);
        let answer = until("the whole body", || {
            let answer = client.send(&http::Method::GET, &module.long, &[]).ok()?;
            (answer.status == 200 && answer.complete).then_some(answer)
        });
        assert!(answer.body == right, "other bytes");
        rig.becomes_hit(&module.long);
    }
    assert_eq!(rig.metric("modcdn_edge_corrupt_objects_total"), 0.0);
}

#[test]
fn f6_a_sector_of_the_journal_that_can_not_be_read_costs_what_lay_there() {
    let mut rig = Rig::new("{packed_body: 16KiB, ram: 16KiB, ram_body: 16KiB}");
    let versions: Vec<String> = (0..30).map(|n| format!("v1.{n}.0")).collect();
    let paths: Vec<String> = versions
        .iter()
        .map(|version| format!("/example.com/packed/@v/{version}.zip"))
        .collect();
    for (version, path) in versions.iter().zip(&paths) {
        let zip = module_zip("example.com/packed", version, &[("blob", &[7; 12_000])]);
        rig.upstream.body(path, zip);
        rig.becomes_hit(path);
    }
    let right: Vec<Bytes> = paths.iter().map(|path| rig.right(path).body).collect();
    // In the eighth record or so, and not where the journal is read from its beginning.
    rig.edge.kill();
    rig.disk.bad_place(100_000);
    rig.edge.start();
    until_true("the index", || {
        rig.metric("modcdn_edge_index_loading") == 0.0
    });
    rig.origin.kill();
    let mut lost = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let answer = rig.get(path);
        match answer.status {
            200 => assert!(answer.body == right[number], "{path}: other bytes"),
            _ => lost.push(number),
        }
    }
    let span = lost
        .first()
        .zip(lost.last())
        .map(|(first, last)| last - first);
    assert!(lost.contains(&8) && span < Some(8), "{lost:?}");
    rig.disk.bad_place(0);
    rig.origin.start();
    for path in &paths {
        rig.becomes_hit(path);
    }
}

#[test]
fn f8_a_purge_that_the_disk_refused_is_written_down_when_it_takes_writes_again() {
    let scratch = Scratch::new("purge");
    let token = scratch.file("token", "0123456789abcdef0123456789abcdef\n");
    let mut rig = Rig::new(&format!(
        "{SMALL_RAM}\npurge: {{token_file: '{}'}}",
        token.display()
    ));
    let (purged, other) = (rig.module("example.com/m"), rig.module("example.com/other"));
    for path in purged.paths().into_iter().chain(other.paths()) {
        rig.becomes_hit(path);
    }
    let unwritten = |rig: &Rig| rig.metric("modcdn_edge_purges_unwritten");
    rig.disk.fail(Call::Write, libc::EIO);
    let mut command = Command::new(MODCDN);
    command.args(["purge", "--json", "--admin", rig.edge.admin()]);
    command.arg("--token-file").arg(&token).arg(purged.name);
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).replace(' ', "");
    assert!(said.contains("\"durable\":false"), "{said}");
    assert_eq!(unwritten(&rig), 1.0);
    // In effect at once.
    rig.origin.kill();
    for path in purged.paths() {
        assert!(rig.get(path).status >= 500, "{path}");
    }

    // Nobody asks for anything meanwhile.
    rig.disk.fail(Call::Write, 0);
    until_true("the purge on disk", || unwritten(&rig) == 0.0);
    rig.edge.kill();
    rig.edge.start();
    until_true("the index", || {
        rig.metric("modcdn_edge_index_loading") == 0.0
    });
    for path in purged.paths() {
        assert!(rig.get(path).status >= 500, "{path}");
    }
    for path in other.paths() {
        rig.get(path).ok();
    }
}

#[test]
fn an_origin_serves_a_tree_that_it_may_only_read() {
    let upstream = Upstream::start();
    upstream.module("example.com/new", &["v1.0.0"], b"");
    let disk = FaultyDisk::new();
    let tree = disk.folder().join("example.com/m/@v");
    std::fs::create_dir_all(&tree).expect("a folder");
    let blob = vec![1; LONG];
    let zip = module_zip("example.com/m", "v1.0.0", &[("blob", &blob)]);
    std::fs::write(tree.join("v1.0.0.zip"), &zip).expect("written");
    std::fs::write(tree.join("v1.0.0.mod"), "module example.com/m\n").expect("written");
    disk.fail(Call::Write, libc::EROFS);
    let origin = Node::origin_on(&disk, &upstream.url(), "");
    let client = Client::h2(origin.url());
    for _ in 0..2 {
        assert!(client.get("/example.com/m/@v/v1.0.0.zip").ok().body == zip);
        let go_mod = client.get("/example.com/m/@v/v1.0.0.mod").ok();
        assert_eq!(go_mod.text(), "module example.com/m\n");
        // What is small is passed on without being kept.
        client.get("/example.com/new/@v/v1.0.0.mod").ok();
    }
    let admin = Client::h1(&format!("http://{}", origin.admin()));
    let ready = until("readyz to say so", || {
        let ready = admin.get("/readyz").text();
        (ready != "ready\n").then_some(ready)
    });
    assert!(ready.contains(&said(libc::EROFS)), "{ready}");
    disk.fail(Call::Write, 0);
    until_true("readyz", || admin.get("/readyz").text() == "ready\n");
    assert!(!tree.join("v1.0.0.zip.sha256").exists());
}
