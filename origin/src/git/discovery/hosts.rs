//! What a module path alone says about its repository, by the go command's rules. Pure.
//!
//! Some hosts are known (`github.com/owner/repository/…`), and a path element may end in the name of
//! a version control system (`git.example/team/lib.git/sub`). All other modules are asked about
//! where their path points to.

/// Version control systems, as import paths and `go-import` tags name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Vcs {
    Git,
    Bazaar,
    Fossil,
    Mercurial,
    Subversion,
}

impl Vcs {
    const ALL: [Self; 5] = [
        Self::Git,
        Self::Bazaar,
        Self::Fossil,
        Self::Mercurial,
        Self::Subversion,
    ];

    /// The short name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Bazaar => "bzr",
            Self::Fossil => "fossil",
            Self::Mercurial => "hg",
            Self::Subversion => "svn",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vcs| vcs.name() == name)
    }
}

/// What the path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says<'a> {
    /// Where the repository is.
    At {
        root: &'a str,
        url: String,
        vcs: Vcs,
    },
    /// Where it is, but for the scheme: whichever answers.
    Somewhere {
        root: &'a str,
        /// `host/path`.
        place: &'a str,
        vcs: Vcs,
    },
    /// That there can't be such a module.
    Impossible(String),
    /// Nothing.
    Nothing,
}

/// A host whose paths are known.
struct Host {
    prefix: &'static str,
    /// How many elements after the prefix name the repository.
    depth: usize,
    vcs: Vcs,
    /// Whether elements after the repository's may follow.
    deeper: bool,
    /// What the repository's own name must be.
    name: fn(&str) -> bool,
}

const HOSTS: &[Host] = &[
    Host {
        prefix: "github.com",
        depth: 2,
        vcs: Vcs::Git,
        deeper: true,
        name: has_no_vcs_suffix,
    },
    Host {
        prefix: "bitbucket.org",
        depth: 2,
        vcs: Vcs::Git,
        deeper: true,
        name: has_no_vcs_suffix,
    },
    Host {
        prefix: "hub.jazz.net/git",
        depth: 2,
        vcs: Vcs::Git,
        deeper: true,
        name: has_no_vcs_suffix,
    },
    Host {
        prefix: "git.apache.org",
        depth: 1,
        vcs: Vcs::Git,
        deeper: true,
        name: |name| name.len() > 4 && name.ends_with(".git"),
    },
    Host {
        prefix: "git.openstack.org",
        depth: 2,
        vcs: Vcs::Git,
        deeper: true,
        name: |_| true,
    },
    Host {
        prefix: "chiselapp.com/user",
        depth: 3,
        vcs: Vcs::Fossil,
        deeper: false,
        name: |_| true,
    },
];

/// See the module.
pub(crate) fn says(path: &str) -> Says<'_> {
    for host in HOSTS {
        if let Some(rest) = path.strip_prefix(host.prefix)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return host.says(path);
        }
    }
    by_suffix(path)
}

impl Host {
    fn says<'a>(&self, path: &'a str) -> Says<'a> {
        let depth = self.prefix.split('/').count() + self.depth;
        let Some((root, rest)) = cut(path, depth) else {
            return self.impossible(path);
        };
        let below = &path[self.prefix.len() + 1..];
        let name = root.rsplit('/').next().unwrap_or_default();
        let elements_fit = below.split('/').all(is_plain);
        if !elements_fit || !(self.name)(name) || !(self.deeper || rest.is_empty()) {
            return self.impossible(path);
        }
        Says::At {
            root,
            url: format!("https://{root}"),
            vcs: self.vcs,
        }
    }

    fn impossible(&self, path: &str) -> Says<'static> {
        Says::Impossible(format!(
            "{path} is in no repository of {}: their paths have other elements",
            self.prefix
        ))
    }
}

/// The first element but the host's that ends in the name of a system ends the repository's path.
fn by_suffix(path: &str) -> Says<'_> {
    let mut end = 0;
    for (at, element) in path.split('/').enumerate() {
        end += element.len() + usize::from(at > 0);
        let plain = element.strip_prefix('~').unwrap_or(element);
        if at == 0 {
            continue;
        }
        if !is_plain(plain) {
            return Says::Nothing;
        }
        let (Some((name, suffix)), true) = (element.rsplit_once('.'), at > 0) else {
            continue;
        };
        let Some(vcs) = Vcs::of(suffix).filter(|_| !matches!(name, "" | "~")) else {
            continue;
        };
        let root = &path[..end];
        let rest = path[end..].split('/').skip(1);
        let rest_fits = rest.map(|e| e.strip_prefix('~').unwrap_or(e)).all(is_plain);
        if !rest_fits {
            return Says::Nothing;
        }
        return Says::Somewhere {
            root,
            place: &root[..root.len() - suffix.len() - 1],
            vcs,
        };
    }
    Says::Nothing
}

/// The first `depth` elements, and the rest with its slash.
fn cut(path: &str, depth: usize) -> Option<(&str, &str)> {
    let end = match path.match_indices('/').nth(depth - 1) {
        Some((at, _)) => at,
        None if path.split('/').count() == depth => path.len(),
        None => return None,
    };
    Some(path.split_at(end))
}

fn is_plain(element: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    !element.is_empty() && element.bytes().all(allowed)
}

/// `github.com/owner/name.git` is a slip for `github.com/owner/name`.
fn has_no_vcs_suffix(name: &str) -> bool {
    let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix);
    suffix.and_then(Vcs::of).is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(path: &str) -> Option<(String, String, Vcs)> {
        match says(path) {
            Says::At { root, url, vcs } => Some((root.to_owned(), url, vcs)),
            _ => None,
        }
    }

    #[test]
    fn known_hosts_have_their_repositories_where_they_are_known_to() {
        for (path, root, vcs) in [
            ("github.com/a/b", "github.com/a/b", Vcs::Git),
            ("github.com/a/b/c/v2", "github.com/a/b", Vcs::Git),
            ("bitbucket.org/a/b.c/d", "bitbucket.org/a/b.c", Vcs::Git),
            ("hub.jazz.net/git/a/b/c", "hub.jazz.net/git/a/b", Vcs::Git),
            ("git.apache.org/x.git/y", "git.apache.org/x.git", Vcs::Git),
            (
                "git.openstack.org/a/b.git/c",
                "git.openstack.org/a/b.git",
                Vcs::Git,
            ),
            (
                "chiselapp.com/user/a/repository/b",
                "chiselapp.com/user/a/repository/b",
                Vcs::Fossil,
            ),
        ] {
            let expected = (root.to_owned(), format!("https://{root}"), vcs);
            assert_eq!(at(path), Some(expected), "{path}");
        }
        for path in [
            "github.com/a",
            "github.com",
            "github.com/a/b.git",
            "github.com/a/b.git/c",
            "github.com/a/~b",
            "git.apache.org/x",
            "chiselapp.com/user/a/repository/b/c",
        ] {
            assert!(matches!(says(path), Says::Impossible(_)), "{path}");
        }
        assert_eq!(says("github.community/a"), Says::Nothing);
    }

    #[test]
    fn an_element_may_end_in_the_systems_name() {
        for (path, root, place, vcs) in [
            (
                "a.example/x.git",
                "a.example/x.git",
                "a.example/x",
                Vcs::Git,
            ),
            (
                "a.example/x/y.git/z.git/v2",
                "a.example/x/y.git",
                "a.example/x/y",
                Vcs::Git,
            ),
            (
                "a.example/~me/x.git",
                "a.example/~me/x.git",
                "a.example/~me/x",
                Vcs::Git,
            ),
            (
                "a.example/x.hg",
                "a.example/x.hg",
                "a.example/x",
                Vcs::Mercurial,
            ),
        ] {
            assert_eq!(says(path), Says::Somewhere { root, place, vcs }, "{path}");
        }
        for path in [
            "a.example/x",
            "git.git/x",
            "a.example/.git",
            "a.example/x.git2",
            "a.example",
        ] {
            assert_eq!(says(path), Says::Nothing, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_root_is_whole_elements_of_the_path(path in "(github.com|a.b)(/[a-z~.]{1,6}(\\.git)?){0,5}") {
            if let Says::At { root, .. } | Says::Somewhere { root, .. } = says(&path) {
                let rest = path.strip_prefix(root);
                prop_assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
            }
        }
    }
}
