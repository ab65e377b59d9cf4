//! What benches stand on: bytes, module zips, a certificate, child processes, ports, clocks.
// Not every bench needs all of it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[allow(unreachable_pub)]
#[path = "../../tests/harness/zip.rs"]
mod zip;

pub(crate) use zip::module_zip;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The generator's core. Servers run on core 0 unless their row says otherwise.
pub(crate) const GENERATOR: usize = 1;

/// How long servers may take to come up.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(20);

/// Bytes of a xorshift generator: the same in every run.
pub(crate) fn incompressible(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

pub(crate) fn make_certificate(dir: &Path) -> Outcome<()> {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    fs::write(dir.join("cert.pem"), made.cert.pem())?;
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}

/// A child process that ends with its value.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: nginx's master takes its worker with it.
        // SAFETY: `kill` takes two integers; the pid is that of a child not yet waited for.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        sleep(Duration::from_millis(300));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn need(tool: &str) -> Outcome<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = PathBuf::from("/usr/sbin");
    let found = std::env::split_paths(&path)
        .chain([extra])
        .any(|dir| dir.join(tool).is_file());
    if found {
        return Ok(());
    }
    Err(format!(
        "{tool} is missing; `apt-get install nginx nghttp2-client util-linux` has all three"
    )
    .into())
}

pub(crate) fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) fn wait_for_port(port: u16) -> Outcome<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    Err(format!("nothing listens on 127.0.0.1:{port} after {READY_WITHIN:?}").into())
}

/// nginx's one worker, once its master, which listens first, has made it.
pub(crate) fn only_child(pid: u32) -> Outcome<u32> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Some(child) = text.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        sleep(Duration::from_millis(20));
    }
    Err("nginx has no worker".into())
}

/// User and system time of a process, all its threads.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat[stat.rfind(')').ok_or("no stat")? + 2..]
        .split(' ')
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // SAFETY: `sysconf` takes an integer and reads no memory of ours.
    Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
}

/// CPU time of children that have ended since this was last asked: the generator's.
pub(crate) fn children_seconds_since_last() -> Outcome<f64> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    let stat = BufReader::new(fs::File::open("/proc/self/stat")?)
        .lines()
        .next()
        .ok_or("no stat")??;
    let fields: Vec<&str> = stat[stat.rfind(')').ok_or("no stat")? + 2..]
        .split(' ')
        .collect();
    let ticks = fields[13].parse::<u64>()? + fields[14].parse::<u64>()?;
    // SAFETY: `sysconf` takes an integer and reads no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Ok((ticks - LAST.swap(ticks, Ordering::Relaxed)) as f64 / per_second)
}

/// Keeps the calling thread on one core.
pub(crate) fn pin_to(core: usize) -> std::io::Result<()> {
    // SAFETY: a set of cores is plain bits, for which zero is the empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes one bit of `cores`, and checks that it has it.
    unsafe { libc::CPU_SET(core, &mut cores) };
    // SAFETY: 0 is the calling thread; `cores` is read, and has the size that is said.
    let pinned = unsafe { libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores) };
    if pinned == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// CPU time of the calling thread.
pub(crate) fn own_cpu_seconds() -> Outcome<f64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes `time`, which is ours and outlives the call.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if told != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.trim().parse::<u64>()? * 1024)
}
