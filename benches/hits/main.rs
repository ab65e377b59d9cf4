//! Hits, side by side with nginx serving the same files from disk.
//!
//! ```text
//! cargo bench --bench hits                             # everything, 5 rounds
//! cargo bench --bench hits -- --rounds 9 --seconds 4
//! cargo bench --bench hits -- --only zip               # rows whose name holds "zip"
//! ```
//!
//! Needs nginx, h2load and taskset, and at least two cores: every server runs on the first with one
//! worker, the generator on the second. Contenders take turns within one run, so that what disturbs
//! the machine disturbs all of them; figures are medians, and CPU time a request (user + system, of
//! the server's process alone) counts for more than requests a second. A generator that was busy
//! for more than 95 % of its core is pointed out: it, not the server, was measured then.
//!
//! nginx is measured as it comes and tuned (64 KiB HTTP/2 chunks, 512 KiB output buffers, no
//! sendfile, which TLS can't use). The page cache is warm.
#![allow(clippy::print_stdout, missing_docs)]

mod contender;
mod floor;
mod load;
#[path = "../rig/mod.rs"]
mod rig;
mod tree;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::{sleep, spawn};
use std::time::Duration;

use contender::{Contender, Setup, modcdn, nginx};
use load::{Load, Run, p99, resident_with, run};
use rig::{GENERATOR, Outcome, make_certificate, need, pin_to};
use tree::make_tree;

const INFO: &str = "/example.com/bench/@v/v1.0.0.info";
const ZIP: &str = "/example.com/bench/@v/v1.0.0.zip";
const BIG_ZIP: &str = "/example.com/bench/@v/v1.1.0.zip";
const INFO_BYTES: usize = 300;
const ZIP_BYTES: usize = 1 << 20;
const BIG_ZIP_BYTES: usize = 50 << 20;
/// Zips that are asked for once, while hits are measured.
const COLD_ZIPS: usize = 50;
const COLD_BYTES: usize = 4 << 20;
const IDLE_CONNECTIONS: u32 = 2000;

const RAM: Setup = Setup {
    name: "modcdn edge",
    threads: 1,
    cores: "0",
    ram_body: "64MiB",
    warm: &[INFO, ZIP, BIG_ZIP],
};
/// For what connections cost: nothing but the answer they ask for is stored.
const EMPTY: Setup = Setup {
    warm: &[INFO],
    ..RAM
};
const DISK: Setup = Setup {
    name: "edge from disk",
    ram_body: "16KiB",
    ..RAM
};
/// Alone on its core.
const ONE_THREAD: Setup = Setup {
    name: "1 alone",
    ..RAM
};
/// On the generator's core, where everything costs more.
const BESIDE: Setup = Setup {
    name: "1 beside load",
    cores: "1",
    ..RAM
};
/// One thread of each kind.
const TWO_THREADS: Setup = Setup {
    name: "2 threads",
    threads: 2,
    cores: "0,1",
    ..RAM
};

const TLS: Load = Load {
    path: INFO,
    streams: 16,
    clear: false,
    rate: None,
};
const TLS_ZIP: Load = Load {
    path: ZIP,
    streams: 2,
    ..TLS
};
const CLEAR_ZIP: Load = Load {
    clear: true,
    streams: 1,
    ..TLS_ZIP
};
/// What 2 threads and 1 can both bear easily.
const RATED: Load = Load {
    rate: Some(2500),
    ..TLS
};

fn main() -> Outcome<()> {
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let rounds = flag("--rounds", 5)?;
    let seconds = flag("--seconds", 3)?;
    for tool in ["nginx", "h2load", "taskset", "chrt"] {
        need(tool)?;
    }
    let dir = tempfile::tempdir()?;
    make_tree(dir.path())?;
    make_certificate(dir.path())?;
    println!("{rounds} rounds of {seconds} s, one core a server, TLS 1.3 (ECDSA P-256), HTTP/2\n");

    let big = Load {
        path: BIG_ZIP,
        ..TLS_ZIP
    };
    let rows = [
        ("info, 300 B", TLS, RAM),
        ("zip, 1 MiB", TLS_ZIP, RAM),
        ("zip, 50 MiB", big, RAM),
        ("disk zip, 1 MiB", TLS_ZIP, DISK),
        ("disk zip, 50 MiB", big, DISK),
        ("h1 zip, 1 MiB", CLEAR_ZIP, RAM),
        ("h1 disk zip, 1 MiB", CLEAR_ZIP, DISK),
    ];
    for (name, load, setup) in rows {
        if wanted(name) {
            let contenders = beside_nginx(dir.path(), setup)?;
            compare(name, &contenders, load, rounds, seconds)?;
        }
    }
    if wanted("floor") {
        floor::print()?;
    }
    if wanted("threads") {
        threads(dir.path(), rounds, seconds)?;
    }
    if wanted("idle") {
        idle(&beside_nginx(dir.path(), EMPTY)?)?;
    }
    if wanted("fills") {
        fills(dir.path())?;
    }
    Ok(())
}

fn beside_nginx(dir: &Path, setup: Setup) -> Outcome<Vec<Contender>> {
    let tuning = "sendfile off; output_buffers 1 512k; http2_chunk_size 64k; ssl_buffer_size 16k;";
    Ok(vec![
        nginx(dir, "nginx", "sendfile on;")?,
        nginx(dir, "nginx tuned", tuning)?,
        modcdn(dir, setup)?,
    ])
}

/// What the threads of one edge cost each other. There are two cores and one is the generator's, so
/// two threads are compared with what two edges of one thread would cost in the same two places.
fn threads(dir: &Path, rounds: u64, seconds: u64) -> Outcome<()> {
    let setups = [ONE_THREAD, BESIDE, TWO_THREADS];
    let contenders = setups.map(|setup| modcdn(dir, setup));
    let contenders: Vec<_> = contenders.into_iter().collect::<Outcome<_>>()?;
    let runs = compare("threads", &contenders, RATED, rounds, seconds)?;
    let cpu: Vec<f64> = runs.iter().map(|runs| median_cpu(runs)).collect();
    let apart = f64::midpoint(cpu[0], cpu[1]);
    println!(
        "2 threads against 2 edges of one: {:.2} x\n",
        cpu[2] / apart
    );
    Ok(())
}

fn compare(
    name: &str,
    contenders: &[Contender],
    load: Load,
    rounds: u64,
    seconds: u64,
) -> Outcome<Vec<Vec<Run>>> {
    let mut runs = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            eprint!("\r{name}: round {round} of {rounds}, {:16}", contender.name);
            runs.push(run(contender, load, seconds)?);
        }
    }
    eprint!("\r{:60}\r", "");
    print_table(name, contenders, &runs);
    Ok(runs)
}

fn median_cpu(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.cpu_micros).collect())
}

fn idle(contenders: &[Contender]) -> Outcome<()> {
    println!("{IDLE_CONNECTIONS} idle TLS connections: resident memory, MB");
    for contender in contenders {
        let bytes = resident_with(contender, TLS, IDLE_CONNECTIONS)?;
        println!("{:<18} {:>10.1}", contender.name, bytes as f64 / 1e6);
    }
    println!();
    Ok(())
}

/// Hits while cold zips come from the origin, at a rate the edge bears easily. The edge has a core for
/// itself; the origin and those who ask for zips share the generator's, which goes before them.
fn fills(dir: &Path) -> Outcome<()> {
    let edge = modcdn(dir, RAM)?;
    let without = p99(&edge, RATED, dir, || {})?;
    let clear = edge.clear;
    let with = p99(&edge, RATED, dir, move || ask_for_cold(clear))?;
    println!("p99 of .info hits, in microseconds, 20,000 a second");
    println!("{:<18} {without:>10}", "without fills");
    println!(
        "{:<18} {with:>10}  {:.2} x\n",
        "50 fills",
        with as f64 / without as f64
    );
    Ok(())
}

/// All at once, a second after the hits began.
fn ask_for_cold(port: u16) {
    sleep(Duration::from_secs(1));
    let ask_for = |n| {
        spawn(move || {
            pin_to(GENERATOR)?;
            ask(port, &format!("/example.com/bench/@v/v1.2.{n}.zip"))
        })
    };
    let asking: Vec<_> = (0..COLD_ZIPS).map(ask_for).collect();
    for one in asking {
        let answered = one.join().expect("no panic").expect("an answer");
        assert!(answered > COLD_BYTES, "a whole zip, not {answered} bytes");
    }
}

fn ask(port: u16, path: &str) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)
}

fn print_table(name: &str, contenders: &[Contender], runs: &[Vec<Run>]) {
    let median_of = |runs: &[Run], f: fn(&Run) -> f64| median(runs.iter().map(f).collect());
    let base = median_cpu(&runs[0]);
    println!(
        "{name:<14} {:>10} {:>12} {:>14} {:>11}",
        "req/s", "CPU µs/req", "work/CPU ×", "generator"
    );
    for (contender, runs) in contenders.iter().zip(runs) {
        let cpu = median_cpu(runs);
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

/// Whether `--only` leaves this row in.
fn wanted(name: &str) -> bool {
    let mut args = std::env::args().skip_while(|arg| arg != "--only").skip(1);
    args.next().is_none_or(|only| name.contains(&only))
}

fn flag(name: &str, default: u64) -> Outcome<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    Ok(args.next().map_or(Ok(default), |value| value.parse())?)
}
