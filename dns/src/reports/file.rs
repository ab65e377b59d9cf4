//! Reports from a file of JSON lines, for networks where a file is easier to bring than a request.
//!
//! The file is read again when it has changed: written anew, or appended to. A line that was there at
//! the last look isn't taken again. A line that is no report is counted and named in the log, and the
//! others are taken all the same; so is a file that can't be read.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Report;
use crate::steering::Steering;

/// A line is no longer than this, in bytes: as the body of a request.
const MAX_LINE: usize = modcdn_core::admin::MAX_BODY;

/// So many wrong lines of one look are named in the log.
const NAMED: usize = 5;

/// A file of reports.
pub(crate) struct ReportsFile {
    path: PathBuf,
    most: u64,
    seen: Option<Stamp>,
    lines: HashSet<u64>,
    hasher: RandomState,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

/// What is new in a file.
#[derive(Default)]
struct News {
    reports: Vec<Report>,
    wrong: Vec<(usize, String)>,
}

impl ReportsFile {
    pub(crate) fn new(path: &Path, most: u64) -> Self {
        Self {
            path: path.to_owned(),
            most,
            seen: None,
            lines: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Looks at the file every `look`, for ever.
    pub(crate) async fn watch(mut self, steering: Arc<Steering>, look: Duration) {
        loop {
            let steering = steering.clone();
            let looked = tokio::task::spawn_blocking(move || {
                self.look(&steering);
                self
            });
            match looked.await {
                Ok(file) => self = file,
                // The runtime is ending, or a panic was reported.
                Err(_) => return,
            }
            tokio::time::sleep(look).await;
        }
    }

    fn look(&mut self, steering: &Steering) {
        match self.read() {
            Ok(None) => {}
            Ok(Some(news)) => {
                for (line, why) in news.wrong.iter().take(NAMED) {
                    tracing::warn!(file = %self.path.display(), line, %why, "no report");
                }
                for _ in &news.wrong {
                    steering.metrics().reported("file", "wrong");
                }
                for report in news.reports {
                    let taken = steering.report(report);
                    let outcome = taken.map_or_else(|refused| refused.name(), |_| "taken");
                    steering.metrics().reported("file", outcome);
                }
            }
            Err(error) => {
                steering.metrics().reported("file", "unreadable");
                tracing::warn!(file = %self.path.display(), %error, "reports can't be read");
            }
        }
    }

    /// What is new, if the file has changed.
    fn read(&mut self) -> io::Result<Option<News>> {
        let file = File::open(&self.path)?;
        let stamp = Stamp::of(&file.metadata()?)?;
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        if stamp.length > self.most {
            self.seen = Some(stamp);
            return Err(io::Error::other(format!(
                "longer than reports.file_size, {} bytes",
                self.most
            )));
        }
        let mut text = Vec::new();
        file.take(self.most).read_to_end(&mut text)?;
        self.seen = Some(stamp);
        Ok(Some(self.news(&text, stamp.modified)))
    }

    fn news(&mut self, text: &[u8], modified: SystemTime) -> News {
        let (mut news, mut lines) = (News::default(), HashSet::new());
        // What follows the last line feed is a line that is still being written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let hash = self.hasher.hash_one(line);
            if !lines.insert(hash) || self.lines.contains(&hash) {
                continue;
            }
            match parse(line, modified) {
                Ok(report) => news.reports.push(report),
                Err(why) => news.wrong.push((number + 1, why)),
            }
        }
        self.lines = lines;
        news
    }
}

/// A report that doesn't say when it was made is as old as its file.
fn parse(line: &[u8], modified: SystemTime) -> Result<Report, String> {
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} bytes"));
    }
    let mut report = Report::parse(line).map_err(|wrong| wrong.to_string())?;
    report.at = report.at.or(Some(modified));
    Ok(report)
}

impl Stamp {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        Ok(Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.modified()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EU: &str = "{\"pop\":\"eu\",\"state\":\"up\"}\n";
    const US: &str = "{\"pop\":\"us\",\"at\":7,\"state\":\"up\"}\n";

    fn senders(news: &News) -> Vec<&str> {
        let reports = news.reports.iter();
        reports.map(|report| report.sender.name()).collect()
    }

    struct Written {
        _folder: tempfile::TempDir,
        file: ReportsFile,
    }

    impl Written {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = ReportsFile::new(&folder.path().join("reports.jsonl"), 1000);
            Self {
                _folder: folder,
                file,
            }
        }

        fn write(&mut self, text: &str) -> io::Result<Option<News>> {
            std::fs::write(&self.file.path, text).unwrap();
            self.file.read()
        }
    }

    #[test]
    fn what_is_new_is_read_once() {
        let mut written = Written::new();
        assert!(written.file.read().is_err(), "no such file");
        let first = written.write(EU).unwrap().unwrap();
        assert_eq!(senders(&first), ["eu"]);
        assert!(first.reports[0].at.is_some(), "the file's time stands in");
        assert!(
            written.file.read().unwrap().is_none(),
            "nothing has changed"
        );
        let more = written.write(&format!("{EU}\n{US}")).unwrap().unwrap();
        assert_eq!(senders(&more), ["us"]);
        let rewritten = written.write(US).unwrap().unwrap();
        assert!(senders(&rewritten).is_empty());
        let again = written.write(&format!("{US}{EU}")).unwrap().unwrap();
        assert_eq!(senders(&again), ["eu"], "it was gone in between");
    }

    #[test]
    fn a_wrong_line_is_named_and_costs_the_others_nothing() {
        let mut written = Written::new();
        let long = "x".repeat(MAX_LINE + 1);
        written.file.most = 1 << 20;
        let news = written
            .write(&format!("{EU}nonsense\n{long}\n{US}"))
            .unwrap()
            .unwrap();
        assert_eq!(senders(&news), ["eu", "us"]);
        let lines: Vec<_> = news.wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn a_line_that_is_still_written_waits() {
        let mut written = Written::new();
        let half = written
            .write(&format!("{EU}{}", &US[..9]))
            .unwrap()
            .unwrap();
        assert_eq!((senders(&half), half.wrong.len()), (vec!["eu"], 0));
        let whole = written.write(&format!("{EU}{US}")).unwrap().unwrap();
        assert_eq!(senders(&whole), ["us"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let mut written = Written::new();
        let error = written.write(&EU.repeat(100)).err().unwrap();
        assert!(error.to_string().contains("reports.file_size"), "{error}");
        assert!(written.write(EU).unwrap().is_some());
    }
}
