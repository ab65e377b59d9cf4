//! Ranges of versions, as rules have them. Pure.
//!
//! ```text
//! range        = alternative { "," alternative }     any of them
//! alternative  = bound { blanks bound }              all of them
//! bound        = [ "<" | "<=" | ">" | ">=" | "=" ] version
//! ```
//!
//! So `<v1.2.3`, `>=v1.0.0 <v2`, `v1.4.1, v1.4.2`. Versions are compared by precedence (semver §11):
//! `<v2` means v2.0.0-rc.1 too, which comes before v2.0.0; `<v2.0.0-0` doesn't. `+incompatible` makes
//! no difference. Behind `<`, `<=`, `>` and `>=` a version may be shortened to `v1` or `v1.2`, which stand
//! for v1.0.0 and v1.2.0; alone it may not, as it could mean one version or many.
//!
//! Failure rule: what isn't in the grammar, or means no version at all, is an error.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use modcdn_core::goproxy::Version;
use serde::{Deserialize, Serialize};

/// A range is no longer than this, in bytes.
const MAX_RANGE: usize = 1024;

/// Some versions. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Versions {
    text: Box<str>,
    alternatives: Vec<Vec<Bound>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    operator: Operator,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Below,
    UpTo,
    Above,
    From,
    Exactly,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionsError {
    /// Too long for one line of a configuration.
    #[error("a range of versions is no longer than {MAX_RANGE} bytes")]
    TooLong,
    /// Nothing where a bound should be.
    #[error("{0:?}: nothing stands before or behind a comma")]
    Empty(String),
    /// Not a bound.
    #[error("{0:?} is no bound: write v1.2.3, <v1.2.3, <=v1.2, >v1 or >=v1.0.0-rc.1")]
    Bound(String),
    /// `v1.2` alone.
    #[error("{0:?} could mean one version or many: write =v1.2.0, or >=v1.2 <v1.3")]
    Short(String),
    /// No version lies between the bounds.
    #[error("{0:?} means no version")]
    Nothing(String),
}

impl Versions {
    /// Whether a version is meant.
    #[must_use]
    pub fn contain(&self, version: &Version) -> bool {
        let mut alternatives = self.alternatives.iter();
        alternatives.any(|bounds| bounds.iter().all(|bound| bound.holds(version)))
    }

    /// The range as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Versions> for String {
    fn from(versions: Versions) -> Self {
        versions.text.into()
    }
}

impl TryFrom<String> for Versions {
    type Error = VersionsError;

    fn try_from(text: String) -> Result<Self, VersionsError> {
        text.parse()
    }
}

impl FromStr for Versions {
    type Err = VersionsError;

    fn from_str(text: &str) -> Result<Self, VersionsError> {
        if text.len() > MAX_RANGE {
            return Err(VersionsError::TooLong);
        }
        let alternatives = text.split(',').map(|alternative| {
            let bounds = alternative.split_ascii_whitespace().map(bound);
            let bounds: Vec<Bound> = bounds.collect::<Result<_, _>>()?;
            if bounds.is_empty() {
                return Err(VersionsError::Empty(text.to_owned()));
            }
            if means_nothing(&bounds) {
                return Err(VersionsError::Nothing(alternative.trim().to_owned()));
            }
            Ok(bounds)
        });
        Ok(Self {
            alternatives: alternatives.collect::<Result<_, _>>()?,
            text: text.into(),
        })
    }
}

impl Bound {
    fn holds(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.version);
        match self.operator {
            Operator::Below => order == Ordering::Less,
            Operator::UpTo => order != Ordering::Greater,
            Operator::Above => order == Ordering::Greater,
            Operator::From => order != Ordering::Less,
            Operator::Exactly => order == Ordering::Equal,
        }
    }

    /// Whether it bounds from above, and from below; and whether its own version is within.
    fn sides(&self) -> (bool, bool, bool) {
        match self.operator {
            Operator::Below => (true, false, false),
            Operator::UpTo => (true, false, true),
            Operator::Above => (false, true, false),
            Operator::From => (false, true, true),
            Operator::Exactly => (true, true, true),
        }
    }
}

fn bound(text: &str) -> Result<Bound, VersionsError> {
    let operators = [
        ("<=", Operator::UpTo),
        (">=", Operator::From),
        ("<", Operator::Below),
        (">", Operator::Above),
        ("=", Operator::Exactly),
    ];
    let mut written = operators.into_iter();
    let found = written.find_map(|(sign, operator)| Some((text.strip_prefix(sign)?, operator)));
    let (version, operator) = found.unwrap_or((text, Operator::Exactly));
    if let Ok(version) = version.parse() {
        return Ok(Bound { operator, version });
    }
    let wrong = || VersionsError::Bound(text.to_owned());
    let version = filled_up(version).ok_or_else(wrong)?;
    if operator == Operator::Exactly {
        return Err(VersionsError::Short(text.to_owned()));
    }
    Ok(Bound { operator, version })
}

/// `v1` as v1.0.0, `v1.2` as v1.2.0.
fn filled_up(text: &str) -> Option<Version> {
    let missing = match text.split('.').count() {
        1 => ".0.0",
        2 => ".0",
        _ => return None,
    };
    // Behind a dash dots separate identifiers.
    let plain = !text.contains(['-', '+']);
    plain.then(|| format!("{text}{missing}").parse().ok())?
}

/// Whether some lower bound lies above some upper one.
fn means_nothing(bounds: &[Bound]) -> bool {
    bounds.iter().any(|upper| {
        bounds.iter().any(|lower| {
            let (is_upper, _, with_upper) = upper.sides();
            let (_, is_lower, with_lower) = lower.sides();
            let order = lower.version.cmp_precedence(&upper.version);
            let apart = order == Ordering::Greater
                || (order == Ordering::Equal && !(with_upper && with_lower));
            is_upper && is_lower && apart
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(text: &str) -> Versions {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_range_means_what_lies_in_it() {
        for (range, inside, outside) in [
            (
                "<v1.2.3",
                vec!["v0.1.0", "v1.2.3-rc.1", "v1.2.2"],
                vec!["v1.2.3", "v1.10.0"],
            ),
            (
                ">=v1.0.0 <v2",
                vec!["v1.0.0", "v1.99.0", "v2.0.0-rc.1"],
                vec!["v1.0.0-rc.1", "v2.0.0", "v2.0.0+incompatible"],
            ),
            (">=v1 <v2.0.0-0", vec!["v1.9.9"], vec!["v2.0.0-alpha"]),
            ("v1.4.1, v1.4.2", vec!["v1.4.1", "v1.4.2"], vec!["v1.4.3"]),
            ("=v2.0.0", vec!["v2.0.0+incompatible"], vec!["v2.0.1"]),
            (
                "<=v1.2,>v3.1",
                vec!["v1.2.0", "v3.1.1"],
                vec!["v1.2.1", "v3.1.0"],
            ),
        ] {
            let range = versions(range);
            for version in inside {
                assert!(
                    range.contain(&version.parse().unwrap()),
                    "{range} {version}"
                );
            }
            for version in outside {
                assert!(
                    !range.contain(&version.parse().unwrap()),
                    "{range} {version}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_reason() {
        for (text, said) in [
            ("", "before or behind a comma"),
            ("v1.0.0,", "before or behind a comma"),
            (",<v1", "before or behind a comma"),
            ("1.2.3", "no bound"),
            ("<1.2.3", "no bound"),
            ("< v1.2.3", "no bound"),
            ("<>v1.2.3", "no bound"),
            ("^v1.2.3", "no bound"),
            ("~v1.2", "no bound"),
            ("v1.*", "no bound"),
            ("<v1.2.3.4", "no bound"),
            ("<v1-rc", "no bound"),
            ("main", "no bound"),
            ("<v01", "no bound"),
            ("v1.2", "one version or many"),
            ("=v1", "one version or many"),
            (">v2 <v1", "means no version"),
            ("<v1 >=v1", "means no version"),
            ("v1.0.0 v1.0.1", "means no version"),
            ("<v1, >v2 <v1", "means no version"),
        ] {
            let error = text.parse::<Versions>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let long = "v1.0.0,".repeat(MAX_RANGE);
        assert_eq!(long.parse::<Versions>(), Err(VersionsError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_as_it_was(text in "[<>= ,v0-9.a-z+]{0,30}|\\PC{0,20}") {
            if let Ok(versions) = text.parse::<Versions>() {
                prop_assert_eq!(versions.to_string(), text);
            }
        }

        /// Against numbers: a version is its minor number.
        #[test]
        fn bounds_hold_as_numbers_say(
            bounds in prop::collection::vec((0usize..5, 0u64..6), 1..4), asked in 0u64..6,
        ) {
            let signs = ["<", "<=", ">", ">=", "="];
            let text: Vec<String> = bounds.iter().map(|(sign, n)| format!("{}v1.{n}.0", signs[*sign])).collect();
            let holds = |n: u64| bounds.iter().all(|(sign, bound)| match sign {
                0 => n < *bound,
                1 => n <= *bound,
                2 => n > *bound,
                3 => n >= *bound,
                _ => n == *bound,
            });
            match text.join(" ").parse::<Versions>() {
                Ok(range) => {
                    let version: Version = format!("v1.{asked}.0").parse().unwrap();
                    prop_assert_eq!(range.contain(&version), holds(asked));
                }
                Err(_) => prop_assert!(!(0..99).any(holds)),
            }
        }
    }
}
