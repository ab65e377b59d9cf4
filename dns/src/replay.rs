//! A query log asked again: who would be led elsewhere by another configuration, and what that
//! would change.
//!
//! Pure. Lines are those of the access log; each stands for as many queries as its `sample` says.
//! Both maps are asked for the same clients at the same time, and are made of what one node knew, so
//! that only the configurations differ.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use hickory_proto::rr::Name;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::explain::columns;
use crate::server::Offline;
use crate::steer::{Client, Explanation, Map, Score, ViewId};
use crate::steering::known::Account;
use crate::zone::Zone;

/// What a configuration comes to: its names and its map.
pub struct World {
    names: HashMap<Name, ViewId>,
    map: Map,
    account: Account,
}

/// What of a line of the access log matters here.
#[derive(Deserialize)]
struct Line {
    client: IpAddr,
    #[serde(default)]
    subnet: Option<IpNet>,
    query: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    /// Only steered names have it, and those that explain them.
    #[serde(default)]
    pop: Option<String>,
    #[serde(default)]
    sample: Option<u64>,
}

/// Who asked, and for what.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Asker {
    name: Name,
    subnet: Option<IpNet>,
    resolver: IpAddr,
}

/// A log, asked again line by line. Some 200 bytes an asker are held.
pub struct Replay<'a> {
    old: &'a World,
    new: &'a World,
    now: Instant,
    askers: HashMap<Asker, u64>,
    report: Report,
}

/// Who would be led elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What the maps are made of besides their configurations.
    pub known: Option<Grounds>,
    /// Lines read.
    pub lines: u64,
    /// Lines that are no lines of an access log.
    pub unreadable: u64,
    /// Lines of what isn't led to PoPs.
    pub untailored: u64,
    /// Queries of names that one of the configurations doesn't steer.
    pub unsteered: u64,
    /// Queries that were asked again; a line of a sample stands for several.
    pub queries: u64,
    /// Different askers: a name, a subnet and a resolver.
    pub askers: u64,
    /// Who moves.
    pub moved: Moved,
    /// The same by the PoPs that are left and gone to.
    pub by_pop: Vec<Row>,
    /// The same by country, the most queries first; `??` is unknown.
    pub by_country: Vec<Row>,
    /// The askers who move, the most queries first; no more than were asked for.
    pub top: Vec<Row>,
}

/// What both maps are made of besides their configurations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grounds {
    /// The old one.
    pub old: Account,
    /// The new one: a configuration that drains PoPs makes the only difference.
    pub new: Account,
}

/// A number of moves, and what they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moved {
    /// Queries.
    pub queries: u64,
    /// Askers.
    pub askers: u64,
    /// Queries of which both round trips can be estimated.
    pub estimated: u64,
    /// Queries of which both were measured from the asker's own prefix.
    pub measured: u64,
    /// Of those estimated, what a round trip changes by on average, in milliseconds: below zero is nearer.
    pub change_ms: Option<f64>,
    #[serde(skip)]
    sum_ms: f64,
}

/// Moves that have something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What: `from → to`, a country, or an asker.
    pub what: String,
    /// The PoPs left and gone to, where they are the same for all.
    #[serde(flatten)]
    pub way: Option<Way>,
    /// How many, and what changes.
    #[serde(flatten)]
    pub moved: Moved,
}

/// A move's PoPs: the first ones answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Way {
    /// By the old map.
    pub from: String,
    /// By the new one.
    pub to: String,
}

impl World {
    /// The names and the map of a configuration.
    #[must_use]
    pub fn new(made: Offline) -> Self {
        let names = made.zones.all().iter().flat_map(Zone::steered_names);
        Self {
            names: names.map(|(name, view, _)| (name.clone(), view)).collect(),
            map: made.map,
            account: made.account,
        }
    }

    /// The first PoP that is answered, by its name.
    fn first(&self, view: ViewId, client: &Client, now: Instant) -> &str {
        let choice = self.map.choose(view, client, now);
        let first = self.map.answer(choice.answer).pops.first();
        let pop = first.and_then(|pop| self.map.pops().get(*pop));
        pop.map_or("none", |pop| &pop.name)
    }
}

impl<'a> Replay<'a> {
    /// Nothing asked yet. Maps are asked at one time, `now`.
    #[must_use]
    pub fn new(old: &'a World, new: &'a World, now: Instant) -> Self {
        Self {
            old,
            new,
            now,
            askers: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Takes a line of the log; what isn't one is counted.
    pub fn take(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.report.lines += 1;
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => self.ask(&line),
            // A query whose name can't be read has none in the log.
            Err(_) => self.report.unreadable += 1,
        }
    }

    fn ask(&mut self, line: &Line) {
        let queries = line.sample.unwrap_or(1);
        if line.pop.is_none() || line.kind.as_deref() == Some("TXT") {
            self.report.untailored += 1;
            return;
        }
        let Ok(mut name) = Name::from_ascii(&line.query) else {
            self.report.unreadable += 1;
            return;
        };
        name.set_fqdn(true);
        if !(self.old.names.contains_key(&name) && self.new.names.contains_key(&name)) {
            self.report.unsteered += queries;
            return;
        }
        self.report.queries += queries;
        let asker = Asker {
            name: name.to_lowercase(),
            subnet: line.subnet.filter(|subnet| subnet.prefix_len() > 0),
            resolver: line.client,
        };
        *self.askers.entry(asker).or_default() += queries;
    }

    /// Who would move; of askers the `top` busiest by name.
    #[must_use]
    pub fn report(self, top: usize) -> Report {
        let Self {
            old,
            new,
            now,
            askers,
            mut report,
        } = self;
        report.known = Some(Grounds {
            old: old.account.clone(),
            new: new.account.clone(),
        });
        report.askers = askers.len() as u64;
        let mut by_pop: BTreeMap<Way, Moved> = BTreeMap::new();
        let mut by_country: BTreeMap<String, Moved> = BTreeMap::new();
        for (asker, queries) in &askers {
            let Some(step) = Step::of(old, new, asker, now) else {
                continue;
            };
            let add = |moved: &mut Moved| moved.add(*queries, step.change);
            add(&mut report.moved);
            add(by_pop.entry(step.way.clone()).or_default());
            add(by_country.entry(step.country).or_default());
            let mut own = Moved::default();
            add(&mut own);
            report.top.push(Row {
                what: asker.text(),
                way: Some(step.way),
                moved: own.averaged(),
            });
        }
        report.moved = report.moved.averaged();
        report.by_pop = by_pop
            .into_iter()
            .map(|(way, moved)| Row {
                what: format!("{} → {}", way.from, way.to),
                way: Some(way),
                moved: moved.averaged(),
            })
            .collect();
        report.by_country = by_country
            .into_iter()
            .map(|(what, moved)| Row {
                what,
                way: None,
                moved: moved.averaged(),
            })
            .collect();
        for rows in [&mut report.by_pop, &mut report.by_country, &mut report.top] {
            rows.sort_by(|a, b| {
                (b.moved.queries.cmp(&a.moved.queries)).then_with(|| a.what.cmp(&b.what))
            });
        }
        report.top.truncate(top);
        report
    }
}

/// One asker's move.
struct Step {
    way: Way,
    country: String,
    change: Option<Change>,
}

/// What a move changes, where that can be estimated.
#[derive(Clone, Copy)]
struct Change {
    /// In milliseconds.
    ms: f64,
    /// Whether both round trips were measured from the asker's own prefix.
    measured: bool,
}

impl Step {
    fn of(old: &World, new: &World, asker: &Asker, now: Instant) -> Option<Self> {
        let client = Client {
            subnet: asker.subnet.map(|subnet| subnet.network()),
            resolver: asker.resolver,
        };
        let (before, after) = (*old.names.get(&asker.name)?, *new.names.get(&asker.name)?);
        let way = Way {
            from: old.first(before, &client, now).to_owned(),
            to: new.first(after, &client, now).to_owned(),
        };
        if way.from == way.to {
            return None;
        }
        let (before, after) = (
            old.map.explain(before, &client),
            new.map.explain(after, &client),
        );
        let scores = (
            [&after, &before].map(|map| score(map, &way.from)),
            [&after, &before].map(|map| score(map, &way.to)),
        );
        Some(Self {
            country: after.country.unwrap_or_else(|| "??".to_owned()),
            change: change(scores.0, scores.1),
            way,
        })
    }
}

/// What is between two PoPs, each by what the new map and the old one know of it. A map that knows both
/// is believed before two that know one each, and the new one before the old: a client that is pinned,
/// or a PoP that comes or goes, is known to one of them.
fn change(from: [Option<Score>; 2], to: [Option<Score>; 2]) -> Option<Change> {
    let [new, old] = [0, 1].map(|map| from[map].zip(to[map]));
    let (from, to) = new.or(old).or_else(|| from[1].zip(to[0]))?;
    Some(Change {
        ms: to.estimate - from.estimate,
        measured: from.median.is_some() && to.median.is_some(),
    })
}

fn score(explanation: &Explanation, pop: &str) -> Option<Score> {
    let mut candidates = explanation.candidates.iter();
    candidates.find(|candidate| candidate.pop == pop)?.score
}

impl Asker {
    fn text(&self) -> String {
        match self.subnet {
            Some(subnet) => subnet.to_string(),
            None => format!("resolver {}", self.resolver),
        }
    }
}

impl Moved {
    fn add(&mut self, queries: u64, change: Option<Change>) {
        self.queries += queries;
        self.askers += 1;
        if let Some(Change { ms, measured }) = change {
            self.estimated += queries;
            self.measured += if measured { queries } else { 0 };
            self.sum_ms += ms * queries as f64;
        }
    }

    fn averaged(self) -> Self {
        let mean = self.sum_ms / self.estimated as f64;
        Self {
            change_ms: (self.estimated > 0).then(|| (mean * 10.0).round() / 10.0),
            ..self
        }
    }
}

impl Report {
    /// The part of the queries that moves, in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.queries == 0 {
            return 0.0;
        }
        100.0 * self.moved.queries as f64 / self.queries as f64
    }

    /// The report as tables for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = self.known.as_ref().map_or_else(String::new, Grounds::text);
        let _ = writeln!(
            out,
            "asked again  {} queries of {} askers, from {} lines",
            self.queries, self.askers, self.lines
        );
        for (count, what) in [
            (self.untailored, "lines of names that aren't led to PoPs"),
            (
                self.unsteered,
                "queries of names that not both configurations steer",
            ),
            (self.unreadable, "lines that are no lines of an access log"),
        ] {
            if count > 0 {
                let _ = writeln!(out, "left out     {count} {what}");
            }
        }
        let _ = write!(
            out,
            "moved        {} queries ({:.1} %) of {} askers",
            self.moved.queries,
            self.percent(),
            self.moved.askers
        );
        if let Some(ms) = self.moved.change_ms {
            let _ = write!(out, ", {}", nearer(ms));
        }
        if self.moved.measured > 0 {
            let part = 100.0 * self.moved.measured as f64 / self.moved.queries as f64;
            let _ = write!(out, " ({part:.0} % measured from their own prefixes)");
        }
        out.push('\n');
        for (head, rows) in [
            ("from → to", &self.by_pop),
            ("country", &self.by_country),
            ("most asked", &self.top),
        ] {
            if !rows.is_empty() {
                out.push('\n');
                out += &section(head, rows);
            }
        }
        out
    }
}

impl Grounds {
    fn text(&self) -> String {
        let (mut lines, then) = (self.old.facts(), self.new.facts());
        if let Some((what, states)) = then.into_iter().find(|(what, _)| *what == "states")
            && !lines.contains(&(what, states.clone()))
        {
            lines.insert(1, ("then", states));
        }
        let lines = lines
            .iter()
            .map(|(what, said)| format!("{what:<13}{said}\n"));
        lines.collect()
    }
}

fn nearer(ms: f64) -> String {
    if ms <= 0.0 {
        format!("{:.1} ms nearer on average", -ms)
    } else {
        format!("{ms:.1} ms farther on average")
    }
}

fn section(head: &str, rows: &[Row]) -> String {
    let mut table = vec![
        [head, "", "queries", "askers", "ms"]
            .map(str::to_owned)
            .to_vec(),
    ];
    table.extend(rows.iter().map(|row| {
        let way = row
            .way
            .as_ref()
            .map(|way| format!("{} → {}", way.from, way.to));
        vec![
            row.what.clone(),
            way.filter(|way| *way != row.what).unwrap_or_default(),
            row.moved.queries.to_string(),
            row.moved.askers.to_string(),
            row.moved
                .change_ms
                .map_or("-".to_owned(), |ms| format!("{ms:+.1}")),
        ]
    }));
    columns(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::Pop;
    use crate::steering::known::{Known, Sources};

    fn world(pins: &[(&str, &str)]) -> World {
        world_of(pins, &Known::nothing())
    }

    fn world_of(pins: &[(&str, &str)], known: &Known) -> World {
        let pop = |name: &str, last: u8| Pop {
            name: name.to_owned(),
            addresses: vec![IpAddr::from([127, 0, 0, last])],
            latitude: 0.0,
            longitude: 0.0,
            health: None,
        };
        let pins = pins.iter();
        let config = Config {
            pops: vec![pop("eu", 11), pop("us", 12)],
            pins: pins
                .map(|(net, pop)| (net.parse().unwrap(), (*pop).to_owned()))
                .collect(),
            order: vec!["eu".to_owned()],
            ..Config::default()
        };
        World::new(crate::offline(&config, known).unwrap())
    }

    fn replayed(old: &World, new: &World, lines: &[&str]) -> Report {
        let mut replay = Replay::new(old, new, Instant::now());
        lines.iter().for_each(|line| replay.take(line.as_bytes()));
        replay.report(1)
    }

    const LOG: [&str; 7] = [
        r#"{"client":"198.51.100.1","subnet":"192.0.2.0/24","query":"GO.test.","type":"A","pop":"eu","sample":10}"#,
        r#"{"client":"198.51.100.1","subnet":"192.0.2.0/24","query":"go.test.","type":"AAAA","pop":"eu"}"#,
        r#"{"client":"203.0.113.1","query":"go.test.","type":"A","pop":"eu"}"#,
        r#"{"client":"203.0.113.1","query":"ns1.go.test.","type":"A"}"#,
        r#"{"client":"203.0.113.1","query":"why.go.test.","type":"TXT","pop":"eu"}"#,
        r#"{"client":"203.0.113.1","query":"other.test.","type":"A","pop":"eu","sample":3}"#,
        "no line",
    ];

    #[test]
    fn who_moves_is_counted_by_queries_and_shown_by_way() {
        let (old, new) = (world(&[]), world(&[("192.0.2.0/24", "us")]));
        let report = replayed(&old, &new, &LOG);
        assert_eq!((report.lines, report.unreadable), (7, 1));
        assert_eq!((report.untailored, report.unsteered), (2, 3));
        assert_eq!((report.queries, report.askers), (12, 2));
        assert_eq!((report.moved.queries, report.moved.askers), (11, 1));
        let way = Way {
            from: "eu".to_owned(),
            to: "us".to_owned(),
        };
        assert_eq!(report.by_pop[0].way.as_ref(), Some(&way));
        assert_eq!(report.top[0].what, "192.0.2.0/24");
        assert!((report.percent() - 100.0 * 11.0 / 12.0).abs() < 1e-9);
        let table = report.table();
        for text in [
            "12 queries of 2 askers",
            "moved        11 queries (91.7 %)",
            "eu → us",
            "192.0.2.0/24",
        ] {
            assert!(table.contains(text), "no {text:?} in\n{table}");
        }
    }

    #[test]
    fn what_a_move_changes_is_by_what_was_measured_even_where_a_pin_decides() {
        let samples = tempfile::NamedTempFile::new().unwrap();
        let measured = r#"{"node":"n","samples":[
            {"prefix":"192.0.2.0/24","pop":"eu","ms":10,"n":1000},
            {"prefix":"192.0.2.0/24","pop":"us","ms":50,"n":1000}]}"#;
        std::fs::write(samples.path(), measured.replace('\n', "")).unwrap();
        let sources = Sources {
            state: false,
            samples: Some(samples.path()),
            homes: false,
        };
        let now = std::time::SystemTime::now();
        let known = Known::read(&Config::default(), sources, now).unwrap();
        let pin = [("192.0.2.0/24", "us")];
        let (old, new) = (world_of(&[], &known), world_of(&pin, &known));
        let report = replayed(&old, &new, &LOG);
        assert_eq!((report.moved.queries, report.moved.measured), (11, 11));
        let there = report.moved.change_ms.unwrap();
        assert!((39.0..=40.0).contains(&there), "{there}");
        let back = replayed(&new, &old, &LOG).moved.change_ms.unwrap();
        assert!((there + back).abs() < 0.1, "{there} and {back}");
        let table = report.table();
        assert!(
            table.contains("ms farther on average (100 % measured from their own prefixes)"),
            "{table}"
        );
        assert!(
            table.contains("samples      2, the newest 0s old (from "),
            "{table}"
        );
    }

    #[test]
    fn the_same_configuration_moves_nobody() {
        let world = world(&[("192.0.2.0/24", "us")]);
        let report = replayed(&world, &world, &LOG);
        assert_eq!((report.queries, report.moved.queries), (12, 0));
        assert!(report.by_pop.is_empty() && report.top.is_empty());
        assert_eq!(report.percent(), 0.0);
    }
}
