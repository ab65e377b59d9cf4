//! `modcdn verify`: proves again what is in a store.

use std::num::NonZero;
use std::thread::available_parallelism;

use modcdn_core::config;
use modcdn_origin::upkeep::Target;
use modcdn_origin::upkeep::verify::{self, Bad, Event, Options, Progress, Summary};
use serde::Serialize;

use crate::bar::{Amount, Bar, size};
use crate::cli::VerifyArgs;
use crate::failure::Failure;
use crate::terminal::print;

/// A line of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Bad(&'a Bad),
    Summary(&'a Summary),
}

/// Verifies, and says what is wrong, a line a body.
///
/// # Errors
/// Something is wrong (exit code 1), or it can't be done at all (2).
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let target = match (&args.dir, &args.config) {
        (Some(dir), _) => Target::Folder(dir.clone()),
        (None, Some(file)) => Target::Configured(Box::new(config::load(file)?)),
        (None, None) => return Err(Failure::Usage("a folder or --config FILE is needed".into())),
    };
    let options = Options {
        fix: args.fix,
        ask: args.sumdb,
        jobs: args.jobs.map_or_else(processors, NonZero::get),
        bytes_per_second: args.rate.map(|rate| rate.as_u64()),
    };
    let mut bar = Bar::new("verifying", "bodies", Amount::default());
    let mut tell = |event| match event {
        Event::Counted(all) => bar = Bar::new("verifying", "bodies", amount(all)),
        Event::Done(done) => bar.show(amount(done)),
        Event::Bad(bad) if args.json => json(&Line::Bad(&bad)),
        Event::Bad(bad) => bar.say(&words(&bad)),
    };
    let summary = block_on(verify::run(&target, options, &mut tell))?
        .map_err(|error| Failure::Usage(format!("can't verify: {error}")))?;
    drop(bar);
    report(&summary, args)
}

/// Runs something on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("starting", error))?;
    Ok(runtime.block_on(work))
}

/// As many as there are.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

pub(crate) fn amount(progress: Progress) -> Amount {
    Amount {
        count: progress.bodies,
        bytes: progress.bytes,
    }
}

/// Prints a line of JSON.
pub(crate) fn json(line: &impl Serialize) {
    // Nothing here has keys that JSON can't have.
    print(&serde_json::to_string(line).unwrap_or_default());
}

fn words(bad: &Bad) -> String {
    let mount = bad.mount.trim_end_matches('/');
    let place = format!("{mount}/{}", bad.place);
    let what = match (bad.quarantined, &bad.quarantine_error) {
        (true, _) => ": now in .quarantine/".to_owned(),
        (false, Some(error)) => format!(": could not be moved to .quarantine/: {error}"),
        (false, None) => String::new(),
    };
    format!("{place} {}{what}", bad.text)
}

fn report(summary: &Summary, args: &VerifyArgs) -> Result<(), Failure> {
    if args.json {
        json(&Line::Summary(summary));
    } else {
        let checked = format!("{} bodies, {}", summary.checked, size(summary.bytes));
        let mut text = format!(
            "{checked}: {} wrong, {} proven",
            summary.bad, summary.proven
        );
        if summary.unproven > 0 {
            text += &format!(
                "; about {} the checksum database could not be asked",
                summary.unproven
            );
        }
        print(&text);
    }
    if summary.bad == 0 {
        return Ok(());
    }
    let left = summary.bad - summary.quarantined;
    let mut text = format!("{} of {} bodies are wrong", summary.bad, summary.checked);
    if summary.quarantined > 0 {
        text += &format!("; {} are in .quarantine/ now", summary.quarantined);
    }
    if left > 0 && !args.fix {
        text += "; --fix moves them to .quarantine/";
    }
    Err(Failure::Failed(text))
}

#[cfg(test)]
mod tests {
    use modcdn_origin::upkeep::verify::Wrong;

    use super::*;

    #[test]
    fn a_bad_body_is_told_with_its_path_and_what_became_of_it() {
        let mut bad = Bad {
            mount: "/team-a/".to_owned(),
            place: "a.example/m/@v/v1.0.0.zip".to_owned(),
            wrong: Wrong::Bytes,
            text: "has other bytes than were stored".to_owned(),
            quarantined: true,
            quarantine_error: None,
        };
        assert_eq!(
            words(&bad),
            "/team-a/a.example/m/@v/v1.0.0.zip has other bytes than were stored: now in .quarantine/"
        );
        bad.quarantined = false;
        bad.mount = "/".to_owned();
        assert_eq!(
            words(&bad),
            "/a.example/m/@v/v1.0.0.zip has other bytes than were stored"
        );
        let line = serde_json::to_value(Line::Bad(&bad)).unwrap();
        assert_eq!(line["bad"]["wrong"], "bytes");
    }
}
