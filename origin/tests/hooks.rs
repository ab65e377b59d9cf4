//! `POST /-/hooks/module`: who may call, and how soon what changed is seen.

mod harness;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use harness::{Answer, Case, Reply, Upstream, collect, until};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use modcdn_core::units::{ByteSize, Period};
use modcdn_origin::Config;
use modcdn_origin::config::Mount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOOK: &str = "/-/hooks/module";
const LIST: &str = "/github.com/!acme/lib/@v/list";
const SUB: &str = "/github.com/!acme/lib/sub/@latest";
const QUERY: &str = "/github.com/!acme/lib/@v/main.info";
const OTHER: &str = "/github.com/!acme/library/@v/list";
const TOKEN: &str = "0123456789abcdef";
const SECRET: &str = "a secret of the forge";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OURS: &str = r#"{"module": "github.com/Acme/lib", "version": "v1.1.0"}"#;
const EVENT: &str =
    r#"{"ref": "refs/tags/v1.1.0", "repository": {"html_url": "https://github.com/Acme/lib"}}"#;

/// An origin whose answers stay fresh for an hour, with all kinds of hooks.
async fn hooked(upstream: &Upstream, change: impl FnOnce(&mut Config)) -> Case {
    Case::with(&upstream.url(), |config| {
        config.freshness.mutable = Period::secs(3600);
        let dir = &config.store.dir;
        let file = |name: &str, text: &str| {
            let file = dir.join(name);
            fs::write(&file, text).unwrap();
            Some(file)
        };
        config.hooks.token_file = file("tokens", TOKEN);
        config.hooks.github_secret_file =
            file("github", &format!("# old\nan old secret of ours\n{SECRET}"));
        config.hooks.gitlab_secret_file = file("gitlab", &format!("{SECRET}\n{SIGNING}"));
        config.hooks.gitea_secret_file = file("gitea", SECRET);
        change(config);
    })
    .await
}

async fn post(address: SocketAddr, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://origin.test{HOOK}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    collect(sender.send_request(request).await.unwrap()).await
}

async fn ours(case: &Case, body: &'static str) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    post(case.address(), &[("authorization", &authorization)], body).await
}

fn hex_signature(key: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The fields of a signed call of GitLab.
fn standard_webhook(body: &str) -> Vec<(&'static str, String)> {
    let key = BASE64_STANDARD.decode(&SIGNING["whsec_".len()..]).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("id-1.1767225600.{body}").as_bytes());
    let tag = format!("v1,{}", BASE64_STANDARD.encode(tag));
    vec![
        ("x-gitlab-event", "Tag Push Hook".to_owned()),
        ("webhook-id", "id-1".to_owned()),
        ("webhook-timestamp", "1767225600".to_owned()),
        ("webhook-signature", tag),
    ]
}

fn text(upstream: &Upstream, path: &str, body: &'static str) {
    upstream.only(path, Reply::Body(body.into(), vec![]));
}

#[tokio::test]
async fn a_new_tag_is_visible_within_seconds_whoever_says_so() {
    let github = format!("sha256={}", hex_signature(SECRET, EVENT));
    let gitea = hex_signature(SECRET, EVENT);
    let gitlab =
        r#"{"object_kind": "tag_push", "project": {"web_url": "https://github.com/Acme/lib"}}"#;
    let signed = standard_webhook(gitlab);
    let signed: Vec<_> = signed.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let authorization = format!("Bearer {TOKEN}");
    for (source, headers, body) in [
        (
            "token",
            vec![("authorization", authorization.as_str())],
            OURS,
        ),
        (
            "github",
            vec![("x-github-event", "push"), ("x-hub-signature-256", &github)],
            EVENT,
        ),
        (
            "gitlab",
            vec![("x-gitlab-event", "Push Hook"), ("x-gitlab-token", SECRET)],
            gitlab,
        ),
        ("gitlab", signed, gitlab),
        (
            "gitea",
            vec![
                ("x-gitea-event", "push"),
                ("x-github-event", "push"),
                ("x-gitea-signature", &gitea),
                ("x-hub-signature-256", "sha256=00"),
            ],
            EVENT,
        ),
    ] {
        let upstream = Upstream::start().await;
        upstream.on_text(LIST, "v1.0.0\n");
        upstream.on_text(OTHER, "v1.0.0\n");
        let case = hooked(&upstream, |_| ()).await;
        assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
        case.get(OTHER).await;
        text(&upstream, LIST, "v1.0.0\nv1.1.0\n");
        assert_eq!(case.get(LIST).await.text(), "v1.0.0\n", "it is fresh");

        let called = post(case.address(), &headers, body).await;
        assert_eq!(called.status, 202, "{source}: {}", called.text());
        assert!(
            called.text().contains("github.com/!acme/lib"),
            "{}",
            called.text()
        );
        let seen = async { while case.get(LIST).await.text() != "v1.0.0\nv1.1.0\n" {} };
        tokio::time::timeout(Duration::from_secs(5), seen)
            .await
            .unwrap();
        assert_eq!(upstream.last(LIST)["cache-control"], "no-cache");
        assert_eq!(
            upstream.asked(OTHER),
            1,
            "another module is none of its business"
        );
        let hooks = [("source", source), ("outcome", "accepted")];
        assert_eq!(case.metric("modcdn_origin_hooks_total", &hooks), 1.0);
    }
}

#[tokio::test]
async fn everything_known_of_a_module_and_below_is_refreshed_without_being_asked_for() {
    let upstream = Upstream::start().await;
    for path in [SUB, QUERY] {
        upstream.on_text(path, r#"{"Version":"v1.0.0"}"#);
    }
    upstream.on_text(LIST, "v1.0.0\n");
    let case = hooked(&upstream, |_| ()).await;
    for path in [LIST, SUB, QUERY] {
        case.get(path).await;
    }
    let called = ours(&case, OURS).await;
    assert!(
        called.text().contains("\"refreshed\":3"),
        "{}",
        called.text()
    );
    for path in [LIST, SUB, QUERY] {
        until(|| upstream.asked(path) == 2).await;
    }
    let ok = [("cause", "changed"), ("outcome", "ok")];
    until(|| case.metric("modcdn_origin_refreshes_total", &ok) == 3.0).await;
    case.get(LIST).await;
    assert_eq!(upstream.asked(LIST), 2, "it is fresh again");
    // The same again does the same again, and nothing else.
    assert_eq!(ours(&case, OURS).await.status, 202);
    until(|| upstream.asked(LIST) == 3).await;
}

#[tokio::test]
async fn what_was_not_there_is_looked_for_again() {
    let upstream = Upstream::start().await;
    let case = hooked(&upstream, |_| ()).await;
    let module = "/github.com/!acme/lib/@v/v1.1.0.mod";
    for path in [LIST, module] {
        assert_eq!(case.get(path).await.status, 404);
    }
    upstream.on_text(LIST, "v1.1.0\n");
    upstream.on_text(module, "module github.com/Acme/lib\n");
    assert_eq!(case.get(LIST).await.status, 404, "it is remembered");
    assert_eq!(ours(&case, OURS).await.status, 202);
    for path in [LIST, module] {
        assert_eq!(case.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn while_upstream_fails_what_changed_is_given_as_stale_and_asked_for_again() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = hooked(&upstream, |_| ()).await;
    case.get(LIST).await;
    upstream.only(LIST, Reply::Status(500, "trouble"));
    assert_eq!(ours(&case, OURS).await.status, 202);
    let stale = case.get(LIST).await;
    assert_eq!(stale.text(), "v1.0.0\n");
    let age: u64 = stale.header("age").parse().unwrap();
    assert!(age >= 3600, "no edge may take it for fresh: {age}");
    text(&upstream, LIST, "v1.0.0\nv1.1.0\n");
    let ok = [("cause", "changed"), ("outcome", "ok")];
    until(|| case.metric("modcdn_origin_refreshes_total", &ok) == 1.0).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
}

#[tokio::test]
async fn a_call_can_be_for_one_mount() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let team = format!("/team-a{LIST}");
    let case = hooked(&upstream, |config| {
        let second = Mount {
            prefix: "/team-a/".parse().unwrap(),
            ..config.mounts[0].clone()
        };
        config.mounts.push(second);
    })
    .await;
    case.get(LIST).await;
    case.get(&team).await;
    let one = r#"{"module": "github.com/Acme/lib", "mount": "/team-a/"}"#;
    assert!(ours(&case, one).await.text().contains("\"refreshed\":1"));
    assert!(ours(&case, OURS).await.text().contains("\"refreshed\":2"));
    let none = r#"{"module": "github.com/Acme/lib", "mount": "/team-x/"}"#;
    let refused = ours(&case, none).await;
    assert_eq!(
        (refused.status, refused.header("modcdn-reason")),
        (400, "bad-request")
    );
}

#[tokio::test]
async fn who_knows_no_secret_changes_nothing() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    let case = hooked(&upstream, |_| ()).await;
    case.get(LIST).await;
    let wrong = format!("sha256={}", hex_signature("another secret", EVENT));
    let right = format!("sha256={}", hex_signature(SECRET, EVENT));
    for (headers, body, status, reason) in [
        (vec![], OURS, 401, "unauthorized"),
        (
            vec![("authorization", "Bearer fedcba9876543210")],
            OURS,
            401,
            "unauthorized",
        ),
        (
            vec![("authorization", "Basic x")],
            OURS,
            401,
            "unauthorized",
        ),
        (
            vec![("x-hub-signature-256", wrong.as_str())],
            EVENT,
            403,
            "bad-signature",
        ),
        (
            vec![("x-hub-signature-256", right.as_str())],
            OURS,
            403,
            "bad-signature",
        ),
        (
            vec![("x-gitlab-token", "another secret")],
            EVENT,
            403,
            "bad-signature",
        ),
        (
            vec![("x-gitea-signature", "00")],
            EVENT,
            403,
            "bad-signature",
        ),
        (
            vec![("webhook-signature", "v1,AA==")],
            EVENT,
            403,
            "bad-signature",
        ),
    ] {
        let answer = post(case.address(), &headers, body).await;
        let shown = format!("{headers:?}: {}", answer.text());
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.header("modcdn-reason"), reason, "{shown}");
        assert_eq!(!answer.header("www-authenticate").is_empty(), status == 401);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let refused = case.metric("modcdn_origin_hooks_total", &[("outcome", "bad-signature")]);
    assert_eq!(refused, 5.0);
    case.get(LIST).await;
    assert_eq!(upstream.asked(LIST), 1);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_other_events_are_passed_over() {
    let upstream = Upstream::start().await;
    let case = hooked(&upstream, |_| ()).await;
    for body in ["", "{}", "junk", r#"{"module": "UPPER"}"#] {
        let answer = ours(&case, body).await;
        assert_eq!(
            (answer.status, answer.header("modcdn-reason")),
            (400, "bad-request"),
            "{body}"
        );
    }
    for (event, body, status) in [
        ("ping", "{}", 200),
        ("issues", "{}", 200),
        ("push", "{}", 400),
    ] {
        let signature = format!("sha256={}", hex_signature(SECRET, body));
        let headers = [
            ("x-github-event", event),
            ("x-hub-signature-256", &signature),
        ];
        assert_eq!(
            post(case.address(), &headers, body).await.status,
            status,
            "{event}"
        );
    }
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let client = harness::Client::h2(case.address()).await;
        let answer = client.ask(method, HOOK, &[]).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "POST"),
            "{method}"
        );
    }
    let elsewhere = harness::Client::h2(case.address()).await;
    assert_eq!(elsewhere.ask("POST", LIST, &[]).await.status, 405);
}

#[tokio::test]
async fn without_a_secret_there_is_no_endpoint() {
    let case = Case::start("off").await;
    let answer = post(case.address(), &[("authorization", "Bearer x")], OURS).await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (404, "no-such-endpoint")
    );
}

#[tokio::test]
async fn a_secrets_file_is_read_at_each_call_and_a_broken_one_is_our_fault() {
    let upstream = Upstream::start().await;
    let case = hooked(&upstream, |_| ()).await;
    let tokens = case.dir.path().join("tokens");
    let fields = [("authorization", "Bearer another-token-of-ours")];
    let call = || post(case.address(), &fields, OURS);
    assert_eq!(call().await.status, 401);
    fs::write(&tokens, "another-token-of-ours\n").unwrap();
    assert_eq!(call().await.status, 202);
    fs::write(&tokens, "short").unwrap();
    let answer = call().await;
    assert_eq!(answer.status, 500);
    assert!(
        !answer.text().contains("tokens"),
        "no path of ours: {}",
        answer.text()
    );
}

#[tokio::test]
async fn bodies_and_calls_are_bounded() {
    let upstream = Upstream::start().await;
    let case = hooked(&upstream, |config| {
        config.hooks.max_body = ByteSize::b(1000);
        config.hooks.body_timeout = Period::secs(1);
        config.hooks.at_once = 1;
        config.hooks.per_minute = 1;
    })
    .await;
    let large = format!("{OURS}{}", " ".repeat(1000));
    let authorization = format!("Bearer {TOKEN}");
    let fields = [("authorization", authorization.as_str())];
    let answer = post(case.address(), &fields, large.clone()).await;
    assert_eq!(
        (answer.status, answer.header("modcdn-reason")),
        (413, "body-too-large")
    );
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n");
    for (rest, status) in [
        // Chunked: too large only as it comes.
        (
            format!(
                "transfer-encoding: chunked\r\n\r\n400\r\n{}",
                "x".repeat(1024)
            ),
            "413",
        ),
        // Never comes.
        ("content-length: 500\r\n\r\n{".to_owned(), "408"),
    ] {
        let mut stream = TcpStream::connect(case.address()).await.unwrap();
        stream
            .write_all(format!("{head}{rest}").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], status.as_bytes());
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(post(case.address(), &fields, OURS).await.status);
    }
    assert_eq!(statuses, [202, 429, 429, 429]);
}

#[tokio::test]
async fn while_one_body_is_read_others_are_turned_away() {
    let upstream = Upstream::start().await;
    let case = hooked(&upstream, |config| config.hooks.at_once = 1).await;
    let authorization = format!("Bearer {TOKEN}");
    let mut slow = TcpStream::connect(case.address()).await.unwrap();
    let head = format!(
        "POST {HOOK} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-length: {}\r\n\r\n",
        OURS.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let fields = [("authorization", authorization.as_str())];
    let mut answer = post(case.address(), &fields, OURS).await;
    while answer.status != 503 {
        answer = post(case.address(), &fields, OURS).await;
    }
    assert_eq!(answer.header("modcdn-reason"), "overloaded");
    slow.write_all(OURS.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    slow.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin[9..], b"202");
}

#[tokio::test]
async fn what_changes_is_tagged_for_the_edges() {
    let upstream = Upstream::start().await;
    upstream.on_text(LIST, "v1.0.0\n");
    upstream.on_text(
        "/github.com/!acme/lib/@v/v1.0.0.mod",
        "module github.com/Acme/lib\n",
    );
    let case = hooked(&upstream, |_| ()).await;
    let tags = "changes:/github.com/!acme/lib,changes:/github.com,changes:/github.com/!acme";
    assert_eq!(case.get(LIST).await.header("cache-tag"), tags);
    let absent = case.get("/github.com/!acme/lib/@v/v1.9.0.mod").await;
    assert_eq!((absent.status, absent.header("cache-tag")), (404, tags));
    let file = case.get("/github.com/!acme/lib/@v/v1.0.0.mod").await;
    assert_eq!((file.status, file.header("cache-tag")), (200, ""));
}
