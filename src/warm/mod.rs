//! `modcdn warm`: asks an edge or an origin for all that a build will ask for.
//!
//! Nothing is kept: a zip whose hash is known goes through a file without a name, is hashed, and is
//! gone. What was asked for and was right is written into the state file, one path a line, so that a
//! run that was cut off goes on where it was.

mod ask;
mod state;
mod wanted;

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::Instant;

use futures::{StreamExt, stream};
use serde::Serialize;

use self::ask::{Asker, Got, Missed};
use self::state::State;
use self::wanted::{Item, Wanted};
use crate::bar::{Amount, Bar, size};
use crate::cli::WarmArgs;
use crate::failure::Failure;
use crate::terminal::print;
use crate::verify::{block_on, json};

/// A line of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Would { path: &'a str },
    Failed { path: &'a str, error: &'a str },
    Summary(&'a Summary),
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Summary {
    /// Answers that were whole, and right where that is known.
    warmed: u64,
    /// Of those, the ones that were hashed.
    verified: u64,
    /// What an earlier run had done.
    skipped: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

/// Warms, and says what failed, a line each.
///
/// # Errors
/// Something failed (exit code 1), or what was asked makes no sense (2).
pub(crate) fn run(args: &WarmArgs) -> Result<(), Failure> {
    let wanted = wanted(&args.what).map_err(Failure::Usage)?;
    let state = State::open(args.state.as_deref(), &args.url).map_err(Failure::Usage)?;
    let mut summary = Summary::default();
    let mut items = wanted.items();
    let all = items.len();
    items.retain(|item| !state.has(&item.request.path()));
    summary.skipped = (all - items.len()) as u64;
    if args.dry_run {
        return would(&items, &summary, args.json);
    }
    let asker = Asker::new(args).map_err(Failure::Usage)?;
    let started = Instant::now();
    block_on(ask_all(&items, &asker, state, &mut summary, args))?
        .map_err(|why| Failure::Failed(format!("nothing answers at {}: {why}", args.url)))?;
    summary.seconds = started.elapsed().as_secs_f64();
    report(&summary, args.json)
}

fn wanted(what: &[String]) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for one in what {
        let name = Path::new(one).file_name().and_then(|name| name.to_str());
        let is_file = name.is_some_and(|name| name.ends_with("go.sum") || name.ends_with("go.mod"));
        if !is_file {
            wanted
                .add_name(one)
                .map_err(|fault| format!("{one}: {fault}"))?;
            continue;
        }
        let text = fs::read_to_string(one).map_err(|error| format!("{one}: {error}"))?;
        let added = if one.ends_with("go.sum") {
            wanted.add_sum(&text)
        } else {
            wanted.add_mod(&text)
        };
        added.map_err(|fault| format!("{one}:{fault}"))?;
    }
    Ok(wanted)
}

fn would(items: &[Item], summary: &Summary, as_json: bool) -> Result<(), Failure> {
    for item in items {
        let path = item.request.path();
        if as_json {
            json(&Line::Would { path: &path });
        } else {
            print(&path);
        }
    }
    if as_json {
        json(&Line::Summary(summary));
    }
    Ok(())
}

async fn ask_all(
    items: &[Item],
    asker: &Asker,
    mut state: State,
    summary: &mut Summary,
    args: &WarmArgs,
) -> Result<(), String> {
    let all = Amount {
        count: items.len() as u64,
        bytes: 0,
    };
    let mut bar = Bar::new("warming", "answers", all);
    let mut done = Amount::default();
    let asking = items.iter().map(|item| async move {
        let got = asker.ask(item).await;
        (item.request.path(), got)
    });
    let jobs = args.jobs.map_or(ask::JOBS, NonZero::get);
    let mut asking = stream::iter(asking).buffer_unordered(jobs);
    while let Some((path, got)) = asking.next().await {
        done.count += 1;
        match got {
            Ok(Got { bytes, verified }) => {
                done.bytes += bytes;
                summary.warmed += 1;
                summary.verified += u64::from(verified);
                if let Err(error) = state.add(&path) {
                    bar.say(&format!("modcdn: the state file can't be written: {error}"));
                }
            }
            // Everything else would fail alike.
            Err(Missed {
                text,
                unreachable: true,
            }) if done.count == 1 => return Err(text),
            Err(Missed { text: error, .. }) => {
                summary.failed += 1;
                if args.json {
                    json(&Line::Failed {
                        path: &path,
                        error: &error,
                    });
                } else {
                    bar.say(&format!("{path}: {error}"));
                }
            }
        }
        bar.show(done);
    }
    summary.bytes = done.bytes;
    Ok(())
}

fn report(summary: &Summary, as_json: bool) -> Result<(), Failure> {
    if as_json {
        json(&Line::Summary(summary));
    } else {
        let rate = (summary.bytes as f64 / summary.seconds.max(0.001)) as u64;
        let mut text = format!(
            "{} answers, {} in {:.1} s ({}/s), {} of them hashed as go.sum says",
            summary.warmed,
            size(summary.bytes),
            summary.seconds,
            size(rate),
            summary.verified
        );
        if summary.skipped > 0 {
            text += &format!("; {} were done before", summary.skipped);
        }
        print(&text);
    }
    if summary.failed == 0 {
        return Ok(());
    }
    let asked = summary.failed + summary.warmed;
    Err(Failure::Failed(format!(
        "{} of {asked} failed",
        summary.failed
    )))
}
