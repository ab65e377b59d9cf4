//! Git servers that hang, flood, lie and lead astray; mirrors that break: what clients are told, and
//! what stays behind.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::forge::{Forge, PRIVATE, PUBLIC, Says};
use harness::go::Go;
use harness::http::{Client, Reply};
use harness::node::{Node, files};
use harness::observe::Metrics;
use harness::{until, until_true};

const MODULE: &str = "forge.test/m";
const ZIP: &str = "/forge.test/m/@v/v1.0.0.zip";
const LIST: &str = "/forge.test/m/@v/list";

/// Waits end soon.
const IMPATIENT: &str =
    "timeouts: {page: 1s, refs: 2s, fetch: 3s, stall: 1s}, limits: {memory: 256MiB, mirror: 1MiB}";

/// A module with a version v1.0.0 and some bytes that don't pack well.
fn published(forge: &Forge, name: &str, bytes: usize) {
    let module = format!("forge.test/{name}");
    let made = forge.repository(name);
    made.write("go.mod", &format!("module {module}\n\ngo 1.20\n"));
    made.write("noise.txt", &noise(bytes)).commit("first");
    made.tag("v1.0.0").publish();
    forge.import(&module, name);
}

fn noise(bytes: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let mut text = String::new();
    while text.len() < bytes {
        text += &next();
    }
    text
}

fn ask(origin: &Node, path: &str) -> Reply {
    Client::h1(origin.url()).get(path)
}

/// Must be refused with this reason, and never by a 404.
fn refused(origin: &Node, path: &str, reason: &str) -> String {
    let reply = ask(origin, path);
    let told = (reply.status, reply.header("modcdn-reason"));
    assert!(
        matches!(reply.status, 502..=504),
        "{told:?} {}",
        reply.text()
    );
    assert_eq!(told.1, reason, "{}", reply.text());
    reply.text()
}

/// The processes that the origin's runs of git have left.
fn left_behind(origin: &Node) -> Vec<String> {
    let home = format!(
        "HOME={}",
        origin.store().join(".git-mirrors/.home").display()
    );
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let processes = entries.filter_map(|entry| {
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let mut environment = environment.split(|b| *b == 0);
        environment.find(|line| *line == home.as_bytes())?;
        fs::read_to_string(entry.path().join("cmdline")).ok()
    });
    processes.filter(|line| !line.is_empty()).collect()
}

fn mirrors(origin: &Node) -> Vec<PathBuf> {
    let dir = origin.store().join(".git-mirrors");
    let entries = fs::read_dir(dir).expect("the folder of mirrors").flatten();
    let names = entries.filter(|entry| entry.file_name().len() == 64);
    names.map(|entry| entry.path()).collect()
}

fn size(folder: &Path) -> u64 {
    files(folder).iter().map(|(_, size)| size).sum()
}

#[test]
fn a_server_that_hangs_hangs_nobody() {
    let forge = Forge::start();
    forge.page("forge.test/page", Says::Nothing);
    forge.import(MODULE, "hang");
    forge.page("forge.test/r/hang.git", Says::Nothing);
    let origin = forge.origin(PRIVATE, IMPATIENT);
    let began = Instant::now();
    refused(&origin, "/forge.test/page/@v/list", "upstream-timeout");
    refused(&origin, LIST, "upstream-timeout");
    refused(&origin, ZIP, "upstream-timeout");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    until_true("no git to be left", || left_behind(&origin).is_empty());
}

#[test]
fn many_who_wait_for_a_server_that_hangs_wait_once() {
    let forge = Forge::start();
    forge.import(MODULE, "hang");
    forge.page("forge.test/r/hang.git", Says::Nothing);
    let origin = forge.origin(PRIVATE, IMPATIENT);
    let began = Instant::now();
    thread::scope(|scope| {
        for version in 0..20 {
            let (origin, path) = (&origin, format!("/{MODULE}/@v/v1.0.{version}.info"));
            scope.spawn(move || refused(origin, &path, "upstream-timeout"));
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_is_sent_endlessly_is_cut_off() {
    let forge = Forge::start();
    let html = Says::Endlessly("text/html", "<p>more</p>\n".repeat(1000));
    forge.page("forge.test/page", html);
    forge.import(MODULE, "flood");
    let line = "003faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa refs/heads/0123456789\n";
    let advertisement = Says::Endlessly(
        "application/x-git-upload-pack-advertisement",
        line.repeat(1000),
    );
    forge.page("forge.test/r/flood.git", advertisement);
    let origin = forge.origin(PRIVATE, IMPATIENT);
    refused(&origin, "/forge.test/page/@v/list", "git-unreadable");
    let reply = ask(&origin, LIST);
    assert!(matches!(reply.status, 502 | 504), "{}", reply.text());
    until_true("no git to be left", || left_behind(&origin).is_empty());
    let running = ask(&origin, "/forge.test/none/@v/list");
    assert_eq!(running.status, 502);
}

#[test]
fn a_repository_over_the_limit_is_cut_off_and_leaves_nothing() {
    let forge = Forge::start();
    published(&forge, "m", 8 << 20);
    published(&forge, "small", 1000);
    let origin = forge.origin(PRIVATE, IMPATIENT);
    let text = refused(&origin, ZIP, "upstream-too-large");
    assert!(text.contains("git.limits"), "{text}");
    ask(&origin, "/forge.test/small/@v/v1.0.0.zip").ok();
    refused(&origin, ZIP, "upstream-too-large");
    let sum: u64 = mirrors(&origin).iter().map(|mirror| size(mirror)).sum();
    assert!(sum < 1 << 20, "{sum} bytes are left");
    // Its list needs no pack.
    assert_eq!(ask(&origin, LIST).ok().text(), "v1.0.0\n");
}

#[test]
fn a_tree_over_the_limit_makes_no_zip() {
    let forge = Forge::start();
    published(&forge, "m", 3 << 20);
    let origin = forge.origin(PRIVATE, "limits: {tree: 1MiB}");
    refused(&origin, ZIP, "upstream-too-large");
    ask(&origin, "/forge.test/m/@v/v1.0.0.mod").ok();
}

#[test]
fn nobody_is_led_astray() {
    let forge = Forge::start();
    let marker = forge.root().join("marker");
    let touch = format!("ext::touch% {}", marker.display());
    published(&forge, "real", 1000);
    let local = format!("file://{}/real.git", forge.root().display());
    for (name, content) in [
        ("ext", format!("git {touch}")),
        (
            "option",
            format!("git --upload-pack=touch${{IFS}}{}", marker.display()),
        ),
        (
            "host",
            format!("git ssh://-oProxyCommand=touch%20{}/x", marker.display()),
        ),
        ("file", format!("git {local}")),
        (
            "folder",
            "git http://forge.test/r/real.git ../../etc".to_owned(),
        ),
        (
            "password",
            "git http://me:s3cret@forge.test/r/real.git".to_owned(),
        ),
        (
            "redirected",
            "git http://forge.test/r/redirected.git".to_owned(),
        ),
    ] {
        forge.import_as(&format!("forge.test/{name}"), &content);
    }
    forge.page("forge.test/r/redirected.git", Says::Redirect(local.clone()));
    forge.page("forge.test/away", Says::Redirect(local));
    forge.page(
        "forge.test/circle",
        Says::Redirect("http://forge.test/circle?go-get=1".to_owned()),
    );
    let origin = forge.origin(PRIVATE, IMPATIENT);
    for name in [
        "ext",
        "option",
        "host",
        "file",
        "folder",
        "password",
        "redirected",
        "away",
        "circle",
    ] {
        let reply = ask(&origin, &format!("/forge.test/{name}/@v/list"));
        assert_eq!(reply.status, 502, "{name}: {}", reply.text());
        assert!(!reply.text().contains("s3cret"), "{}", reply.text());
    }
    // What would be an option, and what git would take for more than one commit.
    for query in [
        "--upload-pack=touch",
        "-x",
        "!h!e!a!d%5E",
        "main@%7B0%7D",
        "%5Emain",
    ] {
        let reply = ask(&origin, &format!("/forge.test/real/@v/{query}.info"));
        assert_eq!(reply.status, 404, "{query}: {}", reply.text());
    }
    assert!(!marker.exists());
}

#[test]
fn a_prefix_is_believed_only_if_its_own_page_says_so() {
    let forge = Forge::start();
    published(&forge, "evil", 1000);
    // The page of one folder claims the whole site.
    forge.import_as("forge.test/bob", "git http://forge.test/r/evil.git");
    let claim = "<meta name=\"go-import\" content=\"forge.test git http://forge.test/r/evil.git\">";
    forge.page("forge.test/bob", Says::Page(200, claim.to_owned()));
    forge.page("forge.test", Says::Page(200, "<html></html>".to_owned()));
    let origin = forge.origin(PRIVATE, IMPATIENT);
    let reply = ask(&origin, "/forge.test/bob/@v/list");
    assert_eq!(reply.status, 502, "{}", reply.text());
}

#[test]
fn other_systems_are_refused_with_their_name() {
    let forge = Forge::start();
    for system in ["hg", "svn", "bzr", "fossil"] {
        let module = format!("forge.test/{system}");
        forge.import_as(&module, &format!("{system} http://forge.test/r/x"));
        for mount in [PRIVATE, PUBLIC] {
            let origin = forge.origin(mount, "");
            let text = refused(&origin, &format!("/{module}/@v/list"), "vcs-unsupported");
            assert!(text.contains(system), "{text}");
        }
    }
}

#[test]
fn a_module_may_be_at_a_module_proxy() {
    let forge = Forge::start();
    forge.import_as("forge.test/proxied", "mod http://other.test/base");
    let mod_path = "other.test/base/forge.test/proxied/@v/v1.0.0.mod";
    let text = "module forge.test/proxied\n".to_owned();
    forge.page(mod_path, Says::Text(text));
    let origin = forge.origin(PRIVATE, "");
    let reply = ask(&origin, "/forge.test/proxied/@v/v1.0.0.mod").ok();
    assert_eq!(reply.text(), "module forge.test/proxied\n");
}

#[test]
fn a_mirror_is_fetched_into_not_made_again() {
    let forge = Forge::start();
    published(&forge, "m", 1000);
    let origin = forge.origin(PRIVATE, "");
    ask(&origin, ZIP).ok();
    let made = forge.reopen("m");
    made.write("more.go", "package m\n").commit("second");
    made.tag("v1.1.0").publish();
    // Visible at once; asked for, it is there.
    assert_eq!(ask(&origin, LIST).ok().text(), "v1.0.0\nv1.1.0\n");
    ask(&origin, "/forge.test/m/@v/v1.1.0.zip").ok();
    ask(&origin, "/forge.test/m/@latest").ok();
    let metrics = Metrics::scrape(origin.admin());
    let runs = |command| metrics.value("modcdn_origin_git_runs_total", &[("command", command)]);
    assert_eq!(runs("init"), 1.0);
    assert_eq!(mirrors(&origin).len(), 1);
}

#[test]
fn many_askers_are_one_conversation() {
    let forge = Forge::start();
    published(&forge, "m", 1000);
    let origin = forge.origin(PRIVATE, "");
    thread::scope(|scope| {
        for path in ["info", "mod", "zip"].iter().cycle().take(60) {
            let (origin, path) = (&origin, format!("/{MODULE}/@v/v1.0.0.{path}"));
            scope.spawn(move || ask(origin, &path).ok());
        }
    });
    let metrics = Metrics::scrape(origin.admin());
    let runs = |command| metrics.value("modcdn_origin_git_runs_total", &[("command", command)]);
    assert_eq!((runs("ls-remote"), runs("fetch")), (1.0, 1.0));
}

#[test]
fn a_damaged_mirror_is_made_anew() {
    let forge = Forge::start();
    published(&forge, "m", 100_000);
    let origin = forge.origin(PRIVATE, "");
    ask(&origin, "/forge.test/m/@v/v1.0.0.mod").ok();
    let mirror = mirrors(&origin).remove(0);
    for (file, _) in files(&mirror.join("objects/pack")) {
        let path = mirror.join("objects/pack").join(file);
        // Git makes packs read-only: another takes their place.
        let bytes = fs::read(&path).expect("a pack");
        fs::remove_file(&path).expect("a pack to remove");
        let broken: Vec<u8> = bytes
            .iter()
            .enumerate()
            .map(|(n, b)| if n > 20 { !b } else { *b })
            .collect();
        fs::write(&path, broken).expect("a broken pack");
    }
    ask(&origin, ZIP).ok();
    let metrics = Metrics::scrape(origin.admin());
    let dropped = "modcdn_origin_git_mirrors_dropped_total";
    assert_eq!(metrics.value(dropped, &[("cause", "damaged")]), 1.0);
}

#[test]
fn mirrors_not_used_for_longest_make_room() {
    let forge = Forge::start();
    for name in ["a", "b", "c"] {
        published(&forge, name, 1 << 20);
    }
    let origin = forge.origin(PRIVATE, "limits: {mirror: 1500KiB, mirrors: 1500KiB}");
    for name in ["a", "b", "c"] {
        ask(&origin, &format!("/forge.test/{name}/@v/v1.0.0.zip")).ok();
        until("one mirror to be left", || {
            (mirrors(&origin).len() <= 2).then_some(())
        });
    }
    let dropped = "modcdn_origin_git_mirrors_dropped_total";
    until_true("two to be dropped", || {
        let metrics = Metrics::scrape(origin.admin());
        metrics.value(dropped, &[("cause", "room")]) >= 1.0
    });
    // What is gone is fetched again.
    ask(&origin, "/forge.test/a/@latest").ok();
}

#[test]
fn a_missing_git_is_named() {
    let forge = Forge::start();
    published(&forge, "m", 1000);
    let origin = forge.origin(PRIVATE, "program: /nowhere/git");
    let text = refused(&origin, LIST, "git-failed");
    assert!(text.contains("install git"), "{text}");
}

#[test]
fn a_first_fetch_that_takes_longer_than_an_edge_waits_for_a_byte_succeeds() {
    let forge = Forge::start();
    published(&forge, "m", 100);
    let origin = forge.origin(PRIVATE, "");
    let edge = Node::edge(&origin, "origin: {first_byte_timeout: 2s}");
    let go = Go::with_proxy(edge.url()).env("GONOSUMDB", "forge.test");
    let wanted = ["mod", "download", "-json", "forge.test/m@v1.0.0"];
    forge.hold();
    thread::scope(|scope| {
        let going = scope.spawn(|| go.ask(&wanted));
        // It says so after half of that time, each time.
        until_true("the origin to take longer than the edge waits", || {
            let metrics = Metrics::scrape(edge.admin());
            metrics.value("modcdn_edge_origin_at_work_total", &[]) >= 3.0
        });
        forge.release();
        going.join().expect("go runs").succeeds();
    });
    let metrics = Metrics::scrape(edge.admin());
    assert_eq!(
        metrics.expect("modcdn_edge_origin_breaker_opened_total", &[]),
        0.0
    );
    let log = fs::read_to_string(edge.access_log()).expect("an access log");
    assert!(!log.contains("\"status\":202"), "{log}");
}

/// The go.mod and the zip of `forge.test/NAME@v1.0.0`.
fn mod_and_zip(origin: &Node, name: &str) -> [Bytes; 2] {
    ["mod", "zip"].map(|kind| {
        let path = format!("/forge.test/{name}/@v/v1.0.0.{kind}");
        ask(origin, &path).ok().body
    })
}

#[test]
fn a_tag_that_moves_makes_no_version_of_two_commits() {
    let forge = Forge::start();
    let kinds = ["info", "mod", "zip"];
    for kind in kinds {
        published(&forge, kind, 100);
    }
    let early = forge.origin(PUBLIC, "");
    let before = kinds.map(|name| mod_and_zip(&early, name));
    let origins = [PRIVATE, PUBLIC].map(|mount| forge.origin(mount, ""));
    // Whichever file is asked for first, it says which commit it is.
    for (origin, kind) in origins.iter().flat_map(|o| kinds.map(|kind| (o, kind))) {
        ask(origin, &format!("/forge.test/{kind}/@v/v1.0.0.{kind}")).ok();
    }
    for name in kinds {
        let made = forge.reopen(name);
        let module = format!("module forge.test/{name}\n\ngo 1.22\n");
        made.write("go.mod", &module).commit("second");
        made.git(&["tag", "-f", "--", "v1.0.0"]);
        made.publish();
    }
    let late = forge.origin(PUBLIC, "");
    for (name, before) in kinds.iter().zip(&before) {
        for origin in &origins {
            assert!(mod_and_zip(origin, name) == *before, "{name} first");
        }
        let after = mod_and_zip(&late, name);
        assert!(after[0] != before[0] && after[1] != before[1]);
    }
}

#[test]
fn a_commit_that_is_gone_is_no_other_commits_version() {
    let forge = Forge::start();
    published(&forge, "m", 100);
    let origin = forge.origin(PRIVATE, "");
    ask(&origin, "/forge.test/m/@v/v1.0.0.info").ok();
    for mirror in mirrors(&origin) {
        fs::remove_dir_all(mirror).expect("a mirror");
    }
    let made = forge.reopen("m");
    made.git(&["commit", "-q", "--amend", "-m", "another"]);
    made.git(&["tag", "-f", "--", "v1.0.0"]);
    made.publish();
    let said = refused(&origin, ZIP, "git-failed");
    assert!(said.contains("no such commit any more"), "{said}");
}
