//! Whom the origin asks, and what it says when nobody has it.

mod harness;

use std::fs;
use std::path::Path;

use harness::{Case, Reply, Upstream};

const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const LIST: &str = "/a.example/m/@v/list";
const LATEST: &str = "/a.example/m/@latest";
const TEXT: &str = "module a.example/m\n";

/// An upstream that answers `MOD` with that status.
async fn answering(status: u16) -> Upstream {
    let upstream = Upstream::start().await;
    match status {
        200 => upstream.on_text(MOD, TEXT),
        _ => upstream.on(MOD, Reply::Status(status, "m: not here\nsecond line\n")),
    }
    upstream
}

#[tokio::test]
async fn separators_decide_who_is_asked() {
    for (first, separator, second, expected) in [
        (404, ',', 200, 200),
        (410, ',', 200, 200),
        (404, '|', 200, 200),
        (500, '|', 200, 200),
        (403, '|', 200, 200),
        (500, ',', 200, 502),
        (403, ',', 200, 502),
        (429, ',', 200, 502),
        (404, ',', 404, 404),
        (404, ',', 410, 410),
        (404, ',', 500, 502),
        (500, '|', 404, 502),
    ] {
        let (a, b) = (answering(first).await, answering(second).await);
        let case = Case::start(&format!("{}{separator}{}", a.url(), b.url())).await;
        let answer = case.get(MOD).await;
        let row = format!("{first}{separator}{second}: {}", answer.text());
        assert_eq!(answer.status, expected, "{row}");
        let stops = separator == ',' && !matches!(first, 404 | 410);
        assert_eq!(b.asked(MOD), usize::from(!stops), "{row}");
        if expected != 200 {
            let caching = match expected {
                404 | 410 => "public, max-age=60",
                _ => "no-store",
            };
            assert_eq!(answer.header("cache-control"), caching, "{row}");
            assert!(answer.text().contains("a.example/m@v1.0.0.mod"), "{row}");
            assert!(answer.text().contains("m: not here"), "{row}");
        }
    }
}

#[tokio::test]
async fn unreachable_upstreams_are_502_and_silent_ones_504() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (address, status, reason) in [
        (closed, 502, "upstream-unreachable"),
        (silent.local_addr().unwrap(), 504, "upstream-timeout"),
    ] {
        let quick = |config: &mut modcdn_origin::Config| {
            config.timeouts.connect = modcdn_core::units::Period::millis(50);
            config.timeouts.first_byte = modcdn_core::units::Period::millis(50);
        };
        let case = Case::with(&format!("http://{address}"), quick).await;
        let answer = case.get(MOD).await;
        assert_eq!(
            (answer.status, answer.header("modcdn-reason")),
            (status, reason)
        );
        assert!(
            answer.text().contains(&address.to_string()),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains("hint: "), "{}", answer.text());
    }
}

#[tokio::test]
async fn off_is_403_unless_others_truly_had_nothing() {
    let absent = answering(404).await;
    for (chain, status, reason) in [
        ("off".to_owned(), 403, "off"),
        (format!("{},off", absent.url()), 404, "not-found"),
    ] {
        let case = Case::start(&chain).await;
        for path in [MOD, LIST] {
            let answer = case.get(path).await;
            let told = (answer.status, answer.header("modcdn-reason"));
            assert_eq!(told, (status, reason), "{chain} {path}");
        }
    }
}

#[tokio::test]
async fn credentials_are_sent_upstream_and_never_told() {
    let upstream = answering(500).await;
    let url = format!("http://me:s3cret@{}", upstream.address);
    let case = Case::start(&url).await;
    let answer = case.get(MOD).await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("s3cret"), "{}", answer.text());
    assert!(upstream.last(MOD).contains_key("authorization"));
    let unreachable = Case::start("http://me:s3cret@127.0.0.1:1").await;
    let answer = unreachable.get(MOD).await;
    assert!(
        !format!("{answer:?}").contains("s3cret"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn upstream_is_asked_plainly() {
    let upstream = answering(200).await;
    let base = format!("{}/base/path/", upstream.url());
    let path = "/base/path/a.example/m/@v/v1.0.0.mod";
    upstream.on_text(path, TEXT);
    let case = Case::start(&base).await;
    let odd = [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("accept-encoding", "gzip"),
    ];
    assert_eq!(case.get_with(MOD, &odd).await.text(), TEXT);
    let asked = upstream.last(path);
    assert_eq!(asked["accept-encoding"], "identity");
    assert!(asked["user-agent"].to_str().unwrap().starts_with("modcdn/"));
    assert!(!asked.contains_key("authorization") && !asked.contains_key("cookie"));
}

#[tokio::test]
async fn redirects_are_followed_ten_times() {
    let upstream = Upstream::start().await;
    let target = upstream.url() + "/elsewhere";
    let target: &'static str = target.leak();
    upstream.on("/elsewhere", Reply::Body(TEXT.into(), vec![]));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let loops = request[..read].starts_with(b"GET /a.example/loop/");
            let to = if loops {
                "/a.example/loop/@v/v1.0.0.mod"
            } else {
                target
            };
            let response = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    let case = Case::start(&url).await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    let answer = case.get("/a.example/loop/@v/v1.0.0.mod").await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (502, "upstream-content")
    );
}

fn tree(dir: &Path) {
    let folder = dir.join("a.example/m/@v");
    fs::create_dir_all(&folder).unwrap();
    let pseudo = "v0.0.0-20200101000000-abcdefabcdef";
    let list = format!("v1.0.0\n{pseudo}\nv1.1.0-rc.1\n");
    fs::write(folder.join("list"), list).unwrap();
    fs::write(folder.join("v1.0.0.info"), r#"{"Version":"v1.0.0"}"#).unwrap();
    fs::write(folder.join("v1.0.0.mod"), TEXT).unwrap();
    let zip = harness::zip::zip_of("/a.example/m/@v/v1.0.0.zip", 300_000);
    fs::write(folder.join("v1.0.0.zip"), zip).unwrap();
}

#[tokio::test]
async fn a_module_cache_is_an_upstream() {
    let cache = tempfile::tempdir().unwrap();
    tree(cache.path());
    let case = Case::start(&format!("file://{}", cache.path().display())).await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0-rc.1\n");
    assert_eq!(case.get(LATEST).await.text(), r#"{"Version":"v1.0.0"}"#);
    let zip = case.get("/a.example/m/@v/v1.0.0.zip").await;
    assert!(zip.complete && zip.body.len() == 300_000);
    for path in [
        "/a.example/m/@v/main.info",
        "/a.example/m/@v/v1.1.0-rc.1.mod",
        "/a.example/other/@v/list",
        "/a.example/other/@latest",
        "/sumdb/sum.example/supported",
        "/sumdb/sum.example/latest",
    ] {
        assert_eq!(case.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_missing_tree_is_a_failure_not_an_absence() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let case = Case::start(&format!("file://{}", gone.display())).await;
    for path in [MOD, LIST, LATEST] {
        let answer = case.get(path).await;
        assert_eq!(
            (answer.status, answer.header("modcdn-reason")),
            (502, "upstream-unreachable")
        );
    }
}

#[tokio::test]
async fn a_module_cache_can_be_the_store_itself() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let config = harness::config(dir.path(), "off");
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    for path in [
        MOD,
        "/a.example/m/@v/v1.0.0.info",
        "/a.example/m/@v/v1.0.0.zip",
    ] {
        let (first, second) = (case.get(path).await, case.get(path).await);
        assert_eq!((first.status, &first.body), (200, &second.body), "{path}");
        assert_eq!(first.header("etag"), second.header("etag"));
        let sum = case.dir.path().join(format!("{}.sha256", &path[1..]));
        assert!(
            fs::read_to_string(sum)
                .unwrap()
                .starts_with(first.header("etag").trim_matches('"'))
        );
    }
    assert_eq!(case.get("/a.example/m/@v/v1.0.1.mod").await.status, 403);
}
