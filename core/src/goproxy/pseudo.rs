//! Pseudo-versions: names for commits that have no tag, by the rules of x/mod's `module` package.
//!
//! | form | made where the latest tag before the commit is |
//! |---|---|
//! | `vX.0.0-TIME-REVISION` | none of major version X |
//! | `vX.Y.(Z+1)-0.TIME-REVISION` | `vX.Y.Z` |
//! | `vX.Y.Z-PRE.0.TIME-REVISION` | `vX.Y.Z-PRE` |
//!
//! TIME is the commit's, `yyyymmddhhmmss` in UTC; REVISION the first twelve hexadecimal digits of
//! its name. The latter two may end in `+incompatible`, as their tag does.

use std::fmt::Write as _;

use super::{Stamp, Version};

/// How many digits of a commit's name stand in a pseudo-version.
pub const REVISION_DIGITS: usize = 12;

/// The parts of a pseudo-version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudo<'a> {
    /// `vX.0.0`, `vX.Y.(Z+1)-0` or `vX.Y.Z-PRE.0`.
    front: &'a str,
    timestamp: &'a str,
    revision: &'a str,
    incompatible: bool,
}

/// Why a pseudo-version can't have a base version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// `vX.0.0-TIME-REVISION+incompatible`: the mark belongs to a tag, and there is none.
    #[error("lacks a base version, but is marked +incompatible")]
    Incompatible,
    /// `vX.Y.0-0.TIME-REVISION`.
    #[error("the version before it would have a negative patch number")]
    Negative,
}

impl<'a> Pseudo<'a> {
    /// `None` if the version isn't a pseudo-version.
    #[must_use]
    pub fn of(version: &'a Version) -> Option<Self> {
        if !version.is_pseudo() {
            return None;
        }
        let text = version.as_str();
        let plain = text.strip_suffix("+incompatible").unwrap_or(text);
        let (rest, revision) = plain.rsplit_once('-')?;
        let at = rest.len().checked_sub(15)?;
        Some(Self {
            front: rest.get(..at)?,
            timestamp: rest.get(at + 1..)?,
            revision,
            incompatible: plain.len() < text.len(),
        })
    }

    /// The commit's name, shortened. It need not be as long as it should, nor hexadecimal.
    #[must_use]
    pub fn revision(&self) -> &'a str {
        self.revision
    }

    /// The commit's time; `None` if there is no such time.
    #[must_use]
    pub fn time(&self) -> Option<Stamp> {
        Stamp::from_digits(self.timestamp)
    }

    /// The tagged version that the commit comes after; `None` in the first form.
    ///
    /// # Errors
    /// If no tag can have led to such a pseudo-version.
    pub fn base(&self) -> Result<Option<Version>, BaseError> {
        let mut base = match self.front.split_once('-') {
            None if self.incompatible => return Err(BaseError::Incompatible),
            None => return Ok(None),
            Some((core, "0")) => {
                let (front, patch) = core.rsplit_once('.').unwrap_or_default();
                let patch = decrement(patch).ok_or(BaseError::Negative)?;
                format!("{front}.{patch}")
            }
            Some(_) => self
                .front
                .strip_suffix(".0")
                .unwrap_or(self.front)
                .to_owned(),
        };
        if self.incompatible {
            base.push_str("+incompatible");
        }
        Ok(base.parse().ok())
    }
}

impl Version {
    /// Makes the pseudo-version of a commit. `major` (`v2`; `v0` is usual where the module's path
    /// names none) counts only where there is no `base`.
    ///
    /// `None` if `major` or `revision` are nothing that a version can hold.
    #[must_use]
    pub fn pseudo(
        major: &str,
        base: Option<&Version>,
        time: Stamp,
        revision: &str,
    ) -> Option<Version> {
        let mut text = match base {
            None => format!("{major}.0.0-"),
            Some(base) if base.is_prerelease() => format!("{}.0.", base.plain()),
            Some(base) => {
                let (front, patch) = base.plain().rsplit_once('.')?;
                format!("{front}.{}-0.", increment(patch))
            }
        };
        let _ = write!(text, "{}-{revision}", time.digits());
        if base.is_some_and(Version::is_incompatible) {
            text.push_str("+incompatible");
        }
        text.parse().ok()
    }

    /// The version without `+incompatible`.
    #[must_use]
    pub fn plain(&self) -> &str {
        let text = self.as_str();
        text.strip_suffix("+incompatible").unwrap_or(text)
    }
}

/// A decimal number of any size, and one more.
fn increment(decimal: &str) -> String {
    let nines = decimal.len() - decimal.trim_end_matches('9').len();
    let (front, _) = decimal.split_at(decimal.len() - nines);
    let zeros = "0".repeat(nines);
    match front.split_at_checked(front.len().saturating_sub(1)) {
        Some((head, last)) if !last.is_empty() => {
            let digit = last.as_bytes()[0] + 1;
            format!("{head}{}{zeros}", char::from(digit))
        }
        _ => format!("1{zeros}"),
    }
}

/// A decimal number of any size, without leading zeros, and one less; `None` below zero.
fn decrement(decimal: &str) -> Option<String> {
    let front = decimal.trim_end_matches('0');
    let nines = "9".repeat(decimal.len() - front.len());
    let (head, last) = front.split_at_checked(front.len().checked_sub(1)?)?;
    let digit = char::from(last.as_bytes()[0] - 1);
    if head.is_empty() && digit == '0' && !nines.is_empty() {
        return Some(nines);
    }
    Some(format!("{head}{digit}{nines}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    const TIME: &str = "20191109021931";

    #[test]
    fn every_form_is_made_and_read() {
        let time = Stamp::from_digits(TIME).unwrap();
        for (major, base, made) in [
            ("v0", None, "v0.0.0-20191109021931-daa7c04131f5"),
            ("v3", None, "v3.0.0-20191109021931-daa7c04131f5"),
            ("v0", Some("v1.2.3"), "v1.2.4-0.20191109021931-daa7c04131f5"),
            (
                "v0",
                Some("v1.2.99"),
                "v1.2.100-0.20191109021931-daa7c04131f5",
            ),
            (
                "v2",
                Some("v2.0.0-rc.1"),
                "v2.0.0-rc.1.0.20191109021931-daa7c04131f5",
            ),
            (
                "v0",
                Some("v2.9.9+incompatible"),
                "v2.9.10-0.20191109021931-daa7c04131f5+incompatible",
            ),
            (
                "v0",
                Some("v2.0.0-a-b+incompatible"),
                "v2.0.0-a-b.0.20191109021931-daa7c04131f5+incompatible",
            ),
        ] {
            let base = base.map(version);
            let pseudo = Version::pseudo(major, base.as_ref(), time, "daa7c04131f5").unwrap();
            assert_eq!(pseudo.as_str(), made);
            let parts = Pseudo::of(&pseudo).unwrap();
            assert_eq!(parts.base(), Ok(base));
            assert_eq!(
                (parts.time(), parts.revision()),
                (Some(time), "daa7c04131f5")
            );
        }
        assert_eq!(Version::pseudo("v0", None, time, "a_b"), None);
        assert_eq!(Version::pseudo("0", None, time, "ab"), None);
    }

    #[test]
    fn some_pseudo_versions_have_no_possible_base() {
        for (text, error) in [
            (
                "v0.0.0-20191109021931-daa7c04131f5+incompatible",
                BaseError::Incompatible,
            ),
            ("v1.2.0-0.20191109021931-daa7c04131f5", BaseError::Negative),
        ] {
            assert_eq!(Pseudo::of(&version(text)).unwrap().base(), Err(error));
        }
        let never = version("v0.0.0-20191309021931-daa7c04131f5");
        assert_eq!(Pseudo::of(&never).unwrap().time(), None);
        assert_eq!(Pseudo::of(&version("v1.2.3-pre")), None);
    }

    proptest! {
        #[test]
        fn numbers_go_up_and_down(number in any::<u64>()) {
            let more = increment(&number.to_string());
            prop_assert_eq!(&more, &(u128::from(number) + 1).to_string());
            prop_assert_eq!(decrement(&more), Some(number.to_string()));
        }

        #[test]
        fn a_pseudo_version_follows_its_base_and_precedes_the_next(
            major in 0_u32..12, minor in 0_u32..12, patch in 0_u32..12,
            pre in proptest::option::of("[a-z]{1,4}(\\.[1-9])?"),
            unix in 0_i64..4_000_000_000, revision in "[0-9a-f]{12}",
        ) {
            let pre = pre.map_or(String::new(), |pre| format!("-{pre}"));
            let base = version(&format!("v{major}.{minor}.{patch}{pre}"));
            let next = version(&format!("v{major}.{minor}.{}", patch + 1));
            let time = Stamp::from_unix(unix).unwrap();
            let pseudo = Version::pseudo("v0", Some(&base), time, &revision).unwrap();
            prop_assert!(pseudo.is_pseudo() && base < pseudo && pseudo < next);
            prop_assert_eq!(Pseudo::of(&pseudo).unwrap().base(), Ok(Some(base)));
        }
    }
}
