//! The tables, for people and for machines.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Run;
use crate::contenders::ALL;
use crate::replay::Tape;
use crate::trace::{Event, Trace};

/// What the trace consists of.
pub(crate) fn trace(trace: &Trace) -> String {
    let count = |wanted: fn(&Event) -> bool| trace.events.iter().filter(|e| wanted(e)).count();
    let asks = count(|event| matches!(event, Event::Ask(_)));
    let scans = count(|event| matches!(event, Event::Scan(_)));
    format!(
        "{asks} requests, {scans} by scanners, of {} objects",
        trace.sizes.len()
    )
}

pub(crate) fn tables(tapes: &[Tape], runs: &[Run]) -> String {
    let mut text = String::new();
    for (nth, tape) in tapes.iter().enumerate() {
        let runs: Vec<_> = runs.iter().filter(|run| run.tape == nth).collect();
        table(&mut text, tape, &runs).expect("a string takes everything");
    }
    text
}

fn table(text: &mut String, tape: &Tape, runs: &[&Run]) -> std::fmt::Result {
    let gib = tape.footprint as f64 / f64::from(1 << 30);
    writeln!(
        text,
        "\n{} tier, footprint {gib:.1} GiB; hits, % of requests / % of bytes",
        tape.tier.name()
    )?;
    for (policy, named) in ALL.iter().enumerate() {
        let rows: Vec<_> = runs.iter().filter(|run| run.policy == policy).collect();
        if policy == 0 {
            write!(text, "\n| {:20} |", "")?;
            for run in &rows {
                write!(text, " {:>4} % of it   |", run.permille as f64 / 10.0)?;
            }
            writeln!(text, " ns/op | B/entry |\n|---|---|---|---|---|---|---|")?;
        }
        write!(text, "| {:20} |", named.name)?;
        for run in &rows {
            let outcome = &run.outcome;
            write!(
                text,
                " {:6.2} / {:5.2} |",
                outcome.objects(),
                outcome.bytes()
            )?;
        }
        let nanos = rows.iter().map(|run| run.outcome.nanos()).sum::<f64>() / rows.len() as f64;
        let per_entry = rows.first().map_or(0, |run| run.outcome.per_entry);
        writeln!(text, " {nanos:5.0} | {per_entry:7} |")?;
    }
    Ok(())
}

pub(crate) fn json(tapes: &[Tape], runs: &[Run]) -> Value {
    let run = |run: &Run| {
        json!({
            "tier": tapes[run.tape].tier.name(),
            "footprint_bytes": tapes[run.tape].footprint,
            "permille": run.permille,
            "policy": ALL[run.policy].name,
            "object_hit_percent": run.outcome.objects(),
            "byte_hit_percent": run.outcome.bytes(),
            "nanoseconds": run.outcome.nanos(),
            "bytes_per_entry": run.outcome.per_entry,
        })
    };
    runs.iter().map(run).collect()
}
