//! Compiling the steering map, and looking clients up in it.
//!
//! ```text
//! cargo bench -p modcdn-dns --bench map                       # 500,000 measured prefixes, 20 PoPs
//! cargo bench -p modcdn-dns --bench map -- --prefixes 100000 --pops 8
//! ```
//!
//! The world is made: 20 PoPs and 4,000 cities of 90 countries; 250,000 IPv4 networks (/20) and
//! 25,000 IPv6 ones (/40), each in a city and one of 20,000 systems; measured prefixes within them,
//! nine in ten a /24 and one a /56, each with samples to its three nearest PoPs, by distance with
//! detours. Real databases are kinder: neighbours are alike there. Peak memory is the process's
//! (`VmHWM`), with databases and samples, which a server holds too; the allocator is the server's.
#![allow(clippy::print_stdout, missing_docs)]

mod world;

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maxminddb::Reader;
use modcdn_dns::steer::{Changes, Client, Constants, Inputs, Map, Places, ViewId, compile};

use crate::world::{Rng, World};

const LOOKUPS: usize = 10_000_000;
const CLIENTS: usize = 1 << 20;
/// Networks of the mmdb file that lookups are compared with.
const MMDB_NETWORKS: usize = 50_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if args.iter().any(|arg| arg == "--test") {
        return Ok(());
    }
    let world = World::new(
        number(&args, "--pops", 20)?,
        number(&args, "--prefixes", 500_000)?,
    );
    let inputs = world.inputs()?;
    println!(
        "{} PoPs, {} networks, {} measured prefixes, {} samples; with these {} MB are resident",
        inputs.pops.len(),
        world.networks(),
        world.prefixes(),
        inputs.samples.len(),
        status("VmRSS")?
    );
    let constants = Constants::default();
    let start = Instant::now();
    let (map, _) = made("first map", &inputs, None, &constants, start)?;
    let later = Inputs {
        samples: world.samples_again(),
        ..inputs
    };
    let (map, _) = made(
        "next map",
        &later,
        Some(&map),
        &constants,
        start + Duration::from_secs(60),
    )?;
    lookups(&world, &map);
    against_mmdb(&world)?;
    Ok(())
}

fn number(args: &[String], name: &str, default: usize) -> Result<usize, Failure> {
    let at = args.iter().position(|arg| arg == name);
    let text = at.map(|at| args.get(at + 1).ok_or(format!("{name} needs a number")));
    Ok(text.transpose()?.map_or(Ok(default), |text| text.parse())?)
}

fn made(
    what: &str,
    inputs: &Inputs,
    before: Option<&Map>,
    constants: &Constants,
    now: Instant,
) -> Result<(Map, Changes), Failure> {
    // Sets the peak back to what is resident now (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5")?;
    let started = Instant::now();
    let (map, changes) = compile(inputs, before, constants, now);
    println!(
        "{what}: {:.2} s, peak {} MB, after it {} MB; {} units, {} moved, {} wait; \
         {} stretches merged to {} scopes; table of {} KB; {} answers",
        started.elapsed().as_secs_f64(),
        status("VmHWM")?,
        status("VmRSS")?,
        changes.units,
        changes.moved(),
        changes.waiting,
        changes.stretches,
        changes.scopes,
        map.table_bytes() / 1024,
        map.answers().len(),
    );
    Ok((map, changes))
}

/// Megabytes of a line of `/proc/self/status`.
fn status(field: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    Ok(kilobytes.ok_or("no such field")?.parse::<u64>()? / 1024)
}

fn lookups(world: &World, map: &Map) {
    let mut rng = Rng::new(7);
    let measured: Vec<IpAddr> = (0..CLIENTS).map(|_| world.client(&mut rng)).collect();
    let anywhere: Vec<IpAddr> = (0..CLIENTS)
        .map(|_| IpAddr::V4((rng.next() as u32).into()))
        .collect();
    let few: Vec<IpAddr> = (0..CLIENTS).map(|at| measured[at % 1000]).collect();
    let now = Instant::now();
    for (what, addresses) in [
        ("clients of measured prefixes, at random", &measured),
        ("IPv4 addresses at random", &anywhere),
        ("a thousand clients again and again", &few),
    ] {
        let ns = time(addresses, |address| {
            let client = Client {
                subnet: Some(address),
                resolver: address,
            };
            u64::from(map.choose(ViewId::default(), &client, now).ttl)
        });
        println!("choose, {what}: {ns:.1} ns");
    }
}

fn against_mmdb(world: &World) -> Result<(), Failure> {
    let bytes = world.mmdb(MMDB_NETWORKS)?;
    let started = Instant::now();
    black_box(Places::from_bytes(bytes.clone())?);
    println!(
        "an mmdb file of {MMDB_NETWORKS} networks is walked through in {:.3} s",
        started.elapsed().as_secs_f64()
    );
    let reader = Reader::from_source(bytes)?;
    let mut rng = Rng::new(8);
    let addresses: Vec<IpAddr> = (0..CLIENTS)
        .map(|_| world.placed(&mut rng, MMDB_NETWORKS))
        .collect();
    let ns = time(&addresses, |address| {
        let found = reader.lookup(address).ok().and_then(|found| found.offset());
        found.unwrap_or(0) as u64
    });
    println!("mmdb, finding the record only: {ns:.1} ns");
    Ok(())
}

/// Nanoseconds a call.
fn time(addresses: &[IpAddr], mut call: impl FnMut(IpAddr) -> u64) -> f64 {
    let started = Instant::now();
    let mut sum = 0u64;
    for at in 0..LOOKUPS {
        sum = sum.wrapping_add(call(addresses[at % CLIENTS]));
    }
    black_box(sum);
    started.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

impl World {
    fn inputs(&self) -> Result<Inputs, Failure> {
        Ok(Inputs {
            pops: self.pops(),
            geo: Some(Arc::new(self.places())),
            asns: Some(Arc::new(self.asns())),
            samples: self.samples(),
            ..Inputs::default()
        })
    }
}
