//! Tables for people, and the same for machines.

use std::fmt::Write as _;

use serde_json::json;

use crate::replay::{Contender, Where};
use crate::tally::Tally;
use crate::world::World;

/// What one contender came to in one world.
pub(crate) struct Row {
    pub(crate) world: usize,
    pub(crate) contender: Contender,
    pub(crate) tally: Tally,
}

const KINDS: [&str; 3] = ["own subnet", "resolver near", "resolver far"];

/// Tables in Markdown.
pub(crate) fn tables(worlds: &[World], rows: &[Row], days: u64) -> String {
    let mut text = String::new();
    for (index, world) in worlds.iter().enumerate() {
        let _ = writeln!(
            text,
            "{} PoPs, {} units in {} cities, {days} days\n",
            world.pops.len(),
            world.units.len(),
            world.cities.len(),
        );
        text += "| | mean ms | p95 | regret | first within 5 ms: own subnet | resolver near | resolver far | all | all answered | moved, % of units an hour | peak load |\n";
        text += "|---|---|---|---|---|---|---|---|---|---|---|\n";
        for row in rows.iter().filter(|row| row.world == index) {
            let (name, all) = (name(row.contender), &row.tally.all);
            let _ = write!(
                text,
                "| {name} | {:.1} | {:.1} | {:.2} ",
                all.mean(),
                all.p95(),
                all.regret()
            );
            for sums in row.tally.kinds.iter().chain([all]) {
                let _ = write!(text, "| {:.1} % ", sums.first());
            }
            let _ = write!(text, "| {:.1} % ", all.near());
            let (moved, peak) = (row.tally.moves_an_hour(), 100.0 * row.tally.peak());
            let _ = writeln!(text, "| {moved:.2} | {peak:.0} % |");
        }
        text.push('\n');
    }
    text
}

/// One JSON object.
pub(crate) fn json(worlds: &[World], rows: &[Row]) -> String {
    let row = |row: &Row| {
        let tally = &row.tally;
        let near = KINDS.iter().zip(&tally.kinds);
        let near: serde_json::Map<String, serde_json::Value> = near
            .map(|(kind, sums)| ((*kind).to_owned(), sums.first().into()))
            .collect();
        let pops = worlds[row.world].pops.iter().zip(&tally.peaks);
        let peaks: serde_json::Map<String, serde_json::Value> = pops
            .map(|(city, peak)| (city.name.to_owned(), (*peak).into()))
            .collect();
        json!({
            "pops": worlds[row.world].pops.len(),
            "contender": name(row.contender),
            "mean_ms": tally.all.mean(),
            "p95_ms": tally.all.p95(),
            "regret_ms": tally.all.regret(),
            "within_5ms_percent": tally.all.near(),
            "first_within_5ms_percent": tally.all.first(),
            "first_within_5ms_percent_by_kind": near,
            "moved_percent_an_hour": tally.moves_an_hour(),
            "peak_load": peaks,
        })
    };
    json!(rows.iter().map(row).collect::<Vec<_>>()).to_string()
}

fn name(contender: Contender) -> String {
    match contender {
        Contender::Oracle => "oracle".to_owned(),
        Contender::Hindsight => "best of what was measured".to_owned(),
        Contender::Distance => "nearest by distance".to_owned(),
        Contender::Ours { samples, at, loads } => {
            let measured = match (samples, at) {
                (0, _) => "nothing measured".to_owned(),
                (_, Where::Around) => format!("{samples} a unit, around"),
                (_, Where::Led) => format!("{samples} a unit, where led"),
            };
            format!("map, {measured}{}", if loads { ", loads told" } else { "" })
        }
    }
}
