//! The tiers stay within their bounds, by what is on disk and in RAM and not only by what is counted:
//! whatever is put, replaced, confirmed, asked for, purged, scrubbed and evicted, and however often the
//! process ends, gently or not, or comes back with another size of the disk tier.

use std::path::Path;

use proptest::prelude::*;

use super::super::purge::{Mode, Purge, Selector};
use super::super::store::entry::{BLOCK, BodyHasher, Headers, Meta, Rules};
use super::super::store::{Arrival, Payload, Round, Store};
use super::store::{files, unread};
use super::*;

/// Packed bodies, bodies that fit into RAM, bodies that don't, one of two blocks.
const SIZES: [usize; 9] = [0, 10, 300, 3_000, 4_096, 5_000, 40_000, 150_000, 300_000];
const DISKS: [u64; 3] = [1 << 20, 3 << 19, 2 << 20];

#[derive(Clone, Debug)]
enum Act {
    /// So many answers, or new ones in place of those that are there.
    Put {
        key: usize,
        size: usize,
        many: usize,
        not_found: bool,
    },
    /// Somebody asks, and has the body loaded.
    Hit(usize),
    /// The origin confirms it.
    Confirm(usize),
    Purge {
        key: usize,
        mode: Mode,
        how: usize,
    },
    Scrub(usize),
    Condemn(usize),
    WaitDays(u64),
    Restart {
        gently: bool,
        disk: usize,
        /// Puts before the index is read.
        early: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let key = || 0usize..60;
    let mode = prop_oneof![Just(Mode::Soft), Just(Mode::Hard)];
    let many = prop_oneof![4 => Just(1_usize), 1 => 2..60_usize];
    prop_oneof![
        12 => (key(), 0..SIZES.len(), many, prop::bool::weighted(0.1)).prop_map(
            |(key, size, many, not_found)| Act::Put { key, size, many, not_found }
        ),
        6 => key().prop_map(Act::Hit),
        3 => key().prop_map(Act::Confirm),
        2 => (key(), mode, 0usize..6).prop_map(|(key, mode, how)| Act::Purge { key, mode, how }),
        2 => (1..100_usize).prop_map(Act::Scrub),
        1 => key().prop_map(Act::Condemn),
        1 => (0..25_u64).prop_map(Act::WaitDays),
        1 => (any::<bool>(), 0..DISKS.len(), 0..20_usize).prop_map(|(gently, disk, early)| {
            Act::Restart { gently, disk, early }
        }),
    ]
}

fn key_of(number: usize) -> String {
    format!("/example.com/m{}/@v/v1.{number}.0.zip", number % 5)
}

/// A store without an engine, and what it is made of.
struct Play {
    rig: Rig,
    store: Arc<Store>,
    round: Round,
    /// Makes bodies of one length differ, some of the time.
    count: usize,
}

impl Play {
    fn new() -> Self {
        let rig = Rig::with(|config| {
            config.store.disk = ByteSize::mib(1);
            config.store.ram = ByteSize::kib(200);
            config.store.ram_body = ByteSize::kib(100);
            config.store.packed_body = ByteSize::kib(4);
            config.store.loose = ByteSize::kib(16);
            config.store.warm = ByteSize::kib(16);
            config.store.keys = 500;
        });
        let store = rig.engine.store.clone();
        Self {
            rig,
            store,
            round: Round::default(),
            count: 0,
        }
    }

    fn happens(&mut self, act: &Act) {
        match act {
            Act::Put {
                key,
                size,
                many,
                not_found,
            } => (0..*many).for_each(|n| self.put(key + n, SIZES[*size], *not_found)),
            Act::Hit(key) => self.hit(*key),
            Act::Confirm(key) => {
                if let Some(entry) = self.store.find(&key_of(*key)) {
                    let headers = Headers::keep(&HeaderMap::new());
                    let (now, epoch) = (self.rig.clock.now(), self.store.bans().newest());
                    self.store.refresh(&entry, headers, now, epoch);
                }
            }
            Act::Purge { key, mode, how } => self.purge(*key, *mode, *how),
            Act::Scrub(steps) => {
                for _ in 0..*steps {
                    let next = self.store.scrub_step(self.round).next;
                    self.round = next.unwrap_or_default();
                }
            }
            Act::Condemn(key) => {
                if let Some(entry) = self.store.find(&key_of(*key)) {
                    self.store.condemn(&entry);
                }
            }
            Act::WaitDays(days) => self.rig.clock.advance(Duration::from_secs(days * 86_400)),
            Act::Restart {
                gently,
                disk,
                early,
            } => self.restart(*gently, DISKS[*disk], *early),
        }
    }

    fn put(&mut self, key: usize, size: usize, not_found: bool) {
        self.count += 1;
        let mut body = bytes(size).to_vec();
        if let Some(first) = body.first_mut().filter(|_| !self.count.is_multiple_of(3)) {
            *first = self.count as u8;
        }
        let body = Bytes::from(body);
        let mut hasher = BodyHasher::new();
        let block = usize::try_from(BLOCK).unwrap();
        for block in body.chunks(block).chain(body.is_empty().then_some(&[][..])) {
            hasher.block(block);
        }
        let status = if not_found {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::OK
        };
        let now = self.rig.clock.now();
        self.store.put(Arrival {
            key: key_of(key).into(),
            meta: Meta {
                status,
                headers: Headers::keep(&HeaderMap::new()),
                rules: Rules::Mutable,
                stored: now,
                validated: now,
                epoch: self.store.bans().newest(),
            },
            object: Arc::new(hasher.finish()),
            body: Payload::Ram(body),
        });
    }

    fn hit(&self, key: usize) {
        let Some(entry) = self.store.find(&key_of(key)) else {
            return;
        };
        if self.store.in_ram(&entry).is_none() && self.store.loads(&entry) {
            self.store.load(&entry).unwrap();
        }
    }

    fn purge(&self, key: usize, mode: Mode, how: usize) {
        let selector = match how {
            0 => Selector::All,
            1 | 2 => Selector::module(&format!("example.com/m{}", key % 5)).unwrap(),
            _ => Selector::key(&key_of(key)).unwrap(),
        };
        let ban = self.store.ban(Purge { selector, mode }).unwrap();
        self.store.persist(&ban).unwrap();
        self.store.carry_out_purges();
    }

    fn restart(&mut self, gently: bool, disk: u64, early: usize) {
        if gently {
            self.store.write_snapshot().unwrap();
            self.is_within_bounds();
        }
        self.rig.config.store.disk = ByteSize::b(disk);
        self.store = unread(&self.rig);
        for key in 0..early {
            self.put(key * 7, SIZES[key % SIZES.len()], false);
            if let Some(entry) = self.store.find(&key_of(key * 7)) {
                let (now, headers) = (self.rig.clock.now(), Headers::keep(&HeaderMap::new()));
                self.store.refresh(&entry, headers, now, 0);
            }
        }
        self.store.load_index();
        self.round = Round::default();
    }

    fn is_within_bounds(&self) {
        self.store.check();
        let config = &self.rig.config.store;
        let size = |path: &Path| path.metadata().unwrap().len();
        let in_blocks = |path: &Path| size(path).next_multiple_of(4096);
        let objects: u64 = files(&config.dir.join("objects"))
            .iter()
            .map(|path| in_blocks(path))
            .sum();
        let journal: u64 = files(&config.dir.join("journal"))
            .iter()
            .map(|path| size(path))
            .sum();
        let index: u64 = ["index", "index.new"]
            .iter()
            .filter_map(|name| config.dir.join(name).metadata().ok())
            .map(|data| data.len())
            .sum();
        let most = config.disk.as_u64() * 101 / 100;
        assert!(
            objects + journal + index <= most,
            "{objects} bytes of objects, {journal} of journal, {index} of index: above {most}"
        );
        // Nothing is arriving.
        assert!(files(&config.dir.join("spool")).is_empty());
        let (ram, loose) = self.store.bytes_in_ram();
        assert!(ram <= config.ram.as_u64() * 101 / 100, "{ram} bytes in RAM");
        assert!(loose <= config.loose.as_u64() * 101 / 100, "{loose} loose");
    }
}

/// The journal is full of small bodies when they all go at once.
fn full_of_small_ones() -> Play {
    let mut play = Play::new();
    play.rig.config.store.keys = 5_000;
    play.restart(false, 4 << 20, 0);
    (0..1_500).for_each(|key| play.put(key, 3_000, false));
    play.is_within_bounds();
    play
}

#[tokio::test]
async fn one_long_body_in_place_of_many_small_ones_leaves_none_of_them_behind() {
    let mut play = full_of_small_ones();
    play.put(9_999, 3_500_000, false);
    play.is_within_bounds();
    assert!(play.store.find(&key_of(9_999)).is_some());
}

#[tokio::test]
async fn what_comes_after_a_purge_of_everything_finds_its_room_empty() {
    let mut play = full_of_small_ones();
    play.purge(0, Mode::Hard, 0);
    for key in 0..10 {
        play.put(key, 350_000 + key, false);
        play.is_within_bounds();
    }
}

#[tokio::test]
async fn what_nobody_asked_for_in_a_long_time_goes_before_anything_else() {
    let mut play = Play::new();
    play.rig.config.store.keys = 5_000;
    play.restart(false, 2 << 20, 0);
    (0..200).for_each(|key| play.put(key, 5_000 + key, false));
    assert!((0..200).all(|key| play.store.is_there(&key_of(key))));
    // To the policy they are worth more than those that were asked for once.
    for _ in 0..3 {
        (0..200).step_by(2).for_each(|key| play.hit(key));
    }
    // As a round of the scrub begins: the index learns which warm entries were asked for.
    play.store.scrub_step(Round::default());
    let days = |days: u64| Duration::from_secs(days * 86_400);
    play.rig.clock.advance(days(20));
    (1..200).step_by(2).for_each(|key| play.hit(key));
    play.rig.clock.advance(days(15));
    let there = |play: &Play, from: usize| {
        let keys = (from..200).step_by(2);
        keys.filter(|key| play.store.is_there(&key_of(*key)))
            .count()
    };
    for new in 1000..1200 {
        play.put(new, 5_000 + new, false);
        let unused = there(&play, 0);
        assert!(unused == 0 || there(&play, 1) == 100, "{unused} are left");
    }
    assert_eq!(there(&play, 0), 0);
    play.is_within_bounds();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_on_disk_and_in_ram_is_at_most_a_hundredth_above_the_bounds(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::new();
            for act in &acts {
                play.happens(act);
                play.is_within_bounds();
            }
        });
    }
}
