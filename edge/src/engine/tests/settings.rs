//! Settings that change while the engine runs.

use super::*;
use crate::engine::purge::{Mode, Purge, Selector};

impl Rig {
    /// Goes by a changed configuration from now on.
    fn adopt(&self, change: impl FnOnce(&mut EngineConfig), origin: Option<Arc<dyn Origin>>) {
        let mut config = self.config.clone();
        change(&mut config);
        self.engine.adopt(config, origin);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_ends_with_the_origin_that_it_asked_and_the_next_asks_the_new_one() {
    let rig = Rig::new();
    let body = bytes(300_000);
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(ZIP, reply);
    feed.bytes(&body.slice(..200_000));
    let answer = rig.get(ZIP).await;
    let new = Arc::new(Script::default());
    rig.adopt(|config| config.fill.resumes = 0, Some(new.clone()));
    // The old origin breaks off: the fill has its tries still, and asks where it asked before.
    feed.break_off();
    let etag = Sha256::of(&body).etag();
    let (rest, feed) = Reply::fed(
        206,
        &[
            (http::header::CONTENT_RANGE, "bytes 200000-299999/300000"),
            (ETAG, etag.to_str().unwrap()),
        ],
    );
    rig.origin.will(ZIP, rest);
    feed.bytes(&body.slice(200_000..));
    feed.end();
    assert_eq!(read(answer.body).await.unwrap(), body);
    assert_eq!((rig.origin.asked(), new.asked()), (2, 0));
    new.will(INFO, Reply::stored(&bytes(300), IMMUTABLE));
    assert_eq!(rig.got(INFO).await.0, 200);
    assert_eq!((rig.origin.asked(), new.asked()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_replaced_goes_with_its_last_user() {
    let rig = Rig::new();
    let old = Arc::new(Script::default());
    rig.adopt(|_| {}, Some(old.clone()));
    let (reply, feed) = Reply::described(&bytes(300_000));
    old.will(ZIP, reply);
    feed.bytes(&bytes(300_000));
    let answer = rig.get(ZIP).await;
    rig.adopt(|_| {}, Some(rig.origin.clone()));
    assert!(Arc::strong_count(&old) > 1, "the fill has it");
    feed.end();
    read(answer.body).await.unwrap();
    rig.settle().await;
    while Arc::strong_count(&old) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_answers_are_judged_by_the_new_bounds() {
    let rig = Rig::new();
    let list = Bytes::from_static(b"v1.0.0\n");
    rig.origin.will(LIST, Reply::stored(&list, MUTABLE));
    rig.origin
        .will(ZIP, Reply::error(404, MUTABLE, "not-found"));
    rig.got(LIST).await;
    rig.got(ZIP).await;
    rig.advance(20).await;
    assert_eq!(rig.got(LIST).await.1, "eu; hit; ttl=40");
    assert_eq!(rig.got(ZIP).await.1, "eu; hit; ttl=40");
    rig.adopt(
        |config| {
            config.freshness.max = Period::secs(30);
            config.freshness.negative = Period::secs(25);
        },
        None,
    );
    assert_eq!(rig.got(LIST).await.1, "eu; hit; ttl=10");
    assert_eq!(rig.got(ZIP).await.1, "eu; hit; ttl=5");
    rig.adopt(|_| {}, None);
    assert_eq!(rig.got(LIST).await.1, "eu; hit; ttl=40");
    assert_eq!(rig.got(ZIP).await.1, "eu; hit; ttl=40");
    assert_eq!(rig.origin.asked(), 2);
    rig.engine.store.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_fills_and_purges_hold_at_once() {
    let rig = Rig::new();
    rig.adopt(
        |config| {
            config.fill.body = ByteSize::kib(1);
            config.fill.memory = ByteSize::b(7);
            config.fill.failed_memory = Period::secs(1);
            config.purge.bans = 1;
            config.purge.token_file = Some("tokens".into());
        },
        None,
    );
    rig.origin.will(ZIP, Reply::stored(&bytes(2000), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.0, 502);
    let again = rig.got(ZIP).await;
    assert!(again.1.contains("failed-recently"), "{}", again.1);
    assert_eq!(rig.origin.asked(), 1);
    assert!(!rig.engine.memory.try_reserve(8));
    assert_eq!(rig.engine.purge_token_file(), Some("tokens".into()));
    let purge = |module: &str| Purge {
        selector: Selector::Key(module.into()),
        mode: Mode::Hard,
    };
    rig.engine.purge(purge("/a/@v/list")).await.unwrap();
    assert!(rig.engine.purge(purge("/b/@v/list")).await.is_err());
    rig.adopt(|config| config.purge.bans = 2, None);
    rig.engine.purge(purge("/b/@v/list")).await.unwrap();
}
