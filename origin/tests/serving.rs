//! What a client gets of things that are there: headers, conditions, ranges, bad requests.

mod harness;

use bytes::Bytes;
use harness::zip::zip_of;
use harness::{Answer, Case, Client, Reply, Upstream};
use modcdn_core::digest::Sha256;

const INFO: &str = "/a.example/!m/@v/v1.0.0.info";
const MOD: &str = "/a.example/!m/@v/v1.0.0.mod";
const ZIP: &str = "/a.example/!m/@v/v1.0.0.zip";
const LIST: &str = "/a.example/!m/@v/list";
const INFO_TEXT: &str = r#"{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}"#;
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const MUTABLE: &str = "public, max-age=60, stale-while-revalidate=300, stale-if-error=86400";

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.on_text(INFO, INFO_TEXT);
    upstream.on_text(MOD, "module a.example/M\n");
    upstream.on(ZIP, Reply::Body(zip_of(ZIP, 300_000), vec![]));
    upstream.on_text(LIST, "v1.0.0\nv0.0.0-20200101000000-abcdefabcdef\n");
    upstream.on_text("/a.example/!m/@latest", INFO_TEXT);
    upstream.on_text("/a.example/!m/@v/main.info", INFO_TEXT);
    upstream
}

#[tokio::test]
async fn every_kind_has_its_headers() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    case.get(ZIP).await;
    for (path, content_type, caching) in [
        (INFO, "application/json", IMMUTABLE),
        (MOD, "text/plain; charset=utf-8", IMMUTABLE),
        (ZIP, "application/zip", IMMUTABLE),
        (LIST, "text/plain; charset=utf-8", MUTABLE),
        ("/a.example/!m/@latest", "application/json", MUTABLE),
        ("/a.example/!m/@v/main.info", "application/json", MUTABLE),
    ] {
        for client in [
            Client::h1(case.address()).await,
            Client::h2(case.address()).await,
        ] {
            let answer = client.get(path, &[]).await;
            assert_eq!((answer.status, answer.complete), (200, true), "{path}");
            assert_eq!(answer.header("content-type"), content_type, "{path}");
            assert_eq!(answer.header("cache-control"), caching, "{path}");
            assert_eq!(
                answer.header("content-length"),
                answer.body.len().to_string()
            );
            let digest = Sha256::of(&answer.body);
            assert_eq!(answer.headers["etag"], digest.etag(), "{path}");
            assert_eq!(
                answer.headers["repr-digest"],
                digest.repr_digest(),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn all_spellings_are_one_object_and_one_fetch() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    for path in [
        MOD,
        "/a.example/%21m/@v/v1.0.0.mod",
        "/a%2Eexample/!m/@v/v1.0.0.mod",
    ] {
        assert_eq!(case.get(path).await.text(), "module a.example/M\n");
    }
    assert_eq!(upstream.asked(MOD), 1);
}

#[tokio::test]
async fn lists_lose_their_pseudo_versions() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
}

#[tokio::test]
async fn what_is_known_already_is_a_304_without_a_body() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    case.get(ZIP).await;
    for path in [MOD, ZIP, LIST] {
        let first = case.get(path).await;
        let etag = first.header("etag");
        for condition in [etag, &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
            let answer = case.get_with(path, &[("if-none-match", condition)]).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{condition}");
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(
                answer.header("cache-control"),
                first.header("cache-control")
            );
        }
        let other = case.get_with(path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(other.body, first.body);
    }
}

#[tokio::test]
async fn parts_of_stored_bodies() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let whole = case.get(ZIP).await.body;
    let etag = Sha256::of(&whole).etag();
    let etag = etag.to_str().unwrap();
    let len = whole.len();
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=100000-299999", 100_000..len),
        ("bytes=299990-", 299_990..len),
        ("bytes=-10", len - 10..len),
    ] {
        for headers in [
            vec![("range", range)],
            vec![("range", range), ("if-range", etag)],
        ] {
            let answer = case.get_with(ZIP, &headers).await;
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(answer.body, whole[expected.clone()], "{range}");
            let content_range = format!("bytes {}-{}/{len}", expected.start, expected.end - 1);
            assert_eq!(answer.header("content-range"), content_range);
        }
    }
    for headers in [
        vec![("range", "bytes=0-0"), ("if-range", "\"other\"")],
        vec![("range", "bytes=0-0,5-6")],
        vec![("range", "lines=1-2")],
    ] {
        let answer = case.get_with(ZIP, &headers).await;
        assert_eq!(
            (answer.status, answer.body.len()),
            (200, len),
            "{headers:?}"
        );
    }
    let behind = case.get_with(ZIP, &[("range", "bytes=300000-")]).await;
    assert_eq!(behind.status, 416);
    assert_eq!(behind.header("content-range"), "bytes */300000");
    assert_eq!(behind.header("cache-control"), "no-store");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let got = case.get(ZIP).await;
    for client in [
        Client::h1(case.address()).await,
        Client::h2(case.address()).await,
    ] {
        let answer = client.ask("HEAD", ZIP, &[]).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.header("content-length"), "300000");
        assert_eq!(
            answer.header("etag"),
            Sha256::of(&got.body).etag().to_str().unwrap()
        );
        let absent = client.ask("HEAD", "/a.example/x/@v/list", &[]).await;
        assert_eq!((absent.status, absent.body.len()), (404, 0));
    }
}

#[tokio::test]
async fn bad_requests_are_refused_and_never_forwarded() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let long = format!("/a.example/{}/@v/list", "m".repeat(2100));
    for client in [
        Client::h1(case.address()).await,
        Client::h2(case.address()).await,
    ] {
        for (method, path, status, reason) in [
            ("GET", "/", 400, "bad-request"),
            ("GET", "/a.example/M/@v/list", 400, "bad-request"),
            ("GET", "/a.example/m/@v/list?x", 400, "bad-request"),
            ("GET", "/a.example/m/@v/list?", 400, "bad-request"),
            ("GET", "/a.example/../m/@v/list", 400, "bad-request"),
            ("GET", "/a.example/%2e%2e/m/@v/list", 400, "bad-request"),
            ("GET", "/a.example%2Fm/@v/list", 400, "bad-request"),
            ("GET", "//a.example/m/@v/list", 400, "bad-request"),
            ("GET", "/a.example/m/@v/main.zip", 400, "bad-request"),
            ("GET", "/a.example/m/@v/v1.0.0.info;x", 400, "bad-request"),
            ("GET", &long, 414, "path-too-long"),
            ("POST", LIST, 405, "method"),
            ("OPTIONS", LIST, 405, "method"),
            ("GET", "/-/nothing", 404, "no-such-endpoint"),
        ] {
            let answer = client.ask(method, path, &[]).await;
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("modcdn-reason"), reason, "{method} {path}");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(answer.text().starts_with("modcdn: "), "{}", answer.text());
        }
        let health = client.get("/-/healthz", &[]).await;
        assert_eq!((health.status, health.text()), (200, "ok\n"));
    }
    for path in [LIST, "/a.example/m/@v/list"] {
        assert_eq!(upstream.asked(path), 0);
    }
}

#[tokio::test]
async fn too_many_headers_are_431() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let names: Vec<String> = (0..200).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let large = "v".repeat(30_000);
    for headers in [many, vec![("x-large", large.as_str())]] {
        for client in [
            Client::h1(case.address()).await,
            Client::h2(case.address()).await,
        ] {
            assert_eq!(client.get(LIST, &headers).await.status, 431);
        }
    }
    assert_eq!(upstream.asked(LIST), 0);
}

#[tokio::test]
async fn only_what_is_stored_can_be_asked_for() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let stored_only = [("disable-module-fetch", "true")];
    for path in [INFO, MOD, ZIP, LIST] {
        let absent = case.get_with(path, &stored_only).await;
        assert_eq!(
            (absent.status, absent.header("modcdn-reason")),
            (404, "not-stored")
        );
        assert_eq!(absent.header("cache-control"), "no-store");
        assert_eq!(upstream.asked(path), 0);
        let fetched = case.get(path).await;
        case.has(&path[1..]).await;
        let present = case.get_with(path, &stored_only).await;
        assert_eq!((present.status, &present.body), (200, &fetched.body));
        assert_eq!(present.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_restart_keeps_what_was_stored() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let paths = [INFO, MOD, ZIP, LIST];
    let mut before = Vec::new();
    for path in paths {
        before.push(case.get(path).await.body);
    }
    let Case { dir, origin } = case;
    origin.stop().await;
    let config = harness::config(dir.path(), &upstream.url());
    let origin = modcdn_origin::Origin::start(config).await.unwrap();
    let case = Case { dir, origin };
    for (path, before) in paths.into_iter().zip(before) {
        let after: Answer = case.get(path).await;
        assert_eq!((after.status, &after.body), (200, &before));
        assert_eq!(after.headers["etag"], Sha256::of(&before).etag());
        assert_eq!(upstream.asked(path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_flipped_byte_on_disk_is_never_served_whole() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let whole = case.get(ZIP).await.body;
    let mut bad = whole.to_vec();
    bad[150_000] ^= 1;
    for headers in [vec![], vec![("range", "bytes=140000-160000")]] {
        let Case { dir, origin } = Case::start(&upstream.url()).await;
        let path = dir.path().join(&ZIP[1..]);
        let case = Case { dir, origin };
        case.get(ZIP).await;
        case.has(&ZIP[1..]).await;
        // Another file, not only other bytes: clocks of file systems are coarse.
        let other = path.with_extension("other");
        std::fs::write(&other, &bad).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let answer = case.get_with(ZIP, &headers).await;
        if headers.is_empty() {
            assert!(!answer.complete, "a corrupt body came to an end");
        } else {
            assert_eq!(
                (answer.status, &answer.body[..]),
                (206, &whole[140_000..=160_000])
            );
        }
        let next = case.get(ZIP).await;
        assert!(next.complete);
        assert_eq!(next.body, whole);
        assert_eq!(case.metric("modcdn_origin_corrupt_objects_total", &[]), 1.0);
    }
}

#[tokio::test]
async fn the_store_is_a_tree_that_another_origin_can_read() {
    let upstream = upstream().await;
    let first = Case::start(&upstream.url()).await;
    for path in [INFO, MOD, ZIP] {
        first.get(path).await;
    }
    let tree = format!("file://{}", first.dir.path().display());
    let second = Case::start(&tree).await;
    for path in [INFO, MOD, ZIP, LIST, "/a.example/!m/@latest"] {
        let (a, b) = (first.get(path).await, second.get(path).await);
        assert_eq!((b.status, &b.body), (200, &a.body), "{path}");
    }
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let client = Client::h2(case.address()).await;
    let asks = (0..200).map(|_| client.get(MOD, &[]));
    let answers = futures::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let labels = [("protocol", "HTTP/2")];
    let counted = |name: &str| case.metric(name, &labels);
    harness::until(|| counted("modcdn_origin_protocol_requests_total") == 200.0).await;
    assert_eq!(counted("modcdn_origin_connections_total"), 1.0);
    assert_eq!(upstream.asked(MOD), 1);
}

#[tokio::test]
async fn readiness_follows_the_life_of_the_origin() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let admin = case.origin.admin().clone();
    assert_eq!(admin.readiness().get(), Ok(()));
    case.origin.stop().await;
    assert!(admin.readiness().get().is_err());
}

#[tokio::test]
async fn a_taken_port_and_an_unusable_store_are_named() {
    let upstream = upstream().await;
    let case = Case::start(&upstream.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = harness::config(dir.path(), "off");
    config.listen = vec![case.address()];
    let error = modcdn_origin::Origin::start(config).await.err().unwrap();
    assert!(
        error.to_string().contains(&case.address().to_string()),
        "{error}"
    );
    let file = dir.path().join("file");
    std::fs::write(&file, Bytes::new()).unwrap();
    let config = harness::config(&file.join("store"), "off");
    let error = modcdn_origin::Origin::start(config).await.err().unwrap();
    assert!(error.to_string().contains("file/store"), "{error}");
}

#[tokio::test]
async fn the_access_log_has_a_line_a_request() {
    let upstream = upstream().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let logged = log.clone();
    let case = Case::with(&upstream.url(), |config| {
        config.access_log = modcdn_core::telemetry::AccessTarget::File(logged);
        config.name = "o1".to_owned();
    })
    .await;
    let client = Client::h1(case.address()).await;
    client.get(MOD, &[]).await;
    client.get("/nonsense", &[]).await;
    case.get(MOD).await;
    let mut lines = Vec::new();
    while lines.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let text = std::fs::read_to_string(&log).unwrap();
        let whole = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines = whole.collect::<Vec<serde_json::Value>>();
    }
    for (line, path, protocol, status, reason) in [
        (&lines[0], MOD, "HTTP/1.1", 200, None),
        (&lines[1], "/nonsense", "HTTP/1.1", 400, Some("bad-request")),
        (&lines[2], MOD, "HTTP/2", 200, None),
    ] {
        assert_eq!(line["path"], path);
        assert_eq!(
            (&line["role"], &line["name"]),
            (&"origin".into(), &"o1".into())
        );
        assert_eq!(
            (&line["client"], &line["method"]),
            (&"127.0.0.1".into(), &"GET".into())
        );
        assert_eq!(
            (&line["protocol"], &line["status"]),
            (&protocol.into(), &status.into())
        );
        assert_eq!(
            line.get("reason").and_then(|reason| reason.as_str()),
            reason
        );
        assert!(line["ts"].as_str().unwrap().ends_with('Z') && line["ms"].is_u64());
        assert!(line.get("cut").is_none());
    }
    assert_eq!(lines[0]["bytes"], "module a.example/M\n".len());
}
