//! Which mount a path belongs to. Pure.

use crate::config::mounts::{MountConfig, MountKind};

/// The mounts' prefixes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts {
    /// The longest first.
    routes: Vec<(String, Mount)>,
}

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Of modules.
    Modules,
    /// Of the plain HTTP mount with that number.
    Http(usize),
}

impl Mounts {
    pub(crate) fn new(mounts: &[MountConfig]) -> Self {
        let mut number = 0;
        let mut routes: Vec<_> = mounts
            .iter()
            .map(|mount| {
                let of = match mount.kind {
                    MountKind::Modules => Mount::Modules,
                    MountKind::Http => {
                        number += 1;
                        Mount::Http(number - 1)
                    }
                };
                (mount.prefix.clone(), of)
            })
            .collect();
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { routes }
    }

    /// Everything is modules.
    #[cfg(test)]
    pub(crate) fn modules() -> Self {
        Self::new(&crate::config::mounts::default_mounts())
    }

    /// Whose a path in its normal form is.
    pub(crate) fn of(&self, path: &str) -> Option<Mount> {
        let route = self
            .routes
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix.as_str()));
        route.map(|(_, mount)| *mount)
    }

    /// Whether there is any plain HTTP.
    pub(crate) fn has_http(&self) -> bool {
        self.routes
            .iter()
            .any(|(_, mount)| *mount != Mount::Modules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let yaml = "[{prefix: /, kind: modules},
            {prefix: /dl/, kind: http, origin: 'http://a'},
            {prefix: /dl/x/, kind: http, origin: 'http://b'}]";
        let mounts = Mounts::new(&serde_yaml::from_str::<Vec<MountConfig>>(yaml).unwrap());
        for (path, mount) in [
            ("/example.com/m/@v/list", Mount::Modules),
            ("/dl", Mount::Modules),
            ("/dl/", Mount::Http(0)),
            ("/dl/y", Mount::Http(0)),
            ("/dl/x/y?z", Mount::Http(1)),
        ] {
            assert_eq!(mounts.of(path), Some(mount), "{path}");
        }
        let only = &serde_yaml::from_str::<Vec<MountConfig>>(yaml).unwrap()[1..];
        assert_eq!(Mounts::new(only).of("/other"), None);
        assert!(Mounts::new(only).has_http() && !Mounts::modules().has_http());
    }
}
