//! The section `mounts`: what is served below which prefix, and where it comes from.

use std::path::{Path, PathBuf};

use modcdn_core::goproxy::{Patterns, Prefix};
use serde::{Deserialize, Serialize};

use super::{Policy, SumDb};
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
        }
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
