//! When each version was asked for last, to the hour.
//!
//! ```text
//! <dir>/.used       records of 16 bytes: version (8 bytes of a digest), hour (4), check (4)
//! ```
//!
//! A use is written down if the last one known is of an earlier hour; later records of a version
//! count more. The file is written anew when most of it is out of date. A record that isn't what
//! its check says is passed over: then a version looks as if it had not been used since. The last
//! minute's uses are lost in a crash. Nothing here fails a request.
//!
//! Two versions with the same digest (one in 2^64) are taken for one: both stay.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modcdn_core::digest::Sha256;
use modcdn_core::durable::{self, Sync};
use modcdn_core::goproxy::{ModulePath, Request, Version};
use parking_lot::Mutex;

/// What is told apart.
const RESOLUTION: u64 = 3600;

/// Bytes of a record.
const RECORD: usize = 16;

/// So many records out of date are put up with before the file is written anew.
const SLACK: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Uses {
    path: PathBuf,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Log,
    /// Records that aren't in the file yet.
    pending: Vec<u8>,
}

impl Uses {
    /// Reads what is known. Slow: for the blocking pool. A file that can't be read is as good as
    /// none.
    pub(crate) fn open(dir: &Path, most: usize) -> Self {
        let path = dir.join(".used");
        let bytes = fs::read(&path).unwrap_or_default();
        let state = State {
            log: Log::read(&bytes, most),
            pending: Vec::new(),
        };
        Self {
            path,
            most,
            state: Mutex::new(state),
        }
    }

    /// A version's file was asked for.
    pub(crate) fn touch(&self, request: &Request) {
        let (Request::Info(module, version)
        | Request::Mod(module, version)
        | Request::Zip(module, version)) = request
        else {
            return;
        };
        let (key, hour) = (key(module, version), hour(SystemTime::now()));
        let mut state = self.state.lock();
        if state.log.touch(key, hour, self.most) {
            state.pending.extend_from_slice(&record(key, hour));
        }
    }

    /// When a version was asked for last, to the hour, if that is known.
    pub(crate) fn last(&self, module: &ModulePath, version: &Version) -> Option<SystemTime> {
        let hour = self.state.lock().log.last(key(module, version))?;
        Some(UNIX_EPOCH + Duration::from_secs(u64::from(hour) * RESOLUTION))
    }

    /// Writes down what is new. Slow: for the blocking pool.
    ///
    /// # Errors
    /// Whatever the file system says; what is new is lost to the file then, not to memory.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let (pending, whole) = {
            let mut state = self.state.lock();
            let pending = std::mem::take(&mut state.pending);
            (pending, state.log.is_stale().then(|| state.log.rewrite()))
        };
        if let Some(whole) = whole {
            let temp = self.path.with_extension("new");
            fs::write(&temp, whole)?;
            return durable::publish(&temp, &self.path, Sync::Relaxed);
        }
        if pending.is_empty() {
            return Ok(());
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        // After a torn record the next ones would be out of step.
        let torn = file.metadata()?.len() % RECORD as u64;
        if torn > 0 {
            file.write_all(&vec![0; RECORD - torn as usize])?;
        }
        file.write_all(&pending)
    }
}

/// What is known, and how much of the file is out of date. Pure.
#[derive(Debug, Default)]
struct Log {
    hours: HashMap<u64, u32>,
    records: usize,
}

impl Log {
    fn read(bytes: &[u8], most: usize) -> Self {
        let mut log = Self::default();
        for record in bytes.chunks_exact(RECORD) {
            log.records += 1;
            if let Some((key, hour)) = parse(record) {
                log.insert(key, hour, most);
            }
        }
        log
    }

    /// Whether that is news.
    fn touch(&mut self, key: u64, hour: u32, most: usize) -> bool {
        if self.last(key).is_some_and(|last| last >= hour) {
            return false;
        }
        self.records += 1;
        self.insert(key, hour, most);
        true
    }

    fn insert(&mut self, key: u64, hour: u32, most: usize) {
        let known = self.hours.entry(key).or_default();
        *known = hour.max(*known);
        if self.hours.len() > most {
            self.forget_half();
        }
    }

    /// What was used the longest ago is forgotten: it looks as if it had been used when stored.
    fn forget_half(&mut self) {
        let mut hours: Vec<u32> = self.hours.values().copied().collect();
        let half = hours.len() / 2;
        let (_, median, _) = hours.select_nth_unstable(half);
        let median = *median;
        self.hours.retain(|_, hour| *hour > median);
    }

    fn last(&self, key: u64) -> Option<u32> {
        self.hours.get(&key).copied()
    }

    fn is_stale(&self) -> bool {
        self.records > 2 * self.hours.len() + SLACK
    }

    /// The file anew.
    fn rewrite(&mut self) -> Vec<u8> {
        self.records = self.hours.len();
        let records = self.hours.iter().map(|(key, hour)| record(*key, *hour));
        records.flatten().collect()
    }
}

fn key(module: &ModulePath, version: &Version) -> u64 {
    let digest = Sha256::of(format!("{}@{}", module.as_str(), version.as_str()).as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn hour(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / RESOLUTION).unwrap_or(u32::MAX)
}

fn record(key: u64, hour: u32) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&key.to_le_bytes());
    record[8..12].copy_from_slice(&hour.to_le_bytes());
    let check = check(&record[..12]);
    record[12..].copy_from_slice(&check.to_le_bytes());
    record
}

fn parse(record: &[u8]) -> Option<(u64, u32)> {
    let check_is = u32::from_le_bytes(record[12..].try_into().ok()?);
    (check_is == check(&record[..12])).then_some(())?;
    let key = u64::from_le_bytes(record[..8].try_into().ok()?);
    Some((key, u32::from_le_bytes(record[8..12].try_into().ok()?)))
}

/// FNV-1a, so begun that zeros are no record.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZIP: &str = "/a.example/m/@v/v1.0.0.zip";
    const MOD: &str = "/a.example/m/@v/v1.0.0.mod";

    fn request(path: &str) -> Request {
        Request::parse(path).unwrap()
    }

    #[test]
    fn a_use_is_remembered_across_a_restart_and_by_version() {
        let dir = tempfile::tempdir().unwrap();
        let uses = Uses::open(dir.path(), 100);
        let Request::Zip(module, version) = request(ZIP) else {
            unreachable!()
        };
        assert_eq!(uses.last(&module, &version), None);
        for path in [ZIP, MOD, ZIP, "/a.example/m/@v/list"] {
            uses.touch(&request(path));
        }
        uses.flush().unwrap();
        let file = dir.path().join(".used");
        assert_eq!(fs::metadata(&file).unwrap().len(), RECORD as u64);
        let again = Uses::open(dir.path(), 100).last(&module, &version).unwrap();
        let age = again.elapsed().unwrap();
        assert!(age <= Duration::from_secs(2 * RESOLUTION), "{age:?}");
    }

    #[test]
    fn a_torn_record_does_not_put_the_next_ones_out_of_step() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".used"), [1; RECORD + 5]).unwrap();
        let uses = Uses::open(dir.path(), 100);
        uses.touch(&request(ZIP));
        uses.flush().unwrap();
        let Request::Zip(module, version) = request(ZIP) else {
            unreachable!()
        };
        assert!(
            Uses::open(dir.path(), 100)
                .last(&module, &version)
                .is_some()
        );
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(parse(&[0; RECORD]), None);
    }

    #[test]
    fn no_more_is_remembered_than_allowed_and_the_oldest_goes_first() {
        let mut log = Log::default();
        for n in 0..1000 {
            log.touch(u64::from(n), n, 10);
            assert!(log.hours.len() <= 10);
        }
        assert_eq!(log.last(999), Some(999));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_touched_last(
            touches in prop::collection::vec((0u64..20, 0u32..50), 0..200),
            damaged in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
            rewritten: bool,
        ) {
            let (mut log, mut file) = (Log::default(), Vec::new());
            for (key, hour) in touches {
                if log.touch(key, hour, 1000) {
                    file.extend_from_slice(&record(key, hour));
                }
            }
            if rewritten {
                file = log.rewrite();
            }
            let undamaged = damaged.is_none() || file.is_empty();
            if let Some((at, by)) = damaged.filter(|_| !file.is_empty()) {
                let at = at.index(file.len());
                file[at] ^= by;
            }
            let read = Log::read(&file, 1000);
            for (key, hour) in &read.hours {
                prop_assert!(log.last(*key).is_some_and(|last| *hour <= last));
            }
            if undamaged {
                prop_assert_eq!(&read.hours, &log.hours);
            }
        }
    }
}
