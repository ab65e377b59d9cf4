//! The origin beside a plain file server (nginx) for the same tree, and before a slow upstream.
//!
//! ```text
//! cargo bench --bench origin                  # everything
//! cargo bench --bench origin -- --only cold   # rows whose name holds "cold"
//! ```
//!
//! - `info`: stored `.info`s a second on one core, HTTP/2 in clear text, nginx serving the same file;
//! - `cold first byte`: what the origin adds to an upstream's first byte of a zip it never had;
//! - `cold project`: `go mod download` of a made project of 180 modules, straight from the upstream
//!   and through edge and origin that have nothing stored.
//!
//! Needs nginx, h2load, taskset and go, and at least two cores. Medians; contenders take turns.
#![allow(clippy::print_stdout, missing_docs)]

mod first_byte;
mod info;
mod nodes;
mod project;
#[path = "../rig/mod.rs"]
mod rig;
mod upstream;

use rig::{Outcome, need};

fn main() -> Outcome<()> {
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    for tool in ["nginx", "h2load", "taskset", "go"] {
        need(tool)?;
    }
    let dir = tempfile::tempdir()?;
    if wanted("info") {
        info::run(dir.path())?;
    }
    if wanted("cold first byte") {
        first_byte::run(dir.path())?;
    }
    if wanted("cold project") {
        project::run(dir.path())?;
    }
    Ok(())
}

/// Whether `--only` leaves this row in.
fn wanted(name: &str) -> bool {
    let mut args = std::env::args().skip_while(|arg| arg != "--only").skip(1);
    args.next().is_none_or(|only| name.contains(&only))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
