//! A checksum database of our own: the program in `tests/sumdb`, on golang.org/x/mod's server, whose
//! records are computed from an upstream's tree. It lies on command.
//!
//! The origin's own tests use this file too.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// The database's name.
pub const NAME: &str = "sum.test";

/// A running database; it ends when dropped, or when the test process does.
pub struct SumDb {
    key: String,
    url: String,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl SumDb {
    /// Starts one for the modules of `upstream`, a `file://` or `http://` URL.
    pub fn start(upstream: &str) -> SumDb {
        let mut child = Command::new(program())
            .args(["-name", NAME, "-upstream", upstream])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the database was built");
        let commands = child.stdin.take().expect("it is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let line = read_line(&mut answers);
        let (key, url) = line.split_once(' ').expect("a key and a URL");
        SumDb {
            key: key.to_owned(),
            url: url.to_owned(),
            child,
            commands,
            answers,
        }
    }

    /// Its verifier key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its own URL; as a module proxy it knows nothing but `/sumdb/`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells it what to do; when this returns, it does. The commands stand in `tests/sumdb/main.go`.
    pub fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("the database runs");
        let answer = read_line(&mut self.answers);
        let rest = answer.strip_prefix("ok").expect("it does as it is told");
        rest.trim().to_owned()
    }

    /// How many requests came so far.
    pub fn requests(&mut self) -> u64 {
        let count = self.tell("requests");
        count.parse().expect("a number")
    }
}

impl Drop for SumDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_line(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    let read = answers.read_line(&mut line).expect("it answers in text");
    assert!(
        read > 0,
        "the checksum database ended; see its standard error"
    );
    line.trim_end().to_owned()
}

/// The program, built once a test process.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sumdb");
        std::fs::create_dir_all(&folder).expect("a folder for the program");
        let program = folder.join("sumdb");
        // Several test processes may build it at once: each under a name of its own.
        let own = folder.join(format!("sumdb-{}", std::process::id()));
        let go = std::env::var_os("MODCDN_TEST_GO").unwrap_or_else(|| "go".into());
        let built = Command::new(go)
            .args(["build", "-o"])
            .arg(&own)
            .arg(".")
            .current_dir(source())
            .env("GOFLAGS", "-mod=mod")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .expect("this test needs the go command on PATH (Go 1.22 or later)");
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(
            built.status.success(),
            "go build tests/sumdb failed:\n{errors}"
        );
        std::fs::rename(own, &program).expect("the program gets its name");
        program
    })
}

/// Where its source is: `tests/sumdb` of the repository.
fn source() -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let sources = folders.find_map(|folder| {
        let source = folder.join("tests/sumdb");
        source.join("go.mod").exists().then_some(source)
    });
    sources.expect("the repository has tests/sumdb")
}
