//! What several upstreams know of one module, put together. Pure.
//!
//! Lists are united, of `@latest` the highest counts: a release before a pre-release before a
//! pseudo-version, as the go command prefers them. Whose failure is borne is said by the chain: it is
//! if a `|` stands on either side of the upstream; with commas, or alone, its failure is the answer's.
//! While one fails, what was known before stays known, so that no version vanishes for a while.

use std::collections::BTreeSet;

use bytes::Bytes;
use modcdn_core::goproxy::{Request, Version};
use serde::Deserialize;

use super::chain::Link;
use super::walk::{Trouble, Walk};

/// What came of asking all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) body: Bytes,
    /// Somebody failed, and that was borne.
    pub(super) partial: bool,
}

/// Whether answers of several upstreams to this request can be put together.
pub(super) fn can(request: &Request) -> bool {
    matches!(request, Request::List(_) | Request::Latest(_))
}

/// Puts answers together, each with its link. `known` is what was answered before.
///
/// # Errors
/// What to tell instead: somebody's failure that isn't borne, or that nobody has it.
pub(super) fn merge(
    request: &Request,
    links: &[Link],
    answers: Vec<Result<Bytes, Trouble>>,
    known: Option<&Bytes>,
) -> Result<Merged, Walk> {
    let mut bodies = Vec::new();
    let mut walk = Walk::default();
    let (mut partial, mut unborne) = (false, false);
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(body) => bodies.push(body),
            Err(trouble) => {
                if let Trouble::Failed { .. } = trouble {
                    partial = true;
                    unborne |= !is_borne(links, at);
                }
                // All were asked already: where the walk would have ended doesn't matter.
                let _ = walk.after(&links[at], trouble);
            }
        }
    }
    if bodies.is_empty() || unborne {
        return Err(walk);
    }
    bodies.extend(known.filter(|_| partial).cloned());
    let body = match request {
        Request::Latest(_) => highest(bodies),
        _ => united(&bodies),
    };
    Ok(Merged { body, partial })
}

fn is_borne(links: &[Link], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| &links[before]);
    links[at].any_error_goes_on || before.is_some_and(|link| link.any_error_goes_on)
}

fn united(lists: &[Bytes]) -> Bytes {
    let mut versions = BTreeSet::new();
    for list in lists {
        let text = String::from_utf8_lossy(list);
        versions.extend(text.lines().filter_map(|line| line.parse::<Version>().ok()));
    }
    let mut text = String::new();
    for version in versions {
        text.push_str(version.as_str());
        text.push('\n');
    }
    text.into()
}

fn highest(infos: Vec<Bytes>) -> Bytes {
    let best = infos.into_iter().max_by_key(|info| rank(info));
    best.unwrap_or_default()
}

/// Whether it is a release, whether it is at least no pseudo-version, and the version.
fn rank(info: &[u8]) -> Option<(bool, bool, Version)> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "Version")]
        version: String,
    }
    let named: Named = serde_json::from_slice(info).ok()?;
    let version: Version = named.version.parse().ok()?;
    Some((!version.is_prerelease(), !version.is_pseudo(), version))
}

#[cfg(test)]
mod tests {
    use modcdn_core::refusal::{Reason, Refusal};
    use proptest::prelude::*;

    use super::super::chain::UpstreamChain;
    use super::*;

    fn failed() -> Result<Bytes, Trouble> {
        let refusal = Refusal::new(Reason::UpstreamStatus, "m", "failed");
        Err(Trouble::failed(refusal))
    }

    fn absent() -> Result<Bytes, Trouble> {
        let refusal = Refusal::new(Reason::NotFound, "m", "absent");
        Err(Trouble::Absent(refusal))
    }

    fn ok(text: &str) -> Result<Bytes, Trouble> {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn merged(
        path: &str,
        chain: &str,
        answers: Vec<Result<Bytes, Trouble>>,
        known: Option<&str>,
    ) -> Result<(String, bool), Reason> {
        let chain: UpstreamChain = chain.parse().unwrap();
        let request = Request::parse(path).unwrap();
        let known = known.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        match merge(&request, chain.links(), answers, known.as_ref()) {
            Ok(merged) => {
                let text = String::from_utf8(merged.body.to_vec()).unwrap();
                Ok((text, merged.partial))
            }
            Err(walk) => Err(walk.verdict("m").reason),
        }
    }

    const LIST: &str = "/a.example/m/@v/list";
    const LATEST: &str = "/a.example/m/@latest";
    const COMMA: &str = "https://a.example,https://b.example";
    const BAR: &str = "https://a.example|https://b.example";

    #[test]
    fn lists_are_united_in_order_and_each_version_once() {
        let answers = vec![ok("v1.10.0\nv1.2.0\n"), ok("v1.2.0\nv1.9.0-rc.1\n")];
        let list = merged(LIST, COMMA, answers, None).unwrap();
        assert_eq!(list, ("v1.2.0\nv1.9.0-rc.1\nv1.10.0\n".to_owned(), false));
    }

    #[test]
    fn absence_at_one_is_no_absence_and_a_failure_is_borne_beside_a_bar_only() {
        let v1 = || ok("v1.0.0\n");
        let whole = |text: &str| Ok((text.to_owned(), false));
        let part = |text: &str| Ok((text.to_owned(), true));
        for (chain, answers, expected) in [
            (COMMA, vec![absent(), v1()], whole("v1.0.0\n")),
            (COMMA, vec![v1(), absent()], whole("v1.0.0\n")),
            (COMMA, vec![ok(""), absent()], whole("")),
            (COMMA, vec![absent(), absent()], Err(Reason::NotFound)),
            (COMMA, vec![failed(), v1()], Err(Reason::UpstreamStatus)),
            (COMMA, vec![v1(), failed()], Err(Reason::UpstreamStatus)),
            (BAR, vec![failed(), v1()], part("v1.0.0\n")),
            (BAR, vec![v1(), failed()], part("v1.0.0\n")),
            (BAR, vec![failed(), absent()], Err(Reason::UpstreamStatus)),
            (BAR, vec![failed(), failed()], Err(Reason::UpstreamStatus)),
        ] {
            let shown = format!("{chain} {answers:?}");
            assert_eq!(merged(LIST, chain, answers, None), expected, "{shown}");
        }
    }

    #[test]
    fn while_one_fails_no_version_vanishes() {
        let before = Some("v1.0.0\nv1.5.0\n");
        let partly = merged(LIST, BAR, vec![ok("v1.0.0\nv1.6.0\n"), failed()], before);
        assert_eq!(partly, Ok(("v1.0.0\nv1.5.0\nv1.6.0\n".to_owned(), true)));
        let wholly = merged(LIST, BAR, vec![ok("v1.6.0\n"), ok("")], before);
        assert_eq!(wholly, Ok(("v1.6.0\n".to_owned(), false)));
    }

    #[test]
    fn of_latest_the_highest_counts_and_releases_first() {
        let info = |version: &str| format!(r#"{{"Version":"{version}"}}"#);
        for (a, b, best) in [
            ("v1.9.0", "v1.10.0", "v1.10.0"),
            ("v1.0.0", "v1.1.0-rc.1", "v1.0.0"),
            (
                "v1.1.0-rc.1",
                "v1.2.1-0.20240506070809-0123456789ab",
                "v1.1.0-rc.1",
            ),
        ] {
            for (first, second) in [(a, b), (b, a)] {
                let answers = vec![ok(&info(first)), ok(&info(second))];
                let latest = merged(LATEST, COMMA, answers, None).unwrap();
                assert_eq!(latest.0, info(best));
            }
        }
    }

    proptest! {
        #[test]
        fn a_union_has_what_its_parts_have_and_nothing_else(
            lists in prop::collection::vec(
                prop::collection::vec("v[01]\\.[0-9]{1,2}\\.[0-9](-rc\\.[0-9])?", 0..8), 1..4),
        ) {
            let texts: Vec<Bytes> = lists.iter().map(|list| list.join("\n").into()).collect();
            let united = united(&texts);
            let text = std::str::from_utf8(&united).unwrap();
            let versions: Vec<Version> = text.lines().map(|line| line.parse().unwrap()).collect();
            prop_assert!(versions.windows(2).all(|two| two[0] < two[1]));
            let all: BTreeSet<Version> =
                lists.iter().flatten().filter_map(|version| version.parse().ok()).collect();
            prop_assert_eq!(versions, all.into_iter().collect::<Vec<_>>());
        }
    }
}
