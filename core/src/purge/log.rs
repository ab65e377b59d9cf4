//! What the origin's purge log says to those who follow it: `GET /-/purges?since=EPOCH:SEQ`.
//!
//! An answer is lines of JSON: a [`Head`], then one [`Entry`] a line, without gaps.
//!
//! ```text
//! {"epoch":"9f86d081884c7d65","last":42,"reset":false,"more":false}
//! {"seq":41,"at":1767225600,"purge":{"module":"example.com/m","mode":"hard"}}
//! {"seq":42,"at":1767225660,"purge":{"prefix":"/corp.example","mode":"soft"}}
//! ```
//!
//! Rule for followers: whatever they can't make sense of, and any gap, is a reset: they no longer
//! know what was purged, and have everything confirmed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Purge;

/// Where the log is read, on the origin's listener.
pub const PURGES_PATH: &str = "/-/purges";

/// The life of one log: random, so that a log that was lost has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// A text that names no epoch or position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not 16 hexadecimal digits.
    #[error("{0:?}: an epoch has 16 hexadecimal digits")]
    Epoch(String),
    /// Not `EPOCH:SEQ`.
    #[error("{0:?}: a position is written EPOCH:SEQ, such as 9f86d081884c7d65:42")]
    Position(String),
}

impl Epoch {
    /// One that there never was.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(u64::from_ne_bytes(bytes)))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let fits = text.len() == 16 && text.bytes().all(lower_hex);
        let number = u64::from_str_radix(text, 16).ok().filter(|_| fits);
        let epoch = number.map(Self);
        epoch.ok_or_else(|| PositionError::Epoch(text.to_owned()))
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// How far a log was followed: everything up to `seq` is known. Written `EPOCH:SEQ`, in JSON as an
/// object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Of which log.
    pub epoch: Epoch,
    /// The last entry that is known; 0: none.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError::Position(text.to_owned());
        let (epoch, seq) = text.split_once(':').ok_or_else(wrong)?;
        let canonical = seq == "0" || (!seq.starts_with('0') && !seq.starts_with('+'));
        let seq = seq.parse().ok().filter(|_| canonical).ok_or_else(wrong)?;
        let epoch = epoch.parse().map_err(|_| wrong())?;
        Ok(Self { epoch, seq })
    }
}

/// An answer's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The log's life.
    pub epoch: Epoch,
    /// Its newest entry; 0: there was none yet.
    pub last: u64,
    /// What happened since isn't known here: what follows from anything may have been purged.
    pub reset: bool,
    /// There are more entries than this answer has room for.
    pub more: bool,
}

/// A purge in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: without gaps, from 1.
    pub seq: u64,
    /// When it was said, in seconds since 1970, by the origin's clock.
    pub at: u64,
    /// What is to be forgotten.
    pub purge: Purge,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The first line.
    pub head: Head,
    /// The others.
    pub entries: Vec<Entry>,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not the first line of an answer.
    #[error("not a purge log's answer: {0}")]
    Head(String),
}

/// What an answer means to someone at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Purges to carry out, in order, with none left out. There may be none.
    Purges(Vec<Entry>),
    /// Anything may have been purged; what comes after this position is known again.
    Reset(Position),
}

impl Page {
    /// The answer's text.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut lines = line(&self.head);
        for entry in &self.entries {
            lines += &line(entry);
        }
        lines
    }

    /// Reads an answer. Entries from the first one on that can't be read are left out: a newer
    /// origin may know purges that this version doesn't. [`Page::news`] sees the gap.
    ///
    /// # Errors
    /// Its first line isn't one.
    pub fn parse(text: &str) -> Result<Self, PageError> {
        let mut lines = text.lines();
        let head = lines.next().unwrap_or_default();
        let head = serde_json::from_str(head).map_err(|why| PageError::Head(why.to_string()))?;
        let entries = lines.map_while(|line| serde_json::from_str(line).ok());
        Ok(Self {
            head,
            entries: entries.collect(),
        })
    }

    /// What it means to someone who knows everything up to `position`; `None`: nothing at all.
    #[must_use]
    pub fn news(self, position: Option<Position>) -> News {
        let Head { epoch, last, .. } = self.head;
        let fresh = Position { epoch, seq: last };
        let Some(known) = position.filter(|known| known.epoch == epoch && !self.head.reset) else {
            return News::Reset(fresh);
        };
        let follows = |(entry, n): (&Entry, u64)| known.seq.checked_add(n) == Some(entry.seq);
        let in_order = self.entries.iter().zip(1..).all(follows);
        let end = self.entries.last().map_or(known.seq, |entry| entry.seq);
        let complete = if self.head.more {
            end <= last
        } else {
            end == last
        };
        // An answer that has more and brings nothing would be asked for again for ever.
        let moves = !self.head.more || !self.entries.is_empty();
        if in_order && complete && moves {
            News::Purges(self.entries)
        } else {
            News::Reset(fresh)
        }
    }
}

fn line(value: &impl Serialize) -> String {
    // Numbers and texts: always JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::purge::{Mode, Selector};

    fn epoch(number: u64) -> Epoch {
        Epoch(number)
    }

    fn entry(seq: u64) -> Entry {
        let selector = Selector::module("a.b/m").unwrap();
        let mode = Mode::Hard;
        Entry {
            seq,
            at: 1000 + seq,
            purge: Purge { selector, mode },
        }
    }

    fn page(last: u64, numbers: std::ops::RangeInclusive<u64>) -> Page {
        let more = *numbers.end() < last;
        let head = Head {
            epoch: epoch(7),
            last,
            reset: false,
            more,
        };
        let entries = numbers.map(entry).collect();
        Page { head, entries }
    }

    fn at(seq: u64) -> Position {
        let epoch = epoch(7);
        Position { epoch, seq }
    }

    #[test]
    fn positions_are_written_one_way() {
        let text = "000000000000002a:42";
        let position: Position = text.parse().unwrap();
        assert_eq!(position.to_string(), text);
        for wrong in [
            "",
            ":",
            "000000000000002a",
            "000000000000002a:",
            "000000000000002a:042",
            "000000000000002a:+42",
            "000000000000002a:-1",
            "000000000000002A:42",
            "+00000000000002a:42",
            "2a:42",
            "000000000000002a:42:1",
            "000000000000002a:99999999999999999999",
        ] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong:?}");
        }
        assert_ne!(Epoch::random(), Epoch::random());
    }

    #[test]
    fn an_answer_is_lines_of_json() {
        let text = page(2, 2..=2).to_lines();
        assert_eq!(
            text,
            "{\"epoch\":\"0000000000000007\",\"last\":2,\"reset\":false,\"more\":false}\n\
             {\"seq\":2,\"at\":1002,\"purge\":{\"module\":\"a.b/m\",\"mode\":\"hard\"}}\n"
        );
        assert_eq!(Page::parse(&text), Ok(page(2, 2..=2)));
        assert!(Page::parse("<html>").is_err() && Page::parse("").is_err());
    }

    #[test]
    fn what_follows_without_a_gap_is_carried_out() {
        let news = page(9, 5..=9).news(Some(at(4)));
        assert_eq!(news, News::Purges((5..=9).map(entry).collect()));
        let some = page(99, 5..=9).news(Some(at(4)));
        assert_eq!(some, News::Purges((5..=9).map(entry).collect()));
        #[expect(clippy::reversed_empty_ranges, reason = "no entries")]
        let nothing = page(9, 10..=9).news(Some(at(9)));
        assert_eq!(nothing, News::Purges(vec![]));
    }

    #[test]
    fn whatever_makes_no_sense_is_a_reset() {
        let reset = |page: Page, position| {
            let last = page.head.last;
            assert_eq!(page.news(position), News::Reset(at(last)));
        };
        reset(page(9, 5..=9), None);
        reset(page(9, 5..=9), Some(at(3)));
        reset(page(9, 5..=9), Some(at(5)));
        let mut other = at(4);
        other.epoch = epoch(8);
        reset(page(9, 5..=9), Some(other));
        let mut said = page(9, 5..=9);
        said.head.reset = true;
        reset(said, Some(at(4)));
        let mut unknown = page(9, 5..=9);
        unknown.entries.truncate(2);
        reset(unknown, Some(at(4)));
        let mut stuck = page(9, 5..=9);
        stuck.head.more = true;
        stuck.entries.clear();
        reset(stuck, Some(at(4)));
    }

    #[test]
    fn a_purge_of_a_newer_version_ends_what_is_read() {
        let text = page(9, 5..=9).to_lines();
        let newer = text.replace(
            "{\"seq\":7,\"at\":1007,\"purge\":{\"module\"",
            "{\"seq\":7,\"at\":1007,\"purge\":{\"planet\"",
        );
        assert_ne!(text, newer);
        let read = Page::parse(&newer).unwrap();
        assert_eq!(read.entries.len(), 2);
        assert_eq!(read.news(Some(at(4))), News::Reset(at(9)));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_in_order(
            text in "(\\PC|\n){0,300}", known in 0u64..20, last in 0u64..20,
            numbers in prop::collection::vec(0u64..20, 0..6), more in any::<bool>(),
        ) {
            let _ = Page::parse(&text);
            let _ = text.parse::<Position>();
            let head = Head { epoch: epoch(7), last, reset: false, more };
            let page = Page { head, entries: numbers.into_iter().map(entry).collect() };
            prop_assert_eq!(Page::parse(&page.to_lines()), Ok(page.clone()));
            if let News::Purges(entries) = page.news(Some(at(known))) {
                let found: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
                let expected: Vec<u64> = (known + 1..=known + found.len() as u64).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
