//! Bodies that were bad, kept aside for whoever looks into it.
//!
//! A body lies under the time at which it came here and the place where it was or should have been;
//! `<name>.reason` beside it says what was wrong. There are only so many, and so many bytes of them:
//! the oldest go first.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use modcdn_core::durable::{self, Sync};
use parking_lot::Mutex;

/// How much of a place is part of a name: file names end at 255 bytes.
const PLACE: usize = 150;

/// See the module.
#[derive(Debug)]
pub(crate) struct Quarantine {
    dir: PathBuf,
    most: usize,
    most_bytes: u64,
    /// Held while something comes or goes.
    door: Mutex<()>,
}

impl Quarantine {
    pub(crate) fn new(dir: PathBuf, most: usize, most_bytes: u64) -> Self {
        Self {
            dir,
            most,
            most_bytes,
            door: Mutex::new(()),
        }
    }

    /// That of a store, in which nothing makes room for anything.
    pub(crate) fn unbounded(store: &Path) -> Self {
        Self::new(store.join(".quarantine"), usize::MAX, u64::MAX)
    }

    /// Moves a file here. `place` is where it was or should have been.
    ///
    /// # Errors
    /// Whatever the file system says; the file is where it was then.
    pub(crate) fn take(&self, file: &Path, place: &str, reason: &str) -> io::Result<()> {
        let _door = self.door.lock();
        let kept = self.dir.join(name(place));
        fs::create_dir_all(&self.dir)?;
        fs::write(reason_of(&kept), reason)?;
        durable::publish(file, &kept, Sync::Relaxed)
            .inspect_err(|_| drop(fs::remove_file(reason_of(&kept))))?;
        self.trim()
    }

    /// Removes the oldest until the bounds hold.
    fn trim(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().ends_with(b".reason") {
                kept.push((entry.path(), entry.metadata()?.len()));
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, len)| len).sum();
        let mut left = kept.len();
        for (path, len) in kept {
            if left <= self.most && bytes <= self.most_bytes {
                break;
            }
            fs::remove_file(&path)?;
            match fs::remove_file(reason_of(&path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            (left, bytes) = (left - 1, bytes - len);
        }
        Ok(())
    }
}

/// A new name, later ones behind earlier ones.
pub(super) fn name(place: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '@' | '!' | '+' => c,
        _ => '_',
    };
    let flat: String = place.chars().map(plain).collect();
    let end = &flat[flat.len().saturating_sub(PLACE)..];
    format!("{millis:013}-{n:06}-{end}")
}

fn reason_of(kept: &Path) -> PathBuf {
    let mut name = OsString::from(kept);
    name.push(".reason");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        quarantine: Quarantine,
    }

    fn case(most: usize, most_bytes: u64) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path().join(".quarantine"), most, most_bytes);
        Case { dir, quarantine }
    }

    impl Case {
        fn take(&self, body: &str) {
            let file = self.dir.path().join("body");
            fs::write(&file, body).unwrap();
            self.quarantine
                .take(&file, "a.example/m/@v/v1.0.0.zip", body)
                .unwrap();
            assert!(!file.exists());
        }

        /// The bodies that are kept, each with its reason.
        fn kept(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path().join(".quarantine")).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            assert!(paths.len().is_multiple_of(2));
            let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
            let pairs = paths.chunks_exact(2);
            pairs
                .clone()
                .for_each(|pair| assert_eq!(read(&pair[0]), read(&pair[1])));
            pairs.map(|pair| read(&pair[0])).collect()
        }
    }

    #[test]
    fn a_body_is_kept_with_its_reason_under_a_name_that_tells_where_it_was() {
        let case = case(10, 1000);
        case.take("bad");
        assert_eq!(case.kept(), ["bad"]);
        let mut entries = fs::read_dir(case.dir.path().join(".quarantine")).unwrap();
        let named = entries.all(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.contains("-a.example_m_@v_v1.0.0.zip")
        });
        assert!(named);
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_bytes() {
        let few = case(2, 1000);
        for body in ["one", "two", "three"] {
            few.take(body);
        }
        assert_eq!(few.kept(), ["two", "three"]);
        let small = case(10, 8);
        for body in ["one", "two", "three"] {
            small.take(body);
        }
        assert_eq!(small.kept(), ["two", "three"]);
        small.take("longer than all");
        assert!(small.kept().is_empty());
        let none = case(0, 1000);
        none.take("one");
        assert!(none.kept().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_moved_leaves_nothing() {
        let case = case(10, 1000);
        let missing = case.dir.path().join("missing");
        assert!(case.quarantine.take(&missing, "x", "bad").is_err());
        assert!(case.kept().is_empty());
    }
}
