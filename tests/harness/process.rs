//! Child processes that can't outlive the test: killed when dropped, and by the kernel when the
//! test process ends without dropping them.
//!
//! The parent-death signal is sent when the *thread* that spawned the child ends, and test threads
//! end with their test; so one thread that lives as long as the process spawns all of them.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use super::until;

/// A running child; its standard error goes to a file.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, standard error into the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Process {
        let stderr = File::create(log).expect("cannot make a log file");
        command.stdin(Stdio::null()).stderr(stderr);
        let child = spawn(command).expect("cannot start a child process");
        Process {
            child,
            log: log.to_owned(),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its standard output.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("cannot wait for a child")
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, what: &str) -> ExitStatus {
        until(what, || {
            self.child.try_wait().expect("cannot wait for a child")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- the end of {}\n{}",
                self.log.display(),
                tail(&self.log())
            );
        }
    }
}

/// Sends `signal` to the process `pid`.
pub fn send_signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a process id fits");
    assert!(pid > 1, "never signal {pid}");
    // SAFETY: kill(2) touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

/// kill -9 of a process that isn't our child, and waits until it runs no more.
pub fn kill_pid(pid: u32) {
    send_signal(pid, libc::SIGKILL);
    until(&format!("the end of process {pid}"), || {
        (!is_running(pid)).then_some(())
    });
}

/// Whether there is such a process, zombies not counted.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The most memory that a process has had in its hands since [`reset_peak_memory`], in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: u64 = number
        .and_then(|kib| kib.parse().ok())
        .expect("VmHWM in KiB");
    kib << 10
}

/// Begins to look anew: the peak is what it has now.
pub fn reset_peak_memory(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it can be reset");
}

/// Whether `status` says that a signal or an error code ended the process.
pub fn failed(status: ExitStatus) -> bool {
    !status.success() && status.signal().is_none()
}

/// The last lines of a log, enough to see what went wrong.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

type Order = (Command, Sender<io::Result<Child>>);

fn spawn(mut command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Order>> = OnceLock::new();
    // SAFETY: between fork and exec, prctl(2) is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
    let (answer, answered) = channel();
    let keeper = KEEPER.get_or_init(keep);
    keeper
        .send((command, answer))
        .map_err(|_| io::Error::other("the spawning thread is gone"))?;
    answered
        .recv()
        .map_err(|_| io::Error::other("the spawning thread is gone"))?
}

fn keep() -> Sender<Order> {
    let (orders, taken) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, answer) in taken {
            let _ = answer.send(command.spawn());
        }
    });
    orders
}
