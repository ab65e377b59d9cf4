//! The origin's memory while large zips pass through it, all at once, none of them stored before.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use modcdn_origin::archive::{Input, Kind, Limits, write};

use super::nodes::origin;
use super::rig::{Outcome, incompressible};

const ZIPS: usize = 20;
/// Each zip: so many files of so many bytes.
const FILES: usize = 100;
const BYTES: usize = 2_000_000;
const MODULE: &str = "example.com/large";
/// The version whose zip is made; the others' differ in its number only.
const FIRST: usize = 10;

pub(super) fn run(dir: &Path) -> Outcome<()> {
    let upstream = Upstream::of(make()?);
    let len = upstream.zip.len();
    let port = Arc::new(upstream).serve()?;
    let ours = origin(
        &dir.join("large-origin"),
        &format!("http://127.0.0.1:{port}"),
        "0,1",
    )?;
    let base = resident(ours.pid)?;
    let (done, started) = (AtomicBool::new(false), Instant::now());
    let peak = scope(|scope| -> Outcome<u64> {
        let watch = scope.spawn(|| watch(ours.pid, &done));
        let paths = (FIRST..FIRST + ZIPS).map(|n| format!("/{MODULE}/@v/v1.0.{n}.zip"));
        let readers: Vec<_> = paths
            .map(|path| scope.spawn(move || read_all(ours.port, &path)))
            .collect();
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        done.store(true, Ordering::Relaxed);
        for result in read {
            let got = result.map_err(|_| "a reader crashed")??;
            if got != len {
                return Err(format!("{got} of {len} bytes came").into());
            }
        }
        Ok(watch.join().map_err(|_| "the watch crashed")??)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{ZIPS} zips of {} MB at once, RSS in MB (goal: no more than 64 added)",
        len / 1_000_000
    );
    println!("{:<18} {:>10.1}", "before", base as f64 / 1e6);
    println!(
        "{:<18} {:>10.1}  {:+.1} MB, {seconds:.1} s\n",
        "at most",
        peak as f64 / 1e6,
        (peak - base) as f64 / 1e6
    );
    Ok(())
}

/// One of the files.
struct File {
    path: String,
    content: Vec<u8>,
}

impl Input for File {
    fn path(&self) -> &str {
        &self.path
    }

    fn kind(&self) -> Kind {
        Kind::File
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(&self.content[..]))
    }
}

fn make() -> Outcome<Vec<u8>> {
    let content = incompressible(BYTES);
    let files: Vec<_> = (0..FILES)
        .map(|n| File {
            path: format!("data/{n:03}"),
            content: content.clone(),
        })
        .collect();
    let mut zip = Vec::new();
    let version = format!("v1.0.{FIRST}").parse()?;
    write(
        &mut zip,
        &MODULE.parse()?,
        &version,
        &files,
        &Limits::default(),
    )?;
    Ok(zip)
}

/// An upstream that has one zip, and says another version's name in it for each.
struct Upstream {
    zip: Vec<u8>,
    /// Where the zip says the last number of its version.
    numbers: Vec<usize>,
}

impl Upstream {
    fn of(zip: Vec<u8>) -> Self {
        let before = "@v1.0.";
        let name = format!("{before}{FIRST}/");
        let places = zip.iter().enumerate().filter(|(_, byte)| **byte == b'@');
        let numbers = places
            .map(|(at, _)| at)
            .filter(|at| zip[*at..].starts_with(name.as_bytes()))
            .map(|at| at + before.len())
            .collect();
        Self { zip, numbers }
    }

    /// Serves on a port of its own until the process ends.
    fn serve(self: Arc<Self>) -> Outcome<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let upstream = self.clone();
                spawn(move || upstream.answer(&stream));
            }
        });
        Ok(port)
    }

    /// One request a connection. Numbers are as long in all versions, so all else stays.
    fn answer(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let asked = lines.next().transpose()?.unwrap_or_default();
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        let number = asked
            .split("/@v/v1.0.")
            .nth(1)
            .and_then(|rest| rest.get(..2));
        let Some(number) = number.filter(|_| asked.contains(".zip ")) else {
            return stream.write_all(
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        };
        let len = self.zip.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n"
        )?;
        let mut sent = 0;
        for at in &self.numbers {
            stream.write_all(&self.zip[sent..*at])?;
            stream.write_all(number.as_bytes())?;
            sent = at + number.len();
        }
        stream.write_all(&self.zip[sent..])
    }
}

/// How many body bytes come.
fn read_all(port: u16, path: &str) -> io::Result<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let (mut seen, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    let behind_head = loop {
        let n = stream.read(&mut piece)?;
        seen.extend_from_slice(&piece[..n]);
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            break seen.len() - end - 4;
        }
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let rest = io::copy(&mut stream, &mut io::sink())?;
    Ok(behind_head + rest as usize)
}

/// The most memory that a process has until it is done.
fn watch(pid: u32, done: &AtomicBool) -> io::Result<u64> {
    let mut peak = 0;
    while !done.load(Ordering::Relaxed) {
        peak = peak.max(resident(pid)?);
        sleep(Duration::from_millis(10));
    }
    Ok(peak)
}

/// A process's resident memory, in bytes.
fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
