//! What earlier runs have done: a file with the URL in its first line, and a path a line.
//!
//! A last line without an end was cut off in the middle: it is not believed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    done: HashSet<String>,
    file: Option<File>,
}

impl State {
    /// Without a path nothing is remembered.
    ///
    /// # Errors
    /// If the file can't be used, or is of another URL; in words.
    pub(super) fn open(path: Option<&Path>, url: &str) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let said = |error: io::Error| format!("--state {}: {error}", path.display());
        let known = match fs::read_to_string(path) {
            Ok(text) => parse(&text, url).map_err(|of| {
                format!(
                    "--state {}: is of a run against {of}; remove it, or name another file",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(said(error)),
        };
        let mut options = File::options();
        let mut file = options.create(true).append(true).open(path).map_err(said)?;
        let (done, whole) = known.unwrap_or_default();
        if whole == 0 {
            file.set_len(0).map_err(said)?;
            writeln!(file, "{}", head(url)).map_err(said)?;
        } else {
            file.set_len(whole).map_err(said)?;
        }
        Ok(Self {
            done,
            file: Some(file),
        })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.done.contains(path)
    }

    /// Remembers that a path is done.
    pub(super) fn add(&mut self, path: &str) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(format!("{path}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

fn head(url: &str) -> String {
    format!("modcdn warm {url}")
}

/// What is done, and how long the file is without what was cut off; the error is another URL.
type Known = Option<(HashSet<String>, u64)>;

fn parse(text: &str, url: &str) -> Result<Known, String> {
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut lines = text[..whole].lines();
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    if first != head(url) {
        return Err(first.strip_prefix("modcdn warm ").unwrap_or("?").to_owned());
    }
    Ok(Some((lines.map(str::to_owned).collect(), whole as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://go.example.com";

    #[test]
    fn what_is_done_is_remembered_and_a_torn_line_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut state = State::open(Some(&path), URL).unwrap();
        state.add("/a").unwrap();
        state.add("/b").unwrap();
        drop(state);
        let whole = fs::read_to_string(&path).unwrap();
        for (cut, has_b) in [(0, true), (1, false), (2, false)] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut state = State::open(Some(&path), URL).unwrap();
            assert!(state.has("/a"));
            assert_eq!(state.has("/b"), has_b, "{cut}");
            state.add("/c").unwrap();
            drop(state);
            let again = State::open(Some(&path), URL).unwrap();
            assert!(again.has("/c") && !again.has("/"));
        }
        assert!(
            State::open(Some(&path), "http://other")
                .unwrap_err()
                .contains(URL)
        );
    }

    #[test]
    fn without_a_file_nothing_is_remembered() {
        let mut state = State::open(None, URL).unwrap();
        state.add("/a").unwrap();
        assert!(!state.has("/a"));
    }
}
