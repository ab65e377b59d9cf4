//! Canonical versions: semantic versions as `module.CanonicalVersion` prints them.

use std::{cmp::Ordering, fmt, str::FromStr};

use super::{
    GrammarError,
    escape::{escaped_len, push_escaped, unescape},
    path::{MAX_ELEMENT, all_digits},
};

/// A canonical version: `vX.Y.Z[-PRERELEASE][+incompatible]`, pseudo-versions and toolchains
/// (`v0.0.1-go1.27.0.linux-amd64`) included.
///
/// Ordered as x/mod's `semver.Sort` does: by precedence, then by text, so that order and equality
/// agree although precedence knows no `+incompatible`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(Box<str>);

impl Version {
    /// The version as go.mod writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as URLs and file names write it: upper-case letters as `!` + lower case.
    pub fn escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 4);
        push_escaped(&mut out, &self.0);
        out
    }

    pub(super) fn push_escaped(&self, out: &mut String) {
        push_escaped(out, &self.0);
    }

    /// Parses the escaped form, without percent-encodings.
    pub fn from_escaped(escaped: &str) -> Result<Self, GrammarError> {
        unescape(escaped)?.parse()
    }

    /// The major version with its `v`, as module paths and tags write it.
    pub fn major(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(major, _)| major)
    }

    /// Whether it is marked as of a major version that the module's path doesn't name.
    pub fn is_incompatible(&self) -> bool {
        self.0.ends_with("+incompatible")
    }

    /// Whether it is a prerelease; pseudo-versions are.
    pub fn is_prerelease(&self) -> bool {
        self.parts().prerelease.is_some()
    }

    /// Whether it names a commit rather than a tag (`module.IsPseudoVersion`):
    /// `vX.0.0-TIME-REVISION`, `vX.Y.Z-0.TIME-REVISION` or `vX.Y.Z-PRE.0.TIME-REVISION`.
    pub fn is_pseudo(&self) -> bool {
        let parts = self.parts();
        let Some((rest, revision)) = parts.prerelease.and_then(|p| p.rsplit_once('-')) else {
            return false;
        };
        // All ASCII, but a cut that isn't one of characters is still no reason to panic.
        let Some((base, time)) = rest
            .len()
            .checked_sub(14)
            .and_then(|at| rest.split_at_checked(at))
        else {
            return false;
        };
        let has_base = base == "0." || base.ends_with(".0.");
        let has_none = base.is_empty() && parts.minor == "0" && parts.patch == "0";
        let is_revision =
            !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_alphanumeric());
        all_digits(time) && is_revision && (has_base || has_none)
    }

    /// Precedence alone, as x/mod's `semver.Compare` has it: `+incompatible` makes no difference.
    pub fn cmp_precedence(&self, other: &Self) -> Ordering {
        let (a, b) = (self.parts(), other.parts());
        compare_numbers(a.major, b.major)
            .then_with(|| compare_numbers(a.minor, b.minor))
            .then_with(|| compare_numbers(a.patch, b.patch))
            .then_with(|| compare_prereleases(a.prerelease, b.prerelease))
    }

    fn parts(&self) -> Parts<'_> {
        Parts::of(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// From the unescaped form.
impl FromStr for Version {
    type Err = GrammarError;

    fn from_str(version: &str) -> Result<Self, GrammarError> {
        if Parts::of(version).is_none() {
            return Err(GrammarError::NotCanonical);
        }
        if escaped_len(version) > MAX_ELEMENT {
            return Err(GrammarError::ElementTooLong);
        }
        Ok(Self(version.into()))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cmp_precedence(other)
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The parts of a canonical version that have a say in its order.
#[derive(Default)]
struct Parts<'a> {
    major: &'a str,
    minor: &'a str,
    patch: &'a str,
    prerelease: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// `None` if `version` isn't canonical.
    fn of(version: &'a str) -> Option<Self> {
        let rest = version.strip_prefix('v')?;
        let rest = rest.strip_suffix("+incompatible").unwrap_or(rest);
        let (core, prerelease) = match rest.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (rest, None),
        };
        let (major, rest) = core.split_once('.')?;
        let (minor, patch) = rest.split_once('.')?;
        let numbers = [major, minor, patch].into_iter().all(is_number);
        let identifiers = prerelease.is_none_or(|p| p.split('.').all(is_identifier));
        (numbers && identifiers).then_some(Self {
            major,
            minor,
            patch,
            prerelease,
        })
    }
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && all_digits(text) && (text == "0" || !text.starts_with('0'))
}

pub(super) fn is_identifier(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.bytes().all(allowed) && (!all_digits(text) || is_number(text))
}

/// Numbers of any size, without leading zeros.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// A version without a prerelease comes after all of its prereleases (semver §11).
fn compare_prereleases(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => compare_identifiers(a.split('.'), b.split('.')),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

fn compare_identifiers<'a>(
    mut a: impl Iterator<Item = &'a str>,
    mut b: impl Iterator<Item = &'a str>,
) -> Ordering {
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (Some(a), Some(b)) => match (all_digits(a), all_digits(b)) {
                (true, true) => compare_numbers(a, b),
                (false, false) => a.cmp(b),
                (a_is_number, b_is_number) => b_is_number.cmp(&a_is_number),
            },
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn canonical_versions_are_accepted() {
        for text in [
            "v0.0.0",
            "v1.2.3",
            "v1.2.3-pre",
            "v1.2.3-RC.1",
            "v1.2.3-0.0",
            "v1.2.3-01a",
            "v1.2.3--",
            "v2.0.0+incompatible",
            "v2.0.0-x.y+incompatible",
            "v99999999999999999999.0.0",
            "v0.0.0-20161208181325-20d25e280405",
            "v0.0.1-go1.27.0.linux-amd64",
        ] {
            let parsed = version(text);
            assert_eq!(parsed.as_str(), text);
            assert_eq!(Version::from_escaped(&parsed.escaped()), Ok(parsed));
        }
    }

    #[test]
    fn other_versions_are_not_canonical() {
        for text in [
            "",
            "v",
            "v1",
            "v1.2",
            "1.2.3",
            "V1.2.3",
            "v1.2.3.4",
            "v01.2.3",
            "v1.02.3",
            "v1.2.03",
            "v1.2.3-",
            "v1.2.3-a..b",
            "v1.2.3-01",
            "v1.2.3-a.",
            "v1.2.3-.a",
            "v1.2.3+meta",
            "v1.2.3+incompatible.x",
            "v1.2.3+x+incompatible",
            "v1.2.3+",
            "v1.2+incompatible",
            "v1.2.3-a_b",
            "v1.2.3-ä",
            "v1.2.3 ",
            "v-1.2.3",
            "v1..3",
            "master",
            "latest",
            "v1.2.3/go.mod",
            "v1.2.3-a+b-c",
            "v1.2.3+a-b",
        ] {
            assert_eq!(
                text.parse::<Version>(),
                Err(GrammarError::NotCanonical),
                "{text:?}"
            );
        }
        let long = format!("v1.0.0-{}", "x".repeat(MAX_ELEMENT));
        assert_eq!(long.parse::<Version>(), Err(GrammarError::ElementTooLong));
    }

    #[test]
    fn pseudo_versions_are_told_from_prereleases() {
        for text in [
            "v0.0.0-20161208181325-20d25e280405",
            "v2.0.0-20161208181325-20d25e280405",
            "v2.0.0-20161208181325-20d25e280405+incompatible",
            "v1.2.4-0.20191109021931-daa7c04131f5",
            "v1.2.3-pre.0.20191109021931-daa7c04131f5",
            "v1.2.3-pre-x.y.0.20191109021931-daa7c04131f5+incompatible",
            "v1.2.3-0.0.20191109021931-a",
            "v1.2.3-0.99999999999999-A",
        ] {
            assert!(
                version(text).is_pseudo() && version(text).is_prerelease(),
                "{text}"
            );
        }
        for text in [
            "v1.2.3",
            "v1.2.3-pre",
            "v1.2.0-20161208181325-20d25e280405",
            "v1.0.1-20161208181325-20d25e280405",
            "v1.2.3-1.20191109021931-daa7c04131f5",
            "v1.2.3-pre0.20191109021931-daa7c04131f5",
            "v1.2.3-pre.20191109021931-daa7c04131f5",
            "v1.2.3-0.2019110902193-daa7c04131f5",
            "v1.2.3-0.120191109021931-daa7c04131f5",
            "v1.2.3-0.20191109021931-daa7.c04131f5",
            "v1.2.3-0.20191109021931-",
            "v0.0.1-go1.27.0.linux-amd64",
        ] {
            assert!(!version(text).is_pseudo(), "{text}");
        }
    }

    #[test]
    fn the_major_is_what_paths_name() {
        assert_eq!(version("v12.3.4-v5").major(), "v12");
        assert!(version("v12.3.4+incompatible").is_incompatible());
        assert!(!version("v12.3.4-incompatible").is_incompatible());
        assert!(!version("v12.3.4+incompatible").is_prerelease());
    }

    #[test]
    fn versions_are_ordered_by_precedence_then_text() {
        let ascending = [
            "v0.9.10",
            "v1.0.0-0.20191109021931-daa7c04131f5",
            "v1.0.0-1",
            "v1.0.0-9",
            "v1.0.0-10",
            "v1.0.0-Z",
            "v1.0.0-alpha",
            "v1.0.0-alpha.1",
            "v1.0.0-alpha.beta",
            "v1.0.0-beta.2",
            "v1.0.0-beta.11",
            "v1.0.0-rc.1",
            "v1.0.0",
            "v1.2.0",
            "v1.10.0",
            "v2.0.0",
            "v2.0.0+incompatible",
            "v18446744073709551616.0.0",
            "v18446744073709551617.0.0",
        ];
        let (plain, marked) = (version("v2.0.0"), version("v2.0.0+incompatible"));
        assert!(plain.cmp_precedence(&marked).is_eq() && plain < marked);
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(version(a).cmp(&version(b)), i.cmp(&j), "{a} {b}");
            }
        }
    }
}
