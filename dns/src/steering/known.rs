//! What a node knew of the world, for who asks without one: `explain --config` and `dns replay`.
//!
//! A node keeps in `state.dir` what it has learnt from round trips, and the state of each PoP; both are
//! read here as they lie there, and nothing is written. Round trips may come from a file of reports
//! instead ([`crate::reports`]), or from a `samples` file that was copied from a node. Where clients
//! belong counts for who asks what a node does now, and not for who asks where a configuration leads
//! them in the end. Loads of PoPs aren't kept: a node that sheds may answer otherwise.
//!
//! Failure rule: what the configuration names and can't be read is left out, and [`Account`] says so; a
//! file that was named for the purpose must be readable, and each of its lines a report.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use modcdn_core::units::Period;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keeper::{HOMES, KeptPop, POPS, SAMPLES};
use super::{Setup, unix_seconds};
use crate::config::Config;
use crate::durable::{self, Unusable, Written};
use crate::reports::{Report, Wrong};
use crate::steer::{Constants, Homes, Inputs, Map, Sample, SampleError, Samples, State, resume};

/// A line is no longer than this, in bytes: as the body of a request.
const MAX_LINE: u64 = modcdn_core::admin::MAX_BODY as u64;

/// What counts besides the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a> {
    /// Whether what is kept in `state.dir` does.
    pub state: bool,
    /// A file of round trips, in place of those kept: reports, or a node's `samples`.
    pub samples: Option<&'a Path>,
    /// Whether clients stay where they belong until they have reason to move. With round trips of a
    /// file they never do.
    pub homes: bool,
}

/// Why a file of round trips can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The system says so.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It was kept by a node, and isn't whole.
    #[error("{}: {why}", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A line is no report.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Where something comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Since it was last written.
        age_seconds: u64,
    },
    /// Nowhere.
    None(Unknown),
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// It was to be left out.
    LeftOut,
    /// The configuration has no `state.dir`.
    NoStateDir,
    /// No node has kept anything there.
    NotKept(PathBuf),
    /// A file there can't be used, and why not.
    Unusable(PathBuf, String),
}

/// What was used besides the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Where states come from.
    pub states: Source,
    /// PoPs that aren't up, by name: by what was kept and by the configuration.
    pub not_up: BTreeMap<String, State>,
    /// Where round trips come from.
    pub samples: Source,
    /// Prefixes and PoPs between which they were measured.
    pub measured: usize,
    /// Since the newest of them was measured.
    pub newest_seconds: Option<u64>,
    /// Where it comes from where clients belong.
    pub homes: Source,
}

/// What a node knew.
#[derive(Clone, Debug)]
pub struct Known {
    states: BTreeMap<String, State>,
    samples: Arc<Samples>,
    homes: Homes,
    /// Up to when samples have aged, in seconds since 1970.
    clock: u64,
    account: Account,
}

impl Known {
    /// Every PoP is up, and nothing was measured.
    #[must_use]
    pub fn nothing() -> Self {
        let left_out = || Source::None(Unknown::LeftOut);
        Self {
            states: BTreeMap::new(),
            samples: Arc::default(),
            homes: Homes::default(),
            clock: 0,
            account: Account {
                states: left_out(),
                not_up: BTreeMap::new(),
                samples: left_out(),
                measured: 0,
                newest_seconds: None,
                homes: left_out(),
            },
        }
    }

    /// What is known to a node of this configuration. Blocks.
    ///
    /// Kept round trips have aged until `now`; those of a named file until the newest of them, so that
    /// a file shows what it showed when it was made.
    ///
    /// # Errors
    /// If the file of round trips that is named can't be used.
    pub fn read(config: &Config, sources: Sources<'_>, now: SystemTime) -> Result<Self, Unread> {
        let folder = if sources.state {
            config.state.dir.as_deref().ok_or(Unknown::NoStateDir)
        } else {
            Err(Unknown::LeftOut)
        };
        let (pops, states) = kept(&folder, POPS, now, json::<BTreeMap<String, KeptPop>>);
        let (samples, from) = match sources.samples {
            Some(path) => named(path, &config.steering.constants(), now)?,
            None => kept(&folder, SAMPLES, now, json),
        };
        let stays = sources.homes && sources.samples.is_none();
        let folder = folder.and_then(|folder| stays.then_some(folder).ok_or(Unknown::LeftOut));
        let (homes, belong) = kept(&folder, HOMES, now, Homes::from_bytes);
        let newest = samples.newest();
        let now = unix_seconds(now);
        Ok(Self {
            states: (pops.into_iter())
                .map(|(name, pop)| {
                    let state = state(pop, config.draining.contains(&name));
                    (name, state)
                })
                .collect(),
            clock: newest.filter(|_| sources.samples.is_some()).unwrap_or(now),
            account: Account {
                states,
                not_up: BTreeMap::new(),
                samples: from,
                measured: samples.len(),
                newest_seconds: newest.map(|newest| now.saturating_sub(newest)),
                homes: belong,
            },
            samples: Arc::new(samples),
            homes,
        })
    }

    /// The map of a configuration, as a node makes it at its start.
    #[must_use]
    pub(crate) fn map(&self, setup: &Setup, now: Instant) -> Map {
        let pops = setup.inputs.pops.iter();
        let inputs = Inputs {
            states: pops.map(|pop| self.state(&pop.name, setup)).collect(),
            samples: self.samples.clone(),
            clock: self.clock,
            ..setup.inputs.clone()
        };
        resume(&inputs, &self.homes, &setup.constants, now).0
    }

    fn state(&self, pop: &str, setup: &Setup) -> State {
        match self.states.get(pop).copied().unwrap_or_default() {
            State::Down => State::Down,
            _ if setup.draining.contains(pop) => State::Draining,
            state => state,
        }
    }

    /// What was used, for a map of these PoPs in these states.
    #[must_use]
    pub fn account<'a>(&self, pops: impl Iterator<Item = (&'a str, State)>) -> Account {
        let not_up = pops.filter(|(_, state)| *state != State::Up);
        Account {
            not_up: not_up
                .map(|(name, state)| (name.to_owned(), state))
                .collect(),
            ..self.account.clone()
        }
    }
}

/// What a PoP was, but for what the configuration said of it: another one may say otherwise.
fn state(kept: KeptPop, drained_by_configuration: bool) -> State {
    match kept.state {
        State::Down => State::Down,
        _ if kept.drained => State::Draining,
        State::Draining if drained_by_configuration => State::Up,
        state => state,
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body)
}

/// What was kept under a name, or nothing and why.
fn kept<T: Default, E: Error + Send + Sync + 'static>(
    folder: &Result<&Path, Unknown>,
    name: &str,
    now: SystemTime,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> (T, Source) {
    let found = folder.clone().and_then(|folder| {
        let path = folder.join(name);
        durable::read(&path, name, parse)
            .map(|written| (written, path.clone()))
            .map_err(|why| unknown(&why, path))
    });
    match found {
        Ok((Written { kept, at }, path)) => (kept, Source::file(path, at, now)),
        Err(unknown) => (T::default(), Source::None(unknown)),
    }
}

fn unknown(why: &Unusable, path: PathBuf) -> Unknown {
    if why.is_missing() {
        Unknown::NotKept(path)
    } else {
        Unknown::Unusable(path, why.to_string())
    }
}

/// The round trips of a file: reports, or what a node kept.
fn named(path: &Path, constants: &Constants, now: SystemTime) -> Result<(Samples, Source), Unread> {
    let unread = |error| Unread::File {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(unread)?;
    let written = file.metadata().and_then(|file| file.modified());
    let written = written.map_err(unread)?;
    let mut lines = BufReader::new(file);
    let samples = if durable::is_kept(lines.fill_buf().map_err(unread)?, SAMPLES) {
        let kept = durable::read(path, SAMPLES, json).map_err(|why| Unread::Kept {
            path: path.to_owned(),
            why: why.to_string(),
        })?;
        kept.kept
    } else {
        reported(&mut lines, path, constants, written)?
    };
    Ok((samples, Source::file(path.to_owned(), written, now)))
}

/// The round trips of reports, one a line; what they say of PoPs doesn't matter here.
fn reported(
    lines: &mut impl BufRead,
    path: &Path,
    constants: &Constants,
    written: SystemTime,
) -> Result<Samples, Unread> {
    let mut samples = Samples::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let wrong = |why: String| Unread::Line {
            path: path.to_owned(),
            line: number,
            why,
        };
        let read = lines.take(MAX_LINE + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| wrong(error.to_string()))? == 0 {
            break;
        }
        if line.len() as u64 > MAX_LINE {
            return Err(wrong(format!("longer than {MAX_LINE} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            let report = Report::parse(&line).map_err(|error: Wrong| wrong(error.to_string()))?;
            learn(&mut samples, &report, constants, written)
                .map_err(|error| wrong(error.to_string()))?;
        }
    }
    Ok(samples)
}

fn learn(
    samples: &mut Samples,
    report: &Report,
    constants: &Constants,
    written: SystemTime,
) -> Result<(), SampleError> {
    for sample in &report.samples {
        let pop = sample.pop.as_deref().unwrap_or(report.sender.name());
        let sample = Sample {
            prefix: sample.prefix,
            pop: pop.to_owned(),
            median_ms: sample.ms,
            n: f64::from(sample.n),
            at: unix_seconds(report.at.unwrap_or(written)),
        };
        samples.add(&sample, constants)?;
    }
    Ok(())
}

impl Source {
    fn file(path: PathBuf, written: SystemTime, now: SystemTime) -> Self {
        let age = now.duration_since(written).unwrap_or_default();
        Self::File {
            path,
            age_seconds: age.as_secs(),
        }
    }

    /// Where from, in words.
    fn text(&self) -> String {
        match self {
            Self::File { path, age_seconds } => {
                let age = words(*age_seconds);
                format!("from {}, written {age} ago", path.display())
            }
            Self::None(Unknown::LeftOut) => "left out, as asked".to_owned(),
            Self::None(Unknown::NoStateDir) => "the configuration has no state.dir".to_owned(),
            Self::None(Unknown::NotKept(path)) => format!("there is no {}", path.display()),
            Self::None(Unknown::Unusable(path, why)) => format!("{}: {why}", path.display()),
        }
    }
}

impl Account {
    /// What was used, a heading and a text each.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let not_up = self.not_up.iter();
        let states: Vec<String> = not_up
            .map(|(name, state)| format!("{name} {}", state.name()))
            .collect();
        let states = if states.is_empty() {
            "every pop up".to_owned()
        } else {
            states.join(", ")
        };
        let samples = match self.newest_seconds {
            Some(newest) => format!("{}, the newest {} old", self.measured, words(newest)),
            None => "none".to_owned(),
        };
        let mut facts = vec![
            ("states", format!("{states} ({})", self.states.text())),
            ("samples", format!("{samples} ({})", self.samples.text())),
        ];
        // Without them every client is led to its best, which is what one expects.
        if let Source::File { .. } | Source::None(Unknown::Unusable(..)) = self.homes {
            facts.push(("homes", self.homes.text()));
        }
        facts
    }
}

/// A time in its largest units.
fn words(seconds: u64) -> String {
    let unit = [86_400, 3600, 60, 1]
        .into_iter()
        .find(|unit| seconds >= 10 * unit);
    let unit = unit.unwrap_or(1);
    Period::from(Duration::from_secs(seconds - seconds % unit)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::config::Pop;
    use crate::durable::Folder;
    use crate::steering::Metrics;

    const AT: u64 = 1_764_000_000;

    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(AT)
    }

    fn config(dir: Option<&Path>) -> Config {
        let pop = |(index, name): (u8, &str)| Pop {
            name: name.to_owned(),
            addresses: vec![[127, 0, 0, index].into()],
            latitude: 0.0,
            longitude: 0.0,
            health: None,
        };
        let mut config = Config {
            pops: [(1, "eu"), (2, "us"), (3, "ap")].map(pop).into(),
            ..Config::default()
        };
        config.state.dir = dir.map(Path::to_owned);
        config
    }

    const STATE: Sources<'static> = Sources {
        state: true,
        samples: None,
        homes: true,
    };

    fn states(config: &Config, known: &Known) -> BTreeMap<String, State> {
        crate::offline(config, known).unwrap().account.not_up
    }

    fn by_name<const N: usize>(states: [(&str, State); N]) -> BTreeMap<String, State> {
        states.map(|(name, state)| (name.to_owned(), state)).into()
    }

    #[test]
    fn what_a_node_kept_is_known() {
        let temp = tempfile::tempdir().unwrap();
        let mut config = config(Some(temp.path()));
        config.draining = vec!["eu".to_owned()];
        let folder = Folder::new(Some(temp.path().to_owned()));
        let pop = |state, drained| KeptPop {
            state,
            drained,
            ..KeptPop::default()
        };
        let pops = [
            ("eu", pop(State::Draining, false)),
            ("us", pop(State::Down, true)),
            ("ap", pop(State::Draining, true)),
        ];
        folder.write(POPS, &BTreeMap::from(pops)).unwrap();
        let mut samples = Samples::default();
        let row = Sample {
            prefix: "192.0.2.0/24".parse().unwrap(),
            pop: "us".to_owned(),
            median_ms: 20.0,
            n: 8.0,
            at: AT - 30,
        };
        samples.add(&row, &Constants::default()).unwrap();
        folder.write(SAMPLES, &samples).unwrap();

        let known = Known::read(&config, STATE, clock()).unwrap();
        assert_eq!(*known.samples, samples);
        assert_eq!(known.clock, AT, "they have aged until now");
        use State::{Down, Draining};
        let kept = by_name([("eu", Draining), ("us", Down), ("ap", Draining)]);
        assert_eq!(states(&config, &known), kept);
        // Another configuration that doesn't drain eu does with it what it says.
        config.draining.clear();
        assert_eq!(
            states(&config, &known),
            by_name([("us", Down), ("ap", Draining)])
        );
        let facts = known.account([("us", Down)].into_iter()).facts();
        let [states, samples] = &facts[..] else {
            panic!("homes are shown where they are used only");
        };
        assert!(states.1.starts_with("us down (from "), "{}", states.1);
        assert!(
            samples.1.starts_with("1, the newest 30s old (from "),
            "{}",
            samples.1
        );
    }

    #[test]
    fn a_server_that_starts_there_makes_the_same_map() {
        let temp = tempfile::tempdir().unwrap();
        let config = config(Some(temp.path()));
        let folder = Folder::new(Some(temp.path().to_owned()));
        let pops = [("us", State::Down), ("ap", State::Degraded)].map(|(name, state)| {
            let kept = KeptPop {
                state,
                ..KeptPop::default()
            };
            (name, kept)
        });
        folder.write(POPS, &BTreeMap::from(pops)).unwrap();
        let known = Known::read(&config, STATE, clock()).unwrap();
        let setup = crate::server::setup(&config).unwrap();
        let metrics = Metrics::new(&prometheus::Registry::new());
        let steering = super::super::Steering::open(setup, config.state.dir.clone(), metrics);
        let offline = crate::offline(&config, &known).unwrap().map;
        let of = |map: &crate::steer::Map| -> BTreeMap<String, State> {
            map.states()
                .map(|(name, state)| (name.to_owned(), state))
                .collect()
        };
        assert_eq!(of(&offline), of(&steering.snapshot()));
    }

    #[test]
    fn clients_are_where_they_belong_for_who_asks_what_a_node_does() {
        let temp = tempfile::tempdir().unwrap();
        let config = config(Some(temp.path()));
        let folder = Folder::new(Some(temp.path().to_owned()));
        let of = |us: f64| {
            let mut samples = Samples::default();
            for (pop, median_ms) in [("eu", 40.0), ("us", us)] {
                let row = Sample {
                    prefix: "192.0.2.0/24".parse().unwrap(),
                    pop: pop.to_owned(),
                    median_ms,
                    n: 1000.0,
                    at: AT,
                };
                samples.add(&row, &Constants::default()).unwrap();
            }
            samples
        };
        let answered = |homes| {
            let known = Known::read(&config, Sources { homes, ..STATE }, clock()).unwrap();
            let made = crate::offline(&config, &known).unwrap();
            let client = crate::steer::Client {
                subnet: Some([192, 0, 2, 0].into()),
                resolver: [127, 0, 0, 1].into(),
            };
            let view = crate::steer::ViewId::default();
            let first = made.map.explain(view, &client).pops.remove(0);
            (first, made)
        };
        folder.write(SAMPLES, &of(90.0)).unwrap();
        let (first, made) = answered(false);
        assert_eq!(first, "eu");
        let homes = made.map.homes().to_bytes();
        folder.write_bytes(HOMES, &homes).unwrap();
        folder.write(SAMPLES, &of(10.0)).unwrap();
        assert_eq!(answered(false).0, "us", "in the end");
        let (first, made) = answered(true);
        assert_eq!(first, "eu", "now");
        let homes = made.account.facts().pop().unwrap();
        assert_eq!(homes.0, "homes");
        assert!(homes.1.starts_with("from "), "{}", homes.1);
    }

    #[test]
    fn without_what_was_kept_every_pop_is_up_and_the_account_says_why() {
        let temp = tempfile::tempdir().unwrap();
        let said = |dir: Option<&Path>, state| {
            let sources = Sources { state, ..STATE };
            let config = config(dir);
            let known = Known::read(&config, sources, clock()).unwrap();
            assert!(states(&config, &known).is_empty());
            let [states, samples] = &known.account(std::iter::empty()).facts()[..] else {
                panic!("homes are shown where they are used only");
            };
            [states.1.clone(), samples.1.clone()]
        };
        for (dir, state, why) in [
            (None, true, "the configuration has no state.dir"),
            (Some(temp.path()), false, "left out, as asked"),
            (Some(temp.path()), true, "there is no "),
        ] {
            let [states, samples] = said(dir, state);
            assert!(
                states.starts_with(&format!("every pop up ({why}")),
                "{states}"
            );
            assert!(samples.starts_with(&format!("none ({why}")), "{samples}");
        }
        std::fs::write(temp.path().join(POPS), "garbage").unwrap();
        let [states, _] = said(Some(temp.path()), true);
        assert!(states.contains("not a file of ours"), "{states}");
    }

    fn read(text: &[u8]) -> Result<Known, Unread> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::fs::write(&path, text).unwrap();
        let sources = Sources {
            samples: Some(&path),
            ..STATE
        };
        Known::read(&config(None), sources, clock())
    }

    #[test]
    fn round_trips_come_from_a_file_of_reports_and_have_aged_until_the_newest() {
        let known = read(
            br#"{"pop":"eu","at":1700000000,"samples":[{"prefix":"192.0.2.0/24","ms":12.5,"n":40}]}

{"node":"ns1","at":1700000060,"samples":[{"prefix":"2001:db8::/56","pop":"us","ms":80,"n":1}]}
{"pop":"ap","state":"up"}"#,
        )
        .unwrap();
        let rows: Vec<_> = known.samples.iter().map(|row| (row.pop, row.at)).collect();
        let expected = [("eu", 1_700_000_000), ("us", 1_700_000_060)];
        assert_eq!(rows, expected.map(|(pop, at)| (pop.to_owned(), at)));
        assert_eq!(known.clock, 1_700_000_060);
        assert_eq!(known.account.measured, 2);
    }

    #[test]
    fn a_nodes_own_file_of_round_trips_will_do() {
        let reports = read(br#"{"pop":"eu","samples":[{"prefix":"192.0.2.0/24","ms":9,"n":4}]}"#);
        let samples = reports.unwrap().samples;
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::new(Some(temp.path().to_owned()));
        folder.write(SAMPLES, &*samples).unwrap();
        let kept = std::fs::read(temp.path().join(SAMPLES)).unwrap();
        assert_eq!(read(&kept).unwrap().samples, samples);
        let cut = read(&kept[..kept.len() - 1]).unwrap_err().to_string();
        assert!(
            cut.ends_with("damaged: its bytes have another checksum"),
            "{cut}"
        );
    }

    #[test]
    fn a_file_that_was_named_must_be_whole() {
        let good = r#"{"pop":"eu","samples":[]}"#;
        let wrong = read(format!("{good}\n{{}}\n").as_bytes())
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("file:2: say who reports"), "{wrong}");
        let long = read(&vec![b' '; 70_000]).unwrap_err().to_string();
        assert!(long.contains("file:1: longer than"), "{long}");
        let sources = Sources {
            samples: Some(Path::new("/nonexistent")),
            ..STATE
        };
        let missing = Known::read(&config(None), sources, clock()).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("/nonexistent: No such file")
        );
    }

    #[test]
    fn times_are_told_in_their_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (75, "1m 15s"),
            (3700, "1h 1m"),
            (900_000, "10days"),
        ] {
            assert_eq!(words(seconds), text);
        }
    }
}
