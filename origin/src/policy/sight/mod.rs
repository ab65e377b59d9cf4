//! What this origin saw, and when: the one clock that no author can set. Durable.
//!
//! Two kinds of sights: a version in an upstream's answer, for the first time; and a proven head of a
//! checksum database, whose history ([`heads`]) tells how old a record is. One file of
//! [checked lines](crate::lines) holds both, times in seconds since 1970:
//!
//! ```text
//! v 1767225600 list /team-a/corp.example/!m v1.0.0 v1.1.0
//! v 1767225660 info /example.com/m v1.2.3
//! v 1735689600 stored /example.com/m v1.0.0
//! h 1767225660 39000000 sum.example
//! ```
//!
//! A version that was in the store before this file was begun (an older origin's, a module cache) was seen when
//! it was stored; whoever asks for its age says so ([`Sight::stored`]). Only such a line makes older what was seen
//! already.
//!
//! Only what an upstream gave counts as seen, never what a client asked for: nobody makes a version
//! older by asking for it before it exists. In memory there is a digest of each name, 32 bytes a version.
//!
//! Failure rules: a sight is in effect at once, and on disk some seconds later; what a crash takes
//! makes versions younger, never older. A clock that goes back makes none older either. Lines that are
//! broken are left out. Where there are more versions than allowed, the oldest tenth is forgotten, and is as
//! good as new should it be seen again: the records of the checksum database don't depend on it.

mod heads;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{ModulePath, Prefix, Version};
use parking_lot::Mutex;

use self::heads::{Head, Heads};
use crate::lines::{Lines, MAX_LINE};

/// Lines that wait for the disk are dropped beyond this, in bytes: they count until the process ends.
const MAX_WAITING: usize = 4 << 20;

/// The file is written anew when it is so much longer than after the last time, in bytes.
const SLACK: u64 = 1 << 20;

/// See the module.
pub struct Sight {
    most: usize,
    seen: Mutex<Seen>,
    /// Held while the file is written.
    file: Mutex<SightFile>,
}

struct SightFile {
    lines: Lines,
    /// How long it was when it was last written anew.
    base: u64,
}

#[derive(Default)]
struct Seen {
    /// When a version was first seen, by the first half of the digest of its name.
    versions: HashMap<[u8; 16], u64>,
    heads: HashMap<String, Heads>,
    waiting: Vec<String>,
    waiting_bytes: usize,
    /// Versions first seen before this were forgotten, and must leave the file.
    forgotten: Option<u64>,
}

/// In which answer of an upstream a version was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// A list of versions.
    List,
    /// An `.info`, `@latest` or the answer to a query.
    Info,
    /// A `.mod` or `.zip`.
    Content,
    /// Whatever of it was stored, by whom ever.
    Stored,
}

impl Where {
    const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Info => "info",
            Self::Content => "content",
            Self::Stored => "stored",
        }
    }
}

/// The path of a sight's file in the store's folder.
pub(crate) const FILE: &str = ".sight/log";

impl Sight {
    /// Opens the file, or makes an empty one. At most `most` versions are remembered.
    ///
    /// # Errors
    /// It can't be read or written.
    pub fn open(path: &Path, most: usize) -> io::Result<Self> {
        let mut seen = Seen::default();
        let (lines, damaged) = Lines::open(path, |text| seen.take_up(text))?;
        if damaged {
            tracing::warn!(file = %path.display(), "damaged lines are left out: what they tell of is younger now");
        }
        let base = lines.len();
        seen.bound(most);
        Ok(Self {
            most,
            seen: Mutex::new(seen),
            file: Mutex::new(SightFile { lines, base }),
        })
    }

    /// Reads a file that may be another process', and leaves it as it is: nothing that this one sees is
    /// ever written down.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(path: &Path, most: usize) -> io::Result<Self> {
        let mut seen = Seen::default();
        let lines = Lines::read(path, |text| seen.take_up(text))?;
        seen.bound(most);
        Ok(Self {
            most,
            seen: Mutex::new(seen),
            file: Mutex::new(SightFile { lines, base: 0 }),
        })
    }

    /// Notes versions that an upstream named.
    pub fn saw<'a>(
        &self,
        prefix: &Prefix,
        module: &ModulePath,
        versions: impl IntoIterator<Item = &'a Version>,
        place: Where,
        now: SystemTime,
    ) {
        let (now, path) = (seconds(now), path(prefix, module));
        let mut seen = self.seen.lock();
        let new = |version: &&Version| seen.see(key(&path, version.as_str()), now);
        let new: Vec<&str> = versions
            .into_iter()
            .filter(new)
            .map(Version::as_str)
            .collect();
        let lead = format!("v {now} {} {path}", place.name());
        for line in wrapped(&lead, &new) {
            seen.wait(line);
        }
        seen.bound(self.most);
    }

    /// Notes that a version has been stored since then: it was seen at the latest.
    pub fn stored(
        &self,
        prefix: &Prefix,
        module: &ModulePath,
        version: &Version,
        since: SystemTime,
        now: SystemTime,
    ) {
        let (since, path) = (seconds(since.min(now)), path(prefix, module));
        let mut seen = self.seen.lock();
        if seen.see_earlier(key(&path, version.as_str()), since) {
            let place = Where::Stored.name();
            seen.wait(format!("v {since} {place} {path} {version}"));
            seen.bound(self.most);
        }
    }

    /// Notes a proven head of a checksum database.
    pub fn saw_head(&self, database: &str, size: u64, now: SystemTime) {
        let head = Head {
            time: seconds(now),
            size,
        };
        let mut seen = self.seen.lock();
        if seen.heads_of(database).saw(head) {
            seen.wait(format!("h {} {size} {database}", head.time));
        }
    }

    /// How long ago a version was first seen.
    #[must_use]
    pub fn age(
        &self,
        prefix: &Prefix,
        module: &ModulePath,
        version: &Version,
        now: SystemTime,
    ) -> Option<Duration> {
        let key = key(&path(prefix, module), version.as_str());
        let first = *self.seen.lock().versions.get(&key)?;
        Some(Duration::from_secs(seconds(now).saturating_sub(first)))
    }

    /// How old a record of a checksum database is at least; `None` if it lies in no head that was
    /// seen. Below the first of them, `records_a_day` at most are taken to have come each day.
    #[must_use]
    pub fn record_age(
        &self,
        database: &str,
        record: u64,
        now: SystemTime,
        records_a_day: u64,
    ) -> Option<Duration> {
        let seen = self.seen.lock();
        seen.heads
            .get(database)?
            .age(record, seconds(now), records_a_day)
    }

    /// How many versions are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.lock().versions.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes down what waits for it. Blocks.
    ///
    /// # Errors
    /// The disk's; what waits goes on waiting.
    pub fn flush(&self) -> io::Result<()> {
        let mut file = self.file.lock();
        let (waiting, forgotten) = {
            let mut seen = self.seen.lock();
            seen.waiting_bytes = 0;
            (std::mem::take(&mut seen.waiting), seen.forgotten)
        };
        if !waiting.is_empty()
            && let Err(error) = file.lines.append(waiting.iter().map(String::as_str), true)
        {
            self.seen.lock().wait_again(waiting);
            return Err(error);
        }
        if forgotten.is_some() || file.lines.len() > 2 * file.base + SLACK {
            self.compact(&mut file)?;
        }
        Ok(())
    }

    /// Leaves out of the file what was forgotten, and heads that were kept as one.
    fn compact(&self, file: &mut SightFile) -> io::Result<()> {
        let (forgotten, heads) = {
            let seen = self.seen.lock();
            (seen.forgotten, seen.heads.clone())
        };
        let keep = |text: &str| match Line::parse(text) {
            Some(Line::Versions { time, .. }) => forgotten.is_none_or(|before| time >= before),
            _ => false,
        };
        let heads = heads.iter().flat_map(|(database, heads)| {
            let line = move |head: Head| format!("h {} {} {database}", head.time, head.size);
            heads.iter().map(line)
        });
        file.lines.sift(keep, heads)?;
        file.base = file.lines.len();
        let mut seen = self.seen.lock();
        if seen.forgotten == forgotten {
            seen.forgotten = None;
        }
        Ok(())
    }
}

impl Seen {
    fn take_up(&mut self, text: &str) {
        match Line::parse(text) {
            Some(Line::Versions {
                time,
                place,
                path,
                versions,
            }) => {
                for version in versions.split(' ') {
                    let key = key(path, version);
                    if place == Where::Stored.name() {
                        self.see_earlier(key, time);
                    } else {
                        self.see(key, time);
                    }
                }
            }
            Some(Line::Head { head, database }) => {
                self.heads_of(database).saw(head);
            }
            None => {}
        }
    }

    /// True if it is the first time.
    fn see(&mut self, key: [u8; 16], now: u64) -> bool {
        let mut first = false;
        self.versions.entry(key).or_insert_with(|| {
            first = true;
            now
        });
        first
    }

    /// True if it wasn't seen by then.
    fn see_earlier(&mut self, key: [u8; 16], time: u64) -> bool {
        let first = self.versions.get(&key);
        let is_news = first.is_none_or(|first| time < *first);
        if is_news {
            self.versions.insert(key, time);
        }
        is_news
    }

    fn heads_of(&mut self, database: &str) -> &mut Heads {
        self.heads.entry(database.to_owned()).or_default()
    }

    fn wait(&mut self, line: String) {
        if self.waiting_bytes + line.len() > MAX_WAITING {
            return;
        }
        self.waiting_bytes += line.len();
        self.waiting.push(line);
    }

    fn wait_again(&mut self, mut lines: Vec<String>) {
        let newer = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        lines.extend(newer);
        for line in lines {
            self.wait(line);
        }
    }

    /// Forgets the oldest tenth if there are too many.
    fn bound(&mut self, most: usize) {
        if self.versions.len() <= most {
            return;
        }
        let mut times: Vec<u64> = self.versions.values().copied().collect();
        times.sort_unstable();
        let too_many = self.versions.len() - most + most / 10;
        let before = times[too_many.min(times.len()) - 1].saturating_add(1);
        self.versions.retain(|_, time| *time >= before);
        self.forgotten = self.forgotten.max(Some(before));
        tracing::warn!(
            before,
            left = self.versions.len(),
            "more versions seen than sight.versions: the oldest are forgotten"
        );
    }
}

/// A line of the file.
enum Line<'a> {
    Versions {
        time: u64,
        place: &'a str,
        path: &'a str,
        versions: &'a str,
    },
    Head {
        head: Head,
        database: &'a str,
    },
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        let (time, rest) = rest.split_once(' ')?;
        let time = time.parse().ok()?;
        match kind {
            "v" => {
                let (place, rest) = rest.split_once(' ')?;
                let (path, versions) = rest.split_once(' ')?;
                Some(Self::Versions {
                    time,
                    place,
                    path,
                    versions,
                })
            }
            "h" => {
                let (size, database) = rest.split_once(' ')?;
                let size = size.parse().ok()?;
                let head = Head { time, size };
                Some(Self::Head { head, database })
            }
            _ => None,
        }
    }
}

/// The versions behind the lead, in as few lines as hold them.
fn wrapped(lead: &str, versions: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for version in versions {
        match lines.last_mut() {
            Some(line) if line.len() + version.len() < MAX_LINE => {
                line.push(' ');
                line.push_str(version);
            }
            _ => lines.push(format!("{lead} {version}")),
        }
    }
    lines
}

fn path(prefix: &Prefix, module: &ModulePath) -> String {
    format!("{prefix}{}", module.escaped())
}

fn key(path: &str, version: &str) -> [u8; 16] {
    let digest = Sha256::of(format!("{path}@{version}").as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_bytes()[..16]);
    key
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> SystemTime {
        UNIX_EPOCH + DAY * days
    }

    struct Rig {
        dir: tempfile::TempDir,
        sight: Sight,
        most: usize,
    }

    impl Rig {
        fn new(most: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let sight = Sight::open(&dir.path().join(FILE), most).unwrap();
            Self { dir, sight, most }
        }

        fn reopened(self) -> Self {
            let sight = Sight::open(&self.dir.path().join(FILE), self.most).unwrap();
            Self { sight, ..self }
        }

        fn saw(&self, module: &str, versions: &[&str], day: u32) {
            let versions: Vec<Version> = versions.iter().map(|v| v.parse().unwrap()).collect();
            let module = module.parse().unwrap();
            let prefix = Prefix::root();
            self.sight
                .saw(&prefix, &module, &versions, Where::List, at(day));
        }

        /// In days.
        fn age(&self, module: &str, version: &str, day: u32) -> Option<u64> {
            let (module, version) = (module.parse().unwrap(), version.parse().unwrap());
            let age = self.sight.age(&Prefix::root(), &module, &version, at(day));
            age.map(|age| age.as_secs() / DAY.as_secs())
        }
    }

    #[test]
    fn the_first_sight_counts_and_outlives_a_restart() {
        let rig = Rig::new(100);
        rig.saw("a.b/M", &["v1.0.0", "v1.1.0"], 1);
        rig.saw("a.b/M", &["v1.1.0", "v1.2.0"], 5);
        rig.sight.flush().unwrap();
        let rig = rig.reopened();
        assert_eq!(rig.age("a.b/M", "v1.0.0", 10), Some(9));
        assert_eq!(rig.age("a.b/M", "v1.1.0", 10), Some(9));
        assert_eq!(rig.age("a.b/M", "v1.2.0", 10), Some(5));
        assert_eq!(rig.age("a.b/M", "v1.3.0", 10), None);
        assert_eq!(rig.age("a.b/n", "v1.0.0", 10), None);
        assert_eq!(rig.age("a.b/M", "v1.2.0", 3), Some(0));
    }

    #[test]
    fn what_was_stored_before_it_was_seen_is_as_old_as_that() {
        let rig = Rig::new(100);
        rig.saw("example.com/m", &["v1.0.0", "v1.1.0"], 10);
        let stored = |version: &str, day| {
            let (module, version) = ("example.com/m".parse().unwrap(), version.parse().unwrap());
            rig.sight
                .stored(&Prefix::root(), &module, &version, at(day), at(20));
        };
        stored("v1.0.0", 3);
        stored("v1.1.0", 12);
        stored("v1.2.0", 30);
        let check = |rig: &Rig| {
            assert_eq!(rig.age("example.com/m", "v1.0.0", 20), Some(17));
            assert_eq!(rig.age("example.com/m", "v1.1.0", 20), Some(10));
            // Stored in the future is stored now.
            assert_eq!(rig.age("example.com/m", "v1.2.0", 20), Some(0));
        };
        check(&rig);
        rig.sight.flush().unwrap();
        check(&rig.reopened());
    }

    #[test]
    fn another_mounts_module_is_another_one() {
        let rig = Rig::new(100);
        rig.saw("a.b/m", &["v1.0.0"], 1);
        let team: Prefix = "/team/".parse().unwrap();
        let (module, version) = ("a.b/m".parse().unwrap(), "v1.0.0".parse().unwrap());
        assert_eq!(rig.sight.age(&team, &module, &version, at(9)), None);
    }

    #[test]
    fn heads_outlive_a_restart_and_a_torn_end_does_no_harm() {
        let rig = Rig::new(100);
        rig.sight.saw_head("sum.example", 1000, at(1));
        rig.sight.saw_head("sum.example", 900, at(2));
        rig.sight.saw_head("sum.example", 2000, at(3));
        rig.sight.saw_head("other.example", 10, at(9));
        rig.saw("a.b/m", &["v1.0.0"], 4);
        rig.sight.flush().unwrap();
        let file = rig.dir.path().join(FILE);
        let mut bytes = fs::read(&file).unwrap();
        bytes.truncate(bytes.len() - 3);
        fs::write(&file, bytes).unwrap();
        let rig = rig.reopened();
        let days = |record| {
            let age = rig
                .sight
                .record_age("sum.example", record, at(10), u64::MAX);
            age.map(|age| age.as_secs() / DAY.as_secs())
        };
        assert_eq!(
            (days(999), days(1000), days(2000)),
            (Some(9), Some(7), None)
        );
        assert_eq!(rig.sight.record_age("none.example", 0, at(10), 1), None);
        assert_eq!(rig.age("a.b/m", "v1.0.0", 10), None, "its line was torn");
    }

    #[test]
    fn there_are_never_more_than_allowed_and_the_newest_stay() {
        let rig = Rig::new(20);
        for day in 0..100 {
            rig.saw("a.b/m", &[&format!("v1.{day}.0")], day);
            assert!(rig.sight.len() <= 20);
        }
        rig.sight.flush().unwrap();
        let rig = rig.reopened();
        assert!(rig.sight.len() <= 20 && rig.sight.len() >= 10);
        assert_eq!(rig.age("a.b/m", "v1.99.0", 100), Some(1));
        assert_eq!(rig.age("a.b/m", "v1.1.0", 100), None);
        let lines = fs::read_to_string(rig.dir.path().join(FILE)).unwrap();
        assert!(lines.lines().count() <= 20, "{lines}");
    }

    #[test]
    fn a_long_list_is_wrapped_and_a_long_history_is_compacted() {
        let rig = Rig::new(1_000_000);
        let many: Vec<String> = (0..20_000)
            .map(|n| format!("v1.{n}.0-some.prerelease"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        rig.saw("a.b/m", &many, 1);
        rig.sight.flush().unwrap();
        for n in 0..200_000_u64 {
            rig.sight
                .saw_head("sum.example", n + 1, UNIX_EPOCH + Duration::from_secs(n));
            if n % 10_000 == 0 {
                rig.sight.flush().unwrap();
            }
        }
        rig.sight.flush().unwrap();
        let rig = rig.reopened();
        assert_eq!(rig.age("a.b/m", many[19_999], 3), Some(2));
        let age = rig
            .sight
            .record_age("sum.example", 100_000, at(10), u64::MAX);
        assert!(age.unwrap() > 8 * DAY);
        let size = fs::metadata(rig.dir.path().join(FILE)).unwrap().len();
        assert!(size < 4 << 20, "{size}");
    }

    #[test]
    fn what_the_disk_refuses_waits() {
        let rig = Rig::new(100);
        rig.saw("a.b/m", &["v1.0.0"], 1);
        {
            let mut seen = rig.sight.seen.lock();
            let lines = std::mem::take(&mut seen.waiting);
            assert_eq!(lines, ["v 86400 list /a.b/m v1.0.0"]);
            seen.wait_again(lines);
        }
        rig.saw("a.b/m", &["v1.1.0"], 2);
        rig.sight.flush().unwrap();
        assert_eq!(rig.reopened().age("a.b/m", "v1.1.0", 3), Some(1));
    }
}
