//! Hostile upstreams: whatever they send in the place of a module's files is refused or visibly
//! broken off, kept aside, counted, and never stored.

mod harness;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use harness::zip::{Item, Zip, prefix, zip_of, zip64};
use harness::{Answer, Case, Client, Reply, Upstream, collect, until};
use modcdn_core::units::{ByteSize, Period};
use modcdn_origin::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const INFO: &str = "/a.example/m/@v/v1.0.0.info";
const GO_MOD: &[u8] = b"module a.example/m\n";

fn named(name: &str) -> String {
    prefix(ZIP) + name
}

fn go_mod() -> Item {
    Item::deflated(named("go.mod"), GO_MOD)
}

fn file(name: &str) -> Item {
    Item::stored(named(name), b"package a\n")
}

/// The faults that a zip's content can have, by name, and a zip for each.
fn bad_zips() -> Vec<(&'static str, Zip)> {
    let bomb = Item::deflated(named("bomb"), &vec![0; 1 << 20]).both(|header| header.size = 1000);
    let lying = file("a.go").both(|header| header.size += 1);
    let trick = file("a.go").both(|header| header.extra = zip64(&[1, 1]));
    let mut other = file("a.go");
    other.local.name = named("b.go").into();
    let mut shared = Zip::of([go_mod(), file("a.go")]);
    shared.items[1].offset = Some(0);
    let mut hidden = Zip::of([go_mod()]);
    hidden.before_directory = b"PK\x03\x04".to_vec();
    let of = |item: Item| Zip::of([go_mod(), item]);
    vec![
        ("size", of(bomb)),
        ("size", of(lying)),
        ("crc", of(file("a.go").both(|header| header.crc += 1))),
        ("zip64", of(trick)),
        ("file-name", of(file("../a.go"))),
        ("irregular", of(file("link").mode(0o120_777))),
        ("collision", Zip::of([go_mod(), file("a.go"), file("A.go")])),
        ("nested-module", of(file("sub/go.mod"))),
        ("go-mod-case", of(file("GO.MOD")).without_first()),
        ("prefix", of(Item::stored("a.example/n@v1.0.0/a.go", b""))),
        (
            "encrypted",
            of(file("a.go").both(|header| header.flags = 1)),
        ),
        ("method", of(file("a.go").both(|header| header.method = 12))),
        ("headers-differ", of(other)),
        ("overlap", shared),
        ("junk", hidden),
    ]
}

/// The same fault in a zip of which readers have some before it is whole.
fn long(zip: &Zip) -> Bytes {
    let filler: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let mut zip = zip.clone();
    let mut filler = Item::stored(named("filler"), &filler);
    filler.before = std::mem::take(&mut zip.before_directory);
    if zip.items.iter().all(|item| item.offset.is_none()) {
        zip.items.insert(0, filler);
    } else {
        zip.items.push(filler);
    }
    zip.build().into()
}

fn files_below(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn bad(case: &Case, fault: &str) -> f64 {
    case.metric("modcdn_origin_bad_zips_total", &[("fault", fault)])
}

async fn forgetful(upstream: &Upstream) -> Case {
    let forget = |config: &mut Config| config.archive.remember = Period::secs(0);
    Case::with(&upstream.url(), forget).await
}

/// That is how a refusal looks which says what is wrong.
fn assert_refused(answer: &Answer, reason: &str) {
    let got = (answer.status, answer.header("modcdn-reason"));
    assert_eq!(got, (502, reason), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_zip_that_breaks_the_rules_is_refused_and_kept_aside() {
    let upstream = Upstream::start().await;
    let case = forgetful(&upstream).await;
    for (at, (fault, zip)) in bad_zips().into_iter().enumerate() {
        let zip: Bytes = zip.build().into();
        assert!(zip.len() < 4096, "its head waits for the verdict");
        upstream.only(ZIP, Reply::Body(zip.clone(), vec![]));
        let before = bad(&case, fault);
        let answer = case.get(ZIP).await;
        assert_refused(&answer, "zip-rules");
        assert!(answer.text().contains("a.example/m@v1.0.0.zip: the zip"));
        assert_eq!(bad(&case, fault), before + 1.0, "{fault}");
        assert!(!case.dir.path().join("a.example").exists(), "{fault}");
        let quarantine = case.dir.path().join(".quarantine");
        until(|| files_below(&quarantine) == 2 * (at + 1)).await;
        let (body, reason) = last_kept(&quarantine);
        assert_eq!(body, zip, "{fault}");
        assert!(reason.ends_with("reason: zip-rules\n"), "{reason}");
    }
}

/// The body that came into quarantine last, and its reason.
fn last_kept(quarantine: &Path) -> (Vec<u8>, String) {
    let entries = fs::read_dir(quarantine).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let [.., body, reason] = &paths[..] else {
        panic!("{paths:?}")
    };
    (fs::read(body).unwrap(), fs::read_to_string(reason).unwrap())
}

#[tokio::test]
async fn a_long_zip_that_breaks_the_rules_is_visibly_broken_off() {
    let upstream = Upstream::start().await;
    let case = forgetful(&upstream).await;
    for (fault, zip) in bad_zips() {
        let zip = long(&zip);
        for announced in [None, Some(zip.len() as u64)] {
            for client in [
                Client::h1(case.address()).await,
                Client::h2(case.address()).await,
            ] {
                let gate = upstream.gate(ZIP, announced);
                gate.send(Ok(zip.slice(..50_000))).unwrap();
                let response = client.head("GET", ZIP, &[]).await;
                assert_eq!(response.status(), 200);
                gate.send(Ok(zip.slice(50_000..))).unwrap();
                drop(gate);
                let answer = collect(response).await;
                assert!(!answer.complete && answer.body.len() < zip.len(), "{fault}");
                assert!(!case.dir.path().join("a.example").exists(), "{fault}");
            }
        }
        assert!(bad(&case, fault) >= 4.0, "{fault}");
    }
    until(|| case.metric("modcdn_origin_spool_bytes", &[]) == 0.0).await;
    assert_eq!(files_below(&case.dir.path().join(".spool")), 0);
}

#[tokio::test]
async fn what_was_bad_is_not_fetched_again_at_once() {
    let upstream = Upstream::start().await;
    let zip = bad_zips().remove(0).1.build();
    upstream.on(ZIP, Reply::Body(zip.into(), vec![]));
    let case = Case::start(&upstream.url()).await;
    for _ in 0..3 {
        assert_refused(&case.get(ZIP).await, "zip-rules");
    }
    assert_eq!(upstream.asked(ZIP), 1);
    upstream.on_text(MOD, "module a.example/m\n");
    assert_eq!(
        case.get(MOD).await.status,
        200,
        "its other files are served"
    );

    let forgetful = forgetful(&upstream).await;
    assert_refused(&forgetful.get(ZIP).await, "zip-rules");
    assert_eq!(upstream.asked(ZIP), 2);
    upstream.only(ZIP, Reply::Body(zip_of(ZIP, 5000), vec![]));
    assert_eq!(forgetful.get(ZIP).await.body, zip_of(ZIP, 5000));
    assert_eq!(upstream.asked(ZIP), 3);
}

#[tokio::test]
async fn quarantine_is_bounded() {
    let upstream = Upstream::start().await;
    let bounds = |config: &mut Config| {
        config.archive.remember = Period::secs(0);
        config.archive.quarantine_files = 3;
    };
    let case = Case::with(&upstream.url(), bounds).await;
    for n in 0..6 {
        let path = ZIP.replace("v1.0.0", &format!("v1.0.{n}"));
        upstream.on(&path, Reply::Body(Bytes::from_static(b"no zip"), vec![]));
        assert_refused(&case.get(&path).await, "zip-rules");
        let quarantine = case.dir.path().join(".quarantine");
        until(|| files_below(&quarantine) == 2 * (n + 1).min(3)).await;
    }
    assert_eq!(bad(&case, "not-an-archive"), 6.0);
}

#[tokio::test]
async fn a_good_zip_comes_with_its_h1() {
    let upstream = Upstream::start().await;
    let case = Case::start(&upstream.url()).await;
    let zip = Zip::of([go_mod(), Item::deflated(named("a.go"), &[b'x'; 90_000])]).build();
    let h1 = "h1:k407o0bJoq6U5byGvg1BnfEZni3F1kpwjiKdc/q5ZTQ=";
    let gate = upstream.gate(ZIP, None);
    gate.send(Ok(zip.clone().into())).unwrap();
    drop(gate);
    let growing = case.get_with(ZIP, &[("te", "trailers")]).await;
    assert!(growing.complete && growing.body == zip);
    let said = |answer: &Answer| {
        let fields = [&answer.headers, &answer.trailers];
        let sum = fields.iter().find_map(|fields| fields.get("modcdn-sum"));
        sum.map(|sum| sum.to_str().unwrap().to_owned())
    };
    assert_eq!(said(&growing).as_deref(), Some(h1));
    let stored = case.get(ZIP).await;
    assert_eq!(stored.header("modcdn-sum"), h1);
    case.has(&ZIP[1..]).await;
    let ziphash = case.dir.path().join("a.example/m/@v/v1.0.0.ziphash");
    assert_eq!(fs::read_to_string(ziphash).unwrap(), h1);
    assert!(said(&case.get(MOD).await).is_none());
}

/// A store as the go command leaves it, with one zip.
fn go_tree(dir: &Path, zip: &[u8], ziphash: Option<&str>) {
    let folder = dir.join("a.example/m/@v");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("v1.0.0.zip"), zip).unwrap();
    if let Some(h1) = ziphash {
        fs::write(folder.join("v1.0.0.ziphash"), h1).unwrap();
    }
}

#[tokio::test]
async fn a_tree_of_the_go_command_is_checked_when_it_is_taken_over() {
    let upstream = Upstream::start().await;
    let good = zip_of(ZIP, 100_000);
    let other = "h1:VvlR0LRMEHHwk+AJWzxyZp5/vZwbwaT8E8xGkURKC+g=";
    let bad = bad_zips().remove(0).1.build();
    for (there, ziphash, is_served) in [
        (&good[..], None, true),
        (&bad[..], None, false),
        (&good[..], Some(other), false),
    ] {
        let case = Case::start(&upstream.url()).await;
        go_tree(case.dir.path(), there, ziphash);
        let only_stored = [("disable-module-fetch", "true")];
        let answer = case.get_with(ZIP, &only_stored).await;
        if is_served {
            assert_eq!((answer.status, &answer.body), (200, &good));
            let sum = answer.header("modcdn-sum").to_owned();
            assert!(sum.starts_with("h1:"), "{sum}");
            let recorded = case.dir.path().join("a.example/m/@v/v1.0.0.ziphash");
            assert_eq!(fs::read_to_string(recorded).unwrap(), sum);
            continue;
        }
        assert_eq!(answer.header("modcdn-reason"), "not-stored");
        assert_eq!(files_below(&case.dir.path().join(".quarantine")), 2);
        upstream.only(ZIP, Reply::Body(good.clone(), vec![]));
        assert_eq!(case.get(ZIP).await.body, good, "it is fetched instead");
    }
}

#[tokio::test]
async fn an_info_that_is_not_the_versions_is_refused() {
    let upstream = Upstream::start().await;
    let small = |config: &mut Config| config.limits.max_info = ByteSize::b(100);
    let case = Case::with(&upstream.url(), small).await;
    let long = format!(r#"{{"Version":"v1.0.0","Time":"{}"}}"#, "0".repeat(100));
    for (info, reason) in [
        (r#"{"Version":"v1.0.1"}"#, "upstream-content"),
        (r#"{"Version":"v1.0.0""#, "upstream-content"),
        (r#"{"Version":""}"#, "upstream-content"),
        ("", "upstream-content"),
        (&long, "upstream-too-large"),
    ] {
        let body = Bytes::copy_from_slice(info.as_bytes());
        upstream.only(INFO, Reply::Body(body, vec![]));
        assert_refused(&case.get(INFO).await, reason);
        assert!(!case.dir.path().join("a.example").exists());
    }
    upstream.only(INFO, Reply::Status(500, ""));
    let whole = upstream.asked(INFO);
    upstream.only(INFO, Reply::Body(r#"{"Version":"v1.0.0"}"#.into(), vec![]));
    assert_eq!(case.get(INFO).await.status, 200);
    assert_eq!(upstream.asked(INFO), whole + 1);
}

#[tokio::test]
async fn an_over_long_body_is_refused() {
    let upstream = Upstream::start().await;
    let small = |config: &mut Config| config.limits.max_mod = ByteSize::b(100);
    let case = Case::with(&upstream.url(), small).await;
    for announced in [None, Some(101)] {
        let path = MOD.replace("v1.0.0", "v1.0.1");
        let gate = upstream.gate(&path, announced);
        gate.send(Ok(Bytes::from(vec![b'x'; 101]))).unwrap();
        drop(gate);
        assert_refused(&case.get(&path).await, "upstream-too-large");
        assert!(!case.dir.path().join(&path[1..]).exists());
    }
}

#[tokio::test]
async fn a_truncated_body_is_refused() {
    for (path, sent) in [
        (MOD, "module a.example/m\n"),
        (INFO, r#"{"Version":"v1.0.0"}"#),
        (ZIP, "PK\x03\x04"),
    ] {
        let len = sent.len() + 1;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
        let case = Case::start(&says(head + sent).await).await;
        let answer = case.get(path).await;
        assert_refused(&answer, "upstream-broken");
        assert!(!case.dir.path().join("a.example").exists());
        assert!(!case.dir.path().join(".quarantine").exists());
    }
}

/// An upstream that says one thing to everybody, and leaves.
async fn says(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}
