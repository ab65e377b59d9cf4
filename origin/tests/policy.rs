//! A policy as its users meet it.

mod harness;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{Answer, Case, Reply, Upstream, config};
use modcdn_core::digest::Sha256;
use modcdn_core::purge::log::{News, Page, Position};
use modcdn_origin::config::Policy;
use modcdn_origin::{Config, Origin};

const LIST: &str = "/a.example/m/@v/list";
const LATEST: &str = "/a.example/m/@latest";
const EDGE: &str = "edge-0123456789abcd";

fn at(version: &str, file: &str) -> String {
    format!("/a.example/m/@v/{version}.{file}")
}

fn policy(text: &str) -> Policy {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn set(text: &str) -> impl FnOnce(&mut Config) {
    let policy = policy(text);
    move |config| {
        config.mounts[0].policy = policy;
        // Several looks at a list must see it change.
        config.freshness.mutable = Duration::ZERO.into();
        config.freshness.stale_while_revalidate = Duration::ZERO.into();
    }
}

/// An upstream with these versions of `a.example/m`.
async fn upstream(versions: &[&str]) -> Upstream {
    let upstream = Upstream::start().await;
    publish(&upstream, versions);
    upstream
}

fn publish(upstream: &Upstream, versions: &[&str]) {
    let leaked = |text: String| -> &'static str { text.leak() };
    upstream.only(LIST, Reply::Status(200, leaked(versions.join("\n"))));
    for version in versions {
        let info = leaked(format!("{{\"Version\":\"{version}\"}}"));
        upstream.only(&at(version, "info"), Reply::Status(200, info));
        let go_mod = "module a.example/m\n";
        upstream.only(&at(version, "mod"), Reply::Status(200, go_mod));
    }
    let latest = versions.last().unwrap();
    let latest = leaked(format!("{{\"Version\":\"{latest}\"}}"));
    upstream.only(LATEST, Reply::Status(200, latest));
}

async fn case(upstream: &Upstream, policy: &str) -> Case {
    Case::with(&upstream.url(), set(policy)).await
}

fn is_refused(answer: &Answer, reason: &str) -> String {
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(answer.header("modcdn-reason"), reason);
    assert_eq!(answer.header("cache-control"), "no-store");
    let text = answer.text().to_owned();
    assert!(text.len() <= 648 && text.lines().count() <= 8, "{text}");
    text
}

#[tokio::test]
async fn a_denied_version_is_not_given_out_nor_asked_for() {
    let upstream = upstream(&["v1.0.0", "v1.1.0", "v1.2.0"]).await;
    let rules = "rules: [{deny: a.example/m, versions: '>=v1.1.0', reason: reads any file}]";
    let case = case(&upstream, rules).await;
    for file in ["info", "zip"] {
        let path = at("v1.1.0", file);
        let text = is_refused(&case.get(&path).await, "policy-denied");
        let rule = "rule 1 of this proxy's policy (deny a.example/m >=v1.1.0)\nreads any file\n";
        assert!(text.contains(rule), "{text}");
        assert!(text.contains("hint: go get a.example/m@v1.0.0 "), "{text}");
        assert_eq!(upstream.asked(&path), 0);
    }
    // Builds read go.mod files of versions that they never use.
    let go_mod = case.get(&at("v1.1.0", "mod")).await;
    assert_eq!(go_mod.text(), "module a.example/m\n");
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
    assert_eq!(case.get(LATEST).await.text(), "{\"Version\":\"v1.0.0\"}");
    assert_eq!(case.get(&at("v1.0.0", "info")).await.status, 200);
    let refused = case.metric(
        "modcdn_origin_refusals_total",
        &[("reason", "policy-denied")],
    );
    assert_eq!(refused, 2.0);
}

#[tokio::test]
async fn a_module_that_is_denied_as_a_whole_is_never_asked_for() {
    let upstream = upstream(&["v1.0.0"]).await;
    let case = case(
        &upstream,
        "rules: [{deny: a.example, reason: no, mod: true}]",
    )
    .await;
    for file in ["info", "mod", "zip"] {
        let path = at("v1.0.0", file);
        let text = is_refused(&case.get(&path).await, "policy-denied");
        assert!(text.contains("no version of it is allowed"), "{text}");
        assert_eq!(upstream.asked(&path), 0);
    }
    assert_eq!(upstream.asked(LIST), 0);
    assert_eq!(case.get(LIST).await.text(), "");
    let text = is_refused(&case.get(LATEST).await, "policy-denied");
    assert!(text.contains("m@latest, which is v1.0.0"), "{text}");
}

#[tokio::test]
async fn where_no_rule_allows_nothing_is_given_out() {
    let upstream = upstream(&["v1.0.0", "v1.1.0"]).await;
    let policy = "{default: deny, rules: [{allow: a.example/m, versions: <v1.1.0}]}";
    let case = case(&upstream, policy).await;
    assert_eq!(case.get(&at("v1.0.0", "info")).await.status, 200);
    let refused = case.get(&at("v1.1.0", "info")).await;
    let text = is_refused(&refused, "policy-not-allowed");
    assert!(text.contains("go get a.example/m@v1.0.0"), "{text}");
    let other = case.get("/b.example/n/@v/v1.0.0.zip").await;
    is_refused(&other, "policy-not-allowed");
    assert_eq!(upstream.asked("/b.example/n/@v/list"), 0);
}

#[tokio::test]
async fn a_branch_whose_version_is_denied_is_refused() {
    let upstream = upstream(&["v1.0.0"]).await;
    let main = "/a.example/m/@v/main.info";
    let pseudo = "{\"Version\":\"v1.0.1-0.20260101000000-abcdefabcdef\"}";
    upstream.on_text(main, pseudo);
    let case = case(
        &upstream,
        "rules: [{deny: a.example, versions: '>v1.0.0', reason: only releases}]",
    )
    .await;
    let text = is_refused(&case.get(main).await, "policy-denied");
    assert!(text.contains("m@main, which is v1.0.1-0."), "{text}");
    assert!(text.contains("go get a.example/m@v1.0.0"), "{text}");
}

/// Writes down that versions were seen so many days ago.
fn seen(dir: &Path, days: u64, versions: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now.as_secs() - days * 24 * 3600;
    let text = format!("v {then} list /a.example/m {versions}");
    let digest = Sha256::of(text.as_bytes()).to_string();
    let path = dir.join(".sight/log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{} {text}\n", &digest[..16])).unwrap();
}

#[tokio::test]
async fn a_version_cools_down_from_our_own_first_sight() {
    let upstream = upstream(&["v1.0.0", "v1.1.0", "v1.2.0"]).await;
    let dir = tempfile::tempdir().unwrap();
    seen(dir.path(), 8, "v1.0.0 v1.1.0");
    let start = async |dir: &Path| {
        let mut config = config(dir, &upstream.url());
        set("min_age: 7days")(&mut config);
        Origin::start(config).await.unwrap()
    };
    let origin = start(dir.path()).await;
    let case = Case { dir, origin };
    assert_eq!(case.get(&at("v1.1.0", "info")).await.status, 200);
    let young = case.get(&at("v1.2.0", "info")).await;
    let text = is_refused(&young, "policy-cool-down");
    assert!(
        text.contains("asks for 7days") && text.contains("go get a.example/m@v1.1.0"),
        "{text}"
    );
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
    assert_eq!(case.get(LATEST).await.text(), "{\"Version\":\"v1.1.0\"}");
    // What no list names is seen when somebody asks for it.
    let pseudo = "v1.2.1-0.20260101000000-abcdefabcdef";
    upstream.on(
        &at(pseudo, "info"),
        Reply::Status(200, format!("{{\"Version\":\"{pseudo}\"}}").leak()),
    );
    let text = is_refused(&case.get(&at(pseudo, "info")).await, "policy-cool-down");
    assert!(
        text.contains("first seen here less than a minute ago"),
        "{text}"
    );

    // First sights outlive a restart.
    let Case { dir, origin } = case;
    origin.stop().await;
    let log = fs::read_to_string(dir.path().join(".sight/log")).unwrap();
    assert!(log.contains(" info /a.example/m v1.2.0\n"), "{log}");
    assert!(
        log.contains(&format!(" info /a.example/m {pseudo}\n")),
        "{log}"
    );
}

#[tokio::test]
async fn what_is_excepted_or_ruled_need_not_cool_down() {
    let upstream = upstream(&["v1.0.0", "v1.1.0"]).await;
    let ruled = "{min_age: 7days, rules: [{allow: a.example/m, versions: v1.1.0, min_age: 0s}]}";
    let case = case(&upstream, ruled).await;
    assert_eq!(case.get(LIST).await.text(), "v1.1.0\n");
    let upstream = self::upstream(&["v1.0.0"]).await;
    let excepted = "{min_age: 7days, min_age_except: a.example}";
    let case = self::case(&upstream, excepted).await;
    assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
}

const RETRACTS: &str = "// Deprecated: use a.example/n\nmodule a.example/m\n\n\
    retract v1.1.0 // loses data\n";

#[tokio::test]
async fn what_an_author_took_back_is_refused_or_told() {
    let upstream = upstream(&["v1.0.0", "v1.1.0", "v1.2.0"]).await;
    upstream.only(&at("v1.2.0", "mod"), Reply::Status(200, RETRACTS));
    let denies = case(&upstream, "retracted: deny").await;
    let retracted = denies.get(&at("v1.1.0", "info")).await;
    let text = is_refused(&retracted, "policy-retracted");
    assert!(text.contains("\nloses data\n"), "{text}");
    assert_eq!(denies.get(LIST).await.text(), "v1.0.0\nv1.2.0\n");
    assert_eq!(denies.get(&at("v1.0.0", "info")).await.status, 200);

    let warns = case(&upstream, "{retracted: warn, deprecated: warn}").await;
    let answer = warns.get(&at("v1.1.0", "info")).await;
    assert_eq!(answer.header("modcdn-notice"), "retracted, deprecated");
    let answer = warns.get(&at("v1.0.0", "info")).await;
    assert_eq!(answer.header("modcdn-notice"), "deprecated");
    let counted =
        |notice| warns.metric("modcdn_origin_policy_notices_total", &[("notice", notice)]);
    assert_eq!((counted("retracted"), counted("deprecated")), (1.0, 2.0));

    let given_up = case(&upstream, "deprecated: deny").await;
    let answer = given_up.get(&at("v1.0.0", "info")).await;
    let text = is_refused(&answer, "policy-deprecated");
    assert!(text.contains("use a.example/n"), "{text}");
}

#[tokio::test]
async fn an_author_who_cannot_be_heard_stops_nobody() {
    let upstream = Upstream::start().await;
    upstream.on(LIST, Reply::Status(500, "down"));
    upstream.on(LATEST, Reply::Status(500, "down"));
    upstream.on_text(&at("v1.0.0", "info"), "{\"Version\":\"v1.0.0\"}");
    let case = case(&upstream, "{retracted: deny, deprecated: deny}").await;
    assert_eq!(case.get(&at("v1.0.0", "info")).await.status, 200);
    let unknown = [("fact", "notices")];
    assert!(case.metric("modcdn_origin_policy_unknown_total", &unknown) > 0.0);
}

/// An origin whose purge log can be read, and what edges hear from it.
struct Logged(Case);

impl Logged {
    async fn new(upstream: &Upstream, policy: &str, tokens: &tempfile::TempDir) -> Self {
        let tokens = tokens.path().join("edges");
        fs::write(&tokens, EDGE).unwrap();
        let set = set(policy);
        let opened = move |config: &mut Config| {
            set(config);
            config.purges.edges = Some(tokens);
        };
        Self(Case::with(&upstream.url(), opened).await)
    }

    async fn page(&self, since: &str) -> Page {
        let token = format!("Bearer {EDGE}");
        let path = format!("/-/purges{since}");
        let answer = self.0.get_with(&path, &[("authorization", &token)]).await;
        Page::parse(answer.text()).unwrap()
    }

    async fn end(&self) -> Position {
        let head = self.page("").await.head;
        Position {
            epoch: head.epoch,
            seq: head.last,
        }
    }

    async fn purges_since(&self, position: Position) -> Vec<String> {
        let page = self.page(&format!("?since={position}")).await;
        let News::Purges(entries) = page.news(Some(position)) else {
            panic!("the log is another one")
        };
        let said =
            |purge: &modcdn_core::purge::Purge| format!("{} {}", purge.mode.name(), purge.selector);
        entries.iter().map(|entry| said(&entry.purge)).collect()
    }
}

#[tokio::test]
async fn a_reload_takes_effect_at_once_and_is_told_to_edges() {
    let upstream = upstream(&["v1.0.0", "v1.1.0"]).await;
    let tokens = tempfile::tempdir().unwrap();
    let mut logged = Logged::new(&upstream, "{}", &tokens).await;
    let start = logged.end().await;
    assert_eq!(logged.0.get(&at("v1.1.0", "info")).await.status, 200);

    let file = |text: &str, config: &Config| {
        let mut config = config.clone();
        config.mounts[0].policy = policy(text);
        config
    };
    let mut base = config(logged.0.dir.path(), &upstream.url());
    set("{}")(&mut base);
    base.purges.edges = Some(tokens.path().join("edges"));
    let denies = file(
        "rules: [{deny: a.example/m, versions: v1.1.0, reason: broken}]",
        &base,
    );
    logged
        .0
        .origin
        .reload(&|| Ok(denies.clone()))
        .await
        .unwrap();
    is_refused(&logged.0.get(&at("v1.1.0", "info")).await, "policy-denied");
    assert_eq!(logged.0.get(LIST).await.text(), "v1.0.0\n");
    let told = logged.purges_since(start).await;
    assert_eq!(told, ["hard prefix /a.example/m"]);

    // A file that is wrong, or changes more, changes nothing.
    let wrong = || {
        modcdn_core::config::parse(
            "origin.yaml",
            "mounts:\n- policy:\n    rules:\n    - deny: a.b\n",
        )
    };
    let error = logged
        .0
        .origin
        .reload(&wrong)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("origin.yaml:4:") && error.contains("says why"),
        "{error}"
    );
    let mut more = file("{}", &base);
    more.limits.fetches = 1;
    let error = logged
        .0
        .origin
        .reload(&|| Ok(more.clone()))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("limits.fetches: needs a restart"),
        "{error}"
    );
    is_refused(&logged.0.get(&at("v1.1.0", "info")).await, "policy-denied");
    assert_eq!(logged.purges_since(start).await.len(), 1);
    let reloads = |outcome| {
        let labels = [("outcome", outcome)];
        logged.0.metric("modcdn_origin_reloads_total", &labels)
    };
    assert_eq!((reloads("ok"), reloads("refused")), (1.0, 2.0));

    // A restart with another policy is told as well.
    let Case { dir, origin } = logged.0;
    origin.stop().await;
    let origin = Origin::start(base).await.unwrap();
    let logged = Logged(Case { dir, origin });
    let told = logged.purges_since(start).await;
    assert_eq!(told.last().unwrap(), "soft prefix /a.example/m");
    assert_eq!(logged.0.get(&at("v1.1.0", "info")).await.status, 200);
}

#[tokio::test]
async fn a_new_retraction_is_told_to_edges() {
    let upstream = upstream(&["v1.0.0", "v1.1.0"]).await;
    let tokens = tempfile::tempdir().unwrap();
    let logged = Logged::new(&upstream, "retracted: deny", &tokens).await;
    let start = logged.end().await;
    assert_eq!(logged.0.get(LIST).await.text(), "v1.0.0\nv1.1.0\n");
    assert!(logged.purges_since(start).await.is_empty());
    publish(&upstream, &["v1.0.0", "v1.1.0", "v1.2.0"]);
    upstream.only(&at("v1.2.0", "mod"), Reply::Status(200, RETRACTS));
    assert_eq!(logged.0.get(LIST).await.text(), "v1.0.0\nv1.2.0\n");
    assert_eq!(
        logged.purges_since(start).await,
        ["soft module a.example/m in /"]
    );
}
