//! The branches and tags of a repository, as `git ls-remote` tells them. Pure.
//!
//! Names that git itself would not let anyone fetch are left out, so that no name can be taken for
//! a pattern, an option or a path.

use std::collections::BTreeMap;
use std::fmt;

use modcdn_core::digest::Sha256;

/// The name of a commit: 40 (SHA-1) or 64 (SHA-256) hexadecimal digits in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit(Box<str>);

impl Commit {
    /// `None` if it is anything else.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (matches!(text.len(), 40 | 64) && is_hex(text)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the repository's names are SHA-256.
    pub(crate) fn is_sha256(&self) -> bool {
        self.0.len() == 64
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is of lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `HEAD`, `refs/heads/…` and `refs/tags/…`, each with its commit. A tag that is an object of its own
/// (an annotated one) counts as the commit that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refs(BTreeMap<String, Commit>);

const TAGS: &str = "refs/tags/";
const HEADS: &str = "refs/heads/";

impl Refs {
    /// Reads what `git ls-remote` prints.
    pub(crate) fn parse(text: &str) -> Self {
        let mut all = BTreeMap::new();
        let mut peeled = Vec::new();
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(commit), Some(name), None) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Some(commit) = Commit::new(commit) else {
                continue;
            };
            match name.strip_suffix("^{}") {
                Some(name) if is_ours(name) => peeled.push((name.to_owned(), commit)),
                None if is_ours(name) => drop(all.insert(name.to_owned(), commit)),
                _ => {}
            }
        }
        all.extend(peeled);
        Self(all)
    }

    /// A digest of all of them.
    pub(crate) fn digest(&self) -> Sha256 {
        let lines: Vec<String> = self
            .iter()
            .map(|(name, c)| format!("{c} {name}\n"))
            .collect();
        Sha256::of(lines.concat().as_bytes())
    }

    /// The commit of a tag.
    pub(crate) fn tag(&self, tag: &str) -> Option<&Commit> {
        self.0.get(&format!("{TAGS}{tag}"))
    }

    pub(crate) fn branch(&self, branch: &str) -> Option<&Commit> {
        self.0.get(&format!("{HEADS}{branch}"))
    }

    pub(crate) fn head(&self) -> Option<&Commit> {
        self.0.get("HEAD")
    }

    /// All of them, by full name, in its order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Commit)> {
        self.0.iter().map(|(name, commit)| (name.as_str(), commit))
    }

    /// The tags whose names begin so, in the order of their names.
    pub(crate) fn tags<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Commit)> {
        let from = format!("{TAGS}{prefix}");
        self.0
            .range(from.clone()..)
            .take_while(move |(name, _)| name.starts_with(&from))
            .filter_map(|(name, commit)| Some((name.strip_prefix(TAGS)?, commit)))
    }

    /// The tags of a commit, in the order of their names.
    pub(crate) fn tags_of<'a>(&'a self, commit: &'a Commit) -> impl Iterator<Item = &'a str> {
        let tags = self.tags("");
        tags.filter(move |(_, of)| *of == commit)
            .map(|(tag, _)| tag)
    }

    /// A name by which a commit can be fetched; a branch or tag rather than `HEAD`.
    pub(crate) fn name_of(&self, commit: &Commit) -> Option<&str> {
        let mut names = self.iter().filter(|(_, of)| *of == commit);
        let first = names.next()?.0;
        if first == "HEAD" {
            return Some(names.next().map_or(first, |(name, _)| name));
        }
        Some(first)
    }
}

fn is_ours(name: &str) -> bool {
    name == "HEAD" || (name.starts_with(HEADS) || name.starts_with(TAGS)) && is_well_formed(name)
}

/// By the rules of `git check-ref-format`.
fn is_well_formed(name: &str) -> bool {
    let bad = |b: u8| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b);
    let bad_element = |element: &str| {
        element.is_empty() || element.starts_with('.') || element.ends_with(".lock")
    };
    !name.bytes().any(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.split('/').any(bad_element)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants {
    use super::*;

    /// Anything can be read; no name that is let through can be taken for a pattern, an option, a
    /// path upwards or two names; and what was read prints as it reads.
    ///
    /// # Panics
    /// If that isn't so.
    pub fn refs(text: &str) {
        let read = Refs::parse(text);
        for (name, _) in read.iter() {
            assert!(
                name == "HEAD" || name.starts_with("refs/heads/") || name.starts_with("refs/tags/")
            );
            assert!(!name.contains([' ', ':', '*', '?', '[', '^', '~', '\\', '\n', '\0']));
            assert!(!name.contains("..") && !name.contains("//"));
        }
        let lines: Vec<String> = read
            .iter()
            .map(|(name, c)| format!("{c}\t{name}\n"))
            .collect();
        assert_eq!(Refs::parse(&lines.concat()), read);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn refs(names: &[(&str, &str)]) -> Refs {
        let lines: Vec<String> = names.iter().map(|(c, n)| format!("{c}\t{n}\n")).collect();
        Refs::parse(&lines.concat())
    }

    #[test]
    fn an_annotated_tag_is_its_commit() {
        let refs = refs(&[
            (A, "refs/tags/v1.0.0"),
            (B, "refs/tags/v1.0.0^{}"),
            (A, "HEAD"),
        ]);
        assert_eq!(refs.tag("v1.0.0").map(Commit::as_str), Some(B));
        assert_eq!(refs.head().map(Commit::as_str), Some(A));
    }

    #[test]
    fn tags_are_found_by_their_beginning_and_by_their_commit() {
        let refs = refs(&[
            (A, "refs/heads/main"),
            (A, "refs/tags/sub/v1.0.0"),
            (B, "refs/tags/sub/v2.0.0"),
            (A, "refs/tags/subs/v1.0.0"),
            (A, "refs/tags/v1.0.0"),
        ]);
        let tags: Vec<&str> = refs.tags("sub/").map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["sub/v1.0.0", "sub/v2.0.0"]);
        let commit = Commit::new(A).unwrap();
        let tags: Vec<&str> = refs.tags_of(&commit).collect();
        assert_eq!(tags, ["sub/v1.0.0", "subs/v1.0.0", "v1.0.0"]);
    }

    #[test]
    fn a_commit_is_fetched_by_a_branch_rather_than_by_head() {
        let commit = Commit::new(A).unwrap();
        let both = refs(&[(A, "HEAD"), (A, "refs/heads/main")]);
        assert_eq!(both.name_of(&commit), Some("refs/heads/main"));
        assert_eq!(refs(&[(A, "HEAD")]).name_of(&commit), Some("HEAD"));
        assert_eq!(refs(&[(B, "HEAD")]).name_of(&commit), None);
    }

    #[test]
    fn names_that_mean_something_else_are_left_out() {
        for name in [
            "refs/tags/*",
            "refs/tags/a:refs/heads/b",
            "refs/tags/../x",
            "refs/tags/a..b",
            "refs/tags/.x",
            "refs/tags/x.lock",
            "refs/tags/x.lock/y",
            "refs/tags/a//b",
            "refs/tags/",
            "refs/tags/x.",
            "refs/tags/@{x",
            "refs/tags/a\\b",
            "refs/tags/a^",
            "refs/pull/1/head",
            "--upload-pack=x",
            "HEADS",
        ] {
            assert_eq!(refs(&[(A, name)]), Refs::default(), "{name}");
        }
        assert!(
            refs(&[(A, "refs/tags/--upload-pack=x")])
                .tag("--upload-pack=x")
                .is_some()
        );
        assert_eq!(
            refs(&[("abc", "HEAD"), (&A.to_uppercase(), "HEAD")]),
            Refs::default()
        );
    }

    proptest! {
        #[test]
        fn anything_can_be_read(
            lines in proptest::collection::vec(
                "([ab]{40}|[ab]{64}|x)[ \t](HEAD|refs/(heads|tags)/(\\PC|[a./*:@{-]){0,12})(\\^\\{\\})?",
                0..6,
            ),
        ) {
            invariants::refs(&lines.join("\n"));
        }
    }
}
