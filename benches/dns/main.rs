//! The DNS role beside gdnsd with its geoip plugin, and beside a loop that only echoes.
//!
//! ```text
//! cargo bench --bench dns                        # everything, 5 rounds
//! cargo bench --bench dns -- --rounds 9 --seconds 4
//! cargo bench --bench dns -- --only tcp          # rows whose name holds "tcp"
//! cargo bench --bench dns -- --only packets --packets 10000000
//! ```
//!
//! - `udp, client subnet`: A queries of the steered name, each with the client subnet of a random
//!   one of 500,000 networks whose places are known, EDNS 1232;
//! - `udp, no subnet`: the same without, so that every asker is one;
//! - `tcp, client subnet`: the first over 8 connections, 64 queries pipelined on each;
//! - `packets`: random and mutated packets against our server alone: does it live, answer on, and
//!   keep within the sizes that were asked for?
//!
//! Needs gdnsd (3 or later) and taskset, and at least two cores: every server runs on the first, the
//! generator on the second. Contenders take turns within one run; figures are medians, and CPU time
//! a query (user + system, of the server's process alone) counts for more than queries a second. The
//! echo is what any server pays the kernel for UDP.
#![allow(clippy::print_stdout, missing_docs)]

#[path = "../../dns/src/udp/batch.rs"]
mod batch;
mod contender;
mod load;
mod packets;
#[path = "../rig/mod.rs"]
mod rig;
mod world;

use std::time::Duration;

use contender::{Contender, ECHO, echo, gdnsd, modcdn, run_echo};
use load::{Run, Way, run};
use rig::{GENERATOR, Outcome, need, pin_to};

fn main() -> Outcome<()> {
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let port = flag(ECHO, 0)?;
    if port > 0 {
        return run_echo(u16::try_from(port)?);
    }
    let rounds = flag("--rounds", 5)?;
    let seconds = flag("--seconds", 3)?;
    let dir = tempfile::tempdir()?;
    let database = dir.path().join("places.mmdb");
    let networks = world::networks();
    eprint!("\rwriting the database of {} networks", networks.len());
    world::write_database(&networks, &database)?;
    let with = world::queries(&networks, true);
    let without = world::queries(&networks, false);
    eprint!("\r{:60}\r", "");
    if wanted("packets") {
        need("taskset")?;
        let ours = modcdn(dir.path(), &database, &with[0])?;
        packets::run(&ours, flag("--packets", 1_000_000)?)?;
    }
    let rows = [
        ("udp, client subnet", Way::Udp, &with),
        ("udp, no subnet", Way::Udp, &without),
        ("tcp, client subnet", Way::Tcp, &with),
    ];
    if !rows.iter().any(|(name, ..)| wanted(name)) {
        return Ok(());
    }
    for tool in ["gdnsd", "taskset"] {
        need(tool)?;
    }
    pin_to(GENERATOR)?;
    let contenders = [
        gdnsd(dir.path(), &database, &with[0])?,
        modcdn(dir.path(), &database, &with[0])?,
        echo()?,
    ];
    println!("{rounds} rounds of {seconds} s, one core a server\n");
    for (name, way, queries) in rows {
        if wanted(name) {
            // Nothing echoes over TCP.
            let contenders = &contenders[..if way == Way::Tcp { 2 } else { 3 }];
            compare(
                name,
                contenders,
                way,
                queries,
                rounds,
                Duration::from_secs(seconds),
            )?;
        }
    }
    Ok(())
}

fn compare(
    name: &str,
    contenders: &[Contender],
    way: Way,
    queries: &[Vec<u8>],
    rounds: u64,
    length: Duration,
) -> Outcome<()> {
    let mut runs = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            eprint!("\r{name}: round {round} of {rounds}, {:16}", contender.name);
            runs.push(run(contender, way, queries, length)?);
        }
    }
    eprint!("\r{:60}\r", "");
    print_table(name, contenders, &runs);
    Ok(())
}

fn print_table(name: &str, contenders: &[Contender], runs: &[Vec<Run>]) {
    let median_of = |runs: &[Run], f: fn(&Run) -> f64| median(runs.iter().map(f).collect());
    let base = median_of(&runs[0], |r| r.cpu_micros);
    println!(
        "{name:<18} {:>10} {:>13} {:>11} {:>7} {:>10} {:>6}",
        "queries/s", "CPU µs/query", "× of gdnsd", "server", "generator", "lost"
    );
    for (contender, runs) in contenders.iter().zip(runs) {
        let cpu = median_of(runs, |r| r.cpu_micros);
        println!(
            "{:<18} {:>10.0} {cpu:>13.2} {:>11.2} {:>6.0}% {:>9.0}% {:>5.2}%",
            contender.name,
            median_of(runs, |r| r.per_second),
            cpu / base,
            median_of(runs, |r| r.server) * 100.0,
            median_of(runs, |r| r.generator) * 100.0,
            median_of(runs, |r| r.lost) * 100.0,
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
