//! One module's versions, as a walk finds them.

use std::collections::BTreeMap;
use std::io;
use std::time::SystemTime;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use modcdn_core::goproxy::{ModulePath, Version};

use crate::store::shelf::Entry;

/// A module's versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) module: ModulePath,
    pub(super) versions: BTreeMap<Version, Held>,
}

/// What there is of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    /// When its youngest file was put there.
    pub(super) stored: SystemTime,
}

impl Group {
    fn new(module: ModulePath) -> Self {
        Self {
            module,
            versions: BTreeMap::new(),
        }
    }

    fn add(&mut self, version: Version, entry: &Entry) {
        let held = self.versions.entry(version).or_insert(Held {
            bytes: 0,
            stored: entry.modified,
        });
        held.bytes += entry.len;
        held.stored = held.stored.max(entry.modified);
    }
}

/// What a version's files are called behind its name.
const SUFFIXES: [&str; 8] = [
    ".info",
    ".mod",
    ".zip",
    ".ziphash",
    ".lock",
    ".info.sha256",
    ".mod.sha256",
    ".zip.sha256",
];

/// Whose file lies there; `None` for a `list` and for what isn't ours.
pub(super) fn owner(place: &str) -> Option<(ModulePath, Version)> {
    let (module, file) = place.rsplit_once("/@v/")?;
    let version = SUFFIXES.iter().find_map(|suffix| file.strip_suffix(suffix));
    let version = Version::from_escaped(version?).ok()?;
    Some((ModulePath::from_escaped(module).ok()?, version))
}

/// Puts together what belongs together: a walk gives a module's files one after the other.
pub(super) fn groups(
    entries: BoxStream<'static, io::Result<Entry>>,
) -> impl Stream<Item = io::Result<Group>> {
    let start = (entries.fuse(), None::<Group>);
    stream::unfold(start, |(mut entries, mut group)| async move {
        loop {
            let entry = match entries.next().await {
                None => return group.map(|group| (Ok(group), (entries, None))),
                Some(Err(error)) => return Some((Err(error), (entries, group))),
                Some(Ok(entry)) => entry,
            };
            let Some((module, version)) = owner(&entry.place) else {
                continue;
            };
            if let Some(group) = group.as_mut().filter(|group| group.module == module) {
                group.add(version, &entry);
                continue;
            }
            let mut next = Group::new(module);
            next.add(version, &entry);
            if let Some(done) = group.replace(next) {
                return Some((Ok(done), (entries, group)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn entry(place: &str, len: u64, at: u64) -> io::Result<Entry> {
        Ok(Entry {
            place: place.to_owned(),
            len,
            modified: UNIX_EPOCH + Duration::from_secs(at),
        })
    }

    #[tokio::test]
    async fn a_modules_files_are_put_together_by_version() {
        let entries = [
            entry("a.example/!m/@v/v1.0.0.zip", 10, 5),
            entry("a.example/!m/@v/list", 1000, 5),
            entry("a.example/!m/@v/v1.0.0.zip.sha256", 2, 9),
            entry("a.example/!m/@v/v1.1.0.info", 3, 1),
            Err(io::Error::other("x")),
            entry("a.example/b/@v/v1.0.0.mod", 7, 1),
            entry("sumdb/x/tile/8/0/000", 7, 1),
        ];
        let entries = stream::iter(entries).boxed();
        let found: Vec<_> = groups(entries).collect().await;
        let names = |group: &Group| {
            let versions = group.versions.iter();
            let all = versions.map(|(v, held)| format!("{} {}", v.as_str(), held.bytes));
            (group.module.as_str().to_owned(), all.collect::<Vec<_>>())
        };
        assert!(found[0].is_err());
        let (m, b) = (found[1].as_ref().unwrap(), found[2].as_ref().unwrap());
        assert_eq!(
            names(m),
            (
                "a.example/M".into(),
                vec!["v1.0.0 12".into(), "v1.1.0 3".into()]
            )
        );
        assert_eq!(names(b), ("a.example/b".into(), vec!["v1.0.0 7".into()]));
        let stored = m.versions.values().next().unwrap().stored;
        assert_eq!(stored, UNIX_EPOCH + Duration::from_secs(9));
    }
}
