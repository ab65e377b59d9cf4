//! What is left of a list, and what to take in place of a blocked version. Pure.

use modcdn_core::goproxy::Version;

/// The allowed version that is nearest to `asked`: the one with the fewest others of the list
/// between; of two that are equally near the higher one, which other modules' requirements rather
/// agree with. Someone who asked for a release is told of a prerelease only where no release is
/// allowed.
#[must_use]
pub fn nearest(
    asked: &Version,
    list: &[Version],
    allowed: impl Fn(&Version) -> bool,
) -> Option<Version> {
    let releases = list.iter().filter(|version| !version.is_prerelease());
    let of_releases = || among(asked, releases.cloned().collect(), &allowed);
    let of_all = || among(asked, list.to_vec(), &allowed);
    if asked.is_prerelease() {
        of_all()
    } else {
        of_releases().or_else(of_all)
    }
}

/// The highest allowed version, as `@latest` chooses: a release if there is one.
#[must_use]
pub fn latest(list: &[Version], allowed: impl Fn(&Version) -> bool) -> Option<Version> {
    let fits = list.iter().filter(|version| allowed(version));
    fits.max_by(|a, b| {
        let (a_release, b_release) = (!a.is_prerelease(), !b.is_prerelease());
        a_release.cmp(&b_release).then_with(|| a.cmp(b))
    })
    .cloned()
}

fn among(
    asked: &Version,
    mut list: Vec<Version>,
    allowed: &impl Fn(&Version) -> bool,
) -> Option<Version> {
    list.sort();
    list.dedup();
    let at = list.partition_point(|version| version < asked);
    let (below, above) = list.split_at(at);
    let above = above.iter().filter(|version| *version != asked);
    let above = above.enumerate().find(|(_, version)| allowed(version));
    let below = below.iter().rev().enumerate();
    let below = below.into_iter().find(|(_, version)| allowed(version));
    let nearer = match (below, above) {
        (Some((down, lower)), Some((up, _))) if down < up => lower,
        (_, Some((_, higher))) => higher,
        (Some((_, lower)), None) => lower,
        (None, None) => return None,
    };
    Some(nearer.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(texts: &[&str]) -> Vec<Version> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_nearest_has_the_fewest_between() {
        let list = versions(&[
            "v1.0.0",
            "v1.1.0",
            "v1.2.0",
            "v1.3.0",
            "v1.4.0-rc.1",
            "v1.4.0",
        ]);
        for (asked, blocked, expected) in [
            ("v1.2.0", vec!["v1.2.0"], Some("v1.3.0")),
            ("v1.2.0", vec!["v1.2.0", "v1.3.0"], Some("v1.1.0")),
            ("v1.2.0", vec!["v1.2.0", "v1.1.0", "v1.3.0"], Some("v1.4.0")),
            ("v1.4.0", vec!["v1.4.0"], Some("v1.3.0")),
            ("v1.4.0-rc.1", vec!["v1.4.0-rc.1"], Some("v1.4.0")),
            ("v1.4.0-rc.2", vec!["v1.4.0"], Some("v1.4.0-rc.1")),
            ("v1.9.0", vec![], Some("v1.4.0")),
            (
                "v1.1.0",
                vec!["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"],
                Some("v1.4.0-rc.1"),
            ),
        ] {
            let blocked = versions(&blocked);
            let found = nearest(&asked.parse().unwrap(), &list, |v| !blocked.contains(v));
            assert_eq!(
                found.as_ref().map(Version::as_str),
                expected,
                "{asked} {blocked:?}"
            );
        }
        assert_eq!(nearest(&list[0], &list, |_| false), None);
        assert_eq!(nearest(&list[0], &[], |_| true), None);
    }

    #[test]
    fn the_latest_is_a_release_if_there_is_one() {
        let list = versions(&["v1.0.0", "v1.10.0", "v1.2.0", "v2.0.0-rc.1"]);
        let latest_but = |blocked: &[&str]| {
            let blocked = versions(blocked);
            latest(&list, |v| !blocked.contains(v)).map(|v| v.to_string())
        };
        assert_eq!(latest_but(&[]).as_deref(), Some("v1.10.0"));
        assert_eq!(latest_but(&["v1.10.0"]).as_deref(), Some("v1.2.0"));
        let releases = ["v1.0.0", "v1.10.0", "v1.2.0"];
        assert_eq!(latest_but(&releases).as_deref(), Some("v2.0.0-rc.1"));
    }

    prop_compose! {
        fn some_version()(minor in 0u8..6, pre in prop::option::of(0u8..3)) -> Version {
            let pre = pre.map(|n| format!("-rc.{n}")).unwrap_or_default();
            format!("v1.{minor}.0{pre}").parse().unwrap()
        }
    }

    proptest! {
        #[test]
        fn the_nearest_is_allowed_and_nothing_allowed_is_nearer(
            asked in some_version(), list in prop::collection::vec(some_version(), 0..12),
            blocked in prop::collection::vec(some_version(), 0..12),
        ) {
            let allowed = |version: &Version| *version != asked && !blocked.contains(version);
            let found = nearest(&asked, &list, allowed);
            let mut left: Vec<Version> = list.clone();
            left.sort();
            left.dedup();
            let Some(found) = found else {
                prop_assert!(!left.iter().any(allowed));
                return Ok(());
            };
            prop_assert!(allowed(&found) && list.contains(&found));
            let releases = !asked.is_prerelease() && !found.is_prerelease();
            let rivals = left.iter().filter(|version| !releases || !version.is_prerelease());
            let rivals: Vec<&Version> = rivals.collect();
            let between = |other: &Version| rivals.iter().filter(|version| {
                let (low, high) = (other.min(&asked), other.max(&asked));
                low < **version && **version < high
            }).count();
            for rival in rivals.iter().filter(|version| allowed(version)) {
                let (ours, theirs) = (between(&found), between(rival));
                prop_assert!(ours < theirs || (ours == theirs && found >= **rival), "{found} {rival}");
            }
        }
    }
}
