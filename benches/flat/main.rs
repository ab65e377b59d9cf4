//! An origin's memory while long zips pass: 20 of 200 MB at once, from an upstream and then from the
//! store; on disk, and in a bucket of a real S3 server; from an upstream over HTTP/1.1 in clear text,
//! and over HTTP/2 and TLS, where one connection carries them all.
//!
//! ```text
//! cargo bench --bench flat                        # 4 GB of memory for the upstream, 12 GB of disk
//! cargo bench --bench flat -- --zips 5 --mb 50
//! ```
#![allow(clippy::print_stdout, missing_docs)]

#[path = "../../tests/harness/mod.rs"]
mod harness;

use std::time::Instant;

use bytes::Bytes;
use harness::certificate::Certificate;
use harness::http::Client;
use harness::node::Node;
use harness::process::{peak_memory, reset_peak_memory};
use harness::s3::S3;
use harness::scratch::Scratch;
use harness::upstream::Upstream;
use harness::zip::module_zip;

const MIB: u64 = 1 << 20;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if args.iter().any(|arg| arg == "--test") {
        return;
    }
    let (zips, mb) = (option(&args, "--zips", 20), option(&args, "--mb", 200));
    let scratch = Scratch::new("flat");
    let certificate = Certificate::in_folder(scratch.path());
    let bodies = bodies(zips, mb);
    let clear = serving(Upstream::start(), &bodies);
    let tls = serving(Upstream::over_tls(&certificate), &bodies);
    let trusting = format!("upstreams: {{ca: ['{}']}}\n", certificate.file().display());
    println!("{zips} zips of {mb} MB at once; peak above what an origin has at its start, in MiB");
    for (protocol, upstream, more) in [("HTTP/1.1", &clear, ""), ("HTTP/2", &tls, &*trusting)] {
        let disk = format!("store: {{durable: true}}\n{more}");
        measure(&format!("disk, {protocol}"), upstream, &bodies, &disk);
        let s3 = S3::start();
        let bucket = format!("{}{more}", s3.patient());
        measure(&format!("bucket, {protocol}"), upstream, &bodies, &bucket);
    }
}

fn option(args: &[String], name: &str, default: usize) -> usize {
    let at = args.iter().position(|arg| arg == name);
    let value = at.and_then(|at| args.get(at + 1));
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// Zips that differ in their names only, which are equally long.
fn bodies(zips: usize, mb: usize) -> Vec<(String, Bytes)> {
    let blob: Vec<u8> = (0..mb * 1_000_000)
        .map(|n| (n * 31 + (n >> 8)) as u8)
        .collect();
    let first = module_zip("example.com/m100", "v1.0.0", &[("blob", &blob)]);
    drop(blob);
    let bodies = (0..zips).map(|n| {
        let name = format!("example.com/m{}", 100 + n);
        let path = format!("/{name}/@v/v1.0.0.zip");
        let mut zip = first.clone();
        for at in names(&zip) {
            zip[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        (path, Bytes::from(zip))
    });
    bodies.collect()
}

fn serving(upstream: Upstream, bodies: &[(String, Bytes)]) -> Upstream {
    for (path, body) in bodies {
        upstream.body(path, body.clone());
    }
    upstream
}

/// Where the name stands in a zip of one file: behind its header, and in the directory at the end.
fn names(zip: &[u8]) -> [usize; 2] {
    let name = b"example.com/m100@";
    let (head, tail) = (&zip[..200], &zip[zip.len() - 200..]);
    let at = |part: &[u8]| part.windows(name.len()).position(|window| window == name);
    let (first, last) = (at(head).expect("a header"), at(tail).expect("a directory"));
    [first, zip.len() - 200 + last]
}

fn measure(name: &str, upstream: &Upstream, bodies: &[(String, Bytes)], overrides: &str) {
    let mut origin = Node::origin(&upstream.url(), overrides);
    Client::h2(origin.url()).get("/nothing.example/m/@v/v1.0.0.info");
    reset_peak_memory(origin.pid());
    let base = peak_memory(origin.pid());
    for round in ["fetched", "stored"] {
        reset_peak_memory(origin.pid());
        let started = Instant::now();
        std::thread::scope(|scope| {
            for (path, _) in bodies {
                let url = origin.url().to_owned();
                scope.spawn(move || Client::h1(&url).drain(path));
            }
        });
        let (seconds, peak) = (started.elapsed().as_secs_f64(), peak_memory(origin.pid()));
        println!(
            "{name:17} {round:8} {:4} above {:3} in {seconds:.1} s",
            peak.saturating_sub(base) / MIB,
            base / MIB
        );
    }
}
