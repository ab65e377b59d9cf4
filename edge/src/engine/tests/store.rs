//! What survives: restarts, kills, flipped bytes, garbage, a disk that takes nothing (F5 to F8).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::freshness::Bounds;
use super::super::metrics::Tier;
use super::super::purge::bans::Bans;
use super::super::store::entry::{BodyHasher, Headers, Meta, Rules};
use super::super::store::{Arrival, Payload, Round, Store};
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

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
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

/// A round of the scrub.
fn scrub(rig: &Rig) {
    let mut round = Some(Round::default());
    while let Some(now) = round {
        round = rig.engine.store.scrub_step(now).next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_what_nobody_reads() {
    let rig = small_ram();
    fill_all(&rig).await;
    scrub(&rig);
    assert_eq!(rig.engine.metrics.corrupt.get(), 0);
    assert!(rig.engine.metrics.scrubbed_bytes.get() > 1_050_000);
    for (path, len) in kinds() {
        let (file, at) = place(&rig, &bytes(len));
        flip(&file, at + len as u64 - 1);
        scrub(&rig);
        assert!(rig.engine.store.find(path).is_none(), "{path}");
    }
    assert_eq!(rig.engine.metrics.corrupt.get(), 3);
    rig.engine.store.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_for_goes_and_the_rest_stays() {
    let rig = small_ram();
    fill_all(&rig).await;
    rig.advance(20 * 86400).await;
    assert_eq!(rig.got(ZIP).await.0, 200);
    scrub(&rig);
    rig.engine.shutdown().await;
    let rig = rig.reopened();
    rig.advance(11 * 86400).await;
    scrub(&rig);
    let kept = kinds().map(|(path, _)| rig.engine.store.find(path).is_some());
    assert_eq!(kept, [false, false, true]);
    rig.engine.store.check();
}

/// A store on the rig's folder whose index isn't read yet.
pub(super) fn unread(rig: &Rig) -> Arc<Store> {
    let metrics = Arc::new(EngineMetrics::new(&prometheus::Registry::new()));
    let (store, bounds) = (&rig.config.store, Bounds::of(&rig.config));
    let bans = Bans::new(rig.config.purge.bans);
    Arc::new(Store::open(store, bounds, bans, rig.clock.clone(), metrics).unwrap())
}

fn arrival(path: &str, body: &Bytes, rig: &Rig) -> Arrival {
    let mut hasher = BodyHasher::new();
    hasher.block(body);
    Arrival {
        key: path.into(),
        meta: Meta {
            status: StatusCode::OK,
            headers: Headers::keep(&HeaderMap::new()),
            rules: Rules::Immutable,
            stored: rig.clock.now(),
            validated: rig.clock.now(),
            epoch: 0,
        },
        object: Arc::new(hasher.finish()),
        body: Payload::Ram(body.clone()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_while_the_index_is_read_wins() {
    for clean in [true, false] {
        let rig = small_ram();
        fill_all(&rig).await;
        if clean {
            rig.engine.shutdown().await;
        }
        let store = unread(&rig);
        assert!(store.find(INFO).is_none());
        let newer = Bytes::from_static(b"newer");
        store.put(arrival(INFO, &newer, &rig));
        assert_eq!(store.find(INFO).unwrap().object.digest, Sha256::of(&newer));
        store.load_index();
        assert_eq!(store.find(INFO).unwrap().object.digest, Sha256::of(&newer));
        assert_eq!(
            store.find(ZIP).unwrap().object.digest,
            Sha256::of(&bytes(BIG))
        );
        store.check();
        drop(store);
        let again = unread(&rig);
        again.load_index();
        assert_eq!(again.find(INFO).unwrap().object.digest, Sha256::of(&newer));
        again.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_or_one_of_another_journal_is_not_used() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |path| fs::write(path, b"garbage").unwrap(),
        |path| flip(path, fs::metadata(path).unwrap().len() / 2),
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
        },
        |path| {
            let other = small_ram();
            other.engine.store.write_snapshot().unwrap();
            fs::copy(other.config.store.dir.join("index"), path).unwrap();
        },
    ];
    for damage in damages {
        let rig = small_ram();
        fill_all(&rig).await;
        rig.engine.shutdown().await;
        damage(&rig.config.store.dir.join("index"));
        let reopened = rig.reopened();
        for (path, len) in kinds() {
            assert_eq!(reopened.got(path).await.2, bytes(len), "{path}");
        }
        assert_eq!(rig.origin.asked(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_names_of_one_body_weigh_as_one() {
    let rig = Rig::with(|config| config.store.disk = ByteSize::mib(1));
    let body = bytes(200_000);
    let name = |n: usize| format!("/example.com/m/@v/v1.{n}.0.zip");
    for n in 0..100 {
        rig.engine.store.put(arrival(&name(n), &body, &rig));
        rig.engine.store.check();
    }
    assert_eq!(rig.engine.metrics.evictions(Tier::Disk), 0);
    // Whoever goes first, the file stays with the others.
    let others = (200_001..).map(bytes).take(4);
    for (n, body) in (1000..).zip(others) {
        rig.engine.store.put(arrival(&name(n), &body, &rig));
        rig.engine.store.check();
    }
}

const FULL_DISK_CHILD: &str = "MODCDN_TEST_FULL_DISK";

/// Lets no file of this process grow beyond that: writes fail then as on a full disk.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the signal is ignored from now on, no handler is installed; `limit` is a valid
    // pointer that lives through the call.
    let set = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    assert_eq!(set, 0);
}

/// In a process of its own, since the limit is the process's.
#[test]
fn a_disk_that_is_full_for_real_stops_admission_and_nothing_else() {
    if std::env::var_os(FULL_DISK_CHILD).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(live_through_a_full_disk());
    }
    let name =
        "engine::tests::store::a_disk_that_is_full_for_real_stops_admission_and_nothing_else";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(FULL_DISK_CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

async fn live_through_a_full_disk() {
    let rig = small_ram();
    fill_all(&rig).await;
    limit_files(1000);
    let (mod_file, other) = (
        "/example.com/n/@v/v1.0.0.mod",
        "/example.com/n/@v/v1.0.0.zip",
    );
    for (path, len) in [(mod_file, 5_000), (other, 2_000_000), (other, 2_000_000)] {
        // Once more where it was noticed in the midst.
        for _ in 0..2 {
            rig.origin.will(path, Reply::stored(&bytes(len), IMMUTABLE));
        }
        assert_eq!(rig.got(path).await.2, bytes(len), "{path}");
        rig.settle().await;
    }
    assert!(rig.engine.health().admission_stopped.is_some());
    for (path, len) in kinds() {
        assert_eq!(rig.got(path).await.2, bytes(len), "{path}");
    }
    limit_files(libc::RLIM_INFINITY);
    rig.advance(31).await;
    rig.origin
        .will(other, Reply::stored(&bytes(2_000_000), IMMUTABLE));
    assert_eq!(rig.got(other).await.2, bytes(2_000_000));
    rig.settle().await;
    assert_eq!(rig.engine.health().admission_stopped, None);
    assert_eq!(rig.got(other).await.1, "eu; hit; ttl=31536000");
    rig.engine.store.check();
}
