//! The log and its followers, with what can happen to its file.

use std::fs;
use std::time::Duration;

use modcdn_core::purge::log::News;
use modcdn_core::purge::{Mode, Selector};
use modcdn_core::units::ByteSize;
use proptest::prelude::*;

use super::*;

struct Rig {
    dir: tempfile::TempDir,
    config: Purges,
    log: PurgeLog,
}

fn purge(n: u64) -> Purge {
    let selector = Selector::module(&format!("a.b/m{n}")).unwrap();
    let mode = Mode::Hard;
    Purge { selector, mode }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1000)
}

impl Rig {
    fn new(config: Purges) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = PurgeLog::open(&dir.path().join(FILE), &config).unwrap();
        Self { dir, config, log }
    }

    fn few(entries: usize) -> Self {
        Self::new(Purges {
            entries,
            ..Purges::default()
        })
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join(FILE)
    }

    fn reopened(self) -> Self {
        let log = PurgeLog::open(&self.file(), &self.config).unwrap();
        Self { log, ..self }
    }

    fn append(&self, n: u64) -> Position {
        self.log.append(purge(n), now()).unwrap()
    }

    /// The numbers of the modules that one at `position` hears of, or None for a reset.
    fn since(&self, position: Position) -> Option<Vec<u64>> {
        let page = self.log.since(Some(position)).unwrap();
        let page = Page::parse(&page.to_lines()).unwrap();
        match page.news(Some(position)) {
            News::Purges(entries) => Some(entries.iter().map(|entry| entry.seq).collect()),
            News::Reset(_) => None,
        }
    }
}

#[test]
fn entries_are_numbered_and_outlive_a_restart() {
    let rig = Rig::few(100);
    let start = rig.log.end();
    assert_eq!(start.seq, 0);
    for n in 1..=3 {
        assert_eq!(rig.append(n).seq, n);
    }
    assert_eq!(rig.since(start), Some(vec![1, 2, 3]));
    let rig = rig.reopened();
    let end = rig.append(4);
    assert_eq!(end.epoch, start.epoch);
    assert_eq!(rig.since(start), Some(vec![1, 2, 3, 4]));
    assert_eq!(rig.since(end), Some(vec![]));
    assert!(rig.log.since(None).unwrap().head.reset);
}

#[test]
fn a_torn_last_line_was_never_promised() {
    let rig = Rig::few(100);
    let start = rig.log.end();
    rig.append(1);
    rig.append(2);
    let bytes = fs::read(rig.file()).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(rig.file()).unwrap();
    file.set_len(bytes.len() as u64 - 4).unwrap();
    io::Write::flush(&mut file).unwrap();
    drop(file);
    let rig = rig.reopened();
    assert_eq!(rig.log.end().epoch, start.epoch);
    assert_eq!(rig.since(start), Some(vec![1]));
    assert_eq!(rig.append(9).seq, 2);
}

#[test]
fn a_log_that_was_lost_or_damaged_is_another_one() {
    for harm in ["lost", "emptied", "damaged", "put back"] {
        let rig = Rig::few(100);
        rig.append(1);
        let copy = fs::read(rig.file()).unwrap();
        rig.append(2);
        let known = rig.append(3);
        match harm {
            "lost" => fs::remove_dir_all(rig.file().parent().unwrap()).unwrap(),
            "emptied" => fs::write(rig.file(), b"").unwrap(),
            "damaged" => {
                let text = fs::read_to_string(rig.file()).unwrap();
                fs::write(rig.file(), text.replace("a.b/m2", "a.b/m9")).unwrap();
            }
            _ => {
                fs::write(rig.file().with_extension("backup"), copy).unwrap();
                fs::rename(rig.file().with_extension("backup"), rig.file()).unwrap();
            }
        }
        let rig = rig.reopened();
        assert_ne!(rig.log.end().epoch, known.epoch, "{harm}");
        assert_eq!(rig.since(known), None, "{harm}");
        // And stays what it is now.
        let end = rig.append(7);
        let rig = rig.reopened();
        assert_eq!(rig.since(end), Some(vec![]), "{harm}");
    }
}

#[test]
fn a_reader_who_knows_more_than_the_log_makes_it_another_one() {
    // Put back with its inode, as a snapshot of a whole machine is.
    let rig = Rig::few(100);
    rig.append(1);
    let before = fs::metadata(rig.file()).unwrap().len();
    let behind = rig.log.end();
    rig.append(2);
    let ahead = rig.append(3);
    let file = fs::OpenOptions::new().write(true).open(rig.file()).unwrap();
    file.set_len(before).unwrap();
    let rig = rig.reopened();
    assert_eq!(rig.log.end(), behind, "nobody can know yet");
    assert_eq!(rig.since(ahead), None);
    assert_ne!(rig.log.end().epoch, ahead.epoch);
    assert_eq!(rig.since(behind), None);
    let end = rig.log.end();
    assert_eq!(rig.reopened().log.end(), end);
}

#[test]
fn what_is_older_than_what_is_kept_is_a_reset() {
    let rig = Rig::few(3);
    let start = rig.log.end();
    let positions: Vec<Position> = (1..=9).map(|n| rig.append(n)).collect();
    let rig = rig.reopened();
    assert_eq!(rig.since(start), None);
    assert_eq!(rig.since(positions[4]), None);
    assert_eq!(rig.since(positions[5]), Some(vec![7, 8, 9]));
    assert_eq!(rig.log.len(), 3);
}

#[test]
fn the_file_is_bounded_too() {
    let rig = Rig::new(Purges {
        size: ByteSize::kib(4),
        ..Purges::default()
    });
    for n in 0..1000 {
        rig.append(n);
        assert!(fs::metadata(rig.file()).unwrap().len() < 20 << 10);
    }
    let end = rig.log.end();
    let before = Position {
        seq: end.seq - 5,
        ..end
    };
    let rig = rig.reopened();
    assert_eq!(rig.since(before).unwrap().len(), 5);
    assert_eq!(rig.append(0).seq, 1001);
}

#[test]
fn a_long_way_is_gone_page_by_page() {
    let rig = Rig::new(Purges::default());
    let mut at = rig.log.end();
    for n in 0..(2 * PAGE as u64 + 7) {
        rig.append(n);
    }
    let mut pages = Vec::new();
    loop {
        let seen = rig.since(at).unwrap();
        pages.push(seen.len());
        let Some(last) = seen.last() else { break };
        at.seq = *last;
    }
    assert_eq!(pages, [PAGE, PAGE, 7, 0]);
}

#[test]
fn a_page_is_bounded_in_bytes_too() {
    let rig = Rig::new(Purges::default());
    let start = rig.log.end();
    for n in 0..400 {
        let selector = Selector::key(&format!("/{n}/{}", "x".repeat(8000))).unwrap();
        let mode = Mode::Soft;
        rig.log.append(Purge { selector, mode }, now()).unwrap();
    }
    let page = rig.log.since(Some(start)).unwrap();
    assert!(page.head.more && page.entries.len() > 100);
    assert!((page.to_lines().len() as u64) < PAGE_BYTES + 1000);
}

#[test]
fn what_the_disk_refuses_takes_no_number() {
    let rig = Rig::few(100);
    let start = rig.log.end();
    rig.append(1);
    // A folder where the file is written anew: no write succeeds.
    let blocked = rig.file().with_extension("new");
    fs::create_dir_all(blocked.join("x")).unwrap();
    rig.log.0.lock().stale = true;
    assert!(rig.log.append(purge(2), now()).is_err());
    assert_eq!(rig.since(start), Some(vec![1]));
    fs::remove_dir_all(blocked).unwrap();
    assert_eq!(rig.append(3).seq, 2);
    let rig = rig.reopened();
    assert_eq!(rig.since(start), Some(vec![1, 2]));
}

#[test]
fn the_origin_goes_by_the_log_too() {
    let rig = Rig::few(100);
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let append = |seconds, json: &str| {
        let purge = serde_json::from_str(json).unwrap();
        rig.log.append(purge, at(seconds)).unwrap();
    };
    append(100, r#"{"module":"a.b/m","mode":"hard"}"#);
    append(200, r#"{"all":true,"mode":"soft"}"#);
    let subject = Subject::new("/t/a.b/m/@v/list", b"");
    let other = Subject::new("/a.b/n/@v/list", b"");
    let judged = |subject, seconds| rig.log.judge(subject, at(seconds));
    assert_eq!(judged(&subject, 50), Some(Mode::Hard));
    assert_eq!(judged(&subject, 102), Some(Mode::Soft));
    assert_eq!(judged(&subject, 202), None);
    assert_eq!(judged(&other, 50), Some(Mode::Soft));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happens to the log, a follower either hears of every entry in order, or of a reset
    /// after the last one it missed.
    #[test]
    fn no_follower_misses_an_entry(
        steps in prop::collection::vec((0usize..6, 0usize..3), 1..40), most in 1usize..6,
    ) {
        let mut rig = Rig::few(most);
        // Of each follower: where it is, and what it would have to hear of.
        let mut followers = [(rig.log.end(), Vec::new()), (rig.log.end(), Vec::new()), (rig.log.end(), Vec::new())];
        let mut n = 0;
        for (step, who) in steps {
            match step {
                0..=2 => {
                    n += 1;
                    rig.append(n);
                    followers.iter_mut().for_each(|(_, due)| due.push(purge(n)));
                }
                3 => rig = rig.reopened(),
                4 => {
                    fs::remove_file(rig.file()).unwrap();
                    rig = rig.reopened();
                }
                _ => {
                    let (at, due) = &mut followers[who];
                    match rig.log.since(Some(*at)).unwrap().news(Some(*at)) {
                        News::Purges(entries) => {
                            let heard: Vec<Purge> = entries.iter().map(|entry| entry.purge.clone()).collect();
                            prop_assert_eq!(&heard, &*due);
                            at.seq = entries.last().map_or(at.seq, |entry| entry.seq);
                        }
                        News::Reset(position) => *at = position,
                    }
                    due.clear();
                }
            }
        }
    }
}
