//! The follower, with an origin and an engine that do as they are told.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use modcdn_core::purge::log::{Epoch, Head};
use parking_lot::Mutex;
use prometheus::Registry;

use super::*;
use crate::origin::{OriginBody, OriginError};

/// What the origin has, and what the engine did.
#[derive(Default)]
struct World {
    /// Answers of the origin, first come first served; then it is down.
    answers: VecDeque<(StatusCode, String)>,
    asked: Vec<(String, Option<String>)>,
    purged: Vec<String>,
    /// As many purges are refused.
    full: usize,
    unwritten: bool,
}

#[derive(Clone, Default)]
struct Scene(Arc<Mutex<World>>);

struct Whole(Option<Bytes>);

#[async_trait]
impl OriginBody for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        Ok(self.0.take())
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        Ok(None)
    }
}

#[async_trait]
impl Origin for Scene {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let mut world = self.0.lock();
        let token = request.authorization.as_ref();
        let token = token.map(|value| value.to_str().unwrap().to_owned());
        world.asked.push((request.path, token));
        let Some((status, text)) = world.answers.pop_front() else {
            let why = "nobody there".to_owned();
            return Err(OriginError::Broken { why });
        };
        Ok(OriginResponse {
            status,
            headers: HeaderMap::new(),
            body: Box::new(Whole(Some(text.into()))),
        })
    }
}

#[async_trait]
impl Follows for Scene {
    fn origin(&self) -> Arc<dyn Origin> {
        Arc::new(self.clone())
    }

    async fn purge(&self, purge: Purge) -> Result<Purged, NotPurged> {
        let mut world = self.0.lock();
        if world.full > 0 {
            world.full -= 1;
            return Err(NotPurged::Failed("full".to_owned()));
        }
        let shown = format!("{} {}", purge.mode.name(), purge.selector);
        world.purged.push(shown);
        Ok(Purged {
            epoch: world.purged.len() as u64,
            fills: 0,
            durable: !world.unwritten,
        })
    }

    fn all_written(&self) -> bool {
        !self.0.lock().unwritten
    }
}

/// A follower of a scripted log.
struct Rig {
    dir: tempfile::TempDir,
    scene: Scene,
    registry: Registry,
    follower: Follower<Scene>,
}

fn epoch(n: u64) -> Epoch {
    format!("{n:016x}").parse().unwrap()
}

fn page(epoch_of: u64, entries: std::ops::RangeInclusive<u64>, last: u64) -> (StatusCode, String) {
    let more = *entries.end() < last;
    let entry = |seq| Entry {
        seq,
        at: 0,
        purge: Purge {
            selector: Selector::module(&format!("a.b/m{seq}")).unwrap(),
            mode: Mode::Hard,
        },
    };
    let head = Head {
        epoch: epoch(epoch_of),
        last,
        reset: false,
        more,
    };
    let entries = entries.map(entry).collect();
    (StatusCode::OK, Page { head, entries }.to_lines())
}

fn reset(epoch_of: u64, last: u64) -> (StatusCode, String) {
    let head = Head {
        epoch: epoch(epoch_of),
        last,
        reset: true,
        more: false,
    };
    let entries = Vec::new();
    (StatusCode::OK, Page { head, entries }.to_lines())
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "0123456789abcdef\n").unwrap();
        Self::within(dir, Scene::default()).await
    }

    async fn within(dir: tempfile::TempDir, scene: Scene) -> Self {
        let registry = Registry::new();
        let settings = Settings {
            token_file: Some(dir.path().join("token")),
            interval: Duration::from_secs(5),
        };
        let mut follower = Follower::new(
            scene.clone(),
            Arc::new(ArcSwap::from_pointee(settings)),
            dir.path(),
            FollowMetrics::new(&registry),
        );
        follower.begin().await;
        Self {
            dir,
            scene,
            registry,
            follower,
        }
    }

    async fn restarted(self) -> Self {
        Self::within(self.dir, self.scene).await
    }

    async fn step(&mut self, answer: Option<(StatusCode, String)>) -> bool {
        self.scene.0.lock().answers.extend(answer);
        let token_file = self.dir.path().join("token");
        self.follower.step(token_file).await
    }

    /// What was purged since this was last asked.
    fn purged(&self) -> Vec<String> {
        std::mem::take(&mut self.scene.0.lock().purged)
    }

    fn asked(&self) -> String {
        let (path, token) = self.scene.0.lock().asked.last().cloned().unwrap();
        assert_eq!(token.as_deref(), Some("Bearer 0123456789abcdef"));
        path
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(prometheus::proto::MetricFamily::get_metric);
        let value = |metric: &prometheus::proto::Metric| {
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        metrics.unwrap_or_default().iter().map(value).sum()
    }
}

#[tokio::test]
async fn purges_are_carried_out_in_order_and_never_again() {
    let mut rig = Rig::new().await;
    assert!(!rig.step(Some(reset(7, 3))).await);
    assert_eq!(rig.asked(), "/-/purges");
    assert_eq!(rig.purged(), ["soft all"]);
    assert!(!rig.step(Some(page(7, 4..=5, 5))).await);
    assert_eq!(rig.asked(), "/-/purges?since=0000000000000007:3");
    assert_eq!(rig.purged(), ["hard module a.b/m4", "hard module a.b/m5"]);
    // As far as that it never has to ask again.
    let mut rig = rig.restarted().await;
    assert!(rig.step(Some(page(7, 6..=6, 9))).await, "there is more");
    assert_eq!(rig.asked(), "/-/purges?since=0000000000000007:5");
    assert_eq!(rig.metric("modcdn_edge_purge_log_behind"), 3.0);
    assert_eq!(
        rig.metric("modcdn_edge_purge_log_confirmed_timestamp_seconds"),
        0.0
    );
    assert!(!rig.step(Some(page(7, 7..=9, 9))).await);
    assert_eq!(rig.purged().len(), 4);
    assert_eq!(rig.metric("modcdn_edge_purge_log_behind"), 0.0);
    assert_eq!(rig.metric("modcdn_edge_purge_log_sequence"), 9.0);
    assert_eq!(rig.metric("modcdn_edge_purge_log_entries_total"), 4.0);
    assert!(rig.metric("modcdn_edge_purge_log_confirmed_timestamp_seconds") > 0.0);
}

#[tokio::test]
async fn a_lost_log_and_a_gap_are_a_reset() {
    let mut rig = Rig::new().await;
    rig.step(Some(reset(7, 3))).await;
    rig.purged();
    for (answer, place) in [
        (reset(8, 1), "0000000000000008:1"),
        (page(9, 2..=2, 2), "0000000000000009:2"),
        (page(9, 5..=5, 5), "0000000000000009:5"),
    ] {
        rig.step(Some(answer)).await;
        assert_eq!(rig.purged(), ["soft all"]);
        let saved = std::fs::read_to_string(rig.dir.path().join("purges.position"));
        assert_eq!(saved.unwrap().trim_end(), place);
    }
    assert_eq!(rig.metric("modcdn_edge_purge_log_resets_total"), 4.0);
    // A place that can't be read is none.
    std::fs::write(rig.dir.path().join("purges.position"), "torn").unwrap();
    let mut rig = rig.restarted().await;
    rig.step(Some(reset(9, 5))).await;
    assert_eq!(rig.asked(), "/-/purges");
    assert_eq!(rig.purged(), ["soft all"]);
}

#[tokio::test]
async fn whatever_goes_wrong_is_tried_again() {
    let mut rig = Rig::new().await;
    rig.step(Some(reset(7, 3))).await;
    rig.purged();
    let refused = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        Some((status, "no\nreason: x\n".to_owned()))
    };
    let not_a_log = Some((StatusCode::OK, "<html>".to_owned()));
    let long = Some((StatusCode::OK, "x".repeat(MAX_PAGE + 1)));
    for answer in [
        None,
        refused(401),
        refused(403),
        refused(503),
        not_a_log,
        long,
    ] {
        assert!(!rig.step(answer).await);
    }
    assert!(rig.purged().is_empty());
    assert_eq!(rig.metric("modcdn_edge_purge_log_failures_total"), 6.0);
    let token = rig.dir.path().join("token");
    std::fs::rename(&token, rig.dir.path().join("away")).unwrap();
    rig.step(None).await;
    std::fs::rename(rig.dir.path().join("away"), &token).unwrap();
    assert_eq!(rig.metric("modcdn_edge_purge_log_failures_total"), 7.0);
    rig.step(Some(page(7, 4..=4, 4))).await;
    assert_eq!(rig.asked(), "/-/purges?since=0000000000000007:3");
    assert_eq!(rig.purged(), ["hard module a.b/m4"]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_purged_holds_up_those_behind_it() {
    let mut rig = Rig::new().await;
    rig.step(Some(reset(7, 3))).await;
    rig.purged();
    rig.scene.0.lock().full = 1;
    rig.step(Some(page(7, 4..=6, 6))).await;
    assert!(rig.purged().is_empty());
    rig.step(Some(page(7, 4..=6, 6))).await;
    assert_eq!(rig.asked(), "/-/purges?since=0000000000000007:3");
    assert_eq!(rig.purged().len(), 3);
}

#[tokio::test]
async fn a_place_is_written_down_only_after_its_purges_are() {
    let mut rig = Rig::new().await;
    rig.step(Some(reset(7, 3))).await;
    rig.scene.0.lock().unwritten = true;
    rig.step(Some(page(7, 4..=4, 4))).await;
    let rig = rig.restarted().await;
    assert_eq!(rig.follower.known.unwrap().seq, 3, "a crash would lose it");
    rig.scene.0.lock().unwritten = false;
    let mut rig = rig.restarted().await;
    rig.step(Some(page(7, 4..=4, 4))).await;
    let rig = rig.restarted().await;
    assert_eq!(rig.follower.known.unwrap().seq, 4);
}

#[test]
fn without_a_token_or_an_interval_nothing_is_followed() {
    let config = OriginConfig::default();
    assert_eq!(Settings::of(&config).token_file(), None);
    let with_token = OriginConfig {
        token_file: Some("t".into()),
        ..config
    };
    let mut settings = Settings::of(&with_token);
    assert_eq!(settings.token_file(), Some("t".into()));
    settings.interval = Duration::ZERO;
    assert_eq!(settings.token_file(), None);
    let five = Duration::from_secs(5);
    assert!(pause(five) <= five && pause(five) > five / 2);
}
