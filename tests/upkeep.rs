//! `modcdn verify`, `import` and `retention` on stores of real origins, on disk and in a bucket.

mod harness;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use harness::command::modcdn;
use harness::go::Go;
use harness::http::Client;
use harness::modules::Modules;
use harness::node::{Node, UNVERIFIED, files};
use harness::observe;
use harness::process::Process;
use harness::s3::S3;
use harness::scratch::Scratch;
use harness::sumdb::SumDb;
use harness::upstream::Upstream;
use harness::zip::module_zip;
use harness::{MODCDN, until_true};

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// Turns a byte of a file around.
fn spoil(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at] = !bytes[at];
    fs::write(path, bytes).expect("it can be written");
}

/// An origin's store with two versions of a module.
fn stored(overrides: &str) -> (Upstream, Node) {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0", "v1.1.0"], &[7; 300_000]);
    let origin = Node::origin(&upstream.url(), overrides);
    let client = Client::h2(origin.url());
    for version in ["v1.0.0", "v1.1.0"] {
        for kind in ["info", "mod", "zip"] {
            let path = format!("/example.com/m/@v/{version}.{kind}");
            client.get(&path).ok();
        }
    }
    observe::at_rest(&origin);
    (upstream, origin)
}

const AT: &str = "example.com/m/@v";

#[test]
fn a_good_store_is_verified() {
    let (_upstream, origin) = stored("");
    let ran = modcdn(&["verify", text(&origin.store())]).ends(0);
    assert!(ran.stdout.starts_with("6 bodies, "), "{}", ran.stdout);
    let config = origin.config();
    let ran = modcdn(&["verify", "--config", text(&config), "--json", "--jobs", "2"]).ends(0);
    let summary = ran.summary();
    assert_eq!(
        (&summary["checked"], &summary["bad"]),
        (&6.into(), &0.into())
    );
    assert_eq!(summary["unsummed"], 0);
}

#[test]
fn what_is_wrong_is_named_and_set_aside_on_demand() {
    let (upstream, origin) = stored("");
    let (store, config) = (origin.store(), origin.config());
    let at = store.join(AT);
    spoil(&at.join("v1.0.0.zip"), 100_000);
    fs::write(at.join("v1.0.0.info"), "{}").expect("written");
    // The bytes are those that were stored, but not what their name says.
    let mut other = fs::read_to_string(at.join("v1.1.0.zip.sha256")).expect("a sum");
    other = other.split(' ').take(2).collect::<Vec<_>>().join(" ") + "\n";
    fs::write(at.join("v1.1.0.zip.sha256"), other).expect("written");
    let h1 = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=";
    fs::write(at.join("v1.1.0.ziphash"), h1).expect("written");

    let ran = modcdn(&["verify", "--config", text(&config), "--json"]).ends(1);
    let mut found: Vec<(String, String)> = ran
        .lines()
        .iter()
        .filter(|line| line["bad"].is_object())
        .map(|line| {
            let of = |key: &str| line["bad"][key].as_str().expect("a text").to_owned();
            (of("place").replace("example.com/m/@v/", ""), of("wrong"))
        })
        .collect();
    found.sort();
    let expected = [
        ("v1.0.0.info", "bytes"),
        ("v1.0.0.zip", "bytes"),
        ("v1.1.0.zip", "h1"),
    ];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(at.join("v1.0.0.zip").exists(), "nothing is moved unasked");
    let ran = modcdn(&["verify", text(&store)]).ends(1);
    assert!(
        ran.stderr
            .contains("v1.0.0.zip has other bytes than were stored"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("--fix"), "{}", ran.stderr);

    let ran = modcdn(&["verify", "--config", text(&config), "--fix"]).ends(1);
    assert!(
        ran.stderr.contains("3 are in .quarantine/ now"),
        "{}",
        ran.stderr
    );
    let kept = files(&store.join(".quarantine"));
    assert_eq!(kept.len(), 6, "each with its reason: {kept:?}");
    assert!(!at.join("v1.0.0.zip").exists());
    modcdn(&["verify", "--config", text(&config)]).ends(0);

    // The origin, which ran all the time, fetches them anew.
    let before = upstream.all_requests();
    let client = Client::h2(origin.url());
    client.get("/example.com/m/@v/v1.0.0.zip").ok();
    client.get("/example.com/m/@v/v1.0.0.info").ok();
    assert_eq!(upstream.all_requests(), before + 2);
}

#[test]
fn a_bucket_is_verified_like_a_folder() {
    let s3 = S3::start();
    let (_upstream, origin) = stored(&s3.store(""));
    let config = origin.config();
    let ran = modcdn(&["verify", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(ran.summary()["checked"], 6);
    s3.spoil("/example.com/m/@v/v1.0.0.zip", 100_000);
    let ran = modcdn(&["verify", "--config", text(&config), "--fix", "--json"]).ends(1);
    assert_eq!(ran.lines()[0]["bad"]["quarantined"], true);
    assert!(!s3.object("/example.com/m/@v/v1.0.0.zip").exists());
    let is_kept = |key: &&String| key.starts_with("a/b/.quarantine/") && key.ends_with(".zip");
    assert_eq!(s3.keys().iter().filter(is_kept).count(), 1);
    modcdn(&["verify", "--config", text(&config)]).ends(0);
}

#[test]
fn what_can_not_be_verified_at_all_is_2() {
    let s3 = S3::start();
    let (_upstream, origin) = stored(&s3.store(", retries: 0"));
    s3.line().set(harness::s3::Fault::Closed);
    let ran = modcdn(&["verify", "--config", text(&origin.config())]).ends(2);
    assert!(ran.stderr.contains("can't verify"), "{}", ran.stderr);
    modcdn(&["verify", "/nonexistent"]).ends(2);
    modcdn(&["verify"]).ends(2);
    modcdn(&["verify", "/tmp", "--config", "x"]).ends(2);
}

#[test]
fn a_module_cache_is_taken_over_and_builds() {
    let modules = Modules::fetch();
    let cache = modules.url().replace("file://", "");
    let scratch = Scratch::new("import");
    let store = scratch.path().join("store");
    let imports = ["import", &cache, "--store", text(&store), "--json"];
    let ran = modcdn(&imports).ends(0);
    let taken = ran.summary()["taken"].as_u64().expect("a number");
    assert!(
        taken > 20 && ran.summary()["refused"] == 0,
        "{}",
        ran.stdout
    );
    let ran = modcdn(&["verify", text(&store), "--json"]).ends(0);
    assert_eq!(ran.summary()["checked"], taken);
    assert_eq!(ran.summary()["unsummed"], 0);
    Go::with_proxy(&format!("file://{}", store.display())).downloads_and_builds();

    let ran = modcdn(&imports).ends(0);
    let summary = ran.summary();
    assert_eq!(
        (&summary["taken"], &summary["present"]),
        (&0.into(), &taken.into())
    );
    assert!(
        files(&store.join(".spool")).is_empty(),
        "nothing is left over"
    );
}

#[test]
fn links_are_made_on_demand() {
    let cache = Modules::fetch().url().replace("file://", "");
    // Beside the cache: links don't cross file systems.
    let scratch = Scratch::new("links");
    let store = scratch.path().join("store");
    modcdn(&["import", &cache, "--store", text(&store), "--link"]).ends(0);
    let zip = harness::modules::LARGE.trim_start_matches('/').to_owned() + ".zip";
    let inode = |path: PathBuf| fs::metadata(path).expect("it is there").ino();
    assert_eq!(inode(store.join(&zip)), inode(Path::new(&cache).join(&zip)));
    modcdn(&["verify", text(&store)]).ends(0);
}

/// A store as Athens lays it out: one module with an upper-case letter, three faults.
fn athens(scratch: &Scratch) -> PathBuf {
    let root = scratch.path().join("athens");
    let put = |module: &str, version: &str, zip: &[u8]| {
        let folder = root.join(module).join(version);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("source.zip"), zip).expect("written");
        fs::write(folder.join("go.mod"), format!("module {module}\n")).expect("written");
        let info = harness::upstream::info(version);
        fs::write(folder.join(format!("{version}.info")), info).expect("written");
    };
    let zip = |module: &str, version: &str| {
        let go_mod = format!("module {module}\n");
        module_zip(module, version, &[("go.mod", go_mod.as_bytes())])
    };
    let upper = "github.com/Azure/x";
    put(upper, "v1.0.0", &zip(upper, "v1.0.0"));
    put(upper, "v1.1.0", &zip(upper, "v1.0.0"));
    put(
        "example.com/m",
        "v1.0.0",
        &zip("example.com/m", "v1.0.0")[..100],
    );
    put("example.com/m", "master", b"");
    root
}

#[test]
fn an_athens_store_is_taken_over_as_far_as_it_is_right() {
    let scratch = Scratch::new("athens");
    let (root, store) = (athens(&scratch), scratch.path().join("store"));
    let ran = modcdn(&["import", text(&root), "--store", text(&store), "--json"]).ends(1);
    let mut refused: Vec<String> = ran
        .lines()
        .iter()
        .filter_map(|line| line["refused"]["file"].as_str().map(str::to_owned))
        .map(|file| file.replace(&format!("{}/", root.display()), ""))
        .collect();
    refused.sort();
    assert_eq!(
        refused,
        [
            "example.com/m/master/go.mod",
            "example.com/m/master/master.info",
            "example.com/m/master/source.zip",
            "example.com/m/v1.0.0/source.zip",
            "github.com/Azure/x/v1.1.0/source.zip",
        ]
    );
    assert!(store.join("github.com/!azure/x/@v/v1.0.0.zip").exists());
    let list = fs::read_to_string(store.join("github.com/!azure/x/@v/list")).expect("a list");
    assert_eq!(list, "v1.0.0\nv1.1.0\n");
    modcdn(&["verify", text(&store)]).ends(0);
}

#[test]
fn a_stored_body_is_never_replaced_and_mounts_have_their_own() {
    let scratch = Scratch::new("athens");
    let root = athens(&scratch);
    let upstream = Upstream::start();
    let origin = Node::origin(
        &upstream.url(),
        &format!("mounts: [{{prefix: /}}, {{prefix: /team-a/, {UNVERIFIED}}}]\n"),
    );
    let place = "team-a/github.com/!azure/x/@v/v1.0.0.mod";
    let mine = origin.store().join(place);
    fs::create_dir_all(mine.parent().expect("a folder")).expect("made");
    fs::write(&mine, "module github.com/Azure/x // mine\n").expect("written");
    let config = origin.config();
    let to = ["--config", text(&config), "--mount", "/team-a/"];
    let ran = modcdn(&[&["import", text(&root)], &to[..]].concat()).ends(1);
    assert!(
        ran.stderr.contains("another body is stored"),
        "{}",
        ran.stderr
    );
    assert!(fs::read_to_string(&mine).expect("there").contains("mine"));
    // The origin, which runs, has it at once.
    let client = Client::h2(origin.url());
    client.get("/team-a/github.com/!azure/x/@v/v1.0.0.zip").ok();
    assert_ne!(client.get("/github.com/!azure/x/@v/v1.0.0.zip").status, 200);
    let ran = modcdn(&[
        "import",
        text(&root),
        "--config",
        text(&config),
        "--mount",
        "/b/",
    ]);
    assert!(ran.ends(2).stderr.contains("no mount /b/"));
    let empty = scratch.folder("empty");
    modcdn(&["import", text(&empty), "--config", text(&config)]).ends(2);
}

#[test]
fn an_import_goes_into_a_bucket() {
    let cache = Modules::fetch().url().replace("file://", "");
    let s3 = S3::start();
    let origin = Node::origin("off", &s3.store(""));
    let config = origin.config();
    modcdn(&["import", &cache, "--config", text(&config)]).ends(0);
    modcdn(&["verify", "--config", text(&config)]).ends(0);
    Go::with_proxy(origin.url())
        .run(&["mod", "download"])
        .succeeds();
}

#[test]
fn an_import_that_was_killed_leaves_nothing_broken_and_goes_on() {
    let cache = Modules::fetch().url().replace("file://", "");
    let scratch = Scratch::new("killed");
    let store = scratch.path().join("store");
    for round in 1..4 {
        let mut command = Command::new(MODCDN);
        command.args(["import", &cache, "--store", text(&store)]);
        command.stdout(Stdio::null());
        let before = files(&store).len();
        let log = scratch.path().join(format!("{round}.log"));
        let mut import = Process::spawn(command, &log);
        until_true("some of it", || {
            files(&store).len() > before + 5 || import.ended().is_some()
        });
        import.kill();
        modcdn(&["verify", text(&store)]).ends(0);
    }
    let ran = modcdn(&["import", &cache, "--store", text(&store), "--json"]).ends(0);
    assert_eq!(ran.summary()["refused"], 0);
    Go::with_proxy(&format!("file://{}", store.display())).downloads_and_builds();
}

#[test]
fn an_origin_killed_while_it_stores_leaves_absent_or_whole_bodies() {
    let upstream = Upstream::start();
    let names: Vec<String> = (0..40).map(|n| format!("example.com/m{n}")).collect();
    for name in &names {
        upstream.module(name, &["v1.0.0"], &[3; 200_000]);
    }
    let mut origin = Node::origin(
        &upstream.url(),
        "limits: {ahead: 0}\nstore: {durable: true}\n",
    );
    for round in 0..4 {
        std::thread::scope(|scope| {
            for name in &names[round * 10..round * 10 + 10] {
                let url = origin.url().to_owned();
                scope.spawn(move || {
                    let client = Client::h1(&url);
                    let path = format!("/{name}/@v/v1.0.0.zip");
                    let _ = client.send(&http::Method::GET, &path, &[]);
                });
            }
            let at = origin
                .store()
                .join(format!("example.com/m{}", round * 10 + round));
            until_true("one of them", || at.exists());
            harness::process::send_signal(origin.pid(), libc::SIGKILL);
        });
        origin.kill();
        modcdn(&["verify", text(&origin.store())]).ends(0);
        origin.start();
        let client = Client::h2(origin.url());
        for name in &names[round * 10..round * 10 + 10] {
            client.get(&format!("/{name}/@v/v1.0.0.zip")).ok();
        }
    }
    observe::at_rest(&origin);
    let ran = modcdn(&["verify", text(&origin.store()), "--json"]).ends(0);
    assert_eq!(ran.summary()["checked"], 40);
}

/// Makes a version's files look as if they had been stored so long ago.
fn age(store: &Path, version: &str, age: Duration) {
    let then = SystemTime::now() - age;
    for (path, _) in files(&store.join(AT)) {
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(version)) {
            let file = fs::File::open(path).expect("it is there");
            file.set_modified(then).expect("it can be aged");
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn bounded(upstream: &Upstream, retention: &str) -> String {
    format!(
        "mounts: [{{prefix: /, upstream: '{}', retention: {retention}, {UNVERIFIED}}}]\n",
        upstream.url()
    )
}

#[test]
fn what_was_not_asked_for_goes_with_all_its_files_and_readers_keep_theirs() {
    let (upstream, mut origin) = stored("");
    let (store, config) = (origin.store(), origin.config());
    for version in ["v1.0.0", "v1.1.0"] {
        age(&store, version, 40 * DAY);
    }
    origin.configure(&bounded(&upstream, "{max_idle: 30days}"));
    origin.stop();
    origin.start();
    // One of them is used again, by somebody who is slow.
    let mut slow = Client::h1(origin.url()).follow("/example.com/m/@v/v1.0.0.zip");
    slow.read_at_least(1000);
    Client::h2(origin.url())
        .get("/example.com/m/@v/v1.1.0.info")
        .ok();

    let dry = ["retention", "--config", text(&config), "--dry-run"];
    // Uses are written down within a minute; here the origin is told to stop instead.
    drop(slow);
    origin.stop();
    let ran = modcdn(&[&dry[..], &["--json"]].concat()).ends(0);
    assert_eq!(
        ran.summary()["removed"],
        0,
        "both were asked for: {}",
        ran.stdout
    );

    fs::remove_file(store.join(".used")).expect("what is known of uses");
    let ran = modcdn(&dry).ends(0);
    assert!(
        ran.stdout.contains("example.com/m@v1.0.0"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("2 would go"), "{}", ran.stdout);
    assert_eq!(
        files(&store.join(AT)).len(),
        15,
        "a dry run removes nothing"
    );

    origin.start();
    let mut reader = Client::h1(origin.url()).follow("/example.com/m/@v/v1.0.0.zip");
    reader.read_at_least(1000);
    let ran = modcdn(&["retention", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(ran.summary()["removed"], 2);
    assert_eq!(ran.lines()[0]["removed"]["why"], "idle");
    let left = files(&store.join(AT));
    assert_eq!(left.len(), 1, "only the list is left: {left:?}");
    assert_eq!(fs::read_to_string(&left[0].0).expect("the list"), "");
    assert!(reader.finish().complete, "who reads it keeps its bytes");
    Client::h2(origin.url())
        .get("/example.com/m/@v/v1.0.0.zip")
        .ok();
    assert_eq!(upstream.requests("/example.com/m/@v/v1.0.0.zip"), 2);
}

#[test]
fn what_nobody_can_fetch_again_stays() {
    let (_upstream, origin) = stored("");
    let store = origin.store();
    for version in ["v1.0.0", "v1.1.0"] {
        age(&store, version, 40 * DAY);
    }
    let config = origin.config();
    let bounds = |irreplaceable: &str| {
        let retention = format!("{{max_age: 1day, irreplaceable: {irreplaceable}}}");
        let mount = format!(
            "mounts: [{{prefix: /, upstream: 'off', retention: {retention}, {UNVERIFIED}}}]"
        );
        origin.configure(&mount);
    };
    bounds("keep");
    let ran = modcdn(&["retention", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(ran.summary()["kept_as_irreplaceable"], 2);
    assert_eq!(ran.summary()["removed"], 0);
    bounds("remove");
    let ran = modcdn(&["retention", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(ran.summary()["removed"], 2);
}

#[test]
fn a_bucket_is_kept_below_its_bound() {
    let s3 = S3::start();
    let (upstream, origin) = stored(&s3.store(""));
    origin.configure(&bounded(&upstream, "{max_size: 400KiB, keep: {newest: 1}}"));
    let config = origin.config();
    let ran = modcdn(&["retention", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(ran.lines()[0]["removed"]["version"], "v1.0.0");
    assert_eq!(ran.lines()[0]["removed"]["why"], "size");
    let keys = s3.keys();
    assert!(keys.iter().any(|key| key.contains("v1.1.0.zip")));
    assert!(!keys.iter().any(|key| key.contains("v1.0.0")), "{keys:?}");
}

#[test]
fn retention_without_bounds_is_a_mistake() {
    let (_upstream, origin) = stored("");
    let ran = modcdn(&["retention", "--config", text(&origin.config())]).ends(2);
    assert!(ran.stderr.contains("no mount"), "{}", ran.stderr);
}

#[test]
fn what_the_checksum_database_proved_is_compared_and_asked_for_on_demand() {
    let upstream = Upstream::start();
    upstream.module("example.com/m", &["v1.0.0", "v1.1.0"], b"");
    let mut database = SumDb::start(&upstream.url());
    let with = |verify: &str| {
        format!(
            "mounts: [{{prefix: /, upstream: '{}', sumdb: {{key: '{}', url: '{}', direct: false, verify: {verify}}}}}]\n",
            upstream.url(),
            database.key(),
            database.url(),
        )
    };
    let (required, off) = (with("required"), with("off"));
    let mut origin = Node::origin(&upstream.url(), &required);
    let client = Client::h2(origin.url());
    for kind in ["info", "mod", "zip"] {
        client.get(&format!("/example.com/m/@v/v1.0.0.{kind}")).ok();
    }
    // Another version came while nobody was asked, and it isn't the one that the database knows.
    database.tell("wrong-zip example.com/m@v1.1.0");
    origin.stop();
    origin.configure(&off);
    origin.start();
    Client::h2(origin.url())
        .get("/example.com/m/@v/v1.1.0.zip")
        .ok();
    origin.stop();
    origin.configure(&required);

    let config = origin.config();
    let asked = database.requests();
    let offline = modcdn(&["verify", "--config", text(&config), "--json"]).ends(0);
    assert_eq!(offline.summary()["proven"], 2, "{}", offline.stdout);
    assert_eq!(database.requests(), asked, "nobody was asked");

    let online = ["verify", "--config", text(&config), "--sumdb", "--json"];
    let ran = modcdn(&online).ends(1);
    assert_eq!(ran.lines()[0]["bad"]["wrong"], "proof");
    assert_eq!(
        ran.lines()[0]["bad"]["place"],
        "example.com/m/@v/v1.1.0.zip"
    );

    // What was proven is there for the next time; what can't be asked is no fault of the store.
    database.tell("fail 500");
    modcdn(&["verify", "--config", text(&config), "--fix"]).ends(1);
    let ran = modcdn(&online).ends(0);
    assert_eq!(ran.summary()["unproven"], 0, "{}", ran.stdout);
}
