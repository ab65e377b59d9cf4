//! Purges: RAM, disk, restarts, running fills, a dead origin.

use std::path::{Path, PathBuf};

use super::super::purge::{Mode, Purge, Purged, Selector};
use super::*;

const OTHER: &str = "/example.com/other/@v/v1.0.0.zip";
const UPPER: &str = "/example.com/!upper/@v/v1.0.0.mod";
const BIG: usize = 1_000_000;

async fn purge(rig: &Rig, selector: Selector, mode: Mode) -> Purged {
    let purged = rig.engine.purge(Purge { selector, mode }).await.unwrap();
    assert!(purged.durable);
    purged
}

async fn purge_key(rig: &Rig, key: &str, mode: Mode) -> Purged {
    purge(rig, Selector::key(key).unwrap(), mode).await
}

async fn fill(rig: &Rig, path: &str, body: &Bytes) {
    rig.origin.will(path, Reply::stored(body, IMMUTABLE));
    assert_eq!(rig.got(path).await.2, *body);
    rig.settle().await;
}

fn tagged(body: &Bytes, tags: &str) -> Reply {
    let mut reply = Reply::stored(body, IMMUTABLE);
    reply
        .headers
        .insert("cache-tag", HeaderValue::from_str(tags).unwrap());
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_purge_is_a_miss_in_ram_and_on_disk() {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::kib(64));
    for (path, len) in [(INFO, 300), (ZIP, BIG)] {
        fill(&rig, path, &bytes(len)).await;
        purge_key(&rig, path, Mode::Hard).await;
        rig.origin
            .will(path, Reply::stored(&bytes(len + 1), IMMUTABLE));
        let (status, cache, body) = rig.got(path).await;
        assert_eq!(
            (status, cache.as_str()),
            (200, "eu; fwd=uri-miss; stored"),
            "{path}"
        );
        assert_eq!(body, bytes(len + 1));
        rig.settle().await;
        assert!(rig.got(path).await.1.starts_with("eu; hit"), "{path}");
    }
    rig.engine.store.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_does_not_come_back_after_a_kill() {
    let rig = Rig::new();
    fill(&rig, ZIP, &bytes(BIG)).await;
    fill(&rig, INFO, &bytes(300)).await;
    fill(&rig, OTHER, &bytes(400)).await;
    let first = purge_key(&rig, ZIP, Mode::Hard).await;
    purge_key(&rig, INFO, Mode::Soft).await;
    // Not shut down: what a kill -9 leaves.
    let reopened = rig.reopened();
    assert_eq!(reopened.got(ZIP).await.0, 504);
    assert!(reopened.got(OTHER).await.1.starts_with("eu; hit"));
    reopened.origin.will(INFO, Reply::not_modified(IMMUTABLE));
    let (status, cache, _) = reopened.got(INFO).await;
    assert_eq!(
        (status, cache.as_str()),
        (200, "eu; fwd=stale; fwd-status=304")
    );
    let next = purge_key(&reopened, ZIP, Mode::Hard).await;
    assert!(next.epoch > first.epoch + 1, "{next:?} after {first:?}");
}

/// As above, but the purge is all that reached the disk: the index as it was before it was carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_was_written_down_but_not_carried_out_holds_after_a_restart() {
    let rig = Rig::new();
    fill(&rig, ZIP, &bytes(BIG)).await;
    let selector = Selector::module("example.com/m").unwrap();
    let mode = Mode::Hard;
    let store = &rig.engine.store;
    let ban = store.ban(Purge { selector, mode }).unwrap();
    store.persist(&ban).unwrap();
    let reopened = rig.reopened();
    assert_eq!(reopened.got(ZIP).await.0, 504);
    reopened
        .origin
        .will(ZIP, Reply::stored(&bytes(7), IMMUTABLE));
    assert_eq!(reopened.got(ZIP).await.2, bytes(7));
    reopened.settle().await;
    assert!(reopened.reopened().got(ZIP).await.1.starts_with("eu; hit"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_fill_keeps_its_readers_and_is_not_stored() {
    for mode in Mode::ALL {
        let rig = Rig::new();
        let (old, new) = (bytes(300_000), bytes(300_001));
        let (reply, feed) = Reply::described(&old);
        rig.origin.will(ZIP, reply);
        feed.bytes(&old.slice(..100_000));
        let before = rig.get(ZIP).await;
        assert_eq!(before.status, 200);

        assert_eq!(purge_key(&rig, ZIP, mode).await.fills, 1);
        rig.origin.will(ZIP, Reply::stored(&new, IMMUTABLE));
        let after = rig.get(ZIP).await;
        assert_eq!(read(after.body).await.unwrap(), new, "{mode:?}");
        assert_eq!(rig.origin.asked(), 2);

        feed.bytes(&old.slice(100_000..));
        feed.end();
        assert_eq!(read(before.body).await.unwrap(), old);
        rig.settle().await;
        let (_, cache, body) = rig.got(ZIP).await;
        assert_eq!((cache.as_str(), body), ("eu; hit; ttl=31536000", new));
        rig.engine.store.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_outlives_its_purge_is_still_not_stored() {
    let rig = Rig::new();
    let old = bytes(300_000);
    let (reply, feed) = Reply::described(&old);
    rig.origin.will(ZIP, reply);
    feed.bytes(&old.slice(..100_000));
    let before = rig.get(ZIP).await;
    purge_key(&rig, ZIP, Mode::Hard).await;
    // Others come and are carried out; were the first retired by now, the fill would be stored.
    purge_key(&rig, OTHER, Mode::Hard).await;
    rig.engine.store.carry_out_purges();
    feed.bytes(&old.slice(100_000..));
    feed.end();
    assert_eq!(read(before.body).await.unwrap(), old);
    rig.settle().await;
    assert!(rig.engine.store.find(ZIP).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmation_asked_for_before_the_purge_does_not_undo_it() {
    let rig = Rig::new();
    rig.origin.will(LIST, Reply::stored(&bytes(10), MUTABLE));
    rig.got(LIST).await;
    // Past its freshness: the stale answer is given, and confirmed behind it.
    rig.advance(100).await;
    let gate = rig.origin.hold(LIST, Reply::not_modified(MUTABLE));
    assert!(rig.got(LIST).await.1.contains("revalidating"));
    rig.origin.until_asked(2).await;
    purge_key(&rig, LIST, Mode::Hard).await;
    gate.send(()).unwrap();
    rig.settle().await;
    assert!(rig.engine.store.find(LIST).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_purge_asks_before_use() {
    let rig = Rig::new();
    fill(&rig, INFO, &bytes(300)).await;
    purge_key(&rig, INFO, Mode::Soft).await;
    rig.origin.will(INFO, Reply::not_modified(IMMUTABLE));
    assert_eq!(rig.got(INFO).await.1, "eu; fwd=stale; fwd-status=304");
    assert!(rig.origin.seen()[1].if_none_match.is_some());
    assert_eq!(rig.got(INFO).await.1, "eu; hit; ttl=31536000");
    // Also after a restart it was confirmed.
    assert_eq!(rig.reopened().got(INFO).await.1, "eu; hit; ttl=31536000");
    assert_eq!(rig.origin.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_softly_purged_answer_stands_in_for_a_dead_origin() {
    let rig = Rig::new();
    fill(&rig, INFO, &bytes(300)).await;
    rig.origin
        .will(LIST, Reply::stored(&bytes(10), "max-age=60"));
    rig.got(LIST).await;
    rig.settle().await;
    purge(&rig, Selector::All, Mode::Soft).await;
    let (status, cache, body) = rig.got(INFO).await;
    assert_eq!(
        (status, cache.as_str()),
        (200, "eu; hit; ttl=0; detail=origin-timeout")
    );
    assert_eq!(body, bytes(300));
    // Fresh when it was purged: the origin would have let it be used.
    assert_eq!(rig.got(LIST).await.0, 200);
    rig.advance(100).await;
    assert_eq!(rig.got(LIST).await.0, 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_not_found_is_purged_too() {
    for mode in Mode::ALL {
        let rig = Rig::new();
        rig.origin
            .will(INFO, Reply::error(404, "max-age=60", "not-found"));
        assert_eq!(rig.got(INFO).await.0, 404);
        assert_eq!(rig.got(INFO).await.0, 404);
        purge_key(&rig, INFO, mode).await;
        rig.origin.will(INFO, Reply::stored(&bytes(30), IMMUTABLE));
        assert_eq!(rig.got(INFO).await.0, 200, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_module_is_another_one_in_another_mount_and_purged_by_itself() {
    let team = format!("/team-a{ZIP}");
    let module = Selector::module("example.com/m").unwrap();
    for (selector, gone) in [
        (module.clone(), vec![ZIP, &team]),
        (module.clone().in_mount("/").unwrap(), vec![ZIP]),
        (module.in_mount("/team-a/").unwrap(), vec![&*team]),
    ] {
        let rig = Rig::new();
        fill(&rig, ZIP, &bytes(300)).await;
        fill(&rig, &team, &bytes(301)).await;
        for (path, len) in [(ZIP, 300), (&team, 301)] {
            let (_, cache, body) = rig.got(path).await;
            assert!(cache.starts_with("eu; hit"), "{path}: {cache}");
            assert_eq!(body, bytes(len), "{path}");
        }
        let shown = selector.to_string();
        purge(&rig, selector, Mode::Hard).await;
        for path in [ZIP, &team] {
            let found = rig.engine.store.find(path).is_some();
            assert_eq!(found, !gone.contains(&path), "{path} after {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_take_what_they_name_and_nothing_else() {
    let module = |path| Selector::module(path).unwrap();
    let prefix = |path| Selector::prefix(path).unwrap();
    let table = [
        (module("example.com/m"), vec![ZIP, INFO, LIST]),
        (module("example.com/Upper"), vec![UPPER]),
        (
            Selector::version("example.com/m", "v1.0.0").unwrap(),
            vec![ZIP, INFO],
        ),
        (
            module("example.com/m").in_mount("/").unwrap(),
            vec![ZIP, INFO, LIST],
        ),
        (
            module("example.com/m").in_mount("/team-a/").unwrap(),
            vec![],
        ),
        (prefix("/example.com/m"), vec![ZIP, INFO, LIST]),
        (prefix("/example.com/mm"), vec![]),
        (prefix("/example.com/!upper/"), vec![UPPER]),
        (Selector::tag("blue").unwrap(), vec![OTHER]),
        (Selector::tag("blu").unwrap(), vec![]),
        (Selector::All, vec![ZIP, INFO, LIST, OTHER, UPPER]),
    ];
    for (selector, gone) in table {
        let rig = Rig::new();
        for path in [ZIP, INFO, LIST, UPPER] {
            fill(&rig, path, &bytes(300)).await;
        }
        rig.origin.will(OTHER, tagged(&bytes(300), "red, blue"));
        let answer = rig.get(OTHER).await;
        assert!(!answer.headers.contains_key("cache-tag"));
        rig.settle().await;
        let shown = selector.to_string();
        purge(&rig, selector, Mode::Hard).await;
        for path in [ZIP, INFO, LIST, OTHER, UPPER] {
            let found = rig.engine.store.find(path).is_some();
            assert_eq!(found, !gone.contains(&path), "{shown}: {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_finds_its_answer_after_a_restart_and_while_it_arrives() {
    let rig = Rig::new();
    rig.origin.will(OTHER, tagged(&bytes(300), "red,blue"));
    rig.got(OTHER).await;
    rig.settle().await;
    let rig = rig.reopened();
    let (mut reply, feed) = Reply::described(&bytes(300_000));
    reply
        .headers
        .insert("cache-tag", HeaderValue::from_static("blue"));
    rig.origin.will(ZIP, reply);
    feed.bytes(&bytes(300_000).slice(..100_000));
    let arriving = rig.get(ZIP).await;
    purge(&rig, Selector::tag("blue").unwrap(), Mode::Hard).await;
    feed.bytes(&bytes(300_000).slice(100_000..));
    feed.end();
    assert_eq!(read(arriving.body).await.unwrap(), bytes(300_000));
    rig.settle().await;
    assert!(rig.engine.store.find(OTHER).is_none());
    assert!(rig.engine.store.find(ZIP).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_are_retired_once_they_are_carried_out() {
    let rig = Rig::with(|config| config.purge.bans = 3);
    for number in 0..20 {
        let path = format!("/example.com/m{number}/@v/v1.0.0.zip");
        fill(&rig, &path, &bytes(300)).await;
        purge_key(&rig, &path, Mode::Hard).await;
    }
    rig.engine.store.carry_out_purges();
    assert!(rig.engine.store.bans().len() <= 3);
    assert_eq!(rig.engine.metrics.entries.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_beyond_the_limit_is_refused_and_all_never_is() {
    let rig = Rig::with(|config| config.purge.bans = 1);
    fill(&rig, ZIP, &bytes(300)).await;
    // Soft ones stay while what they made stale is there.
    purge_key(&rig, ZIP, Mode::Soft).await;
    let other = Purge {
        selector: Selector::key(OTHER).unwrap(),
        mode: Mode::Hard,
    };
    let refused = rig.engine.purge(other).await.unwrap_err();
    assert!(refused.to_string().starts_with("1 purges are held"));
    purge_key(&rig, ZIP, Mode::Soft).await;
    purge(&rig, Selector::All, Mode::Hard).await;
    assert!(rig.engine.store.find(ZIP).is_none());
}

/// Writes until all segments that are there now were given up.
async fn wear_out(rig: &Rig) {
    let journal = rig.config.store.dir.join("journal");
    let there = segments(&journal);
    for round in 0.. {
        assert!(round < 1000, "the journal never wore out");
        if there.iter().all(|path| !path.exists()) {
            break;
        }
        rig.origin
            .will(LIST, Reply::stored(&bytes(10_000 + round), "max-age=0"));
        rig.got(LIST).await;
        rig.settle().await;
    }
}

/// The journal's segments, oldest first.
fn segments(journal: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(journal).unwrap().flatten();
    let mut segments: Vec<_> = files.map(|file| file.path()).collect();
    segments.sort();
    segments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_purge_survives_the_journals_wear() {
    let mut rig = Rig::with(|config| config.store.disk = ByteSize::mib(1));
    for path in [INFO, OTHER] {
        fill(&rig, path, &bytes(300)).await;
    }
    purge_key(&rig, INFO, Mode::Soft).await;
    purge(&rig, Selector::module("example.com/m").unwrap(), Mode::Soft).await;
    for _ in 0..3 {
        wear_out(&rig).await;
        rig = rig.reopened();
        let store = &rig.engine.store;
        store.check();
        assert!(store.is_stale(&store.find(INFO).expect("kept")));
        assert!(!store.is_stale(&store.find(OTHER).expect("kept")));
    }
    // The origin fails: it stands in. The origin answers: it is confirmed, for good.
    assert!(rig.got(INFO).await.1.contains("detail=origin-timeout"));
    rig.advance(10).await;
    rig.origin.will(INFO, Reply::not_modified(IMMUTABLE));
    assert_eq!(rig.got(INFO).await.1, "eu; fwd=stale; fwd-status=304");
    wear_out(&rig).await;
    assert_eq!(rig.reopened().got(INFO).await.1, "eu; hit; ttl=31536000");
}

/// The journal is read newest segment first, while requests come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_softly_purged_answer_that_moved_is_stale_from_the_first_segment_read_on() {
    let rig = Rig::with(|config| config.store.disk = ByteSize::mib(1));
    let path = |n: usize| format!("/example.com/m/@v/v1.{n}.0.zip");
    for n in 0..60 {
        fill(&rig, &path(n), &bytes(3000 + n)).await;
    }
    purge(&rig, Selector::All, Mode::Soft).await;
    wear_out(&rig).await;
    let journal = rig.config.store.dir.join("journal");
    let mut moved = 0;
    // What is read so far: ever fewer of the newest.
    for oldest in segments(&journal) {
        let store = rig.reopened().engine.store.clone();
        for n in 0..60 {
            if let Some(entry) = store.find(&path(n)) {
                assert!(store.is_stale(&entry), "{oldest:?}: {}", path(n));
                moved += 1;
            }
        }
        std::fs::remove_file(oldest).unwrap();
    }
    assert!(moved > 60, "{moved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_is_in_effect_at_once_and_carried_out_at_leisure() {
    let rig = Rig::with(|config| {
        // The second step would come in some hours.
        config.purge.rate = ByteSize::b(1);
        config.store.warm = ByteSize::kib(1);
    });
    let path = |n: usize| format!("/example.com/m/@v/v1.{n}.0.zip");
    for n in 0..100 {
        fill(&rig, &path(n), &bytes(300 + n)).await;
    }
    fill(&rig, OTHER, &bytes(400)).await;
    let module = || Selector::module("example.com/m").unwrap();
    purge(&rig, module(), Mode::Hard).await;
    for n in 0..100 {
        assert_eq!(rig.got(&path(n)).await.0, 504, "{n}");
    }
    assert!(rig.got(OTHER).await.1.starts_with("eu; hit"));
    let dropped = || rig.engine.metrics.purged_entries.get();
    assert!(dropped() < 50, "{} read in one step", dropped());
    assert_eq!(rig.engine.store.bans().len(), 1);
    // What comes after it is none of its business, however long it is held.
    rig.origin
        .will(&path(90), Reply::stored(&bytes(7), IMMUTABLE));
    assert_eq!(rig.got(&path(90)).await.2, bytes(7));
    rig.settle().await;
    rig.engine.store.carry_out_purges();
    assert_eq!(dropped(), 99, "the new one took a purged one's place");
    assert!(rig.got(&path(90)).await.1.starts_with("eu; hit"));
    rig.engine.store.check();
}
