//! The purge log as edges and operators meet it.

mod harness;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use harness::{Case, Reply, Upstream, config};
use modcdn_core::purge::log::{News, Page, Position};
use modcdn_origin::{Config, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OPERATOR: &str = "operator-0123456789";
const EDGE: &str = "edge-0123456789abcd";
const LIST: &str = "/a.example/m/@v/list";

/// An origin with a token for operators and one for edges.
struct Rig {
    tokens: tempfile::TempDir,
    upstream: Upstream,
    case: Case,
}

impl Rig {
    async fn new() -> Self {
        let tokens = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let case = Case::with(&upstream.url(), opened(&tokens)).await;
        Self {
            tokens,
            upstream,
            case,
        }
    }

    async fn restarted(self) -> Self {
        let Case { dir, origin } = self.case;
        origin.stop().await;
        let mut config = config(dir.path(), &self.upstream.url());
        opened(&self.tokens)(&mut config);
        let origin = Origin::start(config).await.unwrap();
        let case = Case { dir, origin };
        Self { case, ..self }
    }

    /// What an edge at a position hears.
    async fn page(&self, since: Option<Position>) -> Page {
        let query = since.map(|since| format!("?since={since}"));
        let path = format!("/-/purges{}", query.unwrap_or_default());
        let token = format!("Bearer {EDGE}");
        let answer = self
            .case
            .get_with(&path, &[("authorization", &token)])
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store");
        Page::parse(answer.text()).unwrap()
    }

    async fn end(&self) -> Position {
        let head = self.page(None).await.head;
        Position {
            epoch: head.epoch,
            seq: head.last,
        }
    }

    async fn purge(&self, body: &str) -> String {
        let answer = post(self.case.origin.admin_address(), OPERATOR, body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    async fn list(&self) -> String {
        self.case.get(LIST).await.text().to_owned()
    }
}

fn opened(tokens: &tempfile::TempDir) -> impl FnOnce(&mut Config) + use<> {
    let file = |name: &str, token: &str| -> Option<PathBuf> {
        let path = tokens.path().join(name);
        fs::write(&path, token).unwrap();
        Some(path)
    };
    let (operators, edges) = (file("operators", OPERATOR), file("edges", EDGE));
    move |config| {
        config.purges.token_file = operators;
        config.purges.edges = edges;
    }
}

async fn post(admin: SocketAddr, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!(
        "POST /-/purges HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_an_operator_purges_an_edge_hears_of_even_after_a_restart() {
    let rig = Rig::new().await;
    let start = rig.end().await;
    let answer = rig.purge(r#"{"module":"a.example/m","mode":"soft"}"#).await;
    let body = format!("{{\"epoch\":\"{}\",\"seq\":1}}\n", start.epoch);
    assert!(answer.ends_with(&body), "{answer}");
    rig.purge(r#"{"prefix":"/b.example"}"#).await;
    assert_eq!(
        rig.case.metric("modcdn_origin_purge_log_sequence", &[]),
        2.0
    );
    let labels = [("selector", "module"), ("mode", "soft")];
    assert_eq!(rig.case.metric("modcdn_origin_purges_total", &labels), 1.0);

    let rig = rig.restarted().await;
    let page = rig.page(Some(start)).await;
    let News::Purges(entries) = page.news(Some(start)) else {
        panic!("the log is another one")
    };
    let shown: Vec<String> = entries
        .iter()
        .map(|e| e.purge.selector.to_string())
        .collect();
    assert_eq!(shown, ["module a.example/m", "prefix /b.example"]);
    assert_eq!(
        rig.case.metric("modcdn_origin_purge_log_sequence", &[]),
        2.0
    );
}

#[tokio::test]
async fn only_edges_read_and_only_operators_write() {
    let rig = Rig::new().await;
    let read = async |headers: &[(&str, &str)]| {
        let answer = rig.case.get_with("/-/purges", headers).await;
        (answer.status, answer.header("modcdn-reason").to_owned())
    };
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(read(&[]).await, unauthorized);
    let operator = format!("Bearer {OPERATOR}");
    assert_eq!(read(&[("authorization", &operator)]).await, unauthorized);
    let admin = rig.case.origin.admin_address();
    let all = r#"{"all":true}"#;
    assert!(post(admin, EDGE, all).await.starts_with("HTTP/1.1 401 "));
    let wrong = post(admin, OPERATOR, r#"{"everything":true}"#).await;
    assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
    let edge = format!("Bearer {EDGE}");
    let bad = [("authorization", edge.as_str())];
    for query in ["?since=7", "?x", "?since=0000000000000000:1&x"] {
        let answer = rig.case.get_with(&format!("/-/purges{query}"), &bad).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(rig.end().await.seq, 0);

    // Without token files nobody does either.
    let closed = Case::start("off").await;
    let answer = closed.get_with("/-/purges", &bad).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("purges.edges"), "{}", answer.text());
    let answer = post(closed.origin.admin_address(), OPERATOR, all).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn the_origin_asks_again_for_what_was_purged() {
    let rig = Rig::new().await;
    rig.upstream.on_text(LIST, "v1.0.0\n");
    assert_eq!(rig.list().await, "v1.0.0\n");
    rig.upstream.only(LIST, Reply::Status(500, "down"));
    assert_eq!(rig.list().await, "v1.0.0\n");
    // Softly: what was known stands in while upstream fails.
    rig.purge(r#"{"module":"a.example/m","mode":"soft"}"#).await;
    assert_eq!(rig.list().await, "v1.0.0\n");
    assert!(rig.upstream.asked(LIST) > 1);
    rig.upstream
        .only(LIST, Reply::Status(200, "v1.0.0\nv1.1.0\n"));
    rig.purge(r#"{"prefix":"/a.example","mode":"hard"}"#).await;
    assert_eq!(rig.list().await, "v1.0.0\nv1.1.0\n");
}

#[tokio::test]
async fn not_found_is_asked_again_too() {
    let rig = Rig::new().await;
    rig.upstream.on(LIST, Reply::Status(404, "no"));
    assert_eq!(rig.case.get(LIST).await.status, 404);
    rig.upstream.only(LIST, Reply::Status(200, "v1.0.0\n"));
    assert_eq!(rig.case.get(LIST).await.status, 404);
    rig.purge(r#"{"module":"a.example/m","mode":"soft"}"#).await;
    assert_eq!(rig.list().await, "v1.0.0\n");
}
