//! A store of a million keys: what it costs in RAM, how fast it starts, after a clean stop and after
//! a kill in the midst of writing.
//!
//! ```text
//! cargo bench --bench store                                   # a million keys, 2 GB of disk
//! cargo bench --bench store -- --keys 100000 --dir /mnt/disk
//! ```
//! Each stage is a process of its own (`stages`) on one folder, so that memory is that of the stage
//! and a kill is a kill. Everything goes through the engine as requests do, with an origin in the
//! process (`origin`): a third `.info`s, a third `.mod`s, which are packed, a third zips, which are
//! files, small ones, since the index doesn't mind their size. The page cache is warm: the journal
//! is not read from the disk.
#![allow(clippy::print_stdout, missing_docs)]

mod origin;
mod stages;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::stages::Stage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the process that is killed has been writing by then.
const WRITING: Duration = Duration::from_secs(2);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs a bench with `--test`: it has nothing to say then.
    if args.iter().any(|arg| arg == "--test") {
        return Ok(());
    }
    let keys = option(&args, "--keys").unwrap_or("1000000").parse()?;
    let dir = option(&args, "--dir").map_or_else(std::env::temp_dir, Into::into);
    if let Some(stage) = option(&args, "--stage") {
        return stages::run(Stage::named(stage).ok_or("no such stage")?, &dir, keys);
    }
    let dir = tempfile::Builder::new()
        .prefix("store-bench")
        .tempdir_in(dir)?;
    finish(begin(Stage::Fill, dir.path(), keys)?)?;
    finish(begin(Stage::Start, dir.path(), keys)?)?;
    kill_while_writing(begin(Stage::Write, dir.path(), keys)?)?;
    finish(begin(Stage::Start, dir.path(), keys)?)
}

fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn begin(stage: Stage, dir: &Path, keys: usize) -> Result<Child, Failure> {
    println!("{}", stage.title());
    let child = Command::new(std::env::current_exe()?)
        .args([
            "--stage",
            stage.name(),
            "--keys",
            &keys.to_string(),
            "--dir",
        ])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

fn finish(mut child: Child) -> Result<(), Failure> {
    print_lines(&mut child, |_| false)?;
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the stage ended with {status}").into())
}

fn kill_while_writing(mut child: Child) -> Result<(), Failure> {
    print_lines(&mut child, |line| line.contains(stages::WRITES))?;
    thread::sleep(WRITING);
    child.kill()?;
    println!("  killed: {}", child.wait()?);
    Ok(())
}

/// Prints what a stage says, up to the line that is waited for.
fn print_lines(child: &mut Child, last: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let stdout = child.stdout.take().ok_or("no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("  {line}");
        if last(&line) {
            break;
        }
    }
    Ok(())
}
