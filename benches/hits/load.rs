//! One run of the generator against one contender.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use super::contender::Contender;
use super::rig::{GENERATOR, Outcome, children_seconds_since_last, cpu_seconds, resident};

/// What is asked, and how.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) path: &'static str,
    /// Requests at once on each of 8 connections.
    pub(super) streams: u32,
    /// HTTP/1.1 in clear text instead of HTTP/2 over TLS.
    pub(super) clear: bool,
    /// Requests a second on each connection; `None` for as many as there can be.
    pub(super) rate: Option<u32>,
}

/// What one load run showed.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) requests_per_second: f64,
    /// Microseconds of the server's CPU time a request.
    pub(super) cpu_micros: f64,
    /// The share of its core that the generator used.
    pub(super) generator: f64,
}

impl Load {
    fn command(self, contender: &Contender, connections: u32, seconds: u64) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &GENERATOR.to_string()]);
        if self.rate.is_some() {
            // What else runs on its core must not be taken for the server's being late.
            command.args(["chrt", "--fifo", "50"]);
        }
        command.args(["h2load", "-t1", "-c"]);
        command.args([&connections.to_string(), "-m", &self.streams.to_string()]);
        command.args(["-D", &seconds.to_string()]);
        if let Some(rate) = self.rate {
            command.args(["--rps", &rate.to_string()]);
        }
        if self.clear {
            command.arg("--h1");
            command.arg(format!("http://127.0.0.1:{}{}", contender.clear, self.path));
        } else {
            // What the go command asks for first on a machine with AES instructions.
            command.arg("--tls13-ciphers=TLS_AES_128_GCM_SHA256");
            command.arg(format!("https://127.0.0.1:{}{}", contender.port, self.path));
        }
        command.stdin(Stdio::null());
        command
    }
}

/// Loads one contender with 8 connections.
pub(super) fn run(contender: &Contender, load: Load, seconds: u64) -> Outcome<Run> {
    let before = cpu_seconds(contender.pid)?;
    let started = Instant::now();
    let output = load.command(contender, 8, seconds).output()?;
    let elapsed = started.elapsed().as_secs_f64();
    let used = cpu_seconds(contender.pid)? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let done = number_before(&text, " succeeded").ok_or("h2load printed no count")?;
    let bad = number_before(&text, " failed").unwrap_or(0.0)
        + number_before(&text, " 4xx").unwrap_or(0.0)
        + number_before(&text, " 5xx").unwrap_or(0.0);
    if done < 1.0 || bad > 0.0 {
        return Err(format!(
            "{}: {} failed under load:\n{text}",
            contender.name, load.path
        )
        .into());
    }
    Ok(Run {
        requests_per_second: done / seconds as f64,
        cpu_micros: used * 1e6 / done,
        generator: children_seconds_since_last()? / elapsed,
    })
}

/// Resident memory while so many connections are open and nearly idle: a request each, every ten
/// seconds.
pub(super) fn resident_with(contender: &Contender, load: Load, connections: u32) -> Outcome<u64> {
    let mut generator = load
        .command(contender, connections, 9)
        .args(["--rps", "0.1"])
        .stdout(Stdio::null())
        .spawn()?;
    sleep(Duration::from_secs(8));
    let resident = resident(contender.pid);
    generator.wait()?;
    resident
}

/// The 99th percentile of the time to an answer, in microseconds; `meanwhile` runs beside.
pub(super) fn p99(
    contender: &Contender,
    load: Load,
    dir: &Path,
    meanwhile: impl FnOnce() + Send + 'static,
) -> Outcome<u64> {
    let log = dir.join("latency.log");
    let _ = fs::remove_file(&log);
    let beside = spawn(meanwhile);
    let logged = format!("--log-file={}", log.display());
    let output = load.command(contender, 8, 5).arg(logged).output()?;
    beside.join().map_err(|_| "the load beside panicked")?;
    let text = fs::read_to_string(&log)?;
    let taken = text
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.trim().parse().ok());
    let mut taken: Vec<u64> = taken.collect();
    taken.sort_unstable();
    let at = (taken.len() * 99 / 100).min(taken.len().saturating_sub(1));
    let missing = || format!("no latencies:\n{}", String::from_utf8_lossy(&output.stdout));
    Ok(*taken.get(at).ok_or_else(missing)?)
}

/// The number right before `what`.
fn number_before(text: &str, what: &str) -> Option<f64> {
    let end = text.find(what)?;
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
