//! What the origin adds to an upstream's first byte of a zip.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::nodes::origin;
use super::rig::{Outcome, incompressible, module_zip};
use super::{median, upstream};

const ZIPS: usize = 60;
const BYTES: usize = 4 << 20;
/// What the upstream thinks before it answers.
const THINKS: Duration = Duration::from_millis(20);

pub(super) fn run(dir: &Path) -> Outcome<()> {
    let tree = dir.join("first-tree");
    let versions = tree.join("example.com/first/@v");
    fs::create_dir_all(&versions)?;
    let (go_mod, data) = (b"module example.com/first\n", incompressible(BYTES));
    for n in 0..ZIPS {
        let version = format!("v1.0.{n}");
        let files: [(&str, &[u8]); 2] = [("go.mod", go_mod), ("data", &data)];
        let zip = module_zip("example.com/first", &version, &files);
        fs::write(versions.join(format!("{version}.zip")), zip)?;
    }
    let port = upstream::serve(&tree, THINKS)?;
    let ours = origin(
        &dir.join("first-origin"),
        &format!("http://127.0.0.1:{port}"),
        "0",
    )?;
    let (mut straight, mut through) = (Vec::new(), Vec::new());
    for n in 0..ZIPS {
        let path = format!("/example.com/first/@v/v1.0.{n}.zip");
        straight.push(first_byte(port, &path)?);
        through.push(first_byte(ours.port, &path)?);
    }
    let (straight, through) = (median(straight), median(through));
    println!("first body byte of a zip never seen, ms (goal: no more than 5 added)");
    println!("{:<18} {straight:>10.2}", "upstream");
    println!(
        "{:<18} {through:>10.2}  {:+.2} ms\n",
        "origin",
        through - straight
    );
    Ok(())
}

/// Milliseconds from asking to the first byte behind the head; the body is read to its end.
fn first_byte(port: u16, path: &str) -> Outcome<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let asked = Instant::now();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    )?;
    let mut seen = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let (mut first, mut len) = (None, None);
    loop {
        let n = stream.read(&mut piece)?;
        seen.extend_from_slice(&piece[..n]);
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            if seen.len() > end + 4 && first.is_none() {
                first = Some(asked.elapsed().as_secs_f64() * 1e3);
                let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
                let value = head.split("content-length: ").nth(1);
                len = value.and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok());
            }
            if len.is_some_and(|len| seen.len() >= end + 4 + len) {
                return first.ok_or_else(|| "no body".into());
            }
        }
        if n == 0 {
            return Err(format!("{path} broke off after {} bytes", seen.len()).into());
        }
    }
}
