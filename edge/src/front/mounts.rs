//! Which mount a path belongs to. Pure.

use modcdn_core::goproxy::Prefix;

use crate::config::mounts::{MountConfig, MountKind};

/// The mounts' prefixes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts {
    /// The longest first.
    routes: Vec<(String, Mount)>,
}

/// Whose a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Of modules, below that prefix.
    Modules(Prefix),
    /// Of the plain HTTP mount with that number.
    Http(usize),
}

impl Mounts {
    /// Of mounts that were checked: a prefix of modules that is none is left out.
    pub(crate) fn new(mounts: &[MountConfig]) -> Self {
        let mut number = 0..;
        let mut mount = |config: &MountConfig| match config.kind {
            MountKind::Modules => config.prefix.parse().ok().map(Mount::Modules),
            MountKind::Http => number.next().map(Mount::Http),
        };
        let mut routes: Vec<_> = mounts
            .iter()
            .filter_map(|config| Some((config.prefix.clone(), mount(config)?)))
            .collect();
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { routes }
    }

    /// Everything is modules.
    #[cfg(test)]
    pub(crate) fn modules() -> Self {
        Self::new(&crate::config::mounts::default_mounts())
    }

    /// Whose a path is; where there is plain HTTP, a path in its normal form.
    pub(crate) fn of(&self, path: &str) -> Option<&Mount> {
        let route = self
            .routes
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix.as_str()));
        route.map(|(_, mount)| mount)
    }

    /// Whether there is any plain HTTP.
    pub(crate) fn has_http(&self) -> bool {
        let mut mounts = self.routes.iter();
        mounts.any(|(_, mount)| matches!(mount, Mount::Http(_)))
    }

    /// The prefixes of modules.
    pub(crate) fn of_modules(&self) -> impl Iterator<Item = &Prefix> {
        self.routes.iter().filter_map(|(_, mount)| match mount {
            Mount::Modules(prefix) => Some(prefix),
            Mount::Http(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let yaml = "[{prefix: /, kind: modules},
            {prefix: /dl/, kind: http, origin: 'http://a'},
            {prefix: /team-a/, kind: modules},
            {prefix: /dl/x/, kind: http, origin: 'http://b'}]";
        let mounts = Mounts::new(&serde_yaml::from_str::<Vec<MountConfig>>(yaml).unwrap());
        let modules = |prefix: &str| Mount::Modules(prefix.parse().unwrap());
        for (path, mount) in [
            ("/example.com/m/@v/list", modules("/")),
            ("/team-a/example.com/m/@v/list", modules("/team-a/")),
            ("/team-ab/example.com/m/@v/list", modules("/")),
            ("/dl", modules("/")),
            ("/dl/", Mount::Http(0)),
            ("/dl/y", Mount::Http(0)),
            ("/dl/x/y?z", Mount::Http(1)),
        ] {
            assert_eq!(mounts.of(path), Some(&mount), "{path}");
        }
        let only = &serde_yaml::from_str::<Vec<MountConfig>>(yaml).unwrap()[1..];
        assert_eq!(Mounts::new(only).of("/other"), None);
        assert!(Mounts::new(only).has_http() && !Mounts::modules().has_http());
        assert_eq!(Mounts::modules().of_modules().count(), 1);
    }
}
