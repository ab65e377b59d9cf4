//! What survives: restarts, kills, flipped bytes, garbage, a disk that takes nothing (F5 to F8).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::metrics::Tier;
use super::*;

const BIG: usize = 1_000_000;

/// Bodies of each kind of place: packed, loaded into RAM from a file, streamed from a file.
fn kinds() -> [(&'static str, usize); 3] {
    [
        (INFO, 300),
        ("/example.com/m/@v/v1.0.0.mod", 50_000),
        (ZIP, BIG),
    ]
}

fn small_ram() -> Rig {
    Rig::with(|config| config.store.ram_body = ByteSize::kib(64))
}

async fn fill_all(rig: &Rig) {
    for (path, len) in kinds() {
        rig.origin.will(path, Reply::stored(&bytes(len), IMMUTABLE));
        assert_eq!(rig.got(path).await.2, bytes(len));
    }
    rig.settle().await;
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(dir).unwrap().flatten().map(|item| item.path());
    let mut found: Vec<_> = inside
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// The file that holds a body, and where in it the body begins.
fn place(rig: &Rig, body: &[u8]) -> (PathBuf, u64) {
    let all = files(&rig.config.store.dir).into_iter();
    let mut places = all.filter_map(|path| {
        let bytes = fs::read(&path).unwrap();
        let at = bytes
            .windows(body.len())
            .position(|window| window == body)?;
        Some((path, at as u64))
    });
    places.next().expect("the body is somewhere")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_survive_a_kill() {
    let rig = small_ram();
    fill_all(&rig).await;
    // Not shut down: what a kill -9 leaves.
    let reopened = rig.reopened();
    for (path, len) in kinds() {
        let (status, cache_status, body) = reopened.got(path).await;
        assert_eq!(
            (status, cache_status.as_str()),
            (200, "eu; hit; ttl=31536000"),
            "{path}"
        );
        assert_eq!(body, bytes(len), "{path}");
    }
    assert_eq!(rig.origin.asked(), 3);
    assert_eq!(reopened.engine.metrics.hits(Tier::Disk), 3);
    assert_eq!(reopened.got(INFO).await.0, 200);
    assert_eq!(reopened.engine.metrics.hits(Tier::Ram), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_list_is_an_answer_like_any_other() {
    let rig = Rig::new();
    rig.origin.will(LIST, Reply::stored(&Bytes::new(), MUTABLE));
    assert_empty(&rig).await;
    assert_empty(&rig).await;
    assert_empty(&rig.reopened()).await;
    assert_eq!(rig.origin.asked(), 1);
}

async fn assert_empty(rig: &Rig) {
    let answer = rig.get(LIST).await;
    assert_eq!(
        (answer.status.as_u16(), header(&answer, &CONTENT_LENGTH)),
        (200, "0".into())
    );
    assert!(matches!(answer.body, Body::Empty));
    rig.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_the_disk_tier_is_answered_and_not_kept() {
    let rig = Rig::with(|config| config.store.disk = ByteSize::mib(1));
    let body = bytes(1_200_000);
    rig.origin.will(ZIP, Reply::stored(&body, IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, body);
    rig.settle().await;
    rig.engine.store.check();
    assert!(rig.engine.store.find(ZIP).is_none());
    assert!(files(&rig.config.store.dir.join("objects")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_times_survive_a_restart() {
    let rig = Rig::new();
    rig.origin.will(LIST, Reply::stored(&bytes(10), MUTABLE));
    rig.got(LIST).await;
    rig.advance(400).await;
    rig.origin
        .will(LIST, Reply::not_modified("public, max-age=77"));
    rig.got(LIST).await;
    rig.engine.shutdown().await;
    let answer = rig.reopened().get(LIST).await;
    assert_eq!(header(&answer, &CACHE_STATUS), "eu; hit; ttl=77");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_fetched_again_in_the_same_request() {
    let rig = small_ram();
    fill_all(&rig).await;
    for (path, len) in kinds() {
        let reopened = rig.reopened();
        let (file, at) = place(&rig, &bytes(len));
        flip(&file, at + 7);
        rig.origin.will(path, Reply::stored(&bytes(len), IMMUTABLE));
        let (status, cache_status, body) = reopened.got(path).await;
        assert_eq!((status, body), (200, bytes(len)), "{path}");
        assert_eq!(cache_status, "eu; fwd=miss; stored; detail=damaged");
        assert_eq!(reopened.engine.metrics.corrupt.get(), 1);
        reopened.settle().await;
        assert_eq!(reopened.got(path).await.1, "eu; hit; ttl=31536000");
        assert_eq!(reopened.reopened().got(path).await.2, bytes(len));
    }
    assert_eq!(rig.origin.asked(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_flipped_in_the_midst_is_healed_in_the_same_response() {
    let rig = small_ram();
    fill_all(&rig).await;
    let (file, _) = place(&rig, &bytes(BIG));
    let answer = rig.get(ZIP).await;
    flip(&file, 700_000);
    rig.origin.will(ZIP, Reply::stored(&bytes(BIG), IMMUTABLE));
    assert_eq!(read(answer.body).await.unwrap(), bytes(BIG));
    assert_eq!(rig.engine.metrics.corrupt.get(), 1);
    assert_eq!(rig.origin.asked(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_body_that_can_not_be_had_again_is_cut_off() {
    let rig = small_ram();
    fill_all(&rig).await;
    let (file, _) = place(&rig, &bytes(BIG));
    let answer = rig.get(ZIP).await;
    flip(&file, 700_000);
    assert!(read(answer.body).await.is_err());
    let answer = rig.get(ZIP).await;
    assert_eq!(answer.status, 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_and_missing_files_are_fetched_again() {
    for remove in [true, false] {
        let rig = small_ram();
        fill_all(&rig).await;
        let (file, _) = place(&rig, &bytes(BIG));
        if remove {
            fs::remove_file(&file).unwrap();
        } else {
            fs::OpenOptions::new()
                .write(true)
                .open(&file)
                .unwrap()
                .set_len(999_999)
                .unwrap();
        }
        rig.origin.will(ZIP, Reply::stored(&bytes(BIG), IMMUTABLE));
        assert_eq!(rig.reopened().got(ZIP).await.2, bytes(BIG));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_never_fatal() {
    type Damage = fn(&Path);
    let damages: [Damage; 5] = [
        |path| fs::write(path, b"garbage").unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| flip(path, 30),
        |path| {
            let len = fs::metadata(path).unwrap().len();
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(len / 2)
                .unwrap();
        },
    ];
    for damage in damages {
        let rig = small_ram();
        fill_all(&rig).await;
        damage(&files(&rig.config.store.dir.join("journal"))[0]);
        let reopened = rig.reopened();
        for (path, len) in kinds() {
            rig.origin.will(path, Reply::stored(&bytes(len), IMMUTABLE));
            assert_eq!(reopened.got(path).await.2, bytes(len));
        }
        reopened.settle().await;
        let again = reopened.reopened();
        for (path, len) in kinds() {
            assert_eq!(again.got(path).await.2, bytes(len));
            assert!(again.engine.store.find(path).is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_midst_of_a_fill_leaves_nothing() {
    let rig = Rig::new();
    let body = bytes(3_000_000);
    let (reply, feed) = Reply::described(&body);
    rig.origin.will(ZIP, reply);
    let mut answer = rig.get(ZIP).await;
    feed.bytes(&body.slice(..2_500_000));
    read_what_is_there(&mut answer.body).await;
    let spool = rig.config.store.dir.join("spool");
    assert_eq!(files(&spool).len(), 1);
    let reopened = rig.reopened();
    assert_eq!(files(&spool).len(), 0);
    assert!(reopened.engine.store.find(ZIP).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_no_key_names_are_removed() {
    let rig = small_ram();
    fill_all(&rig).await;
    fs::remove_dir_all(rig.config.store.dir.join("journal")).unwrap();
    rig.reopened();
    assert!(files(&rig.config.store.dir.join("objects")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_keys_share_a_body() {
    let rig = small_ram();
    let other = "/example.com/n/@v/v1.0.0.zip";
    for path in [ZIP, other] {
        rig.origin.will(path, Reply::stored(&bytes(BIG), IMMUTABLE));
        rig.got(path).await;
    }
    rig.settle().await;
    assert_eq!(files(&rig.config.store.dir.join("objects")).len(), 1);
    for rig in [&rig, &rig.reopened()] {
        let entries = [ZIP, other].map(|path| rig.engine.store.find(path).unwrap());
        assert!(Arc::ptr_eq(&entries[0].object, &entries[1].object));
    }
    rig.engine
        .store
        .condemn(&rig.engine.store.find(ZIP).unwrap());
    assert!(rig.engine.store.find(other).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_nothing_stops_admission_and_nothing_else() {
    let rig = Rig::with(|config| config.store.ram_body = ByteSize::mib(2));
    rig.origin.will(INFO, Reply::stored(&bytes(300), IMMUTABLE));
    rig.got(INFO).await;
    let spool = rig.config.store.dir.join("spool");
    fs::remove_dir_all(&spool).unwrap();
    fs::write(&spool, b"no folder").unwrap();
    // Noticed in the midst of the fill, which goes on in RAM.
    rig.origin
        .will(ZIP, Reply::stored(&bytes(3_000_000), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(3_000_000));
    rig.settle().await;
    assert!(rig.engine.health().admission_stopped.is_some());
    assert_eq!(rig.engine.metrics.admission_stopped.get(), 1);
    assert_eq!(rig.got(INFO).await.1, "eu; hit; ttl=31536000");
    // What is too long for RAM is passed through, each time.
    for _ in 0..2 {
        rig.origin
            .will(ZIP, Reply::stored(&bytes(3_000_000), IMMUTABLE));
        rig.origin
            .will(ZIP, Reply::stored(&bytes(3_000_000), IMMUTABLE));
        assert_eq!(rig.got(ZIP).await.2, bytes(3_000_000));
    }
    // What is short is kept in RAM.
    let short = "/example.com/m/@v/v1.0.0.mod";
    rig.origin
        .will(short, Reply::stored(&bytes(100), IMMUTABLE));
    rig.got(short).await;
    assert_eq!(rig.got(short).await.1, "eu; hit; ttl=31536000");
    // It is tried again after a pause.
    fs::remove_file(&spool).unwrap();
    fs::create_dir(&spool).unwrap();
    rig.advance(31).await;
    rig.origin
        .will(ZIP, Reply::stored(&bytes(3_000_000), IMMUTABLE));
    assert_eq!(rig.got(ZIP).await.2, bytes(3_000_000));
    rig.settle().await;
    assert_eq!(rig.engine.health().admission_stopped, None);
    assert_eq!(rig.got(ZIP).await.1, "eu; hit; ttl=31536000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_tier_is_bounded_and_evicts() {
    let rig = Rig::with(|config| {
        config.store.disk = ByteSize::mib(2);
        config.store.ram = ByteSize::mib(1);
        config.store.ram_body = ByteSize::kib(256);
    });
    for number in 0..60 {
        let path = format!("/example.com/m/@v/v1.{number}.0.zip");
        let len = if number % 2 == 0 {
            100_000 + number
        } else {
            10_000 + number
        };
        rig.origin
            .will(&path, Reply::stored(&bytes(len), IMMUTABLE));
        assert_eq!(rig.got(&path).await.2, bytes(len));
    }
    rig.settle().await;
    let on_disk: u64 = files(&rig.config.store.dir)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(on_disk <= rig.config.store.disk.as_u64(), "{on_disk}");
    assert!(rig.engine.metrics.evictions(Tier::Disk) > 20);
    let reopened = rig.reopened();
    let kept = (0..60).filter(|n| {
        reopened
            .engine
            .store
            .find(&format!("/example.com/m/@v/v1.{n}.0.zip"))
            .is_some()
    });
    assert!(kept.count() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_bodies_survive_the_giving_up_of_segments() {
    let rig = Rig::with(|config| {
        config.store.disk = ByteSize::mib(4);
        config.store.ram = ByteSize::kib(20);
        config.store.ram_body = ByteSize::kib(20);
    });
    rig.origin
        .will(INFO, Reply::stored(&bytes(5000), IMMUTABLE));
    rig.got(INFO).await;
    for number in 0..200_usize {
        rig.advance(1000).await;
        let text: Bytes = format!("{number}").repeat(4000).into();
        rig.origin.will(LIST, Reply::stored(&text, "max-age=1"));
        assert!(rig.got(LIST).await.2 == text, "list {number}");
    }
    rig.settle().await;
    let journal = files(&rig.config.store.dir.join("journal"));
    assert!(!journal[0].ends_with("00000001.log"), "{journal:?}");
    assert_eq!(rig.got(INFO).await.2, bytes(5000));
    assert_eq!(rig.reopened().got(INFO).await.2, bytes(5000));
}

#[derive(Clone, Debug)]
enum Act {
    Ask(usize),
    Reopen,
    Condemn(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0usize..40).prop_map(Act::Ask),
        1 => Just(Act::Reopen),
        2 => (0usize..40).prop_map(Act::Condemn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens, each answer is the right one, and no tier exceeds its bound.
    #[test]
    fn bounds_hold_and_bodies_are_right(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut rig = Rig::with(|config| {
                config.store.disk = ByteSize::mib(1);
                config.store.ram = ByteSize::kib(200);
                config.store.ram_body = ByteSize::kib(100);
                config.store.packed_body = ByteSize::kib(4);
            });
            for act in acts {
                match act {
                    Act::Ask(key) => ask(&rig, key).await,
                    Act::Reopen => rig = rig.reopened(),
                    Act::Condemn(key) => {
                        if let Some(entry) = rig.engine.store.find(&path(key)) {
                            rig.engine.store.condemn(&entry);
                        }
                    }
                }
                rig.settle().await;
                rig.engine.store.check();
            }
        });
    }
}

fn path(key: usize) -> String {
    format!("/example.com/m/@v/v1.{key}.0.zip")
}

async fn ask(rig: &Rig, key: usize) {
    // Some keys share a body.
    let body = bytes((key / 2) * 9_000 + 10);
    rig.origin.replies.lock().clear();
    rig.origin.will(&path(key), Reply::stored(&body, IMMUTABLE));
    assert_eq!(rig.got(&path(key)).await.2, body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_future_of_an_answer_is_small() {
    let rig = Rig::with(|_| {});
    let answer = rig.engine.answer(asked(INFO));
    let size = std::mem::size_of_val(&answer);
    // Every request's task is made of it, and moved to the heap.
    assert!(size <= 1536, "{size} bytes");
}
