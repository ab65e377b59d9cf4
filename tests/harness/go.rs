//! A real `go`, each with an empty GOMODCACHE of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::modules;
use super::scratch::Scratch;

/// No run of `go` in these tests takes this long on any machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Sends a user's `go` through a proxy.
pub struct Go {
    scratch: Scratch,
    env: Vec<(&'static str, OsString)>,
}

impl Go {
    /// A user with nothing in his caches and `proxy` in GOPROXY.
    pub fn with_proxy(proxy: &str) -> Go {
        let scratch = Scratch::new("go");
        let home = scratch.folder("home");
        let mut env = pinned_env();
        env.extend([
            ("GOPROXY", OsString::from(proxy)),
            ("GOSUMDB", OsString::from("off")),
            ("GOMODCACHE", scratch.folder("mod").into()),
            ("GOPATH", home.join("go").into()),
            ("GOCACHE", build_cache().into()),
            ("HOME", home.clone().into()),
            ("XDG_CONFIG_HOME", home.join("config").into()),
            // Ours is the only resolver asked, and never by way of the C library.
            ("GODEBUG", OsString::from("netdns=go")),
            ("GOVCS", OsString::from("*:off")),
        ]);
        Go { scratch, env }
    }

    /// One more environment variable.
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Go {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Without a variable that he would have.
    pub fn without(mut self, name: &str) -> Go {
        self.env.retain(|(known, _)| *known != name);
        self
    }

    /// Runs a script of his shell in a folder with an empty go.mod; `go` is on its PATH.
    pub fn shell(&self, script: &str) -> Ran {
        let folder = self.empty();
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]);
        let mut path = go_binary()
            .parent()
            .expect("go is in a folder")
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        self.ran(command, &folder, script)
    }

    /// The folder he works in, at first a copy of `tests/project`.
    pub fn project(&self) -> PathBuf {
        let copy = self.scratch.folder("project");
        for name in ["go.mod", "go.sum", "main.go"] {
            if !copy.join(name).exists() {
                let from = modules::project().join(name);
                fs::copy(from, copy.join(name)).expect("cannot copy the project");
            }
        }
        copy
    }

    /// Runs `go` in the project.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_in(&self.project(), arguments)
    }

    /// Runs `go` in a folder with an empty go.mod: for questions about any module.
    pub fn ask(&self, arguments: &[&str]) -> Ran {
        self.run_in(&self.empty(), arguments)
    }

    fn empty(&self) -> PathBuf {
        let folder = self.scratch.folder("empty");
        self.scratch
            .file("empty/go.mod", "module example.com/empty\n\ngo 1.22\n");
        folder
    }

    /// `go mod download`, `go build`, then the binary: all must succeed.
    pub fn downloads_and_builds(&self) {
        self.run(&["mod", "download"]).succeeds();
        self.builds();
    }

    /// `go build`, then the binary.
    pub fn builds(&self) {
        self.run(&["build", "-o", "project.bin", "."]).succeeds();
        let ran = Command::new(self.project().join("project.bin"))
            .output()
            .expect("it was built");
        assert_eq!(
            String::from_utf8_lossy(&ran.stdout),
            modules::PROJECT_PRINTS
        );
    }

    fn run_in(&self, folder: &Path, arguments: &[&str]) -> Ran {
        let mut command = Command::new(go_binary());
        command.args(arguments);
        self.ran(command, folder, &arguments.join(" "))
    }

    fn ran(&self, mut command: Command, folder: &Path, what: &str) -> Ran {
        let (out, err) = (
            self.scratch.path().join("stdout"),
            self.scratch.path().join("stderr"),
        );
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(File::create(&out).expect("a file for stdout"));
        command.stderr(File::create(&err).expect("a file for stderr"));
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "http_proxy",
            "https_proxy",
            "GONOPROXY",
        ] {
            command.env_remove(name);
        }
        for name in ["GOPRIVATE", "GONOSUMDB", "GOAUTH", "GOWORK", "GOENV"] {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let status = wait_bounded(&mut command, what);
        let read = |path| fs::read_to_string(path).expect("what go wrote is utf-8");
        Ran {
            what: what.to_owned(),
            status,
            stdout: read(out),
            stderr: read(err),
        }
    }
}

/// What a run of `go` left behind.
pub struct Ran {
    what: String,
    status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// It must have succeeded.
    pub fn succeeds(self) -> Ran {
        let Ran {
            what,
            stdout,
            stderr,
            ..
        } = &self;
        assert!(
            self.status.success(),
            "go {what} failed\n{stdout}\n{stderr}"
        );
        self
    }

    /// It must have failed; what the user was told.
    pub fn fails(self) -> String {
        let Ran {
            what,
            stdout,
            stderr,
            ..
        } = &self;
        assert!(
            !self.status.success(),
            "go {what} succeeded\n{stdout}\n{stderr}"
        );
        self.stderr
    }
}

/// The `go` for tests: the one named by MODCDN_TEST_GO, else the one on PATH; at least 1.23.
pub fn go_binary() -> &'static Path {
    static GO: OnceLock<PathBuf> = OnceLock::new();
    GO.get_or_init(|| {
        let name = std::env::var_os("MODCDN_TEST_GO").unwrap_or_else(|| "go".into());
        let asked = Command::new(&name)
            .args(["env", "GOVERSION", "GOROOT"])
            .env("GOTOOLCHAIN", "local")
            .output();
        let answer = asked
            .ok()
            .filter(|ran| ran.status.success())
            .map(|ran| ran.stdout);
        let answer = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
        let mut lines = answer.lines();
        let minor = lines.next().and_then(go_minor);
        assert!(
            minor.is_some_and(|minor| minor >= 23),
            "these tests need go 1.23 or newer, {} is not: run script/setup --test",
            name.display()
        );
        PathBuf::from(lines.next().unwrap_or_default()).join("bin/go")
    })
}

/// What every `go` of the tests is given: no other toolchain, removable files, no surprises from
/// the machine's settings. `-trimpath` lets runs with different caches share compiled packages.
pub fn pinned_env() -> Vec<(&'static str, OsString)> {
    [
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", "-modcacherw -buildvcs=false -trimpath"),
        ("GOWORK", "off"),
        ("GO111MODULE", "on"),
        ("CGO_ENABLED", "0"),
    ]
    .map(|(name, value)| (name, OsString::from(value)))
    .to_vec()
}

/// `go1.26.8` is 26.
fn go_minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("go1.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Compiled packages, kept: compiling the standard library again each time proves nothing.
fn build_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build")
}

fn wait_bounded(command: &mut Command, what: &str) -> ExitStatus {
    let mut child = command.spawn().expect("cannot run go");
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("cannot wait for go") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("go {what} took longer than {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
