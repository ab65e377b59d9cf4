//! `modcdn import`: takes over a module cache or an Athens' disk store.

use std::num::NonZero;

use modcdn_core::config;
use modcdn_origin::upkeep::Target;
use modcdn_origin::upkeep::import::{self, Event, Layout, Options, Refused, Summary};
use serde::Serialize;

use crate::bar::{Amount, Bar, size};
use crate::cli::ImportArgs;
use crate::failure::Failure;
use crate::terminal::{notice, print};
use crate::verify::{amount, block_on, json, processors};

/// A line of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Refused(&'a Refused),
    Summary(&'a Summary),
}

/// Imports, and says what isn't taken, a line a file.
///
/// # Errors
/// Something wasn't taken (exit code 1), or it can't be done at all (2).
pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let target = match (&args.store, &args.config) {
        (Some(dir), _) => Target::Folder(dir.clone()),
        (None, Some(file)) => Target::Configured(Box::new(config::load(file)?)),
        (None, None) => return Err(Failure::Usage("--config or --store is needed".into())),
    };
    let options = Options {
        mount: args.mount.clone(),
        link: args.link,
        jobs: args.jobs.map_or_else(processors, NonZero::get),
    };
    let mut bar = Bar::new("importing", "files", Amount::default());
    let mut tell = |event| match event {
        Event::Counted(layout, all) => {
            notice(format_args!("{} is {}", args.dir.display(), name(layout)));
            bar = Bar::new("importing", "files", amount(all));
        }
        Event::Done(done) => bar.show(amount(done)),
        Event::Refused(refused) if args.json => json(&Line::Refused(&refused)),
        Event::Refused(refused) => {
            bar.say(&format!("{} {}", refused.file.display(), refused.text));
        }
    };
    let summary = block_on(import::run(&args.dir, &target, &options, &mut tell))?
        .map_err(|error| Failure::Usage(error.to_string()))?;
    drop(bar);
    report(&summary, args.json)
}

fn name(layout: Layout) -> &'static str {
    match layout {
        Layout::Tree => "a module cache or a GOPROXY tree",
        Layout::Athens => "an Athens' store",
    }
}

fn report(summary: &Summary, as_json: bool) -> Result<(), Failure> {
    if as_json {
        json(&Line::Summary(summary));
    } else {
        let taken = format!(
            "{} files taken, {}",
            summary.taken,
            size(summary.taken_bytes)
        );
        print(&format!("{taken}; {} were there already", summary.present));
    }
    if summary.refused == 0 {
        return Ok(());
    }
    let refused = summary.refused;
    Err(Failure::Failed(format!("{refused} files were not taken")))
}
