//! An answer as selectors see it: the names that a purge of each kind may know it by.

use super::version_name;
use crate::goproxy::Prefix;

/// Between a key and its variant's name.
const VARIANT: char = '\t';

/// An answer that a purge may concern.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The store's key without the variant.
    key: &'a str,
    tags: Tags<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Tags<'a> {
    /// The answer's head isn't here yet: it may be tagged with anything.
    Unknown,
    /// The value of `Cache-Tag`.
    Known(&'a [u8]),
}

/// A module as a key names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The mount's prefix without the slash at its end.
    mount: &'a str,
    /// Escaped.
    module: &'a str,
    /// Escaped; absent if the answer isn't about one version.
    version: Option<&'a str>,
}

impl Named<'_> {
    /// The names by which purges of modules may know it: in all mounts, and in its own.
    #[must_use]
    pub fn modules(&self) -> [String; 2] {
        let Self { mount, module, .. } = self;
        [(*module).to_owned(), format!("{mount}/{module}")]
    }

    /// The same for purges of versions.
    #[must_use]
    pub fn versions(&self) -> Option<[String; 2]> {
        let version = self.version?;
        Some(self.modules().map(|module| version_name(&module, version)))
    }
}

impl<'a> Subject<'a> {
    /// The answer of that key whose `Cache-Tag` has that value.
    #[must_use]
    pub fn new(key: &'a str, tags: &'a [u8]) -> Self {
        Self {
            key: base(key),
            tags: Tags::Known(tags),
        }
    }

    /// The answer of that key that isn't here yet.
    #[must_use]
    pub fn awaited(key: &'a str) -> Self {
        Self {
            key: base(key),
            tags: Tags::Unknown,
        }
    }

    /// The store's key without the variant.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// The module that the answer is about, if it is about one.
    #[must_use]
    pub fn module(&self) -> Option<Named<'a>> {
        let (mount, path) = Prefix::split(self.key);
        let path = path.strip_prefix('/')?;
        if let Some(sumdb) = path.strip_prefix("sumdb/") {
            // No element of a database's name is `lookup`.
            let (_, asked) = sumdb.split_once("/lookup/")?;
            let (module, version) = asked.split_once('@')?;
            let version = Some(version);
            return Some(Named {
                mount,
                module,
                version,
            });
        }
        // No module path has an '@'.
        let (module, call) = path.split_once("/@")?;
        let version = call.strip_prefix("v/").and_then(|file| {
            let (version, extension) = file.rsplit_once('.')?;
            matches!(extension, "info" | "mod" | "zip").then_some(version)
        });
        Some(Named {
            mount,
            module,
            version,
        })
    }

    /// The path and each path above it, without the query.
    pub fn prefixes(&self) -> impl Iterator<Item = &'a str> {
        let path = self.key.split('?').next().unwrap_or_default();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        ends.chain([path.len()]).map(|end| &path[..end])
    }

    /// The tags, if they are known.
    pub fn tags(&self) -> Option<impl Iterator<Item = &'a str>> {
        match self.tags {
            Tags::Unknown => None,
            Tags::Known(field) => {
                let tags = field.split(|byte| *byte == b',');
                let tags = tags.filter_map(|tag| std::str::from_utf8(tag.trim_ascii()).ok());
                Some(tags.filter(|tag| !tag.is_empty()))
            }
        }
    }
}

fn base(key: &str) -> &str {
    key.split(VARIANT).next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::goproxy::{ModulePath, Request, Version};

    fn subject(key: &str) -> Subject<'_> {
        Subject::new(key, b"")
    }

    #[test]
    fn keys_name_their_mount_module_and_version() {
        let upper = "a.b/!upper";
        for (key, expected) in [
            ("/a.b/!upper/@v/list", Some(("", None))),
            ("/a.b/!upper/@latest", Some(("", None))),
            (
                "/a.b/!upper/@v/v1.0.0-!r!c.info",
                Some(("", Some("v1.0.0-!r!c"))),
            ),
            ("/a.b/!upper/@v/v1.0.0.zip", Some(("", Some("v1.0.0")))),
            (
                "/sumdb/sum.example.com/lookup/a.b/!upper@v1.0.0",
                Some(("", Some("v1.0.0"))),
            ),
            ("/team-a/a.b/!upper/@v/list", Some(("/team-a", None))),
            (
                "/eu/b/a.b/!upper/@v/v1.0.0.zip",
                Some(("/eu/b", Some("v1.0.0"))),
            ),
            (
                "/team-a/sumdb/sum.example.com/lookup/a.b/!upper@v1.0.0",
                Some(("/team-a", Some("v1.0.0"))),
            ),
            ("/sumdb/sum.example.com/latest", None),
            ("/team-a/sumdb/sum.example.com/tile/8/0/000", None),
            ("/static/app.js?x=1", None),
            ("", None),
        ] {
            let named = subject(key).module();
            let expected = expected.map(|(mount, version)| Named {
                mount,
                module: upper,
                version,
            });
            assert_eq!(named, expected, "{key}");
        }
    }

    #[test]
    fn prefixes_end_between_elements_and_before_the_query() {
        let of = |key| subject(key).prefixes().collect::<Vec<_>>();
        assert_eq!(of("/a/b/c"), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(of("/a?x=/y/z"), ["/a"]);
        assert_eq!(of("/a/\tgzip"), ["/a", "/a/"]);
    }

    #[test]
    fn tags_are_separated_by_commas() {
        let subject = Subject::new("/a", b" x, ,y,\xff,z ");
        assert_eq!(subject.tags().unwrap().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert!(Subject::awaited("/a").tags().is_none());
    }

    #[test]
    fn a_variant_is_its_keys_answer() {
        assert_eq!(subject("/a\tgzip").key(), "/a");
    }

    proptest! {
        #[test]
        fn module_and_version_are_those_that_the_grammar_finds(
            module in "[a-z]{1,3}\\.[a-z]{1,3}/[A-Za-z]{1,4}",
            version in "v1\\.[0-9]\\.[0-9](-[A-Za-z]{1,3})?",
            mount in "(/[a-z0-9][a-z0-9_-]{0,5}){0,2}/",
            call in prop::sample::select(vec!["@v/list", "@latest", "info", "mod", "zip", "lookup"]),
        ) {
            // Some are names that no module may have: `aux`, `con`.
            let module = module.parse::<ModulePath>();
            let mount = mount.parse::<Prefix>();
            prop_assume!(module.is_ok() && mount.is_ok());
            let mount = mount.unwrap();
            let (module, version) = (module.unwrap(), version.parse::<Version>().unwrap());
            let (m, v) = (module.escaped(), version.escaped());
            let path = match call {
                "lookup" => format!("/sumdb/sum.example.com/lookup/{m}@{v}"),
                "info" | "mod" | "zip" => format!("/{m}/@v/{v}.{call}"),
                _ => format!("/{m}/{call}"),
            };
            let request = Request::parse(&path).unwrap();
            let key = request.path_below(&mount);
            let named = subject(&key).module().unwrap();
            prop_assert_eq!(named.mount, mount.before());
            prop_assert_eq!(request.module().map(ModulePath::escaped), Some(named.module.to_owned()));
            let expected = request.version().map(Version::escaped);
            prop_assert_eq!(expected.as_deref(), named.version);
        }
    }
}
