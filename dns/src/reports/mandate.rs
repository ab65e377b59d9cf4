//! For whom the holder of a token may speak: what stands behind the token on its line of
//! `reports.token_file`.
//!
//! Nothing: for everybody. Else names, divided by blanks: `pop=eu pop=us node=ns2`.

use std::collections::BTreeSet;

use super::grammar::{MAX_TEXT, Report, Sender};

/// For whom the holder of a token may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mandate {
    /// For everybody: tokens of whoever runs it all.
    Everybody,
    /// For these.
    Only(BTreeSet<Sender>),
}

/// Somebody spoke for whom he may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this token doesn't speak for {kind} {name:?}: use its own, or name it behind this one in \
     reports.token_file",
    kind = kind(.0),
    name = .0.name()
)]
pub struct Foreign(pub Sender);

impl Mandate {
    /// Reads what stands behind a token.
    ///
    /// # Errors
    /// What should stand there.
    pub fn parse(behind: &str) -> Result<Self, &'static str> {
        if behind.is_empty() {
            return Ok(Self::Everybody);
        }
        let senders = behind.split_ascii_whitespace().map(sender);
        let senders: Option<BTreeSet<_>> = senders.collect();
        let expected = "come pop=NAME or node=NAME, divided by blanks, or nothing";
        senders.map(Self::Only).ok_or(expected)
    }

    /// Whether all of a report may be said: by its sender, and of the PoPs that its samples are of.
    /// What the sender sees of others is his to say.
    ///
    /// # Errors
    /// For whom he may not speak.
    pub fn check(&self, report: &Report) -> Result<(), Foreign> {
        self.covers(&report.sender)?;
        let pops = report
            .samples
            .iter()
            .filter_map(|sample| sample.pop.as_ref());
        // One by one, and without a copy of each of thousands of names.
        let mut checked: Option<&String> = None;
        for pop in pops {
            if checked != Some(pop) {
                self.covers(&Sender::Pop(pop.clone()))?;
                checked = Some(pop);
            }
        }
        Ok(())
    }

    /// Whether something may be said for somebody.
    ///
    /// # Errors
    /// It may not.
    pub fn covers(&self, sender: &Sender) -> Result<(), Foreign> {
        match self {
            Self::Only(senders) if !senders.contains(sender) => Err(Foreign(sender.clone())),
            Self::Everybody | Self::Only(_) => Ok(()),
        }
    }
}

fn sender(word: &str) -> Option<Sender> {
    let (kind, name) = word.split_once('=')?;
    // A comma is a list that was meant otherwise.
    let fits = |name: &&str| (1..=MAX_TEXT).contains(&name.len()) && !name.contains(',');
    let name = Some(name).filter(fits)?;
    match kind {
        "pop" => Some(Sender::Pop(name.to_owned())),
        "node" => Some(Sender::Node(name.to_owned())),
        _ => None,
    }
}

fn kind(sender: &Sender) -> &'static str {
    match sender {
        Sender::Pop(_) => "pop",
        Sender::Node(_) => "node",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(behind: &str, report: &str) -> Result<(), String> {
        let report = Report::parse(report.as_bytes()).unwrap();
        let mandate = Mandate::parse(behind).unwrap();
        mandate
            .check(&report)
            .map_err(|Foreign(sender)| format!("{} {}", kind(&sender), sender.name()))
    }

    const EU: &str = r#"{"pop":"eu","state":"up","views":[{"pop":"us","up":false}]}"#;

    #[test]
    fn a_token_speaks_for_whom_its_line_names_and_without_names_for_everybody() {
        for (behind, expected) in [
            ("", Ok(())),
            ("pop=eu", Ok(())),
            ("pop=us  pop=eu\tnode=ns2", Ok(())),
            ("pop=us", Err("pop eu".to_owned())),
            ("node=eu", Err("pop eu".to_owned())),
        ] {
            assert_eq!(check(behind, EU), expected, "{behind:?}");
        }
        let node = r#"{"node":"ns2","views":[{"pop":"us","up":false}]}"#;
        assert_eq!(check("node=ns2", node), Ok(()));
        assert_eq!(check("pop=ns2", node), Err("node ns2".to_owned()));
    }

    #[test]
    fn samples_are_of_pops_that_the_token_speaks_for() {
        let of = |pop: &str| {
            format!(
                r#"{{"pop":"eu","samples":[{{"prefix":"192.0.2.0/24","ms":1,"n":1}},
                    {{"prefix":"192.0.3.0/24","pop":"eu","ms":1,"n":1}},
                    {{"prefix":"192.0.2.0/24","pop":"{pop}","ms":1,"n":1}}]}}"#
            )
        };
        assert_eq!(check("pop=eu", &of("eu")), Ok(()));
        assert_eq!(check("pop=eu", &of("us")), Err("pop us".to_owned()));
        assert_eq!(check("pop=eu pop=us", &of("us")), Ok(()));
        assert_eq!(check("", &of("us")), Ok(()));
    }

    #[test]
    fn a_word_that_names_nobody_is_refused() {
        let long = format!("pop={}", "x".repeat(MAX_TEXT + 1));
        for behind in [
            "eu",
            "pop=",
            "Pop=eu",
            "edge=eu",
            "pop=eu,us",
            "pop=eu #x",
            &long,
        ] {
            assert!(Mandate::parse(behind).is_err(), "{behind:?}");
        }
    }
}
