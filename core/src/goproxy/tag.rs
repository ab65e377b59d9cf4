//! Semantic versions as people write them in tags: shorter than canonical ones, or with more behind.

use super::{
    Version,
    version::{is_identifier, is_number},
};

/// Whether a text is a semantic version in x/mod's sense (`semver.IsValid`): `v1`, `v1.2`,
/// `v1.2.3-pre+meta`.
#[must_use]
pub fn is_semver(text: &str) -> bool {
    split(text).is_some()
}

/// The canonical version that a tag is a spelling of (`semver.Canonical`): `v1` is `v1.0.0`,
/// `v1.2.3+meta` is `v1.2.3`. Never one marked `+incompatible`.
#[must_use]
pub fn canonical(tag: &str) -> Option<Version> {
    let (core, zeros, _build) = split(tag)?;
    format!("{core}{zeros}").parse().ok()
}

/// The `+build` of a semantic version (`semver.Build`); empty where there is none.
#[must_use]
pub fn build(text: &str) -> &str {
    split(text).map_or("", |(_, _, build)| build)
}

/// What comes before the build, the numbers left out after it, and the build with its `+`.
fn split(text: &str) -> Option<(&str, &'static str, &str)> {
    let rest = text.strip_prefix('v')?;
    let at = rest.find('+').unwrap_or(rest.len()) + 1;
    let (before, build) = text.split_at(at);
    let (numbers, prerelease) = match before.split_once('-') {
        Some((numbers, prerelease)) => (numbers, Some(prerelease)),
        None => (before, None),
    };
    let mut count = 0;
    for number in numbers[1..].split('.') {
        count += 1;
        if !is_number(number) {
            return None;
        }
    }
    let zeros = match count {
        1 => ".0.0",
        2 => ".0",
        3 => "",
        _ => return None,
    };
    let is_short = !zeros.is_empty();
    let is_build_identifier =
        |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let good = match (prerelease, build.strip_prefix('+')) {
        (None, None) => true,
        _ if is_short => false,
        (prerelease, build) => {
            prerelease.is_none_or(|p| p.split('.').all(is_identifier))
                && build.is_none_or(|b| b.split('.').all(is_build_identifier))
        }
    };
    good.then_some((before, zeros, build))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_spellings_of_canonical_versions() {
        for (tag, version) in [
            ("v1", "v1.0.0"),
            ("v1.2", "v1.2.0"),
            ("v1.2.3", "v1.2.3"),
            ("v1.2.3-pre.1", "v1.2.3-pre.1"),
            ("v1.2.3+meta", "v1.2.3"),
            ("v1.2.3-pre+a-b.007", "v1.2.3-pre"),
            ("v2.0.0+incompatible", "v2.0.0"),
        ] {
            let found = canonical(tag).map(|version| version.to_string());
            assert_eq!(found.as_deref(), Some(version), "{tag}");
            assert!(is_semver(tag));
        }
        assert_eq!(build("v1.2.3-pre+a-b.007"), "+a-b.007");
        assert_eq!(build("v1.2"), "");
    }

    #[test]
    fn other_tags_are_none() {
        for tag in [
            "",
            "v",
            "1.2.3",
            "v01",
            "v1.",
            "v1.2.3.4",
            "v1-pre",
            "v1.2-pre",
            "v1.2+meta",
            "v1+x",
            "v1.2.3-",
            "v1.2.3+",
            "v1.2.3+a..b",
            "v1.2.3+a_b",
            "v1.2.3-01",
            "release",
            "sub/v1.2.3",
            "v+",
            "ä",
            "vä",
            "v1.2.3-ä",
            "v1.2.3+ä",
        ] {
            assert!(!is_semver(tag) && canonical(tag).is_none(), "{tag:?}");
        }
    }
}
