//! `modcdn warm` against origins and edges, with a real go.sum.

mod harness;

use std::fs;
use std::process::{Command, Stdio};

use harness::certificate::Certificate;
use harness::command::{Ran, modcdn};
use harness::modules::{Modules, project};
use harness::node::Node;
use harness::observe::access_log;
use harness::process::Process;
use harness::scratch::Scratch;
use harness::upstream::{Answer, Upstream};
use harness::{MODCDN, ports, until_true};

fn warm(arguments: &[&str]) -> Ran {
    modcdn(&[&["warm"], arguments].concat())
}

/// The project's go.sum, without the one module of which the cache has no `.info`.
fn go_sum(scratch: &Scratch) -> String {
    let text = fs::read_to_string(project().join("go.sum")).expect("tests/project/go.sum");
    let lines = text
        .lines()
        .filter(|line| !line.starts_with("gopkg.in/check.v1 "));
    let kept: String = lines.map(|line| format!("{line}\n")).collect();
    scratch.file("go.sum", &kept).display().to_string()
}

/// Lines of a go.sum: of zips, and all versions.
fn counted(go_sum: &str) -> (u64, u64) {
    let text = fs::read_to_string(go_sum).expect("a go.sum");
    let versions = |of_mod: bool| {
        let lines = text
            .lines()
            .filter(|line| line.contains("/go.mod h1:") == of_mod);
        lines.count() as u64
    };
    (versions(false), versions(true))
}

#[test]
fn a_go_sum_is_warmed_and_every_hash_is_right() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let edge = Node::edge(&origin, "");
    let scratch = Scratch::new("warm");
    let go_sum = go_sum(&scratch);
    let (zips, mods) = counted(&go_sum);
    let dry = warm(&[&go_sum, "--url", edge.url(), "--dry-run"]).ends(0);
    assert_eq!(dry.stdout.lines().count() as u64, 2 * zips + mods);
    assert!(
        access_log(&edge.access_log()).is_empty(),
        "a dry run asks nobody"
    );

    let ran = warm(&[&go_sum, "--url", edge.url(), "--json"]).ends(0);
    let summary = ran.summary();
    assert_eq!(summary["warmed"], 2 * zips + mods);
    assert_eq!(summary["verified"], zips + mods);
    assert!(summary["bytes"].as_u64() > Some(1 << 20));
    let log = || access_log(&edge.access_log());
    until_true("the access log", || log().len() as u64 == 2 * zips + mods);

    // Afterwards all of it is a hit.
    warm(&[&go_sum, "--url", edge.url()]).ends(0);
    until_true("the access log", || {
        log().len() as u64 == 2 * (2 * zips + mods)
    });
    let hits = log().split_off((2 * zips + mods) as usize);
    let is_hit = |line: &harness::observe::Access| line.field("cache").contains("hit");
    assert!(hits.iter().all(is_hit), "{hits:?}");
}

#[test]
fn a_run_that_was_cut_off_goes_on_where_it_was() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let scratch = Scratch::new("warm");
    let state = scratch.path().join("state");
    let (go_sum, state_file) = (go_sum(&scratch), state.display().to_string());
    let arguments = [&go_sum, "--url", origin.url(), "--state", &state_file];
    let mut command = Command::new(MODCDN);
    command.arg("warm").args(arguments).args(["--jobs", "1"]);
    command.stdout(Stdio::null());
    let mut first = Process::spawn(command, &scratch.path().join("log"));
    let done = || {
        fs::read_to_string(&state)
            .unwrap_or_default()
            .lines()
            .count()
    };
    until_true("some of it", || done() > 5);
    first.kill();
    let before = done() as u64 - 1;
    let ran = warm(&[&arguments[..], &["--json"]].concat()).ends(0);
    let (zips, mods) = counted(&go_sum);
    let summary = ran.summary();
    let skipped = summary["skipped"].as_u64().expect("a number");
    assert!(
        (before - 1..=before).contains(&skipped),
        "{skipped} of {before}"
    );
    assert_eq!(summary["warmed"], 2 * zips + mods - skipped);
    let again = warm(&[&arguments[..], &["--json"]].concat()).ends(0);
    assert_eq!(again.summary()["warmed"], 0);
    let other = ["--url", "http://127.0.0.1:1", "--state", &state_file];
    warm(&[&[&*go_sum], &other[..]].concat()).ends(2);
}

#[test]
fn wrong_content_and_failures_are_named() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0", "v1.1.0"], b"");
    let gone = "/example.com/m/@v/v1.1.0.info";
    upstream.answer(gone, Answer::Status(404, "no such version\n"));
    let origin = Node::origin(&upstream.url(), "");
    let scratch = Scratch::new("warm");
    let h1 = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=";
    let sums = format!("example.com/m v1.0.0 {h1}\nexample.com/m v1.0.0/go.mod {h1}\n");
    let go_sum = scratch.file("go.sum", &sums).display().to_string();
    let ran = warm(&[&go_sum, "example.com/m@v1.1.0", "--url", origin.url()]).ends(1);
    for said in [
        "v1.0.0.zip: WRONG CONTENT",
        "v1.0.0.mod: WRONG CONTENT",
        "v1.1.0.info: 404",
        "3 of 6 failed",
    ] {
        assert!(ran.stderr.contains(said), "no {said:?} in {}", ran.stderr);
    }
}

#[test]
fn what_fails_once_is_asked_for_again() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0"], b"");
    let path = "/example.com/m/@v/v1.0.0.zip";
    upstream.answer(path, Answer::Status(500, "not now\n"));
    let name = "example.com/m@v1.0.0";
    std::thread::scope(|scope| {
        let url = upstream.url();
        let asked = scope.spawn(move || warm(&[name, "--url", &url]));
        until_true("the first try", || upstream.requests(path) == 1);
        upstream.module("example.com/m", &["v1.0.0"], b"");
        asked.join().expect("no panic").ends(0);
    });
    assert_eq!(upstream.requests(path), 2);
}

#[test]
fn a_go_mod_is_warmed_over_http_2() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    let scratch = Scratch::new("warm");
    let certificate = Certificate::in_folder(scratch.path());
    let address = format!("127.0.0.1:{}", ports::free());
    let tls = certificate.section(&address);
    let edge = Node::edge(&origin, &format!("tls: {tls}"));
    let go_mod = project().join("go.mod").display().to_string();
    let (url, ca) = (
        format!("https://{address}"),
        certificate.file().display().to_string(),
    );
    let ran = warm(&[&go_mod, "--url", &url, "--ca", &ca, "--json"]).ends(0);
    assert!(ran.summary()["warmed"].as_u64() > Some(10));
    let log = access_log(&edge.access_log());
    assert!(
        log.iter().all(|line| line.field("protocol") == "HTTP/2"),
        "{log:?}"
    );
    // Without the authority nobody is believed.
    warm(&[&go_mod, "--url", &url]).ends(1);
}

#[test]
fn what_makes_no_sense_is_2() {
    let url = ["--url", "http://127.0.0.1:1"];
    for what in ["nonsense", "example.com/m@latest", "/nonexistent/go.sum"] {
        warm(&[&[what], &url[..]].concat()).ends(2);
    }
    warm(&["example.com/m@v1.0.0", "--url", "ftp://x"]).ends(2);
    warm(&["example.com/m@v1.0.0"]).ends(2);
}

#[test]
fn where_nothing_answers_it_says_so_once() {
    let scratch = Scratch::new("warm");
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}");
    let ran = warm(&[&go_sum(&scratch), "--url", &url]).ends(1);
    let said: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let wanted = format!("modcdn: nothing answers at {url}: ");
    assert!(said[0].starts_with(&wanted), "{said:?}");
    assert_eq!(said[0].matches(&url).count(), 1, "{said:?}");
}
