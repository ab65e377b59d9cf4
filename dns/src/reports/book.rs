//! What every sender said last, for as long as it counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;

use super::grammar::{Report, Sample, SelfReport, Sender};
use crate::health::{Heard, View};

/// At most so many DNS nodes report; one more is refused.
pub const MAX_NODES: usize = 64;

/// How long words count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A PoP's word of itself and views of others.
    pub age: Duration,
    /// Samples.
    pub samples_age: Duration,
    /// A sender's clock may be ahead of ours by so much.
    pub skew: Duration,
}

/// What every sender said last.
#[derive(Debug)]
pub struct Book {
    rules: Rules,
    pops: BTreeMap<String, Pop>,
    views: BTreeMap<Sender, Views>,
}

#[derive(Debug, Default)]
struct Pop {
    itself: Option<(Instant, SelfReport)>,
    /// Reported to the process before this one: waited for until then.
    awaited: Option<Instant>,
}

#[derive(Debug)]
struct Views {
    at: Instant,
    up: BTreeMap<String, bool>,
}

/// A sample of a PoP that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The clients.
    pub prefix: IpNet,
    /// The PoP's name.
    pub pop: String,
    /// Median in milliseconds.
    pub ms: f64,
    /// So many round trips.
    pub n: u32,
    /// When.
    pub at: SystemTime,
}

/// What came of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// A PoP's word of itself that counts now.
    pub heartbeat: bool,
    /// Views that count now.
    pub views: usize,
    /// Samples to be learnt from.
    pub samples: Vec<Measured>,
    /// Names of PoPs that aren't configured, the sender's own among them.
    pub unknown: usize,
    /// Heartbeat, views and samples that were too old, or older than what was known.
    pub old: usize,
    /// Samples that came faster than maps are made of them.
    pub full: usize,
}

/// Why a report as a whole doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was made later than now.
    #[error("\"at\" lies in the future: set the sender's clock, or leave \"at\" out")]
    Future,
    /// One node too many.
    #[error("more than {MAX_NODES} DNS nodes report")]
    Nodes,
}

impl Refused {
    /// The same in answers and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::Nodes => "nodes",
        }
    }
}

impl Book {
    /// A book of these PoPs in which nothing is written.
    #[must_use]
    pub fn new<'a>(pops: impl IntoIterator<Item = &'a str>, rules: Rules) -> Self {
        let mut book = Self {
            rules,
            pops: BTreeMap::new(),
            views: BTreeMap::new(),
        };
        book.know(pops, rules);
        book
    }

    /// From now on these are the PoPs and the rules. What was said of those that stay stays.
    pub fn know<'a>(&mut self, pops: impl IntoIterator<Item = &'a str>, rules: Rules) {
        self.rules = rules;
        let mut before = std::mem::take(&mut self.pops);
        let kept = |name: &str| (name.to_owned(), before.remove(name).unwrap_or_default());
        self.pops = pops.into_iter().map(kept).collect();
        let pops = &self.pops;
        self.views
            .retain(|sender, _| !matches!(sender, Sender::Pop(name) if !pops.contains_key(name)));
    }

    /// PoPs that reported to the process before this one: they are silent only when they have had
    /// the time to report to this one too.
    pub fn await_reports<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, now: Instant) {
        for name in names {
            if let Some(pop) = self.pops.get_mut(name) {
                pop.awaited = Some(now + self.rules.age);
            }
        }
    }

    /// PoPs that ever reported.
    pub fn reporters(&self) -> impl Iterator<Item = &str> {
        let pops = self.pops.iter();
        pops.filter_map(|(name, pop)| {
            (pop.itself.is_some() || pop.awaited.is_some()).then_some(name.as_str())
        })
    }

    /// Takes a report in. `now` and `clock` are the same moment.
    ///
    /// # Errors
    /// If it doesn't count as a whole; nothing is taken then.
    pub fn take(
        &mut self,
        report: Report,
        now: Instant,
        clock: SystemTime,
    ) -> Result<Taken, Refused> {
        let made = report.at.unwrap_or(clock);
        if made > clock + self.rules.skew {
            return Err(Refused::Future);
        }
        let age = clock.duration_since(made).unwrap_or_default();
        let mut taken = Taken::default();
        if let Sender::Pop(name) = &report.sender
            && !self.pops.contains_key(name)
        {
            taken.unknown = 1;
            return Ok(taken);
        }
        let said = now.checked_sub(age).filter(|_| age <= self.rules.age);
        self.take_views(&report, said, &mut taken)?;
        self.take_itself(&report, said, &mut taken);
        self.take_samples(&report, age, clock, &mut taken);
        Ok(taken)
    }

    fn take_itself(&mut self, report: &Report, said: Option<Instant>, taken: &mut Taken) {
        let (Sender::Pop(name), Some(itself)) = (&report.sender, &report.itself) else {
            return;
        };
        let Some(pop) = self.pops.get_mut(name) else {
            return;
        };
        match said.filter(|said| pop.itself.as_ref().is_none_or(|(at, _)| said >= at)) {
            Some(said) => {
                pop.itself = Some((said, itself.clone()));
                taken.heartbeat = true;
            }
            None => taken.old += 1,
        }
    }

    fn take_views(
        &mut self,
        report: &Report,
        said: Option<Instant>,
        taken: &mut Taken,
    ) -> Result<(), Refused> {
        if report.views.is_empty() {
            return Ok(());
        }
        let before = self.views.get(&report.sender);
        let Some(at) = said.filter(|said| before.is_none_or(|before| *said >= before.at)) else {
            taken.old += report.views.len();
            return Ok(());
        };
        let is_node = |sender: &Sender| matches!(sender, Sender::Node(_));
        if before.is_none() && is_node(&report.sender) {
            let age = self.rules.age;
            let fresh = |views: &Views| views.at + age >= at;
            self.views
                .retain(|sender, views| !is_node(sender) || fresh(views));
            if self.views.keys().filter(|sender| is_node(sender)).count() >= MAX_NODES {
                return Err(Refused::Nodes);
            }
        }
        let known = |view: &&super::View| self.pops.contains_key(&view.pop);
        let up: BTreeMap<_, _> = (report.views.iter().filter(known))
            .map(|view| (view.pop.clone(), view.up))
            .collect();
        taken.unknown += report.views.iter().filter(|view| !known(view)).count();
        taken.views = up.len();
        self.views.insert(report.sender.clone(), Views { at, up });
        Ok(())
    }

    fn take_samples(&self, report: &Report, age: Duration, clock: SystemTime, taken: &mut Taken) {
        if age > self.rules.samples_age {
            taken.old += report.samples.len();
            return;
        }
        for sample in &report.samples {
            match self.pop_of(sample, &report.sender) {
                Some(pop) => taken.samples.push(Measured {
                    prefix: sample.prefix,
                    pop: pop.to_owned(),
                    ms: sample.ms,
                    n: sample.n,
                    at: clock - age,
                }),
                None => taken.unknown += 1,
            }
        }
    }

    fn pop_of<'a>(&self, sample: &'a Sample, sender: &'a Sender) -> Option<&'a str> {
        let name = match (&sample.pop, sender) {
            (Some(name), _) | (None, Sender::Pop(name)) => name,
            (None, Sender::Node(_)) => return None,
        };
        self.pops.contains_key(name).then_some(name)
    }

    /// What a PoP says of itself, as evidence.
    #[must_use]
    pub fn heard(&self, name: &str, now: Instant) -> Heard {
        let Some(pop) = self.pops.get(name) else {
            return Heard::Never;
        };
        match (&pop.itself, pop.awaited) {
            (Some((at, itself)), _) if self.is_fresh(*at, now) => Heard::Fresh {
                at: *at,
                draining: itself.draining,
            },
            (None, Some(until)) if now <= until => Heard::Awaited,
            (None, None) => Heard::Never,
            _ => Heard::Silent,
        }
    }

    /// What others see of a PoP.
    #[must_use]
    pub fn views(&self, name: &str, now: Instant) -> Vec<View> {
        let others = self.views.iter().filter(|(sender, views)| {
            self.is_fresh(views.at, now) && !matches!(sender, Sender::Pop(own) if own == name)
        });
        others
            .filter_map(|(_, views)| {
                let up = *views.up.get(name)?;
                Some(View { at: views.at, up })
            })
            .collect()
    }

    /// What a PoP says of itself, while that counts.
    #[must_use]
    pub fn itself(&self, name: &str, now: Instant) -> Option<&SelfReport> {
        let (at, itself) = self.pops.get(name)?.itself.as_ref()?;
        self.is_fresh(*at, now).then_some(itself)
    }

    /// Time since a PoP last said anything of itself.
    #[must_use]
    pub fn age(&self, name: &str, now: Instant) -> Option<Duration> {
        let (at, _) = self.pops.get(name)?.itself.as_ref()?;
        Some(now.saturating_duration_since(*at))
    }

    fn is_fresh(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) <= self.rules.age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        age: Duration::from_secs(15),
        samples_age: Duration::from_secs(3600),
        skew: Duration::from_secs(5),
    };

    /// A book of eu and us, at a moment that can be moved.
    struct Desk {
        book: Book,
        now: Instant,
        clock: SystemTime,
    }

    impl Desk {
        fn new() -> Self {
            Self {
                book: Book::new(["eu", "us"], RULES),
                now: Instant::now() + Duration::from_secs(100_000),
                clock: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            }
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.clock += Duration::from_secs(seconds);
        }

        fn take(&mut self, text: &str) -> Result<Taken, Refused> {
            let report = Report::parse(text.as_bytes()).unwrap();
            self.book.take(report, self.now, self.clock)
        }

        fn heard(&self, name: &str) -> Heard {
            self.book.heard(name, self.now)
        }
    }

    #[test]
    fn a_heartbeat_counts_for_a_while_and_then_there_is_silence() {
        let mut desk = Desk::new();
        assert_eq!(desk.heard("eu"), Heard::Never);
        let taken = desk.take(r#"{"pop":"eu","state":"draining","load":0.5}"#);
        assert!(taken.unwrap().heartbeat);
        let at = desk.now;
        desk.pass(15);
        let fresh = Heard::Fresh { at, draining: true };
        assert_eq!(desk.heard("eu"), fresh);
        assert_eq!(desk.book.itself("eu", desk.now).unwrap().load, Some(0.5));
        desk.pass(1);
        assert_eq!(desk.heard("eu"), Heard::Silent);
        assert!(desk.book.itself("eu", desk.now).is_none());
        assert_eq!(desk.book.age("eu", desk.now), Some(Duration::from_secs(16)));
        assert_eq!(desk.heard("us"), Heard::Never);
    }

    #[test]
    fn what_is_old_and_what_is_older_than_the_last_word_does_not_count() {
        let mut desk = Desk::new();
        let old = desk
            .take(r#"{"pop":"eu","at":999984,"state":"up"}"#)
            .unwrap();
        assert_eq!((old.heartbeat, old.old), (false, 1));
        assert!(
            desk.take(r#"{"pop":"eu","at":999999,"state":"draining"}"#)
                .unwrap()
                .heartbeat
        );
        let overtaken = desk
            .take(r#"{"pop":"eu","at":999998,"state":"up"}"#)
            .unwrap();
        assert_eq!((overtaken.heartbeat, overtaken.old), (false, 1));
        assert!(matches!(
            desk.heard("eu"),
            Heard::Fresh { draining: true, .. }
        ));
    }

    #[test]
    fn a_clock_ahead_is_forgiven_a_little() {
        let mut desk = Desk::new();
        assert!(
            desk.take(r#"{"pop":"eu","at":1000005,"state":"up"}"#)
                .unwrap()
                .heartbeat
        );
        let ahead = desk.take(r#"{"pop":"eu","at":1000006,"state":"up"}"#);
        assert_eq!(ahead, Err(Refused::Future));
    }

    #[test]
    fn views_are_of_others_and_the_last_ones_count() {
        let mut desk = Desk::new();
        let views =
            r#""views":[{"pop":"eu","up":true},{"pop":"us","up":true},{"pop":"xx","up":true}]"#;
        let taken = desk.take(&format!(r#"{{"pop":"us",{views}}}"#)).unwrap();
        assert_eq!((taken.views, taken.unknown), (2, 1));
        desk.take(&format!(r#"{{"node":"dns2",{views}}}"#)).unwrap();
        let ups = |desk: &Desk, name| -> Vec<bool> {
            let views = desk.book.views(name, desk.now);
            views.iter().map(|view| view.up).collect()
        };
        assert_eq!(ups(&desk, "eu"), [true, true]);
        assert_eq!(ups(&desk, "us"), [true], "its own view of itself is none");
        desk.pass(10);
        desk.take(r#"{"node":"dns2","views":[{"pop":"eu","up":false}]}"#)
            .unwrap();
        assert_eq!(ups(&desk, "eu"), [true, false]);
        assert_eq!(ups(&desk, "us"), [] as [bool; 0]);
        desk.pass(10);
        assert_eq!(ups(&desk, "eu"), [false]);
    }

    #[test]
    fn samples_count_for_longer_and_only_of_known_pops() {
        let mut desk = Desk::new();
        let samples = r#""samples":[{"prefix":"192.0.2.0/24","ms":9,"n":3},
            {"prefix":"192.0.2.0/24","pop":"xx","ms":9,"n":3}]"#;
        let taken = desk
            .take(&format!(r#"{{"pop":"eu","at":997000,{samples}}}"#))
            .unwrap();
        assert_eq!(taken.unknown, 1);
        let at = desk.clock - Duration::from_secs(3000);
        let prefix = "192.0.2.0/24".parse().unwrap();
        let measured = Measured {
            prefix,
            pop: "eu".to_owned(),
            ms: 9.0,
            n: 3,
            at,
        };
        assert_eq!(taken.samples, [measured]);
        let old = desk
            .take(&format!(r#"{{"pop":"eu","at":996000,{samples}}}"#))
            .unwrap();
        assert_eq!((old.samples.len(), old.old), (0, 2));
    }

    #[test]
    fn an_unknown_sender_is_counted_and_ignored() {
        let mut desk = Desk::new();
        let taken = desk
            .take(r#"{"pop":"xx","state":"up","views":[{"pop":"eu","up":false}]}"#)
            .unwrap();
        let ignored = Taken {
            unknown: 1,
            ..Taken::default()
        };
        assert_eq!(taken, ignored);
        assert!(desk.book.views("eu", desk.now).is_empty());
    }

    #[test]
    fn nodes_are_bounded_and_silent_ones_make_room() {
        let mut desk = Desk::new();
        let node = |n: usize| format!(r#"{{"node":"n{n}","views":[{{"pop":"eu","up":true}}]}}"#);
        for n in 0..MAX_NODES {
            desk.take(&node(n)).unwrap();
        }
        assert_eq!(desk.take(&node(MAX_NODES)), Err(Refused::Nodes));
        desk.pass(16);
        assert_eq!(desk.take(&node(MAX_NODES)).unwrap().views, 1);
    }

    #[test]
    fn after_a_restart_a_reporter_is_given_the_time_to_report() {
        let mut desk = Desk::new();
        desk.book.await_reports(["eu", "xx"], desk.now);
        assert_eq!(desk.book.reporters().collect::<Vec<_>>(), ["eu"]);
        assert_eq!(desk.heard("eu"), Heard::Awaited);
        desk.pass(16);
        assert_eq!(desk.heard("eu"), Heard::Silent);
    }

    #[test]
    fn words_of_pops_that_stay_outlive_a_reload() {
        let mut desk = Desk::new();
        desk.take(r#"{"pop":"eu","state":"up"}"#).unwrap();
        desk.take(r#"{"pop":"us","state":"up","views":[{"pop":"eu","up":true}]}"#)
            .unwrap();
        desk.book.know(["eu", "ap"], RULES);
        assert!(matches!(desk.heard("eu"), Heard::Fresh { .. }));
        assert!(desk.book.views("eu", desk.now).is_empty());
        assert_eq!(desk.heard("ap"), Heard::Never);
    }
}
