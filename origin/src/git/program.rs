//! Running git.
//!
//! A run knows no environment but ours, asks nobody, and is bounded in everything: how many there
//! are, time, memory, files, what it prints, and how much a folder may grow meanwhile. Whatever ends
//! it early (a bound, or the one who waited for it being gone) kills the whole process group, its
//! `ssh` and `git-remote-https` too. A run that is dropped is a run that is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use modcdn_core::units::ByteSize;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::{Config, HttpProxy, Upstreams};
use crate::disk;

/// Of our own environment git sees this and no more: where programs and authorities are.
const INHERITED: &[&str] = &[
    "PATH",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "GIT_EXEC_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// And this, where proxies are taken from the environment.
const PROXIES: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// How much of a complaint is read.
const COMPLAINT_BYTES: u64 = 16 << 10;

/// How often a growing folder is measured.
const MEASURED_EVERY: Duration = Duration::from_millis(100);

/// Runs git.
pub(crate) struct Program {
    binary: PathBuf,
    home: PathBuf,
    protocols: String,
    proxies: Vec<(&'static str, OsString)>,
    memory: u64,
    queue: Duration,
    places: Semaphore,
}

/// One run.
pub(crate) struct Run {
    pub(crate) arguments: Vec<OsString>,
    /// The repository, for everything but `ls-remote` of one that has no mirror yet.
    pub(crate) repository: Option<PathBuf>,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// The command for `ssh://`.
    pub(crate) ssh: String,
    pub(crate) input: Bytes,
    pub(crate) output: Output,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// How large any file that it writes may be.
    pub(crate) file_limit: u64,
    /// A folder, and how large it may grow.
    pub(crate) growth: Option<(PathBuf, u64)>,
}

/// Where a run's standard output goes.
pub(crate) enum Output {
    /// Into memory, at most so many bytes.
    Memory(u64),
    /// Into a file.
    File(Arc<File>),
}

/// A run that came to its own end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) code: Option<i32>,
    pub(crate) output: Bytes,
    /// The end of what it complained of.
    pub(crate) complaint: String,
}

/// Why a run did not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("git can't be run: {0}")]
    Missing(io::Error),
    #[error("as many runs of git as there may be, and none ended in time")]
    Crowded,
    #[error("it took longer than {0:?}")]
    TooLong(Duration),
    #[error("more than {limit} of {what}")]
    TooLarge { what: &'static str, limit: ByteSize },
    #[error("git was ended by signal {0}, which lack of memory can cause too")]
    Killed(i32),
    #[error("talking to git: {0}")]
    Broken(io::Error),
}

impl Program {
    pub(crate) fn new(config: &Config, home: PathBuf) -> Self {
        let git = &config.git;
        let protocols: Vec<&str> = git.protocols.iter().map(|p| p.name()).collect();
        Self {
            binary: git.program.clone(),
            home,
            protocols: protocols.join(":"),
            proxies: proxies(&config.upstreams),
            memory: git.limits.memory.as_u64(),
            queue: git.timeouts.queue.get(),
            places: Semaphore::new(git.limits.programs),
        }
    }

    /// Runs git to its end.
    ///
    /// # Errors
    /// If it did not come to one by itself; a bad end is a good answer here.
    pub(crate) async fn run(&self, run: Run) -> Result<Ended, Cut> {
        let place = timeout(self.queue, self.places.acquire());
        let Ok(Ok(_place)) = place.await else {
            return Err(Cut::Crowded);
        };
        let (limit, growth) = (run.limit, run.growth.clone());
        let mut started = self.start(&run)?;
        let talked = async {
            match growth {
                None => started.talk(run).await,
                Some((folder, most)) => {
                    let ended = tokio::select! {
                        ended = started.talk(run) => ended,
                        cut = outgrown(&folder, most) => Err(cut),
                    };
                    // One of git's own children may have been the one that ran into the bound.
                    match ended {
                        Ok(Ended { success: false, .. }) if is_over(&folder, most).await => {
                            Err(outgrew(most))
                        }
                        ended => ended,
                    }
                }
            }
        };
        match timeout(limit, talked).await {
            Ok(ended) => ended,
            Err(_) => Err(Cut::TooLong(limit)),
        }
    }

    fn start(&self, run: &Run) -> Result<Started, Cut> {
        let mut command = Command::new(&self.binary);
        command
            .args(&run.arguments)
            .current_dir(&self.home)
            .env_clear()
            .envs(self.environment(run))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        match &run.output {
            Output::Memory(_) => command.stdout(Stdio::piped()),
            Output::File(file) => command.stdout(file.try_clone().map_err(Cut::Broken)?),
        };
        bound(&mut command, self.memory, run.file_limit);
        let child = command.spawn().map_err(Cut::Missing)?;
        Ok(Started::new(child))
    }

    fn above_home(&self) -> OsString {
        self.home.parent().unwrap_or(&self.home).into()
    }

    fn environment(&self, run: &Run) -> Vec<(&'static str, OsString)> {
        let mut all = inherited(INHERITED);
        all.extend(self.proxies.iter().cloned());
        all.extend([
            ("HOME", self.home.clone().into()),
            ("XDG_CONFIG_HOME", self.home.clone().into()),
            // Where there is no mirror yet, no repository that we happen to lie in may take its place.
            ("GIT_CEILING_DIRECTORIES", self.above_home()),
            ("LC_ALL", "C".into()),
            ("TZ", "UTC".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_CONFIG_GLOBAL", run.config.clone().into()),
            ("GIT_ATTR_NOSYSTEM", "1".into()),
            ("GIT_TERMINAL_PROMPT", "0".into()),
            ("GIT_ASKPASS", "".into()),
            ("SSH_ASKPASS_REQUIRE", "never".into()),
            ("GIT_ALLOW_PROTOCOL", self.protocols.clone().into()),
            ("GIT_SSH_COMMAND", run.ssh.clone().into()),
            ("GIT_SSH_VARIANT", "ssh".into()),
            ("GIT_LITERAL_PATHSPECS", "1".into()),
            ("GIT_OPTIONAL_LOCKS", "0".into()),
            ("GIT_NO_REPLACE_OBJECTS", "1".into()),
            ("GIT_NO_LAZY_FETCH", "1".into()),
        ]);
        let repository = run.repository.as_ref();
        all.extend(repository.map(|dir| ("GIT_DIR", dir.clone().into())));
        all
    }
}

fn proxies(upstreams: &Upstreams) -> Vec<(&'static str, OsString)> {
    match &upstreams.proxy {
        HttpProxy::Env => inherited(PROXIES),
        HttpProxy::Off => Vec::new(),
        // Its URL may hold a secret: it stands in git's configuration file.
        HttpProxy::Url(_) => vec![("no_proxy", upstreams.no_proxy.join(",").into())],
    }
}

fn inherited(names: &[&'static str]) -> Vec<(&'static str, OsString)> {
    let names = names.iter().copied();
    names
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect()
}

/// Bounds what the child, and its children, may take.
fn bound(command: &mut Command, memory: u64, file: u64) {
    // A bound that we are under ourselves can't be raised.
    let within = |resource: Resource, most: u64| {
        let ours = getrlimit(resource).maximum;
        let most = Some(ours.map_or(most, |ours| ours.min(most)));
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        (resource, limit)
    };
    let limits = [
        within(Resource::Data, memory),
        within(Resource::Fsize, file),
        within(Resource::Core, 0),
    ];
    let set = move || {
        for (resource, limit) in limits {
            setrlimit(resource, limit)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; it allocates nothing and
    // takes no lock.
    unsafe {
        command.pre_exec(set);
    }
}

/// A child and its process group, killed if dropped before the child's end was seen.
struct Started {
    child: Child,
    group: Option<Pid>,
}

impl Started {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            child,
            group: id.and_then(Pid::from_raw),
        }
    }

    /// Gives it its input, takes what it prints, waits for its end.
    async fn talk(&mut self, run: Run) -> Result<Ended, Cut> {
        let mut input = self.child.stdin.take();
        let write = async move {
            if let Some(input) = &mut input {
                // Git may know enough before it has read all: that is no fault.
                let _ = input.write_all(&run.input).await;
            }
            drop(input);
            Ok(())
        };
        let most = match run.output {
            Output::Memory(most) => most,
            Output::File(_) => 0,
        };
        let output = whole(self.child.stdout.take(), most);
        let complaint = tail(self.child.stderr.take());
        let ((), output, complaint) = tokio::try_join!(write, output, complaint)?;
        let status = self.child.wait().await.map_err(Cut::Broken)?;
        self.group = None;
        ended(status, output, complaint, run.file_limit)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It fails only if they are all gone, or become someone else's.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn ended(status: ExitStatus, output: Bytes, complaint: String, file: u64) -> Result<Ended, Cut> {
    match status.signal() {
        Some(signal) if signal == Signal::XFSZ.as_raw() => Err(Cut::TooLarge {
            what: "one file",
            limit: ByteSize::b(file),
        }),
        Some(signal) => Err(Cut::Killed(signal)),
        None => Ok(Ended {
            success: status.success(),
            code: status.code(),
            output,
            complaint,
        }),
    }
}

/// All that comes, unless it is too much.
async fn whole(from: Option<impl AsyncRead + Unpin>, most: u64) -> Result<Bytes, Cut> {
    let Some(from) = from else {
        return Ok(Bytes::new());
    };
    let mut all = Vec::new();
    let read = from.take(most + 1).read_to_end(&mut all).await;
    if read.map_err(Cut::Broken)? as u64 > most {
        return Err(Cut::TooLarge {
            what: "what git prints",
            limit: ByteSize::b(most),
        });
    }
    Ok(all.into())
}

/// The end of what comes.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> Result<String, Cut> {
    let Some(mut from) = from else {
        return Ok(String::new());
    };
    let keep = usize::try_from(COMPLAINT_BYTES).unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    let mut piece = vec![0; 4096];
    loop {
        let read = from.read(&mut piece).await.map_err(Cut::Broken)?;
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&piece[..read]);
        if kept.len() > 2 * keep {
            kept.drain(..kept.len() - keep);
        }
    }
    let from = kept.len().saturating_sub(keep);
    Ok(String::from_utf8_lossy(&kept[from..]).into_owned())
}

/// Ends when the folder holds as much as it may.
async fn outgrown(folder: &Path, most: u64) -> Cut {
    loop {
        tokio::time::sleep(MEASURED_EVERY).await;
        if is_over(folder, most).await {
            return outgrew(most);
        }
    }
}

async fn is_over(folder: &Path, most: u64) -> bool {
    let folder = folder.to_owned();
    let size = disk::blocking(move || Ok(size_of(&folder))).await;
    size.is_ok_and(|size| size >= most)
}

fn outgrew(most: u64) -> Cut {
    Cut::TooLarge {
        what: "a repository",
        limit: ByteSize::b(most),
    }
}

/// The bytes of all files in a folder. What vanishes meanwhile counts nothing.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size_of(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that stands in for git.
    struct Script {
        dir: tempfile::TempDir,
        program: Program,
    }

    fn script(text: &str) -> Script {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("git");
        // Written by another process: a program that one of ours has open for writing, a test beside
        // this one forking just now included, can't be run.
        let written = std::process::Command::new("sh")
            .args([
                "-c",
                "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod 755 \"$1\"",
                "sh",
            ])
            .args([path.as_os_str(), text.as_ref()])
            .status();
        assert!(written.unwrap().success());
        let mut config = Config::default();
        config.git.program = path;
        let program = Program::new(&config, dir.path().to_owned());
        Script { dir, program }
    }

    fn plain() -> Run {
        Run {
            arguments: Vec::new(),
            repository: None,
            config: "/dev/null".into(),
            ssh: "ssh".to_owned(),
            input: Bytes::new(),
            output: Output::Memory(1000),
            limit: Duration::from_secs(60),
            file_limit: 1 << 20,
            growth: None,
        }
    }

    #[tokio::test]
    async fn a_run_sees_our_environment_only() {
        let Script { dir: _dir, program } = script("env; cat; echo complaint >&2; exit 3");
        let mut run = plain();
        run.input = Bytes::from_static(b"input=yes\n");
        run.output = Output::Memory(100_000);
        let ended = program.run(run).await.unwrap();
        let output = String::from_utf8(ended.output.to_vec()).unwrap();
        assert_eq!((ended.code, ended.success), (Some(3), false));
        assert_eq!(ended.complaint, "complaint\n");
        for line in [
            "GIT_ALLOW_PROTOCOL=https:ssh",
            "GIT_TERMINAL_PROMPT=0",
            "input=yes",
        ] {
            assert!(output.lines().any(|l| l == line), "{line}\n{output}");
        }
        assert!(!output.contains("CARGO"), "{output}");
    }

    #[tokio::test]
    async fn a_run_that_takes_too_long_is_killed_with_its_children() {
        let Script { dir, program } = script("sleep 600 & echo $! > \"$HOME/pid\"; wait");
        let mut run = plain();
        run.limit = Duration::from_millis(500);
        let cut = program.run(run).await.unwrap_err();
        assert!(matches!(cut, Cut::TooLong(_)), "{cut}");
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        ends(pid.trim()).await;
    }

    #[tokio::test]
    async fn a_run_that_nobody_waits_for_is_killed_with_its_children() {
        let Script { dir, program } = script("sleep 600 & echo $! > \"$HOME/pid\"; wait");
        let file = dir.path().join("pid");
        let pid = tokio::select! {
            _ = program.run(plain()) => panic!("it sleeps"),
            pid = async {
                loop {
                    match std::fs::read_to_string(&file) {
                        Ok(pid) if pid.ends_with('\n') => break pid,
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            } => pid,
        };
        ends(pid.trim()).await;
    }

    /// Waits until a process is gone, or dead and not yet collected.
    async fn ends(pid: &str) {
        let stat = format!("/proc/{pid}/stat");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_grows_over_its_bound_is_cut() {
        let endless = script("while :; do echo xxxxxxxxxxxxxxxx; done");
        let cut = endless.program.run(plain()).await.unwrap_err();
        assert!(matches!(cut, Cut::TooLarge { .. }), "{cut}");

        let file = script("exec head -c 2000000 /dev/zero > \"$HOME/file\"");
        let cut = file.program.run(plain()).await.unwrap_err();
        assert!(matches!(cut, Cut::TooLarge { .. }), "{cut}");

        let folder = script("head -c 900000 /dev/zero > \"$HOME/a\"; sleep 600");
        let mut run = plain();
        run.growth = Some((folder.dir.path().to_owned(), 800_000));
        let cut = folder.program.run(run).await.unwrap_err();
        assert!(matches!(cut, Cut::TooLarge { .. }), "{cut}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let mut config = Config::default();
        config.git.program = "/nowhere/git".into();
        let program = Program::new(&config, "/".into());
        let cut = program.run(plain()).await.unwrap_err();
        assert!(matches!(cut, Cut::Missing(_)), "{cut}");
    }
}
