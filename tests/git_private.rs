//! Private modules: fetched with the origin's own credentials, asked of nobody else, kept by no
//! cache that serves many; and never a 404 for what merely can't be read.

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use harness::forge::{Forge, PRIVATE, PUBLIC, Says};
use harness::go::Go;
use harness::http::{Client, Reply};
use harness::node::Node;
use harness::observe::Metrics;
use harness::scratch::Scratch;
use harness::upstream::Upstream;

const MODULE: &str = "forge.test/team/lib";

/// A module with a version v1.0.0, in a repository of that name.
fn published(forge: &Forge, repository: &str, module: &str) {
    let made = forge.repository(repository);
    made.write("go.mod", &format!("module {module}\n\ngo 1.20\n"));
    made.write("x.go", "package lib\n").commit("first");
    made.tag("v1.0.0").publish();
    forge.import(module, repository);
}

fn ask(origin: &Node, path: &str) -> Reply {
    Client::h1(origin.url()).get(path)
}

/// Status and reason.
fn told(origin: &Node, path: &str) -> (u16, String) {
    let reply = ask(origin, path);
    (reply.status, reply.header("modcdn-reason").to_owned())
}

#[test]
fn a_private_repository_is_read_with_a_password_that_nobody_else_sees() {
    let forge = Forge::start();
    published(&forge, "secret", MODULE);
    forge.lock("secret", "robot", "s3cr3t-t0k3n");
    let scratch = Scratch::new("credentials");
    let password = scratch.file("password", "wr0ng-t0k3n\n");
    let credential = format!(
        "credentials: [{{url: 'http://forge.test/r/', user: robot, password_file: '{}'}}]",
        password.display()
    );
    let mut origin = forge.origin(PRIVATE, &credential);
    let zip = format!("/{MODULE}/@v/v1.0.0.zip");
    let refused = ask(&origin, &zip);
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert_eq!(refused.header("modcdn-reason"), "git-unreadable");
    assert!(
        refused.text().contains("git.credentials"),
        "{}",
        refused.text()
    );

    // The right one counts as soon as it is in the file.
    fs::write(&password, "s3cr3t-t0k3n\n").expect("a password file");
    let reply = ask(&origin, &zip).ok();
    assert_eq!(
        reply.header("cache-control"),
        "private, max-age=31536000, immutable"
    );
    let list = ask(&origin, &format!("/{MODULE}/@v/list")).ok();
    assert_eq!(list.text(), "v1.0.0\n");
    assert!(
        list.header("cache-control")
            .starts_with("private, max-age=")
    );
    let absent = ask(&origin, &format!("/{MODULE}/@v/v9.0.0.info"));
    assert_eq!(absent.status, 404);
    assert!(
        absent
            .header("cache-control")
            .starts_with("private, max-age=")
    );

    let access_log = fs::read_to_string(origin.access_log()).expect("an access log");
    for text in [refused.text(), origin.log(), access_log] {
        for secret in ["s3cr3t", "wr0ng", "czNjcjN0"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    fs::remove_file(&password).expect("a password file");
    let refused = ask(&origin, &format!("/{MODULE}/@latest"));
    assert_eq!(
        (refused.status, refused.header("modcdn-reason")),
        (502, "git-unreadable")
    );
    let path = password.display().to_string();
    assert!(!refused.text().contains(&path), "{}", refused.text());
}

#[test]
fn over_https_with_a_token_all_is_as_go_has_it() {
    let forge = Forge::start_https();
    published(&forge, "secret", MODULE);
    forge.import_as(MODULE, "git https://forge.test/r/secret.git");
    forge.lock("secret", "robot", "s3cr3t");
    forge.lock("forge.test/team", "robot", "s3cr3t");
    let (scratch, authority) = (Scratch::new("https"), forge.authority());
    let authority = authority.to_str().expect("a path of UTF-8");
    let home = scratch.folder("home");
    let netrc = "machine forge.test login robot password s3cr3t\n";
    fs::write(home.join(".netrc"), netrc).expect("a .netrc");
    let mut direct = Go::with_proxy("direct")
        .env("HOME", home)
        .env("GOVCS", "*:all")
        .env("SSL_CERT_FILE", authority)
        .env("GIT_SSL_CAINFO", authority);
    for (name, value) in forge.environment() {
        direct = direct.env(name.leak(), value);
    }
    let password = scratch.file("password", "s3cr3t\n");
    let git = format!(
        "protocols: [https], credentials: [{{url: 'https://forge.test', user: robot, \
         password_file: '{}'}}]}}\n\
         upstreams: {{ca: ['{authority}']",
        password.display()
    );
    let origin = forge.origin(PRIVATE, &git);
    let wanted = format!("{MODULE}@v1.0.0");
    let downloaded = |go: &Go| {
        let told = go
            .ask(&["mod", "download", "-json", &wanted])
            .succeeds()
            .stdout;
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        [
            told["Version"].clone(),
            told["Sum"].clone(),
            told["GoModSum"].clone(),
        ]
    };
    let proxied = Go::with_proxy(origin.url());
    assert_eq!(downloaded(&proxied), downloaded(&direct));
}

#[test]
fn a_credential_helper_is_asked() {
    let forge = Forge::start();
    published(&forge, "secret", MODULE);
    forge.lock("secret", "robot", "s3cr3t");
    let helper = "!f() { test $1 = get && echo username=robot && echo password=s3cr3t; }; f";
    let helper = format!("credentials: [{{url: 'http://forge.test', helper: '{helper}'}}]");
    let origin = forge.origin(PRIVATE, &helper);
    ask(&origin, &format!("/{MODULE}/@v/v1.0.0.zip")).ok();
}

#[test]
fn what_can_not_be_read_is_never_a_404() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    forge.import("forge.test/gone", "no-such-repository");
    forge.page(
        "forge.test/login",
        Says::Page(200, "<html>who are you?</html>".to_owned()),
    );
    forge.page("forge.test/forbidden", Says::Page(403, "no".to_owned()));
    forge.page("forge.test/broken", Says::Page(500, "oops".to_owned()));
    let origin = forge.origin(PRIVATE, "");
    for (path, status, reason) in [
        // The repository was read.
        ("forge.test/team/lib/@v/v1.0.1.info", 404, "not-found"),
        ("forge.test/team/lib/@v/nobranch.info", 404, "not-found"),
        ("forge.test/team/lib/@v/v1.0.1.mod", 404, "not-found"),
        ("forge.test/team/lib/sub/@latest", 404, "not-found"),
        ("forge.test/team/lib/v2/@v/v2.0.0.zip", 404, "not-found"),
        ("forge.test/team/lib/sub/@v/list", 200, ""),
        // It was not.
        ("forge.test/gone/@v/list", 502, "git-unreadable"),
        ("forge.test/gone/@v/v1.0.0.info", 502, "git-unreadable"),
        ("forge.test/team/@v/list", 502, "git-unreadable"),
        ("forge.test/nowhere/@v/list", 502, "git-unreadable"),
        ("forge.test/login/@v/list", 502, "git-unreadable"),
        ("forge.test/forbidden/@v/list", 502, "git-unreadable"),
        ("forge.test/broken/@v/list", 502, "upstream-status"),
    ] {
        assert_eq!(
            told(&origin, &format!("/{path}")),
            (status, reason.to_owned()),
            "{path}"
        );
    }
    // A page that isn't there, below a repository that is.
    forge.page(
        "forge.test/team/lib/hidden",
        Says::Page(404, "no such page".to_owned()),
    );
    let hidden = told(&origin, "/forge.test/team/lib/hidden/@v/list");
    assert_eq!(hidden, (404, "not-found".to_owned()));
}

#[test]
fn public_modules_are_404_where_nobody_has_a_repository() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    forge.import("forge.test/gone", "no-such-repository");
    let origin = forge.origin(PUBLIC, "");
    for (path, status) in [
        ("forge.test/team/lib/@v/v1.0.0.info", 200),
        ("forge.test/team/lib/@v/v1.0.1.info", 404),
        ("forge.test/gone/@v/list", 404),
        ("forge.test/nowhere/@v/list", 404),
        ("github.com/owner/@v/list", 404),
    ] {
        assert_eq!(told(&origin, &format!("/{path}")).0, status, "{path}");
    }
    let reply = ask(&origin, &format!("/{MODULE}/@v/v1.0.0.mod")).ok();
    assert!(reply.header("cache-control").starts_with("public, "));
}

#[test]
fn a_private_module_is_asked_of_nobody_else() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    let upstream = Upstream::start();
    let mount = format!("upstream: '{}', private: [forge.test/team]", upstream.url());
    let origin = forge.origin(&mount, "");
    for path in [
        "@v/list",
        "@latest",
        "@v/v1.0.0.zip",
        "@v/v7.0.0.info",
        "@v/main.info",
    ] {
        ask(&origin, &format!("/{MODULE}/{path}"));
    }
    ask(&origin, "/forge.test/team/unknown/@v/list");
    assert_eq!(upstream.all_requests(), 0);
    ask(&origin, "/forge.test/public/@v/list");
    assert_eq!(upstream.all_requests(), 1);
}

#[test]
fn only_private_modules_are_fetched_with_credentials() {
    let forge = Forge::start();
    published(&forge, "secret", MODULE);
    forge.lock("secret", "robot", "s3cr3t");
    let scratch = Scratch::new("credentials");
    let password = scratch.file("password", "s3cr3t\n");
    let credential = format!(
        "credentials: [{{url: 'http://forge.test', user: robot, password_file: '{}'}}]",
        password.display()
    );
    let mounts = format!("{PUBLIC}}}, {{prefix: /team/, {PRIVATE}");
    let origin = forge.origin(&mounts, &credential);
    let zip = format!("/{MODULE}/@v/v1.0.0.zip");
    ask(&origin, &format!("/team{zip}")).ok();
    // What the other mount fetched is not there for everybody.
    for path in [zip, format!("/{MODULE}/@v/list")] {
        assert_eq!(
            told(&origin, &path),
            (502, "git-unreadable".to_owned()),
            "{path}"
        );
    }
}

#[test]
fn an_edge_passes_private_modules_on_and_keeps_none() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    let origin = forge.origin(PRIVATE, "");
    let edge = Node::edge(&origin, "");
    let zip = format!("/{MODULE}/@v/v1.0.0.zip");
    for _ in 0..2 {
        let reply = ask(&edge, &zip).ok();
        let status = reply.header("cache-status");
        assert!(
            status.contains("fwd=uri-miss") && !status.contains("stored"),
            "{status}"
        );
    }
    let asked = Metrics::scrape(origin.admin());
    let asked = asked.value(
        "modcdn_origin_requests_total",
        &[("kind", "zip"), ("status", "200")],
    );
    assert!(asked >= 2.0, "{asked}");
}

#[test]
fn ssh_shows_the_key_that_is_named_and_asks_nobody() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    let scratch = Scratch::new("ssh");
    let identity = scratch.file("id_robot", "a private key\n");
    let known_hosts = scratch.file("known_hosts", "git.forge.test ssh-ed25519 AAAA\n");
    let arguments = scratch.path().join("arguments");
    let root = forge.root();
    program(
        &scratch.folder("bin").join("ssh"),
        &format!(
            "printf '%s\\n' \"$@\" > '{}'\n\
             for last; do :; done\n\
             eval \"set -- $last\"\n\
             exec git -c safe.directory='*' upload-pack '{}'\"$2\"",
            arguments.display(),
            root.display()
        ),
    );
    let git = format!(
        "known_hosts: '{}', \
         repositories: [{{prefix: 'forge.test/team/*', url: 'ssh://git@git.forge.test/*.git'}}], \
         credentials: [{{url: 'ssh://git@git.forge.test', identity: '{}'}}]",
        known_hosts.display(),
        identity.display()
    );
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", scratch.folder("bin").display());
    let origin = forge.origin_with(&[("PATH", &path)], PRIVATE, &git);
    ask(&origin, &format!("/{MODULE}/@v/v1.0.0.zip")).ok();
    let given = fs::read_to_string(arguments).expect("what ssh was given");
    for argument in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        &format!("UserKnownHostsFile=\"{}\"", known_hosts.display()),
        &format!("IdentityFile=\"{}\"", identity.display()),
        "git@git.forge.test",
        "git-upload-pack '/lib.git'",
    ] {
        assert!(
            given.lines().any(|line| line == argument),
            "{argument}\n{given}"
        );
    }
    let info = ask(&origin, &format!("/{MODULE}/@v/v1.0.0.info"))
        .ok()
        .text();
    assert!(
        info.contains("\"URL\":\"ssh://git@git.forge.test/lib.git\""),
        "{info}"
    );
}

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a program");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, mode).expect("a program that can be run");
}

#[test]
fn a_configured_place_comes_before_what_the_web_says() {
    let forge = Forge::start();
    published(&forge, "lib", MODULE);
    forge.import(MODULE, "no-such-repository");
    let root = forge.root();
    let git = format!(
        "protocols: [file], \
         repositories: [{{prefix: 'forge.test/team/*', url: 'file://{}/*.git'}}]",
        root.display()
    );
    let origin = forge.origin(PRIVATE, &git);
    ask(&origin, &format!("/{MODULE}/@v/v1.0.0.zip")).ok();
    assert!(forge.asked().is_empty(), "{:?}", forge.asked());
}
