//! `modcdn retention`: what the store's bounds make go.

use std::time::SystemTime;

use modcdn_core::config;
use modcdn_core::units::Period;
use modcdn_origin::retention::{self, Error, Event, Removal, Summary};
use serde::Serialize;

use crate::bar::size;
use crate::cli::RetentionArgs;
use crate::failure::Failure;
use crate::terminal::{error_lines, print};
use crate::verify::{block_on, json};

/// A line of `--json`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Removed(Removed<'a>),
    Failed(Removed<'a>),
    Summary(&'a Summary),
}

#[derive(Serialize)]
struct Removed<'a> {
    mount: &'a str,
    module: &'a str,
    version: &'a str,
    why: &'a str,
    bytes: u64,
    /// Seconds since then.
    stored: u64,
    used: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs once, and says what goes, a line a version.
///
/// # Errors
/// Something can't be removed (exit code 1), or it can't be done at all (2).
pub(crate) fn run(args: &RetentionArgs) -> Result<(), Failure> {
    let config = config::load(&args.config)?;
    let now = SystemTime::now();
    let mut tell = |event| match event {
        Event::Removed(removal) if args.json => {
            json(&Line::Removed(removed(&removal, now, None)));
        }
        Event::Removed(removal) => print(&words(&removal, now)),
        Event::Failed(removal, error) if args.json => {
            json(&Line::Failed(removed(&removal, now, Some(error))));
        }
        Event::Failed(removal, error) => {
            let Removal {
                module, version, ..
            } = removal;
            let (module, version) = (module.as_str(), version.as_str());
            error_lines(&format!("{module}@{version} can't be removed: {error}"));
        }
    };
    let summaries = block_on(retention::run(&config, args.dry_run, &mut tell))?;
    let summaries = summaries.map_err(|error| match error {
        Error::NotConfigured => Failure::Config(format!("{}: {error}", args.config.display())),
        error => Failure::Usage(error.to_string()),
    })?;
    for summary in &summaries {
        if args.json {
            json(&Line::Summary(summary));
        } else {
            print(&totals(summary, args.dry_run));
        }
    }
    let failed: u64 = summaries.iter().map(|summary| summary.failed).sum();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{failed} versions can't be removed"
    )))
}

fn since(then: SystemTime, now: SystemTime) -> Period {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    Period::secs(if seconds > 3600 {
        seconds / 3600 * 3600
    } else {
        seconds
    })
}

fn words(removal: &Removal, now: SystemTime) -> String {
    format!(
        "{}@{}  {}  {} (stored {} ago, asked for {} ago)",
        removal.module.as_str(),
        removal.version.as_str(),
        size(removal.bytes),
        removal.why,
        since(removal.stored, now),
        since(removal.used, now),
    )
}

fn removed(removal: &Removal, now: SystemTime, error: Option<String>) -> Removed<'_> {
    let seconds = |then| now.duration_since(then).unwrap_or_default().as_secs();
    Removed {
        mount: removal.mount.as_str(),
        module: removal.module.as_str(),
        version: removal.version.as_str(),
        why: removal.why.name(),
        bytes: removal.bytes,
        stored: seconds(removal.stored),
        used: seconds(removal.used),
        error,
    }
}

fn totals(summary: &Summary, dry: bool) -> String {
    let go = if dry { "would go" } else { "went" };
    let mut text = format!(
        "{}: {} versions, {}; {} {go}, {}",
        summary.mount,
        summary.versions,
        size(summary.bytes),
        summary.removed,
        size(summary.removed_bytes),
    );
    for (number, why) in [
        (summary.kept_by_module, "by keep.modules"),
        (summary.kept_as_newest, "by keep.newest"),
        (
            summary.kept_as_irreplaceable,
            "because nobody can fetch them again",
        ),
    ] {
        if number > 0 {
            text += &format!("; {number} stay {why}");
        }
    }
    if summary.over > 0 {
        text += &format!("; still {} over max_size", size(summary.over));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_and_why_is_said() {
        let summary = Summary {
            mount: "/".to_owned(),
            versions: 10,
            bytes: 3 << 20,
            removed: 2,
            removed_bytes: 1 << 20,
            kept_as_newest: 4,
            over: 1 << 10,
            ..Summary::default()
        };
        assert_eq!(
            totals(&summary, true),
            "/: 10 versions, 3.0 MiB; 2 would go, 1.0 MiB; 4 stay by keep.newest; still 1.0 KiB over max_size"
        );
    }
}
