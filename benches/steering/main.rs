//! How near to the best PoP clients are led: days of a made world, replayed through the map.
//!
//! ```text
//! cargo bench --bench steering                # the tables of docs/benchmarks.md
//! cargo bench --bench steering -- --json      # the same for machines
//! cargo bench --bench steering -- --seed 7    # another world
//! cargo bench --bench steering -- --days 3
//! ```
//!
//! `world` says what is realistic about it and what is left out; `cities` is its table. `replay`
//! makes a map every ten minutes with the compiler that a DNS node has, and asks it for every unit;
//! `tally` sums up. The first half day is not counted. One PoP is lost for two hours.
#![allow(clippy::print_stdout, missing_docs)]

mod cities;
mod replay;
mod report;
#[path = "../policy/rng.rs"]
#[allow(dead_code)]
mod rng;
mod tally;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::replay::{Contender, Outage, SETTLED, Where, replay};
use crate::report::Row;
use crate::world::{World, sites};

const SEED: u64 = 1;
const DAYS: u64 = 1;
const DAY: u64 = 1440;
const POPS: [usize; 2] = [12, 20];

const CONTENDERS: [Contender; 10] = [
    Contender::Oracle,
    Contender::Hindsight,
    Contender::Distance,
    ours(0, Where::Around, false),
    ours(1, Where::Around, false),
    ours(3, Where::Around, false),
    ours(10, Where::Around, false),
    ours(3, Where::Led, false),
    ours(3, Where::Around, true),
    ours(0, Where::Around, true),
];

const fn ours(samples: usize, at: Where, loads: bool) -> Contender {
    Contender::Ours { samples, at, loads }
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if args.iter().any(|arg| arg == "--test") {
        return Ok(());
    }
    let minutes = number(&args, "--days", DAYS)? * DAY;
    let seed = number(&args, "--seed", SEED)?;
    if minutes <= SETTLED {
        return Err("--days needs at least 1".into());
    }
    let worlds = POPS.map(|pops| World::full(&sites(pops), seed));
    let rows = replay_all(&worlds, minutes);
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", report::json(&worlds, &rows));
    } else {
        println!("{}", report::tables(&worlds, &rows, minutes / DAY));
    }
    Ok(())
}

fn number(args: &[String], flag: &str, default: u64) -> Result<u64, Failure> {
    let Some(at) = args.iter().position(|arg| arg == flag) else {
        return Ok(default);
    };
    let value = args
        .get(at + 1)
        .ok_or_else(|| format!("{flag} needs a number"))?;
    Ok(value.parse()?)
}

/// Every contender in every world, on all cores.
fn replay_all(worlds: &[World], minutes: u64) -> Vec<Row> {
    let jobs: Vec<(usize, Contender)> = (0..worlds.len())
        .flat_map(|world| CONTENDERS.map(|contender| (world, contender)))
        .collect();
    // The PoP in the middle of the list is lost on the first afternoon that counts.
    let outage = |world: &World| Outage {
        pop: world.pops.len() / 2,
        from: SETTLED + 60,
        until: SETTLED + 180,
    };
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(&(index, contender)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let world = &worlds[index];
                    let tally = replay(world, contender, minutes, Some(outage(world)));
                    let row = Row {
                        world: index,
                        contender,
                        tally,
                    };
                    rows.lock().expect("nobody panics with it").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("nobody panicked with it");
    let rank = |row: &Row| CONTENDERS.iter().position(|other| *other == row.contender);
    rows.sort_by_key(|row| (row.world, rank(row)));
    rows
}
