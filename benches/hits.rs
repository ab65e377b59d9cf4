//! RAM hits over TLS and HTTP/2, side by side with nginx serving the same files from disk.
//!
//! ```text
//! cargo bench --bench hits              # 5 rounds
//! cargo bench --bench hits -- --rounds 9 --seconds 4
//! ```
//!
//! Needs nginx, h2load and taskset, and at least two cores: every server runs on the first with one
//! worker, the generator on the second. Contenders take turns within one run, so that what disturbs
//! the machine disturbs all of them; figures are medians, and CPU time a request (user + system, of
//! the server's process alone) counts for more than requests a second. A generator that was busy
//! for more than 95 % of its core is pointed out: it, not the server, was measured then.
//!
//! nginx is measured as it comes and tuned (64 KiB HTTP/2 chunks, 512 KiB output buffers, no
//! sendfile, which TLS can't use). Both serve `info` (300 bytes) and `zip` (1 MiB).
#![allow(clippy::print_stdout, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";
const INFO: &str = "/example.com/bench/@v/v1.0.0.info";
const ZIP: &str = "/example.com/bench/@v/v1.0.0.zip";
const INFO_BYTES: usize = 300;
const ZIP_BYTES: usize = 1 << 20;
const READY_WITHIN: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let rounds = flag("--rounds", 5)?;
    let seconds = flag("--seconds", 3)?;
    for tool in ["nginx", "h2load", "taskset"] {
        need(tool)?;
    }
    let dir = tempfile::tempdir()?;
    make_tree(dir.path())?;
    make_certificate(dir.path())?;

    let contenders = [
        nginx(dir.path(), "nginx", "sendfile on;")?,
        nginx(
            dir.path(),
            "nginx tuned",
            "sendfile off; output_buffers 1 512k; http2_chunk_size 64k; ssl_buffer_size 16k;",
        )?,
        modcdn(dir.path())?,
    ];
    println!("{rounds} rounds of {seconds} s, one core a server, TLS 1.3 (ECDSA P-256), HTTP/2\n");
    for (name, path, streams) in [("info, 300 B", INFO, 16), ("zip, 1 MiB", ZIP, 2)] {
        let mut runs = vec![Vec::new(); contenders.len()];
        for round in 0..rounds {
            for (contender, runs) in contenders.iter().zip(&mut runs) {
                eprint!(
                    "\r{name}: round {} of {rounds}, {:12}",
                    round + 1,
                    contender.name
                );
                runs.push(contender.load(path, streams, seconds)?);
            }
        }
        eprint!("\r{:60}\r", "");
        print_table(name, &contenders, &runs);
    }
    Ok(())
}

/// One server under test.
struct Contender {
    name: String,
    port: u16,
    /// The process that does the work.
    pid: u32,
    /// Everything that ends with it.
    _running: Vec<Running>,
}

/// What one load run showed.
#[derive(Clone, Copy)]
struct Run {
    requests_per_second: f64,
    /// Microseconds of the server's CPU time a request.
    cpu_micros: f64,
    /// The share of its core that the generator used.
    generator: f64,
}

impl Contender {
    fn load(&self, path: &str, streams: u32, seconds: u64) -> Outcome<Run> {
        let before = cpu_seconds(self.pid)?;
        let started = Instant::now();
        let output = Command::new("taskset")
            .args(["-c", GENERATOR_CORE, "h2load", "-t1", "-c8"])
            .args(["-m", &streams.to_string(), "-D", &seconds.to_string()])
            .arg(format!("https://127.0.0.1:{}{path}", self.port))
            .stdin(Stdio::null())
            .output()?;
        let elapsed = started.elapsed().as_secs_f64();
        let used = cpu_seconds(self.pid)? - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let done = number_before(&text, " succeeded").ok_or("h2load printed no count")?;
        let bad = number_before(&text, " failed").unwrap_or(0.0)
            + number_before(&text, " 4xx").unwrap_or(0.0)
            + number_before(&text, " 5xx").unwrap_or(0.0);
        if done < 1.0 || bad > 0.0 {
            return Err(format!("{}: {path} failed under load:\n{text}", self.name).into());
        }
        Ok(Run {
            requests_per_second: done / seconds as f64,
            cpu_micros: used * 1e6 / done,
            generator: children_seconds_since_last()? / elapsed,
        })
    }
}

fn print_table(name: &str, contenders: &[Contender], runs: &[Vec<Run>]) {
    let median_of = |runs: &[Run], f: fn(&Run) -> f64| median(runs.iter().map(f).collect());
    let base = median_of(&runs[0], |r| r.cpu_micros);
    println!(
        "{name:<14} {:>10} {:>12} {:>14} {:>11}",
        "req/s", "CPU µs/req", "work/CPU ×", "generator"
    );
    for (contender, runs) in contenders.iter().zip(runs) {
        let cpu = median_of(runs, |r| r.cpu_micros);
        let generator = median_of(runs, |r| r.generator);
        println!(
            "{:<14} {:>10.0} {cpu:>12.1} {:>14.2} {:>10.0}%{}",
            contender.name,
            median_of(runs, |r| r.requests_per_second),
            base / cpu,
            generator * 100.0,
            if generator > 0.95 {
                "  the generator's limit"
            } else {
                ""
            },
        );
    }
    println!();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn nginx(dir: &Path, name: &str, tuning: &str) -> Outcome<Contender> {
    let port = free_port()?;
    let home = dir.join(name.replace(' ', "-"));
    fs::create_dir_all(&home)?;
    let dir_text = dir.display();
    let conf = format!(
        "daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; types {{ application/zip zip; }}\n\
         default_type application/json; keepalive_requests 1000000000; {tuning}\n\
         client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;\n\
         uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl http2; root {dir_text}/tree;\n\
         ssl_certificate {dir_text}/cert.pem; ssl_certificate_key {dir_text}/key.pem;\n\
         ssl_protocols TLSv1.3;\n\
         add_header Cache-Control \"public, max-age=31536000, immutable\"; }} }}\n",
        home = home.display(),
    );
    let conf_file = home.join("nginx.conf");
    fs::write(&conf_file, conf)?;
    let running = Running::start(
        Command::new("taskset")
            .args(["-c", SERVER_CORE, "nginx", "-c"])
            .arg(&conf_file)
            .arg("-e")
            .arg(home.join("error.log")),
    )?;
    wait_for_port(port)?;
    Ok(Contender {
        name: name.to_owned(),
        port,
        pid: only_child(running.0.id())?,
        _running: vec![running],
    })
}

/// An edge with one service thread before an origin that serves the same tree.
fn modcdn(dir: &Path) -> Outcome<Contender> {
    let binary = env!("CARGO_BIN_EXE_modcdn");
    let (origin, origin_admin) = (free_port()?, free_port()?);
    let (clear, port, admin) = (free_port()?, free_port()?, free_port()?);
    let dir_text = dir.display();
    let origin_conf = dir.join("origin.yaml");
    fs::write(
        &origin_conf,
        format!(
            "listen: ['127.0.0.1:{origin}']\nadmin: 127.0.0.1:{origin_admin}\naccess_log: off\n\
             upstream: 'file://{dir_text}/tree'\nstore: {{dir: {dir_text}/origin}}\n"
        ),
    )?;
    let edge_conf = dir.join("edge.yaml");
    fs::write(
        &edge_conf,
        format!(
            "name: bench\nlisten: ['127.0.0.1:{clear}']\nadmin: 127.0.0.1:{admin}\n\
             tls: {{listen: ['127.0.0.1:{port}'], certificate: {dir_text}/cert.pem, key: {dir_text}/key.pem}}\n\
             access_log: off\nthreads: 1\norigin: {{url: 'http://127.0.0.1:{origin}'}}\n\
             store: {{dir: {dir_text}/edge}}\n"
        ),
    )?;
    let origin_running = Running::start(
        Command::new(binary)
            .arg("origin")
            .arg("--config")
            .arg(&origin_conf),
    )?;
    wait_for_port(origin)?;
    let edge_running = Running::start(
        Command::new("taskset")
            .args(["-c", SERVER_CORE, binary, "edge", "--config"])
            .arg(&edge_conf),
    )?;
    wait_for_port(clear)?;
    for path in [INFO, ZIP] {
        warm(clear, path)?;
    }
    Ok(Contender {
        name: "modcdn edge".to_owned(),
        port,
        // taskset becomes the edge: one process, no fork.
        pid: edge_running.0.id(),
        _running: vec![origin_running, edge_running],
    })
}

/// Asks until the edge answers from its store.
fn warm(port: u16, path: &str) -> Outcome<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(2048)]).to_lowercase();
        if head.starts_with("http/1.1 200") && head.contains("; hit") {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("{path} did not become a hit within {READY_WITHIN:?}").into())
}

fn make_tree(dir: &Path) -> Outcome<()> {
    let versions = dir.join("tree/example.com/bench/@v");
    fs::create_dir_all(&versions)?;
    let head = r#"{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z","Origin":{"Ref":""#;
    let tail = r#""}}"#;
    let fill = "x".repeat(INFO_BYTES - head.len() - tail.len());
    fs::write(versions.join("v1.0.0.info"), format!("{head}{fill}{tail}"))?;
    fs::write(versions.join("v1.0.0.mod"), "module example.com/bench\n")?;
    fs::write(versions.join("v1.0.0.zip"), incompressible(ZIP_BYTES))?;
    Ok(())
}

/// Bytes of a xorshift generator: the same in every run.
fn incompressible(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

fn make_certificate(dir: &Path) -> Outcome<()> {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    fs::write(dir.join("cert.pem"), made.cert.pem())?;
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}

/// A child process that ends with its value.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
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

fn need(tool: &str) -> Outcome<()> {
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

fn flag(name: &str, default: u64) -> Outcome<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    Ok(args.next().map_or(Ok(default), |value| value.parse())?)
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for_port(port: u16) -> Outcome<()> {
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
fn only_child(pid: u32) -> Outcome<u32> {
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
fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat[stat.rfind(')').ok_or("no stat")? + 2..]
        .split(' ')
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // SAFETY: `sysconf` takes an integer and reads no memory of ours.
    Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
}

/// CPU time of children that have ended since this was last asked: the generator's.
fn children_seconds_since_last() -> Outcome<f64> {
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

/// The number right before `what`.
fn number_before(text: &str, what: &str) -> Option<f64> {
    let end = text.find(what)?;
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
