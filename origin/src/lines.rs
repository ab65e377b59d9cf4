//! A file of checked lines that only grows, until it is written anew.
//!
//! ```text
//! <16 hexadecimal digits of the SHA-256 of TEXT> TEXT\n
//! ```
//!
//! Failure rules: a line counts only if it is whole and its digest is right. What is broken at the
//! end is the last write of a process or machine that died: it is cut off. What is broken in the
//! midst is damage: it is left out, and whoever opens the file is told. A write that fails leaves
//! nothing: the file is as it was, or is put in order before the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use modcdn_core::digest::Sha256;
use modcdn_core::durable;

/// A line's text is no longer than this, in bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// The digest and the blank behind it.
const LEAD: usize = 17;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    /// What of the file is good.
    len: u64,
    /// The last write failed: what the file holds behind `len` is not ours.
    torn: bool,
}

impl Lines {
    /// Opens a file, or makes an empty one, with its folder. Each good line is shown to `see`.
    /// True: lines in the midst were broken.
    ///
    /// # Errors
    /// It can't be read or written.
    pub(crate) fn open(path: &Path, mut see: impl FnMut(&str)) -> io::Result<(Self, bool)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        let (len, damaged) = read(&mut file, |text| {
            see(text);
            Ok(())
        })?;
        file.set_len(len)?;
        let lines = Self {
            path: path.to_owned(),
            file,
            len,
            torn: false,
        };
        Ok((lines, damaged))
    }

    /// Opens a file to be read only: nothing is cut off, and nothing can be added.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn read(path: &Path, mut see: impl FnMut(&str)) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (len, _) = read(&mut file, |text| {
            see(text);
            Ok(())
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
            torn: false,
        })
    }

    /// How long the file is.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file's own handle.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Keeps those lines that `keep` says, with others behind them, durably and whole or not at all.
    /// A line at a time is in memory.
    ///
    /// # Errors
    /// The disk's. Then the old file stays.
    pub(crate) fn sift(
        &mut self,
        mut keep: impl FnMut(&str) -> bool,
        mut more: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let mut old = self.file.try_clone()?;
        old.seek(SeekFrom::Start(0))?;
        let old = old.take(self.len);
        self.rewrite(|_, put| {
            read(old, |text| if keep(text) { put(text) } else { Ok(()) })?;
            more.try_for_each(|text| put(&text))
        })
    }

    /// Adds lines. With `durable` they are on disk when this returns.
    ///
    /// # Errors
    /// The disk's. Then none of them counts.
    pub(crate) fn append<'a>(
        &mut self,
        texts: impl IntoIterator<Item = &'a str>,
        durable: bool,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for text in texts {
            push(&mut bytes, text)?;
        }
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        let written = self.write(&bytes, durable);
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            Err(_) => self.torn = self.file.set_len(self.len).is_err(),
        }
        written
    }

    fn write(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.write_all(bytes)?;
        if durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Puts other lines in place of all, durably and whole or not at all. `texts` is handed the new
    /// file, whose identity it may want to write down.
    ///
    /// # Errors
    /// The disk's. Then the old file stays.
    pub(crate) fn rewrite(
        &mut self,
        write: impl FnOnce(&File, &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let temp = self.path.with_extension("new");
        let _ = fs::remove_file(&temp);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temp)?;
        let mut len = 0;
        let mut out = io::BufWriter::new(&file);
        write(&file, &mut |text| {
            let mut bytes = Vec::with_capacity(text.len() + LEAD + 1);
            push(&mut bytes, text)?;
            len += bytes.len() as u64;
            out.write_all(&bytes)
        })?;
        out.flush()?;
        drop(out);
        durable::publish(&temp, &self.path, durable::Sync::Durable)?;
        self.file = file;
        self.len = len;
        self.torn = false;
        Ok(())
    }
}

fn push(bytes: &mut Vec<u8>, text: &str) -> io::Result<()> {
    if text.contains('\n') || text.len() > MAX_LINE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    writeln!(bytes, "{} {text}", digest(text))
}

fn digest(text: &str) -> String {
    let mut digest = Sha256::of(text.as_bytes()).to_string();
    digest.truncate(LEAD - 1);
    digest
}

/// The text of a line, if its digest is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (digest_of, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (digest_of == digest(text)).then_some(text)
}

/// The length of what is good at the beginning, and whether something in it is broken.
fn read(file: impl Read, mut see: impl FnMut(&str) -> io::Result<()>) -> io::Result<(u64, bool)> {
    let mut reader = BufReader::new(file);
    let (mut position, mut good, mut broken, mut damaged) = (0, 0, false, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = (MAX_LINE + LEAD + 1) as u64;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok((good, damaged));
        }
        position += read as u64;
        let whole = line.strip_suffix(b"\n");
        match whole.and_then(checked) {
            Some(text) => {
                damaged |= broken;
                broken = false;
                good = position;
                see(text)?;
            }
            None => broken = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a file held.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Held {
        texts: Vec<String>,
        damaged: bool,
    }

    fn open(path: &Path) -> (Lines, Held) {
        let mut texts = Vec::new();
        let (lines, damaged) = Lines::open(path, |text| texts.push(text.to_owned())).unwrap();
        (lines, Held { texts, damaged })
    }

    fn held(texts: &[&str]) -> Held {
        Held {
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            damaged: false,
        }
    }

    #[test]
    fn lines_are_there_again_and_a_torn_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/log");
        let (mut lines, nothing) = open(&path);
        assert_eq!(nothing, Held::default());
        lines.append(["one", "two"], true).unwrap();
        lines.append(["three"], false).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in whole.len() - 5..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut lines, found) = open(&path);
            assert_eq!(found, held(&["one", "two"]));
            lines.append(["four"], true).unwrap();
            assert_eq!(open(&path).1, held(&["one", "two", "four"]));
        }
    }

    #[test]
    fn what_is_broken_in_the_midst_is_left_out_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        open(&path).0.append(["one", "two", "three"], true).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(3).position(|w| w == b"two").unwrap();
        bytes[at] = b'T';
        fs::write(&path, bytes).unwrap();
        let (_, found) = open(&path);
        assert_eq!(found.texts, ["one", "three"]);
        assert!(found.damaged);
    }

    #[test]
    fn rewriting_replaces_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut lines, _) = open(&path);
        lines.append(["one", "two"], true).unwrap();
        let failed = lines.rewrite(|_, put| {
            put("three")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        lines.append(["four"], true).unwrap();
        assert_eq!(open(&path).1, held(&["one", "two", "four"]));
        lines.rewrite(|_, put| put("five")).unwrap();
        lines.append(["six"], true).unwrap();
        assert_eq!(open(&path).1, held(&["five", "six"]));
        assert_eq!(lines.len(), fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn sifting_writes_while_it_reads_and_replaces_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut lines, _) = open(&path);
        let texts: Vec<String> = (0..20).map(|n| format!("{n} {:60000}", "x")).collect();
        lines
            .append(texts.iter().map(String::as_str), true)
            .unwrap();
        let new = path.with_extension("new");
        let (mut seen, mut written) = (0, Vec::new());
        let even = |text: &str| {
            seen += 1;
            written.push(fs::metadata(&new).unwrap().len());
            text.split(' ').next().unwrap().parse::<u32>().unwrap() % 2 == 0
        };
        let more = ["more".to_owned()];
        lines.sift(even, more.clone().into_iter()).unwrap();
        assert_eq!(seen, 20);
        // A line before the last one seen is on disk, or in a buffer of a few KiB.
        assert!(written[19] > 8 * 60_000, "{written:?}");
        let mut kept: Vec<&str> = texts.iter().step_by(2).map(String::as_str).collect();
        kept.push("more");
        assert_eq!(open(&path).1, held(&kept));

        let refused = ["a\nb".to_owned()];
        assert!(lines.sift(|_| false, refused.into_iter()).is_err());
        lines.append(["last"], true).unwrap();
        kept.push("last");
        assert_eq!(open(&path).1, held(&kept));
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        let dir = tempfile::tempdir().unwrap();
        let (mut lines, _) = open(&dir.path().join("log"));
        assert!(lines.append(["a\nb"], true).is_err());
        assert!(lines.append([&*"x".repeat(MAX_LINE + 1)], true).is_err());
        lines.append([&*"x".repeat(MAX_LINE)], true).unwrap();
        assert_eq!(open(&dir.path().join("log")).1.texts.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_was_whole_is_kept(
            texts in prop::collection::vec("[ -~]{0,20}", 0..6), cut in 0usize..200,
            noise in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            open(&path).0.append(texts.iter().map(String::as_str), false).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let cut = cut.min(bytes.len());
            bytes.truncate(cut);
            let whole = bytes.iter().filter(|b| **b == b'\n').count();
            bytes.extend(noise);
            fs::write(&path, bytes).unwrap();
            let (_, found) = open(&path);
            prop_assert_eq!(&found.texts[..], &texts[..whole]);
            let (_, again) = open(&path);
            prop_assert_eq!(again, found);
        }
    }
}
