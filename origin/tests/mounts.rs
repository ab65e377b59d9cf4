//! Several mounts in one origin.

mod harness;

use std::fs;

use harness::{Case, Reply, Upstream, config, mount};
use modcdn_origin::{Config, Origin};

const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const LIST: &str = "/a.example/m/@v/list";

/// An origin with `/` and `/team-a/`, each with an upstream of its own.
async fn two() -> (Upstream, Upstream, Case) {
    let (all, team) = (Upstream::start().await, Upstream::start().await);
    let more = |config: &mut Config| config.mounts.push(mount("/team-a/", &team.url()));
    let case = Case::with(&all.url(), more).await;
    (all, team, case)
}

#[tokio::test]
async fn the_same_module_is_another_one_in_another_mount() {
    let (all, team, case) = two().await;
    all.on_text(MOD, "module a.example/m // all\n");
    team.on_text(MOD, "module a.example/m // team\n");
    for _ in 0..2 {
        assert_eq!(case.get(MOD).await.text(), "module a.example/m // all\n");
        let team = case.get(&format!("/team-a{MOD}")).await;
        assert_eq!(team.text(), "module a.example/m // team\n");
    }
    assert_eq!((all.asked(MOD), team.asked(MOD)), (1, 1));
    let team_mod = format!("team-a{MOD}");
    case.has(&MOD[1..]).await;
    case.has(&team_mod).await;
    let stored = |place: &str| fs::read_to_string(case.dir.path().join(place)).unwrap();
    assert!(stored(&MOD[1..]).ends_with("all\n"));
    assert!(stored(&team_mod).ends_with("team\n"));
}

#[tokio::test]
async fn answers_that_may_change_and_absence_are_a_mounts_own() {
    let (all, team, case) = two().await;
    all.on_text(LIST, "v1.0.0\n");
    team.on(LIST, Reply::Status(404, "not here"));
    for _ in 0..2 {
        assert_eq!(case.get(LIST).await.text(), "v1.0.0\n");
        assert_eq!(case.get(&format!("/team-a{LIST}")).await.status, 404);
    }
    assert_eq!((all.asked(LIST), team.asked(LIST)), (1, 1));
}

#[tokio::test]
async fn a_mount_and_an_upstream_with_base_paths_go_together() {
    let upstream = Upstream::start().await;
    upstream.on_text("/base/go/a.example/m/@v/list", "v1.0.0\n");
    for base in ["/base/go", "/base/go/"] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), "off");
        let base = format!("{}{base}", upstream.url());
        config.mounts = vec![mount("/eu/team-a/", &base)];
        let origin = Origin::start(config).await.unwrap();
        let case = Case { dir, origin };
        let list = case.get(&format!("/eu/team-a{LIST}")).await;
        assert_eq!(list.text(), "v1.0.0\n");
    }
}

#[tokio::test]
async fn a_path_outside_all_mounts_is_a_400_that_names_them() {
    let only_team = |config: &mut Config| config.mounts = vec![mount("/team-a/", "off")];
    let case = Case::with("off", only_team).await;
    for path in [
        LIST,
        "/team-ab/a.example/m/@v/list",
        "/team-a",
        "/%74eam-a/a.example/m/@v/list",
    ] {
        let answer = case.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.header("modcdn-reason"), "bad-request");
        assert!(answer.text().contains("/team-a/"), "{}", answer.text());
    }
    assert_eq!(case.get("/-/healthz").await.status, 200);
    assert_eq!(case.get("/-/nothing").await.status, 404);
}
