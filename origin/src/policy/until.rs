//! When a rule ends: a day, or a moment.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The end of a rule: `2026-12-31` (to the end of that day, UTC) or `2026-12-31T18:00:00Z`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Until {
    text: Box<str>,
    end: SystemTime,
}

/// A text that is no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: write a day such as 2026-12-31, or a moment such as 2026-12-31T18:00:00Z")]
pub struct UntilError(String);

impl Until {
    /// Whether the rule still holds.
    #[must_use]
    pub fn holds_at(&self, now: SystemTime) -> bool {
        now < self.end
    }
}

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        let wrong = || UntilError(text.to_owned());
        let is_day = text.len() == 10;
        let moment = if is_day {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        let moment = humantime::parse_rfc3339(&moment).map_err(|_| wrong())?;
        let end = if is_day {
            moment.checked_add(DAY).ok_or_else(wrong)?
        } else {
            moment
        };
        Ok(Self {
            text: text.into(),
            end,
        })
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Until> for String {
    fn from(until: Until) -> Self {
        until.text.into()
    }
}

impl TryFrom<String> for Until {
    type Error = UntilError;

    fn try_from(text: String) -> Result<Self, UntilError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_to_its_end() {
        let at = |text: &str| humantime::parse_rfc3339(text).unwrap();
        let day: Until = "2026-12-31".parse().unwrap();
        assert!(day.holds_at(at("2026-12-31T23:59:59Z")));
        assert!(!day.holds_at(at("2027-01-01T00:00:00Z")));
        let moment: Until = "2026-12-31T18:00:00Z".parse().unwrap();
        assert!(moment.holds_at(at("2026-12-31T17:59:59Z")));
        assert!(!moment.holds_at(at("2026-12-31T18:00:00Z")));
        assert_eq!(moment.to_string(), "2026-12-31T18:00:00Z");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2026-13-01",
            "2026-02-30",
            "31.12.2026",
            "tomorrow",
            "2026-12-31 18:00",
        ] {
            assert!(text.parse::<Until>().is_err(), "{text:?}");
        }
    }
}
