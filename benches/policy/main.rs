//! Which policy keeps what an edge is asked for: a trace, replayed.
//!
//! ```text
//! cargo bench --bench policy              # the tables of ADR 6
//! cargo bench --bench policy -- --json    # the same for machines
//! cargo bench --bench policy -- --seed 7  # another trace
//! ```
//!
//! The trace is made (`trace`, `world`): what is realistic about it and what is left out is said
//! there. Both tiers see it whole, as in the store, each with its own weights (`replay`). Hit ratios
//! are of the clients' requests after a third of the trace; scanners' requests disturb and don't
//! count. Times an operation include the trait call and exclude the index's look-up.
#![allow(clippy::print_stdout, missing_docs)]

mod contenders;
#[path = "../../edge/src/engine/store/policy/mod.rs"]
#[allow(dead_code, unused_imports)]
mod policy;
mod replay;
mod report;
mod rng;
mod trace;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::contenders::ALL;
use crate::replay::{Outcome, Tape, Tier};
use crate::trace::Trace;

const SEED: u64 = 1;
/// Room of each tier, in parts per thousand of the footprint.
const RAM: [u64; 4] = [1, 5, 20, 50];
const DISK: [u64; 4] = [10, 50, 100, 250];

type Failure = Box<dyn std::error::Error>;

/// One cell of the tables.
struct Run {
    tape: usize,
    permille: u64,
    policy: usize,
    outcome: Outcome,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if args.iter().any(|arg| arg == "--test") {
        return Ok(());
    }
    let trace = Trace::new(seed(&args)?);
    let tapes = [Tier::Ram, Tier::Disk].map(|tier| Tape::new(&trace, tier));
    let runs = replay_all(&tapes);
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", report::json(&tapes, &runs));
    } else {
        println!("{}", report::trace(&trace));
        println!("{}", report::tables(&tapes, &runs));
    }
    Ok(())
}

fn seed(args: &[String]) -> Result<u64, Failure> {
    let Some(at) = args.iter().position(|arg| arg == "--seed") else {
        return Ok(SEED);
    };
    let value = args.get(at + 1).ok_or("--seed needs a number")?;
    Ok(value.parse()?)
}

/// Every policy at every size of both tiers, on all cores.
fn replay_all(tapes: &[Tape]) -> Vec<Run> {
    let mut jobs = Vec::new();
    for (tape, sizes) in [RAM, DISK].iter().enumerate() {
        for permille in sizes {
            jobs.extend((0..ALL.len()).map(|policy| (tape, *permille, policy)));
        }
    }
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((tape, permille, policy)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let capacity = tapes[*tape].footprint * permille / 1000;
            let outcome = tapes[*tape].replay(&ALL[*policy], capacity);
            let run = Run {
                tape: *tape,
                permille: *permille,
                policy: *policy,
                outcome,
            };
            runs.lock().unwrap().push(run);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let mut runs = runs.into_inner().unwrap();
    runs.sort_unstable_by_key(|run| (run.tape, run.policy, run.permille));
    runs
}
