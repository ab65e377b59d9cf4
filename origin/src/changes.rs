//! What is said to have changed: below which mount, and which modules.
//!
//! Three have to know. Answers in memory and on disk are doubted and asked for again
//! (`store::marks`, `fetch::refresh`); "not found" is forgotten; edges must ask us again. For these,
//! answers that may change, and every "not found", are tagged with their module and the paths above it
//! ([`tag_answer`]), so that one purge by tag ([`Changed::purge`]) concerns just those: a module and all
//! below it, and none of its files.
//!
//! [`Changes`] holds what the purge log hasn't taken yet: the same twice is once, and where there is
//! more than it has room for, it is everything.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue};
use modcdn_core::goproxy::{ModulePath, Prefix, Request};
use modcdn_core::headers::CACHE_TAG;
use modcdn_core::purge::{MAX_TAG, Mode, Purge, PurgeError, Selector};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many changes wait for the purge log.
const MOST: usize = 1000;

/// So many elements of a path, from its beginning, have tags of their own. Repositories lie higher.
const TAGGED_ELEMENTS: usize = 8;

/// A path is no longer than this, in bytes: escaped, and with its mount, it is a tag.
const MAX_BELOW: usize = 400;

/// A module's tags together are no longer than this, in bytes.
const MAX_TAGS: usize = 4096;

/// Modules of a mount that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Changed {
    pub(crate) mount: Prefix,
    /// That module and all below it.
    pub(crate) below: Below,
}

/// A path that modules have, or that lies above theirs: `!`-escaped, without slashes at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Below(Box<str>);

/// What the purge log hasn't taken yet.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changed: BTreeSet<Changed>,
    overflown: bool,
}

impl Below {
    /// Of a module, and all below it.
    pub(crate) fn module(module: &ModulePath) -> Self {
        Self(module.escaped().into())
    }

    /// Of a path that is as good as a module's: it need not have a `.vN` where one belongs.
    pub(crate) fn path(path: &str) -> Option<Self> {
        let (host, _) = path.split_once('/').unwrap_or((path, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        let fits = host.contains('.')
            && path.len() <= MAX_BELOW
            && path.chars().all(plain)
            && path
                .split('/')
                .all(|element| !element.is_empty() && element != "..");
        fits.then(|| Self(escaped(path).into()))
    }

    /// The same with something behind its last element.
    pub(crate) fn with(&self, suffix: &str) -> Self {
        Self(format!("{}{suffix}", self.0).into())
    }
}

impl std::fmt::Display for Below {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl Changed {
    /// What the paths of all that changed begin with.
    pub(crate) fn beginning(&self) -> String {
        format!("{}{}/", self.mount, self.below)
    }

    /// What edges are to ask us for again.
    ///
    /// # Errors
    /// Its tag can't be one.
    pub(crate) fn purge(&self) -> Result<Purge, PurgeError> {
        Ok(Purge {
            selector: Selector::tag(&tag(&self.mount, &self.below.0))?,
            mode: Mode::Soft,
        })
    }
}

fn tag(mount: &Prefix, below: &str) -> String {
    format!("changes:{mount}{below}")
}

/// Tags an answer with the module that it changes with.
pub(crate) fn tag_answer(headers: &mut HeaderMap, mount: &Prefix, request: &Request) {
    if let Some(tags) = request.module().and_then(|module| tags(mount, module)) {
        headers.insert(CACHE_TAG, tags);
    }
}

/// The value of `Cache-Tag` of what changes with that module; `None` if no header can say it.
fn tags(mount: &Prefix, module: &ModulePath) -> Option<HeaderValue> {
    let module = module.escaped();
    let ends = module.match_indices('/').map(|(at, _)| at);
    let above = ends.take(TAGGED_ELEMENTS).map(|end| &module[..end]);
    let mut tags = String::new();
    for path in std::iter::once(module.as_str()).chain(above) {
        let tag = tag(mount, path);
        if tag.len() > MAX_TAG || tags.len() + tag.len() > MAX_TAGS {
            continue;
        }
        if !tags.is_empty() {
            tags.push(',');
        }
        tags.push_str(&tag);
    }
    HeaderValue::try_from(tags).ok()
}

impl Changes {
    /// Something changed.
    pub(crate) fn put(&self, changed: Changed) {
        let mut waiting = self.waiting.lock();
        if waiting.changed.len() >= MOST {
            waiting.changed.clear();
            waiting.overflown = true;
        }
        if !waiting.overflown {
            waiting.changed.insert(changed);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Waits for changes and takes what edges are to ask us for again.
    pub(crate) async fn next(&self) -> Vec<Purge> {
        loop {
            let more = self.more.notified();
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if waiting.overflown {
                return vec![Purge {
                    selector: Selector::All,
                    mode: Mode::Soft,
                }];
            }
            if !waiting.changed.is_empty() {
                let purges = waiting.changed.iter();
                return purges.filter_map(|changed| changed.purge().ok()).collect();
            }
            more.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(mount: &str, path: &str) -> Changed {
        Changed {
            mount: mount.parse().unwrap(),
            below: Below::path(path).unwrap(),
        }
    }

    fn shown(purges: &[Purge]) -> Vec<String> {
        let shown = purges.iter().map(|purge| {
            assert_eq!(purge.mode, Mode::Soft);
            purge.selector.to_string()
        });
        shown.collect()
    }

    #[test]
    fn a_path_is_escaped_as_keys_are() {
        let burnt = changed("/team-a/", "github.com/BurntSushi/toml");
        assert_eq!(burnt.beginning(), "/team-a/github.com/!burnt!sushi/toml/");
        assert_eq!(changed("/", "a.example").beginning(), "/a.example/");
        for wrong in [
            "",
            "a",
            "localhost/x",
            "a.example//x",
            "a.example/../x",
            "a.example/é",
            "a.example/x y",
            "/a.example",
            "a.example/",
        ] {
            assert_eq!(Below::path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_changes_is_tagged_with_its_module_and_the_paths_above() {
        let module = "github.com/Acme/mono/sub".parse().unwrap();
        let tags = tags(&"/team-a/".parse().unwrap(), &module).unwrap();
        assert_eq!(
            tags.to_str().unwrap(),
            "changes:/team-a/github.com/!acme/mono/sub,changes:/team-a/github.com,\
             changes:/team-a/github.com/!acme,changes:/team-a/github.com/!acme/mono"
        );
    }

    #[tokio::test]
    async fn the_same_twice_is_once_and_too_much_is_everything() {
        let changes = Changes::default();
        for path in ["a.example/m", "a.example/m", "b.example"] {
            changes.put(changed("/", path));
        }
        assert_eq!(
            shown(&changes.next().await),
            ["tag changes:/a.example/m", "tag changes:/b.example"]
        );
        for n in 0..=MOST {
            changes.put(changed("/", &format!("a.example/m{n}")));
        }
        assert_eq!(shown(&changes.next().await), ["all"]);
        changes.put(changed("/", "a.example/m"));
        assert_eq!(changes.next().await.len(), 1);
    }

    proptest! {
        /// A purge of a path concerns just the modules at it and below it.
        #[test]
        fn tags_and_purges_agree(
            module in "[a-z]{1,2}\\.[a-z]{2}(/[A-Za-z0-9]{1,3}){0,5}",
            elements in 1usize..7,
            other in "[a-z]{1,2}\\.[a-z]{2}(/[A-Za-z0-9]{1,3}){0,3}",
        ) {
            let module = module.parse::<ModulePath>();
            prop_assume!(module.is_ok());
            let module = module.unwrap();
            let tags = tags(&Prefix::root(), &module).unwrap();
            let tags: Vec<&str> = tags.to_str().unwrap().split(',').collect();
            let path: Vec<&str> = module.as_str().split('/').take(elements).collect();
            for path in [path.join("/"), other] {
                let changed = changed("/", &path);
                let below = format!("{module}/").starts_with(&format!("{path}/"));
                let Selector::Tag(tag) = changed.purge().unwrap().selector else {
                    return Err(TestCaseError::fail("not a tag"));
                };
                prop_assert_eq!(tags.contains(&&*tag), below, "{} {:?}", tag, tags);
                let key = format!("/{}/@v/list", module.escaped());
                prop_assert_eq!(key.starts_with(&changed.beginning()), below);
            }
        }
    }
}
