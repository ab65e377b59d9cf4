//! What is fetched beside what is asked for.

mod harness;

use harness::zip::zip_of;
use harness::{Case, Reply, Upstream, until};

const INFO: &str = "/a.example/m/@v/v1.0.0.info";
const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";

async fn upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.on_text(
        INFO,
        r#"{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}"#,
    );
    upstream.on_text(MOD, "module a.example/m\n");
    upstream.on(ZIP, Reply::Body(zip_of(ZIP, 10_000), vec![]));
    upstream
}

async fn case(upstream: &Upstream, ahead: usize) -> Case {
    Case::with(&upstream.url(), |config| config.limits.ahead = ahead).await
}

#[tokio::test]
async fn a_versions_small_bodies_come_beside_what_is_asked_of_it() {
    for (asked, beside) in [
        (INFO, [MOD].as_slice()),
        (MOD, &[INFO]),
        (ZIP, &[INFO, MOD]),
    ] {
        let upstream = upstream().await;
        let case = case(&upstream, 32).await;
        assert_eq!(case.get(asked).await.status, 200);
        let is_stored = |path: &&str| case.dir.path().join(&path[1..]).exists();
        until(|| beside.iter().all(is_stored)).await;
        let all_asked = 1 + beside.len();
        for path in beside {
            assert_eq!(case.get(path).await.status, 200);
            assert_eq!(upstream.asked(path), 1, "{path} beside {asked}");
        }
        assert_eq!(upstream.all_asked(), all_asked, "beside {asked}");
    }
}

#[tokio::test]
async fn nothing_is_fetched_beside_where_the_limit_is_zero() {
    let upstream = upstream().await;
    let case = case(&upstream, 0).await;
    for (path, asked) in [(ZIP, 1), (MOD, 2), (INFO, 3)] {
        assert_eq!(case.get(path).await.status, 200);
        assert_eq!(upstream.all_asked(), asked);
    }
}
