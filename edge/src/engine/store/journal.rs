//! The index on disk: a circular log of checksummed records.
//!
//! ```text
//! journal/00000007.log    header: magic 8 ‖ salt 16, then records (see `record`)
//! journal/00000008.log    the highest number is appended to
//! ```
//! A record is appended for every change of a key; small bodies lie in the record itself. Only the
//! oldest segment is ever given up: what is still true in it is appended anew first, so every
//! `Drop` in it may be forgotten (what it is about lies in the same segment or in one that is gone).
//!
//! Failure rule: nothing here is fatal when read. Damage is stepped over, a segment without a
//! header is removed, a torn end is left behind: each process goes on in a new segment. A
//! failed append is cut off again and reported; the caller stops admitting.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::entry::Position;
use super::index::DEAD_SHARE;
use super::record::{Found, Record, SEGMENT_HEADER, Salt, encode};

const MAGIC: [u8; 8] = *b"modcdnJ3";
/// Where a segment can't be read as one, it is read in pieces of so many bytes.
const PIECE: usize = 64 * 1024;
/// Half-empty segments come from restarts and are merged above this many.
const MANY_SEGMENTS: usize = 64;
/// Segments are never shorter than this.
pub(super) const LEAST_SEGMENT: u64 = 64 * 1024;

/// The files, for readers of packed bodies, who don't wait for writers.
pub(super) type Segments = Arc<RwLock<HashMap<u32, Arc<SegmentFile>>>>;

/// The log.
pub(super) struct Journal {
    dir: PathBuf,
    /// A segment is closed once it is this long.
    limit: u64,
    segments: BTreeMap<u32, Segment>,
    files: Segments,
    /// None: the next append begins a segment.
    active: Option<u32>,
    next: u32,
    /// Bytes of records that are still true, as the store reports them.
    live: u64,
    /// Another process appends to it.
    retired: bool,
}

struct Segment {
    file: Arc<SegmentFile>,
    len: u64,
}

impl Segment {
    fn new(file: File, len: u64, salt: Salt) -> Self {
        let file = Arc::new(file);
        Self {
            file: Arc::new(SegmentFile { file, salt }),
            len,
        }
    }
}

/// A segment, as its readers need it.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) file: Arc<File>,
    pub(super) salt: Salt,
}

impl SegmentFile {
    /// All of its bytes; zeros, which are no records, where the disk can't read them. Blocks.
    ///
    /// # Errors
    /// What the disk said, if it can read nothing of it.
    pub(super) fn read(&self) -> io::Result<SegmentBytes> {
        let len = usize::try_from(self.file.metadata()?.len()).unwrap_or(0);
        let mut bytes = vec![0; len];
        let mut lost = 0;
        if let Err(error) = self.file.read_exact_at(&mut bytes, 0) {
            bytes.fill(0);
            for (piece, offset) in bytes.chunks_mut(PIECE).zip((0..).step_by(PIECE)) {
                if self.file.read_exact_at(piece, offset).is_err() {
                    piece.fill(0);
                    lost += piece.len();
                }
            }
            if lost == len {
                return Err(error);
            }
        }
        Ok(SegmentBytes { bytes, lost })
    }
}

/// What a segment holds.
pub(super) struct SegmentBytes {
    pub(super) bytes: Vec<u8>,
    /// How many of them could not be read.
    pub(super) lost: usize,
}

/// A segment as it was at some time; it only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) number: u32,
    pub(super) len: u64,
    pub(super) salt: Salt,
}

impl Journal {
    /// Opens the log in `dir`: its segments are known then, and not read.
    ///
    /// # Errors
    /// Only if the folder can't be made or listed.
    pub(super) fn open(dir: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut journal = Self {
            dir,
            limit: limit.clamp(LEAST_SEGMENT, 1 << 30),
            segments: BTreeMap::new(),
            files: Segments::default(),
            active: None,
            next: 1,
            live: 0,
            retired: false,
        };
        for number in numbers(&journal.dir)? {
            journal.next = number.saturating_add(1);
            match open_segment(&journal.path(number)) {
                Ok(segment) => journal.add(number, segment),
                Err(error) if is_no_segment(&error) => {
                    tracing::warn!(segment = number, "journal segment without a header dropped");
                    let _ = fs::remove_file(journal.path(number));
                }
                // It may be whole: left for a better day.
                Err(error) => tracing::warn!(segment = number, %error, "journal segment not read"),
            }
        }
        Ok(journal)
    }

    /// The segments, oldest first.
    pub(super) fn segments(&self) -> Vec<Extent> {
        let extent = |(number, segment): (&u32, &Segment)| Extent {
            number: *number,
            len: segment.len,
            salt: segment.file.salt,
        };
        self.segments.iter().map(extent).collect()
    }

    /// Appends a record and says where it is.
    ///
    /// # Errors
    /// What the disk said; the log is as it was.
    pub(super) fn append(&mut self, record: &Record, body: &[u8]) -> io::Result<Position> {
        if self.retired {
            return Err(io::Error::other("another process has the store"));
        }
        let (number, segment) = self.active_segment()?;
        let bytes = encode(record, body, &segment.file.salt);
        let offset = usize::try_from(segment.len).unwrap_or(usize::MAX);
        let position = position(number, offset, bytes.len(), body.len());
        let position = position.ok_or(io::ErrorKind::FileTooLarge)?;
        if let Err(error) = segment.file.file.write_all_at(&bytes, segment.len) {
            // What was written of it must not precede a later record. If that fails too, the next
            // append goes elsewhere and the torn record is stepped over when read.
            let _ = segment.file.file.set_len(segment.len);
            self.active = None;
            return Err(error);
        }
        segment.len += bytes.len() as u64;
        if segment.len >= self.limit {
            self.active = None;
        }
        Ok(position)
    }

    /// The segment that the next record goes to.
    pub(super) fn next_segment(&self) -> u32 {
        self.active.unwrap_or(self.next)
    }

    /// From now on nothing is appended or given up: another process does that.
    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    /// The files, for readers.
    pub(super) fn files(&self) -> Segments {
        self.files.clone()
    }

    /// Counts a record that became true.
    pub(super) fn revive(&mut self, len: u32) {
        self.live += u64::from(len);
    }

    /// Counts a record that is true no longer.
    pub(super) fn bury(&mut self, len: u32) {
        self.live = self.live.saturating_sub(u64::from(len));
    }

    /// Bytes on disk.
    pub(super) fn len(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// The oldest segment, if it is time to give it up: more of the log is dead than may be, or it
    /// lies about in many pieces.
    pub(super) fn worn(&self) -> Option<u32> {
        let (&oldest, _) = self.segments.first_key_value()?;
        let len = self.len();
        let dead = len > self.live + self.live / DEAD_SHARE + 2 * self.limit;
        let pieces = usize::try_from(len / self.limit).unwrap_or(usize::MAX);
        let scattered = self.segments.len() > MANY_SEGMENTS + 2 * pieces;
        ((dead || scattered) && self.active != Some(oldest)).then_some(oldest)
    }

    /// A segment, to be read.
    pub(super) fn file(&self, number: u32) -> Option<Arc<SegmentFile>> {
        let segment = self.segments.get(&number)?;
        Some(segment.file.clone())
    }

    /// Removes a segment whose records were all appended anew, to segments from number `first` on, or
    /// are dead. Syncs what was appended first, so that a power cut can't take both.
    pub(super) fn give_up(&mut self, number: u32, first: u32) -> io::Result<()> {
        self.since(first)
            .iter()
            .try_for_each(|file| file.sync_data())?;
        fs::remove_file(self.path(number))?;
        self.segments.remove(&number);
        self.files.write().remove(&number);
        Ok(())
    }

    /// Writes through to the disk what was appended last.
    pub(super) fn sync(&self) -> io::Result<()> {
        let newest = self.segments.last_key_value();
        newest.map_or(Ok(()), |(_, newest)| newest.file.file.sync_data())
    }

    /// The files of the segments from that number on.
    pub(super) fn since(&self, number: u32) -> Vec<Arc<File>> {
        let segments = self.segments.range(number..);
        segments
            .map(|(_, segment)| segment.file.file.clone())
            .collect()
    }

    fn active_segment(&mut self) -> io::Result<(u32, &mut Segment)> {
        let number = match self.active {
            Some(number) => number,
            None => self.begin()?,
        };
        let segment = self
            .segments
            .get_mut(&number)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((number, segment))
    }

    fn begin(&mut self) -> io::Result<u32> {
        let number = self.next;
        let salt = new_salt();
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let mut header = [0; SEGMENT_HEADER];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[MAGIC.len()..].copy_from_slice(&salt);
        if let Err(error) = file.write_all_at(&header, 0) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next = number.saturating_add(1);
        self.add(number, Segment::new(file, SEGMENT_HEADER as u64, salt));
        self.active = Some(number);
        Ok(number)
    }

    fn add(&mut self, number: u32, segment: Segment) {
        self.files.write().insert(number, segment.file.clone());
        self.segments.insert(number, segment);
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.log"))
    }
}

fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for item in fs::read_dir(dir)? {
        let name = item?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log")?.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn is_no_segment(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

fn open_segment(path: &Path) -> io::Result<Segment> {
    // Only read from now on: a new process begins a new segment.
    let file = File::open(path)?;
    let mut header = [0; SEGMENT_HEADER];
    file.read_exact_at(&mut header, 0)?;
    let salt = header.strip_prefix(&MAGIC);
    let salt = salt.and_then(|salt| salt.try_into().ok());
    let salt = salt.ok_or(io::ErrorKind::InvalidData)?;
    let len = file.metadata()?.len();
    Ok(Segment::new(file, len, salt))
}

/// Unknown to whoever makes bodies; the standard library's hash keys are random.
pub(super) fn new_salt() -> Salt {
    let mut salt = [0; 16];
    for half in salt.chunks_exact_mut(8) {
        half.copy_from_slice(
            &RandomState::new()
                .hash_one(std::process::id())
                .to_le_bytes(),
        );
    }
    salt
}

/// Where a record was found.
pub(super) fn position_of(segment: u32, found: &Found<'_>) -> Option<Position> {
    position(segment, found.offset, found.len, found.body.len())
}

fn position(segment: u32, offset: usize, len: usize, body: usize) -> Option<Position> {
    Some(Position {
        segment,
        offset: offset.try_into().ok()?,
        len: len.try_into().ok()?,
        body: body.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::Records;
    use super::super::record::tests::put;
    use super::*;

    fn open(dir: &Path) -> (Journal, Vec<(String, Vec<u8>)>, usize) {
        let journal = Journal::open(dir.to_owned(), 0).unwrap();
        let (mut seen, mut damage) = (Vec::new(), 0);
        for extent in journal.segments() {
            let file = journal.file(extent.number).unwrap();
            let bytes = file.read().unwrap().bytes;
            let mut records = Records::in_segment(&bytes, file.salt);
            for found in records.by_ref() {
                if let Record::Put(put) = found.record {
                    seen.push((put.key.to_string(), found.body.to_vec()));
                }
            }
            damage += records.damage();
        }
        (journal, seen, damage)
    }

    fn add(journal: &mut Journal, key: &str, body: &[u8]) -> Position {
        journal.append(&Record::Put(put(key, body)), body).unwrap()
    }

    fn last_file(dir: &Path) -> PathBuf {
        let number = *numbers(dir).unwrap().last().unwrap();
        dir.join(format!("{number:08}.log"))
    }

    #[test]
    fn records_survive_without_a_clean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path());
        add(&mut journal, "/a", b"one");
        add(&mut journal, "/b", b"two");
        std::mem::forget(journal);
        let (mut journal, seen, damage) = open(dir.path());
        assert_eq!(
            seen,
            [
                ("/a".into(), b"one".to_vec()),
                ("/b".into(), b"two".to_vec())
            ]
        );
        assert_eq!(damage, 0);
        add(&mut journal, "/c", b"three");
        assert_eq!(open(dir.path()).1.len(), 3);
    }

    #[test]
    fn a_torn_end_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path());
        add(&mut journal, "/a", b"one");
        add(&mut journal, "/b", b"two");
        let path = last_file(dir.path());
        let len = fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len - 1)
            .unwrap();
        let (mut journal, seen, damage) = open(dir.path());
        assert_eq!(seen.len(), 1);
        assert!(damage > 0);
        add(&mut journal, "/c", b"three");
        let (_, seen, _) = open(dir.path());
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn files_that_are_no_segments_harm_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path());
        add(&mut journal, "/a", b"one");
        fs::write(dir.path().join("00000000.log"), b"garbage").unwrap();
        fs::write(dir.path().join("00000009.log"), b"").unwrap();
        fs::write(dir.path().join("note.txt"), b"hello").unwrap();
        let (mut journal, seen, _) = open(dir.path());
        assert_eq!(seen.len(), 1);
        add(&mut journal, "/b", b"two");
        assert_eq!(open(dir.path()).1.len(), 2);
    }

    #[test]
    fn a_log_that_is_mostly_dead_wears_out_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(dir.path());
        let body = vec![1; 10_000];
        while journal.worn().is_none() {
            add(&mut journal, "/a", &body);
        }
        assert_eq!(journal.worn(), Some(1));
        let before = journal.len();
        journal.give_up(1, 2).unwrap();
        assert!(journal.len() < before);
        assert!(!dir.path().join("00000001.log").exists());
    }
}
