//! One node's process.
//!
//! It dies with us, however we die: the kernel kills it when the thread that started it ends
//! (`PR_SET_PDEATHSIG`). That thread is the main thread, since `up` runs all its futures there.
//! It has a process group of its own, so a terminal's Ctrl-C reaches only us, and we stop it.

use std::ffi::c_int;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::terminal::notice;
use crate::up::folders::Folders;
use crate::up::logs;
use crate::up::plan::Node;
use crate::up::stop::Stop;

/// A node finishes what is under way within this time after SIGTERM, or is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A killed process is gone within this time, unless the kernel can't let go of it.
const REAP_BOUND: Duration = Duration::from_secs(5);

/// How nodes are started: with this very binary.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Where configurations and logs are.
    pub(crate) folders: &'a Folders,
}

/// A node that was started. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    /// What it is.
    pub(crate) node: &'a Node,
    /// Its process.
    pub(crate) pid: u32,
    child: Child,
    log: PathBuf,
    /// Where this run's part of the log begins.
    log_from: u64,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// As a part of a sentence: `was killed by SIGKILL`.
    pub(crate) how: String,
    /// Somebody sent it a signal that programs don't send to themselves.
    pub(crate) by_somebody: bool,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
            (None, None) => format!("ended: {status}"),
        };
        let sent = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT];
        Self {
            how,
            by_somebody: status.signal().is_some_and(|signal| sent.contains(&signal)),
        }
    }
}

impl<'a> Running<'a> {
    /// Starts a node with its configuration file.
    ///
    /// # Errors
    /// Its log can't be opened, or the process can't be made.
    pub(crate) fn start(node: &'a Node, program: &Program<'_>) -> io::Result<Self> {
        let log = program.folders.log(node.name);
        let (file, log_from) = logs::open(&log)?;
        let mut command = command(program, node, &program.folders.config(node.name));
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            node,
            pid,
            child,
            log,
            log_from,
        })
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> End {
        match self.child.wait().await {
            Ok(status) => End::of(status),
            Err(error) => End {
                how: format!("can't be waited for: {error}"),
                by_somebody: false,
            },
        }
    }

    /// Stops it: SIGTERM, then SIGKILL after [`GRACE`] or when asked a second time.
    pub(crate) async fn stop(mut self, mut stop: Stop) {
        self.terminate();
        let why = tokio::select! {
            over = timeout(GRACE, self.child.wait()) => match over {
                Ok(_) => return,
                Err(_) => "did not stop in time",
            },
            () = stop.insisted() => "is still busy",
        };
        let (title, pid) = (self.node.title(), self.pid);
        notice(format_args!("{title} (pid {pid}) {why}; killing it"));
        let _ = self.child.start_kill();
        if timeout(REAP_BOUND, self.child.wait()).await.is_err() {
            notice(format_args!(
                "{title} (pid {pid}) can't be killed; leaving it to the kernel"
            ));
        }
    }

    /// The end of what it has written to its log since it was started, as indented lines.
    pub(crate) fn last_words(&self) -> String {
        match logs::tail(&self.log, self.log_from) {
            tail if tail.is_empty() => String::new(),
            tail => format!("; the end of {}:{tail}", self.log.display()),
        }
    }

    fn terminate(&self) {
        // No id any more: it was reaped, and its number may be somebody else's.
        let Some(pid) = self
            .child
            .id()
            .and_then(|pid| libc::pid_t::try_from(pid).ok())
        else {
            return;
        };
        // SAFETY: kill takes two integers and touches no memory. The process is our child and not
        // reaped (`id` is `Some`), so its number can't have gone to another one.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

fn command(program: &Program<'_>, node: &Node, config: &Path) -> Command {
    let mut command = Command::new(&program.binary);
    command
        .arg(node.role().name())
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let parent = std::process::id();
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
    // calls are allowed. It makes two system calls, allocates nothing (an error made from a number
    // holds no heap), takes no lock and reads one integer, copied into it.
    unsafe { command.pre_exec(move || die_with(parent)) };
    command
}

/// Has the kernel kill this process when its parent ends. Async-signal-safe.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG reads one integer argument and touches no memory of ours.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the kernel knew what to do then.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn signal_name(signal: c_int) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_code_or_signal() {
        for (status, how, by_somebody) in [
            (2 << 8, "ended with exit code 2", false),
            (libc::SIGKILL, "was killed by SIGKILL", true),
            (libc::SIGABRT, "was killed by SIGABRT", false),
            (64, "was killed by signal 64", false),
        ] {
            let end = End::of(ExitStatus::from_raw(status));
            assert_eq!((end.how.as_str(), end.by_somebody), (how, by_somebody));
        }
    }

    #[test]
    fn a_child_of_somebody_else_refuses_to_run() {
        // In a process of its own, since the call changes what happens to whoever makes it.
        let mut command = std::process::Command::new("true");
        // SAFETY: as in `command`: async-signal-safe, and reads one integer.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, || die_with(u32::MAX));
        }
        let error = command.status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}
