//! `modcdn dns replay`: who would be led elsewhere by another configuration.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use modcdn_core::config;
use modcdn_dns::Config;
use modcdn_dns::replay::{Replay, Report, World};

use crate::cli::ReplayArgs;
use crate::explain::{known, made};
use crate::failure::Failure;
use crate::terminal::print;

/// The longest line that is read, in bytes: ours have a few hundred.
const MAX_LINE: u64 = 64 * 1024;

/// Replays a log and prints who would move.
///
/// # Errors
/// A configuration is wrong, the log can't be read, or more would move than may.
pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    if args.most.is_some_and(|most| !(0.0..=100.0).contains(&most)) {
        return Err(Failure::Usage(
            "--most: write percent, from 0 to 100".to_owned(),
        ));
    }
    let (old, new): (Config, Config) = (config::load(&args.config)?, config::load(&args.map)?);
    let known = known(&old, args.known.sources(false))?;
    let world = |file, config| made(file, config, &known).map(World::new);
    let (old, new) = (world(&args.config, &old)?, world(&args.map, &new)?);
    let mut replay = Replay::new(&old, &new, Instant::now());
    read(&args.log, |line| replay.take(line))
        .map_err(|error| Failure::doing(format_args!("reading {}", args.log.display()), error))?;
    let report = replay.report(args.top);
    print(text(&report, args.json)?.trim_end());
    match args.most {
        _ if report.queries == 0 => Err(Failure::Failed(format!(
            "{} has no query of a name that both configurations steer: nothing was compared",
            args.log.display()
        ))),
        Some(most) if report.percent() > most => Err(Failure::Blocked),
        _ => Ok(()),
    }
}

fn text(report: &Report, json: bool) -> Result<String, Failure> {
    if json {
        serde_json::to_string(report).map_err(|error| Failure::doing("writing JSON", error))
    } else {
        Ok(report.table())
    }
}

/// Hands over the lines of a file or of stdin; what is longer than [`MAX_LINE`] comes in pieces.
fn read(log: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let source: Box<dyn Read> = if log.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(log)?)
    };
    let mut lines = BufReader::new(source);
    let mut line = Vec::new();
    while (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        take(&line);
        line.clear();
    }
    Ok(())
}
