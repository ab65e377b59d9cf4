//! Git repositories made by the tests: each commit a day after the one before, everywhere at the
//! same time, so that their names never change.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A repository with a working folder, and the bare one that it is published as.
pub struct Repository {
    work: PathBuf,
    bare: PathBuf,
    day: Cell<u32>,
}

impl Repository {
    /// A new one, with a branch `main` and no commit. It will be published as `bare`. `format` is how
    /// its objects are named: sha1 or sha256.
    pub fn new(work: &Path, bare: &Path, format: &str) -> Repository {
        fs::create_dir_all(work).expect("a folder for a repository");
        let repository = Repository {
            work: work.to_owned(),
            bare: bare.to_owned(),
            day: Cell::new(0),
        };
        let format = format!("--object-format={format}");
        let bare = bare.to_str().expect("a path of UTF-8");
        repository.git(&["init", "-q", "-b", "main", &format]);
        repository.git(&["init", "-q", "-b", "main", &format, "--bare", bare]);
        repository
    }

    /// One that was made before.
    pub fn reopen(work: &Path, bare: &Path) -> Repository {
        Repository {
            work: work.to_owned(),
            bare: bare.to_owned(),
            day: Cell::new(100),
        }
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) -> &Repository {
        let path = self.work.join(path);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("a folder in a repository");
        fs::write(path, text).expect("a file in a repository");
        self
    }

    /// Makes a link.
    pub fn link(&self, path: &str, target: &str) -> &Repository {
        std::os::unix::fs::symlink(target, self.work.join(path)).expect("a link in a repository");
        self
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) -> &Repository {
        fs::remove_file(self.work.join(path)).expect("a file to remove");
        self
    }

    /// Commits all there is; the commit's name.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Tags the last commit.
    pub fn tag(&self, tag: &str) -> &Repository {
        self.git(&["tag", "--", tag]);
        self
    }

    /// Tags the last commit with a tag that is an object of its own.
    pub fn annotated(&self, tag: &str) -> &Repository {
        self.git(&["tag", "-a", "-m", "a tag", "--", tag]);
        self
    }

    /// Goes to a branch, a new one if there is none.
    pub fn branch(&self, branch: &str) -> &Repository {
        let known = self.git(&["branch", "--list", branch]);
        let flags: &[&str] = if known.is_empty() { &["-b"] } else { &[] };
        let all = [&["checkout", "-q"], flags, &[branch]].concat();
        self.git(&all);
        self
    }

    /// Makes the bare repository what the working one is.
    pub fn publish(&self) {
        let bare = self.bare.to_str().expect("a path of UTF-8");
        if !self
            .git(&["for-each-ref", "refs/heads", "refs/tags"])
            .is_empty()
        {
            self.git(&["push", "-q", "--mirror", bare]);
        }
    }

    /// Where it is published.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Runs git in the working folder; what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        let day = self.day.get() + 1;
        if matches!(arguments.first(), Some(&"commit" | &"tag" | &"merge")) {
            self.day.set(day);
        }
        // A time zone of its own: versions have UTC.
        let date = format!("2020-{:02}-{:02}T23:15:00+0530", day / 28 + 1, day % 28 + 1);
        run(&self.work, arguments, &date)
    }
}

/// Runs git with nothing of this machine's configuration.
pub fn run(folder: &Path, arguments: &[impl AsRef<OsStr>], date: &str) -> String {
    let ran = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "C")
        .env("GIT_COMMITTER_EMAIL", "c@example.com")
        .env("GIT_AUTHOR_DATE", date)
        .env("GIT_COMMITTER_DATE", date)
        .stdin(Stdio::null())
        .output()
        .expect("these tests need git: run script/setup --test");
    let stdout = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    let words: Vec<_> = arguments
        .iter()
        .map(|a| a.as_ref().to_string_lossy())
        .collect();
    assert!(
        ran.status.success(),
        "git {}: {stdout}\n{stderr}",
        words.join(" ")
    );
    stdout
}
