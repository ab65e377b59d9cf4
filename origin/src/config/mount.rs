//! The section `mounts`: what is served below which prefix, and where it comes from.

use std::path::{Path, PathBuf};

use modcdn_core::goproxy::{ModulePath, Patterns, Prefix};
use serde::{Deserialize, Serialize};

use super::{Policy, Retention, Store, SumDb};
use crate::upstream::chain::{Upstream, UpstreamChain};

/// Modules below one prefix. Each mount has a tree of its own; the same module may be another one
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// Where it begins. The longest one that fits a path counts.
    pub prefix: Prefix,
    /// Whom to ask for what isn't stored.
    pub upstream: UpstreamChain,
    /// Whose lists of versions and `@latest` count.
    pub lists: Lists,
    /// Which modules are private, as `GOPRIVATE` has them: the checksum database is never asked
    /// about them.
    pub private: Patterns,
    /// Whom to ask for private modules that aren't stored; nobody else hears of them.
    pub private_upstream: UpstreamChain,
    /// Which checksum database vouches for all others.
    pub sumdb: SumDb,
    /// Which modules and versions are given out.
    pub policy: Policy,
    /// What is removed from its part of the store.
    pub retention: Option<Retention>,
}

/// Whose lists of versions and `@latest` count, where several upstreams have the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lists {
    /// Those of the first in the chain that has it, as the go command does it.
    #[default]
    First,
    /// Those of all, put together.
    Merge,
}

impl Default for Mount {
    fn default() -> Self {
        Self::at_root(UpstreamChain::off())
    }
}

impl Mount {
    /// A mount at `/`.
    #[must_use]
    pub fn at_root(upstream: UpstreamChain) -> Self {
        Self {
            prefix: Prefix::root(),
            upstream,
            lists: Lists::First,
            private: Patterns::default(),
            private_upstream: UpstreamChain::direct(),
            sumdb: SumDb::default(),
            policy: Policy::default(),
            retention: None,
        }
    }

    /// Whether what is removed of a module can be fetched again for sure: public proxies keep what
    /// they have, and private repositories vanish.
    #[must_use]
    pub fn can_fetch(&self, module: &ModulePath) -> bool {
        let mut links = self.upstream.links().iter();
        !self.private.matches(module) && links.any(|link| link.upstream != Upstream::Off)
    }

    /// Every upstream that may be asked.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let private = (!self.private.is_empty()).then(|| self.private_upstream.links());
        let all = self
            .upstream
            .links()
            .iter()
            .chain(private.unwrap_or_default());
        all.map(|link| &link.upstream)
    }

    /// The mount's folder in the store.
    #[must_use]
    pub fn folder(&self, store: &Path) -> PathBuf {
        if self.prefix.is_root() {
            return store.to_owned();
        }
        store.join(self.prefix.folder())
    }

    /// The mount's part of the store: a folder below its folder, keys below its keys.
    #[must_use]
    pub fn store(&self, store: &Store) -> Store {
        let mut own = store.clone();
        own.dir = self.folder(&store.dir);
        if let Some(s3) = own.s3.as_mut().filter(|_| !self.prefix.is_root()) {
            let keys = self.folder(Path::new(&s3.prefix));
            s3.prefix = keys.to_string_lossy().into_owned();
        }
        own
    }
}

/// What must hold of the mounts, one by one and together.
pub(super) fn check(mounts: &[Mount], store: &Path, require: &mut impl FnMut(bool, &str, &str)) {
    require(!mounts.is_empty(), "mounts", "needs at least one mount");
    for (at, mount) in mounts.iter().enumerate() {
        let prefix = &mount.prefix;
        let key = format!("mounts[{at}]");
        require(
            mounts[..at].iter().all(|other| other.prefix != *prefix),
            &format!("{key}.prefix"),
            &format!("{prefix} is mounted twice"),
        );
        if let Some(retention) = &mount.retention {
            retention.check(&format!("{key}.retention"), require);
        }
        let folder = mount.folder(store);
        // A store that is its own upstream would take its own gaps for upstream's word.
        let is_store = |upstream: &Upstream| matches!(upstream, Upstream::File(f) if *f == folder);
        require(
            !mount.upstreams().any(is_store),
            &format!("{key}.upstream"),
            &format!(
                "{} is the mount's own store: use another folder, or \"off\" as upstream",
                folder.display()
            ),
        );
        mount.sumdb.check(&format!("{key}.sumdb"), require);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::S3;

    #[test]
    fn a_mount_has_its_part_of_the_store() {
        let team = Mount {
            prefix: "/team-a/go/".parse().unwrap(),
            ..Mount::default()
        };
        let store = |prefix: &str| Store {
            dir: "/srv".into(),
            s3: Some(S3 {
                prefix: prefix.to_owned(),
                ..S3::default()
            }),
            ..Store::default()
        };
        for (prefix, own) in [("", "team-a/go"), ("x/y", "x/y/team-a/go")] {
            let part = team.store(&store(prefix));
            assert_eq!(part.dir, PathBuf::from("/srv/team-a/go"));
            assert_eq!(part.s3.unwrap().prefix, own);
            assert_eq!(Mount::default().store(&store(prefix)), store(prefix));
        }
    }
}
